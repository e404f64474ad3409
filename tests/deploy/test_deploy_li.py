"""Readouts beyond real numbers: leaky integrators in integers, files, C and others; populations on the host."""

import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers import integer_networks as make
from spiking_lfp import LI, LIF, Flatten, MaxPool2d, PopulationReadout, propagate, run_in_integers
from spiking_lfp.deploy.artifact import checksum, load_network, save_network
from spiking_lfp.deploy.backends.c import CRuntime, compiler
from spiking_lfp.deploy.check import check
from spiking_lfp.deploy.chips import backend
from spiking_lfp.deploy.costs import costs
from spiking_lfp.deploy.formats.c import write_c
from spiking_lfp.deploy.formats.netx import write_netx
from spiking_lfp.deploy.formats.nir import write_nir
from spiking_lfp.deploy.formats.verilog import write_verilog
from spiking_lfp.deploy.layers import Spiking
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.quantize import quantize
from spiking_lfp.deploy.report import write_report
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.deploy.verify import verify
from spiking_lfp.errors import ExportError
from spiking_lfp.integers.arithmetic import DEFAULT, LEAKS, OVERFLOWS
from spiking_lfp.integers.li import IntegerLI
from spiking_lfp.lfp.rewards import softmax_reward
from spiking_lfp.neurons import integer as reference
from spiking_lfp.neurons.li import LINeuron
from spiking_lfp.nn.encoders import constant
from spiking_lfp.nn.execution import recorded

STEPS = 9
IMAGES = torch.randint(0, 256, (20, 1, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
NAMES = ("a", "b", "c")


def with_membranes(net: IntegerNetwork, decay: int = 300) -> IntegerNetwork:
    """Let the last layer add up and not fire."""
    last = net.layers[-1]
    assert isinstance(last, Spiking)
    neuron = IntegerLI(decay, last.neuron.frac_bits, last.neuron.arithmetic)
    return replace(net, layers=(*net.layers[:-1], replace(last, neuron=neuron))).check()


@settings(deadline=None)
@given(
    st.lists(st.integers(-400, 500), min_size=1, max_size=20), st.floats(0, 1), st.integers(0, 6),
    st.sampled_from(LEAKS), st.sampled_from(OVERFLOWS), st.sampled_from([12, 16, 24]),
)  # fmt: skip
def test_a_neuron_equals_its_equations(
    current: list[int], lost: float, frac_bits: int, leak: Any, overflow: Any, bits: int
) -> None:
    arithmetic = replace(DEFAULT, leak=leak, overflow=overflow, membrane_bits=bits)
    neuron = IntegerLI(round(lost * arithmetic.largest_decay), frac_bits, arithmetic)
    membrane, expected = 0, []
    for arrived in current:
        membrane = make.slow_leak(membrane, neuron.decay, leak) + arrived * 2**frac_bits
        membrane = make.slow_limit(membrane, arithmetic)
        expected.append(membrane)
    state, fired = (np.zeros((1, 1), np.int32),), np.zeros((1, 1), bool)
    for t, arrived in enumerate(current):
        state, fired = neuron.step(state, fired, np.array([[arrived << frac_bits]], np.int32))
        assert (state[0].item(), fired.item()) == (expected[t], False)
    found, _, trace = reference.forward(neuron, torch.tensor(current).double().view(-1, 1, 1), len(current), None)
    assert found.flatten().int().tolist() == expected
    assert isinstance(trace.neuron, LINeuron)
    assert trace.neuron.beta == arithmetic.beta(neuron.decay)


def network(beta: float = 0.9) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(Flatten(), LIF(nn.Linear(36, 30), threshold=0.3), LI(nn.Linear(30, 3), beta)).eval()


def exported(net: nn.Module, **how: Any) -> IntegerNetwork:
    return quantize(net, IMAGES, torch.zeros(20, dtype=torch.long), STEPS, NAMES, **how)[0]


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("beta", [0.9, 1.0])
def test_training_in_integers_computes_what_is_exported(beta: float, bits: int) -> None:
    net = network(beta)
    run_in_integers(net, bits)
    whole = exported(net)
    outcome = simulate(whole, IMAGES.numpy(), record=True)
    with torch.no_grad():
        membranes = net(constant(IMAGES.float() / 255, STEPS))
    last = whole.spiking[-1]
    assert isinstance(last.neuron, IntegerLI)
    assert outcome.spikes["2"].dtype == np.int32
    real = outcome.spikes["2"] * last.membrane_unit(1)
    np.testing.assert_allclose(membranes.numpy(), real, rtol=1e-4, atol=1e-6)
    assert outcome.predictions.tolist() == membranes.sum(0).argmax(1).tolist()
    assert np.array_equal(outcome.counts, outcome.spikes["2"].sum(0, dtype=np.int64))
    assert len(set(outcome.predictions.tolist())) > 1


def test_integers_come_near_the_real_membranes_and_the_report_says_how_near() -> None:
    net = network()
    whole, report = quantize(net, IMAGES, torch.zeros(20, dtype=torch.long), STEPS, NAMES, per_channel=True)
    assert len(np.unique(whole.spiking[0].scale)) > 1
    assert len(np.unique(whole.spiking[-1].scale)) == 1  # membranes that are compared have one unit
    last = report.layers[-1]
    assert 0 < last.disagreement < 0.1
    assert (last.rate_float, last.rate_integer, last.saturated) == (0, 0, 0)
    with torch.no_grad():
        real = net(constant(IMAGES.float() / 255, STEPS)).sum(0)
    agree = simulate(whole, IMAGES.numpy()).predictions == real.argmax(1).numpy()
    assert agree.mean() >= 0.9


def test_the_membrane_in_integers_is_what_learns() -> None:
    net = network()
    run_in_integers(net, 8)
    x = constant(IMAGES.float() / 255, STEPS)
    labels = torch.arange(20) % 3
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        out = net(x)
        propagate(out, softmax_reward(out, labels) / STEPS)
        optimizer.step()
    assert (net(x).sum(0).argmax(1) == labels).float().mean() > 0.9


def test_a_recording_in_integers_is_the_output_in_real_units() -> None:
    net = network()
    run_in_integers(net, 8)
    whole, x = exported(net), constant(IMAGES.float() / 255, STEPS)
    outcome = simulate(whole, IMAGES.numpy(), record=True)
    with torch.no_grad():
        expected = net(x)
        with recorded(net, {"2": Tensor(outcome.spikes["2"].astype(np.float32))}):
            assert torch.equal(net(x), expected)


@pytest.mark.parametrize("made", [make.mlp, make.lenet])
def test_files_and_c_hold_membranes(made: Any, tmp_path: Path) -> None:
    net = with_membranes(made())
    net = with_golden_run(net, make.inputs_for(net, 4))
    save_network(net, tmp_path / "net.h5")
    found = load_network(tmp_path / "net.h5")
    assert checksum(found) == checksum(net)
    assert found.golden is not None
    last = found.spiking[-1]
    assert isinstance(last.neuron, IntegerLI)
    assert found.golden.spikes[last.name].dtype == np.int32
    with h5py.File(tmp_path / "net.h5") as file:
        group = file[f"layers/{len(net.layers) - 1:03d}"]
        assert bytes(group.attrs["neuron"]) == b"li"
        assert "theta" not in group
        assert "reset" not in group.attrs
    if compiler() is None:
        pytest.skip("needs a C compiler")
    assert all(each.agrees for each in verify(net, make.inputs_for(net), ["c"]))
    write_c(net, tmp_path / "c")
    done = subprocess.run(["make", "test"], cwd=tmp_path / "c", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"layer {last.name}: {last.neurons * net.steps * 4} membranes, 0 differ" in done.stdout
    wrong = found.golden.spikes[last.name].copy()
    wrong[-1, -1, -1] += 1
    golden = replace(net.golden, spikes={**net.golden.spikes, last.name: wrong})
    write_c(replace(net, golden=golden), tmp_path / "c")
    done = subprocess.run(["make", "test"], cwd=tmp_path / "c", capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "membranes, 1 differ" in done.stdout


def test_c_predicts_by_membranes(tmp_path: Path) -> None:
    if compiler() is None:
        pytest.skip("needs a C compiler")
    net = with_membranes(make.mlp(), 0)
    inputs = make.inputs_for(net, 8)
    write_c(net, tmp_path)
    subprocess.run(["make", "classify"], cwd=tmp_path, check=True, capture_output=True)
    out = subprocess.run(
        ["./classify"], cwd=tmp_path, input=inputs.swapaxes(0, 1).tobytes(), check=True, capture_output=True
    ).stdout.decode()
    outcome = simulate(net, inputs)
    lines = [line.split("\t") for line in out.splitlines()]
    assert [name for name, _ in lines] == [net.class_names[k] for k in outcome.predictions]
    assert [int(count) for _, count in lines] == outcome.counts.max(1).tolist()
    assert len(set(outcome.predictions.tolist())) > 1
    assert (outcome.counts < 0).any()


def test_every_leak_and_overflow_runs_alike_in_c() -> None:
    if compiler() is None:
        pytest.skip("needs a C compiler")
    for leak, overflow in (("shift", "wrap"), ("mul12_floor", "saturate")):
        arithmetic = replace(DEFAULT, leak=leak, overflow=overflow, membrane_bits=20)
        net = with_membranes(make.mlp(decay=3 if leak == "shift" else 300, arithmetic=arithmetic), 2)
        inputs = make.inputs_for(net, 4)
        found, expected = CRuntime().run(net, inputs), simulate(net, inputs, record=True).spikes
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].dtype == values.dtype
            assert np.array_equal(found[name], values)


def test_what_cannot_read_membranes_refuses_them(tmp_path: Path) -> None:
    net = with_golden_run(with_membranes(make.mlp(reset="zero")), make.inputs_for(make.mlp(), 4))
    for write in (partial(write_netx, early_bias=True), write_verilog, partial(write_nir, dynamics_in_metadata=True)):
        with pytest.raises(ExportError, match="layer 1: IntegerLI is not supported by"):
            write(net, tmp_path / "file")
    assert "IntegerLI is not supported by the Verilog core" in (backend("verilator").unsupported(net) or "")
    assert any("IntegerLI is not supported by" in finding for finding in check(net, "loihi"))
    with pytest.raises(ExportError, match="a network with a membrane readout has none"):
        write_report(tmp_path / "report.html", net, make.inputs_for(net, 4), np.zeros(4, np.int64), [])
    first = replace(net.layers[0], neuron=IntegerLI(0, 6))
    with pytest.raises(ExportError, match="layer 0: IntegerLI does not fire, so it has to be the last layer"):
        replace(net, layers=(first, net.layers[1]), golden=None).check()


def test_costs_of_a_layer_that_does_not_fire() -> None:
    net = with_membranes(make.mlp())
    cost = costs(net, simulate(net, make.inputs_for(net, 4)))
    assert (cost.layers[-1].spikes, cost.layers[-1].footprint.thresholds) == (0, 0)
    assert cost.layers[-1].synops > 0


def test_populations_vote_on_the_host(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(Flatten(), LIF(nn.Linear(36, 30), threshold=0.3), PopulationReadout(10)).eval()
    run_in_integers(net, 8)
    whole = exported(net)
    outcome = simulate(whole, IMAGES.numpy())
    with torch.no_grad():
        rates = net(constant(IMAGES.float() / 255, STEPS)).mean(0)
    assert outcome.scores is not None
    np.testing.assert_allclose(outcome.scores, rates.numpy(), rtol=1e-5, atol=1e-6)
    best = rates.topk(2, 1).values
    clear = (best[:, 0] - best[:, 1] > 1e-5).numpy()  # of classes that are equal rounding chooses
    assert clear.sum() > 10
    assert np.array_equal(outcome.predictions[clear], rates.argmax(1).numpy()[clear])
    assert outcome.counts.shape == (20, 30)
    save_network(whole, tmp_path / "net.h5")
    assert np.array_equal(simulate(load_network(tmp_path / "net.h5"), IMAGES.numpy()).scores, outcome.scores)
    assert whole.without_readout().check().class_names[29] == "neuron 29"


def test_layers_that_do_not_fire_end_a_network() -> None:
    net = nn.Sequential(LI(nn.Conv2d(1, 2, 3)), MaxPool2d(2), Flatten(), LIF(nn.Linear(8, 3), threshold=0.1))
    with pytest.raises(ExportError, match="layer 0: does not fire, so it has to be the last layer"):
        exported(net)
