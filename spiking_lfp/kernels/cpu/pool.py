"""Pooling of spikes for CPU, compiled by numba; equal to torch by test."""

from typing import Any, no_type_check

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.kernels.compilation import kernel
from spiking_lfp.kernels.cpu.rows import lanes, lowest_bit, nonzeros
from spiking_lfp.kernels.cpu.threads import all_threads, in_threads
from spiking_lfp.kernels.layout import channels_last, flat, show_channels_first, show_channels_last

Array = NDArray[Any]


@kernel
@no_type_check
def _max_pool(
    begin: int, end: int, x: Array, high: int, wide: int, down: int, right: int, out: Array, winner: Array
) -> None:
    """Pool `[N, H, W, C]` with windows `high` x `wide`, `down` and `right` apart.

    `winner` is the place in the window, counted row by row; the first of equals wins.
    """
    if in_threads(begin, end):
        return
    images, height, width, channels = out.shape
    columns = x.shape[2] * channels
    # the best of each column of a window first, since lines are longer than pixels
    upright, above = np.empty(columns, out.dtype), np.empty(columns, np.uint8)
    lines = x.reshape(images, x.shape[1], columns)
    for m in range(begin, end):
        for i in range(height):
            for j in range(columns):
                upright[j] = lines[m, i * down, j]
                above[j] = 0
            for k in range(1, high):
                line = lines[m, i * down + k]
                for j in range(columns):
                    better = (line[j] > upright[j]) | (line[j] != line[j])  # NaN wins, as in torch
                    upright[j] = line[j] if better else upright[j]
                    above[j] = wide * k if better else above[j]
            for j in range(width):
                best, where = out[m, i, j], winner[m, i, j]
                start = j * right * channels
                for c in range(channels):
                    best[c] = upright[start + c]
                    where[c] = above[start + c]
                for k in range(1, wide):
                    value = upright[start + k * channels : start + (k + 1) * channels]
                    place = above[start + k * channels : start + (k + 1) * channels]
                    for c in range(channels):
                        later = place[c] + k
                        better = (value[c] > best[c]) | (value[c] != value[c])
                        better |= (value[c] == best[c]) & (later < where[c])
                        best[c] = value[c] if better else best[c]
                        where[c] = later if better else where[c]


@kernel
@no_type_check
def _max_pool_feedback(
    begin: int, end: int, feedback: Array, winner: Array, high: int, wide: int, down: int, right: int, out: Array
) -> None:
    """Add `feedback` `[N, P * Q * C]`, most of it 0, to `out` `[N, H, W, C]` where the winners were."""
    if in_threads(begin, end):
        return
    _, size = feedback.shape
    _, _, columns, channels = winner.shape
    width = out.shape[2]
    # where each window starts in an image, and from there each of its places
    starts = np.empty(size, np.int32)
    for j in range(size):
        line, column = j // channels // columns, j // channels % columns
        starts[j] = (line * width * down + column * right) * channels + j % channels
    places = np.empty(high * wide, np.int32)
    for k in range(high * wide):
        places[k] = (k // wide * width + k % wide) * channels
    for m in range(begin, end):
        image, won = out[m].reshape(-1), winner[m].reshape(-1)
        for j in range(image.shape[0]):
            image[j] = 0
        for start in range(0, size, 64):
            word = nonzeros(lanes(start, size), feedback, m * size + start)
            while word:
                j = start + lowest_bit(word)
                word &= word - np.uint64(1)
                image[starts[j] + places[won[j]]] += feedback[m, j]


def max_pool(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Pool `[N, C, H, W]`; return the largest values and which of the window's places held them first, as uint8."""
    sides = zip(x.shape[2:], kernel, stride, strict=True)
    height, width = ((size - side) // apart + 1 for size, side, apart in sides)
    out = x.new_empty((len(x), height, width, x.shape[1]))
    winner = torch.empty(out.shape, dtype=torch.uint8)
    _max_pool(
        all_threads(),
        len(x),
        show_channels_last(channels_last(x, 1), 1).numpy(),
        *kernel,
        *stride,
        out.numpy(),
        winner.numpy(),
    )
    return show_channels_first(out, 1), winner


def max_pool_feedback(
    feedback: Tensor, winner: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], shape: torch.Size
) -> Tensor:
    """Hand `feedback` `[N, C, P, Q]` to the winners; return it in the `shape` `[N, C, H, W]` of the input."""
    out = feedback.new_empty((shape[0], *shape[2:], shape[1]))
    _max_pool_feedback(
        all_threads(), shape[0], flat(feedback, 1).numpy(), winner.numpy(), *kernel, *stride, out.numpy()
    )
    return show_channels_first(out, 1)
