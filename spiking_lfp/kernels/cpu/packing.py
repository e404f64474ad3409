"""Spikes as bits: LIF kernels pack them while they are at hand, and `pack_spikes` finds them in any other tensor."""

from typing import Any, no_type_check

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.kernels.compilation import kernel
from spiking_lfp.kernels.cpu.rows import count_bits, lanes, non_ones, nonzeros
from spiking_lfp.kernels.cpu.threads import all_threads, in_threads
from spiking_lfp.kernels.layout import flat
from spiking_lfp.kernels.spikes import PackedSpikes

Array = NDArray[Any]
# spikes per input and step above which a dense product is faster
MOST_SPIKES = 0.25


@njit(inline="always")
@no_type_check
def pack_row(x: Array, n: int, features: int, bits: Array) -> int:
    """Fill `bits[n]` from the nth row of `x`, and count its spikes; -1 if it holds other values than 0 and 1."""
    count, strange = 0, np.uint64(0)
    for w in range(bits.shape[1]):
        start, valid = n * features + 64 * w, lanes(64 * w, features)
        word = nonzeros(valid, x, start)
        strange |= word & non_ones(valid, x, start)
        bits[n, w] = word
        count += count_bits(word)
    return -1 if strange else count


@kernel
@no_type_check
def _pack(begin: int, end: int, x: Array, bits: Array, counts: Array) -> None:
    if in_threads(begin, end):
        return
    for n in range(begin, end):
        counts[n] = pack_row(x, n, x.shape[1], bits)


def pack_spikes(x: Tensor, known: PackedSpikes | None) -> PackedSpikes | None:
    """Return the spikes of `x` `[T, B, *i]`, or None if it holds other values than 0 and 1, or too many spikes.

    They are `known` where whoever wrote `x` packed them.
    """
    found = known
    if found is None:
        found = room_for(x)
        rows = flat(x, 2).flatten(0, 1).numpy()
        _pack(all_threads(), len(rows), rows, found.bits.numpy().view(np.uint64), found.counts.numpy())
    if int(found.counts.min()) < 0 or int(found.counts.sum()) > MOST_SPIKES * x.numel():
        return None
    return found


def room_for(x: Tensor) -> PackedSpikes:
    """Return room for the spikes of `x` `[T, B, *i]`, still to be filled."""
    rows, words = x.shape[0] * x.shape[1], -(-x.shape[2:].numel() // 64)
    return PackedSpikes(torch.empty(rows, words, dtype=torch.int64), torch.empty(rows, dtype=torch.int64), x.shape)
