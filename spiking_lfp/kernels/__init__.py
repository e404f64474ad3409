"""Picks the fastest implementation of the LIF recursions for a tensor's device and dtype; `lif` is the fallback."""

from functools import cache

import torch
from torch import Tensor

from spiking_lfp import lif
from spiking_lfp.kernels.spikes import Events
from spiking_lfp.lif import Neuron, Trace
from spiking_lfp.rules import Epsilon, Rule


def compiled(tensor: Tensor) -> bool:
    """Tell whether the CPU kernels take this tensor."""
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)


def on_gpu(tensor: Tensor) -> bool:
    """Tell whether the GPU kernels take this tensor."""
    dtypes = (torch.float32, torch.float64, torch.bfloat16)
    return tensor.device.type == "cuda" and tensor.dtype in dtypes and _has_triton()


@cache
def _has_triton() -> bool:
    try:
        import triton
    except ImportError:
        return False
    return tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 3)


def spike_events(x: Tensor) -> Events | None:
    """Return `x` `[T, B, *i]` as events if it holds spikes, few enough for event-driven products to pay."""
    if not compiled(x):
        return None
    from spiking_lfp.kernels import events

    return events.spike_events(x)


def lif_forward(current: Tensor, steps: int, neuron: Neuron, initial: Tensor | None) -> tuple[Tensor, Tensor, Trace]:
    """Run LIF neurons: see `lif.forward`; `current` is used up and may be overwritten."""
    if compiled(current):
        from spiking_lfp.kernels import cpu

        return cpu.forward(current, steps, neuron, initial)
    if on_gpu(current):
        from spiking_lfp.kernels import cuda

        return cuda.forward(current, steps, neuron, initial)
    return lif.forward(current, steps, neuron, initial)


def lif_feedback(
    trace: Trace, spike_feedback: Tensor, final_feedback: Tensor | None, rule: Rule, summed: bool
) -> tuple[Tensor, Tensor]:
    """Carry feedback back through time: see `lif.feedback`."""
    if compiled(trace.record) and type(rule) is Epsilon:
        from spiking_lfp.kernels import cpu

        return cpu.feedback_epsilon(trace, spike_feedback, final_feedback, rule.epsilon, summed)
    if on_gpu(trace.record) and type(rule) is Epsilon:
        from spiking_lfp.kernels import cuda

        return cuda.feedback_epsilon(trace, spike_feedback, final_feedback, rule.epsilon, summed)
    return lif.feedback(trace, spike_feedback, final_feedback, rule, summed)
