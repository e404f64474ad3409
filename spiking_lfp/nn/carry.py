"""States that layers carry over from one chunk of a long sequence to the next."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_carry: ContextVar["Carry | None"] = ContextVar("spiking_lfp_carry", default=None)


class Carry:
    """States of layers between two chunks of a sequence, in the order in which the layers run.

    Args:
        states: the states after the previous chunk; none for the first chunk.
        share: this chunk's share of the steps of the sequence.
        recomputing: whether this chunk is computed a second time, for its feedback.

    Attributes:
        final_states: the states after this chunk.
    """

    def __init__(self, states: Sequence[Tensor], share: float, recomputing: bool) -> None:
        self.is_first = not states
        self.initial_states = iter(states)
        self.final_states: list[Tensor] = []
        self.share, self.recomputing = share, recomputing

    def take(self, count: int) -> tuple[Tensor, ...] | None:
        """Return the `count` states of the next layer after the previous chunk, or None in the first chunk."""
        return None if self.is_first else tuple(next(self.initial_states) for _ in range(count))

    def give(self, *states: Tensor) -> None:
        """Hand states over to the next chunk."""
        self.final_states += states


def current_carry() -> Carry | None:
    """Return the carry of the chunk that runs now, or None where a sequence runs as a whole."""
    return _carry.get()


@contextmanager
def carried(carry: Carry) -> Iterator[None]:
    """Let layers take their states from `carry` and give them to it inside the context."""
    token = _carry.set(carry)
    try:
        yield
    finally:
        _carry.reset(token)
