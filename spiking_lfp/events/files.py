"""Reading recordings from files, in any format of `SUFFIXES`.

`Recording` checks what is read: events inside the sensor, in order of time. If a file ends within a record or packet,
the complete ones before it are read and `Recording.partial` says what is missing. Truncated files of formats whose
header states the size (`.npy`, `.h5`, `.mat`), and everything else that does not fit its format, are errors; so is a
time that goes back, unless the format's timer overflows to 0. What was assumed of a file, and what was left out of it,
is a warning.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.arguments import as_path
from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.events._formats import SUFFIXES, Columns, Hints, Reading, TimeUnit
from spiking_lfp.events._formats.common import LARGEST_TIME, AdviceError, no_events
from spiking_lfp.events._formats.tables import is_time, of_batches
from spiking_lfp.events.records import EventArray, Recording, Sensor, as_sensor

__all__ = ["NO_HINTS", "SUFFIXES", "Hints", "TimeUnit", "is_time", "read_events", "read_with"]

LARGEST_SIDE = 2**15
NO_HINTS = Hints()
Column = NDArray[np.int64]


def read_events(
    path: str | Path,
    sensor: Sensor | None = None,
    *,
    chip: str = "",
    time_unit: TimeUnit = "auto",
    column_order: str = "",
) -> Recording:
    """Read a recording, in the format given by its suffix and, if there is one, its header.

    Args:
        path: the file.
        sensor: polarities, height and width. If None, the sensor that the file names, or, if it names none, the
            smallest sensor with two polarities that holds all events.
        chip: of AEDAT files that name none, as v2e's: davis346, dvs128, ... If empty, those are read as of a DVS128 if
            all addresses are such, with a warning, and refused if not.
        time_unit: s, ms, us or ns, of times in tables (text, NumPy, HDF5) that do not name it; auto for microseconds,
            and seconds of decimals.
        column_order: of tables whose columns have no names, as txyp; found by what they hold if empty.

    Returns:
        The events in order of time, times to the nearest microsecond; none if the file is complete but empty of events.

    Warns:
        UserWarning: one for a file, that says what was assumed, and how many external signals, triggers and special
            events were left out.

    Raises:
        DataError: naming the file, if it is empty, not in its format, damaged, or from another sensor, or if it says
            itself another chip, unit or order than the one given.
        UsageError: for an unknown suffix, chip, unit or order, one that files with this suffix have no use for, or if
            the package that reads a format is not installed.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("events.txt").write_text("0.000100 12 7 1\\n0.000250 3 30 0\\n")
        >>> read_events("events.txt", (2, 34, 34)).events["t"].tolist()
        [100, 250]
    """
    path, hints = as_path(path, "the recording"), Hints(chip, time_unit, column_order)
    hints.check_used([path.suffix.lower()], str(path))
    return read_with(path, hints, None if sensor is None else as_sensor(sensor))


def read_with(path: Path, hints: Hints, sensor: Sensor | None = None) -> Recording:
    """Read a recording as `read_events`, with hints that need not be about this file."""
    reading = Reading(path, hints)
    with naming(str(path)):
        blocks = list(event_blocks(reading, sensor))
        events = blocks[0] if len(blocks) == 1 else np.concatenate([no_events(0), *blocks])
        known = sensor or reading.sensor
        recording = Recording(events, known or _smallest_sensor(events), reading.partial, guessed=known is None)
    if reading.remarks:
        warnings.warn(f"{path}: {'; '.join(reading.remarks)}", stacklevel=3)
    return recording


def event_blocks(reading: Reading, sensor: Sensor | None) -> Iterator[EventArray]:
    """Yield the events of a file, block by block; `reading` tells the rest.

    Neither the order of events is checked, nor whether they are on the sensor.

    Args:
        reading: the file and how to read it.
        sensor: that which the file has to name, if it names one.

    Raises:
        DataError: as `read_events`, but without the name of the file, see `naming`.
        UsageError: as `read_events`.
    """
    for events in packed(_columns(reading)):
        check_sensor(reading.sensor, sensor)
        yield events
    check_sensor(reading.sensor, sensor)


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Put the name of what is read in front of errors inside the context."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror or error}") from None
    except DataError as error:
        raise DataError(f"{source} cannot be read: {error}") from None


@contextmanager
def _advising() -> Iterator[None]:
    """Say what to do about what cannot be read inside the context."""
    try:
        yield
    except AdviceError:
        raise
    except DataError as error:
        raise DataError(f"{error}; replace or remove it") from None


def _columns(reading: Reading) -> Iterator[Columns]:
    """Yield what the reader for the suffix of a file does."""
    path = reading.path
    read = SUFFIXES.get(path.suffix.lower())
    if read is None:
        raise UsageError(f"{path} has the suffix {path.suffix!r}: recordings end in {', '.join(SUFFIXES)}")
    with _advising():
        if path.stat().st_size == 0:
            raise DataError("it is empty")
        yield from read(reading)


def events_in(table: NDArray[Any], hints: Hints) -> EventArray:
    """Return the events in an array with fields that are named as columns are, or of numbers `[N, 4]`, in its order.

    Raises:
        DataError: as `read_events`, but without the name of a file, see `naming`.
    """
    with _advising():
        columns = list(of_batches([table], hints))
    return np.concatenate([no_events(0), *packed(columns)])


def packed(blocks: Iterable[Columns]) -> Iterator[EventArray]:
    """Yield blocks of columns as events.

    Raises:
        DataError: for values that are none of a recording.
    """
    from spiking_lfp.kernels.cpu import decoders

    any_zero, any_negative = False, False
    for columns in blocks:
        if isinstance(columns, np.ndarray):
            yield columns
            continue
        events = no_events(len(columns["t"]))
        x, y, t, p = (columns[name].astype(np.int64, copy=False) for name in "xytp")
        wrong, zero, negative = decoders.pack(x, y, t, p, LARGEST_SIDE, LARGEST_TIME, events)
        if wrong:
            raise DataError(_out_of_range(x, y, t, p))
        any_zero |= zero
        any_negative |= negative
        if any_zero and any_negative:
            raise DataError("it has polarities 0 and 1, and further on -1 and 1: repair the recording")
        yield events


def check_sensor(found: Sensor | None, expected: Sensor | None) -> None:
    """Check that what is read is of the sensor that is expected, where both are known."""
    if found is not None and expected is not None and found != expected:
        raise DataError(
            f"it is of a sensor {found}, expected {expected} (polarities, height, width): give its own, or none"
        )


def _out_of_range(x: Column, y: Column, t: Column, p: Column) -> str:
    """Return what is wrong with columns of which one is out of range."""
    if p.min() < -1 or p.max() > 1 or (p.min() == -1 and not p.all()):
        return f"it has polarities from {p.min()} to {p.max()}, expected 0 and 1, or -1 and 1: repair the recording"
    for axis, column in (("x", x), ("y", y)):
        if column.min() < 0 or column.max() >= LARGEST_SIDE:
            found = f"{axis} from {column.min()} to {column.max()}"
            return f"it has {found}, expected 0 to {LARGEST_SIDE - 1}: repair the recording"
    return f"it has times from {t.min()} to {t.max()} us, which is out of range: repair the recording"


def _smallest_sensor(events: EventArray) -> Sensor:
    from spiking_lfp.kernels.cpu import decoders

    x, y = decoders.largest(events)
    return (2, int(y) + 1, int(x) + 1)
