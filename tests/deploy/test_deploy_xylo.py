"""Xylo: XyloSim against a slow replica, the replica against the integer simulator and training, files, limits."""

import json
import random
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import spiking_lfp as lfp
from helpers import integer_networks as make
from spiking_lfp.deploy.artifact import load_network, save_network
from spiking_lfp.deploy.backends.c import CRuntime
from spiking_lfp.deploy.backends.external import WORKERS
from spiking_lfp.deploy.check import check
from spiking_lfp.deploy.chips import backend
from spiking_lfp.deploy.chips.xylo import XYLOSIM
from spiking_lfp.deploy.export import export
from spiking_lfp.deploy.formats.c import write_c
from spiking_lfp.deploy.formats.nir import write_nir
from spiking_lfp.deploy.formats.verilog import write_verilog
from spiking_lfp.deploy.formats.xylo import configuration, write_xylo
from spiking_lfp.deploy.layers import Dense
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.quantize import quantize
from spiking_lfp.deploy.simulator import Stream, simulate, with_golden_run
from spiking_lfp.deploy.verify import verify
from spiking_lfp.errors import ExportError
from spiking_lfp.integers.arithmetic import XYLO, Arithmetic
from spiking_lfp.integers.cuba import IntegerCubaLIF
from spiking_lfp.lfp.execution import Integer
from spiking_lfp.neurons import integer as reference
from spiking_lfp.neurons.integer import FixedPoint
from spiking_lfp.training import preset_config

CASES = 200
Config = dict[str, Any]


# XyloSim once more, slowly


def clipped(value: int) -> int:
    return max(-32768, min(32767, value))


def lost(value: int, dash: int) -> int:
    """What a state loses in a step: at least 1, towards zero."""
    return max(value >> dash, 1) if value > 0 else value >> dash


class Replica:
    """A population of XyloSim's neurons, one number at a time."""

    def __init__(self, dash_syn: list[int], dash_mem: list[int], threshold: list[int], bias: list[int], most: int):
        self.constants = list(zip(dash_syn, dash_mem, threshold, bias, strict=True))
        self.most = most
        self.currents, self.membranes = [0] * len(threshold), [0] * len(threshold)

    def arrive(self, weights: list[list[int]], counts: Iterable[int], shift: int) -> None:
        """Add spikes to the currents, which saturate after each."""
        for row, count in zip(weights, counts, strict=True):
            for _ in range(count):
                self.currents = [
                    clipped(has + (weight << shift)) for has, weight in zip(self.currents, row, strict=True)
                ]

    def step(self) -> list[int]:
        """Let currents and membranes leak, and return how often each neuron spikes."""
        spikes = []
        for n, (dash_syn, dash_mem, threshold, bias) in enumerate(self.constants):
            self.currents[n] -= lost(self.currents[n], dash_syn)
            leak = -lost(self.membranes[n], dash_mem)
            # in 16 bits minus the smallest number is itself
            gained = clipped(self.currents[n] + (-32768 if leak == 32768 else leak))
            membrane = clipped(self.membranes[n] + clipped(gained + bias))
            spikes.append(max(0, min(self.most, membrane // threshold)))
            self.membranes[n] = membrane - spikes[-1] * threshold
        return spikes


def replicated(config: Config, inputs: list[list[int]]) -> dict[str, list[list[int]]]:
    """Return what XyloSim records of one sample."""
    none = [[0] * len(config["threshold"])] * len(config["threshold"])
    hidden, outputs = (
        Replica(
            config[f"dash_syn{of}"], config[f"dash_mem{of}"], config[f"threshold{of}"],
            config.get(f"bias{of or '_hidden'}", [0] * len(config[f"threshold{of}"])), most,
        )
        for of, most in (("", 31), ("_out", 1))
    )  # fmt: skip
    spikes = [0] * len(config["threshold"])
    names = "hidden", "outputs", "currents", "membranes", "currents_out", "membranes_out"
    found: dict[str, list[list[int]]] = {name: [] for name in names}
    for x in inputs:
        hidden.arrive(config["weights_in"], x, config["weight_shift_in"])
        hidden.arrive(config.get("weights_rec", none), spikes, config.get("weight_shift_rec", 0))
        outputs.arrive(config["weights_out"], spikes, config["weight_shift_out"])
        spikes, out = hidden.step(), outputs.step()
        states = hidden.currents, hidden.membranes, outputs.currents, outputs.membranes
        for name, values in zip(names, (spikes, out, *states), strict=True):
            found[name].append(list(values))
    return found


def random_config(seed: int) -> tuple[Config, list[list[int]]]:
    """Recurrent networks with biases, of small and of large states, and decays of 0."""
    chance = random.Random(seed)
    inputs, hidden, outputs, steps = (chance.randint(1, most) for most in (5, 6, 4, 25))
    large = seed % 2

    def weights(rows: int, columns: int) -> list[list[int]]:
        return [[chance.randint(-127, 127) * (chance.random() < 0.7) for _ in range(columns)] for _ in range(rows)]

    def per_neuron(count: int, *among: Any) -> list[int]:
        return [chance.randint(*chance.choice(among)) for _ in range(count)]

    config: Config = {
        "weights_in": weights(inputs, hidden),
        "weights_rec": weights(hidden, hidden),
        "weights_out": weights(hidden, outputs),
        **{f"weight_shift_{name}": chance.randint(0, 7) * large for name in ("in", "rec", "out")},
    }
    for of, count in (("", hidden), ("_out", outputs)):
        for dash in ("dash_syn", "dash_mem"):
            config[dash + of] = per_neuron(count, (0, 4), (0, 15))
        config["threshold" + of] = per_neuron(count, (1, 500), (1, 32767 if large else 500))
        config[f"bias{of or '_hidden'}"] = per_neuron(count, (0, 0), (-128, 127))
    most = chance.choice((1, 15))
    return config, [[chance.randint(0, most) * chance.randint(0, 1) for _ in range(inputs)] for _ in range(steps)]


def simulated(tasks: list[tuple[Config, list[list[int]]]]) -> list[dict[str, Any]]:
    """Return what XyloSim records, in one process for all."""
    if (reason := backend("xylosim").missing()) is not None:
        pytest.skip(reason)
    given = [{"configuration": config, "inputs": [inputs], "states": True} for config, inputs in tasks]
    code = """
import json, runpy, sys
recorded = runpy.run_path(sys.argv[1])["recorded"]
json.dump([recorded(task) for task in json.load(sys.stdin)], sys.stdout)
"""
    command = [XYLOSIM.python("XyloSim"), "-c", code, str(WORKERS / "xylosim_worker.py")]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_the_replica_equals_xylosim() -> None:
    tasks = [random_config(seed) for seed in range(CASES)]
    expected = [replicated(*task) for task in tasks]
    for found, wanted in zip(simulated(tasks), expected, strict=True):
        assert {name: values[0] for name, values in found.items()} == wanted
    # what the cases were made for happens in them
    states = [value for each in expected for name in each if name[0] in "cm" for row in each[name] for value in row]
    assert min(states) == -32768
    assert max(states) > 32700
    assert max(value for each in expected for row in each["hidden"] for value in row) == 31
    assert {value for each in expected for row in each["outputs"] for value in row} == {0, 1}
    assert any(0 in config["dash_syn"] and 0 in config["dash_mem"] for config, _ in tasks)


# the integer simulator


def layer(name: str, inputs: int, outputs: int, seed: int, arithmetic: Arithmetic = XYLO, **fields: Any) -> Dense:
    random = np.random.default_rng(seed)
    weight = random.integers(-127, 128, (outputs, inputs)).astype(np.int8)
    theta = random.integers(1, 400 if seed % 2 else 60, outputs).astype(np.int32)
    # every third layer has decays of its outputs
    size = outputs if seed % 3 == 0 else 1
    known: dict[str, Any] = {name: random.integers(1, 7, size, np.int32) for name in ("decay", "current_decay")}
    known |= {"frac_bits": 3} | fields
    neuron = IntegerCubaLIF(theta, reset="subtract_decayed", arithmetic=arithmetic, **known)
    return Dense(name, (inputs,), weight, np.zeros(outputs, np.int32), np.full(outputs, 0.01), 8, neuron)


def network(sides: tuple[int, ...] = (6, 9, 7, 4), seed: int = 0, steps: int = 20) -> IntegerNetwork:
    count = len(sides) - 1
    layers = (
        layer(str(k), *sides[k : k + 2], seed + k, XYLO if k < count - 1 else XYLO.of_outputs()) for k in range(count)
    )
    return IntegerNetwork(tuple(layers), "spikes", 1, steps, tuple(map(str, range(sides[-1]))))


def spikes_for(net: IntegerNetwork, samples: int = 2, seed: int = 0, share: float = 0.5) -> Any:
    found = np.random.default_rng(seed).random((net.steps, samples, *net.in_shape)) < share
    return found.astype(np.uint8)


@pytest.mark.parametrize("seed", range(12))
def test_the_simulator_equals_the_replica_in_every_state(seed: int) -> None:
    net = network(seed=seed).check()
    x = spikes_for(net, 1, seed)
    late = len(net.layers) - 1
    found = replicated(configuration(net), [*x[:, 0].tolist(), *[[0] * 6] * late])
    stream, saturated = Stream(net), 0
    for t in range(net.steps):
        stream.step(x[t])
        low = 0
        for delay, each in enumerate(net.spiking):
            neurons, last = stream.neurons[each.name], delay == late
            part = slice(0, each.neurons) if last else slice(low, low + each.neurons)
            spikes = neurons.fired[0].astype(int)
            after_reset = neurons.state[0][0] - spikes * (each.neuron.theta << each.neuron.frac_bits)
            for mine, theirs in (
                (spikes, "outputs" if last else "hidden"),
                (neurons.state[1][0], "currents_out" if last else "currents"),
                (after_reset, "membranes_out" if last else "membranes"),
            ):
                assert mine.tolist() == found[theirs][t + delay][part], (t, each.name, theirs)
            low += each.neurons
            saturated += neurons.counters.saturated
    assert max(map(max, found["hidden"])) > 1
    assert saturated or seed % 2


def test_every_spike_equals_xylosim() -> None:
    for sides in ((6, 9, 7, 4), (16, 40, 8)):
        net = network(sides)
        line: Any
        for line in verify(net, spikes_for(net, 3), ["xylosim"]):
            if line.layer is None and "is not installed" in line.reason:
                pytest.skip(line.reason)
            assert line.agrees, line


# training


def trainable(sides: tuple[int, ...] = (12, 30, 20, 5), **constants: Any) -> nn.Sequential:
    torch.manual_seed(0)
    constants = {"alpha": 0.5, "beta": 0.75, "threshold": 0.3} | constants
    return nn.Sequential(*(lfp.CubaLIF(nn.Linear(*pair, bias=False), **constants) for pair in pairwise(sides)))


def test_what_was_trained_is_exported_to_the_bit() -> None:
    net = trainable(threshold=0.05)
    lfp.run_in_integers(net, 8, levels=1, arithmetic=XYLO)
    x, labels = torch.from_numpy(spikes_for(network((12, 5)), 8, share=0.4)).float(), torch.arange(8) % 5
    optimizer = torch.optim.SGD(net.parameters(), 1e-4)
    for _ in range(2):
        outputs = net(x)
        lfp.propagate(outputs, lfp.spike_rate_reward(outputs, labels))
        assert all(each.synapse.weight.grad.any() for each in net)
        optimizer.step()
    integers, _ = quantize(net, x.byte(), labels, None, tuple("abcde"))
    assert check(integers, "xylo") == []
    assert [each.neuron.arithmetic for each in integers.spiking] == [XYLO, XYLO, XYLO.of_outputs()]
    assert {(each.neuron.decay, each.neuron.current_decay) for each in integers.spiking} == {(2, 1)}
    outcome = simulate(integers, x.byte().numpy(), record=True)
    seen = x
    for name, module in net.named_children():
        seen = module(seen)
        assert np.array_equal(outcome.spikes[name], seen.detach().numpy())
    assert outcome.spikes["1"].max() > 1
    # several spikes of many neurons at once do not fit into the current, where their order matters
    assert outcome.counters["1"].saturated


def test_the_outputs_of_the_chip_are_those_below_a_readout() -> None:
    net = nn.Sequential(*trainable((12, 10, 8)), lfp.PopulationReadout(2))
    lfp.run_in_integers(net, 8, levels=1, arithmetic=XYLO)
    x = torch.from_numpy(spikes_for(network((12, 5)), 8, share=0.4))
    integers, _ = quantize(net, x, torch.arange(8) % 4, None, tuple("abcd"))
    assert check(integers, "xylo") == []
    counts = simulate(integers, x.numpy()).counts
    assert np.array_equal(counts, net[:2](x.float()).sum(0).detach().numpy())
    assert counts.any()


def test_feedback_is_divided_among_what_the_chip_added_up() -> None:
    """Weight by weight, in units of the membrane: LFP through both states, of neurons that spike several times."""
    torch.manual_seed(1)
    x = torch.from_numpy(spikes_for(network((6, 3)), 1)).double().requires_grad_()
    module = trainable((6, 3)).double()[0]
    module.execution = Integer(8, arithmetic=XYLO)
    spikes = module(x)
    reward = torch.randn_like(spikes)
    lfp.propagate(spikes, reward)
    made = FixedPoint(8, arithmetic=XYLO).layer(module.synapse.weight.detach(), None, module.neuron(torch.float64), "a")
    current = x.detach() @ made.weight.T
    *_, trace = reference.forward(made.neuron, current, len(x), None)
    assert trace.states is not None
    assert trace.spikes is not None
    assert trace.spikes.max() > 1
    assert trace.states[1].abs().max() < 32767
    membranes, currents, fired = (each[:, 0].numpy() for each in (*trace.states, trace.spikes))
    alpha, beta, weight = 0.5, 0.75, made.weight.numpy() * 2.0**made.neuron.frac_bits
    expected, epsilon = np.zeros((len(x), 6)), module.rule.epsilon

    def shared(value: float, total: float, old: float) -> float:
        return value / (abs(old) + abs(total - old) + epsilon)

    for o in range(3):
        theta = int(made.neuron.theta[o]) << made.neuron.frac_bits
        on_membrane = on_current = 0.0
        for t in reversed(range(len(x))):
            before, kept, subtracted = (membranes[t - 1, o], currents[t - 1, o], fired[t - 1, o]) if t else (0, 0, 0)
            p = shared(float(reward[t, 0, o]) + on_membrane, membranes[t, o] + beta * theta * subtracted, before)
            on_membrane = beta * before * p
            q = shared(np.sign(currents[t, o]) * (currents[t, o] * p + on_current), currents[t, o], alpha * kept)
            on_current = alpha * kept * q
            # what arrived has leaked once
            if membranes[t, o] or before:
                expected[t] += alpha * weight[o] * x[t, 0].detach().numpy() * q
    assert x.grad is not None
    np.testing.assert_allclose(x.grad[:, 0].numpy(), expected, rtol=1e-9, atol=1e-12)


def test_layers_are_brought_to_xylo() -> None:
    thresholds = torch.tensor([0.5, 1.0, 2.0])
    neuron = lfp.CubaLIF(nn.Linear(2, 3), alpha=0.75, beta=0.9, threshold=thresholds).neuron(torch.float32)
    weight = torch.tensor([[1.27, 0.2], [-0.3, 0.1], [0.4, 0.6]])
    found = FixedPoint(8, arithmetic=XYLO).layer(weight, None, neuron, "a")
    # the current keeps 3/4 of what arrives, and so do thresholds; 16 of them have room
    assert found.neuron.theta.tolist() == [round(value * 100 * 0.75) for value in (0.5, 1.0, 2.0)]
    assert (found.neuron.current_decay, found.neuron.decay, found.neuron.reset) == (2, 3, "subtract_decayed")
    assert found.neuron.frac_bits == 3
    assert 16 * 150 << 3 <= 32767 < 16 * 150 << 4
    with pytest.raises(lfp.UsageError, match=r"layer a: alpha becomes a shift of 0 .* use alpha greater than 0\.25"):
        FixedPoint(8, arithmetic=XYLO).layer(weight, None, replace(neuron, alpha=torch.tensor(0.25)), "a")
    with pytest.raises(lfp.UsageError, match="layer a: the arithmetic xylo has no bias of the synaptic current"):
        FixedPoint(8, arithmetic=XYLO).layer(weight, torch.zeros(3), neuron, "a")
    lif = lfp.LIF(nn.Linear(2, 3)).neuron(torch.float32)
    with pytest.raises(lfp.UsageError, match="layer a: the arithmetic xylo is for neurons with a synaptic current"):
        FixedPoint(8, arithmetic=XYLO).layer(weight, None, lif, "a")
    with pytest.raises(
        lfp.UsageError, match="layer a: the arithmetic xylo has the reset subtract_decayed, found 'zero'"
    ):
        FixedPoint(8, arithmetic=XYLO).layer(weight, None, replace(neuron, reset="zero"), "a")


def test_settings_name_the_arithmetic(tmp_path: Path) -> None:
    assert preset_config("mnist-mlp", {"quantize": 8, "quantize_arithmetic": "xylo"}).quantize_arithmetic == "xylo"
    with pytest.raises(lfp.UsageError, match="quantize_arithmetic needs quantize"):
        preset_config("mnist-mlp", {"quantize_arithmetic": "xylo"})
    with pytest.raises(lfp.UsageError, match="xylophone"):
        preset_config("mnist-mlp", {"quantize": 8, "quantize_arithmetic": "xylophone"})
    # after training in real numbers, too
    x = torch.from_numpy(spikes_for(network((12, 5)), 10, share=0.4)).float().transpose(0, 1)
    made = export(trainable(), (x, torch.arange(10) % 5), out=tmp_path, to=["artifact", "xylo", "c"], arithmetic="xylo")
    assert sorted(made.files) == ["artifact", "xylo"]
    assert "the C runtime adds up" in made.refused["c"]
    assert json.loads(made.files["xylo"].read_text())["about"]["class_names"] == ["0", "1", "2", "3", "4"]
    with pytest.raises(lfp.UsageError, match="in integers already"):
        export(made.files["artifact"], out=tmp_path, arithmetic="xylo")


# files


def test_the_configuration_has_the_arguments_of_rockpool(tmp_path: Path) -> None:
    net = network((3, 4, 2, 5))
    write_xylo(net, tmp_path / "xylo.json")
    found = json.loads((tmp_path / "xylo.json").read_text())
    first, second, last = net.layers
    weights = {name: np.array(value) for name, value in found.items() if name.startswith("weights")}
    assert {name: value.shape for name, value in weights.items()} == {
        "weights_in": (3, 6), "weights_rec": (6, 6), "weights_out": (6, 5),
    }  # fmt: skip
    assert np.array_equal(weights["weights_in"][:, :4], first.weight.T)
    assert np.array_equal(weights["weights_rec"][:4, 4:], second.weight.T)
    assert np.array_equal(weights["weights_out"][4:], last.weight.T)
    everything = sum(np.abs(value).sum() for value in weights.values())
    assert everything == sum(np.abs(each.weight.astype(int)).sum() for each in net.layers)
    assert found["threshold"] == [*(first.neuron.theta << 3).tolist(), *(second.neuron.theta << 3).tolist()]
    assert found["dash_syn"] == first.neuron.current_decay.tolist() + [second.neuron.current_decay] * 2
    assert found["dash_mem"] == first.neuron.decay.tolist() + [second.neuron.decay] * 2
    assert found["dash_mem_out"] == [last.neuron.decay] * 5
    assert (found["weight_shift_in"], found["weight_shift_rec"], found["weight_shift_out"]) == (3, 3, 3)
    assert [each["delay"] for each in found["about"]["layers"]] == [0, 1, 2]
    assert "weights_rec" not in configuration(network((3, 4, 2)))


def test_artifacts_hold_several_spikes(tmp_path: Path) -> None:
    net = network()
    net = with_golden_run(net, spikes_for(net))
    assert net.golden is not None
    assert net.golden.spikes["0"].max() > 1
    save_network(net, tmp_path / "net.h5")
    back = load_network(tmp_path / "net.h5")
    for found, expected in zip(back.layers, net.layers, strict=True):
        make.assert_same_fields(found, expected)
    assert np.array_equal(back.golden.spikes["0"], net.golden.spikes["0"])  # type: ignore[union-attr]
    net.golden.spikes["2"][0] = 2
    with pytest.raises(ExportError, match="golden run, layer 2: a spike is 2, expected 0 or 1"):
        save_network(net, tmp_path / "net.h5")


# limits


def changed(net: IntegerNetwork, index: int, **fields: Any) -> IntegerNetwork:
    layers = list(net.layers)
    own = {name: value for name, value in fields.items() if name in ("bias",)}
    neuron = replace(layers[index].neuron, **{k: v for k, v in fields.items() if k not in own})  # type: ignore
    layers[index] = replace(layers[index], neuron=neuron, **own)  # type: ignore[call-arg]
    return replace(net, layers=tuple(layers))


LIMITS = {
    "layer 0: has 17 inputs, xylo has 16 channels": network((17, 9, 4)),
    "layer 1: has 9 neurons, xylo has 8 outputs": network((6, 9, 9)),
    "the network has 1001 hidden neurons (layer 0 1001), xylo has 1000": network((6, 1001, 4)),
    "layer 1: a neuron below has a fan-out of 64, xylo has 63": network((6, 9, 64, 4)),
    "the network has 32760 synapses among hidden neurons, xylo holds 32000": network((6, 520, 63, 4)),
    "the network has 1 layer with neurons, xylo needs a hidden one: inputs reach no output": network((6, 4)),
    "layer 0: decay is 0, xylo holds 1..15": changed(network(), 0, decay=0),
    "layer 1: current_decay is 0, xylo holds 1..15": changed(network(), 1, current_decay=0),
    "layer 2: decay is 0..7, xylo holds 1..15": changed(network(), 2, decay=np.array([3, 0, 7, 2], np.int32)),
    "layer 2: bias is 1, xylo holds 0": changed(network(), 2, bias=np.ones(4, np.int32)),
    "layer 2: its spikes is 31, not 1 as in xylo": changed(network(), 2, arithmetic=XYLO),
    "layer 2: frac_bits is 2, and 3 in layer 1: xylo shifts all weights among hidden neurons by as many bits": changed(
        network((6, 9, 7, 5, 4)), 2, frac_bits=2
    ),
}


@pytest.mark.parametrize("reason", LIMITS)
def test_limits_are_named(reason: str, tmp_path: Path) -> None:
    net = LIMITS[reason]
    assert check(net, "xylo") == [reason]
    assert backend("xylosim").unsupported(net) == reason
    with pytest.raises(ExportError) as caught:
        write_xylo(net, tmp_path / "xylo.json")
    assert str(caught.value) == reason
    assert not (tmp_path / "xylo.json").exists()


def test_what_fits_just_so_fits() -> None:
    for sides in ((16, 1000, 8), (16, 507, 63, 8)):
        assert check(network(sides), "xylo") == []


def test_others_refuse_several_spikes_in_a_step(tmp_path: Path) -> None:
    net = network((6, 9, 4))
    with pytest.raises(ExportError, match="layer 0: the C runtime adds up what arrives in a step"):
        write_c(net, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    assert "the C runtime" in str(CRuntime().unsupported(net))
    for write in (write_nir, write_verilog):
        with pytest.raises(ExportError, match="layer 0: "):
            write(net, tmp_path / "out")  # type: ignore[operator]
    # large sums are refused where they would not be exact
    with pytest.raises(
        ExportError, match=r"layer 1: the currents of one step may add up to .* exact sums reach 2097152"
    ):
        network((6, 4000, 4)).check()
