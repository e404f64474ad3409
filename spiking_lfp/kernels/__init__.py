"""Picks the fastest implementation of the LIF recursions for a tensor's device and dtype; `lif` is the fallback."""

from functools import cache

import torch
from torch import Tensor

from spiking_lfp.integers import IntegerNeuron
from spiking_lfp.kernels.spikes import Events
from spiking_lfp.neurons import integer as fixed_point
from spiking_lfp.neurons import lif
from spiking_lfp.neurons.lif import Neuron, Trace
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


def spike_events(x: Tensor, known: Events | None = None) -> Events | None:
    """Return `x` `[T, B, *i]` as events if it holds spikes, few enough for event-driven products to pay.

    Args:
        x: any input of a layer.
        known: its spikes, if whoever wrote `x` packed them.
    """
    if not compiled(x):
        return None
    from spiking_lfp.kernels.cpu import packing

    return packing.spike_events(x, known)


def descent_(update: Tensor, weight: Tensor) -> Tensor:
    """Turn a product into minus an LFP update, `-|weight| * update`, in place.

    Returns:
        whether all of it is finite, one truth value.
    """
    if _in_one_pass(update, weight):
        from spiking_lfp.kernels.cpu import updates

        return updates.descent(update, weight)
    return update.mul_(weight.abs()).neg_().sum().isfinite()


def clip_units_(update: Tensor, weight: Tensor, clip: float, minimum: float) -> None:
    """Scale units of `update` down to `clip` times the norm of those of `weight`, at least `minimum`, in place.

    Units are rows; of a tensor with one axis, its elements.
    """
    if _in_one_pass(update, weight) and update.dim() > 1:
        from spiking_lfp.kernels.cpu import updates

        return updates.clip_units(update, weight, clip, minimum)
    bound = _unit_norm(weight).clamp_(min=minimum).mul_(clip)
    # at most 1, and 1 for an update of zero
    update.mul_(bound.div_(_unit_norm(update).clamp_(min=1e-12)).clamp_(max=1))


def _unit_norm(tensor: Tensor) -> Tensor:
    return tensor.flatten(1).norm(dim=1).view(-1, *[1] * (tensor.dim() - 1)) if tensor.dim() > 1 else tensor.abs()


def _in_one_pass(update: Tensor, weight: Tensor) -> bool:
    return compiled(update) and update.dtype == weight.dtype and update.is_contiguous() and weight.is_contiguous()


def lif_forward(current: Tensor, steps: int, neuron: Neuron, initial: Tensor | None) -> tuple[Tensor, Tensor, Trace]:
    """Run LIF neurons: see `lif.forward`; `current` is used up and may be overwritten."""
    if compiled(current):
        from spiking_lfp.kernels.cpu import lif as cpu
        from spiking_lfp.kernels.cpu import recurrent

        run = cpu.forward if neuron.recurrent is None else recurrent.forward
        return run(current, steps, neuron, initial)
    if on_gpu(current) and neuron.recurrent is None:
        from spiking_lfp.kernels.cuda import lif as cuda

        return cuda.forward(current, steps, neuron, initial)
    return lif.forward(current, steps, neuron, initial)


def integer_forward(
    current: Tensor, steps: int, neuron: IntegerNeuron, initial: Tensor | None
) -> tuple[Tensor, Tensor, Trace]:
    """Run integer LIF neurons: see `fixed_point.forward`."""
    if compiled(current):
        from spiking_lfp.kernels.cpu import integer

        return integer.forward(current, steps, neuron, initial)
    return fixed_point.forward(current, steps, neuron, initial)


def lif_feedback(
    trace: Trace,
    spike_feedback: Tensor,
    final_feedback: Tensor | None,
    rule: Rule,
    summed: bool,
    parts: tuple[Tensor, Tensor] | None,
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Carry feedback back through time: see `lif.feedback`."""
    if type(rule) is Epsilon:
        found = _epsilon_feedback(trace, spike_feedback, final_feedback, rule.epsilon, summed)
        if found is not None:
            return (found[0],), found[1]
    if compiled(trace.record) and trace.neuron.recurrent is None:
        from spiking_lfp.kernels.cpu import lif as cpu

        return cpu.feedback(trace, spike_feedback, final_feedback, rule, summed, parts)
    return lif.feedback(trace, spike_feedback, final_feedback, rule, summed, parts)


def _epsilon_feedback(
    trace: Trace, spike_feedback: Tensor, final_feedback: Tensor | None, epsilon: float, summed: bool
) -> tuple[Tensor, Tensor] | None:
    """Return the feedback by LFP-epsilon if a kernel takes the trace."""
    if compiled(trace.record):
        from spiking_lfp.kernels.cpu import lif as cpu
        from spiking_lfp.kernels.cpu import recurrent

        if trace.neuron.recurrent is not None:
            return recurrent.feedback_epsilon(trace, spike_feedback, final_feedback, epsilon)
        return cpu.feedback_epsilon(trace, spike_feedback, final_feedback, epsilon, summed)
    if on_gpu(trace.record) and trace.neuron.recurrent is None:
        from spiking_lfp.kernels.cuda import lif as cuda

        return cuda.feedback_epsilon(trace, spike_feedback, final_feedback, epsilon, summed)
    return None
