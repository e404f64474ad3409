"""Decays of each output: the equations, training in the loop, files, C, costs, and who has one a layer only."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import spiking_lfp as lfp
from helpers import integer_networks as make
from spiking_lfp.deploy.artifact import load_network, save_network
from spiking_lfp.deploy.backends.c import CRuntime, compiler
from spiking_lfp.deploy.check import check
from spiking_lfp.deploy.chips import backend
from spiking_lfp.deploy.costs import costs, footprint
from spiking_lfp.deploy.formats.c import write_c
from spiking_lfp.deploy.formats.netx import write_netx
from spiking_lfp.deploy.formats.verilog import write_verilog
from spiking_lfp.deploy.layers import Spiking
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.quantize import quantize
from spiking_lfp.deploy.report import write_report
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.errors import ExportError
from spiking_lfp.integers import NEURONS, IntegerLIF
from spiking_lfp.integers.arithmetic import (
    COMPARISONS,
    DEFAULT,
    INTEGER_RESETS,
    LEAKS,
    OVERFLOWS,
    XYLO,
    Arithmetic,
    IntegerReset,
)
from spiking_lfp.integers.cuba import IntegerCubaLIF
from spiking_lfp.integers.fields import OneOrEach, constraints
from spiking_lfp.integers.li import IntegerLI
from spiking_lfp.lfp.execution import Integer
from spiking_lfp.neurons import integer as reference

ARITHMETICS = [
    replace(DEFAULT, leak=leak, comparison=COMPARISONS[k % 2], overflow=OVERFLOWS[k % 3], membrane_bits=24 - 2 * k)
    for k, leak in enumerate(LEAKS)
]
each_arithmetic = pytest.mark.parametrize("arithmetic", ARITHMETICS, ids=LEAKS)
needs_compiler = pytest.mark.skipif(compiler() is None, reason=f"{CRuntime().missing()}")
STRICT = CRuntime(
    ("-O1", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
)


def mixed(seed: int, arithmetic: Arithmetic, reset: IntegerReset) -> IntegerNetwork:
    """A convolution, a layer with one decay for all, a recurrent and a dense one."""
    how = {"reset": reset, "arithmetic": arithmetic, "frac_bits": 4, "decay": 3}
    first = make.conv("conv", (2, 5, 4), 4, (3, 2), seed, padding=(1, 0), gain=0.2, **how)  # type: ignore[arg-type]
    flat = make.Flatten("flat", first.out_shape)
    size = flat.out_shape[0]
    layers = [first, flat, make.dense("one", size, 9, seed, **how), make.recurrent("own", 9, 8, seed, **how)]
    net = make.network([*layers, make.dense("out", 8, 3, seed, **how)], 8)  # type: ignore[arg-type]
    found = make.with_decays(net, seed)
    return replace(found, layers=(*found.layers[:2], net.layers[2], *found.layers[3:])).check()


def with_neurons(net: IntegerNetwork, last: type = IntegerCubaLIF) -> IntegerNetwork:
    """Neurons with currents, and a last layer of this kind."""
    layers = list(net.layers)
    for k, layer in enumerate(layers):
        if isinstance(layer, Spiking):
            known = vars(layer.neuron)
            if layer is net.layers[-1] and last is IntegerLI:
                known = {name: known[name] for name in ("decay", "frac_bits", "arithmetic")}
                layers[k] = replace(layer, neuron=IntegerLI(**known))
            else:
                layers[k] = replace(layer, neuron=IntegerCubaLIF(**known, current_decay=7))
    return replace(net, layers=tuple(layers)).check()


def assert_equal(found: dict[str, make.Array], expected: dict[str, make.Array]) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


# the equations


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-(2**23) + 1, 2**23 - 1), st.floats(0, 1)), min_size=1), st.sampled_from(LEAKS),
)  # fmt: skip
def test_every_membrane_leaks_by_its_own_decay(pairs: list[tuple[int, float]], leak: Any) -> None:
    arithmetic = replace(DEFAULT, leak=leak)
    values = [value for value, _ in pairs]
    decays = [round(part * arithmetic.largest_decay) for _, part in pairs]
    expected = [make.slow_leak(value, decay, leak) for value, decay in zip(values, decays, strict=True)]
    kept = [arithmetic.beta(decay) for decay in decays]
    for array in (lambda each: np.array(each, np.int32), lambda each: torch.tensor(each, dtype=torch.int32)):
        assert arithmetic.leaked(array(values), array(decays)).tolist() == expected
        assert arithmetic.beta(array(decays)).tolist() == kept


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(ARITHMETICS), st.sampled_from(INTEGER_RESETS))
def test_networks_run_as_python_runs_them(seed: int, arithmetic: Arithmetic, reset: IntegerReset) -> None:
    net = mixed(seed, arithmetic, reset)
    assert [bool(layer.neuron.differing_decays) for layer in net.spiking] == [True, False, True, True]
    inputs = make.inputs_for(net, 1, seed, 0.4)
    assert_equal(simulate(net, inputs, record=True).spikes, make.slowly(net, inputs))


@pytest.mark.parametrize("last", [IntegerCubaLIF, IntegerLI])
@each_arithmetic
def test_an_output_alone_does_the_same(arithmetic: Arithmetic, last: type) -> None:
    """For neurons with currents, and those that do not fire: each output as a network of its own."""
    plain = make.network([make.dense("out", 20, 9, decay=3, frac_bits=4, arithmetic=arithmetic)], 15)
    net = make.with_decays(with_neurons(plain, last))
    (layer,), inputs = net.spiking, make.inputs_for(plain)
    whole = simulate(net, inputs, record=True).spikes["out"]
    assert whole.any()
    for o in range(9):
        part = {name: getattr(layer.neuron, name)[o : o + 1] for name in layer.neuron.decays}
        part |= {"theta": layer.neuron.theta[o : o + 1]} if layer.neuron.spiking else {}
        neuron = replace(layer.neuron, **part)  # type: ignore[type-var]
        arrays = {name: getattr(layer, name)[o : o + 1] for name in ("weight", "bias", "scale")}
        alone = replace(net, layers=(replace(layer, neuron=neuron, **arrays),), class_names=("0",))
        assert neuron.differing_decays == ()
        np.testing.assert_array_equal(simulate(alone, inputs, record=True).spikes["out"], whole[..., o : o + 1])


def test_every_kind_of_neuron_names_its_decays() -> None:
    for kind in NEURONS.values():
        own = [name for name, constraint in constraints(kind).items() if isinstance(constraint, OneOrEach)]
        assert tuple(own) == kind.decays


def test_decays_that_are_all_the_same_are_one_integer() -> None:
    net = make.mlp()
    neuron = replace(net.spiking[0].neuron, decay=np.full(20, 410, np.int32))
    assert type(neuron.decay) is int
    again = replace(net, layers=(replace(net.spiking[0], neuron=neuron), net.layers[1]))
    make.assert_same_fields(again.layers[0], net.layers[0])
    assert type(IntegerLIF(torch.tensor([5]).int(), torch.tensor([3]).int(), 0, "zero").decay) is int


@pytest.mark.parametrize(
    ("decay", "found"),
    [
        (np.array([1, 4096, 3], np.int32), r"4096, expected 0\.\.4095"),
        (np.array([1, -1, 3], np.int32), r"-1, expected 0\.\.4095"),
        (np.array([1, 2], np.int32), r"int32 \[2\], expected int32 \[3\]"),
        (np.array([1, 2, 3]), r"int64 \[3\], expected int32 \[3\]"),
        (np.array([[1], [2], [3]], np.int32), r"int32 \[3, 1\], expected int32 \[3\]"),
        (np.array([], np.int32), r"int32 \[0\], expected int32 \[3\]"),
    ],
)
def test_what_is_no_decay_of_each_output_is_refused(decay: make.Array, found: str) -> None:
    with pytest.raises(ExportError, match=f"layer 0: decay is {found}"):
        make.network([make.changed(make.dense("0", 4, 3), decay=decay)])


# training in the loop, and what is exported


@each_arithmetic
def test_the_reference_of_training_runs_them_alike(arithmetic: Arithmetic) -> None:
    for seed, reset in enumerate(INTEGER_RESETS):
        net = make.with_decays(
            make.mlp(seed=seed, decay=3, reset=reset, arithmetic=replace(arithmetic, frac_bits=4)), seed
        )
        inputs = make.inputs_for(net, 3, seed)
        x, expected = torch.from_numpy(inputs).float(), simulate(net, inputs, record=True).spikes
        for layer in net.spiking:
            arrays = {name: torch.from_numpy(getattr(layer.neuron, name)) for name in ("theta", "decay")}
            current = x @ torch.from_numpy(layer.weight).float().T + torch.from_numpy(layer.bias)
            x, _, trace = reference.forward(replace(layer.neuron, **arrays), current, len(inputs), None)
            np.testing.assert_array_equal(x, expected[layer.name])
            assert trace.neuron.beta.tolist() == layer.neuron.arithmetic.beta(layer.neuron.decay).tolist()  # type: ignore[attr-defined]


def own_betas(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(4)
    return nn.Sequential(
        lfp.CubaLIF(nn.Conv2d(1, 4, 3), torch.linspace(0.3, 0.7, 4).view(4, 1, 1), 0.8, 0.5),
        lfp.MaxPool2d(2),
        lfp.Flatten(),
        lfp.LIF(nn.Linear(100, 12), torch.linspace(0.2, 1, 12), 0.4),
        lfp.LIF(nn.Linear(12, 4, bias=False), torch.linspace(0.5, 0.9, 4), torch.linspace(0.4, 0.6, 4), "zero"),
    ).to(dtype)


@needs_compiler
@pytest.mark.parametrize("arithmetic", [DEFAULT, replace(DEFAULT, leak="shift")])
def test_what_was_trained_is_exported_to_the_bit(arithmetic: Arithmetic, tmp_path: Path) -> None:
    net = own_betas()
    images, labels = torch.randint(0, 256, (12, 1, 12, 12)).byte(), torch.arange(12) % 4
    lfp.run_in_integers(net, 8, arithmetic=arithmetic)
    x = lfp.constant(images.float() / 255, 9)
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        outputs = net(x)
        lfp.propagate(outputs, lfp.spike_count_reward(outputs, labels))
        optimizer.step()
        with torch.no_grad():  # of a layer whose betas are learned
            net[3].beta.clamp_(0.1, 1).mul_(torch.linspace(0.9, 1, 12))
    integers, _ = quantize(net, images, labels, 9, tuple("abcd"))
    first, middle, _ = integers.spiking
    assert isinstance(first.neuron, IntegerCubaLIF)
    assert first.neuron.differing_decays == ("current_decay",)
    assert middle.neuron.decay.tolist() == [arithmetic.decay(beta) for beta in net[3].beta.tolist()]
    save_network(integers, tmp_path / "net.h5")
    integers = load_network(tmp_path / "net.h5")
    found = simulate(integers, images.numpy(), record=True).spikes
    for name, module in net.named_children():
        x = module(x)
        if name in found:
            assert x.any()
            np.testing.assert_array_equal(found[name], x.detach().byte().numpy())
    assert_equal(STRICT.run(integers, images.numpy()), found)


@pytest.mark.parametrize("kind", ["LIF", "CubaLIF"])
def test_every_neuron_divides_feedback_by_what_it_kept_itself(kind: str) -> None:
    """The updates of a layer are those of its neurons, each in a layer of its own."""
    torch.manual_seed(0)
    betas, alphas = torch.tensor([0.1, 0.5, 0.9, 1.0]).double(), torch.tensor([0.8, 0.5, 0.0, 1.0]).double()
    weight, x = torch.randn(4, 10).double(), (torch.rand(9, 5, 10) < 0.4).double()
    reward = torch.rand(9, 5, 4).double()

    def run(part: slice) -> tuple[Tensor, Tensor, Tensor]:
        synapse = nn.Linear(10, len(betas[part]), bias=False).double()
        with torch.no_grad():
            synapse.weight.copy_(weight[part])
        constants = {"alpha": alphas[part]} if kind == "CubaLIF" else {}
        layer = getattr(lfp, kind)(synapse, beta=betas[part], threshold=0.6, **constants)
        layer.execution = Integer(8, 1, per_channel=True)
        inputs = x.clone().requires_grad_()
        spikes = layer(inputs)
        lfp.propagate(spikes, reward[..., part])
        assert synapse.weight.grad is not None
        assert inputs.grad is not None
        return spikes.detach(), synapse.weight.grad, inputs.grad

    spikes, update, feedback = run(slice(None))
    alone = [run(slice(o, o + 1)) for o in range(4)]
    assert spikes.any(0).any(0).all()
    assert torch.equal(spikes, torch.cat([each[0] for each in alone], -1))
    torch.testing.assert_close(update, torch.cat([each[1] for each in alone]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(feedback, sum(each[2] for each in alone), rtol=1e-9, atol=1e-12)


def test_what_leaks_when_it_arrives_counts_for_each_threshold() -> None:
    """On Xylo what arrives in a step leaks in it: thresholds of neurons that keep less are lower."""
    constants = lfp.CubaLIF(nn.Linear(3, 2, bias=False), torch.tensor([0.5, 0.75]), 0.5).neuron(torch.float32)
    layer = reference.FixedPoint(arithmetic=XYLO).layer(torch.ones(2, 3), None, constants, "a")
    assert layer.neuron.current_decay.tolist() == [1, 2]  # type: ignore[attr-defined]
    assert layer.neuron.theta.tolist() == [round(127 * 0.5), round(127 * 0.75)]
    constants = replace(constants, alpha=torch.tensor([0.2, 0.75]))  # type: ignore[call-arg]
    with pytest.raises(lfp.UsageError, match=r"layer a: alpha becomes a shift of 0 .* use alpha greater than 0\.25"):
        reference.FixedPoint(arithmetic=XYLO).layer(torch.ones(2, 3), None, constants, "a")


# files


@pytest.mark.parametrize("made", [make.mlp, make.lenet, lambda: with_neurons(make.mlp(), IntegerLI)])
def test_artifacts_come_back_unchanged(made: Callable[[], IntegerNetwork], tmp_path: Path) -> None:
    net = make.with_decays(made())
    net = with_golden_run(net, make.inputs_for(net))
    save_network(net, tmp_path / "net.h5")
    back = load_network(tmp_path / "net.h5")
    for found, expected in zip(back.layers, net.layers, strict=True):
        make.assert_same_fields(found, expected)
    save_network(back, tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "net.h5").read_bytes()
    with h5py.File(tmp_path / "net.h5") as file:
        assert file.attrs["schema"] == 4
        layer = file["layers/000"]
        assert layer["decay"].dtype == np.dtype("<i4")
        assert layer["decay"][()].tolist() == net.spiking[0].neuron.decay.tolist()
        assert "decay" not in layer.attrs
        assert ("current_decay" in layer) == isinstance(net.spiking[0].neuron, IntegerCubaLIF)


def _both(file: h5py.File) -> None:
    file["layers/000"].attrs.create("decay", np.int64(5))


def _values(values: Any, dtype: str = "<i4") -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file["layers/000/decay"]
        if values is not None:
            file.create_dataset("layers/000/decay", data=np.array(values, dtype))

    return change


def _one(file: h5py.File) -> None:
    del file["layers/000/decay"]
    _both(file)


def _group(file: h5py.File) -> None:
    del file["layers/000/decay"]
    file.create_group("layers/000/decay")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_both, "/layers/000/decay is an attribute and a data set, expected one of them"),
        (_one, "/schema is 4, expected 1 as its layers have it"),
        (_values([7, 7, 7]), "/schema is 4, expected 1 as its layers have it"),
        (_values([1, 2, 3]), r"net\.h5 is damaged: its content has checksum"),
        (_values([1, 2, 4096]), r"layer 0: decay is 4096, expected 0\.\.4095"),
        (_values([1, 2, -1]), r"layer 0: decay is -1, expected 0\.\.4095"),
        (_values([1, 2]), r"/layers/000/decay is int32 \[2\], expected int32 \[3\]"),
        (_values([1, 2, 3], "<i8"), r"/layers/000/decay is int64 \[3\], expected int32 \[3\]"),
        (_values(None), "/layers/000/decay is missing, expected an integer, int64"),
        (_group, "/layers/000/decay is a group, expected a data set"),
    ],
)
def test_files_that_were_changed_are_refused(
    change: Callable[[h5py.File], None], message: str, tmp_path: Path, unchecked: None
) -> None:
    save_network(make.with_decays(make.mlp((4, 3))), tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        change(file)
    with pytest.raises(ExportError, match=message):
        load_network(tmp_path / "net.h5")


# C


@needs_compiler
@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(ARITHMETICS), st.sampled_from(INTEGER_RESETS), st.sampled_from([1, 255]))
def test_random_networks_in_c(seed: int, arithmetic: Arithmetic, reset: IntegerReset, levels: int) -> None:
    nets = [mixed(seed, arithmetic, reset), make.with_decays(make.lenet(8, seed, reset=reset, levels=levels), seed)]
    for plain in (make.mlp(seed=seed, decay=3, reset=reset, arithmetic=replace(arithmetic, frac_bits=4)),):
        nets += [make.with_decays(with_neurons(plain, last), seed) for last in (IntegerCubaLIF, IntegerLI)]
    # one of the two decays alone
    layer = nets[-2].spiking[0]
    for name in ("decay", "current_decay"):
        alone = replace(layer, neuron=replace(layer.neuron, **{name: 3}))  # type: ignore[type-var]
        nets.append(replace(nets[-2], layers=(alone, *nets[-2].layers[1:])).check())
    for net in nets:
        inputs = make.inputs_for(net, 2, seed)
        assert_equal(STRICT.run(net, inputs), simulate(net, inputs, record=True).spikes)


def test_the_header_has_them_where_they_differ(tmp_path: Path) -> None:
    net = make.with_decays(with_neurons(make.mlp((4, 3, 2))))
    first, last = net.spiking
    last = replace(last, neuron=replace(last.neuron, decay=410))
    write_c(replace(net, layers=(first, last)), tmp_path)
    header = (tmp_path / "network.h").read_text()
    for name in ("decay", "current_decay"):
        values = ",".join(map(str, getattr(first.neuron, name)))
        assert f"static const uint32_t {name}s_0[3] = {{\n    {values},\n}};" in header
        assert f".{name}s = {name}s_0," in header
    assert header.count(".decay = ") == header.count(".decay = 410,") == 1
    assert ".current_decays = current_decays_1," in header
    assert ".current_decay = " not in header


# costs, pages, and who has one for all


def test_they_cost_memory_and_energy_as_thresholds_do() -> None:
    plain = make.mlp()
    net, outcome = make.with_decays(plain), simulate(plain, make.inputs_for(plain))
    assert [footprint(layer).decays for layer in plain.spiking] == [0, 0]
    assert [footprint(layer).decays for layer in net.spiking] == [footprint(each).thresholds for each in net.spiking]
    more, less = costs(net, outcome).total, costs(plain, outcome).total
    assert more.footprint.total - less.footprint.total == more.footprint.decays == 4 * 25
    # 32 bits more are read
    assert more.energy_45nm - less.energy_45nm == pytest.approx(more.updates * 10.0 * 32 / 64)


def test_the_page_shows_the_smallest_and_the_largest(tmp_path: Path) -> None:
    net = make.with_decays(make.mlp())
    net = replace(
        net, layers=(make.changed(net.layers[0], decay=np.r_[77, [123] * 19].astype(np.int32)), net.layers[1])
    )
    inputs = make.inputs_for(net)
    write_report(tmp_path / "report.html", net, inputs, np.zeros(3, np.int64))
    assert '<td class="n">77<br>123</td>' in (tmp_path / "report.html").read_text()


def test_who_has_one_for_all_neurons_of_a_layer_says_so(tmp_path: Path) -> None:
    net = make.mlp(reset="zero")
    first = make.changed(net.layers[0], decay=np.r_[77, [123] * 19].astype(np.int32))
    net = replace(net, layers=(first, net.layers[1]))
    reason = "layer 0: decay is 77..123, {} has one for all neurons of a layer"
    for where, write in (("netx", write_netx), ("the Verilog core", write_verilog)):
        with pytest.raises(ExportError) as caught:
            write(net, tmp_path / "out")
        assert str(caught.value) == reason.format(where)
    simulators = {"sanafe": "SANA-FE", "brian2-loihi": "brian2-loihi", "lava": "lava-nc", "icarus": "the Verilog core"}
    for name, where in simulators.items():
        assert backend(name).unsupported(net) == reason.format(where)
    for target in ("loihi", "sanafe-loihi", "fpga-small"):
        assert check(net, target)[0] == reason.format(target)
    assert not (tmp_path / "out").exists()
