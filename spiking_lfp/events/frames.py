"""Binning of events into sequences of frames, and packing of binary frames into bits, an eighth of the memory.

The bin of an event is computed from its time or its number in integers, so that edges are exact and no event is lost:
tonic's `ToFrame` rounds the width of bins down and leaves out the events after the last bin, always including the very
last event.
"""

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.arguments import as_integer, check_choice
from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.events.records import EventArray, Sensor, check_events

INT64 = np.iinfo(np.int64)
MAX_COUNT = 255


def event_frames(
    events: EventArray,
    sensor: Sensor,
    steps: int,
    *,
    by: Literal["time", "count"] = "time",
    values: Literal["binary", "count"] = "binary",
    start: int | None = None,
    duration: int | None = None,
) -> UInt8[np.ndarray, "steps polarities height width"]:
    """Bin events into frames.

    Args:
        events: dtype `EVENT`; in any order for bins of equal time, in order of time for bins of equal count.
        sensor: P, H and W; with one polarity, on and off events are counted together; with two, channel 0
            is off and channel 1 is on.
        steps: T, at least 1.
        by: bins of equal time: `t` is in bin `(t - start) * T // duration`, so that bins include their left edge and
            exclude their right one; or of equal count: bin k holds the events from number `k * N // T` up to but not
            including `(k + 1) * N // T`, where N events are in the window.
        values: whether there were events, 0 or 1, or how many, saturating at 255.
        start: of the window, in microseconds; by default the time of the first event.
        duration: of the window, in microseconds, at least 1; by default up to and including the last event. Events
            outside of the window are left out.

    Returns:
        uint8 `[T, P, H, W]`, all 0 if there are no events.

    Raises:
        UsageError: if `steps` or `duration` is less than 1, if the window does not fit into 64 bits, and for another
            word of `by` or `values`.
        DataError: for a wrong dtype and addresses outside of the sensor; for times that go back, if bins are of equal
            count, and times too far apart for 64 bits.

    Example:
        >>> events = saccade_events(torch.eye(28, dtype=torch.uint8) * 255).events
        >>> event_frames(events, (2, 34, 34), steps=10).shape
        (10, 2, 34, 34)
    """
    steps = as_integer(steps, "steps", 1)
    check_choice("by", by, ("time", "count"))
    check_choice("values", values, ("binary", "count"))
    if duration is not None and duration < 1:
        raise UsageError(f"the duration must be at least 1 us, found {duration}")
    check_events(events[:0] if isinstance(events, np.ndarray) else events, sensor)  # the kernel checks the addresses
    frames = np.zeros((steps, *sensor), np.uint8)
    if not len(events):
        return frames
    from spiking_lfp.kernels.cpu import frames as kernel

    earliest, latest, back = (int(value) for value in kernel.span(events))
    if by == "count" and back >= 0:
        raise DataError(
            f"event {back} is earlier than the one before it: sort the events by time for bins of equal count"
        )
    first = earliest if start is None else start
    length = max(latest - first + 1, 1) if duration is None else duration
    last = first + length - 1
    # the kernel multiplies up to one bin beyond the last
    if first < INT64.min or last > INT64.max or (length + 1) * (steps + 1) > INT64.max:
        if start is None and duration is None:
            raise DataError(f"the events last {length} us, more than 64 bits hold in {steps} steps: repair their times")
        raise UsageError(f"64 bits do not hold a window of {length} us from {first} us on in {steps} steps")
    origin, offset = first, 0
    if by == "count":
        origin = int(np.searchsorted(events["t"], first))
        end = int(np.searchsorted(events["t"], last, side="right"))
        length, offset = max(end - origin, 1), steps - 1  # k * N // T <= i < (k + 1) * N // T, solved for k
    max_value = 1 if values == "binary" else MAX_COUNT
    if not kernel.fill(events, first, last, by == "count", origin, length, offset, max_value, frames):
        check_events(events, sensor)
    return frames


def pack_frames(frames: UInt8[np.ndarray, " steps *i"]) -> UInt8[np.ndarray, "steps bytes"]:
    """Store frames of 0 and 1 as bits.

    Args:
        frames: `[T, *i]`.

    Returns:
        `[T, ceil(i / 8)]`: each step starts with a byte, whose lowest bit is the step's first value.

    Raises:
        UsageError: if the frames hold counts.
    """
    largest = int(frames.max())
    if largest > 1:
        raise UsageError(f"bits hold 0 and 1, found {largest}: make frames with values='binary'")
    return np.packbits(frames.reshape(len(frames), -1), axis=1, bitorder="little")


def unpack_frames(packed: UInt8[np.ndarray, "steps bytes"], shape: tuple[int, ...]) -> UInt8[np.ndarray, " steps *i"]:
    """Unpack the result of `pack_frames`.

    Args:
        packed: `[T, bytes]`.
        shape: shape of one step.

    Returns:
        `[T, *shape]`, 0 or 1.

    Raises:
        UsageError: if a step of that shape takes a different number of bytes.
    """
    features = _features(packed.shape[1], shape)
    bits: NDArray[Any] = np.unpackbits(packed, axis=1, count=features, bitorder="little")
    return bits.reshape(len(packed), *shape)


def unpack_batch(
    packed: UInt8[Tensor, "batch steps bytes"], shape: tuple[int, ...]
) -> Float32[Tensor, "steps batch *i"]:
    """Unpack a batch of packed samples into a sequence, on their device.

    Args:
        packed: `[B, T, bytes]`, each sample as from `pack_frames`.
        shape: shape of one step.

    Returns:
        `[T, B, *shape]`, 0 or 1, contiguous.

    Raises:
        UsageError: if a step of that shape takes a different number of bytes.
    """
    batch, steps, size = packed.shape
    features = _features(size, shape)
    if packed.device.type == "cpu":
        from spiking_lfp.kernels.cpu import frames as kernel

        return kernel.unpack(packed, features).view(steps, batch, *shape)
    return _unpack(packed, features).view(steps, batch, *shape)


def _unpack(packed: Tensor, features: int) -> Tensor:
    """Return the bits `[B, T, bytes]` as float32 `[T, B, features]`, in plain torch."""
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    bits = (packed.transpose(0, 1).unsqueeze(-1) >> places) & 1
    return bits.flatten(2)[..., :features].float().contiguous()


def _features(size: int, shape: tuple[int, ...]) -> int:
    features = int(np.prod(shape))
    if size != -(-features // 8):
        raise UsageError(f"steps of shape {list(shape)} take {-(-features // 8)} bytes, found {size}")
    return features
