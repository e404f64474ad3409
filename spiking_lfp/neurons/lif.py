"""Leaky integrate-and-fire neurons."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from spiking_lfp.integers import IntegerLIF
from spiking_lfp.integers.arithmetic import IntegerReset
from spiking_lfp.neurons.base import (
    KEPT_PART,
    POSITIVE,
    Counterparts,
    Neuron,
    Q,
    Shares,
    State,
    SumsBySign,
    Trace,
    by_sign,
)
from spiking_lfp.rules import Contributions, Rule

Reset = Literal["subtract", "zero", "none"]
RESETS: tuple[Reset, ...] = get_args(Reset)


@dataclass(frozen=True)
class LIFNeuron(Neuron):
    """Leaky integrate-and-fire (LFP eq. A.14, A.15).

        U[t] = beta * U[t-1] + I[t] - threshold * S[t-1]      reset "subtract", delayed by one step
        U[t] = beta * U[t-1] * (1 - S[t-1]) + I[t]            reset "zero"
        U[t] = beta * U[t-1] + I[t]                           reset "none"
        U[t] = beta * (U[t-1] - threshold * S[t-1]) + I[t]    reset "subtract_decayed", of integers
        S[t] = 1 if U[t] > threshold else 0                   strictly greater; U[-1] = S[-1] = 0

    Feedback (LFP eq. 2, 3 applied to eq. A.15), with `V[t]` the membrane before the reset:

        rho[t] = r_S[t] + m[t+1]        q[t] = rho[t] * gain(V[t])        m[t] = beta * U[t-1] * q[t]

    The output of a spiking neuron is 0 or 1, so rewarding it means "raise U": the sign of `V` counts as +1.

    Attributes:
        beta: part of the membrane that a step keeps, 0 < beta <= 1; scalar, or broadcastable to `*n`.
        threshold: greater than 0; likewise.
        reset: which of the lines.

    Example:
        >>> neuron = LIFNeuron(torch.tensor(0.9), torch.tensor(1.0))
        >>> spikes, final, trace = neuron.forward(torch.full((4, 1, 1), 0.6), 4, None)  # currents [T, B, n]
        >>> spikes.flatten().tolist(), [round(each, 3) for each in trace.states[0].flatten().tolist()]
        ([0.0, 1.0, 0.0, 1.0], [0.6, 1.14, 0.626, 1.163])
    """

    beta: Tensor = field(metadata=KEPT_PART)
    threshold: Tensor = field(metadata=POSITIVE)
    reset: Reset | IntegerReset = "subtract"

    counterparts: ClassVar[Counterparts] = Counterparts(
        integer=IntegerLIF,
        decays={"beta": "decay"},
        snntorch="Leaky",
        norse=True,
        nir=("LIF", "IF"),
        time_constants={"beta": ("tau", "r")},
    )

    @property
    def forgets(self) -> bool:
        """Return whether a membrane may lose infinity again."""
        return self.reset == "zero"

    def step(self, state: State, current: Float[Tensor, " batch *n"]) -> State:
        """Return `U[t]`."""
        return (self.membrane(state[0], self.fires(state), current),)

    def membrane(self, before: Tensor, fired: Tensor, current: Tensor) -> Tensor:
        """Return `U[t]` for `U[t-1]` and `S[t-1]`."""
        if self.reset == "subtract":
            return self.beta * before + current - fired.to(before.dtype) * self.threshold
        if self.reset == "zero":
            return self.beta * before.masked_fill(fired, 0) + current
        if self.reset == "subtract_decayed":
            return self.beta * (before - fired.to(before.dtype) * self.threshold) + current
        return self.beta * before + current

    def fires(self, state: State) -> Tensor:
        """Return `S`."""
        return state[0] > self.threshold

    def feedback(
        self,
        trace: Trace,
        spike_feedback: Float[Tensor, "steps batch *n"],
        final_feedback: State | None,
        rule: Rule,
        summed: bool,
        sums: SumsBySign | None = None,
    ) -> tuple[Q, State]:
        """Carry feedback back through time; see `Neuron.feedback`."""
        trace = trace.replayed()
        gains, before, fired = self.gains(trace, rule, sums), trace.before(), trace.spikes_before()
        survived = before.masked_fill(fired > 0, 0) if self.reset == "zero" else before
        carried = torch.zeros_like(before[0]) if final_feedback is None else final_feedback[0]
        shares = Shares(summed)
        for t in reversed(range(trace.steps)):
            rho = spike_feedback[t] + carried
            q = shares.add(rho * gain[t] for gain in gains)
            carried = self.beta * survived[t] * by_sign(q, before[t])
            carried = self.owed(carried, fired[t], q)
        return shares.result(), (carried,)

    def gains(self, trace: Trace, rule: Rule, sums: SumsBySign | None) -> Q:
        """Return the gain of every step by the rule: contributions, and so gains, do not depend on feedback.

        Args:
            trace: with the membrane of every step.
            rule: gives the gain.
            sums: of the current, for rules that need them.
        """
        assert trace.states is not None
        before, total = trace.before(), trace.states[0]
        # V[t] is taken from U[t] by undoing the reset, so that a recorded membrane is enough
        if self.reset != "none":
            taken = self.threshold if self.reset == "subtract" else self.beta * before
            if self.reset == "subtract_decayed":
                taken = self.beta * self.threshold
            total = total + trace.spikes_before() * taken
        if sums is not None:
            sums = self.all_sums(trace, sums)
        return rule.gains(Contributions(total, before, sums))

    def all_sums(self, trace: Trace, sums: SumsBySign) -> SumsBySign:
        """Return `z+` and `|z-|` of `V`: of the current, and of what the membrane kept."""
        kept = self.beta * trace.before()
        return sums[0] + kept.clamp(min=0), sums[1] - kept.clamp(max=0)

    def owed(self, carried: Tensor, fired: Tensor, q: Q) -> Tensor:
        """Return the feedback that a step owes the one before: what its membrane `carried`, if nothing else."""
        return carried
