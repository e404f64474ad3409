"""Reading recordings from files, in any format of `SUFFIXES`.

`Recording` checks what is read: events inside the sensor, in order of time. If a file ends within a record or packet,
the complete ones before it are read and `Recording.partial` says what is missing. Truncated files of formats whose
header states the size (`.npy`, `.h5`, `.mat`), and everything else that does not fit its format, are errors; so is a
time that goes back, unless the format's timer overflows to 0.
"""

from pathlib import Path

import numpy as np

from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.events._formats import SUFFIXES, Columns, RawRecording
from spiking_lfp.events.records import EVENT, Recording, Sensor

__all__ = ["SUFFIXES", "read_events"]

LARGEST_SIDE = 2**15
# small enough that differences of times do not overflow
LARGEST_TIME = 2**62


def read_events(path: Path, sensor: Sensor | None = None) -> Recording:
    """Read a recording, in the format given by its suffix and, if there is one, its header.

    Args:
        path: the file.
        sensor: polarities, height and width. If None, the sensor that the file names, or, if it names none, the
            smallest sensor with two polarities that holds all events.

    Returns:
        The events in order of time; none if the file is complete but empty of events.

    Raises:
        DataError: naming the file, if it is empty, not in its format, damaged, or from another sensor.
        UsageError: for an unknown suffix, or if the package that reads the format is not installed.
    """
    read = SUFFIXES.get(path.suffix.lower())
    if read is None:
        raise UsageError(f"{path} has the suffix {path.suffix!r}: recordings end in {', '.join(SUFFIXES)}")
    try:
        if path.stat().st_size == 0:
            raise DataError("it is empty")
        raw = read(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except DataError as error:
        raise DataError(f"{path} cannot be read: {error}; replace or remove it") from None
    try:
        return _recording(raw, sensor)
    except DataError as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _recording(raw: RawRecording, sensor: Sensor | None) -> Recording:
    columns = raw.columns
    if raw.sensor is not None and sensor is not None and raw.sensor != sensor:
        raise DataError(
            f"it is of a sensor {raw.sensor}, expected {sensor} (polarities, height, width): give its own, or none"
        )
    low, high = _range(columns, "p")
    if low < -1 or high > 1 or (low == -1 and not columns["p"].all()):
        raise DataError(f"it has polarities from {low} to {high}, expected 0 and 1, or -1 and 1: repair the recording")
    for axis in ("x", "y"):
        low, high = _range(columns, axis)
        if low < 0 or high >= LARGEST_SIDE:
            raise DataError(
                f"it has {axis} from {low} to {high}, expected 0 to {LARGEST_SIDE - 1}: repair the recording"
            )
    low, high = _range(columns, "t")
    if low < -LARGEST_TIME or high > LARGEST_TIME:
        raise DataError(f"it has times from {low} to {high} us, which is out of range: repair the recording")
    events = np.zeros(len(columns["t"]), EVENT)
    for name in ("x", "y", "t"):
        events[name] = columns[name]
    events["p"] = columns["p"] > 0
    smallest = (2, _range(columns, "y")[1] + 1, _range(columns, "x")[1] + 1)
    return Recording(events, sensor or raw.sensor or smallest, raw.partial)


def _range(columns: Columns, name: str) -> tuple[int, int]:
    column = columns[name]
    return (int(column.min()), int(column.max())) if len(column) else (0, 0)
