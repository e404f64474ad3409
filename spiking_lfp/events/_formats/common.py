"""What readers of all formats share: what they are told and tell, the bytes of a file, headers of text."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from itertools import permutations
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.errors import DataError, UsageError, unknown_name
from spiking_lfp.events.records import EVENT, EventArray, Sensor

Columns = Mapping[str, NDArray[Any]] | EventArray
TimeUnit = Literal["auto", "s", "ms", "us", "ns"]

# small enough that differences of times do not overflow
LARGEST_TIME = 2**62

TABLES = (".npy", ".npz", ".h5", ".hdf5", ".txt", ".csv")
# how files end that may not say what a hint is about
HINTED = {"chip": (".aedat", ".aedat2", ".dat"), "time_unit": TABLES, "column_order": TABLES}

# bytes; jAER writes the preferences of a camera into it
LONGEST_HEADER = 2**20
# of a file that is read block by block: a header, and as much behind it
HEAD = 2 * LONGEST_HEADER
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
        of_others: whether they were given of other files, those of a training: what a file says itself then counts,
            and else contradicts them.

    Raises:
        UsageError: for other values.
    """

    chip: str = ""
    time_unit: TimeUnit = "auto"
    column_order: str = ""
    of_others: bool = False

    def __post_init__(self) -> None:
        if self.chip != "" and (not isinstance(self.chip, str) or self.chip.lower() not in CHIPS):
            raise unknown_name("chip", self.chip, CHIPS)
        if self.time_unit not in ("auto", "s", "ms", "us", "ns"):
            raise unknown_name("time_unit", self.time_unit, ("auto", "s", "ms", "us", "ns"))
        if self.column_order not in ("", *map("".join, permutations("xytp"))):
            raise UsageError(f"column_order is {self.column_order!r}, expected x, y, t and p in some order, as txyp")

    def check_used(self, suffixes: Collection[str], name: str) -> None:
        """Refuse hints that no file with one of these suffixes has a use for; they are called by `name`."""
        for hint, hinted in HINTED.items():
            found = getattr(self, hint)
            if found not in ("", "auto") and not {*hinted} & {*suffixes}:
                raise UsageError(
                    f"{hint} = {found} changes nothing of {name}, it is for files that end in {', '.join(hinted)}: "
                    "leave it out"
                )

    def check(self, hint: str, found: str, agrees: bool, what: str) -> None:
        """Refuse a hint that contradicts what the file says.

        Args:
            hint: its name.
            found: what it would have to be.
            agrees: whether it says the same in other words.
            what: says it in the file, half a sentence.

        Raises:
            AdviceError: with both.
        """
        given = getattr(self, hint)
        if given not in ("", "auto") and not agrees and not self.of_others:
            raise AdviceError(f"{what}, but {hint} is {given}: set {hint}={found}, leave it out, or correct the file")


@dataclass
class Reading:
    """A file while it is read: what its reader is told, and what it finds out beside the events.

    Attributes:
        path: the file.
        hints: what it does not say.
        block: how many bytes to read at a time, about; None to read all at once.
        sensor: polarities, height and width, known with the first block of events; None if the file names none.
        partial: description of what could not be read, known at the end, or None.
        assumed: what was assumed of the file, known with the first block.
        left_out: how many things of each kind were left out so far.
    """

    path: Path
    hints: Hints
    block: int | None = None
    sensor: Sensor | None = None
    partial: str | None = None
    assumed: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def remarks(self) -> list[str]:
        """What was assumed, and what was left out."""
        return [*self.assumed, *(f"left out {count:,} {thing}" for thing, count in self.left_out.items() if count)]


class AdviceError(DataError):
    """The file may be whole; the sentence says how it is read."""


class Content:
    """The bytes of a file, read once and whole, or block by block.

    Attributes:
        is_whole: whether all of it is read at once.
        size: in bytes, when it was opened.
    """

    def __init__(self, reading: Reading) -> None:
        self._file = reading.path.open("rb", buffering=0)
        self._block, self.is_whole = reading.block, reading.block is None
        self.size = self._file.seek(0, 2)

    def __enter__(self) -> "Content":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    @cached_property
    def head(self) -> bytes:
        """The beginning, with room for a header; all of it if the file is read whole."""
        self._file.seek(0)
        return self._file.read(-1 if self._block is None else HEAD)

    def at(self, start: int, size: int) -> bytes:
        """Return up to `size` bytes from `start` on."""
        if "head" in self.__dict__ and start + size <= len(self.head):
            return self.head[start : start + size]
        self._file.seek(start)
        return self._file.read(size)

    def blocks(self, start: int, unit: int = 1, end: int | None = None) -> Iterator[memoryview]:
        """Yield all bytes from `start` to `end`, the last one if None, in multiples of `unit` but for the last block.

        Raises:
            DataError: if the file became shorter.
        """
        end = self.size if end is None else end
        size = end - start if self._block is None else max(self._block // unit, 1) * unit
        for at in range(start, end, max(size, 1)):
            due = min(size, end - at)
            block = memoryview(self.head)[at:end] if self._block is None else memoryview(self.at(at, due))
            if len(block) < due:
                raise DataError(f"it became shorter while it was read, {at + len(block):,} of {self.size:,} bytes")
            yield block

    def records(self, start: int, dtype: np.dtype[Any], reading: Reading) -> Iterator[NDArray[Any]]:
        """Yield all complete records from `start` on, block by block; `reading.partial` tells of the rest, if any."""
        size = dtype.itemsize
        count, rest = divmod(self.size - start, size)
        if rest:
            reading.partial = f"the last {rest} of {self.size:,} bytes are not a complete event of {size} bytes"
        for block in self.blocks(start, size, start + count * size):
            yield np.frombuffer(block, dtype)


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


def no_events(count: int) -> EventArray:
    """Return room for so many events."""
    return np.empty(count, EVENT)


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
