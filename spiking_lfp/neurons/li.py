"""Leaky integrators: neurons that do not fire, whose membrane is the output."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from spiking_lfp.integers.li import IntegerLI
from spiking_lfp.neurons.base import (
    KEPT_PART,
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


@dataclass(frozen=True)
class LINeuron(Neuron):
    """Leaky integrator: NIR's `LI`, norse's `LIBoxCell`, the membrane of snnTorch's `Leaky` without a reset.

        V[t] = beta * V[t-1] + I[t]        V[-1] = 0

    Its output is the membrane. It is a linear layer on all inputs so far, the older the weaker, and divides feedback as
    one (LFP eq. 2, 3): its contributions add up to the output, which may be negative, so that its sign counts.

        rho[t] = r[t] + m[t+1]        q[t] = sign(V[t]) * rho[t] * gain(V[t])        m[t] = beta * V[t-1] * q[t]

    So by LFP-0, and by LFP-epsilon up to epsilon, `q[t]` is the sum of `beta^(s-t) * r[s] / V[s]` over all `s >= t`:
    where a reward is the output times its error, `q` is minus the gradient of the loss.

    Attributes:
        beta: part of the membrane that a step keeps, 0 < beta <= 1; scalar, or broadcastable to `*n`. 1 adds up.
    """

    beta: Tensor = field(metadata=KEPT_PART)

    spiking: ClassVar[bool] = False
    counterparts: ClassVar[Counterparts] = Counterparts(
        integer=IntegerLI, decays={"beta": "decay"}, nir=("LI", "I"), time_constants={"beta": ("tau", "r")}
    )

    @property
    def forgets(self) -> bool:
        """Return False: infinity stays."""
        return False

    def step(self, state: State, current: Float[Tensor, " batch *n"]) -> State:
        """Return `V[t]`."""
        return (self.beta * state[0] + current,)

    def outputs(self, state: State) -> Tensor:
        """Return the membrane."""
        return state[0]

    def fires(self, state: State) -> Tensor:
        """Return that nobody does."""
        return torch.zeros_like(state[0], dtype=torch.bool)

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
        membrane, kept = trace.states[0], self.beta * trace.before()
        if sums is not None:
            sums = sums[0] + kept.clamp(min=0), sums[1] - kept.clamp(max=0)
        gains = rule.gains(Contributions(membrane, None, sums))
        carried = torch.zeros_like(membrane[0]) if final_feedback is None else final_feedback[0]
        shares = Shares(summed)
        for t in reversed(range(trace.steps)):
            signed = membrane[t].sign() * (spike_feedback[t] + carried)
            q = shares.add(signed * gain[t] for gain in gains)
            carried = kept[t] * by_sign(q, kept[t])
        return shares.result(), (carried,)
