"""Encoders: from images and signals to input sequences `[T, B, ...]`.

`constant` shows the values themselves; `rate`, `latency` and `delta` make spikes; `population` spreads a value over
neurons, whose values in [0, 1] go on through `constant`, `rate` or `latency`.
"""

from typing import Literal

import torch
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
    _check_steps(steps)
    _check_finite(images, "images")
    return images.unsqueeze(0).expand(steps, *images.shape)


def rate(
    images: Float[Tensor, "batch *i"], steps: int, generator: torch.Generator | None = None
) -> Float[Tensor, "steps batch *i"]:
    """Spike in each step with the probability that the value is, independent of all other steps: Bernoulli spikes.

    A value v spikes where a number drawn evenly from [0, 1) is less than v: 0 never does, 1 always. Numbers are
    float64 for float64, else float32, so that those of half precision are exact probabilities, too.

    Args:
        images: `[B, ...]`, in [0, 1].
        steps: T, at least 1.
        generator: on the device of `images`; by default torch's own.

    Returns:
        spikes 0 and 1 `[T, B, ...]`, of the dtype of `images`.

    Raises:
        UsageError: if `steps` is less than 1, or values are outside of [0, 1].
        NonFiniteError: if `images` hold NaN or infinity.
    """
    _check_steps(steps)
    _check_unit(images)
    drawn = torch.rand(
        (steps, *images.shape), generator=generator, dtype=_at_least_single(images.dtype), device=images.device
    )
    return drawn.lt_(images.detach()).to(images.dtype)


def latency(images: Float[Tensor, "batch *i"], steps: int, threshold: float = 0.0) -> Float[Tensor, "steps batch *i"]:
    """Spike once, the earlier the greater the value: v in step `round((1 - v) * (T - 1))`, halves to the even step.

    1 spikes in the first step; values that are at most `threshold` never do. Times are computed in float64 for float64,
    else in float32.

    Args:
        images: `[B, ...]`, in [0, 1].
        steps: T, at least 1.
        threshold: the largest value that does not spike, in [0, 1).

    Returns:
        spikes 0 and 1 `[T, B, ...]`, of the dtype of `images`.

    Raises:
        UsageError: if `steps` is less than 1, or values or `threshold` are outside of [0, 1].
        NonFiniteError: if `images` hold NaN or infinity.
    """
    _check_steps(steps)
    if not 0 <= threshold < 1:
        raise UsageError(f"the threshold must be in [0, 1), found {threshold}")
    _check_unit(images)
    values = images.detach().to(_at_least_single(images.dtype)).unsqueeze(0)
    times = ((1 - values) * (steps - 1)).round().long()
    # values out of range are reported later where reading them makes the host wait, and NaN is not an index
    times.clamp_(0, steps - 1)
    spikes = images.new_zeros((steps, *images.shape))
    return spikes.scatter_(0, times, (values > threshold).to(images.dtype))


def delta(
    signal: Float[Tensor, "steps batch *i"], threshold: float, values: Literal["binary", "count"] = "binary"
) -> Float[Tensor, "steps batch 2 *i"]:
    """Spike when a signal has moved by a threshold (send on delta): on for up, off for down.

    Each input has a level, at first its first sample, so that the first step is silent. Where the signal is k whole
    thresholds away from it or more, the level follows by k thresholds. Thus the signal stays less than one threshold
    away from its level, which is the first sample plus `threshold` times all counts so far, on minus off.

    Args:
        signal: `[T, B, ...]`, T at least 1.
        threshold: greater than 0, in the units of the signal.
        values: one spike where the level moves, 0 or 1, or by how many thresholds it does, k.

    Returns:
        `[T, B, 2, ...]`, on first, then off, of the dtype of `signal`.

    Raises:
        UsageError: if `threshold` is not greater than 0, or there are no steps.
        NonFiniteError: if `signal` holds NaN or infinity.
    """
    _check_steps(len(signal))
    if not 0 < threshold < float("inf"):
        raise UsageError(f"the threshold must be greater than 0, found {threshold}")
    _check_finite(signal, "signals")
    # in thresholds away from the first sample, levels are whole and do not drift
    place = signal.detach().to(_at_least_single(signal.dtype))
    place = (place - place[0]) / threshold
    level = torch.zeros_like(place[0])
    moves = torch.empty_like(place)
    for now, move in zip(place, moves, strict=True):
        torch.trunc(now - level, out=move)
        level += move
    if values == "binary":
        moves.sign_()
    return torch.stack([moves.clamp(min=0), (-moves).clamp(min=0)], 2).to(signal.dtype)


def population(
    values: Float[Tensor, "*v"], neurons: int, low: float = 0.0, high: float = 1.0, width: float = 2 / 3
) -> Float[Tensor, "*v neurons"]:
    """Spread each value over neurons with Gaussian receptive fields (Bohte, Kok and La Poutre, Neurocomputing 2002).

    Centres are evenly spaced, the first at `low`, the last at `high`; neuron n answers a value v with
    `exp(-(v - centre[n])^2 / (2 * sigma^2))`, where sigma is `width` times the distance between centres.

    Args:
        values: `[B, ...]` or `[T, B, ...]`; values below `low` and above `high` are answered, too.
        neurons: per value, at least 2.
        low: centre of the first neuron.
        high: centre of the last neuron, greater than `low`.
        width: sigma in distances between centres, greater than 0; the paper takes 2/3.

    Returns:
        answers in [0, 1] `[..., neurons]`, of the dtype of `values`: analogue, for `constant`, `rate` or `latency`.

    Raises:
        UsageError: for arguments out of range.
        NonFiniteError: if `values` hold NaN or infinity.
    """
    if neurons < 2:
        raise UsageError(f"there must be at least 2 neurons, found {neurons}")
    if not float("-inf") < low < high < float("inf"):
        raise UsageError(f"low must be less than high, found {low} and {high}")
    if not 0 < width < float("inf"):
        raise UsageError(f"the width must be greater than 0, found {width}")
    _check_finite(values, "values")
    precise = values.to(_at_least_single(values.dtype)).unsqueeze(-1)
    centres = torch.linspace(low, high, neurons, dtype=precise.dtype, device=precise.device)
    sigma = width * (high - low) / (neurons - 1)
    return ((precise - centres) / sigma).square().mul(-0.5).exp().to(values.dtype)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise UsageError(f"steps must be at least 1, found {steps}")


def _check_finite(values: Tensor, name: str) -> None:
    require(all_finite(values), NonFiniteError, f"the {name} hold NaN or infinity: clean the data first")


def _check_unit(images: Tensor) -> None:
    _check_finite(images, "images")
    if images.numel():
        low, high = torch.aminmax(images)
        # NaN has been reported, and on a GPU the first failure counts
        require((low >= 0) & (high <= 1), UsageError, "the images hold values outside of [0, 1]: scale them first")


def _at_least_single(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
