"""The LIF recursions and spike pooling for CPU, compiled by numba; equal to `lif` and torch by test.

Bound by memory: each kernel passes once over what it reads and writes, and keeps the rest in cache. Rows of the batch
run in parallel, neurons are vectorised. No fast-math: the operations and their order are those of the reference.
Images are kept with their channels last in memory, which is where convolutions are fastest.
"""

from typing import Any, no_type_check

import numba
import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.kernels.layout import empty, first, flat, last, packed
from spiking_lfp.kernels.simd import lowest_bit, nonzeros
from spiking_lfp.lif import Neuron, Trace

Array = NDArray[Any]
# membranes of one tile of neurons over all steps: half a second-level cache
TILE_VALUES = 65_536


@njit(inline="always")
@no_type_check
def _next_membrane(before: Any, current: Any, beta: Any, threshold: Any, drop: Any, zero: bool, nought: Any) -> Any:
    fired = before > threshold
    return (beta * (nought if fired & zero else before) + current) - (drop if fired else nought)


@njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _forward(
    current: Array, final: Array, beta: Array, threshold: Array, drop: Array, zero: bool, membrane: Array, spikes: Array
) -> None:
    """Run from `final`, which holds the initial membrane; `membrane` is `current`, or empty where it is not kept."""
    steps, batch, neurons = spikes.shape
    changes = 1 if current.shape[0] == steps else 0
    keep = membrane.shape[0] > 0
    nought, one = spikes.dtype.type(0), spikes.dtype.type(1)
    for b in prange(batch):
        before = final[b]
        for t in range(steps):
            arrived, fired = current[t * changes, b], spikes[t, b]
            for n in range(neurons):
                u = _next_membrane(before[n], arrived[n], beta[n], threshold[n], drop[n], zero, nought)
                before[n] = u
                fired[n] = one if u > threshold[n] else nought
            if keep:
                membrane[t, b] = before


@njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _feedback_epsilon(
    record: Array,
    replay: bool,
    initial: Array,
    beta: Array,
    threshold: Array,
    drop: Array,
    zero: bool,
    epsilon: Any,
    spike_feedback: Array,
    carried: Array,
    q: Array,
) -> None:
    """Write `q`; `record` is the membrane, or the constant current to replay it from; `carried` is m[T], then m[0]."""
    steps, batch, neurons = spike_feedback.shape
    summed = q.shape[0] < steps
    nought = q.dtype.type(0)
    width = max(64, TILE_VALUES // (steps + 1))
    for b in prange(batch):
        membrane = np.empty((steps + 1, width), q.dtype)
        for start in range(0, neurons, width):
            # slices, so that the compiler sees indices that cannot be negative and vectorises
            stop = min(start + width, neurons)
            decay, fire, lost, hold = beta[start:stop], threshold[start:stop], drop[start:stop], carried[b, start:stop]
            membrane[0, : stop - start] = initial[b, start:stop]
            for t in range(steps):
                if replay:
                    current, before, after = record[0, b, start:stop], membrane[t], membrane[t + 1]
                    for i in range(stop - start):
                        after[i] = _next_membrane(before[i], current[i], decay[i], fire[i], lost[i], zero, nought)
                else:
                    membrane[t + 1, : stop - start] = record[t, b, start:stop]
            for t in range(steps - 1, -1, -1):
                before, after = membrane[t], membrane[t + 1]
                reward = spike_feedback[t, b, start:stop]
                share = q[0 if summed else t, b, start:stop]
                for i in range(stop - start):
                    fired = before[i] > fire[i]
                    total = after[i] + (lost[i] if fired else nought)
                    total += decay[i] * before[i] if fired & zero else nought
                    q_t = (reward[i] + hold[i]) / (abs(before[i]) + abs(total - before[i]) + epsilon)
                    hold[i] = decay[i] * (nought if fired & zero else before[i]) * q_t
                    share[i] = (share[i] if summed else nought) + q_t


@njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _max_pool(x: Array, kernel: int, stride: int, out: Array, winner: Array) -> None:
    """Pool `[N, H, W, C]`; `winner` is the place in the window, counted row by row; the first of equals wins."""
    images, height, width, channels = out.shape
    columns = x.shape[2] * channels
    for m in prange(images):
        # the best of each column of a window first, since lines are longer than pixels
        upright, above = np.empty(columns, out.dtype), np.empty(columns, np.uint8)
        for i in range(height):
            lines = x[m, i * stride : i * stride + kernel].reshape(kernel, columns)
            upright[:] = lines[0]
            above[:] = 0
            for k in range(1, kernel):
                line = lines[k]
                for j in range(columns):
                    better = (line[j] > upright[j]) | (line[j] != line[j])  # NaN wins, as in torch
                    upright[j] = line[j] if better else upright[j]
                    above[j] = kernel * k if better else above[j]
            for j in range(width):
                best, where = out[m, i, j], winner[m, i, j]
                start = j * stride * channels
                best[:] = upright[start : start + channels]
                where[:] = above[start : start + channels]
                for k in range(1, kernel):
                    value = upright[start + k * channels : start + (k + 1) * channels]
                    place = above[start + k * channels : start + (k + 1) * channels]
                    for c in range(channels):
                        later = place[c] + k
                        better = (value[c] > best[c]) | (value[c] != value[c])
                        better |= (value[c] == best[c]) & (later < where[c])
                        best[c] = value[c] if better else best[c]
                        where[c] = later if better else where[c]


@njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _max_pool_feedback(feedback: Array, winner: Array, kernel: int, stride: int, out: Array) -> None:
    """Add `feedback` `[N, P * Q * C]`, most of it 0, to `out` `[N, H, W, C]` where the winners were."""
    images, size = feedback.shape
    _, _, columns, channels = winner.shape
    width = out.shape[2]
    # where each window starts in an image, and from there each of its places
    starts = np.empty(size, np.int32)
    for j in range(size):
        line, column = j // channels // columns, j // channels % columns
        starts[j] = (line * width + column) * stride * channels + j % channels
    places = np.empty(kernel * kernel, np.int32)
    for k in range(kernel * kernel):
        places[k] = (k // kernel * width + k % kernel) * channels
    for m in prange(images):
        out[m] = 0
        image, won = out[m].reshape(-1), winner[m].reshape(-1)
        for start in range(0, size, 64):
            if start + 64 <= size:
                word = nonzeros(feedback, m * size + start)
            else:
                word = np.uint64(0)
                for j in range(start, size):
                    word |= np.uint64(feedback[m, j] != 0) << np.uint64(j - start)
            while word:
                j = start + lowest_bit(word)
                word &= word - np.uint64(1)
                image[starts[j] + places[won[j]]] += feedback[m, j]


def follow_torch_threads() -> None:
    """Let torch's thread setting bound numba's threads too."""
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


def _flat(tensor: Tensor, lead: int) -> Array:
    """View `[*lead, *n]` as an array `[*lead, neurons]`, copied only if it is not packed."""
    array: Array = flat(tensor, lead).numpy()
    return array


def _constants(neuron: Neuron, like: Tensor) -> tuple[Array, Array, Array, bool]:
    """Return beta, threshold and what a spike subtracts, for the neurons of `like` `[B, *n]`, and if it zeroes."""
    beta, threshold = (value.to(like.dtype).expand(like.shape[1:]) for value in (neuron.beta, neuron.threshold))
    drop = threshold if neuron.reset == "subtract" else torch.zeros_like(threshold)
    return _flat(beta, 0), _flat(threshold, 0), _flat(drop, 0), neuron.reset == "zero"


def forward(current: Tensor, steps: int, neuron: Neuron, initial: Tensor | None) -> tuple[Tensor, Tensor, Trace]:
    """`lif.forward` for float32 and float64; overwrites `current` with the membrane unless it is constant."""
    follow_torch_threads()
    current = packed(current, 2)
    constant = len(current) < steps
    spikes = empty((steps, *current.shape[1:]), current)
    final = torch.zeros_like(current[0]) if initial is None else packed(initial, 1).clone()
    record = _flat(current, 2)
    _forward(record, _flat(final, 1), *_constants(neuron, final), record[:0] if constant else record, _flat(spikes, 2))
    trace = Trace(neuron, steps, initial, None if constant else current, current if constant else None)
    return spikes, final, trace


def feedback_epsilon(
    trace: Trace, spike_feedback: Tensor, final_feedback: Tensor | None, epsilon: float, summed: bool
) -> tuple[Tensor, Tensor]:
    """`lif.feedback` with the rule `Epsilon`, for float32 and float64."""
    follow_torch_threads()
    record = packed(trace.record, 2)
    like = record[0]
    initial = torch.zeros_like(like) if trace.initial is None else trace.initial
    carried = torch.zeros_like(like) if final_feedback is None else packed(final_feedback, 1).clone()
    q = torch.zeros_like(record[:1]) if summed else empty(spike_feedback.shape, record)
    _feedback_epsilon(
        _flat(record, 2),
        trace.membrane is None,
        _flat(initial, 1),
        *_constants(trace.neuron, like),
        like.new_tensor(epsilon).numpy()[()],
        _flat(spike_feedback, 2),
        _flat(carried, 1),
        _flat(q, 2),
    )
    return q, carried


def max_pool(x: Tensor, kernel: int, stride: int) -> tuple[Tensor, Tensor]:
    """Pool `[N, C, H, W]`; return the largest values and which of the window's places held them first, as uint8."""
    follow_torch_threads()
    height, width = ((size - kernel) // stride + 1 for size in x.shape[2:])
    out = x.new_empty((len(x), height, width, x.shape[1]))
    winner = torch.empty(out.shape, dtype=torch.uint8)
    _max_pool(last(packed(x, 1), 1).numpy(), kernel, stride, out.numpy(), winner.numpy())
    return first(out, 1), winner


def max_pool_feedback(feedback: Tensor, winner: Tensor, kernel: int, stride: int, shape: torch.Size) -> Tensor:
    """Hand `feedback` `[N, C, P, Q]` to the winners; return it in the `shape` `[N, C, H, W]` of the input."""
    follow_torch_threads()
    out = feedback.new_empty((shape[0], *shape[2:], shape[1]))
    _max_pool_feedback(_flat(feedback, 1), winner.numpy(), kernel, stride, out.numpy())
    return first(out, 1)
