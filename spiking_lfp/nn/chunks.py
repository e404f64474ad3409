"""Long sequences in chunks: the memory of a few steps, the results of the whole sequence."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spiking_lfp.arguments import as_integer
from spiking_lfp.checks import Values, as_tensor
from spiking_lfp.errors import UsageError
from spiking_lfp.nn.carry import Carry, carried, check_steps_are_independent, run_part
from spiking_lfp.nn.layers import NormalizeFeedback, failures_named
from spiking_lfp.nn.noise import drawing_from, draws


def run_in_chunks(network: nn.Module, x: Values, chunk: int) -> Float[Tensor, "steps batch *o"]:
    """Run `network` on `chunk` steps at a time, storing only the states of its neurons between chunks.

    In the backward pass each chunk is computed a second time, starting with the last one, and passes the feedback of
    its initial states to the chunk before: spikes, feedback and updates are those of `network(x)`, up to the order of
    sums. Memory is needed for `chunk` steps only, at the cost of a second forward pass.

    Args:
        network: made of layers of this package, and of modules that process every step independently.
        x: inputs `[T, B, ...]`.
        chunk: number of steps at a time, at least 1.

    Returns:
        what `network(x)` returns, one tensor `[T, B, ...]`.

    Raises:
        UsageError: if `chunk` is less than 1, `x` has no steps, or the network contains what needs all steps at once,
            as `NormalizeFeedback`, `MonoReadout`, or torch's recurrent modules, or returns no outputs of every step.

    Example:
        >>> network = nn.Sequential(LIF(nn.Linear(4, 8)), LIF(nn.Linear(8, 3)))
        >>> spikes = run_in_chunks(network, torch.rand(1000, 2, 4), chunk=100)
        >>> propagate(spikes, spike_rate_reward(spikes, [0, 2]))
    """
    x = as_tensor(x, "the inputs")
    chunk = as_integer(chunk, "chunk", 1)
    if any(isinstance(module, NormalizeFeedback) for module in network.modules()):
        raise UsageError(
            "NormalizeFeedback needs the feedback of all steps at once: remove it, or do not run in chunks"
        )
    check_steps_are_independent(network)
    if len(x) == 0:
        raise UsageError(f"expected one step or more, found x {list(x.shape)}")
    # the chunks that have run, with the place of their noise
    done: dict[int, int] = {}

    def run(number: int, inputs: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        carry = Carry(states, len(inputs) / len(x), number in done)
        with failures_named(network), carried(carry), drawing_from(done.setdefault(number, draws())):
            return run_part(network, inputs), *carry.final_states

    outputs: list[Tensor] = []
    states: list[Tensor] = []
    for number, inputs in enumerate(x.split(chunk)):
        output, *states = checkpoint(run, number, inputs, *states, use_reentrant=False)
        outputs.append(output)
    return torch.cat(outputs)
