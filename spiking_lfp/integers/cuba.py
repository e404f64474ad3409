"""The integer leaky integrate-and-fire neuron with a synaptic current of its own decay.

I = limit(leak(I) + what arrives)        by current_decay
V, S as in `lif`, of this I
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from spiking_lfp.integers.arithmetic import Booleans, Integers
from spiking_lfp.integers.fields import Number
from spiking_lfp.integers.lif import IntegerLIF
from spiking_lfp.integers.neuron import State


@dataclass(frozen=True, eq=False)
class IntegerCuba(IntegerLIF):
    """See the head of this module.

    Attributes:
        current_decay: by which the current leaks; see `Arithmetic.leak`.
    """

    current_decay: Annotated[int, Number(0, lambda neuron: neuron.arithmetic.largest_decay)] = field(kw_only=True)

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
