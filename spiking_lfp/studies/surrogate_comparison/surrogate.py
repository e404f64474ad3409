"""The baseline: the same network trained by snnTorch's surrogate gradients through time, in the same training loop."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spiking_lfp.errors import UsageError
from spiking_lfp.nn.layers import Dropout, Flatten, PopulationReadout
from spiking_lfp.nn.pooling import AvgPool2d, MaxPool2d
from spiking_lfp.nn.spiking import LI, LIF, RecurrentLIF
from spiking_lfp.training.feeds import Share
from spiking_lfp.training.loop import Trainer
from spiking_lfp.training.step import Meter

SLOPE = 25


class SurrogateNetwork(nn.Module):
    """snnTorch neurons around the synapses of one of our networks, whose parameters they share.

    All steps go through a synapse in one product, the fastest way to use snnTorch; a constant input goes through it
    once. The neurons spike exactly as ours do, so the trained parameters are evaluated in our network.

    Args:
        network: an `nn.Sequential` of our layers.

    Raises:
        UsageError: if snnTorch is not installed or has no counterpart of a layer.
    """

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        try:
            import snntorch
        except ImportError:
            raise UsageError("snnTorch is not installed: pip install 'spiking-lfp[interop]'") from None
        self.layers = list(network)
        self.neurons = nn.ModuleList(
            [_neurons(snntorch, layer) for layer in self.layers if isinstance(layer, LIF)]
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs `[T, B, classes]`, spikes but for an `LI`, of sequences `[T, B, ...]`."""
        neurons = iter(self.neurons)
        for layer in self.layers:
            if isinstance(layer, LIF):
                current = _currents(layer.synapse, x)
                if layer.norm is not None:
                    current = layer.norm(current.flatten(0, 1)).unflatten(0, x.shape[:2])
                x = _spikes(next(neurons), current, isinstance(layer, RecurrentLIF))
            elif isinstance(layer, MaxPool2d):
                pooled = F.max_pool2d(x.flatten(0, 1), layer.kernel_size, layer.stride, layer.padding)
                x = pooled.unflatten(0, x.shape[:2])
            elif isinstance(layer, AvgPool2d):
                pooled = F.avg_pool2d(x.flatten(0, 1), layer.kernel_size, layer.stride, layer.padding)
                x = pooled.unflatten(0, x.shape[:2])
            elif isinstance(layer, Dropout):
                mask = F.dropout(x.new_ones(x.shape[1:]), layer.p, self.training)
                x = x * mask
            elif isinstance(layer, Flatten):
                x = x.flatten(2)
            elif isinstance(layer, LI):
                x = _membranes(layer, _currents(layer.synapse, x))
            elif isinstance(layer, PopulationReadout):
                x = x.unflatten(2, (-1, layer.size)).mean(3)
            else:
                raise UsageError(f"the surrogate baseline has no counterpart of {layer}")
        return x


def _neurons(snntorch: Any, layer: LIF) -> nn.Module:
    parameters = {
        "beta": layer.beta.float().clone(),
        "threshold": layer.threshold.float().clone(),
        "reset_mechanism": layer.reset,
        "spike_grad": snntorch.surrogate.fast_sigmoid(SLOPE),
    }
    if not isinstance(layer, RecurrentLIF):
        leaky: nn.Module = snntorch.Leaky(**parameters)
        return leaky
    if not isinstance(layer.recurrent, nn.Linear):
        raise UsageError(f"the surrogate baseline has no counterpart of {layer}")
    recurrent: nn.Module = snntorch.RLeaky(linear_features=layer.recurrent.out_features, **parameters)
    recurrent.recurrent = layer.recurrent
    return recurrent


def _currents(synapse: nn.Module, x: Tensor) -> Tensor:
    """Return the currents of all steps: of one where all are the same memory, as those of a constant input are."""
    if x.stride(0) == 0:
        once: Tensor = synapse(x[0])
        return once.expand(len(x), *once.shape)
    return synapse(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # type: ignore[no-any-return]


def _spikes(neurons: Any, current: Tensor, recurrent: bool) -> Tensor:
    """Run neurons over all steps and return their spikes."""
    membrane, spikes = torch.zeros_like(current[0]), torch.zeros_like(current[0])
    out = []
    for step in current:
        spikes, membrane = neurons(step, spikes, membrane) if recurrent else neurons(step, membrane)
        out.append(spikes)
    return torch.stack(out)


def _membranes(layer: LI, current: Tensor) -> Tensor:
    """Run leaky integrators over all steps and return their membranes."""
    membrane, out = torch.zeros_like(current[0]), []
    for step in current:
        membrane = layer.beta * membrane + step
        out.append(membrane)
    return torch.stack(out)


class SurrogateTrainer(Trainer):
    """A run trained by surrogate gradients of the cross entropy, unclipped.

    The scores are spike counts (LFP app. A.6.3), or the mean of membranes.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        assert isinstance(self.network, nn.Sequential)
        self.surrogate = SurrogateNetwork(self.network).to(self.device)

    def update(self, share: Share) -> Meter:
        """Update the network once by a batch."""
        x, labels, _ = share.load()
        self.surrogate.train(self.network.training)
        self.optimizer.zero_grad()
        outputs = self.surrogate(x)
        counts = outputs.mean(0) if self.config.readout == "membrane" else outputs.sum(0)
        weights = None if self.class_weights is None else self.class_weights.to(counts.dtype)
        F.cross_entropy(counts, labels, weights).backward()
        self.optimizer.step()
        return Meter(len(labels), int((counts.detach().argmax(-1) == labels).sum()))
