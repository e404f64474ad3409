"""The LIF recursions of neurons that see each other's spikes, for CPU; equal to `lif` by test.

Event-driven: going forward, a spike adds its row of `V^T` to the currents of the next step; going back, only neurons
that spiked ask what the next step owes them. Samples are shared out among threads; within a thread all its samples take
a step before the next one, so that a tile of `V^T` serves them all while it is in cache.
"""

from typing import Any, no_type_check

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.kernels.cpu.events import TILE_VECTORS, list_bits, tiles_of
from spiking_lfp.kernels.cpu.lif import carried_of, constants, flat_array, lanes
from spiking_lfp.kernels.cpu.neurons import lif_feedback_epsilon, lif_forward
from spiking_lfp.kernels.cpu.packing import room_for
from spiking_lfp.kernels.cpu.simd import count_bits, sum_rows
from spiking_lfp.kernels.cpu.threads import follow_torch_threads
from spiking_lfp.kernels.layout import empty, packed
from spiking_lfp.neurons import RecurrentLIFNeuron, State, Trace
from spiking_lfp.neurons.base import Q, SumsBySign
from spiking_lfp.rules import Epsilon

Array = NDArray[Any]


@njit(inline="always")
@no_type_check
def _list_spikes(membrane: Array, threshold: Array, found: Array) -> int:
    """List the neurons above their threshold, and return how many there are."""
    count = 0
    for n in range(membrane.shape[0]):
        found[count] = n
        count += membrane[n] > threshold[n]
    return count


@njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _forward(
    current: Array, final: Array, beta: Array, threshold: Array, drop: Array, zero: bool, table: Array, parts: int,
    spikes: Array, bits: Array, counts: Array,
) -> None:  # fmt: skip
    """Run from `final`, the initial membrane, to the final one; `current` `[T, B, N]` becomes the membrane."""
    steps, batch, neurons = spikes.shape
    tiles, _, width = table.shape
    for part in prange(parts):
        low, high = np.intp(part) * batch // parts, (np.intp(part) + 1) * batch // parts
        listed, count = np.empty((high - low, neurons + 1), np.uint32), np.empty(high - low, np.intp)
        for b in range(low, high):
            count[b - low] = _list_spikes(final[b], threshold, listed[b - low])
        spare = np.empty(width, current.dtype)
        for t in range(steps):
            for tile in range(tiles):
                base, first = tile * neurons * width, tile * width
                size = min(width, neurons - first)
                for b in range(low, high):
                    at, mine = (t * batch + b) * neurons + first, (b - low) * (neurons + 1)
                    if size == width:
                        sum_rows(table, base, listed, mine, count[b - low], current, at, TILE_VECTORS)
                    else:  # the last tile may be wider than what is left of the neurons
                        spare[:size] = current[t, b, first:]
                        sum_rows(table, base, listed, mine, count[b - low], spare, 0, TILE_VECTORS)
                        current[t, b, first:] = spare[:size]
            for b in range(low, high):
                row, total = t * batch + b, 0
                for w in range(bits.shape[1]):
                    n = 64 * w
                    word = lif_forward(
                        lanes(n, neurons), final, b * neurons + n, current, row * neurons + n, beta, threshold,
                        drop, n, zero, True, spikes, row * neurons + n,
                    )  # fmt: skip
                    bits[row, w] = word
                    total += count_bits(word)
                counts[row] = total
                count[b - low] = list_bits(bits, row, listed[b - low])


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
@no_type_check
def _dot(a: Array, b: Array) -> Any:
    """Return the sum of products, in an order that fills vectors."""
    total = a.dtype.type(0)
    for n in range(a.shape[0]):
        total += a[n] * b[n]
    return total


@njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _feedback_epsilon(
    membrane: Array, initial: Array, beta: Array, threshold: Array, drop: Array, zero: bool, weight: Array, parts: int,
    epsilon: Any, spike_feedback: Array, carried: Array, q: Array,
) -> None:  # fmt: skip
    """Write `q`; `carried` is m[T], then m[0]; `weight` is `V^T`."""
    steps, batch, neurons = q.shape
    for part in prange(parts):
        low, high = np.intp(part) * batch // parts, (np.intp(part) + 1) * batch // parts
        listed = np.empty(neurons + 1, np.uint32)
        for t in range(steps - 1, -1, -1):
            for b in range(low, high):
                row = (t * batch + b) * neurons
                before = membrane[t - 1, b] if t > 0 else initial[b]
                for n in range(0, neurons, 64):
                    lif_feedback_epsilon(
                        lanes(n, neurons), membrane, row + n, before, n, spike_feedback, row + n, carried,
                        b * neurons + n, q, row + n, beta, threshold, drop, n, zero, False, epsilon,
                    )  # fmt: skip
                for k in range(_list_spikes(before, threshold, listed)):
                    carried[b, listed[k]] += _dot(weight[listed[k]], q[t, b])


def forward(
    neuron: RecurrentLIFNeuron, current: Tensor, steps: int, initial: State | None
) -> tuple[Tensor, State, Trace]:
    """`RecurrentLIFNeuron.forward` for float32 and float64; overwrites `current` with the membrane if it changes."""
    follow_torch_threads()
    membrane = packed(current.expand(steps, -1, -1), 2)
    spikes = empty(membrane.shape, current)
    final = torch.zeros_like(membrane[0]) if initial is None else packed(initial[0], 1).clone()
    found = room_for(spikes)
    _forward(
        membrane.numpy(),
        final.numpy(),
        *constants(neuron, final),
        tiles_of(neuron.recurrent, TILE_VECTORS),
        min(get_num_threads(), len(final)),
        spikes.numpy(),
        found.bits.numpy().view(np.uint64),
        found.counts.numpy(),
    )
    return spikes, (final,), Trace(neuron, steps, initial, (membrane,), packed=(found.bits, found.counts))


def feedback_epsilon(
    trace: Trace,
    spike_feedback: Tensor,
    final_feedback: State | None,
    rule: Epsilon,
    summed: bool,
    sums: SumsBySign | None,
) -> tuple[Q, State]:
    """`RecurrentLIFNeuron.feedback` with the rule `Epsilon`, for float32 and float64."""
    assert isinstance(trace.neuron, RecurrentLIFNeuron)
    assert not summed, "what a step hands on depends on the step before"
    follow_torch_threads()
    membrane = packed(trace.record, 2)
    like = membrane[0]
    carried = carried_of(final_feedback, like)
    q = empty(membrane.shape, membrane)
    _feedback_epsilon(
        membrane.numpy(),
        flat_array(torch.zeros_like(like) if trace.initial is None else trace.initial[0], 1),
        *constants(trace.neuron, like),
        flat_array(trace.neuron.recurrent.T, 1),
        min(get_num_threads(), len(like)),
        like.new_tensor(rule.epsilon).numpy()[()],
        flat_array(spike_feedback, 2),
        carried.numpy(),
        q.numpy(),
    )
    return (q,), (carried,)
