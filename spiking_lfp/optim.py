"""Keeps updates in bounds; works with every `torch.optim` optimiser."""

from collections.abc import Iterable

import torch
from torch import Tensor

from spiking_lfp.errors import UsageError
from spiking_lfp.kernels import clip_units_


class AdaptiveClip:
    """Adaptive gradient clipping (Brock et al. 2021, sec. 4), unit by unit: call it between propagate and step.

    A unit's update is scaled down to `clip` times the norm of its weights where it is larger. Units are the rows of
    `W` (all but the first axis); a bias is a unit each.

    Args:
        parameters: what to clip; parameters without `.grad` are passed over.
        clip: largest ratio of update norm to weight norm.
        minimum: smallest weight norm to count with, so that weights of zero can move.
    """

    def __init__(self, parameters: Iterable[Tensor], clip: float = 0.01, minimum: float = 1e-3) -> None:
        if not (clip > 0 and minimum > 0):
            raise UsageError(f"clip and minimum must be greater than 0, found {clip} and {minimum}")
        self.parameters = list(parameters)
        self.clip = clip
        self.minimum = minimum

    @torch.no_grad()
    def __call__(self) -> None:
        """Scale the `.grad` of all parameters in place."""
        for parameter in self.parameters:
            if parameter.grad is not None:
                clip_units_(parameter.grad, parameter, self.clip, self.minimum)
