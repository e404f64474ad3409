"""Recurrent layers, inputs and gains of rules, for their tests."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from helpers import oracles, tensors
from spiking_lfp import Epsilon, RecurrentLIF, Rule
from spiking_lfp.kernels.cpu import recurrent as kernels
from spiking_lfp.neurons import Reset
from spiking_lfp.rules import Contributions

lif, kernel = oracles.Recursions(), oracles.Recursions(kernels)
INPUTS, NEURONS, BATCH, STEPS = 6, 5, 3, 8


class Bounded(Rule):
    """A rule that the package does not have, with `N = 1 + z^2 + U^2 / 2`."""

    def gain(self, contributions: Contributions) -> Tensor:
        assert contributions.previous is not None
        return 1 / (1 + contributions.total**2 + contributions.previous**2 / 2)


def epsilon_gain(epsilon: float) -> Callable[[float, float], float]:
    return lambda total, before: 1 / (abs(before) + abs(total - before) + epsilon)


RULES: dict[str, tuple[Rule, Callable[[float, float], float]]] = {
    "epsilon": (Epsilon(), epsilon_gain(1e-6)),
    "large epsilon": (Epsilon(0.3), epsilon_gain(0.3)),
    "another rule": (Bounded(), lambda total, before: 1 / (1 + total**2 + before**2 / 2)),
}


def spikes_of(*shape: int, rate: float = 0.4) -> Tensor:
    return (torch.rand(*shape) < rate).double()


def layer_of(
    reset: Reset = "subtract", beta: float | Tensor = 0.8, threshold: float | Tensor = 0.4, rule: Rule | None = None
) -> RecurrentLIF:
    """A layer in float64 whose spikes matter to each other, to themselves too."""
    layer = RecurrentLIF(nn.Linear(INPUTS, NEURONS), beta, threshold, reset, rule).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 0.1, 0.5)
    return layer


def grads(layer: nn.Module, *others: Tensor) -> list[Tensor]:
    found = [parameter.grad for parameter in layer.parameters()] + [other.grad for other in others]
    assert all(grad is not None for grad in found)
    return [grad.clone() for grad in found if grad is not None]


assert_near = partial(tensors.assert_near, tolerance=1e-12)
