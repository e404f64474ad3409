"""What a neuron is: constants, states, a way forward and a way back. Each kind has a file of its own beside this one.

This is the reference, in plain torch; `kernels` holds some of it made fast. Nothing here keeps state.

Shapes: T steps, B batch, `*n` the neurons of a layer. Units: membrane and threshold share those of the input current.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from spiking_lfp.integers import IntegerNeuron
from spiking_lfp.rules import Rule

# the states of a neuron, the membrane first: of one step `[B, *n]`, or of all `[T, B, *n]`
State = tuple[Tensor, ...]
# what a synapse hands on and is updated by: one for all contributions, or one for positive and one for negative ones
Q = tuple[Tensor, ...]
# the sizes of the positive and of the negative parts of `W x + b`, for every step or one for all
SumsBySign = tuple[Float[Tensor, "_ batch *n"], Float[Tensor, "_ batch *n"]]


Limit = tuple[Callable[[Tensor], Tensor], str]


def limit(holds: Callable[[Tensor], Tensor], words: str) -> dict[str, Limit]:
    """Return the metadata of a field that makes it a constant of the neuron: one number, or one for each neuron.

    Args:
        holds: tells elementwise which values it may have.
        words: the same in words, after "must be".

    Example:
        >>> from dataclasses import field
        >>> metadata = limit(lambda value: value <= 0, "at most 0")
        >>> floor = field(metadata=metadata, kw_only=True)  # of a neuron of one's own
        >>> holds, words = metadata["limit"]
        >>> holds(torch.tensor([-0.5, 0.5])), words
        (tensor([ True, False]), 'at most 0')
    """
    return {"limit": (holds, words)}


KEPT_PART = limit(lambda value: (value > 0) & (value <= 1), "greater than 0 and at most 1")
POSITIVE = limit(lambda value: (value > 0) & value.isfinite(), "finite and greater than 0")


@dataclass(frozen=True)
class Counterparts:
    """What a kind of neuron is called elsewhere; None, or nothing, where nobody has it.

    Attributes:
        integer: its integer form, with the same reset and threshold.
        decays: by a constant that says which part a step keeps, the field of `integer` that says what is lost.
        snntorch: the class in snnTorch, whose constants have the names of ours.
        zero_delays: each `reset_delay` of that class with which reset "zero" does what ours does, the usual one first.
        norse: whether norse has it, as `LIFBoxCell`.
        nir: the node in NIR, and that for neurons without leak if there is one.
        time_constants: by a constant that says which part a step keeps, the field of the node for its time constant,
            and the one for the gain of what comes in.
    """

    integer: type[IntegerNeuron] | None = None
    decays: Mapping[str, str] = field(default_factory=dict)
    snntorch: str | None = None
    zero_delays: tuple[bool, ...] = (True, False)
    norse: bool = False
    nir: tuple[str, ...] = ()
    time_constants: Mapping[str, tuple[str, str]] = field(default_factory=dict)


# the neuron of which each integer one is the form
REAL_FORMS: dict[type[IntegerNeuron], type["Neuron"]] = {}


@dataclass(frozen=True)
class Neuron(ABC):
    """Constants of neurons, as tensors broadcastable to `*n`, and what neurons with them do.

    Attributes:
        states: names of the states, the membrane first.
        spiking: whether they fire; neurons that do not have analogue outputs.
        counterparts: what it is elsewhere; a subclass does not inherit them, since its equations differ.
        recurrent: `V`, `[n, n]`, through which neurons see the spikes of their layer one step later, or None.
        forgets: whether a state may lose infinity again, so that the last one does not tell of all.
    """

    states: ClassVar[tuple[str, ...]] = ("membrane",)
    spiking: ClassVar[bool] = True
    counterparts: ClassVar[Counterparts]
    recurrent: ClassVar[Tensor | None] = None  # a field of the neurons that have it

    def __init_subclass__(cls) -> None:
        cls.counterparts = vars(cls).get("counterparts", Counterparts())
        if cls.counterparts.integer is not None:
            REAL_FORMS[cls.counterparts.integer] = cls

    @classmethod
    @cache
    def limits(cls) -> dict[str, Limit]:
        """Return what values each of its constants may have; see `limit`."""
        return {each.name: each.metadata["limit"] for each in fields(cls) if "limit" in each.metadata}

    @property
    def forgets(self) -> bool:
        """Return whether a state may lose infinity again."""
        return True

    @abstractmethod
    def step(self, state: State, current: Float[Tensor, " batch *n"]) -> State:
        """Return the states one step later, before any reset of that step."""

    @abstractmethod
    def fires(self, state: State) -> Tensor:
        """Return which neurons spike in these states, as truth values."""

    def outputs(self, state: State) -> Tensor:
        """Return what neurons in these states hand on: spikes, exactly 0 or 1."""
        return self.fires(state).to(state[0].dtype)

    @abstractmethod
    def feedback(
        self,
        trace: "Trace",
        spike_feedback: Float[Tensor, "steps batch *n"],
        final_feedback: State | None,
        rule: Rule,
        summed: bool,
        sums: SumsBySign | None = None,
    ) -> tuple[Q, State]:
        """Carry feedback back through time.

        Args:
            trace: what the neurons did.
            spike_feedback: `r_S`, feedback on the spikes.
            final_feedback: feedback on the final states, or None for zero.
            rule: says how a neuron divides its feedback.
            summed: return `q` summed over time, `[1, B, *n]`.
            sums: of the current, for rules that need them; other contributions are known from the trace.

        Returns:
            `q` `[T, B, *n]` for the synapse, and the feedback on the initial states.
        """

    def run(self, current: Float[Tensor, "time batch *n"], steps: int, initial: State | None) -> State:
        """Return the states of every step; see `forward`."""
        every = tuple(current.new_empty((steps, *current.shape[1:])) for _ in self.states)
        state = tuple(torch.zeros_like(current[0]) for _ in self.states) if initial is None else initial
        for t in range(steps):
            state = self.step(state, current[t % len(current)])
            for values, now in zip(every, state, strict=True):
                values[t] = now
        return every

    def forward(
        self, current: Float[Tensor, "time batch *n"], steps: int, initial: State | None
    ) -> tuple[Float[Tensor, "steps batch *n"], State, "Trace"]:
        """Run the neurons.

        Args:
            current: `I = W x + b`, `[T, B, *n]`, or `[1, B, *n]` for the same current in all steps.
            steps: T.
            initial: the states before, or None for zero.

        Returns:
            spikes `[T, B, *n]`, or other outputs; the final states; and the trace.
        """
        states = self.run(current, steps, initial)
        spikes = self.outputs(states)
        final = tuple(values[-1].clone() for values in states)
        if len(current) < steps and self.recurrent is None:
            return spikes, final, Trace(self, steps, initial, None, current)
        return spikes, final, Trace(self, steps, initial, states, None, spikes)


@dataclass(frozen=True)
class Trace:
    """What neurons did, whoever ran them: this package, a simulator, a chip. All that their feedback needs.

    With constant current the states are not kept, since replaying them costs less than storing them, but for recurrent
    neurons. Exactly one of `states` and `current` is given.

    Attributes:
        neuron: the constants that the states followed.
        steps: T.
        initial: the states before, `[B, *n]` each, or None for zero.
        states: of every step, before any reset of the same step, `[T, B, *n]` each.
        current: the current of all steps, `[1, B, *n]`.
        spikes: `[T, B, *n]`, 0 or 1; None where the neuron tells them from its states (`Neuron.fires`).
        packed: the spikes as bits and as a count for each step and sample, if a kernel packed them.
    """

    neuron: Neuron
    steps: int
    initial: State | None
    states: State | None
    current: Tensor | None = None
    spikes: Tensor | None = None
    packed: tuple[Tensor, Tensor] | None = None

    @property
    def record(self) -> Tensor:
        """The tensor that is kept: membrane or current."""
        record = self.current if self.states is None else self.states[0]
        assert record is not None
        return record

    def replayed(self) -> "Trace":
        """Return a trace with the states of every step."""
        if self.states is not None:
            return self
        return replace(self, states=self.neuron.run(self.record, self.steps, self.initial), current=None)

    def before(self, state: int = 0) -> Float[Tensor, "steps batch *n"]:
        """Return a state, by its number, as it was one step before each step; the states must be kept."""
        assert self.states is not None
        values = self.states[state]
        first = torch.zeros_like(values[0]) if self.initial is None else self.initial[state]
        return torch.cat([first[None], values[:-1]])

    def spikes_before(self) -> Float[Tensor, "steps batch *n"]:
        """Return `S[t-1]` for every step t, 0 or 1; the states must be kept."""
        assert self.states is not None
        spikes = torch.empty_like(self.states[0])
        spikes[0] = 0 if self.initial is None else self.neuron.fires(self.initial)
        spikes[1:] = (
            self.neuron.fires(tuple(values[:-1] for values in self.states)) if self.spikes is None else self.spikes[:-1]
        )
        return spikes


class Shares:
    """Collects `q` from the last step to the first.

    Args:
        summed: keep only the sum over time.
    """

    def __init__(self, summed: bool) -> None:
        self.summed = summed
        self.kept: list[Q] = []

    def add(self, q: Iterable[Tensor]) -> Q:
        """Keep the `q` of a step, and return it."""
        q = tuple(q)
        if self.summed and self.kept:
            self.kept[0] = tuple(one + other for one, other in zip(self.kept[0], q, strict=True))
        else:
            self.kept.append(q)
        return q

    def result(self) -> Q:
        """Return `q` `[T, B, *n]`, or `[1, B, *n]`."""
        return tuple(torch.stack(each[::-1]) for each in zip(*self.kept, strict=True))


def by_sign(q: Q, contribution: Tensor) -> Tensor:
    """Return the `q` that each of these contributions gets, elementwise."""
    return q[0] if len(q) == 1 else torch.where(contribution >= 0, q[0], q[1])
