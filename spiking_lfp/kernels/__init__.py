"""Picks the fastest implementation of the LIF recursions for a tensor's device and dtype; `lif` is the fallback."""

import torch
from torch import Tensor

from spiking_lfp import lif
from spiking_lfp.lif import Neuron, Trace
from spiking_lfp.rules import Epsilon, Rule


def compiled(tensor: Tensor) -> bool:
    """Tell whether the CPU kernels take this tensor."""
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)


def lif_forward(current: Tensor, steps: int, neuron: Neuron, initial: Tensor | None) -> tuple[Tensor, Tensor, Trace]:
    """Run LIF neurons: see `lif.forward`; `current` is used up and may be overwritten."""
    if compiled(current):
        from spiking_lfp.kernels import cpu

        return cpu.forward(current, steps, neuron, initial)
    return lif.forward(current, steps, neuron, initial)


def lif_feedback(
    trace: Trace, spike_feedback: Tensor, final_feedback: Tensor | None, rule: Rule, summed: bool
) -> tuple[Tensor, Tensor]:
    """Carry feedback back through time: see `lif.feedback`."""
    if compiled(trace.record) and type(rule) is Epsilon:
        from spiking_lfp.kernels import cpu

        return cpu.feedback_epsilon(trace, spike_feedback, final_feedback, rule.epsilon, summed)
    return lif.feedback(trace, spike_feedback, final_feedback, rule, summed)
