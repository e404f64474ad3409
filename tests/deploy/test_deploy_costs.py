"""Costs against numbers worked out by hand, and against NeuroBench's counts."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from helpers import integer_networks as make
from spiking_lfp.deploy.costs import ENERGIES, Footprint, costs
from spiking_lfp.deploy.layers import Conv, Dense, Flatten, MaxPool
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import simulate
from spiking_lfp.errors import ExportError
from spiking_lfp.integers import IntegerLIF


def dense(name: str, weight: list[list[int]], bits: int, frac_bits: int = 6) -> Dense:
    """Neurons that forget everything, and fire above 2."""
    outputs = len(weight)
    return Dense(
        name, (len(weight[0]),), np.array(weight, np.int8), np.zeros(outputs, np.int32), np.ones(outputs),
        bits, IntegerLIF(np.full(outputs, 2, np.int32), 4095, frac_bits, "zero"),
    )  # fmt: skip


def test_a_network_worked_out_by_hand() -> None:
    # 3 inputs, 2 neurons, 1 neuron; two steps of two samples
    net = make.network([dense("a", [[3, 0, 1], [1, 1, 1]], 4), dense("b", [[3, -3]], 3)], 2)
    inputs = np.array([[[1, 0, 0], [1, 1, 1]], [[0, 0, 0], [0, 0, 1]]], np.uint8)
    # layer a: sums (3, 1) (4, 3), then (0, 0) (1, 1): spikes (1, 0) (1, 1), then none
    # layer b: sums 3, 0: one spike in all
    found = costs(net, simulate(net, inputs))
    first, second = found.layers
    assert found.samples == 2
    assert (first.name, first.neurons, first.spikes, first.synops, first.macs) == ("a", 2, 1.5, 5.0, 0.0)
    assert (first.updates, first.sparsity) == (4.0, 1 - 3 / 8)
    assert (second.name, second.neurons, second.spikes, second.synops, second.macs) == ("b", 1, 0.5, 1.5, 0.0)
    assert (second.updates, second.sparsity) == (2.0, 0.75)
    # 6 weights of 4 bits, 2 of 3 bits
    assert first.footprint == Footprint(3, 8, 8, 6)
    assert second.footprint == Footprint(1, 4, 4, 3)
    assert (first.footprint.total, second.footprint.total) == (25, 12)
    # an update: 112 bits of 64-bit words at 10 pJ, 3.1 for the product, 0.3 for additions
    assert first.energy_45nm == pytest.approx(5 * (10 * 4 / 64 + 0.1) + 4 * (17.5 + 3.1 + 0.3))
    assert second.energy_45nm == pytest.approx(1.5 * (10 * 3 / 64 + 0.1) + 2 * 20.9)
    assert first.energy_loihi == pytest.approx(5 * 23.6 + 4 * 81)
    assert second.energy_loihi == pytest.approx(1.5 * 23.6 + 2 * 81)
    total = found.total
    assert (total.name, total.neurons, total.spikes, total.synops, total.macs) == ("total", 3, 2.0, 6.5, 0.0)
    assert (total.updates, total.sparsity) == (6.0, 1 - 4 / 12)
    assert total.footprint == Footprint(4, 12, 12, 9)
    assert total.energy_45nm == pytest.approx(first.energy_45nm + second.energy_45nm)
    assert total.energy_loihi == pytest.approx(6.5 * 23.6 + 6 * 81)


def test_analogue_inputs_cost_multiplications() -> None:
    net = make.network([dense("a", [[3, 0, 1], [1, 1, 1]], 8, 0), dense("b", [[3, -3]], 8)], 5, 255)
    found = costs(net, simulate(net, np.array([[200, 0, 7]], np.uint8)))
    first, second = found.layers
    # 2 pixels that are not zero, 2 neurons, 5 steps; both neurons always spike
    assert (first.synops, first.macs, first.spikes) == (0.0, 20.0, 10.0)
    assert (second.synops, second.macs) == (10.0, 0.0)
    assert first.energy_45nm == pytest.approx(20 * (1.25 + 0.1 + 0.2) + 10 * 20.9)
    assert first.energy_loihi is None
    assert second.energy_loihi == pytest.approx(10 * 23.6 + 5 * 81)
    assert found.total.energy_loihi == second.energy_loihi
    assert (found.total.macs, found.total.synops) == (20.0, 10.0)


def test_one_layer_with_analogue_inputs_has_no_figure_for_loihi() -> None:
    net = make.network([dense("a", [[3, 0, 1]], 8, 0)], 5, 255)
    assert costs(net, simulate(net, np.array([[200, 0, 7]], np.uint8))).total.energy_loihi is None


def test_every_figure_has_a_source() -> None:
    assert {name: (value, source.split(" ")[1][:-1]) for name, value, source in ENERGIES} == {
        "int32 addition": (0.1, "Horowitz"),
        "int8 multiplication": (0.2, "Horowitz"),
        "int32 multiplication": (3.1, "Horowitz"),
        "64-bit word read from an 8 kB SRAM": (10.0, "Horowitz"),
        "synaptic operation on Loihi, minimum": (23.6, "Davie"),
        "active neuron update on Loihi": (81.0, "Davie"),
    }


def test_samples_are_averaged_and_silence_is_sparse() -> None:
    net = make.lenet()
    images = make.inputs_for(net, 4)
    together = costs(net, simulate(net, images)).total
    apart = [costs(net, simulate(net, images[k : k + 1])).total for k in range(4)]
    for what in ("spikes", "synops", "macs", "updates", "sparsity", "energy_45nm", "energy_loihi"):
        assert getattr(together, what) == pytest.approx(np.mean([getattr(each, what) for each in apart]))
    silent = make.mlp()
    weight = -np.abs(silent.spiking[0].weight)
    first = replace(silent.spiking[0], weight=weight, bias=np.zeros(20, np.int32))
    silent = replace(silent, layers=(first, silent.layers[1]))
    found = costs(silent, simulate(silent, make.inputs_for(silent)))
    assert found.layers[0].sparsity == 1
    assert found.layers[1].synops == 0
    assert not math.isnan(found.total.sparsity)


def test_outcomes_of_other_networks_are_refused() -> None:
    net, other = make.mlp(), make.lenet(levels=1)
    with pytest.raises(ExportError, match=r"3 samples with layers 0, 1 was given, expected one of layers 0, 2, 5, 6"):
        costs(other, simulate(net, make.inputs_for(net)))
    empty = simulate(net, make.inputs_for(net))
    with pytest.raises(ExportError, match="an outcome of 0 samples"):
        costs(net, replace(empty, counts=empty.counts[:0]))


class Replica(nn.Module):
    """The network in snnTorch, in float64, exact where nothing leaks and resets subtract, as NeuroBench wants it."""

    def __init__(self, net: IntegerNetwork) -> None:
        super().__init__()
        import snntorch

        layers: list[nn.Module] = []
        for layer in net.layers:
            if isinstance(layer, Flatten):
                layers.append(nn.Flatten())
            elif isinstance(layer, MaxPool):
                layers.append(nn.MaxPool2d(layer.kernel, layer.stride))
            else:
                assert layer.neuron.decay == 0
                assert layer.neuron.reset == "subtract"
                assert len(set(layer.neuron.theta.tolist())) == 1
                synapse: nn.Module
                if isinstance(layer, Conv):
                    synapse = nn.Conv2d(
                        layer.in_shape[0], layer.outputs, layer.kernel, layer.stride, layer.padding, groups=layer.groups
                    )
                else:
                    synapse = nn.Linear(layer.in_shape[0], layer.outputs)
                synapse.weight = nn.Parameter(torch.from_numpy(layer.weight).float())
                synapse.bias = nn.Parameter(torch.from_numpy(layer.bias).float())
                neurons = snntorch.Leaky(beta=1.0, threshold=float(layer.neuron.theta[0]), init_hidden=True)
                layers += [synapse, neurons]
        neurons.output = True
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found: tuple[torch.Tensor, torch.Tensor] = self.layers(x)
        return found


@pytest.mark.parametrize("levels", [1, 255])
@pytest.mark.parametrize("what", ["mlp", "lenet"])
def test_neurobench_counts_the_same(what: str, levels: int) -> None:
    workload = pytest.importorskip("neurobench.metrics.workload", reason="needs neurobench 2.3")
    from neurobench.models import SNNTorchModel

    net = make.mlp((30, 20, 5), decay=0, levels=levels) if what == "mlp" else make.lenet(decay=0, levels=levels)
    layers = [
        # NeuroBench leaves out synapses whose weight is zero, hardware that stores them does not
        replace(layer, weight=np.where(layer.weight == 0, 1, layer.weight).astype(np.int8))
        if isinstance(layer, Dense | Conv) else layer
        for layer in net.layers
    ]  # fmt: skip
    net = replace(net, layers=tuple(layers)).check()
    inputs = make.inputs_for(net, 3)
    outcome = simulate(net, inputs, record=True)
    found = costs(net, outcome)
    shown = inputs if levels == 1 else np.broadcast_to(inputs, (net.steps, *inputs.shape))
    data = torch.from_numpy(shown.astype(np.float32)).transpose(0, 1).contiguous()
    model = SNNTorchModel(Replica(net))
    operations, sparsity = workload.SynapticOperations(), workload.ActivationSparsity()
    model.register_hooks()
    with torch.no_grad():
        spikes = model(data)
    np.testing.assert_array_equal(spikes.transpose(0, 1).numpy(), outcome.spikes[net.layers[-1].name])
    counted = operations(model, spikes, (data, None))
    assert counted["Effective_ACs"] == pytest.approx(found.total.synops, rel=1e-12)
    assert counted["Effective_MACs"] == pytest.approx(found.total.macs, rel=1e-12)
    assert sparsity(model, spikes, (data, None)) == pytest.approx(found.total.sparsity, rel=1e-12)
    assert found.total.spikes > 0
