"""Adaptive clipping of updates, for every `torch.optim` optimiser; and SignSGD, which torch does not have."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from spiking_lfp.arguments import describe
from spiking_lfp.errors import UsageError
from spiking_lfp.kernels import clip_units_


class AdaptiveClip:
    """Adaptive gradient clipping (Brock et al. 2021, sec. 4), unit by unit: call it between `propagate` and `step`.

    An update whose norm exceeds `clip` times the norm of the unit's weights is scaled down to it. The units of a weight
    are its rows along the first axis; each element of a bias is a unit.

    Args:
        parameters: the parameters to clip; those without `.grad` are skipped.
        clip: largest ratio of update norm to weight norm.
        minimum: lower bound of the weight norm, so that weights of zero can change.

    Raises:
        UsageError: unless `clip` and `minimum` are greater than 0, and `parameters` are tensors.

    Example:
        >>> weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))  # of norm 5
        >>> weight.grad = torch.tensor([[0.6, 0.8]])  # of norm 1, which is more than 0.05
        >>> AdaptiveClip([weight], clip=0.01)()
        >>> weight.grad
        tensor([[0.0300, 0.0400]])
    """

    def __init__(self, parameters: Iterable[Tensor], clip: float = 0.01, minimum: float = 1e-3) -> None:
        if not (clip > 0 and minimum > 0):
            raise UsageError(f"clip and minimum must be greater than 0, found {clip} and {minimum}")
        # iterating over one tensor yields its rows, which have no .grad: nothing would be clipped
        listed = isinstance(parameters, Iterable) and not isinstance(parameters, Tensor)
        found: list[Any] = list(parameters) if listed else [parameters]
        others = [each for each in found if not (listed and isinstance(each, Tensor))]
        if others:
            raise UsageError(f"parameters must be those of network.parameters(), found {describe(others[0])}")
        if not found:
            raise UsageError(
                "parameters is empty: give network.parameters() anew, since what it returns can be gone through once"
            )
        self.parameters: list[Tensor] = found
        self.clip = clip
        self.minimum = minimum

    @torch.no_grad()
    def __call__(self) -> None:
        """Scale the `.grad` of all parameters in place."""
        for parameter in self.parameters:
            if parameter.grad is not None:
                clip_units_(parameter.grad, parameter, self.clip, self.minimum)


class SignSGD(torch.optim.Optimizer):
    """Steps of `lr` against the sign of each coordinate of `.grad` (Bernstein et al. 2018).

    Raises:
        UsageError: unless `lr` is greater than 0.

    Example:
        >>> weight = nn.Parameter(torch.tensor([0.5, 0.5]))
        >>> weight.grad = torch.tensor([0.001, -100.0])
        >>> SignSGD([weight], lr=0.1).step()
        >>> weight.tolist()
        [0.4000000059604645, 0.6000000238418579]
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3) -> None:
        if not lr > 0:
            raise UsageError(f"lr must be greater than 0, found {lr}")
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters once, after `closure` has computed their `.grad` if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad.sign(), alpha=group["lr"])
        return loss
