"""What integer neurons have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from spiking_lfp.integers.arithmetic import DEFAULT, INTEGER_RESETS, Arithmetic, Booleans, IntegerReset, Integers
from spiking_lfp.integers.fields import ArrayOf, IntegerRange, Text

State = tuple[Integers, ...]


@dataclass(frozen=True, eq=False)
class IntegerNeuron(ABC):
    """Constants and equations of the neurons of a layer.

    Attributes:
        theta: int32 `[O]`, threshold of each output, in weight units times input.
        decay: of the membrane; see `Arithmetic.leak`.
        frac_bits: fraction bits of the membrane, below one weight unit.
        reset: of the membrane by a spike; see `Arithmetic.resets`.
        arithmetic: leak, comparison and overflow.
    """

    theta: Annotated[Integers, ArrayOf("int32", ("O",))]
    decay: Annotated[int, IntegerRange(0, lambda neuron: neuron.arithmetic.largest_decay)]
    frac_bits: Annotated[int, IntegerRange(0, lambda neuron: neuron.arithmetic.frac_bits)]
    reset: Annotated[IntegerReset, Text(INTEGER_RESETS)]
    arithmetic: Arithmetic = DEFAULT

    # its name in files, and the names of its states, the membrane first
    kind: ClassVar[str]
    states: ClassVar[tuple[str, ...]]

    @abstractmethod
    def step(
        self, state: State, fired: Booleans, current: Integers, limit: Callable[[Integers], Integers] | None = None
    ) -> tuple[State, Booleans]:
        """Take one step.

        Args:
            state: after the last step, as `states` names it, each `[N, *neurons]`; zeros at first. The membrane is
                that before any reset by a spike of the same step.
            fired: which neurons spiked in the last step.
            current: `(W s + bias) << frac_bits`.
            limit: used in place of `Arithmetic.limit`, to count overflows.

        Returns:
            The state after this step, and which neurons spike.
        """

    def threshold(self, like: Integers) -> Integers:
        """Return the threshold in membrane units, in a shape that broadcasts with `like`, `[N, *neurons]`."""
        return (self.theta << self.frac_bits).reshape(-1, *[1] * (like.ndim - 2))
