"""Spikes kept as bits, and the geometry of a convolution that sees them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

Array = NDArray[Any]


@dataclass(frozen=True)
class PackedSpikes:
    """Spikes `[T, B, *i]`, one bit each.

    Attributes:
        bits: `[T * B, words]` int64, 64 features each, in memory order (channels last for images).
        counts: `[T * B]` int64, spikes of each step and sample.
        shape: of the spikes.
    """

    bits: Tensor
    counts: Tensor
    shape: torch.Size


# spikes by the tensor that holds them too, as long as it lives
_handed_on: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def hand_on(spikes: Tensor, packed: PackedSpikes) -> None:
    """Let the layer that sees `spikes` next have them as bits too."""
    _handed_on[spikes] = packed


def handed_on(x: Tensor) -> PackedSpikes | None:
    """Return the spikes of `x` as bits if the layer that made it handed them on, and nobody wrote to it since."""
    found: PackedSpikes | None = None if x.is_inference() or x._version else _handed_on.get(x)
    return found


@dataclass(frozen=True)
class Window:
    """What a convolution without dilation and groups sees; heights come before widths.

    Attributes:
        image: height and width of the input.
    """

    image: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @property
    def out(self) -> tuple[int, int]:
        """Height and width of the output."""
        sides = zip(self.image, self.kernel, self.stride, self.padding, strict=True)
        height, width = ((side + 2 * pad - kernel) // stride + 1 for side, kernel, stride, pad in sides)
        return height, width

    def pairs(self) -> tuple[Array, Array, Array]:
        """For each pixel of the input: how many pixels of the output see it, which, and through which of the weights.

        Returns:
            counts `[H * W]`, pixels and weights `[H * W, kernel pixels]`; only the first `counts` are meant.
        """
        places = [np.arange(size) for size in self.image]
        taps = [np.arange(size) for size in self.kernel]
        line, kernel_line, column, kernel_column = np.meshgrid(
            places[0], taps[0], places[1], taps[1], indexing="ij", sparse=True
        )
        y, above = np.divmod(line + self.padding[0] - kernel_line, self.stride[0])
        x, beside = np.divmod(column + self.padding[1] - kernel_column, self.stride[1])
        seen = (above == 0) & (y >= 0) & (y < self.out[0]) & (beside == 0) & (x >= 0) & (x < self.out[1])
        pixels = y * self.out[1] + x
        weights = np.broadcast_to(kernel_line * self.kernel[1] + kernel_column, seen.shape)

        def by_input(values: Array) -> Array:
            return values.transpose(0, 2, 1, 3).reshape(self.image[0] * self.image[1], -1)

        first = np.argsort(~by_input(seen), axis=1, kind="stable")  # those that are meant come first
        taken: list[Array] = [np.take_along_axis(by_input(values), first, axis=1) for values in (pixels, weights)]
        return by_input(seen).sum(1), taken[0], taken[1]
