"""The integer leaky integrate-and-fire neuron with a synaptic current of its own decay.

I = limit(leak(I) + weighted inputs + bias)        with the decay current_decay
V, S as in `lif`, with this I
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from spiking_lfp.integers.arithmetic import Booleans, Integers
from spiking_lfp.integers.fields import IntegerRange
from spiking_lfp.integers.lif import IntegerLIF
from spiking_lfp.integers.neuron import State


@dataclass(frozen=True, eq=False)
class IntegerCubaLIF(IntegerLIF):
    """See the head of this module.

    Attributes:
        current_decay: of the current; see `Arithmetic.leak`.
    """

    current_decay: Annotated[int, IntegerRange(0, lambda neuron: neuron.arithmetic.largest_decay)] = field(kw_only=True)

    kind: ClassVar[str] = "cuba"
    states: ClassVar[tuple[str, ...]] = ("membrane", "current")

    def step(
        self, state: State, fired: Booleans, current: Integers, limit: Callable[[Integers], Integers] | None = None
    ) -> tuple[State, Booleans]:
        """Take one step; see `IntegerNeuron.step`."""
        membrane, before = state
        current = (limit or self.arithmetic.limit)(self.arithmetic.leaked(before, self.current_decay) + current)
        membrane, fires = self.membrane(membrane, fired, current, limit)
        return (membrane, current), fires
