"""The LIF recursions of neurons that see each other's spikes, for CPU; equal to `lif` by test.

Event-driven: going forward, a spike adds its row of `V^T` to the currents of the next step; going back, only neurons
that spiked ask what the next step owes them. Samples are shared out among threads; within a thread all its samples take
a step before the next one, so that a tile of `V^T` serves them all while it is in cache.
"""

from typing import Any, no_type_check

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.kernels.compilation import kernel
from spiking_lfp.kernels.cpu.lif import at_rest, constants
from spiking_lfp.kernels.cpu.packing import room_for
from spiking_lfp.kernels.cpu.recursions import flat_array, step_back, step_forward
from spiking_lfp.kernels.cpu.rows import count_bits, lanes, sum_rows
from spiking_lfp.kernels.cpu.spike_products import TILE_VECTORS, list_bits, tiles_of
from spiking_lfp.kernels.cpu.threads import all_threads, in_threads
from spiking_lfp.kernels.layout import channels_last, empty_channels_last
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


@kernel
@no_type_check
def _forward(
    begin: int, end: int, current: Array, final: Array, constants: Any, table: Array, spikes: Array, bits: Array,
    counts: Array,
) -> None:  # fmt: skip
    """Run from `final`, the initial membrane, to the final one; `current` `[T, B, N]` becomes the membrane."""
    if in_threads(begin, end):
        return
    steps, batch, neurons = spikes.shape
    tiles, _, width = table.shape
    threshold = constants.threshold
    listed, count = np.empty((end - begin, neurons + 1), np.uint32), np.empty(end - begin, np.intp)
    for b in range(begin, end):
        count[b - begin] = _list_spikes(final[b], threshold, listed[b - begin])
    spare = np.empty(width, current.dtype)
    for t in range(steps):
        for tile in range(tiles):
            base, first = tile * neurons * width, tile * width
            size = min(width, neurons - first)
            for b in range(begin, end):
                at, mine = (t * batch + b) * neurons + first, (b - begin) * (neurons + 1)
                if size == width:
                    sum_rows(table, base, listed, mine, count[b - begin], current, at, TILE_VECTORS)
                else:  # the last tile may be wider than what is left of the neurons
                    for o in range(size):
                        spare[o] = current[t, b, first + o]
                    sum_rows(table, base, listed, mine, count[b - begin], spare, 0, TILE_VECTORS)
                    for o in range(size):
                        current[t, b, first + o] = spare[o]
        for b in range(begin, end):
            row, total = t * batch + b, 0
            for w in range(bits.shape[1]):
                n = 64 * w
                at, place = row * neurons + n, b * neurons + n
                word = step_forward(
                    lanes(n, neurons), final, place, final, place, 0, current, at, True, current, at, 0, constants,
                    n, spikes, at,
                )  # fmt: skip
                bits[row, w] = word
                total += count_bits(word)
            counts[row] = total
            count[b - begin] = list_bits(bits, row, listed[b - begin])


@njit(error_model="numpy", fastmath={"reassoc", "contract"})
@no_type_check
def _dot(a: Array, b: Array) -> Any:
    """Return the sum of products, in an order that fills vectors."""
    total = a.dtype.type(0)
    for n in range(a.shape[0]):
        total += a[n] * b[n]
    return total


@kernel
@no_type_check
def _feedback_epsilon(
    begin: int, end: int, membrane: Array, initial: Array, constants: Any, weight: Array, epsilon: Any,
    spike_feedback: Array, carried: Array, q: Array,
) -> None:  # fmt: skip
    """Write `q`; `carried` is m[T], then m[0]; `weight` is `V^T`."""
    if in_threads(begin, end):
        return
    steps, batch, neurons = q.shape
    listed = np.empty(neurons + 1, np.uint32)
    for t in range(steps - 1, -1, -1):
        for b in range(begin, end):
            for n in range(0, neurons, 64):
                place = b * neurons + n
                at = t * batch * neurons + place
                step_back(
                    lanes(n, neurons), membrane, at, at - batch * neurons, 0, t == 0, initial, spike_feedback, at,
                    carried, place, 0, q, at, False, constants, n, epsilon,
                )  # fmt: skip
            before = membrane[t - 1, b] if t > 0 else initial[b]
            for k in range(_list_spikes(before, constants.threshold, listed)):
                carried[b, listed[k]] += _dot(weight[listed[k]], q[t, b])


def forward(
    neuron: RecurrentLIFNeuron, current: Tensor, steps: int, initial: State | None
) -> tuple[Tensor, State, Trace]:
    """`RecurrentLIFNeuron.forward` for float32 and float64; overwrites `current` with the membrane if it changes."""
    membrane = channels_last(current.expand(steps, -1, -1), 2)
    spikes = empty_channels_last(membrane.shape, current)
    final = at_rest(initial, membrane[0])
    found = room_for(spikes)
    _forward(
        all_threads(),
        len(final),
        membrane.numpy(),
        final.numpy(),
        constants(neuron, final),
        tiles_of(neuron.recurrent, TILE_VECTORS),
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
    membrane = channels_last(trace.record, 2)
    like = membrane[0]
    carried = at_rest(final_feedback, like)
    q = empty_channels_last(membrane.shape, membrane)
    _feedback_epsilon(
        all_threads(),
        len(like),
        membrane.numpy(),
        flat_array(at_rest(trace.initial, like), 1),
        constants(trace.neuron, like),
        flat_array(trace.neuron.recurrent.T, 1),
        like.new_tensor(rule.epsilon).numpy()[()],
        flat_array(spike_feedback, 2),
        carried.numpy(),
        q.numpy(),
    )
    return (q,), (carried,)
