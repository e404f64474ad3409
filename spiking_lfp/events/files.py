"""Recordings in files, of any format in `SUFFIXES`.

What is read is checked by `Recording`: events inside the sensor, in order of time. Where a file of records or packets
ends within one, the whole ones before it are read and `Recording.partial` says what is missing. Files that say at their
beginning how much they hold (`.npy`, `.h5`, `.mat`) and do not, and everything else that does not fit its format, are
errors: so is a time that goes back, unless the format lets times start again from 0.
"""

from pathlib import Path

import numpy as np

from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.events._formats import SUFFIXES, Columns, Found
from spiking_lfp.events.records import EVENT, Recording, Sensor

__all__ = ["SUFFIXES", "read_events"]

LARGEST_SIDE = 2**15
# far from where differences of times overflow
LARGEST_TIME = 2**62


def read_events(path: Path, sensor: Sensor | None = None) -> Recording:
    """Read a recording, in the format that its suffix and, where the format has one, its header name.

    Args:
        path: the file.
        sensor: polarities, height and width. If None it is that of the file, or, if the file does not know it, the
            smallest with two polarities that holds all events.

    Returns:
        The events in order of time, none if the file is whole but has none.

    Raises:
        DataError: with the file's name, if it is empty, not of its format or damaged, or of another sensor.
        UsageError: for an unknown suffix, or if the package that reads the format is not installed.
    """
    read = SUFFIXES.get(path.suffix.lower())
    if read is None:
        raise UsageError(f"{path} has the suffix {path.suffix!r}: recordings end in {', '.join(SUFFIXES)}")
    try:
        if path.stat().st_size == 0:
            raise DataError("it is empty")
        found = read(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except DataError as error:
        raise DataError(f"{path} cannot be read: {error}; replace or remove it") from None
    try:
        return _recording(found, sensor)
    except DataError as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _recording(found: Found, sensor: Sensor | None) -> Recording:
    columns = found.columns
    if found.sensor is not None and sensor is not None and found.sensor != sensor:
        raise DataError(
            f"it is of a sensor {found.sensor}, expected {sensor} (polarities, height, width): name its own, or none"
        )
    least, most = _range(columns, "p")
    if least < -1 or most > 1 or (least == -1 and not columns["p"].all()):
        raise DataError(
            f"it has polarities from {least} to {most}, expected 0 and 1, or -1 and 1: repair the recording"
        )
    for axis in ("x", "y"):
        least, most = _range(columns, axis)
        if least < 0 or most >= LARGEST_SIDE:
            raise DataError(
                f"it has {axis} from {least} to {most}, expected 0 to {LARGEST_SIDE - 1}: repair the recording"
            )
    least, most = _range(columns, "t")
    if least < -LARGEST_TIME or most > LARGEST_TIME:
        raise DataError(f"it has times from {least} to {most} us, beyond any recording: repair it")
    events = np.zeros(len(columns["t"]), EVENT)
    for name in ("x", "y", "t"):
        events[name] = columns[name]
    events["p"] = columns["p"] > 0
    smallest = (2, _range(columns, "y")[1] + 1, _range(columns, "x")[1] + 1)
    return Recording(events, sensor or found.sensor or smallest, found.partial)


def _range(columns: Columns, name: str) -> tuple[int, int]:
    column = columns[name]
    return (int(column.min()), int(column.max())) if len(column) else (0, 0)
