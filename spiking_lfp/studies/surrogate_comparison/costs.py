"""What an inference costs: spikes and synaptic operations, counted here and by the package neurobench."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spiking_lfp.errors import ExportError
from spiking_lfp.nn.layers import Dropout
from spiking_lfp.nn.spiking import LIF, RecurrentLIF


@dataclass
class Costs:
    """Counts over samples.

    Attributes:
        spikes: of all LIF layers.
        synops: synaptic operations: inputs that are not zero, times the synapses that each has.
        updates: neurons times steps.
    """

    spikes: float = 0.0
    synops: float = 0.0
    updates: float = 0.0


@contextmanager
def counted(network: nn.Module, costs: Costs) -> Iterator[None]:
    """Add up in `costs` what the LIF layers of `network` do while it runs; leaves no hook behind."""

    def hook(layer: LIF, inputs: tuple[Tensor, ...], spikes: Tensor) -> None:
        costs.spikes += float(spikes.sum())
        costs.updates += spikes.numel()
        costs.synops += synops(layer, inputs[0], spikes)

    layers = [module for module in network.modules() if isinstance(module, LIF)]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def synops(layer: LIF, x: Tensor, spikes: Tensor) -> float:
    """Return the synaptic operations of a layer: of its inputs `[T, B, ...]`, and of its own spikes that return."""
    arrived = (x != 0).flatten(0, 1).to(torch.float64)
    synapse = layer.synapse
    if isinstance(synapse, nn.Conv2d):
        assert not isinstance(synapse.padding, str)
        ones = torch.ones_like(synapse.weight, dtype=torch.float64)
        # inputs at the edge have fewer synapses
        window = (synapse.stride, synapse.padding, synapse.dilation, synapse.groups)
        operations = float(F.conv2d(arrived, ones, None, *window).sum())
    else:
        assert isinstance(synapse, nn.Linear)
        operations = float(arrived.sum()) * synapse.out_features
    if isinstance(layer, RecurrentLIF):
        # the last step's spikes come back to nobody
        operations += float(spikes[:-1].sum()) * layer.recurrent.out_features
    return operations


def by_neurobench(network: nn.Sequential, x: Tensor) -> dict[str, float] | None:
    """Return what the package neurobench measures on sequences `[T, B, ...]`: sparsity and effective operations.

    It leaves out synapses whose weight is zero. None where it is not installed, or snnTorch has no counterpart of a
    layer.
    """
    try:
        from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
        from neurobench.models import SNNTorchModel

        from spiking_lfp.deploy.interop import to_snntorch

        theirs = to_snntorch(nn.Sequential(*[layer for layer in network if not isinstance(layer, Dropout)]))
    except (ImportError, ExportError):
        return None
    theirs[-1].output = True  # type: ignore[assignment]
    model = SNNTorchModel(theirs)
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
