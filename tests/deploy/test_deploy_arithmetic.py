"""Arithmetics of chips: one definition for NumPy and torch, against Python's integers, a simulator of Xylo, and C."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import spiking_lfp as lfp
from helpers import integer_networks as make
from spiking_lfp import kernels
from spiking_lfp.deploy.artifact import load_network, save_network
from spiking_lfp.deploy.backends.c import CRuntime, compiler
from spiking_lfp.deploy.backends.external import synapses
from spiking_lfp.deploy.check import check
from spiking_lfp.deploy.chips import backend
from spiking_lfp.deploy.formats.c import write_c
from spiking_lfp.deploy.formats.netx import write_netx
from spiking_lfp.deploy.formats.nir import write_nir
from spiking_lfp.deploy.formats.verilog import write_verilog
from spiking_lfp.deploy.layers import Flatten, MaxPool
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.quantize import quantize
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.errors import ExportError
from spiking_lfp.integers import IntegerLIF
from spiking_lfp.integers.arithmetic import COMPARISONS, DEFAULT, INTEGER_RESETS, LEAKS, OVERFLOWS, Arithmetic
from spiking_lfp.kernels.cpu import integer as compiled
from spiking_lfp.lfp.execution import Integer
from spiking_lfp.neurons import LIFNeuron
from spiking_lfp.neurons import integer as reference
from spiking_lfp.neurons.integer import FixedPoint

SHIFT = replace(DEFAULT, name="default with shifts", leak="shift")
# what Xylo has without its synaptic current and several spikes in a step, which `test_deploy_xylo.py` tests
XYLO = Arithmetic("Xylo's membranes", 8, 16, 0, "shift", ">=", ("subtract_decayed",), "saturate")
# what a chip may be: every leak, comparison and overflow
ARITHMETICS = [
    Arithmetic(f"{leak} {comparison} {overflow}", 8, bits, 0, leak, comparison, INTEGER_RESETS, overflow)
    for leak in LEAKS
    for comparison in COMPARISONS
    for overflow, bits in zip(OVERFLOWS, (24, 16, 17), strict=True)
]
every_arithmetic = pytest.mark.parametrize("arithmetic", ARITHMETICS, ids=lambda each: each.name)


# the numbers


@pytest.mark.parametrize("leak", LEAKS)
@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-(2**23) + 1, 2**23 - 1), min_size=1), st.integers(0, 4095), st.sampled_from([16, 20, 24]))
def test_leaks_are_those_of_whole_numbers(leak: Any, values: list[int], decay: int, bits: int) -> None:
    arithmetic = replace(DEFAULT, leak=leak, membrane_bits=bits)
    values = [value >> 24 - bits for value in values]
    decay = min(decay, arithmetic.largest_decay)
    expected = [make.slow_leak(value, decay, leak) for value in values]
    assert arithmetic.leaked(np.array(values, np.int32), decay).tolist() == expected
    assert arithmetic.leaked(np.array(values, np.int32), decay).dtype == np.int32
    for dtype in (torch.int32, torch.int64):
        found = arithmetic.leaked(torch.tensor(values, dtype=dtype), decay)
        assert found.tolist() == expected
        assert found.dtype == dtype


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_limits_are_those_of_whole_numbers(overflow: Any) -> None:
    arithmetic = replace(DEFAULT, overflow=overflow, membrane_bits=6)
    values = list(range(-200, 201))
    expected = [make.slow_limit(value, arithmetic) for value in values]
    assert arithmetic.limit(np.array(values, np.int32)).tolist() == expected
    assert arithmetic.limit(torch.tensor(values)).tolist() == expected
    assert (min(expected), max(expected)) == (arithmetic.smallest, arithmetic.largest)


def test_real_leaks_are_brought_to_the_nearest() -> None:
    assert [DEFAULT.decay(beta) for beta in (0.0, 0.9, 0.99999, 1.0)] == [4095, 410, 0, 0]
    assert [SHIFT.decay(beta) for beta in (0.0, 0.3, 0.7, 0.74, 0.9, 1.0)] == [0, 1, 2, 2, 3, 15]
    for arithmetic in (DEFAULT, SHIFT):
        for decay in (0, 1, 5, arithmetic.largest_decay):
            assert arithmetic.decay(arithmetic.beta(decay)) == decay


# Membranes that a simulator of SynSense's Xylo reports, xylosim 0.1.3, `xylosim.v2`, of one neuron: first left alone,
# after a train of input spikes of either sign ended, by `dash_mem`; then driven by a bias, by dash, threshold and bias,
# with its spikes. It reports a membrane after the reset of its step. Its lowest number is -32768.
XYLO_ALONE = {
    1: [[6, 3, 2, 1, 0, 0], [-8, -4, -2, -1, 0, 0], [-5, -2, -1, 0]],
    2: [
        [121, 91, 69, 52, 39, 30, 23, 18, 14, 11, 9, 7, 6, 5, 4, 3, 2, 1, 0, 0],
        [-157, -117, -87, -65, -48, -36, -27, -20, -15, -11, -8, -6, -4, -3, -2, -1, 0, 0],
    ],
    3: [
        [137, 120, 105, 92, 81, 71, 63, 56, 49, 43, 38, 34, 30, 27, 24, 21, 19, 17, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6],
        [-150, -131, -114, -99, -86, -75, -65, -56, -49, -42, -36, -31, -27, -23, -20, -17, -14, -12, -10, -8, -7, -6],
    ],
    5: [[1396, 1353, 1311, 1271, 1232, 1194, 1157], [-1436, -1391, -1347, -1304, -1263, -1223, -1184, -1147]],
    7: [[1769, 1756, 1743, 1730, 1717, 1704, 1691], [-1779, -1765, -1751, -1737, -1723, -1709, -1695]],
    15: [[1898, 1897, 1896], [-1906, -1905, -1904]],
}  # fmt: skip
XYLO_DRIVEN = {
    (4, 36, 37): ([1, 1, 1, 1], [1, 1, 1, 1]),
    (4, 37, 37): ([0, 0, 0, 0], [1, 1, 1, 1]),
    (4, 38, 37): ([37, 34, 31, 29], [0, 1, 1, 1]),
    (4, 72, 37): ([37, 0, 37, 0], [0, 1, 0, 1]),
    (4, 73, 37): ([37, 72, 32, 67], [0, 0, 1, 0]),
    (4, 32767, 32000): ([32000, 0, 32000, 0, 32000, 0], [0, 1, 0, 1, 0, 1]),
    (1, 200, -32000): ([-32000, -32768, -32768, -32768], [0, 0, 0, 0]),
    (3, 90, 23): ([23, 44, 62, 78, 2, 24, 44, 62, 78, 2, 24], [0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]),
    (3, 90, -23): ([-23, -43, -60, -75, -88, -100, -110, -119, -127, -134, -140, -145], [0] * 12),
    (4, 100, 37): (
        [37, 72, 5, 41, 76, 9, 45, 80, 12, 48, 82, 14, 50, 84, 16, 52, 86, 18, 54, 88, 20, 56, 90, 22, 58, 92, 24, 60],
        [0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0],
    ),
}  # fmt: skip


@pytest.mark.parametrize("dash", XYLO_ALONE)
def test_membranes_leak_as_those_of_xylo(dash: int) -> None:
    for membranes in XYLO_ALONE[dash]:
        for before, after in pairwise(membranes):
            assert XYLO.leaked(np.array([before], np.int32), dash) == [after]


@pytest.mark.parametrize(("dash", "theta", "bias"), XYLO_DRIVEN)
def test_neurons_spike_as_those_of_xylo(dash: int, theta: int, bias: int) -> None:
    membranes, spikes = XYLO_DRIVEN[dash, theta, bias]
    neuron = IntegerLIF(np.array([theta], np.int32), dash, 0, "subtract_decayed", XYLO)
    state: Any = (np.zeros((1, 1), np.int32),)
    fired = np.zeros((1, 1), bool)
    found = []
    for _ in membranes:
        state, fired = neuron.step(state, fired, np.array([[bias]], np.int32))
        found.append((state[0].item() - theta * fired.item(), int(fired.item())))
    assert found == list(zip(membranes, spikes, strict=True))


# networks


def network_in(arithmetic: Arithmetic, seed: int, reset: Any, decay: int, levels: int = 1) -> IntegerNetwork:
    """A convolution, a pool and two dense layers, all in one arithmetic."""
    first = make.conv(
        "0", (2, 6, 6), 4, (3, 2), seed, decay, reset, (1, 2), (1, 0), 2, 0.2, arithmetic.frac_bits, levels, arithmetic
    )
    pool = MaxPool("1", first.out_shape, 2, 1)
    flat = Flatten("2", pool.out_shape)
    rest = {"decay": decay, "reset": reset, "frac_bits": arithmetic.frac_bits, "arithmetic": arithmetic}
    hidden = make.dense("3", flat.out_shape[0], 9, seed + 1, **rest)
    return make.network([first, pool, flat, hidden, make.dense("4", 9, 4, seed + 2, **rest)], 8, levels)


def decay_in(arithmetic: Arithmetic, seed: int) -> int:
    return 1 + seed % 5 if arithmetic.leak == "shift" else (0, 410, 1500, 4095)[seed % 4]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(ARITHMETICS), st.sampled_from(INTEGER_RESETS))
def test_networks_run_as_python_runs_them(seed: int, arithmetic: Arithmetic, reset: Any) -> None:
    net = network_in(arithmetic, seed, reset, decay_in(arithmetic, seed))
    inputs = make.inputs_for(net, 1, seed, 0.4)
    found = simulate(net, inputs, record=True).spikes
    for name, spikes in make.slowly(net, inputs).items():
        np.testing.assert_array_equal(found[name], spikes)


def in_torch(net: IntegerNetwork, inputs: make.Array) -> dict[str, make.Array]:
    """The layers of a dense network one by one, as training in the loop runs them: floats that hold integers."""
    x, found = torch.from_numpy(inputs).float(), {}
    for layer in net.spiking:
        theta = torch.from_numpy(layer.neuron.theta)
        current = x @ torch.from_numpy(layer.weight).float().T + torch.from_numpy(layer.bias)
        x, _, _ = reference.forward(replace(layer.neuron, theta=theta), current, len(inputs), None)
        found[layer.name] = x.byte().numpy()
    return found


def equal_at(net: IntegerNetwork, inputs: make.Array, *others: dict[str, make.Array]) -> bool:
    expected = simulate(net, inputs, record=True).spikes
    for other in others:
        assert list(other) == list(expected)
        for name, spikes in expected.items():
            np.testing.assert_array_equal(other[name], spikes)
    return all(spikes.any() for spikes in expected.values())


@every_arithmetic
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_the_reference_of_training_runs_them_alike(arithmetic: Arithmetic, reset: Any) -> None:
    spiked = 0
    for seed in range(6):
        net = make.mlp((30, 20, 5), seed, decay_in(arithmetic, seed), reset, arithmetic=arithmetic)
        inputs = make.inputs_for(net, 3, seed)
        spiked += equal_at(net, inputs, in_torch(net, inputs))
    assert spiked > 1


@pytest.mark.skipif(compiler() is None, reason=f"{CRuntime().missing()}")
@every_arithmetic
def test_c_runs_them_alike(arithmetic: Arithmetic) -> None:
    strict = CRuntime(("-O2", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-fsanitize=undefined"))
    spiked = 0
    for seed, reset in enumerate(INTEGER_RESETS):
        net = network_in(arithmetic, seed, reset, decay_in(arithmetic, seed + 1), levels=3)
        inputs = make.inputs_for(net, 4, seed)
        spiked += equal_at(net, inputs, strict.run(net, inputs))
        assert strict.unsupported(net) is None
    assert spiked > 1


@pytest.mark.skipif(compiler() is None, reason=f"{CRuntime().missing()}")
@every_arithmetic
def test_overflows_are_equal_in_c(arithmetic: Arithmetic) -> None:
    """Inputs that drive membranes to one end of their range, and then to the other."""
    decay = 6 if arithmetic.leak == "shift" else 30
    strict = CRuntime(("-O2", "-fsanitize=undefined", "-fno-sanitize-recover=all"))
    for reset in INTEGER_RESETS:
        layer = make.dense("0", 200, 6, decay=decay, reset=reset, frac_bits=0, arithmetic=arithmetic)
        weight = np.full((6, 200), 127, np.int8)
        weight[:, 100:] = -127
        weight[3:] *= -1
        theta = np.array([10, 4000, arithmetic.largest] * 2, np.int32)
        net = make.network([make.changed(layer, weight=weight, theta=theta)], 40)
        inputs = np.zeros((40, 2, 200), np.uint8)
        for sample, period in enumerate((4, 7)):
            for t in range(40):
                half = t // period % 2
                inputs[t, sample, 100 * half : 100 * half + 100] = 1
        equal_at(net, inputs, strict.run(net, inputs), make.slowly(net, inputs))
        cut = simulate(net, inputs).counters["0"].saturated
        assert (cut > 10) == (arithmetic.membrane_bits < 24)


def test_at_the_threshold_is_not_above_it() -> None:
    layer = make.dense("0", 1, 3, decay=4095, reset="zero")
    numbers = {"weight": np.array([[5], [6], [4]], np.int8), "bias": np.zeros(3, np.int32)}
    spikes = {}
    for comparison in COMPARISONS:
        arithmetic = replace(DEFAULT, comparison=comparison)
        net = make.network([make.changed(layer, **numbers, theta=np.full(3, 5, np.int32), arithmetic=arithmetic)], 2)
        spikes[comparison] = simulate(net, np.ones((2, 1, 1), np.uint8), record=True).spikes["0"][0, 0].tolist()
    assert spikes == {">": [0, 1, 0], ">=": [1, 1, 0]}


# training in the loop


def test_what_is_not_compiled_runs_the_reference() -> None:
    current = torch.randint(-100, 250, (9, 3, 5)).float()
    for arithmetic in (DEFAULT, SHIFT, replace(DEFAULT, comparison=">="), replace(DEFAULT, membrane_bits=12)):
        neuron = IntegerLIF(torch.randint(20, 30, (5,)).int(), 3, 0, "subtract", arithmetic)
        found, expected = (each.forward(neuron, current.clone(), 9, None) for each in (compiled, reference))
        assert expected[0].any()
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[2].record, expected[2].record)


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_traces_spike_where_the_neurons_did(comparison: Any) -> None:
    arithmetic = replace(SHIFT, comparison=comparison)
    neuron = IntegerLIF(torch.tensor([30, 40, 50]).int(), 2, 2, "subtract", arithmetic)
    spikes, (final,), trace = reference.forward(neuron, torch.randint(-20, 60, (40, 6, 3)).float(), 40, None)
    assert 0.1 < spikes.mean() < 0.9
    assert torch.equal(trace.spikes_before()[1:], spikes[:-1])
    assert (trace.record == trace.neuron.threshold).any()
    assert torch.equal(final, trace.record[-1])
    assert trace.neuron.beta.item() == 0.75


@pytest.mark.parametrize("weight", [1e-40, 1e-30])
def test_thresholds_and_currents_beyond_the_integers_are_refused(weight: float) -> None:
    weights, neuron = torch.full((2, 3), weight), LIFNeuron(torch.tensor(0.9), torch.tensor(1.0), "zero")
    quiet = replace(neuron, threshold=torch.tensor(weight))
    too_much = r"layer a: currents or threshold reach \w+ in weight units, .* use fewer bits, or a smaller threshold"
    for bias, own, constants in (
        (None, None, neuron),
        (torch.ones(2), None, quiet),
        (None, torch.full((2, 2), 1e30), quiet),
    ):
        with pytest.raises(lfp.UsageError, match=too_much):
            FixedPoint(8).layer(weights, bias, constants, "a", recurrent=own)


def test_a_threshold_that_would_be_0_asks_for_more_bits() -> None:
    neuron = LIFNeuron(torch.tensor(0.9), torch.tensor([0.1, 1.0]), "zero")
    with pytest.raises(lfp.UsageError, match=r"layer a: its threshold is less than half .* more bits, a larger thresh"):
        FixedPoint(2).layer(torch.ones(2, 3), None, neuron, "a")


def test_layers_are_brought_to_an_arithmetic() -> None:
    neuron = LIFNeuron(torch.tensor(0.9), torch.tensor(1.0), "subtract")
    layer = FixedPoint(8, arithmetic=SHIFT).layer(torch.randn(6, 20), None, neuron, "a")
    assert (layer.neuron.decay, layer.neuron.arithmetic) == (3, SHIFT)
    few = FixedPoint(8, arithmetic=replace(SHIFT, membrane_bits=12)).layer(torch.ones(1, 4), None, neuron, "a")
    assert few.neuron.frac_bits == 2
    with pytest.raises(lfp.UsageError, match=r"layer a: .* the membrane holds 1\.\.127: use fewer bits"):
        FixedPoint(8, arithmetic=replace(SHIFT, membrane_bits=8)).layer(torch.ones(1, 4), None, neuron, "a")
    with pytest.raises(lfp.UsageError, match=r"weights need 2\.\.4 bits"):
        FixedPoint(8, arithmetic=replace(SHIFT, weight_bits=4))
    # what subtracts the threshold does it as the arithmetic can
    assert (
        FixedPoint(8, arithmetic=XYLO).layer(torch.randn(6, 20), None, neuron, "a").neuron.reset == "subtract_decayed"
    )
    neuron = replace(neuron, reset="zero")
    with pytest.raises(lfp.UsageError, match="layer a: the arithmetic Xylo's membranes has the reset subtract_decayed"):
        FixedPoint(8, arithmetic=XYLO).layer(torch.randn(6, 20), None, neuron, "a")


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_what_was_trained_with_shifts_is_exported_to_the_bit(comparison: Any) -> None:
    torch.manual_seed(3)
    arithmetic = replace(SHIFT, comparison=comparison)
    network = nn.Sequential(
        lfp.Flatten(), *(lfp.LIF(nn.Linear(*sides), threshold=0.3) for sides in ((64, 20), (20, 4)))
    )
    for index in (1, 2):
        network[index].execution = Integer(6, 255 if index == 1 else 1, arithmetic=arithmetic)
    images, labels = torch.randint(0, 256, (12, 1, 8, 8)).to(torch.uint8), torch.arange(12) % 4
    integers, _ = quantize(network, images, labels, 9, tuple("abcd"))
    assert {layer.neuron.arithmetic for layer in integers.spiking} == {arithmetic}
    assert {layer.neuron.decay for layer in integers.spiking} == {3}
    found = simulate(integers, images.numpy(), record=True).spikes
    seen = lfp.constant(images.float() / 255, 9)
    for name, module in network.named_children():
        seen = module(seen)
        if isinstance(module, lfp.LIF):
            assert seen.any()
            assert np.array_equal(found[name], seen.detach().byte().numpy())
    # rewards reach the weights through what the chip did
    lfp.propagate(seen, lfp.spike_count_reward(seen, labels))
    assert all(module.synapse.weight.grad.any() for module in network if isinstance(module, lfp.LIF))


def test_a_network_is_brought_to_the_arithmetic_that_is_asked_for() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(lfp.LIF(nn.Linear(40, 20), threshold=0.3), lfp.LIF(nn.Linear(20, 4), threshold=0.3))
    spikes = (torch.rand(9, 12, 40) < 0.3).to(torch.uint8)
    asked: dict[str, Any] = {"steps": None, "class_names": tuple("abcd"), "bits": 6, "scale": "max"}
    integers, report = quantize(network, spikes, torch.arange(12) % 4, **asked, arithmetic=XYLO)
    assert {layer.neuron.arithmetic for layer in integers.spiking} == {XYLO}
    assert all(0 < line.rate_integer < 1 for line in report.layers)
    with pytest.raises(ExportError, match="layer 0: the arithmetic Xylo's membranes has the reset subtract_decayed"):
        quantize(network, spikes, torch.arange(12) % 4, **asked, reset="zero", arithmetic=XYLO)


# files


@every_arithmetic
def test_files_hold_the_arithmetic(arithmetic: Arithmetic, tmp_path: Path) -> None:
    net = network_in(arithmetic, 1, "zero", decay_in(arithmetic, 1))
    net = with_golden_run(net, make.inputs_for(net, 1))
    save_network(net, tmp_path / "net.h5")
    back = load_network(tmp_path / "net.h5")
    for found, expected in zip(back.layers, net.layers, strict=True):
        make.assert_same_fields(found, expected)
    assert all(layer.neuron.arithmetic.name == arithmetic.name for layer in back.spiking)
    save_network(back, tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "net.h5").read_bytes()


def test_the_file_says_of_an_arithmetic_what_the_module_says(tmp_path: Path) -> None:
    save_network(make.mlp((20, 5), decay=4, reset="subtract_decayed", arithmetic=XYLO), tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5") as file:
        layer = dict(file["layers/000"].attrs)
        about = dict(file["layers/000/arithmetic"].attrs)
    assert (layer["leak"], layer["decay"], layer["frac_bits"]) == (b"shift", 4, 0)
    assert about.pop("resets").tolist() == [b"subtract_decayed"]
    assert about == {
        "name": b"Xylo's membranes", "weight_bits": 8, "membrane_bits": 16, "frac_bits": 0, "comparison": b">=",
        "overflow": b"saturate",
    }  # fmt: skip
    # the default is not written
    save_network(make.mlp((20, 5)), tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5") as file:
        assert list(file["layers/000"]) == ["bias", "scale", "theta", "weight"]
        assert "neuron" not in file["layers/000"].attrs


@pytest.mark.parametrize(
    ("where", "name", "value", "message"),
    [
        ("layers/000", "leak", b"lift", "/layers/000/leak is 'lift', expected mul12_trunc, mul12_floor, shift"),
        ("layers/000", "leak", b"mul12_floor", "its content has checksum"),
        ("layers/000", "decay", 16, r"layer 0: decay is 16, expected 0\.\.15"),
        ("layers/000/arithmetic", "comparison", b"<", "/layers/000/arithmetic/comparison is '<', expected >, >="),
        ("layers/000/arithmetic", "membrane_bits", 25, r"layer 0: membrane_bits is 25, expected 2\.\.24"),
        ("layers/000/arithmetic", "membrane_bits", 15, "its content has checksum"),
        ("layers/000/arithmetic", "resets", np.array([b"zero"]), "reset is 'subtract_decayed', the arithmetic .* zero"),
        ("layers/000/arithmetic", "resets", np.array([b"never"]), "resets is never, expected some of zero, subtract,"),
    ],
)
def test_arithmetics_that_were_changed_are_refused(
    where: str, name: str, value: Any, message: str, tmp_path: Path, unchecked: None
) -> None:
    path = tmp_path / "net.h5"
    save_network(make.mlp((20, 5), decay=4, reset="subtract_decayed", arithmetic=XYLO), path)
    with h5py.File(path, "r+") as file:
        del file[where].attrs[name]
        kept = value if isinstance(value, np.ndarray) else np.array(value, "<i8" if isinstance(value, int) else None)
        file[where].attrs.create(name, kept)
    with pytest.raises(ExportError, match=message):
        load_network(path)


def refused_everywhere(net: IntegerNetwork, reason: str, tmp_path: Path) -> None:
    """By every format and backend that cannot run it, in one sentence."""
    for where, write in (("netx", write_netx), ("NIR", write_nir), ("the Verilog core", write_verilog)):
        with pytest.raises(ExportError) as caught:
            write(net, tmp_path / "out")  # type: ignore[operator]
        assert str(caught.value) == reason.format(where)
    simulators = {"sanafe": "SANA-FE", "brian2-loihi": "brian2-loihi", "lava": "lava-nc", "icarus": "the Verilog core"}
    for name, where in simulators.items():
        assert backend(name).unsupported(net) == reason.format(where)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"leak": "shift"}, "its leak is shift, not mul12_trunc"),
        ({"comparison": ">="}, "its comparison is >=, not >"),
        ({"membrane_bits": 20}, "its membrane bits is 20, not 24"),
        ({"overflow": "wrap"}, "its overflow is wrap, not symmetric"),
    ],
)
def test_what_cannot_run_an_arithmetic_refuses_it(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    pytest.importorskip("nir", reason="nir is not installed")
    net = make.mlp(decay=4, reset="zero", arithmetic=replace(DEFAULT, **change))
    refused_everywhere(net, f"layer 0: {reason} as in {{}}", tmp_path)


# neurons and layers that formats do not know


@dataclass(frozen=True, eq=False)
class Impatient(IntegerLIF):
    """Another neuron, with a field that nobody knows."""

    patience: int = 3

    kind: ClassVar[str] = "impatient"


@dataclass(frozen=True, eq=False)
class Sparse(make.Dense):
    """Another synapse."""

    kind: ClassVar[str] = "sparse"


def test_other_neurons_are_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("nir", reason="nir is not installed")
    net = make.mlp(reset="zero")
    neuron = Impatient(**vars(net.spiking[0].neuron))
    net = replace(net, layers=(replace(net.spiking[0], neuron=neuron), net.layers[1])).check()
    refused_everywhere(net, "layer 0: Impatient is not supported by {}, only IntegerLIF is", tmp_path)
    with pytest.raises(
        ExportError, match=r"layer 0: Impatient is not supported by the C runtime, expected .*IntegerLIF"
    ):
        write_c(net, tmp_path / "c")
    # what needs no more than `step` runs it
    assert simulate(net, make.inputs_for(net)).counts.any()
    current = torch.ones(2, 1, 20)
    given = replace(neuron, theta=torch.from_numpy(neuron.theta))
    found, _, _ = kernels.forward(given, current, 2, None)
    assert torch.equal(found, reference.forward(given, current, 2, None)[0])


def test_files_say_and_know_the_kind_of_neuron(tmp_path: Path) -> None:
    net = make.mlp()
    neuron = Impatient(**vars(net.spiking[0].neuron))
    save_network(replace(net, layers=(replace(net.spiking[0], neuron=neuron), net.layers[1])), tmp_path / "net.h5")
    with pytest.raises(ExportError, match=r"net\.h5: /layers/000/neuron is 'impatient', expected .*lif"):
        load_network(tmp_path / "net.h5")


def test_other_layers_are_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("nir", reason="nir is not installed")
    net = make.mlp(reset="zero")
    other = Sparse(**vars(net.spiking[0]))
    net = replace(net, layers=(replace(other, bias=other.bias * 0), net.layers[1])).check()
    refusals: dict[str, Callable[[], object]] = {
        "netx": lambda: write_netx(net, tmp_path / "out", early_bias=True),
        "NIR": lambda: write_nir(net, tmp_path / "out", dynamics_in_metadata=True),
        "the C runtime": lambda: write_c(net, tmp_path / "out"),
        "the Verilog core": lambda: write_verilog(net, tmp_path / "out"),
        "the simulator": lambda: simulate(net, make.inputs_for(net)),
        "the comparison with chips": lambda: check(net, "loihi"),
        "the list of synapses": lambda: synapses(other),
    }
    for where, write in refusals.items():
        with pytest.raises(ExportError) as caught:
            write()
        assert str(caught.value) == f"layer 0: Sparse is not supported by {where}"
    assert backend("sanafe").unsupported(net) == "layer 0: Sparse is not supported by external simulators"
    assert not any(tmp_path.iterdir())
    # a file says its kind, and who does not know it refuses it
    save_network(net, tmp_path / "net.h5")
    with pytest.raises(ExportError, match=r"/layers/000/kind is 'sparse', expected dense, recurrent, conv, max_pool"):
        load_network(tmp_path / "net.h5")
