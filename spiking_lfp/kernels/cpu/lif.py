"""The LIF recursions for CPU, compiled by numba; equal to `neurons.lif` by test.

Bound by memory: each kernel passes once over what it reads and writes, and keeps the rest in cache. Rows of the batch
run in parallel, neurons are vectorised. No fast-math: the operations and their order are those of the reference.
Images are kept with their channels last in memory, which is where convolutions are fastest.
"""

from typing import Any, no_type_check

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.kernels.cpu.neurons import lif_feedback_epsilon, lif_forward
from spiking_lfp.kernels.cpu.packing import room_for
from spiking_lfp.kernels.cpu.simd import count_bits, prefetch
from spiking_lfp.kernels.cpu.threads import follow_torch_threads
from spiking_lfp.kernels.layout import empty, flat, packed
from spiking_lfp.neurons import LIFNeuron, State, Trace
from spiking_lfp.neurons.base import Q, SumsBySign
from spiking_lfp.rules import Epsilon, Rule

Array = NDArray[Any]
# membranes of one tile of neurons over all steps: half a second-level cache
TILE_VALUES = 65_536


@njit(inline="always")
@no_type_check
def lanes(neuron: int, neurons: int) -> int:
    """Return a word with a bit for each of the 64 neurons from this one on, unset beyond the last."""
    return ~np.uint64(0) >> np.uint64(max(0, neuron + 64 - neurons))


@njit(inline="always")
@no_type_check
def _ask(x: Array, at: int) -> None:
    """Prefetch 64 values: rows of the next step lie too far away for the processor to guess them."""
    for n in range(0, 64, 64 // x.itemsize):
        prefetch(x, at + n)


@njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _forward(
    current: Array, final: Array, beta: Array, threshold: Array, drop: Array, zero: bool, spikes: Array, bits: Array,
    counts: Array,
) -> None:  # fmt: skip
    """Run from `final`, the initial membrane, to the final one; `current`, unless constant, becomes the membrane."""
    steps, batch, neurons = spikes.shape
    changes = current.shape[0] == steps
    for sample in prange(batch):
        b = np.intp(sample)  # numba counts such loops unsigned
        for t in range(steps):
            row = t * batch + b
            count = 0
            later = batch * neurons if t + 1 < steps else 0
            for w in range(bits.shape[1]):
                n = 64 * w
                _ask(spikes, row * neurons + n + later)
                if changes:
                    _ask(current, row * neurons + n + later)
                word = lif_forward(
                    lanes(n, neurons), final, b * neurons + n, current, (row if changes else b) * neurons + n, beta,
                    threshold, drop, n, zero, changes, spikes, row * neurons + n,
                )  # fmt: skip
                bits[row, w] = word
                count += count_bits(word)
            counts[row] = count


@njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _feedback_epsilon(
    membrane: Array, initial: Array, beta: Array, threshold: Array, drop: Array, zero: bool, epsilon: Any,
    spike_feedback: Array, carried: Array, q: Array,
) -> None:  # fmt: skip
    """Write `q`; `carried` is m[T], then m[0]."""
    steps, batch, neurons = spike_feedback.shape
    summed = q.shape[0] < steps
    for sample in prange(batch):
        b = np.intp(sample)  # numba counts such loops unsigned
        for t in range(steps - 1, -1, -1):
            row = t * batch + b
            for n in range(0, neurons, 64):
                at, share, valid = row * neurons + n, (b if summed else row) * neurons + n, lanes(n, neurons)
                if t > 0:
                    earlier = at - batch * neurons
                    _ask(spike_feedback, earlier)
                    if not summed:
                        _ask(q, earlier)
                    if t > 1:
                        _ask(membrane, earlier - batch * neurons)
                    lif_feedback_epsilon(
                        valid, membrane, at, membrane, at - batch * neurons, spike_feedback, at, carried,
                        b * neurons + n, q, share, beta, threshold, drop, n, zero, summed, epsilon,
                    )  # fmt: skip
                else:
                    lif_feedback_epsilon(
                        valid, membrane, at, initial, b * neurons + n, spike_feedback, at, carried,
                        b * neurons + n, q, share, beta, threshold, drop, n, zero, summed, epsilon,
                    )  # fmt: skip


@njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _replayed_feedback_epsilon(
    current: Array, initial: Array, beta: Array, threshold: Array, drop: Array, zero: bool, epsilon: Any,
    spike_feedback: Array, carried: Array, q: Array,
) -> None:  # fmt: skip
    """Write `q` after replaying the membrane from the constant `current`, tile by tile."""
    steps, batch, neurons = spike_feedback.shape
    summed = q.shape[0] < steps
    width = 64 * max(1, min(TILE_VALUES // (steps + 1), neurons + 63) // 64)
    for sample in prange(batch):
        b = np.intp(sample)  # numba counts such loops unsigned
        membrane, spikes = np.zeros((steps + 1) * width, q.dtype), np.empty(64, q.dtype)
        for start in range(0, neurons, width):
            stop = min(start + width, neurons)
            membrane[: stop - start] = initial[b, start:stop]
            for t in range(steps):
                low = (t + 1) * width
                membrane[low : low + width] = membrane[low - width : low]
                for n in range(start, stop, 64):
                    lif_forward(
                        lanes(n, neurons), membrane, low + n - start, current, b * neurons + n, beta, threshold, drop,
                        n, zero, False, spikes, 0,
                    )  # fmt: skip
            for t in range(steps - 1, -1, -1):
                low = t * width - start
                for n in range(start, stop, 64):
                    at, share = (t * batch + b) * neurons + n, ((0 if summed else t) * batch + b) * neurons + n
                    if t > 0:
                        _ask(spike_feedback, at - batch * neurons)
                    lif_feedback_epsilon(
                        lanes(n, neurons), membrane, low + width + n, membrane, low + n, spike_feedback, at, carried,
                        b * neurons + n, q, share, beta, threshold, drop, n, zero, summed, epsilon,
                    )  # fmt: skip


@njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _feedback(
    membrane: Array, initial: Array, beta: Array, threshold: Array, zero: bool, gain: Array, other_gain: Array,
    spike_feedback: Array, carried: Array, q: Array, other_q: Array,
) -> None:  # fmt: skip
    """Write `q`, and `other_q` unless it is empty, by the gains of every step; `carried` is m[T], then m[0]."""
    steps, batch, neurons = spike_feedback.shape
    summed, apart = q.shape[0] < steps, other_q.size > 0
    for sample in prange(batch):
        b = np.intp(sample)  # numba counts such loops unsigned
        for t in range(steps - 1, -1, -1):
            before = membrane[t - 1, b] if t > 0 else initial[b]
            share = 0 if summed else t
            for n in range(neurons):
                rho = spike_feedback[t, b, n] + carried[b, n]
                part = rho * gain[t, b, n]
                mine = part
                if apart:
                    other = rho * other_gain[t, b, n]
                    mine = part if before[n] >= 0 else other
                    other_q[share, b, n] = other_q[share, b, n] + other if summed else other
                q[share, b, n] = q[share, b, n] + part if summed else part
                kept = before[n] if not zero or before[n] <= threshold[n] else before.dtype.type(0)
                carried[b, n] = beta[n] * kept * mine


def flat_array(tensor: Tensor, lead: int) -> Array:
    """View `[*lead, *n]` as an array `[*lead, neurons]`, copied only if it is not packed."""
    array: Array = flat(tensor, lead).numpy()
    return array


def constants(neuron: LIFNeuron, like: Tensor) -> tuple[Array, Array, Array, bool]:
    """Return beta, threshold and what a spike subtracts, for the neurons of `like` `[B, *n]`, and if it zeroes."""
    beta, threshold = (value.to(like.dtype).expand(like.shape[1:]) for value in (neuron.beta, neuron.threshold))
    drop = threshold if neuron.reset == "subtract" else torch.zeros_like(threshold)
    return flat_array(beta, 0), flat_array(threshold, 0), flat_array(drop, 0), neuron.reset == "zero"


def forward(neuron: LIFNeuron, current: Tensor, steps: int, initial: State | None) -> tuple[Tensor, State, Trace]:
    """`LIFNeuron.forward` for float32 and float64; overwrites `current` with the membrane unless it is constant."""
    follow_torch_threads()
    current = packed(current, 2)
    constant = len(current) < steps
    spikes = empty((steps, *current.shape[1:]), current)
    final = torch.zeros_like(current[0]) if initial is None else packed(initial[0], 1).clone()
    record, found = flat_array(current, 2), room_for(spikes)
    _forward(
        record,
        flat_array(final, 1),
        *constants(neuron, final),
        flat_array(spikes, 2),
        found.bits.numpy().view(np.uint64),
        found.counts.numpy(),
    )
    packed_spikes = found.bits, found.counts
    if constant:
        return spikes, (final,), Trace(neuron, steps, initial, None, current, packed=packed_spikes)
    return spikes, (final,), Trace(neuron, steps, initial, (current,), packed=packed_spikes)


def feedback_epsilon(
    trace: Trace,
    spike_feedback: Tensor,
    final_feedback: State | None,
    rule: Epsilon,
    summed: bool,
    sums: SumsBySign | None,
) -> tuple[Q, State]:
    """`LIFNeuron.feedback` with the rule `Epsilon`, for float32 and float64."""
    assert isinstance(trace.neuron, LIFNeuron)
    follow_torch_threads()
    record = packed(trace.record, 2)
    like = record[0]
    q = torch.zeros_like(record[:1]) if summed else empty(spike_feedback.shape, record)
    carried = carried_of(final_feedback, like)
    run = _replayed_feedback_epsilon if trace.states is None else _feedback_epsilon
    run(
        flat_array(record, 2),
        flat_array(torch.zeros_like(like) if trace.initial is None else trace.initial[0], 1),
        *constants(trace.neuron, like),
        like.new_tensor(rule.epsilon).numpy()[()],
        flat_array(spike_feedback, 2),
        flat_array(carried, 1),
        flat_array(q, 2),
    )
    return (q,), (carried,)


def feedback(
    trace: Trace,
    spike_feedback: Tensor,
    final_feedback: State | None,
    rule: Rule,
    summed: bool,
    sums: SumsBySign | None,
) -> tuple[Q, State]:
    """`LIFNeuron.feedback` for any rule, for float32 and float64."""
    neuron, trace = trace.neuron, trace.replayed()
    assert isinstance(neuron, LIFNeuron)
    follow_torch_threads()
    membrane = packed(trace.record, 2)
    gains = [flat_array(gain, 2) for gain in neuron.gains(trace, rule, sums)]
    like = membrane[0]
    carried = carried_of(final_feedback, like)
    q = [torch.zeros_like(membrane[:1]) if summed else empty(spike_feedback.shape, membrane) for _ in gains]
    arrays = [flat_array(each, 2) for each in q]
    beta, threshold, _, zero = constants(neuron, like)
    _feedback(
        flat_array(membrane, 2),
        flat_array(torch.zeros_like(like) if trace.initial is None else trace.initial[0], 1),
        beta,
        threshold,
        zero,
        gains[0],
        gains[-1],
        flat_array(spike_feedback, 2),
        flat_array(carried, 1),
        arrays[0],
        arrays[1] if len(arrays) > 1 else np.empty((0, 0, 0), arrays[0].dtype),
    )
    return tuple(q), (carried,)


def carried_of(final_feedback: State | None, like: Tensor) -> Tensor:
    """Return a copy of the feedback on the final membrane to write to; zeros if there is none."""
    return torch.zeros_like(like) if final_feedback is None else packed(final_feedback[0], 1).clone()
