"""Models and passes for the tests of composites."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.tensors import random
from spiking_lfp.lfp.rewards import propagate
from spiking_lfp.nn.composites import Composite
from spiking_lfp.rules import AlphaBeta, Epsilon, Flat, Gamma, Rule, Zero, ZPlusZMinus

RULES: dict[str, Rule] = {
    "zero": Zero(),
    "epsilon": Epsilon(epsilon=1e-3),
    "z+z-": ZPlusZMinus(),
    "alpha-beta": AlphaBeta(),
    "gamma": Gamma(),
    "flat": Flat(),
}


def double(*layers: nn.Module) -> nn.Sequential:
    network = nn.Sequential(*layers).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.05, 0.4)
    return network


def run(model: nn.Module, x: Tensor, how: Composite, reward: Tensor | None = None) -> Tensor:
    """Outputs; afterwards `x` and parameters hold feedback and minus updates."""
    model.zero_grad()
    x.grad = None
    with how.applied(model):
        out = model(x)
    propagate(out, torch.ones_like(out) if reward is None else reward)
    return out.detach()


class Model(nn.Module):
    """Two dense layers and a forward pass that the test brings along."""

    def __init__(self, run: Callable[["Model", Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.offset, self.scale = nn.Parameter(random(3, 4)), nn.Parameter(random(4))
        self.run = run
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


class Residual(nn.Module):
    """relu(conv(relu(conv(x))) + x), with functional calls, and the sum in place."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.one(x))
        out = self.two(out)
        out += x
        return torch.relu_(out)
