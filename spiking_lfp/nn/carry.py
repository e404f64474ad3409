"""What the layers of a network hand from one part of a long sequence to the next."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_carry: ContextVar["Carry | None"] = ContextVar("spiking_lfp_carry", default=None)


class Carry:
    """States of layers between two parts of a sequence, in the order in which the layers run.

    Args:
        states: what the layers left behind in the part before; none in the first part.
        share: this part's share of the steps of the sequence.
        again: whether this part is computed once more, for its feedback.
    """

    def __init__(self, states: Sequence[Tensor], share: float, again: bool) -> None:
        self.first = not states
        self.taken = iter(states)
        self.given: list[Tensor] = []
        self.share, self.again = share, again

    def take(self, count: int) -> tuple[Tensor, ...] | None:
        """Return the `count` tensors that the next layer left behind, or None in the first part."""
        return None if self.first else tuple(next(self.taken) for _ in range(count))

    def give(self, *states: Tensor) -> None:
        """Leave tensors behind for the next part."""
        self.given += states


def current_carry() -> Carry | None:
    """Return what the layers that run now have to take from and give to, or None where a sequence runs as a whole."""
    return _carry.get()


@contextmanager
def carried(carry: Carry) -> Iterator[None]:
    """Let layers take from `carry` and give to it inside the context."""
    token = _carry.set(carry)
    try:
        yield
    finally:
        _carry.reset(token)
