"""Arrays of events and their checks."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.errors import DataError

# tonic's names and order; t in microseconds, p true for on events (brighter)
EVENT = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])
EventArray = NDArray[Any]
Sensor = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Recording:
    """The events of one recording, checked on creation.

    Attributes:
        events: dtype `EVENT`, in order of time; there may be none.
        sensor: polarities (1 or 2), height and width in pixels.
        partial: description of what could not be read of the file, or None if it was read completely.
        guessed: whether the file names no sensor, so that this is the smallest one that holds all its events.

    Raises:
        DataError: for a wrong dtype, addresses outside of the sensor, and times that go back.
    """

    events: EventArray = field(repr=False)
    sensor: Sensor
    partial: str | None = None
    guessed: bool = False

    def __post_init__(self) -> None:
        at = check_events(self.events, self.sensor)
        if at is not None:
            raise back_in_time(at, *self.events["t"][at - 1 : at + 1].tolist())


def back_in_time(number: int, before: int, after: int) -> DataError:
    """Return the error for an event, by its number, that is earlier than the one before it."""
    return DataError(
        f"event {number} is at {after} us, before the {before} us of the one before it: sort the events by time, or "
        "repair the recording"
    )


def check_events(events: EventArray, sensor: Sensor, number: int = 0) -> int | None:
    """Check dtype and addresses of `events`, in any order of time, and return the first one that goes back in time.

    Args:
        events: dtype `EVENT`.
        sensor: polarities, height and width.
        number: that the first of them has in errors.

    Raises:
        DataError: naming the first event that does not fit `sensor`.
    """
    if not isinstance(events, np.ndarray):
        raise DataError(f"events are {type(events).__name__}, expected an array of {EVENT}, as read_events returns")
    if events.dtype != EVENT or events.ndim != 1:
        raise DataError(f"events are {events.dtype} {list(events.shape)}, expected one axis of {EVENT}")
    if len(sensor) != 3 or min(sensor) < 1 or sensor[0] > 2:
        raise DataError(f"a sensor has 1 or 2 polarities, height and width, found {sensor}")
    if not len(events):
        return None
    from spiking_lfp.kernels.cpu import decoders

    _, height, width = sensor
    at, back = (int(number) for number in decoders.first_fault(events, height, width))
    if at >= 0:
        x, y = int(events["x"][at]), int(events["y"][at])
        raise DataError(
            f"event {number + at} is at x = {x}, y = {y}, outside of a sensor {width} pixels wide and {height} high: "
            "name the right sensor size, or repair the recording"
        )
    return None if back < 0 else back
