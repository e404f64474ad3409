"""Another baseline: spike-timing-dependent plasticity, modulated by one reward for the whole network (R-STDP).

Pairs of spikes after Florian (2007, Neural Computation 19:1468), with a reward at the end of a sample:

    x_i[t] = beta x_i[t-1] + S_i[t]        the traces of inputs, y_j alike of outputs
    e_ij = sum_t x_i[t] S_j[t] - y_j[t-1] S_i[t]
    w_ij += lr M e_ij

`M` is 1 if the right class spiked most, else 0, less the mean of the batch: all that layers are told of the label.
"""

from typing import cast

import torch
from torch import Tensor, nn

from spiking_lfp.errors import UsageError
from spiking_lfp.lfp.synapses import synapse_of
from spiking_lfp.nn.layers import SynapticLayer
from spiking_lfp.nn.spiking import LIF
from spiking_lfp.training.feeds import Share
from spiking_lfp.training.loop import Trainer
from spiking_lfp.training.step import Meter


class RewardSTDPTrainer(Trainer):
    """A run of a chain of `LIF` layers and pooling, trained by R-STDP, unclipped; biases stay as they are."""

    @torch.no_grad()
    def update(self, share: Share) -> Meter:
        """Update the network once by a batch."""
        assert isinstance(self.network, nn.Sequential)
        values, labels, _ = share.load()
        seen: list[tuple[LIF, Tensor, Tensor]] = []
        for layer in self.network:
            given, values = values, layer(values)
            if type(layer) is LIF:
                seen.append((layer, given, values))
            elif isinstance(layer, SynapticLayer):
                raise UsageError(f"the R-STDP baseline has no rule for {type(layer).__name__}, expected LIF")
        right = values.sum(0).argmax(-1) == labels
        reward = (right.to(values.dtype) - right.to(values.dtype).mean()) / len(labels)
        for layer, given, spikes in seen:
            layer.synapse.weight.grad = -eligibility(layer, given, spikes, reward)
        self.optimizer.step()
        return Meter(len(labels), int(right.sum()))


def eligibility(layer: LIF, given: Tensor, spikes: Tensor, reward: Tensor) -> Tensor:
    """Return `sum M e` over a batch, shaped like the weights.

    Args:
        layer: with the synapse and the neurons.
        given: to the layer, `[T, B, *i]`.
        spikes: of the layer, `[T, B, *o]`.
        reward: M, `[B]`.
    """
    beta, weight = float(layer.beta), cast(Tensor, layer.synapse.weight)
    synapse = synapse_of(layer.synapse, weight)
    reward = reward.view(-1, *[1] * (spikes.dim() - 2))
    before = torch.cat([torch.zeros_like(spikes[:1]), traces(spikes, beta)[:-1]])
    _, raised = synapse.adjoints(reward * spikes, traces(given, beta), weight, False, True)
    _, lowered = synapse.adjoints(reward * before, given.contiguous(), weight, False, True)
    assert raised is not None
    assert lowered is not None
    return raised - lowered


def traces(spikes: Tensor, beta: float) -> Tensor:
    """Return how much of each spike is left, `[T, ...]`."""
    found = torch.empty_like(spikes, memory_format=torch.contiguous_format)
    trace = torch.zeros_like(spikes[0])
    for t, now in enumerate(spikes):
        trace = beta * trace + now
        found[t] = trace
    return found
