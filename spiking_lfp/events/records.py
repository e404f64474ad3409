"""Arrays of events and their checks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.arguments import describe, integer_of
from spiking_lfp.errors import DataError, SpikingLFPError, UsageError

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


def as_sensor(given: Any, error: type[SpikingLFPError] = UsageError) -> Sensor:
    """Return polarities, height and width of a sensor.

    Raises:
        SpikingLFPError: of the class `error`, if it is none.
    """
    sides = [integer_of(side) for side in given] if isinstance(given, Sequence) else []
    polarities, height, width = (side or 0 for side in sides) if len(sides) == 3 else (0, 0, 0)
    if not 1 <= polarities <= 2 or height < 1 or width < 1:
        found = given if isinstance(given, tuple | list) else describe(given)
        raise error(f"a sensor has 1 or 2 polarities, height and width, as (2, 480, 640), found {found}")
    return polarities, height, width


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
    _, height, width = as_sensor(sensor, DataError)
    if not len(events):
        return None
    from spiking_lfp.kernels.cpu import decoders

    at, back = (int(number) for number in decoders.first_fault(events, height, width))
    if at >= 0:
        x, y = int(events["x"][at]), int(events["y"][at])
        raise DataError(
            f"event {number + at} is at x = {x}, y = {y}, outside of a sensor {width} pixels wide and {height} high: "
            "name the right sensor size, or repair the recording"
        )
    return None if back < 0 else back
