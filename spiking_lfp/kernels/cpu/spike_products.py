"""Event-driven products for CPU: what a synapse computes when its inputs are spikes, and most of them are silent.

A product with zeros and ones adds up rows of weights, and adding only those that are wanted beats the best dense
product while fewer than about a quarter of the inputs spike; `packing.pack_spikes` decides. Feedback goes only to
inputs that spiked, since it is a share of what they gave. Spikes are kept as one bit each.

Shapes: T steps, B batch, F features of one sample, in memory order; K rows of a weight table (the inputs a
neuron sees), O output neurons of a sample or channels of a pixel. Tables are cut into tiles of columns that stay in the
second-level cache: `[tiles, K, columns]`.
"""

from functools import cache
from math import prod
from typing import Any, no_type_check

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.kernels.compilation import kernel
from spiking_lfp.kernels.cpu.rows import add_rows, lowest_bit, share_rows, share_word, sum_rows, transpose
from spiking_lfp.kernels.cpu.threads import all_threads, in_threads
from spiking_lfp.kernels.cpu.vectors import VECTOR_BYTES
from spiking_lfp.kernels.layout import flat
from spiking_lfp.kernels.spikes import PackedSpikes, Window

Array = NDArray[Any]
# outputs up to which both adjoints go through inputs 64 at a time instead of one by one
FEW_OUTPUTS = 32
# rows of outputs that are computed tile by tile
ROWS = 512
# additions that take less time than waking other threads
ALONE = 2**17
# vectors of a row in a tile: so many sums fit into the registers of all machines
TILE_VECTORS = 4


@njit(inline="always")
@no_type_check
def list_bits(bits: Array, n: int, found: Array) -> int:
    """List the places of the bits set in row `n`, and return how many there are."""
    count = 0
    for w in range(bits.shape[1]):
        word = bits[n, w]
        while word:
            found[count] = 64 * w + lowest_bit(word)
            count += 1
            word &= word - np.uint64(1)
    return count


@njit(inline="always")
@no_type_check
def transpose_block(
    x: Array, at: int, stride: int, rows: int, columns: int, out: Array, to: int, out_stride: int
) -> None:
    """Write the transpose of `rows` x `columns` values from `x[at:]` to `out[to:]`; rows are `stride` values apart."""
    lanes = VECTOR_BYTES // x.itemsize
    for r in range(0, rows, lanes):
        for c in range(0, columns, lanes):
            place, turned = at + r * stride + c, to + c * out_stride + r
            transpose(x, place, stride, rows - r, columns - c, out, turned, out_stride)


@kernel
@no_type_check
def _tiles(begin: int, end: int, matrix: Array, tiles: Array) -> None:
    """Write the transpose of `matrix` `[O, K]` into `tiles`, 64 inputs at a time; columns beyond O become 0."""
    if in_threads(begin, end):
        return
    outputs, inputs = matrix.shape
    _, _, width = tiles.shape
    blocks = (inputs + 63) // 64
    for part in range(begin, end):
        tile, start = part // blocks, part % blocks * 64
        low, size = tile * width, min(64, inputs - start)
        high = min(low + width, outputs)
        for i in range(start, start + size):
            for o in range(high - low, width):
                tiles[tile, i, o] = 0
        for o in range(low, high, 64):  # blocks, so that neither side leaves the first-level cache
            to = (tile * inputs + start) * width + o - low
            transpose_block(matrix, o * inputs + start, inputs, min(64, high - o), size, tiles, to, width)


def tiles_of(matrix: Tensor, vectors: int) -> Array:
    """Return the weights `[O, K]` as tiles of their transpose, so many vectors wide."""
    outputs, inputs = matrix.shape
    width = VECTOR_BYTES // matrix.element_size() * vectors
    tiles: Array = matrix.new_empty((-(-outputs // width), inputs, width)).numpy()
    _tiles(all_threads(), len(tiles) * -(-inputs // 64), matrix.detach().contiguous().numpy(), tiles)
    return tiles


@njit(inline="always")
@no_type_check
def _sum_tile(
    table: Array, tile: int, rows: Array, first: int, count: int, bias: Array, low: int, size: int, out: Array, at: int
) -> None:
    """Write into `out[at:]` the outputs of one tile: bias plus the table's rows `rows[first:first + count]`."""
    _, inputs, width = table.shape
    for o in range(size):
        out[at + o] = bias[low + o]
    if width * table.itemsize == VECTOR_BYTES:
        sum_rows(table, tile * inputs * width, rows, first, count, out, at, 1)
    else:
        sum_rows(table, tile * inputs * width, rows, first, count, out, at, TILE_VECTORS)


@kernel
@no_type_check
def _dense_current(
    begin: int, end: int, bits: Array, batch: int, table: Array, bias: Array, parts: int, room: int, out: Array
) -> None:
    """Write `[N, O]`, flat; no row of `bits` lists `room` spikes or more."""
    if in_threads(begin, end):
        return
    rows = bits.shape[0]
    steps = rows // batch
    outputs, width = bias.shape[0], table.shape[2]
    most = rows // parts + 1
    listed, counts = np.empty(most * room, np.uint32), np.empty(most, np.int64)
    spare = np.empty(width, out.dtype)
    for o in range(width):
        spare[o] = 0
    for part in range(begin, end):
        first, last = part * rows // parts, (part + 1) * rows // parts
        # a sample's steps one after the other: they need the same rows
        for r in range(first, last):
            k = r - first
            counts[k] = list_bits(bits, r % steps * batch + r // steps, listed[k * room :])
        for tile in range(table.shape[0]):
            low = tile * width
            size = min(width, outputs - low)
            for r in range(first, last):
                k, at = r - first, (r % steps * batch + r // steps) * outputs + low
                # the last tile may be wider than what is left of the outputs
                target, to = (out, at) if size == width else (spare, 0)
                _sum_tile(table, tile, listed, k * room, counts[k], bias, low, size, target, to)
                if size < width:
                    for o in range(size):
                        out[at + o] = spare[o]


@kernel
@no_type_check
def _picked_current(begin: int, end: int, bits: Array, weight: Array, bias: Array, room: int, out: Array) -> None:
    """Write `[N, O]`, adding up the very same weights in the same order as `_dense_current`, but where they stand."""
    if in_threads(begin, end):
        return
    listed, counts = np.empty((bits.shape[0], room), np.uint32), np.empty(bits.shape[0], np.int64)
    for n in range(bits.shape[0]):
        counts[n] = list_bits(bits, n, listed[n])
    for o in range(begin, end):
        row = weight[o]
        for n in range(bits.shape[0]):
            total = bias[o]
            for k in range(counts[n]):
                total += row[listed[n, k]]
            out[n, o] = total


def dense_current(spikes: PackedSpikes, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `W x + b`, `[T, B, O]`, for spikes `[T, B, K]` and `weight` `[O, K]`."""
    out = weight.new_empty((*spikes.shape[:2], len(weight)))
    found = int(spikes.counts.sum())
    if found < weight.shape[1]:  # fewer than tiles of the weights would have to be written
        begin = 0 if found * len(weight) < ALONE else all_threads()
        rows, room = out.flatten(0, 1).numpy(), int(spikes.counts.max()) + 1
        weights = weight.detach().contiguous().numpy()
        _picked_current(begin, len(weight), _bits(spikes), weights, bias_of(bias, weight), room, rows)
        return out
    threads, batch = all_threads(), spikes.shape[1]
    # as many for each thread, small enough for the translation of the addresses of their outputs to stay at hand
    parts = -threads * max(1, -(-len(spikes.counts) // (ROWS * -threads)))
    vectors = 1 if len(weight) * weight.element_size() <= VECTOR_BYTES else TILE_VECTORS
    room = int(spikes.counts.max()) + 1
    arrays = _bits(spikes), batch, tiles_of(weight, vectors), bias_of(bias, weight)
    _dense_current(threads, parts, *arrays, parts, room, out.flatten().numpy())
    return out


@kernel
@no_type_check
def _alive(begin: int, end: int, q: Array, hit: Array) -> None:
    """Mark in `hit` `[parts, O]` the outputs with any feedback in a part of the rows."""
    if in_threads(begin, end):
        return
    rows, outputs = q.shape
    parts = hit.shape[0]
    for part in range(begin, end):
        for n in range(part * rows // parts, (part + 1) * rows // parts):
            for o in range(outputs):
                hit[part, o] |= q[n, o] != 0


@kernel
@no_type_check
def _take(begin: int, end: int, q: Array, alive: Array, taken: Array) -> None:
    """Copy the columns `alive` of `q`, and fill up with zeros."""
    if in_threads(begin, end):
        return
    for n in range(begin, end):
        for k in range(alive.shape[0]):
            taken[n, k] = q[n, alive[k]]
        for k in range(alive.shape[0], taken.shape[1]):
            taken[n, k] = 0


@kernel
@no_type_check
def _dense_adjoints(
    begin: int, end: int, bits: Array, inputs: int, q: Array, table: Array, need_input: bool, feedback: Array,
    outer: Array,
) -> None:  # fmt: skip
    """Write `x * (W^T q)` `[N, K]` if it is needed, and the update `[K, columns]`, word by word."""
    if in_threads(begin, end):
        return
    rows, width = q.shape
    vectors = width * q.itemsize // VECTOR_BYTES
    start = np.empty(1, np.int64)
    start[0] = 0
    for w in range(begin, end):
        low, high = 64 * w, min(64 * w + 64, inputs)
        for i in range(low, high):
            for k in range(width):
                outer[i, k] = 0
        for n in range(rows):
            if need_input:
                for i in range(low, high):
                    feedback[n, i] = 0
            word = bits[n, w]
            while word:
                i = low + lowest_bit(word)
                word &= word - np.uint64(1)
                row = i * width
                share = share_rows(q, n * width, start, table, row, outer, row, start, 0, 1, vectors)
                if need_input:
                    feedback[n, i] = share


@kernel
@no_type_check
def _put(begin: int, end: int, outer: Array, alive: Array, out: Array) -> None:
    """Write the transpose of `outer` into the rows `alive` of `out`, and zeros into the others, 64 inputs at a time."""
    if in_threads(begin, end):
        return
    inputs, width = outer.shape
    turned = np.empty((64, 64), out.dtype)
    for part in range(begin, end):  # blocks, so that neither side leaves the cache
        low = 64 * part
        size = min(64, inputs - low)
        for o in range(out.shape[0]):
            for i in range(size):
                out[o, low + i] = 0
        for first in range(0, alive.shape[0], 64):
            count = min(64, alive.shape[0] - first)
            transpose_block(outer, low * width + first, width, size, count, turned, 0, 64)
            for k in range(count):
                for i in range(size):
                    out[alive[first + k], low + i] = turned[k, i]


@kernel
@no_type_check
def _few_adjoints(begin: int, end: int, bits: Array, q: Array, weight: Array, feedback: Array, outer: Array) -> None:
    """Write `x * (W^T q)` `[N, K]`, and the update as shares `[parts, O, K]`, 64 inputs at a time."""
    if in_threads(begin, end):
        return
    rows, outputs = q.shape
    inputs = weight.shape[1]
    parts = outer.shape[0]
    listed = np.empty(outputs, np.uint32)
    for part in range(begin, end):
        mine = outer[part]
        for o in range(outputs):
            for i in range(inputs):
                mine[o, i] = 0
        for n in range(part * rows // parts, (part + 1) * rows // parts):
            count = 0
            for o in range(outputs):
                if q[n, o] != 0:
                    listed[count] = o
                    count += 1
            for w in range(bits.shape[1]):
                word, low = bits[n, w], 64 * w
                if low + 64 <= inputs:
                    share_word(
                        word, q, n * outputs, listed, count, weight, inputs, low, feedback, n * inputs + low, mine
                    )
                    continue
                for i in range(inputs - low):
                    feedback[n, low + i] = 0
                while word:
                    i = low + lowest_bit(word)
                    word &= word - np.uint64(1)
                    for k in range(count):
                        o = listed[k]
                        feedback[n, i] += q[n, o] * weight[o, i]
                        mine[o, i] += q[n, o]


def dense_adjoints(
    spikes: PackedSpikes, q: Tensor, weight: Tensor, need_input: bool, need_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Return `x * (W^T q)` `[T, B, K]` and `sum q x^T` `[O, K]` for `q` `[T, B, O]`.

    Outputs that get no feedback in the whole batch are left out: while learning, about half of a layer.
    """
    threads, inputs = all_threads(), spikes.shape[2]
    rows = q.flatten(0, 1).numpy()
    if len(weight) <= FEW_OUTPUTS:
        feedback, shares = q.new_empty(spikes.shape), q.new_empty((-threads, *weight.shape))
        array = weight.detach().contiguous().numpy()
        _few_adjoints(threads, -threads, _bits(spikes), rows, array, feedback.flatten(0, 1).numpy(), shares.numpy())
        return feedback if need_input else None, shares.sum(0) if need_weight else None
    hit = np.zeros((-threads, len(weight)), np.uint8)
    _alive(threads, -threads, rows, hit)
    alive = np.nonzero(hit.any(0))[0]
    table = _columns(weight.detach()[torch.from_numpy(alive)])
    taken: Array = q.new_empty((len(rows), table.shape[1])).numpy()
    _take(threads, len(rows), rows, alive, taken)
    feedback, columns = q.new_empty(spikes.shape), q.new_empty(table.shape).numpy()
    bits, flat_feedback = _bits(spikes), feedback.flatten(0, 1).numpy()
    _dense_adjoints(threads, bits.shape[1], bits, inputs, taken, table, need_input, flat_feedback, columns)
    outer = torch.empty_like(weight) if need_weight else None
    if outer is not None:
        _put(threads, bits.shape[1], columns, alive, outer.numpy())
    return feedback if need_input else None, outer


@njit(inline="always")
@no_type_check
def _list_by_channel(bits: Array, n: int, channels: int, found: Array, place: Array) -> int:
    """List the features that spike, channel by channel, so that the weights of one stay in the first-level cache."""
    count = list_bits(bits, n, found[0])
    for k in range(channels + 1):
        place[k] = 0
    for k in range(count):
        place[found[0, k] % channels + 1] += 1
    for channel in range(channels):
        place[channel + 1] += place[channel]
    for k in range(count):
        channel = found[0, k] % channels
        found[1, place[channel]] = found[0, k]
        place[channel] += 1
    return count


@kernel
@no_type_check
def _conv_current(
    begin: int, end: int, bits: Array, channels: int, seen: Array, pixels: Array, weights: Array, table: Array,
    bias: Array, out: Array,
) -> None:  # fmt: skip
    """Write `[N, pixels of the output, columns]`: add each spike's weights to every pixel that sees it."""
    if in_threads(begin, end):
        return
    _, size, width = out.shape
    features = seen.shape[0] * channels
    taps = pixels.shape[0] // seen.shape[0]
    vectors = width * out.itemsize // VECTOR_BYTES
    found, place = np.empty((2, features), np.uint32), np.empty(channels + 1, np.int64)
    for n in range(begin, end):
        for pixel in range(size):
            for o in range(width):
                out[n, pixel, o] = bias[o]
        for k in range(_list_by_channel(bits, n, channels, found, place)):
            pixel, channel = found[1, k] // channels, found[1, k] % channels
            first, pairs = pixel * taps, seen[pixel]
            add_rows(table, channel * taps * width, weights, out, n * size * width, pixels, first, pairs, vectors)


def conv_current(spikes: PackedSpikes, weight: Tensor, bias: Tensor | None, window: Window) -> Tensor:
    """Return `W * x + b`, `[T, B, O, *out]`, for spikes `[T, B, C, *image]` and `weight` `[O, C, *kernel]`."""
    steps, batch, channels = spikes.shape[:3]
    outputs = len(weight)
    table = _columns(weight.detach().flatten(1))
    width = table.shape[1]
    out = weight.new_empty((steps * batch, prod(window.out), width))
    padded = np.zeros(width, table.dtype)
    padded[:outputs] = bias_of(bias, weight)
    pairs = _scaled(window, width)
    _conv_current(all_threads(), len(out), _bits(spikes), channels, *pairs, table, padded, out.numpy())
    return out[..., :outputs].contiguous().view(steps, batch, *window.out, outputs).movedim(-1, 2)


@kernel
@no_type_check
def _conv_adjoints(
    begin: int,
    end: int,
    bits: Array,
    channels: int,
    seen: Array,
    pixels: Array,
    weights: Array,
    q: Array,
    table: Array,
    need_input: bool,
    feedback: Array,
    outer: Array,
) -> None:
    """Write `x * (W^T q)` into `feedback` `[N, F]` if it is needed, and into each of `outer` a part of the update.

    q: `[N, pixels of the output, columns]`.
    """
    if in_threads(begin, end):
        return
    images, size, width = q.shape
    parts, inputs, _ = outer.shape
    features = seen.shape[0] * channels
    taps = pixels.shape[0] // seen.shape[0]
    vectors = width * q.itemsize // VECTOR_BYTES
    found, place = np.empty((2, features), np.uint32), np.empty(channels + 1, np.int64)
    for part in range(begin, end):
        for i in range(inputs):
            for o in range(width):
                outer[part, i, o] = 0
        for n in range(part * images // parts, (part + 1) * images // parts):
            if need_input:
                for i in range(features):
                    feedback[n, i] = 0
            for k in range(_list_by_channel(bits, n, channels, found, place)):
                pixel, channel = found[1, k] // channels, found[1, k] % channels
                first, pairs, row = pixel * taps, seen[pixel], channel * taps * width
                to = part * inputs * width + row
                share = share_rows(q, n * size * width, pixels, table, row, outer, to, weights, first, pairs, vectors)
                if need_input:
                    feedback[n, found[1, k]] = share


def conv_adjoints(
    spikes: PackedSpikes, q: Tensor, weight: Tensor, window: Window, need_input: bool, need_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Return `x * (W^T q)` `[T, B, C, *image]` and `sum q x^T`, shaped like `weight`, for `q` `[T, B, O, *out]`."""
    threads = all_threads()
    steps, batch, channels = spikes.shape[:3]
    outputs = len(weight)
    table = _columns(weight.detach().flatten(1))
    inputs, width = table.shape
    images = flat(q, 2).view(steps * batch, -1, outputs)
    if width > outputs:  # a pad of nothing would copy
        images = torch.nn.functional.pad(images, (0, width - outputs))
    feedback = q.new_empty((steps * batch, *window.image, channels))
    outer = q.new_empty((-threads, inputs, width))
    _conv_adjoints(
        threads,
        -threads,
        _bits(spikes),
        channels,
        *_scaled(window, width),
        images.numpy(),
        table,
        need_input,
        feedback.flatten(1).numpy(),
        outer.numpy(),
    )
    return (
        feedback.movedim(-1, 1).unflatten(0, (steps, batch)) if need_input else None,
        outer.sum(0)[:, :outputs].T.reshape(weight.shape) if need_weight else None,
    )


@cache
def _scaled(window: Window, width: int) -> tuple[Array, Array, Array]:
    """Return the pairs of `window`, flat, as places in an image of so many columns and in the weights of a channel."""
    seen, pixels, weights = window.pairs()
    return seen, (pixels * width).ravel(), (weights * width).ravel()


def _columns(matrix: Tensor) -> Array:
    """Return the transpose of the weights `[O, K]`, with columns of 0 up to a whole number of vectors, at least one."""
    outputs, inputs = matrix.shape
    lanes = VECTOR_BYTES // matrix.element_size()
    table: Array = matrix.new_empty((inputs, -(-max(outputs, 1) // lanes) * lanes)).numpy()
    _tiles(all_threads(), -(-inputs // 64), matrix.numpy(), table[None])
    return table


def _bits(spikes: PackedSpikes) -> Array:
    bits: Array = spikes.bits.numpy().view(np.uint64)
    return bits


def bias_of(bias: Tensor | None, weight: Tensor) -> Array:
    """Return the bias, zeros if there is none."""
    array: Array = (weight.new_zeros(len(weight)) if bias is None else bias).detach().numpy()
    return array
