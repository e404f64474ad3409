"""The LIF recursions and spike pooling for CPU, compiled by numba; equal to `lif` and torch by test.

Bound by memory: each kernel passes once over what it reads and writes, and keeps the rest in cache. Rows of the batch
run in parallel, neurons are vectorised. No fast-math: the operations and their order are those of the reference.
Images are kept with their channels last in memory, which is where convolutions are fastest.
"""

from collections.abc import Sequence
from typing import Any, no_type_check

import numba
import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

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
    """Pool `[N, H, W, C]`; `winner` is the place in the window, counted row by row."""
    images, height, width, channels = out.shape
    for m in prange(images):
        for i in range(height):
            for j in range(width):
                best, where = out[m, i, j], winner[m, i, j]
                best[:] = x[m, i * stride, j * stride]
                where[:] = 0
                for k in range(1, kernel * kernel):
                    value = x[m, i * stride + k // kernel, j * stride + k % kernel]
                    for c in range(channels):
                        better = (value[c] > best[c]) | (value[c] != value[c])  # NaN wins, as in torch
                        best[c] = value[c] if better else best[c]
                        where[c] = k if better else where[c]


@njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _max_pool_feedback(feedback: Array, winner: Array, kernel: int, stride: int, out: Array) -> None:
    images, height, width, channels = feedback.shape
    nought = out.dtype.type(0)
    for m in prange(images):
        out[m] = nought
        for i in range(height):
            for j in range(width):
                reward, where = feedback[m, i, j], winner[m, i, j]
                for k in range(kernel * kernel):
                    place = out[m, i * stride + k // kernel, j * stride + k % kernel]
                    for c in range(channels):
                        place[c] += reward[c] if where[c] == k else nought


def _follow_torch_threads() -> None:
    """Let torch's thread setting bound numba's threads too."""
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


def _last(tensor: Tensor, lead: int) -> Tensor:
    """Show images `[*lead, C, H, W]` as `[*lead, H, W, C]`, other tensors as they are."""
    return tensor.movedim(lead, -1) if tensor.dim() == lead + 3 else tensor


def _first(tensor: Tensor, lead: int) -> Tensor:
    """Undo `_last`."""
    return tensor.movedim(-1, lead) if tensor.dim() == lead + 3 else tensor


def _packed(tensor: Tensor, lead: int) -> Tensor:
    """Return `tensor` laid out as all kernels have it: contiguous, images with their channels last."""
    return _first(_last(tensor.detach(), lead).contiguous(), lead)


def _empty(shape: Sequence[int], like: Tensor) -> Tensor:
    """Make a packed tensor `[T, B, *n]`."""
    steps, batch, *neurons = shape
    order = [*neurons[1:], neurons[0]] if len(neurons) == 3 else neurons
    return _first(like.new_empty((steps, batch, *order)), 2)


def _flat(tensor: Tensor, lead: int) -> Array:
    """View `[*lead, *n]` as an array `[*lead, neurons]`, copied only if it is not packed."""
    array: Array = _last(_packed(tensor, lead), lead).flatten(lead).numpy()
    return array


def _constants(neuron: Neuron, like: Tensor) -> tuple[Array, Array, Array, bool]:
    """Return beta, threshold and what a spike subtracts, for the neurons of `like` `[B, *n]`, and if it zeroes."""
    beta, threshold = (value.to(like.dtype).expand(like.shape[1:]) for value in (neuron.beta, neuron.threshold))
    drop = threshold if neuron.reset == "subtract" else torch.zeros_like(threshold)
    return _flat(beta, 0), _flat(threshold, 0), _flat(drop, 0), neuron.reset == "zero"


def forward(current: Tensor, steps: int, neuron: Neuron, initial: Tensor | None) -> tuple[Tensor, Tensor, Trace]:
    """`lif.forward` for float32 and float64; overwrites `current` with the membrane unless it is constant."""
    _follow_torch_threads()
    current = _packed(current, 2)
    constant = len(current) < steps
    spikes = _empty((steps, *current.shape[1:]), current)
    final = torch.zeros_like(current[0]) if initial is None else _packed(initial, 1).clone()
    flat = _flat(current, 2)
    _forward(flat, _flat(final, 1), *_constants(neuron, final), flat[:0] if constant else flat, _flat(spikes, 2))
    trace = Trace(neuron, steps, initial, None if constant else current, current if constant else None)
    return spikes, final, trace


def feedback_epsilon(
    trace: Trace, spike_feedback: Tensor, final_feedback: Tensor | None, epsilon: float, summed: bool
) -> tuple[Tensor, Tensor]:
    """`lif.feedback` with the rule `Epsilon`, for float32 and float64."""
    _follow_torch_threads()
    record = _packed(trace.record, 2)
    like = record[0]
    initial = torch.zeros_like(like) if trace.initial is None else trace.initial
    carried = torch.zeros_like(like) if final_feedback is None else _packed(final_feedback, 1).clone()
    q = torch.zeros_like(record[:1]) if summed else _empty(spike_feedback.shape, record)
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
    _follow_torch_threads()
    height, width = ((size - kernel) // stride + 1 for size in x.shape[2:])
    out = x.new_empty((len(x), height, width, x.shape[1]))
    winner = torch.empty(out.shape, dtype=torch.uint8)
    _max_pool(_last(_packed(x, 1), 1).numpy(), kernel, stride, out.numpy(), winner.numpy())
    return _first(out, 1), winner


def max_pool_feedback(feedback: Tensor, winner: Tensor, kernel: int, stride: int, shape: torch.Size) -> Tensor:
    """Hand `feedback` `[N, C, P, Q]` to the winners; return it in the `shape` `[N, C, H, W]` of the input."""
    _follow_torch_threads()
    out = feedback.new_empty((shape[0], *shape[2:], shape[1]))
    _max_pool_feedback(_last(_packed(feedback, 1), 1).numpy(), winner.numpy(), kernel, stride, out.numpy())
    return _first(out, 1)
