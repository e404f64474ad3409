"""Random numbers by counting, for CPU, compiled by numba; equal to the reference in `kernels.uniform_` by test."""

from typing import Any, no_type_check

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.kernels.compilation import kernel
from spiking_lfp.kernels.cpu.threads import all_threads, in_threads

Array = NDArray[Any]


@kernel
@no_type_check
def _uniform(begin: int, end: int, keys: Array, shift: int, unit: float, out: Array) -> None:
    """Fill rows of `out` `[T * B, F]`; `unit` is the distance between two of the numbers."""
    if in_threads(begin, end):
        return
    batch, features = len(keys), out.shape[1]
    unit, shift = out.dtype.type(unit), np.uint64(shift)
    for row in range(begin, end):
        key, before = keys[row % batch], np.uint64(row // batch * features)
        for n in range(features):
            z = key + (before + np.uint64(n + 1)) * np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            # as signed integers, which processors convert faster: the highest bit is 0
            out[row, n] = out.dtype.type(np.int64((z ^ (z >> np.uint64(31))) >> shift)) * unit


def uniform_(out: Tensor, keys: Tensor, bits: int) -> None:
    """`kernels.uniform_` for float32 and float64."""
    rows = out.flatten(0, 1).flatten(1).numpy()
    _uniform(all_threads(), len(rows), keys.numpy().view(np.uint64), 64 - bits, 2.0**-bits, rows)
