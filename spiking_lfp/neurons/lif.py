"""Leaky integrate-and-fire neurons: the forward recursion and the feedback recursion, in plain torch.

This is the reference; `kernels` holds the same two recursions made fast. Nothing here keeps state.

Shapes: T steps, B batch, `*n` the neurons of a layer. Units: membrane and threshold share those of the input current.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from spiking_lfp.rules import Contributions, Rule

Reset = Literal["subtract", "zero", "none"]
RESETS: tuple[Reset, ...] = get_args(Reset)


@dataclass(frozen=True)
class Neuron:
    """The constants of the dynamics (LFP eq. A.14, A.15).

        U[t] = beta * U[t-1] + I[t] - threshold * S[t-1]      reset "subtract", delayed by one step
        U[t] = beta * U[t-1] * (1 - S[t-1]) + I[t]            reset "zero"
        U[t] = beta * U[t-1] + I[t]                           reset "none"
        S[t] = 1 if U[t] > threshold else 0                   strictly greater; U[-1] = S[-1] = 0

    Where neurons see each other, `I[t] + V S[t-1]` stands for `I[t]`.

    Attributes:
        beta: decay per step, 0 < beta <= 1; scalar tensor or one value per neuron, broadcastable to `*n`.
        threshold: greater than 0; likewise.
        reset: which of the three lines.
        recurrent: `V`, `[n, n]` from the layer's own spikes of the step before, or None.
    """

    beta: Tensor
    threshold: Tensor
    reset: Reset
    recurrent: Tensor | None = None


@dataclass(frozen=True)
class Trace:
    """What a LIF layer did, whoever ran it: this package, a simulator, a chip. All that its feedback needs.

    Spikes are not kept: they are `membrane > neuron.threshold`. With constant input the membrane is not kept either,
    since replaying it costs less than storing it, but for recurrent neurons. Exactly one of `membrane` and `current` is
    given.

    Attributes:
        neuron: the constants the membrane followed.
        steps: T.
        initial: `U[-1]`, `[B, *n]`, or None for zero.
        membrane: `U`, before any reset of the same step, `[T, B, *n]`.
        current: the current of all steps, `[1, B, *n]`.
        packed: the spikes once more, as bits and as a count for each step and sample, if the kernel packed them.
    """

    neuron: Neuron
    steps: int
    initial: Tensor | None
    membrane: Tensor | None
    current: Tensor | None = None
    packed: tuple[Tensor, Tensor] | None = None

    @property
    def record(self) -> Tensor:
        """The tensor that is kept: membrane or current."""
        record = self.current if self.membrane is None else self.membrane
        assert record is not None
        return record

    def spikes_before(self) -> Float[Tensor, "steps batch *n"]:
        """Return `S[t-1]` for every step `t` of a recorded membrane."""
        spikes = torch.empty_like(self.record)
        spikes[0] = 0 if self.initial is None else self.initial > self.neuron.threshold
        torch.gt(self.record[:-1], self.neuron.threshold, out=spikes[1:])  # in one pass, without a truth value each
        return spikes


def forward(
    current: Float[Tensor, "time batch *n"],
    steps: int,
    neuron: Neuron,
    initial: Float[Tensor, "batch *n"] | None,
) -> tuple[Float[Tensor, "steps batch *n"], Float[Tensor, "batch *n"], Trace]:
    """Run the neurons.

    Args:
        current: `I = W x + b`, `[T, B, *n]`, or `[1, B, *n]` for the same current in all steps.
        steps: T.
        neuron: constants of the dynamics.
        initial: `U[-1]`, or None for zero.

    Returns:
        spikes `[T, B, *n]`, exactly 0 or 1; the final membrane `[B, *n]`; and the trace.
    """
    constant = len(current) < steps and neuron.recurrent is None
    membrane = _membrane(current, steps, neuron, initial)
    trace = Trace(neuron, steps, initial, None if constant else membrane, current if constant else None)
    return (membrane > neuron.threshold).to(membrane.dtype), membrane[-1].clone(), trace


def _membrane(current: Tensor, steps: int, neuron: Neuron, initial: Tensor | None) -> Tensor:
    membrane = current.new_empty((steps, *current.shape[1:]))
    before = torch.zeros_like(current[0]) if initial is None else initial
    for t in range(steps):
        arrived = current[t % len(current)]
        fired = (before > neuron.threshold).to(before.dtype)
        if neuron.recurrent is not None:
            arrived = arrived + fired @ neuron.recurrent.T
        if neuron.reset == "subtract":
            before = neuron.beta * before + arrived - fired * neuron.threshold
        elif neuron.reset == "zero":
            before = neuron.beta * before.masked_fill(before > neuron.threshold, 0) + arrived
        else:
            before = neuron.beta * before + arrived
        membrane[t] = before
    return membrane


def feedback(
    trace: Trace,
    spike_feedback: Float[Tensor, "steps batch *n"],
    final_feedback: Float[Tensor, "batch *n"] | None,
    rule: Rule,
    summed: bool,
    parts: tuple[Float[Tensor, "_ batch *n"], Float[Tensor, "_ batch *n"]] | None = None,
) -> tuple[tuple[Float[Tensor, "time batch *n"], ...], Float[Tensor, "batch *n"]]:
    """Carry feedback back through time (LFP eq. 2, 3 applied to eq. A.15).

        rho[t] = r_S[t] + m[t+1]        q[t] = rho[t] * gain[t]        m[t] = beta * U[t-1] * q[t]

    Where neurons see each other, `S[t-1] * (V^T q[t])` is feedback on their spikes: it joins `m[t]` on its way to
    `rho[t-1]`, and so reaches a part of the sequence that ran before through its final membrane.

    The output of a spiking neuron is 0 or 1, so rewarding it means "raise U": the sign of z counts as +1.

    Args:
        trace: what the neurons did.
        spike_feedback: `r_S`, feedback on the spikes.
        final_feedback: `m[T]`, feedback on the final membrane, or None for zero.
        rule: gives the gain.
        summed: return `q` summed over time, `[1, B, *n]`.
        parts: for rules that need them, the sizes of the positive and of the negative parts of `W x[t] + b`, for every
            step or one for all; the other contributions are known from the trace.

    Returns:
        `q` for the synapse, alone or one for positive and one for negative contributions; and `m[0]`, the feedback on
        the initial membrane.
    """
    neuron, steps = trace.neuron, trace.steps
    membrane = whole_membrane(trace)
    gains = all_gains(trace, membrane, rule, parts)
    shares: list[list[Tensor]] = []
    carried = torch.zeros_like(membrane[0]) if final_feedback is None else final_feedback
    for t in reversed(range(steps)):
        before = membrane[t - 1] if t > 0 else initial_membrane(trace)
        fired = before > neuron.threshold
        rho = spike_feedback[t] + carried
        q_t = [rho * gain[t] for gain in gains]
        survived = before.masked_fill(fired, 0) if neuron.reset == "zero" else before
        carried = neuron.beta * survived * (q_t[0] if len(q_t) == 1 else torch.where(before >= 0, q_t[0], q_t[1]))
        if neuron.recurrent is not None:
            carried = carried + fired * _owed(q_t, neuron.recurrent)
        if summed and shares:
            shares[0] = [one + other for one, other in zip(shares[0], q_t, strict=True)]
        else:
            shares.append(q_t)
    return tuple(torch.stack(each[::-1]) for each in zip(*shares, strict=True)), carried


def whole_membrane(trace: Trace) -> Float[Tensor, "steps batch *n"]:
    """Return the membrane of every step, replayed where only the current was kept."""
    if trace.membrane is not None:
        return trace.membrane
    return _membrane(trace.record, trace.steps, trace.neuron, trace.initial)


def initial_membrane(trace: Trace) -> Float[Tensor, "batch *n"]:
    """Return `U[-1]`."""
    return torch.zeros_like(trace.record[0]) if trace.initial is None else trace.initial


def all_gains(
    trace: Trace, membrane: Tensor, rule: Rule, parts: tuple[Tensor, Tensor] | None
) -> tuple[Float[Tensor, "steps batch *n"], ...]:
    """Return the gain of every step by the rule: contributions, and so gains, do not depend on feedback."""
    neuron = trace.neuron
    previous = torch.cat([initial_membrane(trace)[None], membrane[:-1]])
    # V[t] is taken from U[t] by undoing the reset, so that a recorded membrane is enough
    total = membrane
    if neuron.reset != "none":
        fired = previous > neuron.threshold
        total = membrane + fired * (neuron.threshold if neuron.reset == "subtract" else neuron.beta * previous)
    if parts is not None:
        positive, negative = parts
        kept = neuron.beta * previous
        positive, negative = positive + kept.clamp(min=0), negative - kept.clamp(max=0)
        if neuron.recurrent is not None:
            spikes = (previous > neuron.threshold).to(membrane.dtype)
            positive = positive + spikes @ neuron.recurrent.clamp(min=0).T
            negative = negative - spikes @ neuron.recurrent.clamp(max=0).T
        parts = positive, negative
    gain = rule.gain(Contributions(total, previous, parts))
    return gain if isinstance(gain, tuple) else (gain,)


def _owed(q: list[Tensor], recurrent: Tensor) -> Tensor:
    """Return `V^T q`, where positive and negative weights may have a `q` of their own."""
    if len(q) == 1:
        return q[0] @ recurrent
    return q[0] @ recurrent.clamp(min=0) + q[1] @ recurrent.clamp(max=0)
