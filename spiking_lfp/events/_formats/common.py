"""What readers of all formats share: what they return, headers of text, records of a fixed size."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.errors import DataError, UsageError, unknown_name
from spiking_lfp.events.records import EVENT, EventArray, Sensor

Columns = Mapping[str, NDArray[Any]] | EventArray
TimeUnit = Literal["auto", "s", "ms", "us", "ns"]

# small enough that differences of times do not overflow
LARGEST_TIME = 2**62

# bytes; jAER writes the preferences of a camera into it
LONGEST_HEADER = 2**20
TEXT = rb"[^\x00-\x08\x0e-\x1f\n]*"


class Layout(NamedTuple):
    """Where an address of AEDAT 2 has its fields.

    Attributes:
        p, x, y: the lowest bit of each.
        x_mask, y_mask: the bits of x and y, moved to the right.
        flipped: whether x and y are counted from the far corner.
        signal: bits that mark external signals and special events.
        other: bits that mark records of images and inertial data.
        never: bits that are never set.
    """

    p: int
    x: int
    y: int
    x_mask: int
    y_mask: int
    flipped: bool
    signal: int
    other: int
    never: int


DVS128 = Layout(0, 1, 8, 0x7F, 0x7F, False, 1 << 15 | 1 << 31, 0, 0x7FFF << 16)
DAVIS = Layout(11, 12, 22, 0x3FF, 0x1FF, True, 1 << 10, 1 << 31, 0)
DVS640 = Layout(0, 1, 11, 0x3FF, 0x3FF, True, 1 << 31, 0, 0x3FF << 21)
# jAER's and libcaer's names of a chip, in lower case; Tmpdiff128 is jAER's first name of the DVS128
CHIPS: dict[str, tuple[Layout, Sensor]] = {
    name: (layout, sensor)
    for layout, sensor, names in (
        (DVS128, (2, 128, 128), "dvs128 tmpdiff128"),
        (DAVIS, (2, 128, 128), "davis128 davis128color"),
        (DAVIS, (2, 192, 208), "davis208 davis208pixelparade davis208pixelparadecolor"),
        (DAVIS, (2, 180, 240), "davis240 davis240a davis240b davis240c"),
        (
            DAVIS,
            (2, 260, 346),
            "davis346 davis346a davis346b davis346bcolor davis346blue davis346red davis346redcolor davis346cbsi "
            "davis346mini davis346zynq",
        ),
        (DAVIS, (2, 480, 640), "davis640 davis640color"),
        (DVS640, (2, 480, 640), "dvs640"),
    )
    for name in names.split()
}


@dataclass(frozen=True)
class Hints:
    """What files may not say, and their reader then has to be told.

    Attributes:
        chip: of AEDAT files, one of `CHIPS`, or empty.
        time_unit: of the times in tables: text, NumPy, HDF5; auto for microseconds, and seconds of decimals.
        column_order: of tables whose columns have no names, as txyp, or empty.

    Raises:
        UsageError: for other values.
    """

    chip: str = ""
    time_unit: TimeUnit = "auto"
    column_order: str = ""

    def __post_init__(self) -> None:
        if self.chip and self.chip.lower() not in CHIPS:
            raise unknown_name("chip", self.chip, CHIPS)
        if self.time_unit not in ("auto", "s", "ms", "us", "ns"):
            raise unknown_name("time_unit", self.time_unit, ("auto", "s", "ms", "us", "ns"))
        if self.column_order and sorted(self.column_order) != sorted("xytp"):
            raise UsageError(f"column_order is {self.column_order!r}, expected x, y, t and p in some order, as txyp")


class RawRecording(NamedTuple):
    """The content of a file, not yet checked.

    Attributes:
        columns: dtype `EVENT`, or x, y, t in microseconds and p, each `[N]` of any integer type; p is 0 or 1, or -1
            or 1.
        sensor: polarities, height and width, or None if the file does not name them.
        partial: description of what could not be read, or None.
        remarks: what was assumed, and what was left out.
    """

    columns: Columns
    sensor: Sensor | None = None
    partial: str | None = None
    remarks: tuple[str, ...] = ()


class AdviceError(DataError):
    """The file may be whole; the sentence says how it is read."""


def counted(count: int, thing: str) -> tuple[str, ...]:
    """Return the remark that so many things were left out, none if there are none."""
    return (f"left out {count:,} {thing}",) if count else ()


def text_header(content: bytes, mark: bytes, ends: tuple[bytes, ...]) -> tuple[list[bytes], int]:
    """Return the header, the first lines of text that start with `mark`, and the position at which it ends."""
    pattern = re.compile(mark + TEXT + rb"\n")
    lines: list[bytes] = []
    start = 0
    while content.startswith(mark, start) and not (lines and lines[-1].startswith(ends)):
        line = pattern.match(content, start)
        if line is None:
            # events may begin like a line of text, but do not continue as one
            if re.fullmatch(TEXT, content[start:]):
                raise DataError("its header has no end")
            break
        lines.append(line[0].strip())
        start = line.end()
    if content.find(b"\n" + ends[0], start, start + LONGEST_HEADER) >= 0:
        raise DataError(f"its header is damaged: a line at byte {start:,} does not begin with {mark.decode()}")
    return lines, start


def whole_records(content: bytes, start: int, dtype: np.dtype[Any]) -> tuple[NDArray[Any], str | None]:
    """Return all complete records from `start` on, and a description of the rest, if any."""
    count, rest = divmod(len(content) - start, dtype.itemsize)
    partial = f"the last {rest} of {len(content):,} bytes are not a complete event of {dtype.itemsize} bytes"
    return np.frombuffer(content, dtype, count, start), partial if rest else None


def no_events(count: int) -> EventArray:
    """Return room for so many events."""
    return np.empty(count, EVENT)


def one_line(error: BaseException) -> str:
    """Return what another package says, in one line."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def import_extra(module: str, extra: str = "events") -> Any:
    """Import what the extra installs.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise UsageError(f"{name} is not installed: pip install 'spiking-lfp[{extra}]'") from None
