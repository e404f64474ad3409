"""`CubaLIF` beyond real numbers: integers, files, C, and what others make of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import snntorch
import snntorch.utils
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers import integer_networks as make
from spiking_lfp import (
    AdaptiveLIF,
    CubaLIF,
    Flatten,
    MaxPool2d,
    UsageError,
    propagate,
    run_in_integers,
    spike_count_reward,
)
from spiking_lfp.deploy.artifact import load_network, save_network
from spiking_lfp.deploy.backends.c import CRuntime, compiler
from spiking_lfp.deploy.check import check
from spiking_lfp.deploy.chips import backend
from spiking_lfp.deploy.costs import costs
from spiking_lfp.deploy.formats.c import write_c
from spiking_lfp.deploy.formats.netx import write_netx
from spiking_lfp.deploy.formats.nir import write_nir
from spiking_lfp.deploy.formats.nir_reading import read_nir
from spiking_lfp.deploy.formats.verilog import write_verilog
from spiking_lfp.deploy.interop import from_snntorch, to_norse, to_snntorch
from spiking_lfp.deploy.layers import Spiking
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.quantize import quantize
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.deploy.verify import verify
from spiking_lfp.errors import ExportError
from spiking_lfp.integers import NEURONS
from spiking_lfp.integers.arithmetic import (
    COMPARISONS,
    DEFAULT,
    INTEGER_RESETS,
    LEAKS,
    OVERFLOWS,
    Arithmetic,
    IntegerReset,
)
from spiking_lfp.integers.cuba import IntegerCubaLIF
from spiking_lfp.neurons import integer as reference
from spiking_lfp.neurons.cuba import CubaLIFNeuron
from spiking_lfp.neurons.integer import FixedPoint
from spiking_lfp.nn.execution import recorded

# leak, comparison, overflow and bits of an arithmetic
ARITHMETICS = st.tuples(
    st.sampled_from(LEAKS), st.sampled_from(COMPARISONS), st.sampled_from(OVERFLOWS), st.sampled_from([16, 20, 24])
)


def like(known: tuple[Any, ...]) -> Arithmetic:
    leak, comparison, overflow, bits = known
    return replace(DEFAULT, leak=leak, comparison=comparison, overflow=overflow, membrane_bits=bits)


def with_currents(net: IntegerNetwork, decays: tuple[int, ...], mixed: bool = False) -> IntegerNetwork:
    """Give the neurons of a network currents, every second layer's with `mixed`."""
    layers, each = list(net.layers), 0
    for k, layer in enumerate(layers):
        if isinstance(layer, Spiking):
            if not (mixed and each % 2):
                neuron = IntegerCubaLIF(**vars(layer.neuron), current_decay=decays[each % len(decays)])
                layers[k] = replace(layer, neuron=neuron)
            each += 1
    return replace(net, layers=tuple(layers)).check()


def some_decay(arithmetic: Arithmetic, part: float) -> int:
    return round(part * arithmetic.largest_decay)


# integers


def by_hand(current: list[int], neuron: IntegerCubaLIF) -> tuple[list[tuple[int, int]], list[int]]:
    """The equations for one neuron, in Python's integers: states before any reset of their step, and spikes."""
    arithmetic, reset = neuron.arithmetic, neuron.reset
    bound = int(neuron.theta[0]) << neuron.frac_bits
    membrane, charge, spike, states, spikes = 0, 0, 0, [], []
    for arrived in current:
        charge = make.slow_leak(charge, neuron.current_decay, arithmetic.leak) + arrived * 2**neuron.frac_bits
        charge = make.slow_limit(charge, arithmetic)
        if spike and reset == "zero":
            membrane = 0
        if spike and reset == "subtract_decayed":
            membrane -= bound
        membrane = make.slow_leak(membrane, neuron.decay, arithmetic.leak) + charge
        if spike and reset == "subtract":
            membrane -= bound
        membrane = make.slow_limit(membrane, arithmetic)
        spike = int(membrane >= bound if arithmetic.comparison == ">=" else membrane > bound)
        states.append((membrane, charge))
        spikes.append(spike)
    return states, spikes


@settings(deadline=None)
@given(
    st.lists(st.integers(-400, 500), min_size=1, max_size=20), st.integers(1, 511), st.floats(0, 1), st.floats(0, 1),
    st.integers(0, 6), st.sampled_from(INTEGER_RESETS), ARITHMETICS,
)  # fmt: skip
@example([500] * 6 + [-400] * 9, 100, 0.1, 0.1, 6, "zero", ("mul12_trunc", ">", "symmetric", 16))  # both overflow
@example([500] * 6 + [-400] * 9, 100, 0.1, 0.1, 6, "subtract", ("shift", ">=", "wrap", 16))
def test_a_neuron_equals_its_equations(
    current: list[int], theta: int, lost: float, lost_current: float, frac_bits: int, reset: IntegerReset,
    known: tuple[Any, ...],
) -> None:  # fmt: skip
    arithmetic = like(known)
    decay, current_decay = some_decay(arithmetic, lost), some_decay(arithmetic, lost_current)
    neuron = IntegerCubaLIF(
        np.array([theta], np.int32), decay, frac_bits, reset, arithmetic, current_decay=current_decay
    )
    states, spikes = by_hand(current, neuron)
    state, fired = (np.zeros((1, 1), np.int32),) * 2, np.zeros((1, 1), bool)
    for t, arrived in enumerate(current):
        state, fired = neuron.step(state, fired, np.array([[arrived << frac_bits]], np.int32))
        assert (*(values.item() for values in state), fired.item()) == (*states[t], spikes[t])
    if reset != "subtract_decayed":  # no real neuron has it
        given = replace(neuron, theta=torch.tensor([theta], dtype=torch.int32))
        found, _, trace = reference.forward(given, torch.tensor(current).double().view(-1, 1, 1), len(current), None)
        assert trace.states is not None
        assert [
            tuple(map(int, pair)) for pair in zip(*(each.flatten() for each in trace.states), strict=True)
        ] == states
        assert found.flatten().int().tolist() == spikes
        assert isinstance(trace.neuron, CubaLIFNeuron)
        assert trace.neuron.alpha == arithmetic.beta(current_decay)
        assert trace.neuron.beta == arithmetic.beta(decay)


def test_the_folder_of_integer_neurons_is_the_list() -> None:
    assert sorted(NEURONS) == ["cuba", "li", "lif"]


def test_constants_that_differ_within_an_output_are_refused() -> None:
    neuron = CubaLIFNeuron(torch.tensor(0.9), torch.tensor(1.0), "zero", alpha=torch.tensor([0.5, 0.6]))
    expected = r"layer a: integer neurons of an output share one alpha, found \[2\]: .* for each output, \[2, 1, 1\]"
    with pytest.raises(UsageError, match=expected):
        FixedPoint().layer(torch.ones(2, 3, 1, 1), None, neuron, "a")


# training in the loop, and what is exported


def network(reset: Any = "subtract") -> nn.Sequential:
    torch.manual_seed(4)
    return nn.Sequential(
        CubaLIF(nn.Conv2d(1, 4, 3), 0.6, 0.8, 0.5, reset),
        MaxPool2d(2),
        Flatten(),
        CubaLIF(nn.Linear(100, 12), 0.5, 0.9, 0.4, reset),
        CubaLIF(nn.Linear(12, 4, bias=False), 0.9, 0.7, 0.5, reset),
    )


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_layers_in_integers_spike_as_the_exported_network(reset: Any, bits: int) -> None:
    net = network(reset)
    run_in_integers(net, bits)
    images = torch.randint(0, 256, (5, 1, 12, 12)).byte()
    found = net((images.float() / 255).expand(9, -1, -1, -1, -1))
    exported, report = quantize(net, images, torch.zeros(5).long(), 9, list("abcd"))
    assert [type(layer.neuron) for layer in exported.spiking] == [IntegerCubaLIF] * 3
    assert [layer.neuron.current_decay for layer in exported.spiking] == [1638, 2048, 410]  # type: ignore[attr-defined]
    expected = simulate(exported, images.numpy(), record=True).spikes["4"]
    assert 0.02 < expected.mean() < 0.98
    np.testing.assert_array_equal(found.numpy(force=True), expected)
    assert len(report.layers) == 3


def test_other_networks_are_quantised_too() -> None:
    images, labels = torch.randint(0, 256, (8, 1, 12, 12)).byte(), torch.zeros(8).long()
    net, _ = quantize(network(), images, labels, 9, list("abcd"), bits=6, reset="subtract_decayed")
    assert {layer.neuron.reset for layer in net.spiking} == {"subtract_decayed"}
    with pytest.raises(ExportError, match=r"AdaptiveLIF has no integer form: use LIF, RecurrentLIF, CubaLIF, .*LI,"):
        quantize(nn.Sequential(Flatten(), AdaptiveLIF(nn.Linear(144, 4))), images, labels, 9, list("abcd"))


def test_it_learns_in_integers_and_from_records() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(CubaLIF(nn.Linear(20, 30), 0.5), CubaLIF(nn.Linear(30, 2), 0.5))
    run_in_integers(net, 6, levels=1)
    prototypes = torch.rand(2, 20)
    labels = torch.arange(64) % 2
    x = (torch.rand(12, 64, 20) < prototypes[labels]).float()
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    before = (net(x).sum(0).argmax(1) == labels).float().mean()
    for _ in range(40):
        optimizer.zero_grad()
        spikes = net(x)
        propagate(spikes, spike_count_reward(spikes, labels) / 12)
        optimizer.step()
    assert (net(x).sum(0).argmax(1) == labels).float().mean() > max(0.95, float(before))
    # what a simulator recorded, both states of every step, teaches the same
    states = {name: [torch.zeros(12, 64, n), torch.zeros(12, 64, n)] for name, n in (("0", 30), ("1", 2))}
    carried: dict[str, Any] = {}
    for t in range(12):
        inputs = x[t : t + 1]
        for name, layer in net.named_children():
            assert isinstance(layer, CubaLIF)
            inputs, carried[name] = layer.run(inputs, carried.get(name))
            for kept, values in zip(states[name], carried[name], strict=True):
                kept[t] = values.detach()
    updates = []
    for run in (lambda: net(x), lambda: in_records(net, states, x)):
        optimizer.zero_grad()
        spikes = run()
        propagate(spikes, spike_count_reward(spikes, labels))
        updates.append([parameter.grad for parameter in net.parameters()])
    for whole, again in zip(*updates, strict=True):
        assert torch.equal(whole, again)


def in_records(net: nn.Module, states: dict[str, Any], x: Tensor) -> Tensor:
    with recorded(net, {name: tuple(values) for name, values in states.items()}):
        spikes: Tensor = net(x)
    return spikes


# the artifact, and costs


@pytest.mark.parametrize("arithmetic", [DEFAULT, replace(DEFAULT, leak="shift", comparison=">=")])
def test_artifacts_come_back_unchanged(arithmetic: Arithmetic, tmp_path: Path) -> None:
    net = with_currents(make.mlp(decay=3, arithmetic=arithmetic), (5, 7))
    net = with_golden_run(net, make.inputs_for(net))
    save_network(net, tmp_path / "net.h5")
    back = load_network(tmp_path / "net.h5")
    for found, expected in zip(back.layers, net.layers, strict=True):
        assert type(found) is type(expected)
        make.assert_same_fields(found, expected)
    save_network(back, tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "net.h5").read_bytes()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (4096, "layer 0: current_decay is 4096, expected 0..4095"),
        (-1, "/layers/000/current_decay is .*-1.*, expected 0"),
        (8, r"net\.h5 is damaged: its content has checksum"),
        (0.5, "/layers/000/current_decay is float64"),
        (None, "/layers/000/current_decay is missing"),
        ("lif", r"net\.h5 is damaged: its content has checksum"),
        ("other", "/layers/000/neuron is 'other', expected lif, cuba"),
    ],
)
def test_damaged_artifacts_are_refused(value: Any, message: str, tmp_path: Path) -> None:
    save_network(with_currents(make.mlp(), (5,)), tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        attributes = file["layers/000"].attrs
        assert attributes["neuron"] == b"cuba"
        assert attributes["current_decay"] == 5
        if isinstance(value, str):
            attributes["neuron"] = np.bytes_(value)
        else:
            del attributes["current_decay"]
            if value is not None:
                attributes.create("current_decay", value)
    with pytest.raises(ExportError, match=message):
        load_network(tmp_path / "net.h5")


def test_two_states_cost_more_memory_and_energy() -> None:
    plain = make.mlp()
    net, inputs = with_currents(plain, (0, 0)), make.inputs_for(plain)
    outcome = simulate(net, inputs)
    two, one = costs(net, outcome), costs(plain, outcome)
    assert two.total.footprint.membranes == 2 * one.total.footprint.membranes
    # a state of 24 bits read and written, a multiplication and an addition
    more = two.total.updates * (10.0 * 2 * 24 / 64 + 3.1 + 0.1)
    assert two.total.energy_45nm - one.total.energy_45nm == pytest.approx(more)


# C

needs_compiler = pytest.mark.skipif(compiler() is None, reason=f"{CRuntime().missing()}")
STRICT = CRuntime(
    ("-O1", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
)


def assert_c_equals_simulator(net: IntegerNetwork, seed: int) -> None:
    inputs = make.inputs_for(net, 3, seed)
    expected, found = simulate(net, inputs, record=True).spikes, STRICT.run(net, inputs)
    assert list(found) == list(expected)
    for name, spikes in expected.items():
        np.testing.assert_array_equal(found[name], spikes)


@needs_compiler
@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**31), st.sampled_from(INTEGER_RESETS), ARITHMETICS, st.floats(0, 1), st.floats(0, 1),
    st.sampled_from([1, 255]), st.booleans(), st.integers(1, 40),
)  # fmt: skip
def test_dense_networks_in_c(
    seed: int, reset: IntegerReset, known: tuple[Any, ...], lost: float, lost_current: float, levels: int, mixed: bool,
    hidden: int,
) -> None:  # fmt: skip
    arithmetic = replace(like(known), membrane_bits=24) if levels > 1 else like(known)
    arithmetic = replace(arithmetic, frac_bits=6 if arithmetic.membrane_bits == 24 else 2)
    net = make.mlp((13, hidden, 4), seed, some_decay(arithmetic, lost), reset, 9, levels, arithmetic=arithmetic)
    assert_c_equals_simulator(with_currents(net, (some_decay(arithmetic, lost_current), 3), mixed), seed)


@needs_compiler
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(INTEGER_RESETS), st.sampled_from([1, 255]), st.booleans())
def test_convolutions_in_c(seed: int, reset: IntegerReset, levels: int, mixed: bool) -> None:
    net = with_currents(make.lenet(seed=seed, reset=reset, levels=levels), (2000, 900, 300), mixed)
    assert_c_equals_simulator(net, seed)


@needs_compiler
@pytest.mark.parametrize("reset", INTEGER_RESETS)
def test_a_small_lenet_spikes_everywhere_in_c_and_answers_verify(reset: IntegerReset) -> None:
    net = with_currents(make.lenet(reset=reset), (2000, 900, 300))
    inputs = make.inputs_for(net, 3)
    assert all(spikes.any() and not spikes.all() for spikes in simulate(net, inputs, record=True).spikes.values())
    assert_c_equals_simulator(net, 0)
    assert [(row.different, row.reason) for row in verify(net, inputs, ["c"])] == [(0, "")] * 4


def test_the_header_says_the_kind_of_neuron_where_it_is_no_lif(tmp_path: Path) -> None:
    net = with_currents(make.mlp((4, 3, 2)), (77,), mixed=True)
    write_c(net, tmp_path)
    header = (tmp_path / "network.h").read_text()
    assert header.count(".neuron = SLFP_CUBA,\n        .current_decay = 77,") == 1
    assert header.count(".neuron = ") == 1
    assert "int32_t words[11];" in header  # 3 membranes, 3 currents, 2 membranes, 3 sums


# who has no such neuron


def test_what_has_no_such_neuron_refuses_it_by_name(tmp_path: Path) -> None:
    pytest.importorskip("nir", reason="nir is not installed")
    net = with_currents(make.mlp(reset="zero"), (5,))
    reason = "layer 0: IntegerCubaLIF is not supported by {}, only IntegerLIF is"
    writers: dict[str, Callable[..., object]] = {
        "netx": write_netx, "NIR": write_nir, "the Verilog core": write_verilog,
    }  # fmt: skip
    for where, write in writers.items():
        with pytest.raises(ExportError) as caught:
            write(net, tmp_path / "out")
        assert str(caught.value) == reason.format(where)
    simulators = {"sanafe": "SANA-FE", "brian2-loihi": "brian2-loihi", "lava": "lava-nc", "icarus": "the Verilog core"}
    for name, where in simulators.items():
        assert backend(name).unsupported(net) == reason.format(where)
    assert check(net, "loihi")[0] == reason.format("loihi")
    assert not (tmp_path / "out").exists()


# snnTorch


def floats(reset: Any, dtype: torch.dtype = torch.float64, alpha: float | Tensor = 0.75) -> nn.Sequential:
    """Weights are multiples of 1/1024."""
    net = nn.Sequential(
        CubaLIF(nn.Conv2d(2, 4, 3, padding=1, bias=False), alpha, 0.875, 0.25, reset),
        Flatten(),
        CubaLIF(nn.Linear(256, 20), 0.5, 0.75, 0.125, reset),
        CubaLIF(nn.Linear(20, 10, bias=False), 0.5, 0.5, 0.125, reset),
    ).to(dtype)
    with torch.no_grad():
        for values in net.parameters():
            values.copy_((values * 1024).round() / 1024)
    return net


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    return ((torch.rand(30, 3, 2, 8, 8) * 128).round() / 64).to(dtype)


def assert_equal(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert 0.02 < expected.detach().mean() < 0.9
    assert int((found != expected).sum()) == 0


def snntorch_run(net: nn.Module, x: Tensor) -> Tensor:
    snntorch.utils.reset(net)
    return torch.stack([net(step) for step in x])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_our_networks_spike_alike_in_snntorch_and_come_back(reset: Any, dtype: torch.dtype) -> None:
    net, x = floats(reset, dtype, torch.tensor([0.75, 0.5, 0.25, 0.0]).view(4, 1, 1)), images(dtype)
    theirs = to_snntorch(net)
    assert [type(module).__name__ for module in theirs[1::2]] == ["Synaptic", "Linear", "Linear"]
    assert_equal(snntorch_run(theirs, x), net(x))
    back = from_snntorch(theirs)
    for found, expected in zip(back.state_dict().values(), net.state_dict().values(), strict=True):
        assert torch.equal(found.to(dtype), expected)


def synaptic(**arguments: Any) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 6), snntorch.Synaptic(0.5, 0.8, 0.3, init_hidden=True, **arguments))


def test_a_reset_that_clears_what_arrives_differs_and_is_refused() -> None:
    torch.manual_seed(0)
    theirs, x = synaptic(reset_mechanism="zero"), torch.rand(20, 3, 8)
    as_if = nn.Sequential(CubaLIF(theirs[0], 0.5, 0.8, 0.3, "zero"))
    assert not torch.equal(as_if(x), snntorch_run(theirs, x))
    with pytest.raises(ExportError, match="layer 1: reset_delay=True with reset 'zero' clears what arrives"):
        from_snntorch(theirs)
    with pytest.raises(ExportError, match="layer 1: reset_delay=False with reset 'subtract'"):
        from_snntorch(synaptic(reset_delay=False))
    with pytest.raises(ExportError, match="layer 1: alpha is learned"):
        from_snntorch(synaptic(learn_alpha=True))


def test_norse_has_no_such_neuron() -> None:
    pytest.importorskip("norse.torch", reason="norse is not installed")
    with pytest.raises(
        ExportError, match="layer 0: CubaLIF has no counterpart that runs the same in norse; expected LIF"
    ):
        to_norse(floats("zero"))


def test_subclasses_are_not_taken_for_it(tmp_path: Path) -> None:
    pytest.importorskip("nir", reason="nir is not installed")

    class Other(CubaLIF):
        pass

    net = nn.Sequential(Other(nn.Linear(6, 4)))
    for convert in (to_snntorch, lambda net: write_nir(net, tmp_path / "n.nir")):
        with pytest.raises(ExportError, match="layer 0: Other has no counterpart"):
            convert(net)
    with pytest.raises(ExportError, match="layer 0: Other has no integer form"):
        quantize(net, torch.ones(3, 2, 6).byte(), torch.zeros(2).long(), None, list("abcd"))


# NIR: what follows from it is exact in float32
DT = 2.0**-13


def by_nir_equations(path: Path, x: Tensor, dt: float) -> Tensor:
    """A chain of NIR in Euler steps, as its documentation writes the equations; dense layers only."""
    nir = pytest.importorskip("nir", reason="nir is not installed")
    graph, key, nodes = nir.read(path), "input", []
    while (key := dict(graph.edges)[key]) != "output":
        nodes.append(graph.nodes[key])
    spikes = x.numpy()
    for weights, neurons in zip(nodes[::2], nodes[1::2], strict=True):
        current = np.zeros((x.shape[1], len(weights.weight)))
        membrane, outs = current.copy(), []
        for step in spikes:
            arrived = step @ weights.weight.T + getattr(weights, "bias", 0)
            current = current + dt / neurons.tau_syn * (neurons.w_in * arrived - current)
            drive = neurons.v_leak - membrane + neurons.r * current
            membrane = membrane + dt / neurons.tau_mem * drive
            fired = membrane > neurons.v_threshold
            membrane = np.where(fired, neurons.v_reset, membrane)
            outs.append(fired.astype(float))
        spikes = np.stack(outs)
    return torch.from_numpy(spikes)


def dense(reset: Any = "zero") -> nn.Sequential:
    net = nn.Sequential(*list(floats(reset))[2:])
    return net


@pytest.mark.parametrize("reader", ["snntorch", "norse"])
def test_nir_comes_back_and_runs_by_its_equations(reader: str, tmp_path: Path) -> None:
    pytest.importorskip("nir", reason="nir is not installed")
    net, x = dense(), images().flatten(2)[..., :128].repeat(1, 1, 2)
    write_nir(net, tmp_path / "n.nir", dt=DT, reader=reader)
    assert_equal(by_nir_equations(tmp_path / "n.nir", x, DT), net(x))
    back = read_nir(tmp_path / "n.nir")
    assert isinstance(back, nn.Sequential)
    assert [type(layer) for layer in back] == [CubaLIF, CubaLIF]
    for found, expected in zip(back.state_dict().values(), net.state_dict().values(), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_convolutions_come_back_from_nir(reset: Any, tmp_path: Path) -> None:
    pytest.importorskip("nir", reason="nir is not installed")
    net, x = floats(reset, torch.float32, torch.tensor([0.75, 0.5, 0.25, 0.0]).view(4, 1, 1)), images(torch.float32)
    if reset != "zero":
        with pytest.raises(ExportError, match=f"layer 0: its reset is '{reset}', which NIR cannot express"):
            write_nir(net, tmp_path / "n.nir", (2, 8, 8))
    write_nir(net, tmp_path / "n.nir", (2, 8, 8), dynamics_in_metadata=True)
    back = read_nir(tmp_path / "n.nir")
    assert isinstance(back, nn.Sequential)
    assert_equal(back(x), net(x))


def test_what_others_write_is_read_and_what_nir_cannot_say_refused(tmp_path: Path) -> None:
    nir = pytest.importorskip("nir", reason="nir is not installed")
    path, ones, x = tmp_path / "n.nir", np.ones(6), images().flatten(2)[..., :6]
    node = nir.CubaLIF(8 * DT * ones, 4 * DT * ones, 3 * ones, 0 * ones, ones, 0 * ones, 2 * ones)
    nir.write(path, nir.NIRGraph.from_list(nir.Linear(np.eye(6) / 2), node))
    back = read_nir(path, DT)
    assert isinstance(back, nn.Sequential)
    assert (float(back[0].alpha), float(back[0].beta)) == (7 / 8, 3 / 4)  # type: ignore[arg-type]
    assert_equal(back(x), by_nir_equations(path, x, DT))
    node = nir.CubaLIF(8 * DT * ones, 4 * DT * ones, 3 * ones, ones, ones)
    nir.write(path, nir.NIRGraph.from_list(nir.Linear(np.eye(6) * 16), node))
    with pytest.raises(ExportError, match="v_leak or v_reset is not 0"):
        read_nir(path, DT)
    for alpha, beta, what in ((1.0, 0.5, "alpha"), (0.5, 1.0, "beta")):
        net = nn.Sequential(CubaLIF(nn.Linear(6, 4), alpha, beta, reset="zero").double())
        write_nir(net, tmp_path / "m.nir")
        again = read_nir(tmp_path / "m.nir")
        assert isinstance(again, nn.Sequential)
        assert_equal(again(x), net(x))
        assert_equal(by_nir_equations(tmp_path / "m.nir", x, 1e-4), net(x))
        with pytest.raises(ExportError, match=f"layer 0: {what} is 1, so that its weights cannot be divided"):
            write_nir(net, tmp_path / "m.nir", reader="norse")
