"""The recursions over time, forward and back, of any neuron: the loops over steps, samples and tiles of neurons.

A neuron brings its constants as a named tuple, one value per neuron in each array, with two methods that take 64
neurons a step on and a step back (`lif.Constants` is the model). The operations and their order are those of the
reference: nothing is contracted or reordered.

Bound by memory: each kernel passes once over what it reads and writes, and keeps the rest in cache. Samples run in
parallel, neurons are vectorised; 64 comparisons become one word of spikes.

Shapes: T steps, B batch, N neurons, S states of a neuron: states are `[S, B, N]`, records of them `[S, T, B, N]`.
"""

from typing import Any, Protocol, no_type_check, runtime_checkable

import numpy as np
import torch
from numba import types
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.kernels.compilation import kernel
from spiking_lfp.kernels.cpu.packing import room_for
from spiking_lfp.kernels.cpu.rows import count_bits, lanes, prefetch
from spiking_lfp.kernels.cpu.threads import all_threads, in_threads
from spiking_lfp.kernels.cpu.vectors import Memory, Value, Writer, vector_function
from spiking_lfp.kernels.layout import channels_last, empty_channels_last, flat, show_channels_first, show_channels_last
from spiking_lfp.neurons import Neuron, State, Trace
from spiking_lfp.neurons.base import Q

Array = NDArray[Any]
States = tuple[Value, ...]
# values of one tile of neurons over all steps: half a second-level cache
TILE_VALUES = 65_536


@runtime_checkable
class Neurons(Protocol):
    """The constants of 64 neurons, as vectors, and what they do."""

    @property
    def states(self) -> int:
        """S."""
        ...

    def forward(self, v: Writer, before: States, current: Value) -> tuple[States, Value]:
        """Return the states a step later, and where there is a spike."""
        ...

    def feedback_epsilon(
        self, v: Writer, before: States, after: States, spike_feedback: Value, carried: States, epsilon: Value
    ) -> tuple[Value, States]:
        """Return `q` of a step, and the feedback on the states before it, by LFP-epsilon.

        Args:
            v: writes the instructions.
            before: states before the step.
            after: states after it.
            spike_feedback: feedback on its spikes.
            carried: feedback on the states after it.
            epsilon: of the rule.
        """
        ...


def _at(v: Writer, constants: Any, n: Value) -> Neurons:
    """Return the constants of 64 neurons."""
    loaded: Neurons = constants._make(v.load(each[n]) if isinstance(each, Memory) else each for each in constants)
    return loaded


def _places(memory: Memory, place: Value, apart: Value, states: int) -> list[Memory]:
    """Return where each state of 64 neurons stands, if that of the first is `place`."""
    return [memory[place], *(memory[place + apart * k] for k in range(1, states))]


@vector_function(lanes=64, mask="valid", returns=types.uint64)
def step_forward(
    v: Writer, valid: Value, before: Memory, place: Value, after: Memory, to: Value, apart: Value, current: Memory,
    arrived: Value, keep: Value, records: Memory, row: Value, records_apart: Value, constants: Any, n: Value,
    spikes: Memory, fired: Value,
) -> Value:  # fmt: skip
    """Take neurons a step on, from `n` on those whose bits are set in `valid`, and return their spikes as a word.

    From the states `before[place:]` to `after[to:]`, with `current[arrived:]`; they are written to `records[row:]` too
    if `keep`, and spikes to `spikes[fired:]`.
    """
    neurons = _at(v, constants, n)
    states = tuple(v.load(each) for each in _places(before, place, apart, neurons.states))
    states, spike = neurons.forward(v, states, v.load(current[arrived]))
    for state, where in zip(states, _places(after, to, apart, neurons.states), strict=True):
        v.store(state, where)
    with v.when(keep):
        for state, where in zip(states, _places(records, row, records_apart, neurons.states), strict=True):
            v.store(state, where)
    v.store(v.where(spike, 1, 0), spikes[fired])
    return v.bits(spike) & valid


@vector_function(lanes=64, mask="valid")
def step_back(
    v: Writer, valid: Value, records: Memory, later: Value, earlier: Value, records_apart: Value, first: Value,
    initial: Memory, spike_feedback: Memory, given: Value, carried: Memory, place: Value, apart: Value, q: Memory,
    share: Value, add: Value, constants: Any, n: Value, epsilon: Value,
) -> None:  # fmt: skip
    """Take neurons a step back, from `n` on those whose bits are set in `valid`, with LFP-epsilon.

    Their states are `records[later:]`, before the step `records[earlier:]`, or `initial[place:]` if it is the `first`.
    The feedback `carried[place:]` on the former becomes that on the latter. `q[share:]` is written, or added to.
    """
    neurons = _at(v, constants, n)
    after = tuple(v.load(each) for each in _places(records, later, records_apart, neurons.states))
    initials = _places(initial, place, apart, neurons.states)
    recorded = _places(records, earlier, records_apart, neurons.states)
    before = tuple(v.load(v.either(first, *both)) for both in zip(initials, recorded, strict=True))
    feedback_at = _places(carried, place, apart, neurons.states)
    feedback = tuple(v.load(each) for each in feedback_at)
    part, feedback = neurons.feedback_epsilon(v, before, after, v.load(spike_feedback[given]), feedback, epsilon)
    for state, where in zip(feedback, feedback_at, strict=True):
        v.store(state, where)
    v.branch(add, lambda: v.store(v.load(q[share]) + part, q[share]), lambda: v.store(part, q[share]))


@kernel
@no_type_check
def forward(
    begin: int, end: int, current: Array, state: Array, records: Array, constants: Any, spikes: Array, bits: Array,
    counts: Array,
) -> None:  # fmt: skip
    """Run samples from the states before to the last ones, both in `state`.

    `records` is written unless the current `[T or 1, B, N]` is constant; it may be the current's own memory.
    """
    if in_threads(begin, end):
        return
    steps, batch, neurons = spikes.shape
    changes, size = current.shape[0] == steps, batch * neurons
    for b in range(begin, end):
        for t in range(steps):
            row = t * batch + b
            count = 0
            later = size if t + 1 < steps else 0
            for w in range(bits.shape[1]):
                n = 64 * w
                at, place = row * neurons + n, b * neurons + n
                prefetch(spikes, at + later)
                if changes:
                    prefetch(current, at + later)
                word = step_forward(
                    lanes(n, neurons), state, place, state, place, size, current, at if changes else place, changes,
                    records, at, steps * size, constants, n, spikes, at,
                )  # fmt: skip
                bits[row, w] = word
                count += count_bits(word)
            counts[row] = count


@kernel
@no_type_check
def feedback_epsilon(
    begin: int, end: int, records: Array, initial: Array, constants: Any, epsilon: Any, spike_feedback: Array,
    carried: Array, q: Array,
) -> None:  # fmt: skip
    """Write `q` `[T or 1, B, N]`; `carried` is the feedback on the last states, then on those before."""
    if in_threads(begin, end):
        return
    steps, batch, neurons = spike_feedback.shape
    summed, size = q.shape[0] < steps, batch * neurons
    for b in range(begin, end):
        for t in range(steps - 1, -1, -1):
            for n in range(0, neurons, 64):
                place = b * neurons + n
                at = t * size + place
                share = place if summed else at
                step_back(
                    lanes(n, neurons), records, at, at - size, steps * size, t == 0, initial, spike_feedback, at,
                    carried, place, size, q, share, summed, constants, n, epsilon,
                )  # fmt: skip


@kernel
@no_type_check
def replayed_feedback_epsilon(
    begin: int, end: int, current: Array, initial: Array, constants: Any, epsilon: Any, spike_feedback: Array,
    carried: Array, q: Array,
) -> None:  # fmt: skip
    """Write `q` after replaying the states from the constant `current` `[1, B, N]`, tile by tile."""
    if in_threads(begin, end):
        return
    steps, batch, neurons = spike_feedback.shape
    summed, size = q.shape[0] < steps, batch * neurons
    width = 64 * max(1, min(TILE_VALUES // (steps + 1), neurons + 63) // 64)
    apart = (steps + 1) * width
    # all states of a tile over time, first those before the first step
    tile, spikes = np.empty(initial.shape[0] * apart, q.dtype), np.empty(64, q.dtype)
    for b in range(begin, end):
        for start in range(0, neurons, width):
            stop = min(start + width, neurons)
            for k in range(initial.shape[0]):
                for n in range(start, stop):
                    tile[k * apart + n - start] = initial[k, b, n]
            for t in range(steps):
                for n in range(start, stop, 64):
                    low, place = t * width + n - start, b * neurons + n
                    step_forward(
                        lanes(n, neurons), tile, low, tile, low + width, apart, current, place, False, tile, 0, 0,
                        constants, n, spikes, 0,
                    )  # fmt: skip
            for t in range(steps - 1, -1, -1):
                for n in range(start, stop, 64):
                    low, place = t * width + n - start, b * neurons + n
                    at = t * size + place
                    share = place if summed else at
                    step_back(
                        lanes(n, neurons), tile, low + width, low, apart, False, tile, spike_feedback, at, carried,
                        place, size, q, share, summed, constants, n, epsilon,
                    )  # fmt: skip


def flat_array(tensor: Tensor, lead: int) -> Array:
    """View `[*lead, *n]` as an array `[*lead, neurons]`, copied only if it is not packed."""
    array: Array = flat(tensor, lead).numpy()
    return array


def per_neuron(like: Tensor, *constants: Tensor) -> tuple[Array, ...]:
    """Return constants of the neurons of `like` `[B, *n]` as arrays `[N]`."""
    return tuple(flat_array(value.to(like.dtype).expand(like.shape[1:]), 0) for value in constants)


def _room(states: int, like: Tensor, lead: int) -> Tensor:
    """Make room for states like `like` `[*lead, *n]`, one behind the other, `[S, *lead, ...]` with channels last."""
    return like.new_empty((states, *show_channels_last(like, lead).shape))


def _each(room: Tensor, lead: int) -> State:
    """Return the states in this room, `[*lead, *n]`."""
    return tuple(show_channels_first(each, lead) for each in room)


def _array(room: Tensor, lead: int) -> Array:
    """Return the states in this room as an array `[S, *lead, N]`."""
    array: Array = room.flatten(1 + lead).numpy()
    return array


def _at_rest(given: State | None, like: Tensor, states: int) -> Tensor:
    """Return room with copies of states, or of feedback on them; with zeros if none are given."""
    if given is None:
        return like.new_zeros((states, *show_channels_last(like, 1).shape))
    return torch.stack([show_channels_last(each, 1) for each in given])


def _recorded(states: State) -> Array:
    """Return records `[T, B, *n]` as one array `[S, T, B, N]`; those that `run` made lie so already."""
    tensors = [flat(each, 2) for each in states]
    base, size = tensors[0], tensors[0].numel()
    storage, start = base.untyped_storage().data_ptr(), base.storage_offset()
    if all(
        each.untyped_storage().data_ptr() == storage and each.storage_offset() == start + k * size
        for k, each in enumerate(tensors)
    ):
        array: Array = base.as_strided((len(tensors), *base.shape), (size, *base.stride())).numpy()
        return array
    return np.stack([each.numpy() for each in tensors])


def run(
    neuron: Neuron, constants: Any, current: Tensor, steps: int, initial: State | None
) -> tuple[Tensor, State, Trace]:
    """`Neuron.forward` with these constants; overwrites `current` with the membrane if that is all to record."""
    current = channels_last(current, 2)
    changes, states = len(current) == steps, len(neuron.states)
    spikes = empty_channels_last((steps, *current.shape[1:]), current)
    state, found = _at_rest(initial, current[0], states), room_for(spikes)
    records = _room(states, current, 2) if changes and states > 1 else show_channels_last(current, 2)[None]
    forward(
        all_threads(),
        current.shape[1],
        flat_array(current, 2),
        _array(state, 1),
        _array(records, 2),
        constants,
        flat_array(spikes, 2),
        found.bits.numpy().view(np.uint64),
        found.counts.numpy(),
    )
    kept, replayed = (_each(records, 2), None) if changes else (None, current)
    trace = Trace(neuron, steps, initial, kept, replayed, packed=(found.bits, found.counts))
    return spikes, _each(state, 1), trace


def run_back(
    trace: Trace,
    constants: Any,
    spike_feedback: Tensor,
    final_feedback: State | None,
    epsilon: float,
    summed: bool,
) -> tuple[Q, State]:
    """`Neuron.feedback` with the rule `Epsilon` and these constants."""
    record, states = channels_last(trace.record, 2), len(trace.neuron.states)
    like = record[0]
    carried = _at_rest(final_feedback, like, states)
    q = torch.zeros_like(record[:1]) if summed else empty_channels_last(spike_feedback.shape, record)
    back = replayed_feedback_epsilon if trace.states is None else feedback_epsilon
    back(
        all_threads(),
        len(like),
        flat_array(record, 2) if trace.states is None else _recorded(trace.states),
        _array(_at_rest(trace.initial, like, states), 1),
        constants,
        like.new_tensor(epsilon).numpy()[()],
        flat_array(spike_feedback, 2),
        _array(carried, 1),
        flat_array(q, 2),
    )
    return (q,), _each(carried, 1)
