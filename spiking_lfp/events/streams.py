"""Recordings larger than memory, and cameras: windows of events, one after the other."""

import warnings
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.arguments import describe
from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.events._formats import Hints, Reading, TimeUnit
from spiking_lfp.events._formats.tables import of_batches
from spiking_lfp.events.cameras import Camera
from spiking_lfp.events.files import NO_HINTS, check_sensor, event_blocks, naming, packed
from spiking_lfp.events.records import EVENT, EventArray, Recording, Sensor, as_sensor, back_in_time, check_events

# bytes of a file that are read at a time, about
BLOCK = 2**20
# more windows without an event, one after the other, are a damaged time rather than a pause
MOST_EMPTY = 10**6
# windows that are cut at a time
CUTS = 2**12
# us; what the setting window_ms takes
LONGEST_WINDOW = 10**12
MILLISECOND = 1000
# events, and the time up to which there are no further ones, if that is known
Batch = tuple[EventArray, int | None]


@dataclass(frozen=True, eq=False, kw_only=True)
class Window(Recording):
    """The events of one window, from its start up to but not including its end; times are those of the recording.

    Attributes:
        start: in microseconds.
        duration: in microseconds.
    """

    start: int
    duration: int


class EventStream(Iterator[Window]):
    """The windows of a recording or camera; at the end of a `with` statement, or by `close`, it is let go of.

    Attributes:
        sensor: polarities, height and width.
    """

    def __init__(self, windows: Generator[Window, None, None], sensor: Sensor) -> None:
        self._windows, self.sensor = windows, sensor

    def __next__(self) -> Window:
        return next(self._windows)

    def close(self) -> None:
        """Close the file or camera; there are no windows after that."""
        self._windows.close()

    def __enter__(self) -> "EventStream":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_stream(
    source: str | Path | Camera | Iterable[NDArray[Any]],
    window_ms: float,
    sensor: Sensor | None = None,
    *,
    chip: str = "",
    time_unit: TimeUnit = "auto",
    column_order: str = "",
) -> EventStream:
    """Read a recording of any size, or a camera, window by window.

    Windows follow each other without gaps from the first event on, also where there are no events; the last one ends
    with the recording. Their events are those that `read_events` finds in the file, in memory that does not depend on
    its size; a `.mat` is read as a whole, and refused if it is large. A window is there when an event after it is.

    Args:
        source: a file, in any format of `read_events`; a camera, see `cameras`; or arrays of events that come one after
            the other, with fields for x, y, t and p called as in tables, or numbers `[N, 4]`.
        window_ms: duration of a window in milliseconds, to the nearest microsecond.
        sensor: polarities, height and width. Needed unless the file or camera names it.
        chip: see `read_events`, also for `time_unit` and `column_order`. What columns without names are, and the unit
            of times, is decided by the first block of a file.

    Returns:
        an iterator of windows, with the sensor; `partial` of the last window says what could not be read of a file.

    Warns:
        UserWarning: what was assumed, when it is opened; what was left out, after the last window.

    Raises:
        DataError: as `read_events`; by an iterator where it gets to what is wrong, and for a pause of more than a
            million windows.
        UsageError: as `read_events`, for a window shorter than a microsecond, and if the sensor is not known.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("events.txt").write_text("0.000100 12 7 1\\n0.000250 3 30 0\\n0.002150 3 30 1\\n")
        >>> with read_stream("events.txt", 1.0, (2, 34, 34), column_order="txyp") as stream:
        ...     [(window.start, len(window.events)) for window in stream]
        [(100, 2), (1100, 0), (2100, 1)]
    """
    is_number = isinstance(window_ms, Real)
    duration = round(window_ms * MILLISECOND) if is_number and 0 < window_ms < float("inf") else 0
    if not 1 <= duration <= LONGEST_WINDOW:
        most = LONGEST_WINDOW // MILLISECOND
        raise UsageError(f"window_ms must be at least 0.001 and at most {most:,}, found {describe(window_ms)}")
    sensor = None if sensor is None else as_sensor(sensor)
    hints = Hints(chip, time_unit, column_order)
    if isinstance(source, str | Path):
        hints.check_used([Path(source).suffix.lower()], str(source))
        return _of_file(Reading(Path(source), hints, BLOCK), duration, sensor)
    if not isinstance(source, Camera):
        if not isinstance(source, Iterable):
            raise UsageError(f"source must be a file, a camera or arrays of events, found {describe(source)}")
        if sensor is None:
            raise _no_sensor("the stream")
        source = Camera("the stream", sensor, ((batch, None) for batch in source))
    hints.check_used([".npy"], source.name)  # its batches are such arrays
    with naming(source.name):
        check_sensor(source.sensor, sensor)
        check_events(np.empty(0, EVENT), source.sensor)
    # what takes seconds when it is first run does it now, not between events
    list(_windows("", _packed([(np.zeros(1, EVENT), None)], NO_HINTS), (2, 1, 1), duration))
    batches = _packed(source.batches, hints)
    return EventStream(_windows(source.name, batches, source.sensor, duration), source.sensor)


def _of_file(reading: Reading, duration: int, sensor: Sensor | None) -> EventStream:
    path = reading.path
    blocks = event_blocks(reading, sensor)
    with naming(str(path)):  # the header is read with the first block
        first = next(blocks, None)
    known = sensor or reading.sensor
    if known is None:
        raise _no_sensor(str(path))
    if reading.assumed:
        warnings.warn(f"{path}: {'; '.join(reading.assumed)}", stacklevel=3)
    batches: Iterator[Batch] = ((block, None) for block in chain([] if first is None else [first], blocks))
    return EventStream(_windows(str(path), batches, known, duration, reading), known)


def _no_sensor(name: str) -> UsageError:
    return UsageError(f"{name} names no sensor, which is not known before its end: give sensor, as (2, 480, 640)")


def _packed(batches: Iterable[tuple[Any, int | None]], hints: Hints) -> Iterator[Batch]:
    """Yield batches of columns as events."""
    reached: list[int | None] = [None]

    def arrays() -> Iterator[NDArray[Any]]:
        for batch, until in batches:
            reached[0] = until
            yield batch

    for events in packed(of_batches(arrays(), hints)):
        yield events, reached[0]


def _windows(
    name: str, batches: Iterator[Batch], sensor: Sensor, duration: int, reading: Reading | None = None
) -> Generator[Window, None, None]:
    """Yield the windows of batches of events."""
    waiting: list[EventArray] = []
    start: int | None = None
    number, last = 0, 0

    def window(partial: str | None = None) -> Window:
        events = waiting[0] if len(waiting) == 1 else np.concatenate([np.empty(0, EVENT), *waiting])
        waiting.clear()
        return Window(events, sensor, partial, start=start or 0, duration=duration)

    with naming(name):
        for events, until in batches:
            if len(events):
                t = np.ascontiguousarray(events["t"])
                start = int(t[0]) if start is None else start
                _check(events, t, sensor, number, last if number else int(t[0]), duration)
                begin = 0
                while whole := min((int(t[-1]) - start) // duration, CUTS):
                    for end in np.searchsorted(t, start + duration * np.arange(1, whole + 1)).tolist():
                        waiting.append(events[begin:end])
                        yield window()
                        begin, start = end, start + duration
                waiting.append(events[begin:])
                number, last = number + len(events), int(t[-1])
            while until is not None and start is not None and start + duration <= until:
                yield window()
                start += duration
        if start is not None:
            yield window(None if reading is None else reading.partial)
    if reading is not None and len(reading.remarks) > len(reading.assumed):
        warnings.warn(f"{name}: {'; '.join(reading.remarks[len(reading.assumed) :])}", stacklevel=3)


def _check(events: EventArray, t: NDArray[np.int64], sensor: Sensor, number: int, last: int, duration: int) -> None:
    """Check a block of events, of which the first has a number, after an event at `last`."""
    at = 0 if t[0] < last else check_events(events, sensor, number)
    if at is not None:
        raise back_in_time(number + at, int(t[at - 1]) if at else last, int(t[at]))
    if int(t[-1]) - last > MOST_EMPTY * duration:
        gaps = np.diff(t, prepend=last)
        at = int(gaps.argmax())
        if gaps[at] > MOST_EMPTY * duration:
            raise DataError(
                f"event {number + at} is {int(gaps[at]) / 1e6:,.6g} s after the one before it, more than a million "
                "windows: repair the recording, or take a longer window_ms"
            )
