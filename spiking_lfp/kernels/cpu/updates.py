"""From a product to an update, and its clipping, in one pass over each weight, for CPU."""

from typing import Any, no_type_check

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.kernels.compilation import kernel
from spiking_lfp.kernels.cpu.threads import all_threads, in_threads

Array = NDArray[Any]
# values that are worth a thread
SHARE = 16_384


@kernel
@no_type_check
def _descent(begin: int, end: int, outer: Array, weight: Array, finite: Array) -> None:
    """Turn parts of `outer`, as many as `finite` has, into updates, and tell for each whether all of it is finite."""
    if in_threads(begin, end):
        return
    size, largest, parts = outer.shape[0], np.finfo(outer.dtype).max, finite.shape[0]
    for part in range(begin, end):
        strange = 0
        # unsigned, so that no place may be counted from the end, which would keep the loop from becoming vectors
        for i in range(np.uintp(part * size // parts), np.uintp((part + 1) * size // parts)):
            value = -abs(weight[i]) * outer[i]
            outer[i] = value
            strange |= not abs(value) <= largest
        finite[part] = not strange


def descent(outer: Tensor, weight: Tensor) -> Tensor:
    """`kernels.descent_` for contiguous tensors."""
    finite = np.empty(_parts(outer), np.bool_)
    _descent(all_threads(), len(finite), outer.numpy().reshape(-1), weight.detach().numpy().reshape(-1), finite)
    return torch.tensor(bool(finite.all()))


@kernel(fastmath={"reassoc"})
@no_type_check
def _clip(begin: int, end: int, update: Array, weight: Array, clip: Any, minimum: Any, parts: int) -> None:
    if in_threads(begin, end):
        return
    units, size = update.shape
    for unit in range(begin * units // parts, end * units // parts):
        length, bound = update.dtype.type(0), update.dtype.type(0)
        for i in range(size):
            length += update[unit, i] * update[unit, i]
            bound += weight[unit, i] * weight[unit, i]
        bound = clip * max(np.sqrt(bound), minimum)
        length = np.sqrt(length)
        if length > bound:
            factor = bound / length
            for i in range(size):
                update[unit, i] *= factor


def clip_units(update: Tensor, weight: Tensor, clip: float, minimum: float) -> None:
    """`kernels.clip_units_` for contiguous tensors of two axes or more."""
    ours, of = update.flatten(1).numpy(), weight.detach().flatten(1).numpy()
    parts = min(_parts(update), len(ours))
    _clip(all_threads(), parts, ours, of, of.dtype.type(clip), of.dtype.type(minimum), parts)


def _parts(tensor: Tensor) -> int:
    return 1 + tensor.numel() // SHARE
