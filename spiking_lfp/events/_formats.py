"""Readers of the file formats of recordings, one function each: from a file to columns of integers.

Every function raises DataError with half a sentence, to which `read_events` adds the file. Formats of fixed-size
records are decoded here, because the readers of other packages ignore truncated records and impossible flags, return
nothing at all for a truncated file, or hang on a truncated header. AEDAT 4 and MATLAB files are read by the packages
aedat and scipy, HDF5 by h5py; whatever could make them abort the process is checked first.
"""

import re
import struct
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.events.records import Sensor

Columns = dict[str, NDArray[Any]]


class RawRecording(NamedTuple):
    """The content of a file, not yet checked.

    Attributes:
        columns: x, y, t in microseconds and p, each `[N]` of any integer type; p is 0 or 1, or -1 or 1.
        sensor: polarities, height and width, or None if the file does not name them.
        partial: description of what could not be read, or None.
    """

    columns: Columns
    sensor: Sensor | None = None
    partial: str | None = None


# an N-MNIST record with this row adds 2^13 us to all later times
OVERFLOW_ROW, OVERFLOW_US = 240, 2**13
DVS128 = (2, 128, 128)
# by a substring of the name in the header; Tmpdiff128 is jAER's first name of the DVS128
CHIPS = {"dvs128": DVS128, "tmpdiff128": DVS128, "davis240": (2, 180, 240), "davis346": (2, 260, 346)}
HEADER_ENDS = (b"#End Of ASCII Header", b"#!END-HEADER")
TEXT = rb"[^\x00-\x08\x0e-\x1f\n]*"
POLARITY_PACKET = 1
# deflate, HDF5's usual filter, reaches no higher compression ratio
MAX_COMPRESSION = 1100


def nmnist(path: Path) -> RawRecording:
    """N-MNIST: records as in `bs2`, but row 240 marks a timer overflow, which adds 8,192 us to all later times.

    Files with this suffix therefore have at most 240 rows, those of the ATIS, for which the format was made.
    """
    raw = bs2(path)
    y = raw.columns["y"]
    if len(y) and int(y.max()) > OVERFLOW_ROW:
        raise DataError(
            f"it has events in row {int(y.max())}, but .bin files have rows up to {OVERFLOW_ROW - 1} (.bs2 to 255)"
        )
    overflows = y == OVERFLOW_ROW
    t = raw.columns["t"] + OVERFLOW_US * np.cumsum(overflows)
    columns = {name: column[~overflows] for name, column in {**raw.columns, "t": t}.items()}
    return raw._replace(columns=columns)


def bs2(path: Path) -> RawRecording:
    """SLAYER's format, five bytes per event: x, y, one bit of polarity and 23 bits of microseconds, big-endian."""
    content = path.read_bytes()
    records, partial = _records(content, 0, np.dtype((np.uint8, 5)))
    if not len(records):
        raise DataError(f"it has {len(content)} bytes, expected at least 5, the size of an event")
    x, y, first, second, third = records.astype(np.int64).T
    return RawRecording(
        {"x": x, "y": y, "t": (first & 127) << 16 | second << 8 | third, "p": first >> 7}, sensor=None, partial=partial
    )


def aedat(path: Path) -> RawRecording:
    """AEDAT 2.0, 3.1 or 4.0, depending on the first line."""
    content = path.read_bytes()
    versions: dict[bytes, Callable[[Path, bytes], RawRecording]] = {b"2.0": _aedat2, b"3.1": _aedat3, b"4.0": _aedat4}
    line = re.match(rb"#!AER-DAT(\d\.\d)\r?\n", content)
    if line is None or line[1] not in versions:
        begin = content[:16].decode("ascii", "replace").splitlines()[0]
        raise DataError(f"it begins with {begin!r}, expected #!AER-DAT and 2.0, 3.1 or 4.0")
    return versions[line[1]](path, content)


def _aedat2(path: Path, content: bytes) -> RawRecording:
    """AEDAT 2.0 of a DVS128 or DAVIS: after the text header, big-endian address and microseconds, 32 bits each.

    DVS128, also assumed if the file names no chip: bit 0 is polarity, bits 1 to 7 are x, 8 to 14 y, as the manufacturer
    documents it, without flips: row 0 is the lowest. DAVIS: bit 11 is polarity, bits 12 to 21 are x, 22 to 30 y, both
    counted from the far corner. External signals (bit 15 of a DVS128, bit 10 of a DAVIS) and records marked by bit 31
    (images, inertial data, special events) are left out. Times that wrap around at 32 bits are unwrapped.
    """
    lines, start = _header(content, b"#")
    chips = [line.removeprefix(b"# AEChip:").decode("ascii", "replace") for line in lines if b"# AEChip:" in line]
    chip = chips[0].strip().rpartition(".")[2] if chips else "DVS128"
    sensors = [sensor for name, sensor in CHIPS.items() if name in chip.lower()]
    if not sensors:
        raise DataError(f"it is from the chip {chip!r}, supported are {', '.join(CHIPS)}")
    _, height, width = sensor = sensors[0]
    records, partial = _records(content, start, np.dtype([("address", ">u4"), ("t", ">u4")]))
    if not len(records) and (partial or not lines[-1].startswith(HEADER_ENDS)):
        raise DataError(f"it has no event after its header of {start:,} bytes")
    address, t = records["address"].astype(np.int64), _unwrap(records["t"])
    if sensor == DVS128:
        invalid = np.flatnonzero(address >> 16 & 0x7FFF)
        if len(invalid):
            number = invalid[0]
            raise DataError(f"record {number} has the address {int(address[number]):#x}, which no DVS128 has")
        is_event, x, y, p = address < 2**15, address >> 1 & 127, address >> 8 & 127, address & 1
    else:
        is_event, p = (address >> 31 == 0) & (address >> 10 & 1 == 0), address >> 11 & 1
        x, y = width - 1 - (address >> 12 & 0x3FF), height - 1 - (address >> 22 & 0x1FF)
    return RawRecording({"x": x[is_event], "y": y[is_event], "t": t[is_event], "p": p[is_event]}, sensor, partial)


def _aedat3(path: Path, content: bytes) -> RawRecording:
    """AEDAT 3.1: packets of a 28-byte header and their events, little-endian; only polarity events are read.

    A polarity event takes 8 bytes: a valid bit, polarity, 15 bits each of y and x, and 31 bits of microseconds, whose
    overflows the packet counts. Invalid events are left out.
    """
    lines, start = _header(content, b"#")
    if not lines[-1].startswith(HEADER_ENDS[1]):
        raise DataError("its header has no end")
    sources = b" ".join(line for line in lines if line.startswith(b"#Source")).decode("ascii", "replace").lower()
    sensor = next((size for name, size in CHIPS.items() if name in sources), None)
    event = np.dtype([("data", "<u4"), ("t", "<i4")])
    data, t, partial, at, end = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], None, start, len(content)
    while at < end:
        if at + 28 > end:
            partial = f"the last {end - at} of {end:,} bytes are not a complete packet"
            break
        kind, _, size, _, overflows, capacity, count, valid = struct.unpack_from("<hhiiiiii", content, at)
        if not (size > 0 and overflows >= 0 and 0 <= valid <= count == capacity):
            raise DataError(f"the header of its packet at byte {at:,} is damaged")
        if kind == POLARITY_PACKET and size != event.itemsize:
            raise DataError(f"events of its packet at byte {at:,} take {size} bytes, expected {event.itemsize}")
        at += 28
        present = min(count, (end - at) // size)
        if present < count:
            partial = f"of the {count:,} events of its last packet only {present:,} are there"
        if kind == POLARITY_PACKET:
            events = np.frombuffer(content, event, present, at)
            data.append(events["data"].astype(np.int64))
            t.append(events["t"].astype(np.int64) + overflows * 2**31)
        at += count * size
    words, times = np.concatenate(data), np.concatenate(t)
    if partial and not len(words):
        raise DataError(f"it has no complete event after its header of {start:,} bytes")
    valid_events = words & 1 == 1
    columns = {"x": words >> 17, "y": words >> 2 & 0x7FFF, "t": times, "p": words >> 1 & 1}
    return RawRecording({name: column[valid_events] for name, column in columns.items()}, sensor, partial)


def _aedat4(path: Path, content: bytes) -> RawRecording:
    """AEDAT 4.0, read by the package aedat; of several event streams, the one with the lowest number.

    Packets, and events in them, are in order of time, as the recorder writes them. The package's decoder allocates as
    much memory as a damaged length says, does not report how much of a truncated file it read, and aborts the process
    if the header's text is not valid UTF-8: header and lengths are checked here first.
    """
    packets, partial = _count_packets(content)
    package = _import_extra("aedat")
    try:
        decoder = package.Decoder(str(path))
        streams = {number: stream for number, stream in decoder.id_to_stream().items() if stream["type"] == "events"}
        number = min(streams)
        decoded = [next(decoder) for _ in range(packets)]
        width, height = streams[number]["width"], streams[number]["height"]
    except ValueError:
        raise DataError("it has no stream of events") from None
    except BaseException as error:  # the decoder's panics are not Exceptions
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise DataError(f"the package aedat says: {_one_line(error)}") from None
    arrays = [packet["events"] for packet in decoded if packet["stream_id"] == number]
    events = np.concatenate(arrays) if arrays else np.zeros(0, [("t", "u8"), ("x", "u2"), ("y", "u2"), ("on", "?")])
    columns = {"x": events["x"], "y": events["y"], "t": events["t"], "p": events["on"].astype(np.int64)}
    return RawRecording(columns, (2, int(height), int(width)), partial)


def _count_packets(content: bytes) -> tuple[int, str | None]:
    """Return how many packets of an AEDAT 4 file are complete, and a description of what is missing.

    After the first line there are four bytes with the length of a flatbuffer, the flatbuffer, and packets: eight bytes
    (stream and length) and their content. The second field of the flatbuffer is the position at which the packets end
    and a table of them begins, or -1 if the recorder did not get to write it; the third is a text about the streams.
    """

    def number(form: str, at: int) -> int:
        return int(struct.unpack_from(form, content, at)[0])

    try:
        start = 18 + number("<I", 14)
        root = 18 + number("<I", 18)
        fields = struct.unpack_from("<5H", content, root - number("<i", root))
        position = number("<q", root + fields[3]) if fields[3] else -1
        text = root + fields[4] + number("<I", root + fields[4])
        content[text + 4 : text + 4 + number("<I", text)].decode()
    except (struct.error, UnicodeDecodeError):  # invalid UTF-8 would make the decoder abort the process
        raise DataError("its header is truncated or damaged") from None
    end = position if position >= 0 else len(content)
    at, count = start, 0
    while at + 8 <= min(end, len(content)):
        packet_end = at + 8 + number("<I", at + 4)
        if packet_end > min(end, len(content)):
            break
        at, count = packet_end, count + 1
    if at == end:
        return count, None
    if end < len(content) or not count:
        raise DataError(f"its packets end at byte {at:,}, expected {end:,}")
    return count, f"the last {len(content) - at:,} of {len(content):,} bytes are not a complete packet, after {count}"


def dat(path: Path) -> RawRecording:
    """Prophesee's DAT, version 2: after the text header two bytes, type and size of events, then events of 8 bytes.

    An event is, little-endian, 32 bits of microseconds, 14 of x, 14 of y and 4 of polarity. Times that wrap around are
    unwrapped. The header of newer files names the sensor; that of N-CARS does not.
    """
    content = path.read_bytes()
    lines, start = _header(content, b"%")
    if not lines:
        raise DataError(f"it begins with {content[:8]!r}, expected a header of lines that begin with %")
    words = dict(re.findall(rb"^%\s*(Version|Height|Width)\s+(\d{1,9})\s*$", b"\n".join(lines), re.MULTILINE))
    if words.get(b"Version") != b"2":
        version = words.get(b"Version", b"").decode()
        raise DataError(f"its header names {f'version {version}' if version else 'no version'}, expected version 2")
    if len(content) < start + 2:
        raise DataError(f"there is nothing after its header of {start:,} bytes")
    kind, size = content[start : start + 2]
    if kind not in (0, 12) or size != 8:
        raise DataError(f"its events are of type {kind} and {size} bytes, expected 0 or 12 and 8")
    records, partial = _records(content, start + 2, np.dtype([("t", "<u4"), ("address", "<u4")]))
    address = records["address"].astype(np.int64)
    columns = {"x": address & 0x3FFF, "y": address >> 14 & 0x3FFF, "t": _unwrap(records["t"]), "p": address >> 28}
    sides = words.keys() >= {b"Height", b"Width"}
    return RawRecording(columns, (2, int(words[b"Height"]), int(words[b"Width"])) if sides else None, partial)


def npy(path: Path) -> RawRecording:
    """NumPy arrays: with the fields x, y, t and p in any order, or integers `[N, 4]` in this order.

    Data sets with another order of plain columns, or times in milliseconds, need their own reader.
    """
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # for damaged headers Python's own parser raises other errors, too
        raise DataError(f"NumPy says: {_one_line(error)}") from None
    return RawRecording(_columns(array))


def h5(path: Path) -> RawRecording:
    """HDF5 with `events/x`, `events/y`, `events/t` and `events/p`, or one data set `events` with these fields.

    Times are used as stored: an offset that the file has elsewhere is not added.
    """
    size = path.stat().st_size
    try:
        with h5py.File(path) as file:
            events = file["events"]
            if isinstance(events, h5py.Dataset):
                return RawRecording(_columns(_load(events, size)))
            columns = {name: _load(events[name], size) for name in "xytp"}
    except DataError:
        raise
    except Exception as error:  # h5py raises all kinds of errors for damaged files
        raise DataError(f"HDF5 says: {_one_line(error)}") from None
    lengths = {name: column.shape for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise DataError(f"its columns have the shapes {lengths}, expected one length")
    return RawRecording(_integers(columns))


def _load(dataset: Any, size: int) -> NDArray[Any]:
    # without this check h5py would allocate and fill whatever size a damaged shape says
    if dataset.nbytes > MAX_COMPRESSION * size:
        raise DataError(f"{dataset.name} claims {dataset.nbytes:,} bytes, in a file of {size:,}")
    return np.asarray(dataset[()])


def es(path: Path) -> RawRecording:
    """Event Stream 2 of a DVS or ATIS: per event a byte of elapsed time and flags, then 16-bit x and y, little-endian.

    The header is a signature, three bytes of version, one of type, width and height. For a DVS, type 1, the first byte
    of an event holds seven bits of microseconds since the last one and the polarity, and 0xff means that 127 us elapse
    without an event; for an ATIS, type 2, it holds six bits, polarity, and a flag of exposure measurements, which are
    left out, and 0xfc to 0xff mean that 0 to 3 times 63 us elapse. Rows are counted as stored, from the bottom.
    """
    content = path.read_bytes()
    if content[:12] != b"Event Stream":
        raise DataError(f"it begins with {content[:12]!r}, expected Event Stream")
    if len(content) < 20:
        raise DataError(f"its header has {len(content)} bytes, expected 20")
    major, kind = content[12], content[15]
    if major != 2 or kind not in (1, 2):
        raise DataError(f"it is version {major}, type {kind}: version 2, types 1 (DVS) and 2 (ATIS), are read")
    width, height = struct.unpack_from("<HH", content, 16)
    overflow, unit = (0xFE, 127) if kind == 1 else (0xFC, 63)
    starts, times, at, time, end = [], [], 20, 0, len(content)
    while at < end:
        first = content[at]
        if first >= overflow:
            time, at = time + unit * (first - overflow), at + 1
            continue
        if at + 5 > end:
            break
        time += first >> kind
        starts.append(at)
        times.append(time)
        at += 5
    partial = f"the last {end - at} of {end:,} bytes are not a complete event of 5 bytes" if at < end else None
    content_bytes = np.frombuffer(content, np.uint8).astype(np.int64)
    begin, t = np.array(starts, np.int64), np.array(times, np.int64)
    first_bytes = content_bytes[begin]
    x, y = (content_bytes[begin + low] | content_bytes[begin + low + 1] << 8 for low in (1, 3))
    is_event = np.ones(len(begin), bool) if kind == 1 else first_bytes & 1 == 0
    columns = {"x": x, "y": y, "t": t, "p": first_bytes >> (kind - 1) & 1}
    return RawRecording({name: column[is_event] for name, column in columns.items()}, (2, height, width), partial)


def mat(path: Path) -> RawRecording:
    """ST-MNIST: `spiketrain` `[101, N]`; a column holds 1, -1 or 0 for each of 100 taxels, and its time in seconds.

    The taxels form rows of ten. Times are rounded down to microseconds, as in tonic.
    """
    io = _import_extra("scipy.io")
    try:
        train = io.loadmat(path, variable_names=["spiketrain"])["spiketrain"]
    except KeyError:
        raise DataError("it has no variable spiketrain") from None
    except Exception as error:  # scipy raises all kinds of errors for damaged files
        raise DataError(f"scipy says: {_one_line(error)}") from None
    if not isinstance(train, np.ndarray) or train.ndim != 2 or len(train) != 101 or train.dtype.kind not in "iuf":
        raise DataError(f"its spiketrain is {getattr(train, 'dtype', type(train).__name__)}, expected numbers [101, N]")
    train = train.astype(np.float64)
    if not np.isin(train[:100], (-1, 0, 1)).all() or not (np.abs(train[100]) < 2**40).all():
        raise DataError("its spiketrain holds values other than -1, 0 and 1, or times out of range")
    column, taxel = train[:100].T.nonzero()
    t = (train[100][column] * 1e6).astype(np.int64)
    signs = train[taxel, column].astype(np.int64)
    return RawRecording({"x": taxel % 10, "y": taxel // 10, "t": t, "p": signs}, (2, 10, 10))


def _header(content: bytes, mark: bytes) -> tuple[list[bytes], int]:
    """Return the header, the first lines of text that start with `mark`, and the position at which it ends."""
    pattern = re.compile(mark + TEXT + rb"\n")
    lines: list[bytes] = []
    start = 0
    while content.startswith(mark, start) and not (lines and lines[-1].startswith(HEADER_ENDS)):
        line = pattern.match(content, start)
        if line is None:
            # events may begin like a line of text, but do not continue as one
            if re.fullmatch(TEXT, content[start:]):
                raise DataError("its header has no end")
            break
        lines.append(line[0].strip())
        start = line.end()
    if b"\n" + HEADER_ENDS[0] in content[start:]:
        raise DataError(f"its header is damaged: a line at byte {start:,} does not begin with {mark.decode()}")
    return lines, start


def _records(content: bytes, start: int, dtype: np.dtype[Any]) -> tuple[NDArray[Any], str | None]:
    """Return all complete records from `start` on, and a description of the rest, if any."""
    count, rest = divmod(len(content) - start, dtype.itemsize)
    partial = f"the last {rest} of {len(content):,} bytes are not a complete event of {dtype.itemsize} bytes"
    return np.frombuffer(content, dtype, count, start), partial if rest else None


def _unwrap(times: NDArray[Any]) -> NDArray[np.int64]:
    """Unwrap 32-bit times that overflow to 0; smaller steps back in time remain, and `Recording` reports them."""
    t: NDArray[np.int64] = times.astype(np.int64)
    return t + 2**32 * np.cumsum(np.diff(t, prepend=t[:1]) < -(2**31))


def _columns(array: NDArray[Any]) -> Columns:
    if array.dtype.names is not None and array.ndim == 1 and set("xytp") <= set(array.dtype.names):
        return _integers({name: array[name] for name in "xytp"})
    if array.dtype.names is None and array.ndim == 2 and array.shape[1] == 4:
        return _integers(dict(zip("xytp", array.T, strict=True)))
    raise DataError(f"it holds {array.dtype} {list(array.shape)}, expected fields x, y, t, p or integers [N, 4]")


def _integers(columns: Columns) -> Columns:
    for name, column in columns.items():
        if column.dtype.kind not in "iub" or column.ndim != 1:
            raise DataError(
                f"its {name} are {column.dtype} {list(column.shape)}, expected integers [N], times in microseconds"
            )
    return {**columns, "p": columns["p"].astype(np.int64)}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _import_extra(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise UsageError(f"{name} is not installed: pip install 'spiking-lfp[events]'") from None


SUFFIXES: dict[str, Callable[[Path], RawRecording]] = {
    ".bin": nmnist,
    ".bs2": bs2,
    ".aedat": aedat,
    ".aedat4": aedat,
    ".dat": dat,
    ".npy": npy,
    ".h5": h5,
    ".hdf5": h5,
    ".es": es,
    ".mat": mat,
}
