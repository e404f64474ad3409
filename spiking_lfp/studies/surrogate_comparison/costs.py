"""The cost of an inference in spikes and synaptic operations, counted here and by the package neurobench."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spiking_lfp.errors import ExportError
from spiking_lfp.lfp.synapses import synapse_of
from spiking_lfp.nn.layers import Dropout
from spiking_lfp.nn.spiking import RecurrentLIF, SpikingLayer, spiking_layers


@dataclass
class Costs:
    """Counts summed over samples.

    Attributes:
        spikes: of all layers that fire.
        synops: synaptic operations: nonzero inputs, each times the number of its synapses.
        updates: updates of a neuron: neurons times steps.
    """

    spikes: float = 0.0
    synops: float = 0.0
    updates: float = 0.0


@contextmanager
def counted(network: nn.Module, costs: Costs) -> Iterator[None]:
    """Add the spikes and operations of the spiking layers of `network` to `costs` while it runs inside the context."""

    def hook(layer: SpikingLayer, inputs: tuple[Tensor, ...], spikes: Tensor) -> None:
        costs.spikes += float(spikes.sum()) if layer.kind.spiking else 0.0
        costs.updates += spikes.numel()
        costs.synops += synops(layer, inputs[0], spikes)

    handles = [layer.register_forward_hook(hook) for layer in spiking_layers(network).values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def synops(layer: SpikingLayer, x: Tensor, spikes: Tensor) -> float:
    """Return the synaptic operations of a layer: of its inputs `[T, B, ...]` and its recurrent spikes."""
    operations = _operations(layer.synapse, x)
    if isinstance(layer, RecurrentLIF):
        # there is no step after the last that its spikes could return to
        operations += _operations(layer.recurrent, spikes[:-1])
    return operations


def _operations(synapse: nn.Module, x: Tensor) -> float:
    """Return how many synapses the nonzero inputs of `x` have; fewer at the border of a convolution."""
    weight = synapse.weight
    assert isinstance(weight, Tensor)
    ones = torch.ones_like(weight, dtype=torch.float64)
    return float(synapse_of(synapse, weight).current((x != 0).to(torch.float64), ones, None).sum())


def by_neurobench(network: nn.Sequential, x: Tensor) -> dict[str, float] | None:
    """Return neurobench's activation sparsity and effective operations on sequences `[T, B, ...]`.

    neurobench does not count synapses whose weight is zero. None where it is not installed, or snnTorch has no
    counterpart of a layer.
    """
    try:
        from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
        from neurobench.models import SNNTorchModel

        from spiking_lfp.deploy.interop import to_snntorch

        converted = to_snntorch(nn.Sequential(*[layer for layer in network if not isinstance(layer, Dropout)]))
    except (ImportError, ExportError):
        return None
    converted[-1].output = True  # type: ignore[assignment]
    model = SNNTorchModel(converted)
    model.register_hooks()
    data = x.transpose(0, 1).contiguous()
    with torch.no_grad():
        spikes = model(data)
    operations = SynapticOperations()(model, spikes, (data, None))
    return {
        "activation sparsity": float(ActivationSparsity()(model, spikes, (data, None))),
        "effective accumulates": float(operations["Effective_ACs"]),
        "effective multiply-accumulates": float(operations["Effective_MACs"]),
    }
