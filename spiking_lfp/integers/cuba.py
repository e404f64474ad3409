"""The integer leaky integrate-and-fire neuron with a synaptic current of its own decay.

I = limit(leak(I) + weighted inputs + bias)        with the decay current_decay
I = leak(limit(I + weighted inputs + bias))        accumulation "events"
V, S as in `lif`, with this I
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from spiking_lfp.integers.arithmetic import Booleans, Integers, Real
from spiking_lfp.integers.lif import IntegerLIF
from spiking_lfp.integers.neuron import Decay, State


@dataclass(frozen=True, eq=False)
class IntegerCubaLIF(IntegerLIF):
    """See the head of this module.

    Attributes:
        current_decay: of the current; as `decay`.
    """

    current_decay: Decay = field(kw_only=True)

    @property
    def by_events(self) -> bool:
        """Whether what arrives saturates event by event."""
        return self.arithmetic.accumulation == "events"

    @property
    def kept_of_inputs(self) -> Real:
        """The part of what arrives in a step that has not leaked at its end, up to rounding."""
        return self.arithmetic.beta(self.current_decay) if self.by_events else 1.0

    kind: ClassVar[str] = "cuba"
    states: ClassVar[tuple[str, ...]] = ("membrane", "current")
    decays: ClassVar[tuple[str, ...]] = ("decay", "current_decay")

    def step(
        self, state: State, fired: Booleans, current: Integers, limit: Callable[[Integers], Integers] | None = None
    ) -> tuple[State, Booleans]:
        """Take one step; see `IntegerNeuron.step`."""
        membrane, before = state
        limited = limit or self.arithmetic.limit
        if self.by_events:
            current = self.leaked(limited(before + current), self.current_decay)
        else:
            current = limited(self.leaked(before, self.current_decay) + current)
        membrane, fires = self.membrane(membrane, fired, current, limit)
        return (membrane, current), fires
