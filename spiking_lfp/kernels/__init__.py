"""What is worth making fast, by the fastest implementation for its tensors: `registry` has the table of kernels."""

from math import prod

import torch
from torch import Size, Tensor

from spiking_lfp.integers import IntegerNeuron
from spiking_lfp.kernels import registry
from spiking_lfp.kernels.product import is_small
from spiking_lfp.kernels.spikes import PackedSpikes, Window
from spiking_lfp.neurons import Neuron, State, Trace, integer
from spiking_lfp.neurons.base import Q, SumsBySign
from spiking_lfp.rules import Rule

# rows up to which a product may skip zeros, and outputs from which that may pay
SPARSE_ROWS, SPARSE_OUTPUTS = 1024, 64
# values of a window whose winner's place is kept in one byte
LARGEST_WINDOW = 256
# the step of SplitMix64, 2^64 over the golden ratio, as a signed number
GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)


def forward(
    neuron: Neuron | IntegerNeuron,
    current: Tensor,
    steps: int,
    initial: State | None,
    arrivals: integer.Arrivals | None = None,
) -> tuple[Tensor, State, Trace]:
    """Run neurons: see `Neuron.forward`, and `neurons.integer.forward` for arrivals; `current` may be overwritten."""
    if arrivals is not None:
        assert isinstance(neuron, IntegerNeuron)
        return integer.forward(neuron, current, steps, initial, arrivals)
    kernel = registry.find("forward", current, type(neuron))
    if kernel is None and isinstance(neuron, IntegerNeuron):
        kernel = integer.forward
    if kernel is None:
        assert isinstance(neuron, Neuron)
        return neuron.forward(current, steps, initial)
    spikes, final, trace = kernel(neuron, current, steps, initial)
    return spikes, final, trace


def feedback(
    trace: Trace,
    spike_feedback: Tensor,
    final_feedback: State | None,
    rule: Rule,
    summed: bool,
    sums: SumsBySign | None = None,
) -> tuple[Q, State]:
    """Carry feedback back through time: see `Neuron.feedback`."""
    kernel = None
    if trace.spikes is None:  # kernels tell spikes from states
        kernel = registry.find("feedback", trace.record, type(trace.neuron), type(rule))
    if kernel is None:
        return trace.neuron.feedback(trace, spike_feedback, final_feedback, rule, summed, sums)
    q, on_initial = kernel(trace, spike_feedback, final_feedback, rule, summed, sums)
    return q, on_initial


def pack_spikes(x: Tensor, known: PackedSpikes | None = None) -> PackedSpikes | None:
    """Return `x` `[T, B, *i]` as packed spikes if it holds spikes, few enough for products with those to pay.

    Args:
        x: any input of a layer.
        known: its spikes, if whoever wrote `x` packed them.
    """
    kernel = registry.find("pack spikes", x)
    found: PackedSpikes | None = None if kernel is None else kernel(x, known)
    return found


def dense_current(spikes: PackedSpikes, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `W x + b`, `[T, B, O]`, for spikes `[T, B, K]` and `weight` `[O, K]`."""
    current: Tensor = _needed("dense current", weight)(spikes, weight, bias)
    return current


def dense_adjoints(
    spikes: PackedSpikes, q: Tensor, weight: Tensor, need_input: bool, need_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Return `x * (W^T q)` and `sum q x^T` for spikes `[T, B, K]` and `q` `[T, B, O]`."""
    down, outer = _needed("dense adjoints", weight)(spikes, q, weight, need_input, need_weight)
    return down, outer


def conv_current(spikes: PackedSpikes, weight: Tensor, bias: Tensor | None, window: Window) -> Tensor:
    """Return `W * x + b`, `[T, B, O, *out]`, for spikes `[T, B, C, *image]`."""
    current: Tensor = _needed("convolution current", weight)(spikes, weight, bias, window)
    return current


def conv_adjoints(
    spikes: PackedSpikes, q: Tensor, weight: Tensor, window: Window, need_input: bool, need_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Return `x * (W^T q)` and `sum q x^T` for spikes `[T, B, C, *image]` and `q` `[T, B, O, *out]`."""
    down, outer = _needed("convolution adjoints", weight)(spikes, q, weight, window, need_input, need_weight)
    return down, outer


def sparse_current(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    """Return `W x + b`, `[N, O]`, for `x` `[N, I]`, or None if skipping its zeros does not pay."""
    kernel = _worth_listing("sparse current", x, weight)
    found: Tensor | None = None if kernel is None else kernel(x, weight, bias)
    return found


def sparse_outer(q: Tensor, x: Tensor, weight: Tensor) -> Tensor | None:
    """Return `sum_N q x^T`, shaped like `weight`, or None if skipping the zeros of `x` `[N, I]` does not pay."""
    kernel = _worth_listing("sparse outer", x, weight)
    found: Tensor | None = None if kernel is None else kernel(q, x)
    return found


def pools(x: Tensor, kernel_size: tuple[int, ...]) -> bool:
    """Tell whether there is a kernel for pooling `x` with such a window."""
    few = len(kernel_size) == 2 and prod(kernel_size) <= LARGEST_WINDOW
    return few and registry.find("max pool", x) is not None


def max_pool(x: Tensor, kernel_size: tuple[int, ...], stride: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Pool `[N, C, H, W]`; return the largest values, and where in their windows they were."""
    out, winner = _needed("max pool", x)(x, kernel_size, stride)
    return out, winner


def max_pool_feedback(
    feedback: Tensor, winner: Tensor, kernel_size: tuple[int, ...], stride: tuple[int, ...], shape: Size
) -> Tensor:
    """Hand `feedback` `[N, C, P, Q]` to the winners; return it in the `shape` `[N, C, H, W]` of the input."""
    handed: Tensor = _needed("max pool feedback", feedback)(feedback, winner, kernel_size, stride, shape)
    return handed


def descent_(update: Tensor, weight: Tensor) -> Tensor:
    """Turn a product into minus an LFP update, `-|weight| * update`, in place.

    Returns:
        whether all of it is finite, one truth value.
    """
    kernel = registry.find("descent", update) if _in_one_pass(update, weight) else None
    if kernel is not None:
        finite: Tensor = kernel(update, weight)
        return finite
    return update.mul_(weight.abs()).neg_().sum().isfinite()


def clip_units_(update: Tensor, weight: Tensor, clip: float, minimum: float) -> None:
    """Scale units of `update` down to `clip` times the norm of those of `weight`, at least `minimum`, in place.

    Units are rows; of a tensor with one axis, its elements.
    """
    kernel = registry.find("clip units", update) if _in_one_pass(update, weight) and update.dim() > 1 else None
    if kernel is not None:
        kernel(update, weight, clip, minimum)
        return
    bound = _unit_norm(weight).clamp_(min=minimum).mul_(clip)
    # at most 1, and 1 for an update of zero
    update.mul_(bound.div_(_unit_norm(update).clamp_(min=1e-12)).clamp_(max=1))


def uniform_(out: Tensor, keys: Tensor) -> None:
    """Fill `out` `[T, B, *f]`, contiguous, with uniform random numbers in [0, 1), each a function of key and place.

    That of place n = 1, 2, ... of a sample, counted through steps and features, is output n of SplitMix64 (Steele, Lea,
    Flood: Fast splittable pseudorandom number generators, OOPSLA 2014) with the sample's key as the seed.

    Args:
        out: float32 or float64.
        keys: int64 `[B]`, well mixed.
    """
    bits = 53 if out.dtype == torch.float64 else 24
    kernel = registry.find("uniform", out)
    if kernel is not None:
        kernel(out, keys, bits)
        return
    places = torch.arange(1, out[:, 0].numel() + 1, device=out.device).view(len(out), 1, -1)
    z = mixed(keys[:, None] + places * GOLDEN)
    out.copy_((_shifted(z, 64 - bits).to(out.dtype) * 2.0**-bits).view_as(out))


def mixed(z: Tensor) -> Tensor:
    """Return the output of SplitMix64 for states int64: different ones for different states, without a pattern."""
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Shift int64 to the right as if they had no sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64)


def _needed(operation: str, like: Tensor) -> registry.Function:
    kernel = registry.find(operation, like)
    assert kernel is not None, "asked for only where there is a kernel"
    return kernel


def _worth_listing(operation: str, x: Tensor, weight: Tensor) -> registry.Function | None:
    """Return the kernel where skipping zeros of `x` `[N, I]` may pay: for a batch of images, into many neurons."""
    if len(x) > SPARSE_ROWS or len(weight) < SPARSE_OUTPUTS or is_small(x, weight):
        return None
    return registry.find(operation, x)


def _unit_norm(tensor: Tensor) -> Tensor:
    return tensor.flatten(1).norm(dim=1).view(-1, *[1] * (tensor.dim() - 1)) if tensor.dim() > 1 else tensor.abs()


def _in_one_pass(update: Tensor, weight: Tensor) -> bool:
    return update.dtype == weight.dtype and update.is_contiguous() and weight.is_contiguous()
