"""From a product to an update, and its clipping, in one pass over each weight, for CPU."""

from typing import Any, no_type_check

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.kernels.cpu.threads import follow_torch_threads

Array = NDArray[Any]
# values that are worth a thread
SHARE = 16_384


@njit(parallel=True, cache=True, error_model="numpy")
@no_type_check
def _descent(outer: Array, weight: Array, parts: int) -> bool:
    size, largest = outer.shape[0], np.finfo(outer.dtype).max
    strange = 0
    for part in prange(parts):
        low, high = part * size // parts, (part + 1) * size // parts
        update, of = outer[low:high], weight[low:high]
        found = 0
        for i in range(high - low):
            value = -abs(of[i]) * update[i]
            update[i] = value
            found |= not abs(value) <= largest
        strange += found
    return strange == 0


def descent(outer: Tensor, weight: Tensor) -> Tensor:
    """`kernels.descent_` for contiguous tensors."""
    follow_torch_threads()
    return torch.tensor(_descent(outer.numpy().reshape(-1), weight.detach().numpy().reshape(-1), _parts(outer)))


@njit(parallel=True, cache=True, error_model="numpy", fastmath={"reassoc"})
@no_type_check
def _clip(update: Array, weight: Array, clip: Any, minimum: Any, parts: int) -> None:
    units, size = update.shape
    for part in prange(parts):
        for unit in range(part * units // parts, (part + 1) * units // parts):
            ours, of = update[unit], weight[unit]
            length, bound = update.dtype.type(0), update.dtype.type(0)
            for i in range(size):
                length += ours[i] * ours[i]
                bound += of[i] * of[i]
            bound = clip * max(np.sqrt(bound), minimum)
            length = np.sqrt(length)
            if length > bound:
                factor = bound / length
                for i in range(size):
                    ours[i] *= factor


def clip_units(update: Tensor, weight: Tensor, clip: float, minimum: float) -> None:
    """`kernels.clip_units_` for contiguous tensors of two axes or more."""
    follow_torch_threads()
    ours, of = update.flatten(1).numpy(), weight.detach().flatten(1).numpy()
    _clip(ours, of, of.dtype.type(clip), of.dtype.type(minimum), min(_parts(update), len(ours)))


def _parts(tensor: Tensor) -> int:
    return 1 + tensor.numel() // SHARE
