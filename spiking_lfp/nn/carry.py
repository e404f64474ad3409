"""States that layers carry over from one chunk of a long sequence to the next."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice

from torch import Tensor, nn

from spiking_lfp.errors import UsageError
from spiking_lfp.mono import MonoReadout

# their outputs of a step depend on other steps, in ways that no carry knows
WHOLE_SEQUENCES = (MonoReadout, nn.RNNBase, nn.MultiheadAttention)
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
        if self.is_first:
            return None
        states = tuple(islice(self.initial_states, count))
        if len(states) < count:
            raise UsageError("the network runs more layers with states than in the chunk before: run the same ones")
        return states

    def give(self, *states: Tensor) -> None:
        """Hand states over to the next chunk."""
        self.final_states += states

    def check_used_up(self) -> None:
        """Check that all states of the previous chunk were taken."""
        if next(self.initial_states, None) is not None:
            raise UsageError("the network runs fewer layers with states than in the chunk before: run the same ones")


def check_steps_are_independent(network: nn.Module) -> None:
    """Check that a network has nothing but layers that carry their states, as far as modules tell by their class.

    Raises:
        UsageError: naming a module that needs all steps at once.
    """
    for name, module in network.named_modules():
        if isinstance(module, WHOLE_SEQUENCES):
            raise UsageError(
                f"{type(module).__name__}{f' ({name})' if name else ''} needs all steps at once: remove it, or do not "
                "run in chunks"
            )


def run_part(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return the outputs of a network for a part of a sequence.

    Raises:
        UsageError: if it did not return one for every step, so that those of all parts would not be those of the whole.
    """
    outputs: object = network(inputs)
    if not isinstance(outputs, Tensor) or outputs.shape[:2] != inputs.shape[:2]:
        found = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        steps, batch = inputs.shape[:2]
        raise UsageError(
            f"the network returned {found} for a part of {steps} steps of {batch} samples, expected one tensor "
            "[T, B, ...], the outputs of every step: sum or average them over the whole sequence, outside of it"
        )
    return outputs


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
