"""What integer neurons have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from spiking_lfp.integers.arithmetic import DEFAULT, INTEGER_RESETS, Arithmetic, Booleans, IntegerReset, Integers
from spiking_lfp.integers.fields import Number, Values, Word

State = tuple[Integers, ...]


@dataclass(frozen=True, eq=False)
class IntegerNeuron(ABC):
    """The constants of a layer's neurons, and their equations.

    Attributes:
        theta: int32 `[O]`, the threshold of each output, in units of weight times input.
        decay: by which the membrane leaks; see `Arithmetic.leak`.
        frac_bits: bits of the membrane below one unit.
        reset: what a spike does.
        arithmetic: how all this is computed.
    """

    theta: Annotated[Integers, Values("int32", ("O",))]
    decay: Annotated[int, Number(0, lambda neuron: neuron.arithmetic.largest_decay)]
    frac_bits: Annotated[int, Number(0, lambda neuron: neuron.arithmetic.frac_bits)]
    reset: Annotated[IntegerReset, Word(INTEGER_RESETS)]
    arithmetic: Arithmetic = DEFAULT

    # the word for it in files, and the names of its states, the membrane first
    kind: ClassVar[str]
    states: ClassVar[tuple[str, ...]]

    @abstractmethod
    def step(
        self, state: State, fired: Booleans, current: Integers, limit: Callable[[Integers], Integers] | None = None
    ) -> tuple[State, Booleans]:
        """Take one step.

        Args:
            state: after the last step, as `states` names it, each `[N, *neurons]`; zeros at first. The membrane is that
                before any reset that its spike brings.
            fired: who spiked in the last step.
            current: `(W s + bias) << frac_bits`.
            limit: what cuts off states in place of `Arithmetic.limit`, for those who count how often it does.

        Returns:
            The state after this step, and who spikes.
        """

    def threshold(self, like: Integers) -> Integers:
        """Return the threshold in the unit of the membrane, in a shape that broadcasts with `like`, `[N, *neurons]`."""
        return (self.theta << self.frac_bits).reshape(-1, *[1] * (like.ndim - 2))
