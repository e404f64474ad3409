"""Long sequences in chunks: the memory of a few steps, the result of all of them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spiking_lfp.errors import UsageError
from spiking_lfp.mono import MonoReadout
from spiking_lfp.nn.carry import Carry, carried
from spiking_lfp.nn.layers import NormalizeFeedback


def run_in_chunks(
    network: nn.Module, x: Float[Tensor, "steps batch *i"], chunk: int
) -> Float[Tensor, "steps batch *o"]:
    """Run `network` on `chunk` steps at a time, keeping between chunks only the membranes of its layers.

    When feedback comes back, each chunk is computed once more, the last one first, and hands its feedback on the
    membranes to the chunk before: spikes, feedback and updates are those of `network(x)`, up to the order of sums. What
    layers remember is kept for `chunk` steps at a time, at the price of a second forward pass.

    Args:
        network: of layers of this package, and of modules that treat every step alike.
        x: inputs `[T, B, ...]`.
        chunk: steps at a time, at least 1.

    Returns:
        what `network(x)` returns, one tensor `[T, B, ...]`.

    Raises:
        UsageError: if `chunk` is less than 1, or the network holds a `NormalizeFeedback` or a `MonoReadout`, which have
            to see all steps at once.
    """
    if chunk < 1:
        raise UsageError(f"chunk must be at least 1, found {chunk}")
    if any(isinstance(module, NormalizeFeedback) for module in network.modules()):
        raise UsageError("NormalizeFeedback has to see the feedback of all steps at once: drop it, or the chunks")
    if any(isinstance(module, MonoReadout) for module in network.modules()):
        raise UsageError("MonoReadout has to see the spikes of all steps at once: drop it, or the chunks")
    done: set[int] = set()

    def run(number: int, part: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        carry = Carry(states, len(part) / len(x), number in done)
        done.add(number)
        with carried(carry):
            return network(part), *carry.given

    outputs: list[Tensor] = []
    states: list[Tensor] = []
    for number, part in enumerate(x.split(chunk)):
        output, *states = checkpoint(run, number, part, *states, use_reentrant=False)
        outputs.append(output)
    return torch.cat(outputs)
