"""What integer neurons have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from spiking_lfp.integers.arithmetic import Arithmetic, Booleans, IntegerReset, Integers

State = tuple[Integers, ...]


class IntegerNeuron(ABC):
    """Constants and equations of the neurons of a layer; subclasses are frozen dataclasses with these fields and more.

    Attributes:
        decay: of the membrane; see `Arithmetic.leak`.
        frac_bits: fraction bits of the membrane, below one weight unit.
        arithmetic: leak, comparison and overflow.
        theta: of neurons that fire, int32 `[O]`: threshold of each output, in weight units times input.
        reset: of neurons that fire: of the membrane by a spike; see `Arithmetic.resets`.
    """

    decay: int
    frac_bits: int
    arithmetic: Arithmetic
    theta: Integers
    reset: IntegerReset

    # its name in files, the names of its states, the membrane first, and whether it fires; if not its output is the
    # membrane
    kind: ClassVar[str]
    states: ClassVar[tuple[str, ...]]
    spiking: ClassVar[bool] = True

    @property
    def by_events(self) -> bool:
        """Whether what arrives in a step joins a state event by event, which may saturate each time."""
        return False

    @property
    def kept_of_inputs(self) -> float:
        """The part of what arrives in a step that has not leaked at its end, up to rounding."""
        return 1.0

    @abstractmethod
    def step(
        self, state: State, fired: Booleans, current: Integers, limit: Callable[[Integers], Integers] | None = None
    ) -> tuple[State, Booleans]:
        """Take one step.

        Args:
            state: after the last step, as `states` names it, each `[N, *neurons]`; zeros at first. The membrane is
                that before any reset by a spike of the same step.
            fired: which neurons spiked in the last step, or how often.
            current: `(W s + bias) << frac_bits`.
            limit: used in place of `Arithmetic.limit`, to count overflows.

        Returns:
            The state after this step, and which neurons spike, or how often; see `Arithmetic.fires`.
        """

    def threshold(self, like: Integers) -> Integers:
        """Return the threshold in membrane units, in a shape that broadcasts with `like`, `[N, *neurons]`."""
        return (self.theta << self.frac_bits).reshape(-1, *[1] * (like.ndim - 2))
