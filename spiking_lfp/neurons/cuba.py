"""Leaky integrate-and-fire neurons with a synaptic current of its own decay."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from spiking_lfp.integers.cuba import IntegerCubaLIF
from spiking_lfp.neurons.base import Counterparts, Q, Shares, State, SumsBySign, Trace, by_sign, limit
from spiking_lfp.neurons.lif import LIFNeuron
from spiking_lfp.rules import Contributions, Rule


@dataclass(frozen=True)
class CubaLIFNeuron(LIFNeuron):
    """Current-based leaky integrate-and-fire: snnTorch's `Synaptic`, NIR's `CubaLIF`.

        I[t] = alpha * I[t-1] + W x[t] + b
        U[t] = beta * U[t-1] + I[t] - threshold * S[t-1]          and the other resets of `LIFNeuron`

    Feedback (LFP eq. 2, 3) goes through both states. The membrane divides its own between its past and the current, as
    in `LIFNeuron`, and the current divides what it gets, from the membrane and from its own future, between its past
    and what came; it may be negative, so that its sign counts:

        rho[t] = r_S[t] + m[t+1]          p[t] = rho[t] * gain(V[t])             m[t] = beta * U[t-1] * p[t]
        r[t] = I[t] * p[t] + n[t+1]       q[t] = sign(I[t]) * r[t] * gain(I[t])  n[t] = alpha * I[t-1] * q[t]

    Attributes:
        alpha: part of the current that a step keeps, 0 <= alpha <= 1; with 0 it is a `LIFNeuron`.
    """

    alpha: Tensor = field(
        metadata=limit(lambda value: (value >= 0) & (value <= 1), "at least 0 and at most 1"), kw_only=True
    )
    states: ClassVar[tuple[str, ...]] = ("membrane", "current")
    counterparts: ClassVar[Counterparts] = Counterparts(
        integer=IntegerCubaLIF,
        decays={"beta": "decay", "alpha": "current_decay"},
        snntorch="Synaptic",
        zero_delays=(False,),
        nir=("CubaLIF",),
        time_constants={"beta": ("tau_mem", "r"), "alpha": ("tau_syn", "w_in")},
    )

    def step(self, state: State, current: Float[Tensor, " batch *n"]) -> State:
        """Return `U[t]` and `I[t]`."""
        current = self.alpha * state[1] + current
        return self.membrane(state[0], self.fires(state), current), current

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
        assert trace.states is not None
        current, kept = trace.states[1], self.alpha * trace.before(1)
        before, fired = trace.before(), trace.spikes_before()
        survived = before.masked_fill(fired > 0, 0) if self.reset == "zero" else before
        halves = None
        if sums is not None:
            sums = sums[0] + kept.clamp(min=0), sums[1] - kept.clamp(max=0)
            halves = current.clamp(min=0), -current.clamp(max=0)
        gains = self.gains(trace, rule, halves)
        current_gains = rule.gains(Contributions(current, kept, sums))
        on_membrane, on_current = final_feedback or (torch.zeros_like(before[0]), torch.zeros_like(before[0]))
        shares = Shares(summed)
        for t in reversed(range(trace.steps)):
            rho = spike_feedback[t] + on_membrane
            p = tuple(rho * gain[t] for gain in gains)
            on_membrane = self.beta * survived[t] * by_sign(p, before[t])
            signed = current[t].sign() * (current[t] * by_sign(p, current[t]) + on_current)
            q = shares.add(signed * gain[t] for gain in current_gains)
            on_current = kept[t] * by_sign(q, kept[t])
        return shares.result(), (on_membrane, on_current)
