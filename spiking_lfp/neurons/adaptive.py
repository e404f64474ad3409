"""Leaky integrate-and-fire neurons whose threshold rises with their own spikes."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from spiking_lfp.neurons.base import KEPT_PART, Q, State, SumsBySign, Trace, limit
from spiking_lfp.neurons.lif import LIFNeuron
from spiking_lfp.rules import Rule


@dataclass(frozen=True)
class AdaptiveLIFNeuron(LIFNeuron):
    """`LIFNeuron` with a threshold of `threshold + adaptation * a[t]` (ALIF; Bellec et al. 2018, sec. 2).

        a[t] = rho * a[t-1] + S[t-1]                               how much a neuron spiked lately
        S[t] = 1 if U[t] > threshold + adaptation * a[t] else 0
        U[t] as in `LIFNeuron`: a spike subtracts `threshold` alone

    The threshold is no contribution to the membrane, so feedback is that of `LIFNeuron`, and none goes to `a`.

    Attributes:
        rho: part of `a` that a step keeps, 0 < rho <= 1.
        adaptation: by how much a spike raises the threshold, at least 0.
    """

    rho: Tensor = field(metadata=KEPT_PART, kw_only=True)
    adaptation: Tensor = field(
        metadata=limit(lambda value: (value >= 0) & value.isfinite(), "finite and at least 0"), kw_only=True
    )
    states: ClassVar[tuple[str, ...]] = ("membrane", "adaptation")

    def step(self, state: State, current: Float[Tensor, " batch *n"]) -> State:
        """Return `U[t]` and `a[t]`."""
        fired = self.fires(state)
        return self.membrane(state[0], fired, current), self.rho * state[1] + fired.to(current.dtype)

    def fires(self, state: State) -> Tensor:
        """Return `S`."""
        return state[0] > self.threshold + self.adaptation * state[1]

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
        q, (on_membrane,) = super().feedback(trace, spike_feedback, final_feedback, rule, summed, sums)
        return q, (on_membrane, torch.zeros_like(on_membrane))
