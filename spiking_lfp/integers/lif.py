"""The integer leaky integrate-and-fire neuron.

V = 0                        where S of the last step is not 0, reset "zero"
V = V - theta S              reset "subtract_decayed"
V = leak(V) + I                   accumulation "events": V + limit(I - (V - leak(V)))
V = V - theta S              reset "subtract"
V = limit(V)
S = V > theta                or >=; more than one where the arithmetic has several spikes in a step
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from spiking_lfp.integers.arithmetic import DEFAULT, INTEGER_RESETS, Arithmetic, Booleans, IntegerReset, Integers
from spiking_lfp.integers.fields import ArrayOf, IntegerRange, Text
from spiking_lfp.integers.neuron import Decay, IntegerNeuron, State


@dataclass(frozen=True, eq=False)
class IntegerLIF(IntegerNeuron):
    """See the head of this module; `theta` and the current `I` are in membrane units there."""

    theta: Annotated[Integers, ArrayOf("int32", ("O",))]
    decay: Decay
    frac_bits: Annotated[int, IntegerRange(0, lambda neuron: neuron.arithmetic.frac_bits)]
    reset: Annotated[IntegerReset, Text(INTEGER_RESETS)]
    arithmetic: Arithmetic = DEFAULT

    kind: ClassVar[str] = "lif"
    states: ClassVar[tuple[str, ...]] = ("membrane",)

    def step(
        self, state: State, fired: Booleans, current: Integers, limit: Callable[[Integers], Integers] | None = None
    ) -> tuple[State, Booleans]:
        """Take one step; see `IntegerNeuron.step`."""
        membrane, fires = self.membrane(state[0], fired, current, limit)
        return (membrane,), fires

    def membrane(
        self, membrane: Integers, fired: Booleans, current: Integers, limit: Callable[[Integers], Integers] | None
    ) -> tuple[Integers, Booleans]:
        """Return the membrane after a step, and which neurons spike."""
        theta, limit = self.threshold(current), limit or self.arithmetic.limit
        if self.reset == "zero":
            membrane = membrane * (fired == 0)
        elif self.reset == "subtract_decayed":
            membrane = membrane - theta * fired
        kept = self.leaked(membrane, self.decay)
        if self.arithmetic.accumulation == "events":
            membrane = membrane + limit(current - (membrane - kept))
        else:
            membrane = kept + current
        if self.reset == "subtract":
            membrane = membrane - theta * fired
        membrane = limit(membrane)
        return membrane, self.arithmetic.fires(membrane, theta)
