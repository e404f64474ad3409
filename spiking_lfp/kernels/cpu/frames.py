"""Events into frames, and bits into values, for CPU."""

from typing import Any, no_type_check

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.kernels.compilation import kernel
from spiking_lfp.kernels.cpu.threads import all_threads, in_threads

Array = NDArray[Any]


@kernel
@no_type_check
def span(events: Array) -> Any:
    """Return the least and the largest time of at least one event, and the first that goes back in time, or -1."""
    first = last = before = events[0].t
    back = -1
    for i in range(len(events)):
        t = events[i].t
        if t < before and back < 0:
            back = i
        before = t
        first, last = min(first, t), max(last, t)
    return first, last, back


@kernel
@no_type_check
def fill(
    events: Array, first: int, last: int, numbered: bool, origin: int, length: int, offset: int, most: int, out: Array
) -> bool:
    """Add events of `first <= t <= last` to `out` `[T, P, H, W]`, none above `most`.

    An event is in bin `((key - origin) * T + offset) // length`; its key is its time, or its index if `numbered`.

    Returns:
        whether the addresses of all events are inside; if not, `out` is of no use.
    """
    steps, polarities, height, width = out.shape
    bin, left, right = 0, 0, 0  # of the last event: most of the time the next one is there too
    for i in range(len(events)):
        event = events[i]
        if not (0 <= event.x < width and 0 <= event.y < height):
            return False
        if not first <= event.t <= last:
            continue
        key = (i if numbered else event.t) - origin
        if not left <= key < right:
            bin = (key * steps + offset) // length
            left = (bin * length - offset + steps - 1) // steps
            right = ((bin + 1) * length - offset + steps - 1) // steps
        channel = 1 if polarities == 2 and event.p else 0
        count = out[bin, channel, event.y, event.x]
        out[bin, channel, event.y, event.x] = count + (count < most)
    return True


@kernel
@no_type_check
def _unpack(begin: int, end: int, packed: Array, out: Array) -> None:
    if in_threads(begin, end):
        return
    _, batch, features = out.shape
    whole = features // 8
    for n in range(begin, end):
        t, b = n // batch, n % batch
        bits, values = packed[b, t], out[t, b]
        for i in range(whole):
            for j in range(8):
                values[8 * i + j] = np.float32((bits[i] >> j) & 1)
        for j in range(features - 8 * whole):
            values[8 * whole + j] = np.float32((bits[whole] >> j) & 1)


def unpack(packed: Tensor, features: int) -> Tensor:
    """Return the bits of `packed` uint8 `[B, T, bytes]` as float32 `[T, B, features]`."""
    batch, steps, _ = packed.shape
    out = torch.empty(steps, batch, features)
    _unpack(all_threads(), steps * batch, packed.contiguous().numpy(), out.numpy())
    return out
