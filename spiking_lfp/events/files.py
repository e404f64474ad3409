"""Recordings in files: which format a file has, and what of a damaged one can still be read.

What is read is checked by `Recording`: events inside the sensor, in order of time. Where a file ends within an event,
the whole ones before it are read and `Recording.partial` says what is missing; everything else that does not fit its
format is an error. Formats that are records of fixed size are read here, since the readers of other packages pass over
what is left of a record, or wait for ever on headers that are cut off; aedat4 and ST-MNIST's MATLAB files are read by
the packages aedat and scipy.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from spiking_lfp.errors import DataError, SpikingLFPError, UsageError
from spiking_lfp.events.records import EVENT, Recording, Sensor

# x, y, t and p as any integers, what could not be read, and the sensor if the file knows it
Found = tuple[dict[str, NDArray[Any]], str | None, Sensor | None]

LARGEST_SENSOR = 2**15
# of the N-MNIST record, marks 2^13 us that its 23 bits of time do not show
OVERFLOW_ROW, OVERFLOW_US = 240, 2**13
DVS128 = (2, 128, 128)
# by a part of the chip's name in jAER
CHIPS = {"dvs128": DVS128, "davis240": (2, 180, 240), "davis346": (2, 260, 346)}


def read_events(path: Path, sensor: Sensor | None = None) -> Recording:
    """Read a recording, in the format that its suffix names, see `SUFFIXES`.

    Args:
        path: the file.
        sensor: polarities, height and width. If None it is that of the file, or, if the file does not know it, the
            smallest with two polarities that holds all events.

    Raises:
        DataError: with the file's name, if it is empty, not of its format or damaged, or of another sensor.
        UsageError: for an unknown suffix, or if the package that reads the format is not installed.
    """
    reader = SUFFIXES.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path} has the suffix {path.suffix!r}: recordings end in {', '.join(SUFFIXES)}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        if not content:
            raise DataError("it is empty")
        columns, partial, own = reader(path, content)
        return _recording(columns, partial, own, sensor)
    except SpikingLFPError as error:
        if isinstance(error, UsageError):
            raise
        raise DataError(f"{path} cannot be read: {error}; replace or remove it") from None


def _recording(
    columns: dict[str, NDArray[Any]], partial: str | None, own: Sensor | None, sensor: Sensor | None
) -> Recording:
    for axis in ("x", "y"):
        if len(columns[axis]) and not 0 <= int(columns[axis].min()) <= int(columns[axis].max()) < LARGEST_SENSOR:
            least, most = int(columns[axis].min()), int(columns[axis].max())
            raise DataError(f"it has {axis} from {least} to {most}, expected 0 to {LARGEST_SENSOR - 1}")
    if len(columns["t"]) and int(columns["t"].max()) > np.iinfo(np.int64).max:
        raise DataError(f"it has a time of {int(columns['t'].max())} us, beyond what 64 bits hold")
    if len(columns["p"]) and not set(np.unique(columns["p"]).tolist()) <= {-1, 0, 1}:
        raise DataError("it has polarities other than 0 and 1, or -1 and 1")
    events = np.zeros(len(columns["t"]), EVENT)
    for name in ("x", "y", "t"):
        events[name] = columns[name]
    events["p"] = columns["p"] > 0
    if own is not None and sensor is not None and own != sensor:
        raise DataError(f"it is of a sensor {own}, expected {sensor} (polarities, height, width)")
    if own is None and sensor is None:
        height, width = (int(events[axis].max()) + 1 if len(events) else 1 for axis in ("y", "x"))
        own = (2, height, width)
    size = sensor or own
    assert size is not None
    return Recording(events, size, partial)


def _records(content: bytes, dtype: np.dtype[Any]) -> tuple[NDArray[Any], str | None]:
    """Return all whole records, and what is left over."""
    count, rest = divmod(len(content), dtype.itemsize)
    found = np.frombuffer(content, dtype, count)
    whole = f"{dtype.itemsize} bytes" if dtype.itemsize > 1 else "a byte"
    return found, f"the last {rest} of {len(content):,} bytes are no whole event of {whole}" if rest else None


def _nmnist(path: Path, content: bytes) -> Found:
    """N-MNIST's records: x, y, a bit of polarity, 23 bits of microseconds; a row of 240 stands for an overflow."""
    bytes_, partial = _records(content, np.dtype((np.uint8, 5)))
    if not len(bytes_):
        raise DataError(f"it has {len(content)} bytes, an event takes 5")
    x, y, first, second, third = bytes_.astype(np.int64).T
    overflows = y == OVERFLOW_ROW
    t = ((first & 127) << 16 | second << 8 | third) + OVERFLOW_US * np.cumsum(overflows)
    seen = ~overflows
    return {"x": x[seen], "y": y[seen], "t": t[seen], "p": first[seen] >> 7}, partial, None


def _aedat(path: Path, content: bytes) -> Found:
    """AEDAT 2 of a DVS128 or DAVIS: lines of text, then big-endian address and microseconds, 32 bits each.

    As jAER lays them out. DVS128: bit 0 polarity, bits 1 to 7 x, 8 to 14 y; from bit 15 on are signals from outside.
    DAVIS: bit 11 polarity, bits 12 to 21 x, bits 22 to 30 y, both counted from the far corner; bit 31 marks pictures
    and bit 10 signals from outside. Both are left out. Times that wrap around at 32 bits go on.
    """
    start, lines = 0, []
    while content[start : start + 1] == b"#":
        end = content.find(b"\n", start)
        if end < 0:
            raise DataError("its header does not end")
        lines.append(content[start:end].strip())
        start = end + 1
    if not lines or not lines[0].startswith(b"#!AER-DAT2"):
        first = (lines[0] if lines else content[:16])[:40].decode("ascii", "replace")
        raise DataError(f"it begins with {first!r}, expected #!AER-DAT2.0")
    named = [line.removeprefix(b"# AEChip:").decode("ascii", "replace") for line in lines if b"# AEChip:" in line]
    chip = named[0].strip().rpartition(".")[2] if named else "DVS128"
    known = [sensor for name, sensor in CHIPS.items() if name in chip.lower()]
    if not known:
        raise DataError(f"it is of the chip {chip!r}, known are {', '.join(CHIPS)}")
    _, height, width = sensor = known[0]
    records, partial = _records(content[start:], np.dtype([("address", ">u4"), ("t", ">u4")]))
    if not len(records):
        raise DataError("there is nothing behind its header")
    address, t = records["address"].astype(np.int64), _unwrapped(records["t"])
    if sensor == DVS128:
        seen, x, y, p = address < 2**15, address >> 1 & 127, address >> 8 & 127, address & 1
    else:
        seen, p = (address >> 31 == 0) & (address >> 10 & 1 == 0), address >> 11 & 1
        x, y = width - 1 - (address >> 12 & 0x3FF), height - 1 - (address >> 22 & 0x1FF)
    return {"x": x[seen], "y": y[seen], "t": t[seen], "p": p[seen]}, partial, sensor


def _unwrapped(times: NDArray[Any]) -> NDArray[np.int64]:
    """Let times of 32 bits that start again from 0 go on; smaller steps back stay, and are found by `Recording`."""
    t: NDArray[np.int64] = times.astype(np.int64)
    return t + 2**32 * np.cumsum(np.diff(t, prepend=t[:1]) < -(2**31))


def _aedat4(path: Path, content: bytes) -> Found:
    """AEDAT 4, through the package aedat; of several streams of events the one with the lowest number."""
    if not content.startswith(b"#!AER-DAT4.0\r\n"):
        raise DataError(f"it begins with {content[:14]!r}, expected #!AER-DAT4.0")
    aedat = _extra("aedat")
    try:
        decoder = aedat.Decoder(str(path))
        streams = {number: each for number, each in decoder.id_to_stream().items() if each["type"] == "events"}
        if not streams:
            raise DataError("it has no stream of events")
        number = min(streams)
        packets = [packet["events"] for packet in decoder if packet["stream_id"] == number]
    except DataError:
        raise
    except Exception as error:  # what the decoder stumbles over has no common kind
        raise DataError(f"the package aedat says: {' '.join(str(error).split()) or type(error).__name__}") from None
    stream = streams[number]
    events = np.concatenate(packets) if packets else np.zeros(0, [("t", "u8"), ("x", "u2"), ("y", "u2"), ("on", "?")])
    # a packet's events are in order, and so are packets; a damaged length shows in what is behind it
    columns = {"x": events["x"], "y": events["y"], "t": events["t"], "p": events["on"].astype(np.int64)}
    return columns, None, (2, int(stream["height"]), int(stream["width"]))


def _dat(path: Path, content: bytes) -> Found:
    """Prophesee's DAT 2: lines of text, type and size of events, then 32 bits of time, 14 of x, 14 of y, polarity.

    Times wrap around at 32 bits and go on.
    """
    start, sides = 0, {}
    while content[start : start + 1] == b"%":
        end = content.find(b"\n", start)
        if end < 0:
            raise DataError("its header does not end")
        words = content[start + 1 : end].split()
        if len(words) == 2 and words[0] in (b"Height", b"Width") and words[1].isdigit():
            sides[words[0]] = int(words[1])
        start = end + 1
    if not start:
        raise DataError(f"it begins with {content[:8]!r}, expected a header of lines that begin with %")
    kind = content[start : start + 2]
    if len(kind) < 2 or kind[1] != 8:
        raise DataError(f"its events are of {kind[1] if len(kind) > 1 else 'no'} bytes, expected 8")
    records, partial = _records(content[start + 2 :], np.dtype([("t", "<u4"), ("address", "<u4")]))
    address, t = records["address"].astype(np.int64), _unwrapped(records["t"])
    own = (2, sides[b"Height"], sides[b"Width"]) if len(sides) == 2 else None
    columns = {"x": address & 0x3FFF, "y": address >> 14 & 0x3FFF, "t": t, "p": address >> 28 & 1}
    return columns, partial, own


def _npy(path: Path, content: bytes) -> Found:
    """NumPy's arrays: with fields x, y, t and p, or integers `[N, 4]` in that order."""
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except Exception as error:  # headers that are damaged also raise what Python's own parser raises
        raise DataError(f"NumPy says: {' '.join(str(error).split())[:120]}") from None
    return _columns(array), None, None


def _h5(path: Path, content: bytes) -> Found:
    """HDF5 with `events/x`, `events/y`, `events/t` and `events/p`, or one array `events` with these fields."""
    try:
        with h5py.File(path) as file:
            found = file["events"]
            if isinstance(found, h5py.Dataset):
                return _columns(found[()]), None, None
            columns = {name: np.asarray(found[name][()]) for name in "xytp"}
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise DataError(f"HDF5 says: {' '.join(str(error).split())[:160]}") from None
    lengths = {name: column.shape for name, column in columns.items()}
    if len(set(lengths.values())) != 1 or columns["t"].ndim != 1:
        raise DataError(f"its columns have the shapes {lengths}, expected one length")
    return _integers(columns), None, None


def _columns(array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    if array.dtype.names is not None and array.ndim == 1 and set("xytp") <= set(array.dtype.names):
        return _integers({name: array[name] for name in "xytp"})
    if array.dtype.names is None and array.ndim == 2 and array.shape[1] == 4:
        return _integers(dict(zip("xytp", array.T, strict=True)))
    raise DataError(f"it holds {array.dtype} {list(array.shape)}, expected fields x, y, t, p or integers [N, 4]")


def _integers(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    for name, column in columns.items():
        if column.dtype.kind not in "iub":
            raise DataError(f"its {name} are {column.dtype}, expected integers; times are in microseconds")
    return {**columns, "p": columns["p"].astype(np.int64)}


def _es(path: Path, content: bytes) -> Found:
    """Event Stream 2 of a DVS or an ATIS: a byte of time passed and flags, then 16 bits each of x and y, little-endian.

    The header is a signature, three bytes of version, one of type, width and height. Of a DVS, type 1, an event's first
    byte holds seven bits of microseconds since the last one and one of polarity, and 0xff lets 127 us pass; of an ATIS,
    type 2, it holds six bits, polarity, and whether a measurement of exposure follows, which is left out, and 0xfc to
    0xff let 0 to 3 times 63 us pass. Rows are counted as they are stored, from the bottom.
    """
    if content[:12] != b"Event Stream":
        raise DataError(f"it begins with {content[:12]!r}, expected Event Stream")
    if len(content) < 20:
        raise DataError(f"its header has {len(content)} bytes, expected 20")
    major, kind = content[12], content[15]
    if major != 2 or kind not in (1, 2):
        raise DataError(f"it is version {major}, type {kind}: version 2, types 1 (DVS) and 2 (ATIS), are read")
    width, height = (int.from_bytes(content[at : at + 2], "little") for at in (16, 18))
    least, unit = (0xFE, 127) if kind == 1 else (0xFC, 63)
    made, at, time, end = [], 20, 0, len(content)
    while at < end:
        first = content[at]
        if first >= least:
            time, at = time + unit * (first - least), at + 1
            continue
        if at + 5 > end:
            break
        time += first >> kind
        x, y = content[at + 1] | content[at + 2] << 8, content[at + 3] | content[at + 4] << 8
        if kind == 1 or not first & 1:
            made.append((x, y, time, first >> (kind - 1) & 1))
        at += 5
    partial = f"the last {end - at} of {end:,} bytes are no whole event of 5 bytes" if at < end else None
    numbers = np.array(made, np.int64).reshape(-1, 4)
    return dict(zip("xytp", numbers.T, strict=True)), partial, (2, height, width)


def _mat(path: Path, content: bytes) -> Found:
    """ST-MNIST: `spiketrain` [101, N], 100 taxels of which each has 1, -1 or 0 in a column, and seconds."""
    io = _extra("scipy.io")
    try:
        train = np.asarray(io.loadmat(path)["spiketrain"], np.float64)
    except KeyError:
        raise DataError("it has no variable spiketrain") from None
    except Exception as error:  # scipy raises what it happens to stumble over
        raise DataError(f"scipy says: {' '.join(str(error).split())[:120] or type(error).__name__}") from None
    if train.ndim != 2 or len(train) != 101 or not np.isfinite(train).all():
        raise DataError(f"its spiketrain is {list(train.shape)}, expected finite [101, N]")
    column, taxel = train[:100].T.nonzero()
    signs = train[taxel, column]
    if not np.isin(signs, (-1, 1)).all() or (np.abs(train[100]) > 2**40).any():
        raise DataError("its spiketrain holds other values than -1, 0 and 1, or times of no recording")
    t = (train[100][column] * 1e6).astype(np.int64)
    return {"x": taxel % 10, "y": taxel // 10, "t": t, "p": signs.astype(np.int64)}, None, (2, 10, 10)


def _extra(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise UsageError(f"{name} is not installed: pip install 'spiking-lfp[events]'") from None


SUFFIXES: dict[str, Callable[[Path, bytes], Found]] = {
    ".bin": _nmnist,
    ".bs2": _nmnist,
    ".aedat": _aedat,
    ".aedat4": _aedat4,
    ".dat": _dat,
    ".npy": _npy,
    ".h5": _h5,
    ".es": _es,
    ".mat": _mat,
}
