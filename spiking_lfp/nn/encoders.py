"""Encoders: from images and signals to input sequences `[T, B, ...]`.

`constant` repeats the values themselves; `rate`, `latency` and `delta` generate spikes; `population` encodes a value in
the activities of several neurons, in [0, 1], which `constant`, `rate` or `latency` then turn into a sequence.

All take tensors, arrays and lists, of float16, bfloat16, float32 and float64, and return tensors of the same type.
Integers and truth values become numbers of torch's default type, float32, without being scaled.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from spiking_lfp.arguments import as_integer, check_choice
from spiking_lfp.checks import Values, all_finite, as_tensor, require
from spiking_lfp.errors import NonFiniteError, UsageError
from spiking_lfp.nn.noise import uniform

REAL_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGER_TYPES = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def constant(images: Values, steps: int) -> Float[Tensor, "steps batch *i"]:
    """Feed the same values in every step (LFP app. A.6.3), without copying them.

    Args:
        images: analogue inputs `[B, ...]`; values in [0, 1] work best.
        steps: T, at least 1.

    Returns:
        `[T, B, ...]`, a view of `images` with stride 0 over time; layers recognise it and multiply once, not T times.

    Raises:
        UsageError: if `steps` is less than 1.
        NonFiniteError: if `images` hold NaN or infinity.

    Example:
        >>> constant(torch.rand(32, 1, 28, 28), steps=25).shape
        torch.Size([25, 32, 1, 28, 28])
    """
    steps = as_integer(steps, "steps", 1)
    images = _as_real(images, "images")
    _check_finite(images, "images")
    return images.unsqueeze(0).expand(steps, *images.shape)


def rate(images: Values, steps: int, generator: torch.Generator | None = None) -> Float[Tensor, "steps batch *i"]:
    """Spike in each step with the value as the probability, independently of all other steps: Bernoulli spikes.

    A value v spikes where a uniform random number in [0, 1) is less than v: 0 never spikes, 1 always. These numbers are
    float64 for float64, else float32, so that values in half precision are exact probabilities, too.

    Args:
        images: `[B, ...]`, in [0, 1].
        steps: T, at least 1.
        generator: on the device of `images`. By default torch's own; in a run, spikes depend on seed, epoch and sample,
            not on the batch, the device or the number of processes.

    Returns:
        spikes 0 and 1 `[T, B, ...]`, of the dtype of `images`.

    Raises:
        UsageError: if `steps` is less than 1, or values are outside of [0, 1].
        NonFiniteError: if `images` hold NaN or infinity.

    Example:
        >>> spikes = rate([[0.0, 0.5, 1.0]], steps=1000, generator=torch.Generator().manual_seed(1))
        >>> spikes.mean(0)
        tensor([[0.0000, 0.5140, 1.0000]])
    """
    steps = as_integer(steps, "steps", 1)
    images = _as_real(images, "images")
    _check_unit(images)
    shape, dtype = (steps, *images.shape), _at_least_single(images.dtype)
    if generator is None:
        random = uniform(shape, dtype, images.device)
    else:
        random = torch.rand(shape, generator=generator, dtype=dtype, device=images.device)
    return random.lt_(images.detach()).to(images.dtype)


def latency(images: Values, steps: int, threshold: float = 0.0) -> Float[Tensor, "steps batch *i"]:
    """Spike once, earlier for greater values: v in step `round((1 - v) * (T - 1))`, rounding halves to the even step.

    1 spikes in the first step; values of at most `threshold` never spike. Times are computed in float64 for float64,
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

    Example:
        >>> latency([[1.0, 0.5, 0.0]], steps=5).argmax(0)  # 0 does not spike
        tensor([[0, 2, 0]])
    """
    steps = as_integer(steps, "steps", 1)
    if not 0 <= threshold < 1:
        raise UsageError(f"the threshold must be in [0, 1), found {threshold}")
    images = _as_real(images, "images")
    _check_unit(images)
    values = images.detach().to(_at_least_single(images.dtype)).unsqueeze(0)
    times = ((1 - values) * (steps - 1)).round().long()
    # on a GPU, values out of range are reported later; until then the index must be valid, which NaN is not
    times.clamp_(0, steps - 1)
    spikes = images.new_zeros((steps, *images.shape))
    return spikes.scatter_(0, times, (values > threshold).to(images.dtype))


def delta(
    signal: Values, threshold: float, values: Literal["binary", "count"] = "binary"
) -> Float[Tensor, "steps batch 2 *i"]:
    """Spike when a signal has changed by a threshold (send on delta): on for an increase, off for a decrease.

    Each input has a level, initially its first sample, so that the first step is silent. Where the signal is k whole
    thresholds or more away from the level, the level follows by k thresholds. Thus the signal stays less than one
    threshold away from its level, which is the first sample plus `threshold` times all counts so far, on minus off.

    Args:
        signal: `[T, B, ...]`, T at least 1.
        threshold: greater than 0, in the units of the signal.
        values: "binary": 1 where the level changes; "count": the number k of thresholds by which it changes.

    Returns:
        `[T, B, 2, ...]`, on first, then off, of the dtype of `signal`.

    Raises:
        UsageError: if `threshold` is not greater than 0, there are no steps, or `values` is another word.
        NonFiniteError: if `signal` holds NaN or infinity.

    Example:
        >>> signal = torch.tensor([0.0, 0.3, 0.6, 0.5, 0.1]).view(5, 1)  # [T, B]
        >>> on, off = delta(signal, threshold=0.25)[:, 0].unbind(1)
        >>> on.int().tolist(), off.int().tolist()
        ([0, 1, 1, 0, 0], [0, 0, 0, 0, 1])
    """
    signal = _as_real(signal, "signals")
    as_integer(len(signal), "steps", 1)
    check_choice("values", values, ("binary", "count"))
    if not 0 < threshold < float("inf"):
        raise UsageError(f"the threshold must be greater than 0, found {threshold}")
    _check_finite(signal, "signals")
    # relative to the first sample and in units of the threshold, levels are integers and do not drift
    precise = signal.detach().to(_at_least_single(signal.dtype))
    relative = (precise - precise[0]) / threshold
    level = torch.zeros_like(relative[0])
    changes = torch.empty_like(relative)
    for now, change in zip(relative, changes, strict=True):
        torch.trunc(now - level, out=change)
        level += change
    if values == "binary":
        changes.sign_()
    return torch.stack([changes.clamp(min=0), (-changes).clamp(min=0)], 2).to(signal.dtype)


def population(
    values: Values, neurons: int, low: float = 0.0, high: float = 1.0, width: float = 2 / 3
) -> Float[Tensor, "*v neurons"]:
    """Encode each value in neurons with Gaussian receptive fields (Bohte, Kok and La Poutre, Neurocomputing 2002).

    Centres are evenly spaced, the first at `low`, the last at `high`; the activity of neuron n for a value v is
    `exp(-(v - centre[n])^2 / (2 * sigma^2))`, where sigma is `width` times the distance between centres.

    Args:
        values: `[B, ...]` or `[T, B, ...]`; values below `low` and above `high` are allowed.
        neurons: number of neurons per value, at least 2.
        low: centre of the first neuron.
        high: centre of the last neuron, greater than `low`.
        width: sigma in distances between centres, greater than 0; the paper takes 2/3.

    Returns:
        activities in [0, 1] `[..., neurons]`, of the dtype of `values`, for `constant`, `rate` or `latency`.

    Raises:
        UsageError: for arguments out of range.
        NonFiniteError: if `values` hold NaN or infinity.

    Example:
        >>> population([0.0, 0.5], neurons=3)
        tensor([[1.0000, 0.3247, 0.0111],
                [0.3247, 1.0000, 0.3247]])
    """
    neurons = as_integer(neurons, "neurons", 2)
    if not float("-inf") < low < high < float("inf"):
        raise UsageError(f"low must be less than high, found {low} and {high}")
    if not 0 < width < float("inf"):
        raise UsageError(f"the width must be greater than 0, found {width}")
    values = _as_real(values, "values")
    _check_finite(values, "values")
    precise = values.to(_at_least_single(values.dtype)).unsqueeze(-1)
    centres = torch.linspace(low, high, neurons, dtype=precise.dtype, device=precise.device)
    sigma = width * (high - low) / (neurons - 1)
    return ((precise - centres) / sigma).square().mul(-0.5).exp().to(values.dtype)


def _as_real(values: Values, name: str) -> Tensor:
    """Return integers and truth values as numbers of torch's default type; refuse those that it does not hold."""
    values = as_tensor(values, f"the {name}")
    if values.dtype in REAL_TYPES:
        return values
    if values.dtype not in INTEGER_TYPES:
        raise UsageError(f"the {name} are {values.dtype}, expected real numbers or integers: convert them to float32")
    real = values.to(torch.get_default_dtype())
    require(
        (real.to(values.dtype) == values).all(),
        UsageError,
        f"the {name} are integers too large for {real.dtype}: scale them first, or convert them to float64",
    )
    return real


def _check_finite(values: Tensor, name: str) -> None:
    require(all_finite(values), NonFiniteError, f"the {name} hold NaN or infinity: clean the data first")


def _check_unit(images: Tensor) -> None:
    _check_finite(images, "images")
    if images.numel():
        low, high = torch.aminmax(images)
        # NaN is reported already: on a GPU the first failure counts
        require((low >= 0) & (high <= 1), UsageError, "the images hold values outside of [0, 1]: scale them first")


def _at_least_single(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
