"""Layers that pool windows of sequences `[T, B, C, *sides]` and hand feedback to what they pooled."""

from collections.abc import Iterable
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from spiking_lfp.checks import expect_tensor
from spiking_lfp.errors import UsageError
from spiking_lfp.lfp.functions import AffineFunction, Spec, max_pool
from spiking_lfp.lfp.synapses import SIDES, LinearMap, sequence
from spiking_lfp.lfp.tape import check_below
from spiking_lfp.nn.layers import opaque
from spiking_lfp.rules import Rule, checked_rule

# of a window: one number for all axes, or one for each
Sides = int | tuple[int, ...]


class Pool(nn.Module):
    """Base class of the layers that pool windows of sequences `[T, B, C, *sides]`.

    Args:
        kernel_size: sides of the window, one number for all or one for each axis: `(1, 2)` pools the last axis only.
        stride: distances between windows; the kernel size if None.
        padding: how much is added at both ends of each axis, at most half the window.

    Raises:
        UsageError: for windows that cannot be, and inputs that do not fit.
    """

    axes: ClassVar[int]
    # one number where those of all axes are equal, else one for each
    kernel_size: Any
    stride: Any
    padding: Any

    def __init__(self, kernel_size: Sides, stride: Sides | None = None, padding: Sides = 0) -> None:
        super().__init__()
        self.kernel_size = self._sides("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else self._sides("stride", stride, 1)
        self.padding = self._sides("padding", padding, 0)
        if any(2 * pad > side for pad, side in zip(self.of("padding"), self.of("kernel_size"), strict=True)):
            raise UsageError(f"padding must be at most half of kernel_size, found {padding} and {kernel_size}")

    def _sides(self, name: str, given: Sides, least: int) -> Sides:
        """Check sizes, and return one number where those of all axes are equal."""
        sides = tuple(given) if isinstance(given, Iterable) else (given,) * self.axes
        if len(sides) != self.axes or not all(isinstance(side, int) and side >= least for side in sides):
            expected = f"an integer of at least {least}, or {self.axes} of them"
            raise UsageError(f"{name} of {type(self).__name__} must be {expected}, found {given}")
        return sides[0] if len(set(sides)) == 1 else sides

    def of(self, name: str, images: bool = False) -> tuple[int, ...]:
        """Return `kernel_size`, `stride` or `padding` of each axis.

        Args:
            name: which of them.
            images: of signals as images one pixel high.
        """
        given: Sides = getattr(self, name)
        sides = (given,) * self.axes if isinstance(given, int) else given
        return (0 if name == "padding" else 1, *sides) if images and self.axes == 1 else sides

    def _images(self, x: Tensor) -> Tensor:
        """Merge time and batch of `x`, signals as images one pixel high, after checking that a window fits."""
        expect_tensor(x, self)
        least = [side - 2 * pad for side, pad in zip(self.of("kernel_size"), self.of("padding"), strict=True)]
        if x.dim() != 3 + self.axes or any(size < max(n, 1) for size, n in zip(x.shape[3:], least, strict=True)):
            sides = ", ".join(f"{name} >= {max(n, 1)}" for name, n in zip(SIDES[self.axes], least, strict=True))
            raise UsageError(f"{self}: expected [T, B, C, {sides}], found {list(x.shape)}")
        images = x.flatten(0, 1)
        return images.unsqueeze(2) if self.axes == 1 else images

    def _sequence(self, images: Tensor, x: Tensor) -> Tensor:
        """Split time and batch again, those of `x`."""
        return sequence(images.squeeze(2) if self.axes == 1 else images, x)

    def extra_repr(self) -> str:
        """Show the window."""
        shown = f"kernel_size={self.kernel_size}, stride={self.stride}"
        return shown if self.padding == 0 else f"{shown}, padding={self.padding}"


class MaxPool(Pool):
    """Base class of max pooling; feedback goes to the largest value, to the first of equal ones."""

    @opaque
    def forward(self, x: Float[Tensor, "steps batch c *sides"]) -> Float[Tensor, "steps batch c *pooled"]:
        """Return the largest value of each window."""
        window = (self.of(name, images=True) for name in ("kernel_size", "stride", "padding"))
        return self._sequence(max_pool(self._images(x), *window), x)


class MaxPool1d(MaxPool):
    """Max pooling of signals `[T, B, C, length]`; see `Pool` and `MaxPool`.

    Example:
        >>> MaxPool1d(2)(torch.tensor([0.0, 1.0, 0.0, 0.0]).view(1, 1, 1, 4)).flatten().tolist()
        [1.0, 0.0]
    """

    axes = 1


class MaxPool2d(MaxPool):
    """Max pooling of images `[T, B, C, height, width]`; see `Pool` and `MaxPool`.

    Example:
        >>> MaxPool2d((1, 2))(torch.eye(4).view(1, 1, 1, 4, 4)).shape
        torch.Size([1, 1, 1, 4, 2])
    """

    axes = 2


class MaxPool3d(MaxPool):
    """Max pooling of volumes `[T, B, C, depth, height, width]`; see `Pool` and `MaxPool`.

    Example:
        >>> MaxPool3d(2, stride=1)(torch.ones(5, 1, 3, 4, 8, 8)).shape
        torch.Size([5, 1, 3, 3, 7, 7])
    """

    axes = 3


class AvgPool(Pool):
    """Base class of mean and sum pooling, fixed weights: feedback is divided by the rule.

    Zeros that are added as padding count as values of the mean.

    Args:
        kernel_size: as in `Pool`, and so are stride and padding.
        rule: LFP rule, `Epsilon()` if None.
    """

    divides: ClassVar[bool] = True

    def __init__(
        self, kernel_size: Sides, stride: Sides | None = None, padding: Sides = 0, rule: Rule | None = None
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.rule = checked_rule(rule)

    @opaque
    def forward(self, x: Float[Tensor, "steps batch c *sides"]) -> Float[Tensor, "steps batch c *pooled"]:
        """Return the mean, or sum, of each window."""
        kernel, stride, padding = (self.of(name, images=True) for name in ("kernel_size", "stride", "padding"))
        run = F.avg_pool3d if self.axes == 3 else F.avg_pool2d
        divisor = None if self.divides else 1

        def pool(sequences: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            pooled = run(self._images(sequences), kernel, stride, padding, divisor_override=divisor)
            return self._sequence(pooled, sequences) * weight

        self._images(x)
        check_below(str(self), (x,))
        out: Tensor = AffineFunction.apply(x, x.new_ones(()), None, Spec(LinearMap(pool), self.rule, str(self)))
        return out


class AvgPool1d(AvgPool):
    """Mean pooling of signals `[T, B, C, length]`; see `AvgPool`.

    Example:
        >>> AvgPool1d(2)(torch.tensor([0.0, 1.0, 0.0, 0.0]).view(1, 1, 1, 4)).flatten().tolist()
        [0.5, 0.0]
    """

    axes = 1


class AvgPool2d(AvgPool):
    """Mean pooling of images `[T, B, C, height, width]`; see `AvgPool`.

    Example:
        >>> AvgPool2d(2)(torch.eye(4).view(1, 1, 1, 4, 4)).flatten().tolist()
        [0.5, 0.0, 0.0, 0.5]
    """

    axes = 2


class AvgPool3d(AvgPool):
    """Mean pooling of volumes `[T, B, C, depth, height, width]`; see `AvgPool`.

    Example:
        >>> AvgPool3d((1, 2, 2))(torch.ones(5, 1, 3, 4, 8, 8)).shape
        torch.Size([5, 1, 3, 4, 4, 4])
    """

    axes = 3


class SumPool1d(AvgPool):
    """Sum pooling of signals `[T, B, C, length]`: of spikes, their counts; see `AvgPool`.

    Example:
        >>> SumPool1d(2)(torch.tensor([0.0, 1.0, 1.0, 1.0]).view(1, 1, 1, 4)).flatten().tolist()
        [1.0, 2.0]
    """

    axes, divides = 1, False


class SumPool2d(AvgPool):
    """Sum pooling of images `[T, B, C, height, width]`: of spikes, their counts; see `AvgPool`.

    Example:
        >>> SumPool2d(2)(torch.ones(1, 1, 1, 2, 4)).flatten().tolist()
        [4.0, 4.0]
    """

    axes, divides = 2, False


class SumPool3d(AvgPool):
    """Sum pooling of volumes `[T, B, C, depth, height, width]`: of spikes, their counts; see `AvgPool`.

    Example:
        >>> SumPool3d((4, 1, 1))(torch.ones(1, 1, 1, 4, 1, 2)).flatten().tolist()
        [4.0, 4.0]
    """

    axes, divides = 3, False
