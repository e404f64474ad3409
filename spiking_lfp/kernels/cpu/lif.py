"""LIF neurons for CPU; equal to `neurons.lif` by test.

Images are kept with their channels last in memory, which is where convolutions are fastest.
"""

from typing import Any, NamedTuple, no_type_check

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.kernels.compilation import kernel
from spiking_lfp.kernels.cpu import recursions
from spiking_lfp.kernels.cpu.recursions import States, flat_array, per_neuron
from spiking_lfp.kernels.cpu.threads import all_threads, in_threads
from spiking_lfp.kernels.cpu.vectors import Value, Writer
from spiking_lfp.kernels.layout import channels_last, empty_channels_last
from spiking_lfp.neurons import LIFNeuron, State, Trace
from spiking_lfp.neurons.base import Q, SumsBySign
from spiking_lfp.rules import Epsilon, Rule

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


def constants(neuron: LIFNeuron, like: Tensor) -> Constants:
    """Return the constants of the neurons of `like` `[B, *n]`."""
    beta, threshold = per_neuron(like, neuron.beta, neuron.threshold)
    drop = threshold if neuron.reset == "subtract" else np.zeros_like(threshold)
    return Constants(beta, threshold, drop, neuron.reset == "zero")


def at_rest(given: State | None, like: Tensor) -> Tensor:
    """Return a copy of the membrane `[B, *n]`, or of the feedback on it, to write to; zeros if there is none."""
    return torch.zeros_like(like) if given is None else channels_last(given[0], 1).clone()


def forward(neuron: LIFNeuron, current: Tensor, steps: int, initial: State | None) -> tuple[Tensor, State, Trace]:
    """`LIFNeuron.forward` for float32 and float64; overwrites `current` with the membrane unless it is constant."""
    return recursions.run(neuron, constants(neuron, current[0]), current, steps, initial)


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
    given = constants(trace.neuron, trace.record[0])
    return recursions.run_back(trace, given, spike_feedback, final_feedback, rule.epsilon, summed)


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
    membrane = channels_last(trace.record, 2)
    gains = [flat_array(gain, 2) for gain in neuron.gains(trace, rule, sums)]
    like = membrane[0]
    initial, carried = at_rest(trace.initial, like), at_rest(final_feedback, like)
    q = [
        torch.zeros_like(membrane[:1]) if summed else empty_channels_last(spike_feedback.shape, membrane) for _ in gains
    ]
    arrays = [flat_array(each, 2) for each in q]
    given = constants(neuron, like)
    _feedback(
        all_threads(),
        len(like),
        flat_array(membrane, 2),
        flat_array(initial, 1),
        given.beta,
        given.threshold,
        given.zero,
        gains[0],
        gains[-1],
        flat_array(spike_feedback, 2),
        flat_array(carried, 1),
        arrays[0],
        arrays[1] if len(arrays) > 1 else np.empty((0, 0, 0), arrays[0].dtype),
    )
    return tuple(q), (carried,)
