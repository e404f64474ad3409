"""Encoders: from images and events to input sequences `[T, B, ...]`."""

from jaxtyping import Float
from torch import Tensor

from spiking_lfp.checks import all_finite, require
from spiking_lfp.errors import NonFiniteError, UsageError


def constant(images: Float[Tensor, "batch *i"], steps: int) -> Float[Tensor, "steps batch *i"]:
    """Feed the same values in every step (LFP app. A.6.3), without copying them.

    Args:
        images: analogue inputs `[B, ...]`; values in [0, 1] train best.
        steps: T, at least 1.

    Returns:
        `[T, B, ...]`, a view of `images` with stride 0 over time, which layers notice: they multiply once, not T times.

    Raises:
        UsageError: if `steps` is less than 1.
        NonFiniteError: if `images` hold NaN or infinity.
    """
    if steps < 1:
        raise UsageError(f"steps must be at least 1, found {steps}")
    require(all_finite(images), NonFiniteError, "the images hold NaN or infinity: clean the data first")
    return images.unsqueeze(0).expand(steps, *images.shape)


def is_constant(x: Float[Tensor, "steps batch *i"]) -> bool:
    """Tell whether `x` is one tensor seen in every step, as `constant` makes it."""
    return x.shape[0] > 1 and x.stride(0) == 0
