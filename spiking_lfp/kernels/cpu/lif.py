"""LIF neurons for CPU; equal to `neurons.lif` by test.

Images are kept with their channels last in memory, which is where convolutions are fastest.
"""

from typing import Any, NamedTuple, no_type_check

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.kernels.cpu import neurons as recursions
from spiking_lfp.kernels.cpu.neurons import States
from spiking_lfp.kernels.cpu.packing import room_for
from spiking_lfp.kernels.cpu.threads import all_threads, in_threads, kernel
from spiking_lfp.kernels.cpu.vectors import Value, Writer
from spiking_lfp.kernels.layout import empty, flat, packed
from spiking_lfp.neurons.lif import Neuron, Trace, all_gains, initial_membrane, whole_membrane
from spiking_lfp.rules import Rule

Array = NDArray[Any]


class Constants(NamedTuple):
    """What 64 LIF neurons do, and their constants: arrays `[N]` where it is called, vectors where it is written.

    Attributes:
        beta: decay.
        threshold: of spikes.
        drop: what a spike subtracts.
        zero: whether a spike resets to zero.
    """

    beta: Any
    threshold: Any
    drop: Any
    zero: Any

    @property
    def states(self) -> int:
        """The membrane alone."""
        return 1

    def forward(self, v: Writer, before: States, current: Value) -> tuple[States, Value]:
        """Take a step on."""
        (membrane,) = before
        fired = membrane > self.threshold
        kept = v.where(fired & self.zero, 0, membrane)
        membrane = self.beta * kept + current - v.where(fired, self.drop, 0)
        return (membrane,), membrane > self.threshold

    def feedback_epsilon(
        self, v: Writer, before: States, after: States, spike_feedback: Value, carried: States, epsilon: Value
    ) -> tuple[Value, States]:
        """Take a step back."""
        (membrane,) = before
        fired = membrane > self.threshold
        zeroed = fired & self.zero
        # V[t], from U[t] by undoing the reset
        total = after[0] + v.where(fired, self.drop, 0)
        total = total + v.where(zeroed, self.beta * membrane, 0)
        parts = abs(membrane) + abs(total - membrane)
        part = (spike_feedback + carried[0]) / (parts + epsilon)
        return part, (self.beta * v.where(zeroed, 0, membrane) * part,)


@kernel
@no_type_check
def _feedback(
    begin: int, end: int, membrane: Array, initial: Array, beta: Array, threshold: Array, zero: bool, gain: Array,
    other_gain: Array, spike_feedback: Array, carried: Array, q: Array, other_q: Array,
) -> None:  # fmt: skip
    """Write `q`, and `other_q` unless it is empty, by the gains of every step; `carried` is m[T], then m[0]."""
    if in_threads(begin, end):
        return
    steps, _, neurons = spike_feedback.shape
    summed, apart = q.shape[0] < steps, other_q.size > 0
    for b in range(begin, end):
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


def constants(neuron: Neuron, like: Tensor) -> Constants:
    """Return the constants of the neurons of `like` `[B, *n]`."""
    beta, threshold = (value.to(like.dtype).expand(like.shape[1:]) for value in (neuron.beta, neuron.threshold))
    drop = threshold if neuron.reset == "subtract" else torch.zeros_like(threshold)
    return Constants(flat_array(beta, 0), flat_array(threshold, 0), flat_array(drop, 0), neuron.reset == "zero")


def forward(current: Tensor, steps: int, neuron: Neuron, initial: Tensor | None) -> tuple[Tensor, Tensor, Trace]:
    """`lif.forward` for float32 and float64; overwrites `current` with the membrane unless it is constant."""
    current = packed(current, 2)
    constant = len(current) < steps
    spikes = empty((steps, *current.shape[1:]), current)
    final = torch.zeros_like(current[0]) if initial is None else packed(initial, 1).clone()
    record, found = flat_array(current, 2), room_for(spikes)
    recursions.forward(
        all_threads(),
        len(final),
        record,
        flat_array(final, 1)[None],
        record[None],
        constants(neuron, final),
        flat_array(spikes, 2),
        found.bits.numpy().view(np.uint64),
        found.counts.numpy(),
    )
    packed_spikes = found.bits, found.counts
    if constant:
        return spikes, final, Trace(neuron, steps, initial, None, current, packed_spikes)
    return spikes, final, Trace(neuron, steps, initial, current, None, packed_spikes)


def feedback_epsilon(
    trace: Trace, spike_feedback: Tensor, final_feedback: Tensor | None, epsilon: float, summed: bool
) -> tuple[Tensor, Tensor]:
    """`lif.feedback` with the rule `Epsilon`, for float32 and float64."""
    record = packed(trace.record, 2)
    like = record[0]
    initial = torch.zeros_like(like) if trace.initial is None else trace.initial
    carried = torch.zeros_like(like) if final_feedback is None else packed(final_feedback, 1).clone()
    q = torch.zeros_like(record[:1]) if summed else empty(spike_feedback.shape, record)
    run = recursions.replayed_feedback_epsilon if trace.membrane is None else recursions.feedback_epsilon
    run(
        all_threads(),
        len(like),
        flat_array(record, 2)[None] if trace.membrane is not None else flat_array(record, 2),
        flat_array(initial, 1)[None],
        constants(trace.neuron, like),
        like.new_tensor(epsilon).numpy()[()],
        flat_array(spike_feedback, 2),
        flat_array(carried, 1)[None],
        flat_array(q, 2),
    )
    return q, carried


def feedback(
    trace: Trace,
    spike_feedback: Tensor,
    final_feedback: Tensor | None,
    rule: Rule,
    summed: bool,
    parts: tuple[Tensor, Tensor] | None,
) -> tuple[tuple[Tensor, ...], Tensor]:
    """`lif.feedback` for any rule, for float32 and float64."""
    membrane = packed(whole_membrane(trace), 2)
    gains = [flat_array(gain, 2) for gain in all_gains(trace, membrane, rule, parts)]
    like = membrane[0]
    carried = torch.zeros_like(like) if final_feedback is None else packed(final_feedback, 1).clone()
    q = [torch.zeros_like(membrane[:1]) if summed else empty(spike_feedback.shape, membrane) for _ in gains]
    arrays = [flat_array(each, 2) for each in q]
    constant = constants(trace.neuron, like)
    _feedback(
        all_threads(),
        len(like),
        flat_array(membrane, 2),
        flat_array(initial_membrane(trace), 1),
        constant.beta,
        constant.threshold,
        constant.zero,
        gains[0],
        gains[-1],
        flat_array(spike_feedback, 2),
        flat_array(carried, 1),
        arrays[0],
        arrays[1] if len(arrays) > 1 else np.empty((0, 0, 0), arrays[0].dtype),
    )
    return tuple(q), carried
