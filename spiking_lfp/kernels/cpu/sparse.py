"""Dense layers that see images, for CPU: most pixels of a digit are 0, and only the others are multiplied.

Shapes: B samples, K inputs, O outputs. Sums stay in registers, a tile of 64 outputs at a time.
"""

from dataclasses import dataclass
from typing import Any, no_type_check

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from spiking_lfp.kernels.compilation import kernel
from spiking_lfp.kernels.cpu.rows import sum_scaled
from spiking_lfp.kernels.cpu.spike_products import TILE_VECTORS, bias_of, tiles_of, transpose_block
from spiking_lfp.kernels.cpu.threads import all_threads, in_threads
from spiking_lfp.kernels.cpu.vectors import VECTOR_BYTES

Array = NDArray[Any]
# share of values other than 0 above which a dense product is faster
MOST_VALUES = 0.25


@dataclass(frozen=True)
class Sparse:
    """A matrix `[N, K]` by rows: the places `[N, K]` of what is not 0, the values there, and their number `[N]`."""

    rows: Array
    values: Array
    counts: Array


@kernel
@no_type_check
def _list(begin: int, end: int, x: Array, rows: Array, values: Array, counts: Array) -> None:
    """List what is not 0 in each row of `x`."""
    if in_threads(begin, end):
        return
    for r in range(begin, end):
        count = 0
        for i in range(x.shape[1]):
            if x[r, i] != 0:
                rows[r, count] = i
                values[r, count] = x[r, i]
                count += 1
        counts[r] = count


@kernel
@no_type_check
def _list_columns(begin: int, end: int, x: Array, rows: Array, values: Array, counts: Array) -> None:
    """List what is not 0 in each column of `x`."""
    if in_threads(begin, end):
        return
    for i in range(begin, end):
        counts[i] = 0
    for b in range(x.shape[0]):
        for i in range(begin, end):
            if x[b, i] != 0:
                rows[i, counts[i]] = b
                values[i, counts[i]] = x[b, i]
                counts[i] += 1


@kernel
@no_type_check
def _product(
    begin: int, end: int, rows: Array, values: Array, counts: Array, table: Array, bias: Array, out: Array
) -> None:
    """Write `bias` plus the sparse rows times the table, tile by tile."""
    if in_threads(begin, end):
        return
    _, inputs, width = table.shape
    outputs = out.shape[1]
    room = rows.shape[1]
    total = np.empty(width, out.dtype)
    for o in range(width):
        total[o] = 0
    for tile in range(begin, end):
        low = tile * width
        size = min(width, outputs - low)
        for b in range(rows.shape[0]):
            for o in range(size):
                total[o] = bias[low + o]
            at = b * room
            sum_scaled(table, tile * inputs * width, rows, at, values, at, counts[b], total, 0, TILE_VECTORS)
            for o in range(size):
                out[b, low + o] = total[o]


@kernel
@no_type_check
def _outer(begin: int, end: int, rows: Array, values: Array, counts: Array, table: Array, out: Array) -> None:
    """Write the transpose of the sparse rows times the table into `out` `[O, K]`, 64 inputs at a time."""
    if in_threads(begin, end):
        return
    _, samples, width = table.shape
    outputs, inputs = out.shape
    room = rows.shape[1]
    blocks = (inputs + 63) // 64
    sums = np.empty((64, width), out.dtype)
    for part in range(begin, end):
        tile, block = part // blocks, part % blocks
        for i in range(64):
            for o in range(width):
                sums[i, o] = 0
        first, last = 64 * block, min(64 * block + 64, inputs)
        for i in range(first, last):
            at = (i - first) * width
            base = tile * samples * width
            sum_scaled(table, base, rows, i * room, values, i * room, counts[i], sums, at, TILE_VECTORS)
        size = min(width, outputs - tile * width)
        transpose_block(sums, 0, width, last - first, size, out, tile * width * inputs + first, inputs)


def current(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    """`kernels.sparse_current`; None if `x` holds too much that is not 0."""
    listed = sparse_rows(x)
    return None if listed is None else product(listed, weight, bias)


def outer(q: Tensor, x: Tensor) -> Tensor | None:
    """`kernels.sparse_outer`; None if `x` holds too much that is not 0."""
    listed = sparse_columns(x)
    return None if listed is None else correlate(q, listed)


def sparse_rows(x: Tensor) -> Sparse | None:
    """List what is not 0 in the rows of `x` `[N, K]`, or return None if that is too much to pay."""
    return _listed(_list, x, len(x), x.shape[1])


def sparse_columns(x: Tensor) -> Sparse | None:
    """Return the sparse rows of the transpose of `x` `[N, K]`, or None if they are too full to pay."""
    return _listed(_list_columns, x, x.shape[1], len(x))


def _listed(write: Any, x: Tensor, rows: int, room: int) -> Sparse | None:
    array = x.detach().contiguous().numpy()
    sparse = Sparse(np.empty((rows, room), np.uint32), np.empty((rows, room), array.dtype), np.empty(rows, np.int64))
    write(all_threads(), rows, array, sparse.rows, sparse.values, sparse.counts)
    return sparse if sparse.counts.sum() <= MOST_VALUES * array.size else None


def product(x: Sparse, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `x W^T + b`, `[B, O]`, for `x` `[B, K]` and `weight` `[O, K]`."""
    out = weight.new_empty((len(x.counts), len(weight)))
    table = tiles_of(weight, TILE_VECTORS)
    _product(all_threads(), len(table), x.rows, x.values, x.counts, table, bias_of(bias, weight), out.numpy())
    return out


def correlate(q: Tensor, x: Sparse) -> Tensor:
    """Return `q^T x`, `[O, K]`, for `q` `[B, O]` and `x` `[B, K]` given by its columns."""
    outputs, width = q.shape[1], TILE_VECTORS * VECTOR_BYTES // q.element_size()
    tiles = -(-outputs // width)
    padded = pad(q, (0, tiles * width - outputs)).view(len(q), tiles, width)
    table, out = padded.transpose(0, 1).contiguous().numpy(), q.new_empty((outputs, len(x.counts)))
    _outer(all_threads(), tiles * -(-len(x.counts) // 64), x.rows, x.values, x.counts, table, out.numpy())
    return out
