"""Networks that are not chains: found in their code, quantised, kept in files, run in C; against slow replicas."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import spiking_lfp as lfp
from helpers import integer_networks as make
from spiking_lfp.deploy.artifact import load_network, save_network
from spiking_lfp.deploy.backends.c import CRuntime
from spiking_lfp.deploy.backends.external import ExternalBackend
from spiking_lfp.deploy.check import check
from spiking_lfp.deploy.chips import backends, targets
from spiking_lfp.deploy.costs import costs
from spiking_lfp.deploy.export import export
from spiking_lfp.deploy.formats.c import write_c
from spiking_lfp.deploy.formats.netx import write_netx
from spiking_lfp.deploy.formats.nir import write_nir
from spiking_lfp.deploy.formats.verilog import write_verilog
from spiking_lfp.deploy.graph import evaluate, trace
from spiking_lfp.deploy.layers import Add, Dense, Flatten, MaxPool, Pad, Signal, SumPool
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.predict import predict_files
from spiking_lfp.deploy.quantize import quantize
from spiking_lfp.deploy.report import write_report
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.deploy.verify import verify
from spiking_lfp.errors import ExportError, UsageError

no_compiler = pytest.mark.skipif(CRuntime().missing() is not None, reason=f"{CRuntime().missing()}")
STRICT = CRuntime(
    ("-O1", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
)

TEN = tuple("0123456789")


# integer networks


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.sampled_from([1, 255]), st.integers(1, 6))
def test_graphs_in_the_simulator(seed: int, levels: int, parts: int) -> None:
    net = make.graph(seed, levels, parts, steps=4)
    inputs = make.inputs_for(net, 2, seed)
    found = simulate(net, inputs, record=True)
    expected = make.slowly(net, inputs)
    assert list(found.spikes) == list(expected)
    for name, spikes in expected.items():
        np.testing.assert_array_equal(found.spikes[name], spikes)


@no_compiler
@settings(max_examples=12)
@given(st.integers(0, 2**31), st.sampled_from([1, 255]), st.integers(1, 6))
def test_graphs_in_c(seed: int, levels: int, parts: int) -> None:
    net = make.graph(seed, levels, parts)
    inputs = make.inputs_for(net, 2, seed)
    found = STRICT.run(net, inputs)
    for name, spikes in simulate(net, inputs, record=True).spikes.items():
        np.testing.assert_array_equal(found[name], spikes)


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.sampled_from([1, 255]))
def test_graphs_come_back_from_files(tmp_path_factory: pytest.TempPathFactory, seed: int, levels: int) -> None:
    net = make.graph(seed, levels, steps=2)
    net = with_golden_run(net, make.inputs_for(net, 1))
    path = tmp_path_factory.mktemp("graphs") / "net.h5"
    save_network(net, path)
    found = load_network(path)
    for mine, theirs in zip(found.layers, net.layers, strict=True):
        assert type(mine) is type(theirs)
        make.assert_same_fields(mine, theirs)
    assert found.signals() == net.signals()


def wide() -> IntegerNetwork:
    """Sums that need two and three bytes, and the largest of them, added and pooled again."""
    pool = SumPool("pool", (1, 20, 20), (20, 20), (1, 1), (10, 10))
    larger = SumPool("larger", pool.out_shape, (15, 15), (1, 1))
    total = Add("total", larger.out_shape, sources=("larger", "larger"))
    most = MaxPool("most", total.out_shape, 3, 2)
    flat = Flatten("flat", most.out_shape)
    weight = np.random.default_rng(0).integers(-1, 2, (4, flat.out_shape[0])).astype(np.int8)
    out = make.dense("out", flat.out_shape[0], 4, frac_bits=0)
    theta = np.full(4, 300, np.int32)
    return make.network([pool, larger, total, most, flat, make.changed(out, weight=weight, theta=theta)], 3)


@no_compiler
def test_sums_that_need_several_bytes() -> None:
    net = wide()
    assert [signal.largest for signal in net.signals()] == [1, 400, 90_000, 180_000, 180_000, 180_000, 1]
    inputs = make.inputs_for(net, 2, rate=0.05)
    expected = make.slowly(net, inputs)["out"]
    assert expected.any()
    assert not expected.all()
    np.testing.assert_array_equal(simulate(net, inputs, record=True).spikes["out"], expected)
    np.testing.assert_array_equal(STRICT.run(net, inputs)["out"], expected)


def a_skip(**changes: Any) -> IntegerNetwork:
    entry = make.conv("entry", (1, 5, 5), 2, padding=(1, 1))
    block = make.conv("block", (2, 5, 5), 2, padding=(1, 1))
    total = Add("total", (2, 5, 5), sources=("entry", "block"))
    pool = SumPool("pool", (2, 5, 5), (2, 2), (2, 2), divisor=4)
    flat = Flatten("flat", (2, 2, 2))
    layers = {each.name: each for each in (entry, block, total, pool, flat, make.dense("out", 8, 3, frac_bits=4))}
    return make.network(list((layers | changes).values()), 6)


def test_signals_follow_sums_means_and_spikes() -> None:
    one, two = Signal(1, 1), Signal(1, 2)
    assert a_skip().signals() == (one, one, one, two, Signal(4, 8), Signal(4, 8), one)
    assert a_skip().sources() == ((0,), (1,), (1, 2), (3,), (4,), (5,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"total": Add("total", (2, 5, 5), sources=("entry", "later"))}, "layer total: .*'later', no layer before it"),
        ({"total": Add("total", (2, 5, 5), sources=("entry", "pool"))}, "layer total: .*'pool', no layer before it"),
        ({"total": Add("total", (2, 5, 5), sources=("entry",))}, "layer total: has 1 sources, expected two or more"),
        ({"total": Add("total", (2, 5, 5), sources=("entry", ""))}, r"layer total: expects \[2, 5, 5\], gets"),
        ({"total": Add("total", (2, 5, 5), sources=("entry", "entry"))}, "layer block: no layer takes its outputs"),
        ({"flat": Flatten("flat", (2, 2, 2), sources=("pool", "pool"))}, "layer flat: has 2 sources, expected one"),
        ({"pool": SumPool("pool", (2, 5, 5), (6, 6), (2, 2))}, r"layer pool: windows of \[6, 6\] do not"),
        ({"pool": SumPool("pool", (2, 5, 5), (2, 2), (2, 2), divisor=0)}, "layer pool: divisor is 0, expected"),
        (
            {"entry": Pad("entry", (1, 3, 3), (1, 1), np.array([2], np.int32))},
            "layer entry: a border is 2..2, the inputs are 0..1",
        ),
        (
            {"entry": Pad("entry", (1, 3, 3), (1, 1), np.array([0, 1], np.int32))},
            r"layer entry: 2 values of a border do not fit inputs \[1, 3, 3\]",
        ),
        (
            {"block": SumPool("block", (2, 5, 5), (3, 3), (1, 1), (1, 1), 9)},
            "layer total: adds integers of different units, of which 1, 9 stand for 1",
        ),
    ],
)  # fmt: skip
def test_what_is_no_graph_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        a_skip(**change)


def test_values_beyond_what_float32_holds_are_refused() -> None:
    pool = SumPool("pool", (1, 4100, 4100), (4100, 4100), (1, 1))
    with pytest.raises(ExportError, match=r"layer pool: its values reach 16810000, expected 0\.\.16777216"):
        make.network([pool, Flatten("flat", (1, 1, 1)), make.dense("out", 1, 2)])


def test_chains_stay_in_the_first_schema(tmp_path: Path) -> None:
    import h5py

    for net, schema in ((make.lenet(), 1), (a_skip(), 2)):
        save_network(net, tmp_path / "net.h5")
        with h5py.File(tmp_path / "net.h5") as file:
            assert file.attrs["schema"] == schema
            assert ("sources" in file["layers/002"].attrs) == (schema == 2)
    for schema in (1, 3):
        with h5py.File(tmp_path / "net.h5", "r+") as file:
            file.attrs.modify("schema", np.int64(schema))
        with pytest.raises(ExportError, match=f"schema.* {schema}, "):
            load_network(tmp_path / "net.h5")


def test_formats_and_chips_that_hold_chains_only_name_the_layer(tmp_path: Path) -> None:
    net = a_skip()
    writers: dict[str, Callable[[Path], object]] = {
        "NIR": lambda path: write_nir(net, path, dynamics_in_metadata=True),
        "netx": lambda path: write_netx(net, path),
        "the Verilog core": lambda path: write_verilog(net, path),
    }
    for where, write in writers.items():
        with pytest.raises(ExportError, match=f"^layer total: Add is not supported by {where}$"):
            write(tmp_path / "file")
        assert not (tmp_path / "file").exists()
    for target in targets():
        assert f"layer total: Add is not supported by {target}" in check(net, target)
        assert f"layer pool: SumPool is not supported by {target}" in check(net, target)
    for name, made in backends().items():
        reason = made().unsupported(net)
        assert (reason is None) == (name == "c"), name
        first = "layer entry: IntegerLIF is not supported by xylo" if name == "xylosim" else "layer total: Add is not"
        assert reason is None or reason.startswith(first), reason


def test_an_external_simulator_runs_what_is_behind_a_first_layer_on_pooled_images() -> None:
    pool = SumPool("pool", (1, 6, 6), (2, 2), (2, 2), divisor=4)
    flat, first = Flatten("flat", (1, 3, 3)), make.dense("first", 9, 5, levels=1020, frac_bits=0)
    net = make.network([pool, flat, first, make.dense("out", 5, 3, reset="zero")], 5, 255)
    lava = backends()["lava"]()
    assert isinstance(lava, ExternalBackend)
    assert "thresholds" not in str(lava.unsupported(net))
    assert "SumPool" not in str(lava.unsupported(net))


def test_costs_of_layers_behind_sums_are_multiplications() -> None:
    net = a_skip()
    inputs = make.inputs_for(net, 4, rate=0.6)
    outcome = simulate(net, inputs, record=True)
    entry, block, out = costs(net, outcome).layers
    assert entry.macs == block.macs == out.synops == 0
    both = outcome.spikes["entry"].astype(int) + outcome.spikes["block"]
    windows = both[..., :4, :4].reshape(*both.shape[:3], 2, 2, 2, 2).sum((4, 6))
    assert out.macs == np.count_nonzero(windows) * 3 / 4 > 0
    assert out.energy_loihi is None


def test_the_report_names_the_sources(tmp_path: Path) -> None:
    net = a_skip()
    write_report(tmp_path / "report.html", net, make.inputs_for(net, 6), np.arange(6) % 3)
    assert "add<br>of entry, block" in (tmp_path / "report.html").read_text()


# networks of torch


class Net(nn.Module):
    """Layers by name, and a forward pass."""

    def __init__(self, code: Callable[[Any, Tensor], Any], **layers: nn.Module) -> None:
        super().__init__()
        self.code = code
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.code(self, x)


def exact(layer: nn.Module, seed: int) -> nn.Module:
    """Weights and threshold that integers represent exactly, whatever stands for 1 up to 64; no leak."""
    random = torch.Generator().manual_seed(seed)
    for each in layer.modules():
        if isinstance(each, lfp.LIF):
            weight, bias = each.synapse.weight, each.synapse.bias
            assert isinstance(weight, Tensor)
            assert isinstance(bias, Tensor)
            with torch.no_grad():
                weight.copy_(torch.randint(-127, 128, weight.shape, generator=random) / 128)
                weight.flatten()[0] = 127 / 128
                bias.copy_(torch.randint(-20, 21, bias.shape, generator=random) / 128)
                each.threshold.fill_(int(torch.randint(64, 256, (), generator=random)) / 128)
                each.beta.fill_(1.0)
    return layer


def convolution(channels: int = 2) -> lfp.LIF:
    return lfp.LIF(nn.Conv2d(channels, 2, 3, padding=1))


def dense(inputs: int) -> lfp.LIF:
    return lfp.LIF(nn.Linear(inputs, 3))


def skip(m: Any, x: Tensor) -> Tensor:
    spikes = m.entry(x)
    out: Tensor = m.head(lfp.add(spikes, m.block(spikes)))
    return out


def nested(m: Any, x: Tensor) -> Tensor:
    spikes = m.entry(x)
    inner = lfp.add(lfp.add(spikes, m.block(spikes)), spikes)
    out: Tensor = m.head(lfp.add(m.shrink(inner), m.shrink(m.second(inner))))
    return out


def networks() -> dict[str, nn.Module]:
    flat = lfp.Flatten()
    return {
        "skip, then largest, then mean": Net(
            skip, entry=convolution(), block=convolution(),
            head=nn.Sequential(lfp.MaxPool2d(2, 1), lfp.AvgPool2d(2), flat, dense(8)),
        ),
        "sums with padding and windows that overlap": Net(
            skip, entry=convolution(), block=nn.Sequential(convolution(), lfp.Dropout(0.5)),
            head=nn.Sequential(
                lfp.SumPool2d((3, 2), (2, 1), (1, 1)), convolution(), lfp.NormalizeFeedback(), flat, dense(42)
            ),
        ),
        "sums of sums, and of means that run twice": Net(
            nested, entry=convolution(), block=convolution(), second=convolution(),
            shrink=lfp.AvgPool2d((2, 4), (1, 2)), head=nn.Sequential(flat, dense(20)),
        ),
        "layers that run twice": Net(
            lambda m, x: m.head(lfp.add(m.entry(x), m.entry(m.entry(x)))), entry=convolution(),
            head=nn.Sequential(flat, dense(72)),
        ),
        "the inputs": Net(
            lambda m, x: m.head(lfp.add(m.entry(x), x)), entry=convolution(), head=nn.Sequential(flat, dense(72))
        ),
        "a chain": nn.Sequential(convolution(), lfp.AvgPool2d(2, 1), convolution(), flat, dense(50)),
    }  # fmt: skip


@no_compiler
@pytest.mark.parametrize("what", networks())
def test_weights_that_integers_hold_give_the_spikes_of_the_network(what: str, tmp_path: Path) -> None:
    network = exact(networks()[what], 1)
    spikes = (torch.rand(9, 8, 2, 6, 6, generator=torch.Generator().manual_seed(2)) < 0.2).byte()
    with torch.no_grad():
        places = trace(network.eval(), spikes[:, :1].float())
        expected = network(spikes.float())
        assert torch.equal(evaluate(places, {0: spikes.float()}), expected)
    assert 0.05 < expected.mean() < 0.95
    network.train()
    integers, report = quantize(network, spikes, torch.arange(8) % 3, None, list("abc"), 8, "max")
    assert all(layer.disagreement == 0 for layer in report.layers)
    assert {step.accuracy for step in report.accuracy} == {report.accuracy[0].accuracy}
    inputs = spikes.numpy()
    found = simulate(integers, inputs, record=True)
    last = integers.layers[-1].name
    np.testing.assert_array_equal(found.spikes[last], expected.byte().numpy())
    assert not any(line.saturated for line in found.counters.values())
    save_network(with_golden_run(integers, inputs[:, :2]), tmp_path / "net.h5")
    kept = load_network(tmp_path / "net.h5")
    assert all(line.agrees for line in verify(kept, inputs, ["c"]))
    assert [layer.name for layer in kept.layers] == [place.name for place in places]


def test_names_are_paths_of_the_layers_and_of_the_code_that_adds() -> None:
    network = networks()["sums of sums, and of means that run twice"]
    places = trace(network.eval(), torch.zeros(2, 1, 2, 6, 6))
    names = "entry block add add:2 shrink second shrink:2 add:3 head.0 head.1"
    assert [place.name for place in places] == names.split()
    assert [place.sources for place in places] == [(0,), (1,), (1, 2), (3, 1), (4,), (4,), (6,), (5, 7), (8,), (9,)]

    within = nn.Sequential(convolution(), Net(skip, entry=convolution(), block=convolution(), head=nn.Identity()))
    assert [place.name for place in trace(within, torch.zeros(2, 1, 2, 6, 6))] == ["0", "1.entry", "1.block", "1.add"]


def test_what_the_outputs_do_not_depend_on_falls_away() -> None:
    def code(m: Any, x: Tensor) -> Tensor:
        m.kept = m.side(x)
        out: Tensor = m.head(x)
        return out

    network = Net(code, side=convolution(), head=nn.Sequential(lfp.Flatten(), dense(72)))
    assert [place.name for place in trace(network, torch.zeros(2, 1, 2, 6, 6))] == ["head.0", "head.1"]


def after_entry(change: Callable[[Tensor], Any]) -> Callable[[Any, Tensor], Any]:
    return lambda m, x: m.head(change(m.entry(x)))


class Own(lfp.LIF):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


BETWEEN = "layer head.0: takes a tensor that code between layers has made or changed.* spiking_lfp.add for"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (after_entry(lambda x: x + x), BETWEEN),
        (after_entry(torch.relu), BETWEEN),
        (after_entry(lambda x: x.view_as(x)), BETWEEN),
        (after_entry(lambda x: x.mul_(1.0)), BETWEEN),
        (after_entry(torch.clone), BETWEEN),
        (lambda m, x: lfp.add(m.head(m.entry(x)), m.head(m.entry(x * 1))), "layer entry: takes a tensor that code"),
        (lambda m, x: m.head(lfp.add(m.entry(x), m.entry(x) * 2)), "layer add: takes a tensor that code between"),
        (lambda m, x: m.head(m.entry(x)) * 1, "the network returns a Tensor that no layer has handed on"),
        (lambda m, x: (m.head(m.entry(x)), x), "the network returns a tuple that no layer has handed on"),
        (lambda m, x: x, "the network is empty"),
        (lambda m, x: m.head(m.other(x)), r"layer other: nn\.ReLU has no integer form"),
        (lambda m, x: m.head(m.own(x)), "layer own: Own has a forward pass of its own"),
        (lambda m, x: m.head(m.entry.run(x)[0]), BETWEEN),
        (lambda m, x: m.head(m.entry(x) if x.sum() < 150 else lfp.add(m.entry(x), x)), "depends on the values"),
        (lambda m, x: m.head(m.pool(m.entry(x))), "layer pool.add: adds integers .* of which 1, 9 stand for 1"),
    ],
)  # fmt: skip
def test_what_code_does_between_layers_is_refused_by_name(code: Any, message: str) -> None:
    torch.manual_seed(0)
    layers: dict[str, nn.Module] = {"entry": convolution(), "head": nn.Sequential(lfp.Flatten(), dense(72))}
    if "ReLU" in message:
        layers["other"] = nn.ReLU()
    if "Own" in message:
        layers["own"] = Own(nn.Conv2d(2, 2, 3, padding=1))
    if "stand for" in message:
        layers["pool"] = Net(lambda m, x: lfp.add(x, m.mean(x)), mean=lfp.AvgPool2d(3, 1, 1))
    network = exact(Net(code, **layers), 3)
    spikes = (torch.rand(4, 6, 2, 6, 6) < 0.3).byte()
    with pytest.raises(ExportError, match=message):
        quantize(network, spikes, torch.zeros(6).long(), None, list("abc"))


def test_hooks_on_layers_are_refused() -> None:
    network = networks()["a chain"]
    next(network.children()).register_forward_hook(lambda *_: None)
    with pytest.raises(ExportError, match="layer 0: has forward hooks"):
        trace(network, torch.zeros(2, 1, 2, 6, 6))


@pytest.mark.parametrize("what", ["skip, then largest, then mean", "a chain"])
def test_training_in_integers_refuses_sums_and_means_by_the_layer(what: str) -> None:
    """Neither is what is exported the arithmetic of their training."""
    network = exact(networks()[what], 1)
    spikes = (torch.rand(9, 8, 2, 6, 6, generator=torch.Generator().manual_seed(2)) < 0.2).float()
    lfp.name_layers(network)
    lfp.run_in_integers(network, 8, levels=1)
    name = "head.3" if what.startswith("skip") else "2"
    with pytest.raises(UsageError, match=rf"layer {name}: trained in integers it takes spikes, 0 or 1, not sums"):
        network(spikes)
    with pytest.raises(ExportError, match=rf"layer {name}: was trained in integers for inputs 0..1, and gets 0..[48],"):
        quantize(network, spikes.byte(), torch.arange(8) % 3, None, list("abc"))
    assert quantize(network, spikes.byte(), torch.arange(8) % 3, None, list("abc"), 4)[0].check()


def test_images_may_be_pooled_first() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(lfp.MaxPool2d(2), lfp.AvgPool2d(3, 2), lfp.Flatten(), lfp.LIF(nn.Linear(36, 4)))
    images = torch.randint(0, 256, (20, 1, 28, 28)).byte()
    network[3].threshold.fill_(0.5)
    integers, report = quantize(network, images, torch.arange(20) % 4, 8, list("abcd"))
    assert integers.signals()[2:4] == (Signal(255 * 9, 255 * 9), Signal(255 * 9, 255 * 9))
    assert report.layers[0].disagreement < 0.05
    assert 0.05 < report.layers[0].rate_float < 0.95
    inputs = images.numpy()
    expected = make.slowly(integers, inputs[:3])["3"]
    np.testing.assert_array_equal(simulate(integers, inputs[:3], record=True).spikes["3"], expected)
    if CRuntime().missing() is None:
        assert all(line.agrees for line in verify(integers, inputs, ["c"]))


def test_signals_are_pooled_as_images_one_pixel_high() -> None:
    torch.manual_seed(0)
    layer = lfp.LIF(nn.Conv1d(2, 4, 3, padding=1), 1.0, 0.5)
    network = nn.Sequential(
        layer, lfp.SumPool1d(3, 2, 1), lfp.AvgPool1d(2), lfp.Flatten(), lfp.LIF(nn.Linear(20, 3), 1.0)
    )
    exact(network, 0)
    spikes = (torch.rand(7, 6, 2, 20) < 0.3).byte()
    integers, report = quantize(network, spikes, torch.arange(6) % 3, None, list("abc"), 8, "max")
    assert [layer.disagreement for layer in report.layers] == [0, 0]
    assert report.layers[1].rate_float > 0
    assert integers.in_shape == (2, 1, 20)
    with torch.no_grad():
        expected = network(spikes.float()).sum(0)
    np.testing.assert_array_equal(simulate(integers, spikes.numpy()).counts, expected.numpy())


def test_membranes_behind_a_mean_are_read_in_their_unit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        lfp.LIF(nn.Conv2d(1, 4, 5, stride=2)), lfp.AvgPool2d(4), lfp.Flatten(), lfp.LI(nn.Linear(36, 10))
    )
    network[0].threshold.fill_(0.3)
    digits = lfp.load_dataset("mnist-subset")
    exported = export(network, (digits.train_images[:40], digits.train_labels[:40]), steps=8, out=tmp_path)
    from PIL import Image

    Image.fromarray(digits.test_images[0, 0].numpy()).save(tmp_path / "digit.png")
    _, prediction = predict_files(exported.network, [tmp_path / "digit.png"])
    with torch.no_grad():
        mean = network(lfp.constant(digits.test_images[:1].float() / 255, 8)).mean(0)[0].double()
    assert mean.abs().max() > 0.1
    torch.testing.assert_close(prediction.scores[0], mean, rtol=0.1, atol=0.02)


@no_compiler
def test_the_network_of_the_example_from_fit_to_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples")
    Residual = import_module("own_network").Residual
    torch.manual_seed(0)
    digits = lfp.load_dataset("mnist-subset")
    few = digits.train_images[:300], digits.train_labels[:300]
    test = digits.test_images[:100], digits.test_labels[:100]
    run = lfp.fit(Residual(), few, test, out=tmp_path / "run", steps=6, epochs=1, lr=5e-3, clip=0.05)
    made = export(run, few, out=tmp_path, to=("artifact", "nir", "netx", "c", "verilog"), samples=100)
    assert set(made.files) == {"artifact", "c"}
    assert set(made.refused) == {"nir", "netx", "verilog"}
    assert all(reason.startswith("layer add: Add is not supported by ") for reason in made.refused.values())
    assert [step.step for step in made.report.accuracy][1:] == [
        f"layer {name} in integers" for name in ("entry", "block", "head.3")
    ]
    assert all(line.disagreement < 0.05 for line in made.report.layers)
    net = load_network(made.files["artifact"])
    assert [(type(layer), layer.name, layer.sources) for layer in net.layers[2:]] == [
        (Add, "add", ("entry", "block")), (MaxPool, "head.0", ()), (SumPool, "head.1", ()), (Flatten, "head.2", ()),
        (Dense, "head.3", ()),
    ]  # fmt: skip
    images = test[0].numpy()
    assert all(line.agrees for line in verify(net, images, ["c"]))
    real = run.predict(test[0]).labels
    assert np.mean(simulate(net, images).predictions == np.asarray(real)) > 0.9
    assert json.loads(net.notes["quantisation"])["samples"] == 100


def test_c_of_chains_has_nothing_of_graphs(tmp_path: Path) -> None:
    write_c(make.lenet(), tmp_path)
    header = (tmp_path / "network.h").read_text()
    assert not any(word in header for word in ("sources", "further_bytes", "summands", "SLFP_LARGEST"))


def test_a_network_that_is_one_layer_has_a_name_in_every_format(tmp_path: Path) -> None:
    torch.manual_seed(0)
    samples = torch.rand(6, 4), [0, 1, 2] * 2
    made = lfp.export(lfp.LIF(nn.Linear(4, 3)), samples, steps=4, to=["artifact", "c"], out=tmp_path)
    assert not made.refused
    assert [layer.name for layer in load_network(made.files["artifact"]).layers] == ["network"]
    with pytest.raises(ExportError, match="layer network: AdaptiveLIF has no integer form"):
        lfp.export(lfp.AdaptiveLIF(nn.Linear(4, 3)), samples, steps=4, out=tmp_path)
