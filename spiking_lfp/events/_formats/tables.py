"""Tables of events: NumPy's arrays, HDF5, text.

Columns are found by their names, of which there are several in use. Where they have none, a table has four, and their
order is found by what they hold: polarities of two values, times that do not go back, addresses of a sensor. If more
than one of the usual orders fits, or none, the hint `column_order` is needed. Hints that contradict names are refused.

Times without a unit of their own are microseconds, or, if they are no whole numbers, seconds; what would be seconds of
`LONGEST` or more is refused, because it is probably something else.

Block by block a table is taken for what its first block is, and refused where a later one shows that, as a whole, it
would be taken for something else.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from io import BufferedIOBase
from typing import Any, NamedTuple
from zipfile import ZipFile

import h5py
import numpy as np
from numpy.typing import NDArray

from spiking_lfp.errors import DataError, SpikingLFPError, one_line
from spiking_lfp.events._formats.common import (
    LARGEST_TIME,
    AdviceError,
    Columns,
    Content,
    Hints,
    Reading,
    import_extra,
)
from spiking_lfp.events.records import Sensor

# what a name is reduced to before: lower case, without quotes and a unit
NAMES = {
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on", "sign"),
}
# how units of times are written, with both of Unicode's micro signs
UNITS = {
    word: unit
    for unit, words in {
        "s": "s sec secs second seconds",
        "ms": "ms msec millis milliseconds",
        "us": "us µs μs usec micros microseconds",
        "ns": "ns nsec nanos nanoseconds",
    }.items()
    for word in words.split()
}
UNIT = re.compile(rf"(\w+?)(?:_|\s*[\[(])({'|'.join(UNITS)})[\])]?")
# how a line of numbers begins
NUMBERS = re.compile(rb"[ \t]*[-+]?\.?\d[-+.,;\deE \tTrueFals\r]*\n")
MICROSECONDS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
# tonic's and Prophesee's orders, and that of v2e and the Event Camera Dataset
ORDERS = ("xytp", "txyp", "xypt")
LONGEST = 1000
# microseconds since 1970 have 16 digits, nanoseconds 19
LATEST_US = 10**17
# the usual filters reach no higher compression ratio on events
MAX_COMPRESSION = 1100
# registered numbers of HDF5's filters: those that the package hdf5plugin has, and Prophesee's, which it has not
PLUGIN_FILTERS = {32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32015: "zstd", 32026: "blosc2"}
BZIP2_FILTER = 307
ECF_FILTER = 36559
# bytes of a part of a file that only is read as a whole, where memory is short
LARGEST_CHUNK = 2**26
# bytes
LONGEST_LINE = 2**16
PIECE = 2**20

# as faery writes them: x@640, y@480
SIDE = re.compile(r"([xy])@(\d{1,5})")


class Named(NamedTuple):
    """Columns found by their names.

    Attributes:
        names: of x, y, t and p in the file, in the order in which they stand there.
        unit: of t, if its name has one.
        sensor: if the names of x and y have its sides.
    """

    names: dict[str, str]
    unit: str | None
    sensor: Sensor | None = None


def is_time(name: str) -> bool:
    """Tell whether a column of this name holds times, as `t`, `time [ms]` and `timestamp_us` do."""
    return _plain(name)[0] in NAMES["t"]


def _plain(name: str) -> tuple[str, str | None]:
    """Return a name in lower case, without quotes and, if it is one of times, their unit; and that unit."""
    plain = name.strip().strip("\"'").lower()
    with_unit = UNIT.fullmatch(plain)
    if with_unit and with_unit[1] in NAMES["t"]:
        return with_unit[1], UNITS[with_unit[2]]
    return plain, None


def find_names(names: Iterable[str]) -> Named | None:
    """Find the columns x, y, t and p by their names; None if one of them is missing.

    Raises:
        DataError: if two names mean the same column.
    """
    found: dict[str, str] = {}
    sides: dict[str, int] = {}
    unit = None
    for name in names:
        plain, own_unit = _plain(name)
        if with_side := SIDE.fullmatch(plain):
            plain, sides[with_side[1]] = with_side[1], int(with_side[2])
        for column, known in NAMES.items():
            if plain in known:
                if column in found:
                    raise DataError(f"its columns {found[column]} and {name} could both be {column}: rename one")
                found[column] = name
                unit = own_unit or unit
    if len(found) < len(NAMES):
        return None
    return Named(found, unit, (2, sides["y"], sides["x"]) if len(sides) == 2 else None)


class Table:
    """Turns the columns of a table into those of a recording, block by block.

    Args:
        hints: what the table may not say.
        named: its columns, or None if they have no names.
        apart: whether these are arrays of their own, which have no order.

    Raises:
        AdviceError: if hints contradict the names.
    """

    def __init__(self, hints: Hints, named: Named | None, apart: bool = False) -> None:
        if named and not apart:
            order = "".join(named.names)
            hints.check("column_order", order, hints.column_order == order, f"its columns stand in the order {order}")
        if named and named.unit:
            agrees = hints.time_unit == named.unit
            hints.check("time_unit", named.unit, agrees, f"its column {named.names['t']} has times in {named.unit}")
        self.named, self.order = named, hints.column_order
        self.unit = (named.unit if named else None) or hints.time_unit
        self.unit_is_guessed = self.unit == "auto"
        self.first = 0.0  # time, of which the unit is guessed

    def of_names(self, arrays: Any) -> Columns:
        """Return columns that are found by their names, in a mapping or a table with fields."""
        assert self.named is not None
        return self._recording({column: arrays[name] for column, name in self.named.names.items()})

    def of_columns(self, columns: list[NDArray[Any]]) -> Columns:
        """Return four columns without names."""
        if not self.order and len(columns[0]):
            fits = {
                "x": [_are_addresses(column) for column in columns],
                "p": [_are_polarities(column) for column in columns],
            }
            fits |= {"y": fits["x"], "t": [_are_times(column) for column in columns]}
            orders = [order for order in ORDERS if all(fits[name][index] for index, name in enumerate(order))]
            if len(orders) != 1:
                found = " and ".join(orders) if orders else f"none of {', '.join(ORDERS)}"
                raise AdviceError(
                    f"its columns have no names, and of the usual orders {found} fit{'' if orders else 's'}: name the "
                    "right one by the setting column_order, or repair the recording"
                )
            self.order = orders[0]
        return self._recording(dict(zip(self.order or ORDERS[0], columns, strict=True)))

    def _recording(self, columns: Mapping[str, NDArray[Any]]) -> Columns:
        """Return columns as integers, times in microseconds."""
        integers = {}
        for name, column in columns.items():
            if column.dtype.kind not in "iufb" or column.ndim != 1:
                raise DataError(f"its {name} are {column.dtype} {list(column.shape)}, expected numbers [N]")
            if column.dtype.kind == "f" and not np.isfinite(column).all():
                raise DataError(f"its {name} are not all finite")
            if name == "t":
                column = self._microseconds(column)
            elif not _are_whole(column):
                raise DataError(f"its {name} are decimals, expected whole numbers")
            if column.dtype.kind in "fu" and len(column) and not np.abs(column).max() < LARGEST_TIME:
                raise DataError(f"its {name} are out of range, up to {np.abs(column).max():.3g}")
            integers[name] = column.astype(np.int64, copy=False)
        return integers

    def _microseconds(self, t: NDArray[Any]) -> NDArray[Any]:
        """Return times in microseconds, rounded to whole ones."""
        if self.unit_is_guessed and len(t):
            self._guess_unit(t)
        factor = MICROSECONDS.get(self.unit, 1.0)
        if factor == 1 and t.dtype.kind in "iu":
            return t
        if t.dtype.kind not in "iu" or np.abs(t.astype(np.float64)).max(initial=0) * max(factor, 1) >= LARGEST_TIME:
            rounded: NDArray[Any] = np.rint(t.astype(np.float64) * factor)
            return rounded
        whole = t.astype(np.int64)
        return whole * int(factor) if factor >= 1 else (whole + 500) // 1000

    def _guess_unit(self, t: NDArray[Any]) -> None:
        """Take times for microseconds or for seconds."""
        advice = "name their unit by the setting time_unit"
        if not (t.min() > -LATEST_US and t.max() < LATEST_US):
            raise AdviceError(
                f"its times, up to {float(np.abs(t).max()):.3g}, are too large for microseconds: {advice}"
            )
        if self.unit == "auto":
            self.unit, self.first = "us" if _are_whole(t) else "s", float(t[0])
        elif self.unit == "us" and not _are_whole(t):
            raise AdviceError(f"its times begin with whole numbers and go on with decimals: {advice}")
        duration = float(t[-1]) - self.first
        if self.unit == "s" and not abs(duration) < LONGEST:
            raise AdviceError(f"its times are decimals and span {duration:,.0f}, too many to be seconds: {advice}")


def of_batches(batches: Iterable[NDArray[Any]], hints: Hints) -> Iterator[Columns]:
    """Yield the recording in arrays that come one after the other: with fields, or numbers `[N, 4]`."""
    table = None
    for batch in batches:
        table = table or Table(hints, _fields_of(batch))
        yield table.of_names(batch) if table.named else table.of_columns(list(batch.T))


def npy(reading: Reading) -> Iterator[Columns]:
    """NumPy's array: with fields that are named as columns are, or numbers `[N, 4]`."""
    with ExitStack() as files:
        try:
            yield from _of_table(reading, _Stored(files, reading.path.open, "rb"))
        except SpikingLFPError:
            raise
        except Exception as error:  # for damaged headers Python's own parser raises other errors, too
            raise DataError(f"NumPy says: {one_line(error)}") from None


def npz(reading: Reading) -> Iterator[Columns]:
    """NumPy's archive: with an array for each column, as SpikingJelly's, or one array as in `npy`."""
    with ExitStack() as files:
        try:
            archive = files.enter_context(ZipFile(reading.path))
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            named = find_names(members)
            tables = [*named.names.values()] if named else [*members]
            if len(tables) != 1 and not named:
                raise DataError(f"it has the arrays {', '.join(tables) or 'none'}, expected x, y, t, p or one table")
            arrays = {name: _Stored(files, archive.open, members[name]) for name in tables}
            yield from _of_arrays(reading, arrays, named) if named else _of_table(reading, arrays[tables[0]])
        except SpikingLFPError:
            raise
        except Exception as error:  # NumPy and zipfile raise all kinds of errors for damaged files
            raise DataError(f"NumPy says: {one_line(error)}") from None


class _Stored:
    """An array in NumPy's file format, of which rows are read one after the other.

    Args:
        files: closes what is opened.
        open_file: opens the file, given `arguments`; once for each column if they are stored one after the other.
        arguments: see there.

    Attributes:
        shape: of the array.
        dtype: of the array.
        chunks: None, since any number of rows can be read.
    """

    chunks = None

    def __init__(self, files: ExitStack, open_file: Callable[..., Any], *arguments: str) -> None:
        self._files = [files.enter_context(open_file(*arguments))]
        version = np.lib.format.read_magic(self._files[0])
        # names of columns are ASCII, so that version 3, which is 2 in UTF-8, is read as 2
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self.shape, by_columns, self.dtype = read(self._files[0])
        if self.dtype.hasobject or min(self.shape, default=0) < 0:
            raise DataError(f"it holds {self.dtype} {list(self.shape)}, expected numbers")
        if by_columns and len(self.shape) == 2:
            start = self._files[0].tell()
            self._files += [files.enter_context(open_file(*arguments)) for _ in range(1, self.shape[1])]
            for index, file in enumerate(self._files):
                file.seek(start + index * self.shape[0] * self.dtype.itemsize)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Return so many of the next rows."""
        shape = (len(range(*rows.indices(self.shape[0]))), *self.shape[1:])
        if len(self._files) == 1:
            array = np.empty(shape, self.dtype)
            _fill(array.reshape(-1), self._files[0])
            return array
        array = np.empty(shape, self.dtype, "F")
        for column, file in zip(array.T, self._files, strict=True):
            _fill(column, file)
        return array


def _fill(array: NDArray[Any], file: BufferedIOBase) -> None:
    """Fill an array `[N]` from a file."""
    wanted: Any = memoryview(array.view(np.uint8))  # type: ignore[arg-type]
    at = 0
    while at < len(wanted):
        count = file.readinto(wanted[at : at + PIECE])
        if not count:
            raise DataError(f"its array ends after {at:,} of {len(wanted):,} bytes")
        at += count


def h5(reading: Reading) -> Iterator[Columns]:
    """HDF5 with one recording: columns in a group, or a table.

    Found are, in whatever group, data sets with the names of columns (DSEC, event_utils), a data set with fields of
    these names (Metavision's CD/events), or, if there are neither, numbers `[N, 4]` called events (v2e, MVSEC). The
    offset `t_offset` of DSEC is added to its times; its index ms_to_idx is not needed.
    """
    size = reading.path.stat().st_size
    try:
        with h5py.File(reading.path) as file:
            tables = _tables_of(file)
            if len(tables) != 1:
                found = (
                    f"{len(tables)} tables of events, {', '.join(sorted(tables)[:3])} ..." if tables else "no events"
                )
                raise DataError(
                    f"it has {found}: expected one group with data sets x, y, t and p, one data set with these fields, "
                    "or numbers [N, 4] called events"
                )
            [table] = tables.values()
            reading.sensor = _geometry(str(file.attrs.get("geometry", "")))
            if isinstance(table, h5py.Dataset):
                _check_data_set(table, size)
                blocks = _of_table(reading, table)
            else:
                group, named = table
                columns = {name: group[name] for name in named.names.values()}
                for column in columns.values():
                    _check_data_set(column, size)
                blocks = _of_arrays(reading, columns, named)
            offset = file.get("t_offset")
            if not (isinstance(offset, h5py.Dataset) and offset.size == 1 and offset.dtype.kind in "iu"):
                yield from blocks
                return
            later = np.int64(min(int(np.asarray(offset[()]).item()), LARGEST_TIME))
            for block in blocks:
                yield {name: block[name] + later if name == "t" else block[name] for name in NAMES}
    except SpikingLFPError:
        raise
    except Exception as error:  # h5py raises all kinds of errors for damaged files
        raise DataError(f"HDF5 says: {one_line(error)}") from None


def _of_arrays(reading: Reading, arrays: Mapping[str, Any], named: Named) -> Iterator[Columns]:
    """Yield the recording in columns with names, each with a shape, a dtype, and rows that are read when asked for."""
    lengths = {name: column.shape for name, column in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise DataError(f"its columns have the shapes {lengths}, expected one length")
    table = Table(reading.hints, named, apart=True)
    for rows in _rows(reading, [*arrays.values()]):
        yield table.of_names({name: column[rows] for name, column in arrays.items()})


def _of_table(reading: Reading, array: Any) -> Iterator[Columns]:
    """Yield the recording in a table."""
    _fields_of(array)  # before anything is read
    yield from of_batches((array[rows] for rows in _rows(reading, [array])), reading.hints)


def _fields_of(array: Any) -> Named | None:
    """Return the fields of a table, or None of numbers `[N, 4]`; what is neither is none."""
    names, shape = array.dtype.names, array.shape
    named = find_names(names) if names and len(shape) == 1 else None
    if not named and not (names is None and shape[1:] == (4,) and array.dtype.kind in "iufb"):
        raise DataError(f"it holds {array.dtype} {list(shape)}, expected fields x, y, t, p or numbers [N, 4]")
    return named


def _rows(reading: Reading, arrays: Sequence[Any]) -> Iterator[slice]:
    """Yield the rows to read together: whole chunks of HDF5, each of which is unpacked once."""
    total = arrays[0].shape[0] if arrays[0].shape else 1
    step = total
    if reading.block is not None:
        row = sum(array.dtype.itemsize * (4 if len(array.shape) > 1 else 1) for array in arrays)
        chunk = max(array.chunks[0] if array.chunks else 1 for array in arrays)
        if chunk > 1 and chunk * row > LARGEST_CHUNK:
            raise AdviceError(f"its chunks of {chunk:,} events are read as a whole: repack it, h5repack -l CHUNK=65536")
        step = -(-max(reading.block // max(row, 1), 1) // chunk) * chunk
    for start in range(0, total, max(step, 1)):
        yield slice(start, min(start + step, total))


def text(reading: Reading) -> Iterator[Columns]:
    """Lines of numbers: with a line of names, or four columns, as the Event Camera Dataset's, v2e's and Prophesee's.

    White space, commas and semicolons part numbers, # and % begin comments. Lines of other columns than four need
    names. Where a first line of two numbers comes before lines of four, it is width and height; a comment may name
    them as `geometry:640,480`.
    """
    with Content(reading) as content:
        head = content.head if content.head.endswith(b"\n") else content.head + b"\n"
        # Excel puts a mark before text in UTF-8
        start, named, columns = len(BOM_UTF8) if head.startswith(BOM_UTF8) else 0, None, [""] * 4
        comments: list[str] = []
        while start < len(head) and not NUMBERS.match(head, start):
            end = head.index(b"\n", start) + 1
            line = head[start : min(end, start + 1000)].decode("utf-8", "replace").strip()
            comment = line.startswith(("#", "%"))
            names = _words(line.lstrip("#% "))
            found = None if named else find_names(names)
            if found:
                named, columns = found, names
            elif line and not comment:
                raise DataError(
                    f"it begins with {line[:40]!r}, expected names of the columns x, y, t and p, or numbers"
                )
            comments += [line] if comment else []
            start = end
        if start >= len(head) and len(content.head) < content.size:
            raise DataError("its header has no end")
        geometry = re.search(r"geometry:? *(\d{1,5}[,x]\d{1,5})", "\n".join(comments))
        sensor = _geometry(geometry[1]) if geometry else named.sensor if named else None
        first, second = (_words(line.decode("ascii", "replace")) for line in _next_lines(head, start))
        if len(first) == 2 and len(second) == 4 and not named:
            sensor = _geometry("x".join(first))
            start = head.index(b"\n", start) + 1
            first = second
        if len(first) not in (0, len(columns)):
            raise DataError(
                f"its lines have {len(first)} numbers, expected {len(columns)}: name the columns in a line before"
            )
        reading.sensor = sensor
        table = Table(reading.hints, named)
        for numbers in _numbers(reading, content, start, len(columns)):
            yield table.of_names(dict(zip(columns, numbers, strict=True))) if named else table.of_columns(numbers)


def _words(line: str) -> list[str]:
    """Return what commas, semicolons and tabs part in a line, or white space if there are none of them."""
    line = line.strip()
    parted = re.split(r"\s*[,;\t]\s*", line) if re.search(r"[,;\t]", line) else line.split()
    return [word.strip("\"'") for word in parted] if line else []


def _next_lines(content: bytes, start: int) -> tuple[bytes, bytes]:
    """Return the next two lines."""
    first, second, *_ = [*content[start : start + 2000].split(b"\n", 2), b"", b""]
    return first, second


def _numbers(reading: Reading, content: Content, start: int, count: int) -> Iterator[list[NDArray[Any]]]:
    """Yield the numbers of all lines, a column each; `reading.partial` tells of a last line that is cut."""
    from spiking_lfp.kernels.cpu import decoders

    any_row, lines_before = False, content.head.count(b"\n", 0, start)
    for lines, at, is_last in _lines(content, start):
        found = lines.count(b"\n", at)
        digits, exponents = np.empty((count, found), np.int64), np.empty((count, found), np.int16)
        rows, wrong = decoders.numbers(np.frombuffer(lines, np.uint8, offset=at), digits, exponents)
        any_row |= rows > 0
        if wrong >= 0:
            begin = at + wrong
            line = lines[begin : lines.index(b"\n", begin)]
            if not is_last or begin + len(line) + 1 < len(lines) or not any_row:
                number = lines_before + lines.count(b"\n", at, begin) + 1
                raise DataError(
                    f"its line {number:,} is {line[:40].decode('ascii', 'replace')!r}, expected {count} numbers"
                )
            reading.partial = f"its last line of {len(line)} bytes has no {count} numbers"
        lines_before += found
        columns: list[NDArray[Any]] = []
        for mantissa, exponent in zip(digits[:, :rows], exponents[:, :rows], strict=True):
            decimals = exponent.any()
            columns.append(mantissa * 10.0 ** exponent.astype(np.float64) if decimals else mantissa)
        yield columns


def _lines(content: Content, start: int) -> Iterator[tuple[bytes, int, bool]]:
    """Yield whole lines as bytes, where in them they begin, and whether they are the last ones."""
    if content.is_whole:
        head = content.head
        if start < len(head):
            yield head if head.endswith(b"\n") else head + b"\n", start, True
        return
    rest, at = b"", start
    for block in content.blocks(start):
        at += len(block)
        lines = rest + block
        end = lines.rfind(b"\n") + 1
        if at == content.size:
            yield lines if end == len(lines) else lines + b"\n", 0, True
            return
        rest = lines[end:]
        if len(rest) > LONGEST_LINE:
            raise DataError(f"it has a line of more than {LONGEST_LINE:,} bytes")
        if end:
            yield lines[:end], 0, False


def _are_addresses(column: NDArray[Any]) -> bool:
    return bool(((column >= 0) & (column < 2**15)).all()) and _are_whole(column)


def _are_polarities(column: NDArray[Any]) -> bool:
    return bool(((column == 0) | (column == 1)).all() or ((column == -1) | (column == 1)).all())


def _are_times(column: NDArray[Any]) -> bool:
    return bool((column[1:] >= column[:-1]).all())


def _are_whole(column: NDArray[Any]) -> bool:
    return column.dtype.kind in "iub" or bool((column == np.rint(column)).all())


def _tables_of(file: Any) -> dict[str, Any]:
    """Return what could be events, by name: data sets with fields, groups of columns, or else numbers `[N, 4]`."""
    named_tables: dict[str, Any] = {}
    plain_tables: dict[str, Any] = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Group):
            named = find_names(key for key, item in node.items() if isinstance(item, h5py.Dataset))
            if named:
                named_tables[name] = node, named
        elif node.dtype.names:
            if find_names(node.dtype.names):
                named_tables[name] = node
        elif node.ndim == 2 and node.shape[1] == 4 and node.dtype.kind in "iuf" and name.endswith("events"):
            plain_tables[name] = node

    visit("/", file)
    file.visititems(visit)
    return named_tables or plain_tables


def _check_data_set(dataset: Any, size: int) -> None:
    """Check that a data set in a file of so many bytes can be read."""
    # without this check h5py would allocate and fill whatever size a damaged shape says
    if dataset.nbytes > MAX_COMPRESSION * size:
        raise DataError(f"{dataset.name} claims {dataset.nbytes:,} bytes, in a file of {size:,}")
    created = dataset.id.get_create_plist()
    for number in (created.get_filter(index)[0] for index in range(created.get_nfilters())):
        if number == BZIP2_FILTER:  # the plug-in runs for ever on data that are cut
            raise AdviceError(f"{dataset.name} is compressed by bzip2: repack it, h5repack -f GZIP=4")
        if h5py.h5z.filter_avail(number):
            continue
        if number in PLUGIN_FILTERS:
            import_extra("hdf5plugin")
        elif number == ECF_FILTER:
            raise AdviceError(
                "its events are compressed by Prophesee's filter ECF: install the HDF5 plugin of Metavision SDK or "
                "OpenEB and name its folder in HDF5_PLUGIN_PATH, or convert it by metavision_file_to_dat"
            )
        else:
            raise DataError(f"{dataset.name} is compressed by the HDF5 filter {number}, which is not installed")


def _geometry(size: str) -> Sensor | None:
    """Return the sensor of a size written as 640x480 or 640,480."""
    sides = re.fullmatch(r"(\d{1,5})[x,](\d{1,5})", size.strip())
    return (2, int(sides[2]), int(sides[1])) if sides else None
