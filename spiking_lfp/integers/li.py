"""The integer leaky integrator: it does not fire, and its membrane is the output.

V = limit(leak(V) + I)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from spiking_lfp.integers.arithmetic import DEFAULT, Arithmetic, Booleans, Integers
from spiking_lfp.integers.fields import IntegerRange
from spiking_lfp.integers.neuron import Decay, IntegerNeuron, State


@dataclass(frozen=True, eq=False)
class IntegerLI(IntegerNeuron):
    """See the head of this module; the current `I` is in membrane units there."""

    decay: Decay
    frac_bits: Annotated[int, IntegerRange(0, lambda neuron: neuron.arithmetic.frac_bits)]
    arithmetic: Arithmetic = DEFAULT

    kind: ClassVar[str] = "li"
    states: ClassVar[tuple[str, ...]] = ("membrane",)
    spiking: ClassVar[bool] = False

    def step(
        self, state: State, fired: Booleans, current: Integers, limit: Callable[[Integers], Integers] | None = None
    ) -> tuple[State, Booleans]:
        """Take one step; see `IntegerNeuron.step`. Nobody spikes."""
        membrane = (limit or self.arithmetic.limit)(self.leaked(state[0], self.decay) + current)
        return (membrane,), fired
