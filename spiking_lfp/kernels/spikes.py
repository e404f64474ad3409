"""Spikes kept as bits, and the geometry of a convolution that sees them."""

from dataclasses import dataclass
from math import prod
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
        bits: `[T * B, words]` int64, 64 features each, in memory order (channels last).
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
    """What a convolution without dilation and groups sees, along any number of axes; row-major, the last one fastest.

    Attributes:
        image: sides of the input.
    """

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    @property
    def out(self) -> tuple[int, ...]:
        """Sides of the output."""
        sides = zip(self.image, self.kernel, self.stride, self.padding, strict=True)
        return tuple((side + 2 * pad - kernel) // stride + 1 for side, kernel, stride, pad in sides)

    def pairs(self) -> tuple[Array, Array, Array]:
        """For each pixel of the input: how many pixels of the output see it, which, and through which of the weights.

        Returns:
            counts `[pixels]`, pixels and weights `[pixels, kernel pixels]`; only the first `counts` are meant.
        """
        axes = len(self.image)
        seen, pixels, weights = np.ones(1, bool), np.zeros(1, np.int64), np.zeros(1, np.int64)
        for axis in range(axes):
            sides = [1] * (2 * axes)
            sides[axis], sides[axes + axis] = self.image[axis], self.kernel[axis]
            tap = np.arange(self.kernel[axis])
            start = np.arange(self.image[axis])[:, None] + self.padding[axis] - tap
            place, beside = np.divmod(start, self.stride[axis])
            meant = (beside == 0) & (place >= 0) & (place < self.out[axis])
            seen = seen & meant.reshape(sides)
            pixels = pixels * self.out[axis] + place.reshape(sides)
            weights = weights * self.kernel[axis] + np.broadcast_to(tap, place.shape).reshape(sides)

        def by_input(values: Array) -> Array:
            return np.broadcast_to(values, seen.shape).reshape(prod(self.image), -1)

        first = np.argsort(~by_input(seen), axis=1, kind="stable")  # those that are meant come first
        taken: list[Array] = [np.take_along_axis(by_input(values), first, axis=1) for values in (pixels, weights)]
        return by_input(seen).sum(1), taken[0], taken[1]
