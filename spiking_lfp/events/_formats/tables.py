"""Tables of events: NumPy's arrays, HDF5, text.

Columns are found by their names, of which there are several in use. Where they have none, a table has four, and their
order is found by what they hold: polarities of two values, times that do not go back, addresses of a sensor. If more
than one of the usual orders fits, or none, the hint `column_order` is asked for.

Times without a unit of their own are microseconds, or, if they are no whole numbers, seconds; what would be seconds of
`LONGEST` or more is refused, because it is probably something else.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from spiking_lfp.errors import DataError, SpikingLFPError
from spiking_lfp.events._formats.common import (
    LARGEST_TIME,
    AdviceError,
    Hints,
    RawRecording,
    import_extra,
    one_line,
)
from spiking_lfp.events.records import Sensor

# what a name is reduced to before: lower case, without quotes and a unit
NAMES = {
    "x": ("x", "xs"),
    "y": ("y", "ys"),
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on", "sign"),
}
UNIT = re.compile(r"(\w+?)(?:_|\s*[\[(])(s|ms|us|µs|ns)[\])]?")
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


# as faery writes them: x@640, y@480
SIDE = re.compile(r"([xy])@(\d{1,5})")


class Named(NamedTuple):
    """Columns found by their names.

    Attributes:
        names: of x, y, t and p in the file.
        unit: of t, if its name has one.
        sensor: if the names of x and y have its sides.
    """

    names: dict[str, str]
    unit: str | None
    sensor: Sensor | None = None


def find_names(names: Iterable[str]) -> Named | None:
    """Find the columns x, y, t and p by their names; None if one of them is missing.

    Raises:
        DataError: if two names mean the same column.
    """
    found: dict[str, str] = {}
    sides: dict[str, int] = {}
    unit = None
    for name in names:
        plain, own_unit = name.strip().strip("\"'").lower(), None
        with_unit = UNIT.fullmatch(plain)
        if with_unit and with_unit[1] in NAMES["t"]:
            plain, own_unit = with_unit[1], with_unit[2].replace("µ", "u")
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


def npy(path: Path, hints: Hints) -> RawRecording:
    """NumPy's array: with fields that are named as columns are, or numbers `[N, 4]`."""
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # for damaged headers Python's own parser raises other errors, too
        raise DataError(f"NumPy says: {one_line(error)}") from None
    return _of_array(array, hints)


def npz(path: Path, hints: Hints) -> RawRecording:
    """NumPy's archive: with an array for each column, as SpikingJelly's, or one array as in `npy`."""
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
            named = find_names(archive.files)
            tables = [*named.names.values()] if named else archive.files
            if len(tables) != 1 and not named:
                raise DataError(f"it has the arrays {', '.join(tables) or 'none'}, expected x, y, t, p or one table")
            arrays = {name: np.asarray(archive[name]) for name in tables}
    except SpikingLFPError:
        raise
    except Exception as error:  # NumPy and zipfile raise all kinds of errors for damaged files
        raise DataError(f"NumPy says: {one_line(error)}") from None
    return _of_names(arrays, named, hints) if named else _of_array(arrays[tables[0]], hints)


def h5(path: Path, hints: Hints) -> RawRecording:
    """HDF5 with one recording: columns in a group, or a table.

    Found are, in whatever group, data sets with the names of columns (DSEC, event_utils), a data set with fields of
    these names (Metavision's CD/events), or, if there are neither, numbers `[N, 4]` called events (v2e, MVSEC). The
    offset `t_offset` of DSEC is added to its times; its index ms_to_idx is not needed.
    """
    size = path.stat().st_size
    try:
        with h5py.File(path) as file:
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
            if isinstance(table, h5py.Dataset):
                recording = _of_array(_load(table, size), hints)
            else:
                group, named = table
                arrays = {name: _load(group[name], size) for name in named.names.values()}
                recording = _of_names(arrays, named, hints)
            offset = file.get("t_offset")
            if isinstance(offset, h5py.Dataset) and offset.size == 1 and offset.dtype.kind in "iu":
                columns = {name: recording.columns[name] for name in NAMES}
                columns["t"] = columns["t"] + np.int64(min(int(np.asarray(offset[()]).item()), LARGEST_TIME))
                recording = recording._replace(columns=columns)
            return recording._replace(sensor=_geometry(str(file.attrs.get("geometry", ""))))
    except SpikingLFPError:
        raise
    except Exception as error:  # h5py raises all kinds of errors for damaged files
        raise DataError(f"HDF5 says: {one_line(error)}") from None


def text(path: Path, hints: Hints) -> RawRecording:
    """Lines of numbers: with a line of names, or four columns, as the Event Camera Dataset's, v2e's and Prophesee's.

    White space, commas and semicolons part numbers, # and % begin comments. Lines of other columns than four need
    names. Where a first line of two numbers comes before lines of four, it is width and height; a comment may name
    them as `geometry:640,480`.
    """
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        content += b"\n"
    start, named, columns = 0, None, [""] * 4
    comments: list[str] = []
    while start < len(content) and not NUMBERS.match(content, start):
        end = content.index(b"\n", start) + 1
        line = content[start : min(end, start + 1000)].decode("ascii", "replace").strip()
        comment = line.startswith(("#", "%"))
        names = _words(line.lstrip("#% "))
        found = None if named else find_names(names)
        if found:
            named, columns = found, names
        elif line and not comment:
            raise DataError(f"it begins with {line[:40]!r}, expected names of the columns x, y, t and p, or numbers")
        comments += [line] if comment else []
        start = end
    geometry = re.search(r"geometry:? *(\d{1,5}[,x]\d{1,5})", "\n".join(comments))
    sensor = _geometry(geometry[1]) if geometry else named.sensor if named else None
    first, second = (_words(line.decode("ascii", "replace")) for line in _next_lines(content, start))
    if len(first) == 2 and len(second) == 4 and not named:
        sensor = _geometry("x".join(first))
        start = content.index(b"\n", start) + 1
        first = second
    count = len(columns)
    if len(first) not in (0, count):
        raise DataError(f"its lines have {len(first)} numbers, expected {count}: name the columns in a line before")
    numbers, partial = _numbers(content, start, count)
    if named:
        arrays = dict(zip(columns, numbers, strict=True))
        recording = _of_names({name: arrays[name] for name in named.names.values()}, named, hints)
    else:
        recording = _of_columns(numbers, hints)
    return recording._replace(sensor=sensor, partial=partial)


def _words(line: str) -> list[str]:
    """Return what commas, semicolons and tabs part in a line, or white space if there are none of them."""
    line = line.strip()
    parted = re.split(r"\s*[,;\t]\s*", line) if re.search(r"[,;\t]", line) else line.split()
    return [word.strip("\"'") for word in parted] if line else []


def _next_lines(content: bytes, start: int) -> tuple[bytes, bytes]:
    """Return the next two lines."""
    first, second, *_ = [*content[start : start + 2000].split(b"\n", 2), b"", b""]
    return first, second


def _numbers(content: bytes, start: int, count: int) -> tuple[list[NDArray[Any]], str | None]:
    """Return the numbers of all lines, a column each, and a description of a last line that is cut."""
    from spiking_lfp.kernels.cpu import decoders

    lines = content.count(b"\n", start)
    digits, exponents = np.empty((count, lines), np.int64), np.empty((count, lines), np.int16)
    rows, wrong = decoders.numbers(np.frombuffer(content, np.uint8, offset=start), digits, exponents)
    partial = None
    if wrong >= 0:
        at = start + wrong
        line = content[at : content.index(b"\n", at)]
        if at + len(line) + 1 < len(content) or not rows:
            number = content.count(b"\n", 0, at) + 1
            raise DataError(
                f"its line {number:,} is {line[:40].decode('ascii', 'replace')!r}, expected {count} numbers"
            )
        partial = f"its last line of {len(line)} bytes has no {count} numbers"
    columns: list[NDArray[Any]] = []
    for mantissa, exponent in zip(digits[:, :rows], exponents[:, :rows], strict=True):
        decimals = exponent.any()
        columns.append(mantissa * 10.0 ** exponent.astype(np.float64) if decimals else mantissa)
    return columns, partial


def _of_array(array: NDArray[Any], hints: Hints) -> RawRecording:
    """Return the recording in a table: with fields, or numbers `[N, 4]`."""
    named = find_names(array.dtype.names) if array.dtype.names and array.ndim == 1 else None
    if named:
        return _of_names({name: array[name] for name in named.names.values()}, named, hints)
    if array.dtype.names is None and array.ndim == 2 and array.shape[1] == 4 and array.dtype.kind in "iufb":
        return _of_columns(list(array.T), hints)
    raise DataError(f"it holds {array.dtype} {list(array.shape)}, expected fields x, y, t, p or numbers [N, 4]")


def _of_names(arrays: Mapping[str, NDArray[Any]], named: Named, hints: Hints) -> RawRecording:
    """Return the recording in columns with names."""
    lengths = {name: column.shape for name, column in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise DataError(f"its columns have the shapes {lengths}, expected one length")
    return _recording({column: arrays[name] for column, name in named.names.items()}, named.unit or hints.time_unit)


def _of_columns(columns: list[NDArray[Any]], hints: Hints) -> RawRecording:
    """Return the recording in four columns without names."""
    order = hints.column_order
    if not order:
        fits = {
            "x": [_are_addresses(column) for column in columns],
            "p": [_are_polarities(column) for column in columns],
        }
        fits |= {"y": fits["x"], "t": [_are_times(column) for column in columns]}
        orders = [order for order in ORDERS if all(fits[name][index] for index, name in enumerate(order))]
        if len(orders) != 1 and len(columns[0]):
            found = " and ".join(orders) if orders else f"none of {', '.join(ORDERS)}"
            raise AdviceError(
                f"its columns have no names, and of the usual orders {found} fit{'' if orders else 's'}: name the "
                "right one by the setting column_order, or repair the recording"
            )
        order = orders[0]
    return _recording(dict(zip(order, columns, strict=True)), hints.time_unit)


def _are_addresses(column: NDArray[Any]) -> bool:
    return bool(((column >= 0) & (column < 2**15)).all()) and _are_whole(column)


def _are_polarities(column: NDArray[Any]) -> bool:
    return bool(((column == 0) | (column == 1)).all() or ((column == -1) | (column == 1)).all())


def _are_times(column: NDArray[Any]) -> bool:
    return bool((column[1:] >= column[:-1]).all())


def _are_whole(column: NDArray[Any]) -> bool:
    return column.dtype.kind in "iub" or bool((column == np.rint(column)).all())


def _recording(columns: Mapping[str, NDArray[Any]], unit: str) -> RawRecording:
    """Return columns as integers, times in microseconds."""
    integers = {}
    for name, column in columns.items():
        if column.dtype.kind not in "iufb" or column.ndim != 1:
            raise DataError(f"its {name} are {column.dtype} {list(column.shape)}, expected numbers [N]")
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            raise DataError(f"its {name} are not all finite")
        if name == "t":
            column = _microseconds(column, unit)
        elif not _are_whole(column):
            raise DataError(f"its {name} are decimals, expected whole numbers")
        if column.dtype.kind in "fu" and len(column) and not np.abs(column).max() < LARGEST_TIME:
            raise DataError(f"its {name} are out of range, up to {np.abs(column).max():.3g}")
        integers[name] = column.astype(np.int64, copy=False)
    return RawRecording(integers)


def _microseconds(t: NDArray[Any], unit: str) -> NDArray[Any]:
    """Return times in microseconds, rounded to whole ones."""
    if unit == "auto":
        if len(t) and not (t.min() > -LATEST_US and t.max() < LATEST_US):
            raise AdviceError(
                f"its times, up to {float(np.abs(t).max()):.3g}, are too large for microseconds: name their unit by "
                "the setting time_unit"
            )
        unit = "us" if _are_whole(t) else "s"
        duration = float(t[-1]) - float(t[0]) if len(t) else 0.0
        if unit == "s" and not abs(duration) < LONGEST:
            raise AdviceError(
                f"its times are decimals and span {duration:,.0f}, too many to be seconds: name their unit by the "
                "setting time_unit"
            )
    factor = MICROSECONDS[unit]
    if factor == 1 and t.dtype.kind in "iu":
        return t
    if t.dtype.kind not in "iu" or np.abs(t.astype(np.float64)).max(initial=0) * max(factor, 1) >= LARGEST_TIME:
        rounded: NDArray[Any] = np.rint(t.astype(np.float64) * factor)
        return rounded
    whole = t.astype(np.int64)
    return whole * int(factor) if factor >= 1 else (whole + 500) // 1000


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


def _load(dataset: Any, size: int) -> NDArray[Any]:
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
    return np.asarray(dataset[()])


def _geometry(size: str) -> Sensor | None:
    """Return the sensor of a size written as 640x480 or 640,480."""
    sides = re.fullmatch(r"(\d{1,5})[x,](\d{1,5})", size.strip())
    return (2, int(sides[2]), int(sides[1])) if sides else None
