"""What integer neurons have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, ClassVar

from spiking_lfp.integers.arithmetic import Arithmetic, Booleans, IntegerReset, Integers, Real
from spiking_lfp.integers.fields import ArrayOf, IntegerRange, OneOrEach

State = tuple[Integers, ...]
# one integer for all outputs of a layer, or int32 `[O]`
Decay = Annotated[
    Integers,
    OneOrEach(IntegerRange(0, lambda neuron: neuron.arithmetic.largest_decay), ArrayOf("int32", ("O",))),
]


def along_outputs(values: Integers, like: Integers) -> Integers:
    """Return values of outputs `[O]` in a shape that broadcasts with `like`, `[N, *neurons]`; one for all as it is."""
    return values.reshape(-1, *[1] * (like.ndim - 2)) if getattr(values, "ndim", 0) else values


class IntegerNeuron(ABC):
    """Constants and equations of the neurons of a layer; subclasses are frozen dataclasses with these fields and more.

    Attributes:
        decay: of the membrane, see `Arithmetic.leak`: an integer, or int32 `[O]` where outputs differ.
        frac_bits: fraction bits of the membrane, below one weight unit.
        arithmetic: leak, comparison and overflow.
        theta: of neurons that fire, int32 `[O]`: threshold of each output, in weight units times input.
        reset: of neurons that fire: of the membrane by a spike; see `Arithmetic.resets`.
    """

    decay: Integers
    frac_bits: int
    arithmetic: Arithmetic
    theta: Integers
    reset: IntegerReset

    # its name in files, the names of its states, the membrane first, those of their decays, and whether it fires; if
    # not its output is the membrane
    kind: ClassVar[str]
    states: ClassVar[tuple[str, ...]]
    decays: ClassVar[tuple[str, ...]] = ("decay",)
    spiking: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Make decays that are all the same one integer, so that there is one way to say it."""
        for name in self.differing_decays:
            values = getattr(self, name)
            whole = values.ndim == 1 and str(values.dtype).removeprefix("torch.") == "int32"
            if whole and len(values) and bool((values == values[0]).all()):
                object.__setattr__(self, name, int(values[0]))

    @property
    def differing_decays(self) -> tuple[str, ...]:
        """The names of those decays of which each output has its own."""
        return tuple(name for name in self.decays if getattr(getattr(self, name), "ndim", 0))

    @property
    def by_events(self) -> bool:
        """Whether what arrives in a step joins a state event by event, which may saturate each time."""
        return False

    @property
    def kept_of_inputs(self) -> Real:
        """The part of what arrives in a step that has not leaked at its end, up to rounding; see `Arithmetic.beta`."""
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
        return along_outputs(self.theta << self.frac_bits, like)

    def leaked(self, state: Integers, decay: Integers) -> Integers:
        """Return a state `[N, *neurons]` after the leak of one step by one of its `decays`."""
        return self.arithmetic.leaked(state, along_outputs(decay, state))
