"""Records of five bytes (N-MNIST, SLAYER), Event Stream, and ST-MNIST's matrices."""

import struct
from pathlib import Path

import numpy as np

from spiking_lfp.errors import DataError
from spiking_lfp.events._formats.common import Hints, RawRecording, import_extra, no_events, one_line, whole_records

# an N-MNIST record with this row adds 2^13 us to all later times
OVERFLOW_ROW, OVERFLOW_US = 240, 2**13


def nmnist(path: Path, hints: Hints) -> RawRecording:
    """N-MNIST: records as in `bs2`, but row 240 marks a timer overflow, which adds 8,192 us to all later times.

    Files with this suffix therefore have at most 240 rows, those of the ATIS, for which the format was made.
    """
    raw, highest = _five_bytes(path, OVERFLOW_ROW, OVERFLOW_US)
    if highest > OVERFLOW_ROW:
        raise DataError(
            f"it has events in row {highest}, but .bin files have rows up to {OVERFLOW_ROW - 1} (.bs2 to 255)"
        )
    return raw


def bs2(path: Path, hints: Hints) -> RawRecording:
    """SLAYER's format, five bytes per event: x, y, one bit of polarity and 23 bits of microseconds, big-endian."""
    return _five_bytes(path, -1, 0)[0]


def _five_bytes(path: Path, overflow_row: int, overflow_us: int) -> tuple[RawRecording, int]:
    from spiking_lfp.kernels.cpu import decoders

    content = path.read_bytes()
    records, partial = whole_records(content, 0, np.dtype((np.uint8, 5)))
    if not len(records):
        raise DataError(f"it has {len(content)} bytes, expected at least 5, the size of an event")
    events = no_events(len(records))
    count, highest = decoders.five_bytes(records, overflow_row, overflow_us, events)
    return RawRecording(events[:count], partial=partial), int(highest)


def es(path: Path, hints: Hints) -> RawRecording:
    """Event Stream 2 of a DVS or ATIS: per event a byte of elapsed time and flags, then 16-bit x and y, little-endian.

    The header is a signature, three bytes of version, one of type, width and height. For a DVS, type 1, the first byte
    of an event holds seven bits of microseconds since the last one and the polarity, and 0xff means that 127 us elapse
    without an event; for an ATIS, type 2, it holds six bits, polarity, and a flag of exposure measurements, which are
    left out, and 0xfc to 0xff mean that 0 to 3 times 63 us elapse. Rows are counted as stored, from the bottom.
    """
    from spiking_lfp.kernels.cpu import decoders

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
    bytes_read = np.frombuffer(content, np.uint8)
    count, end = decoders.event_stream(bytes_read, 20, overflow, unit, kind, no_events(0))
    events = no_events(count)
    decoders.event_stream(bytes_read, 20, overflow, unit, kind, events)
    rest = len(content) - end
    partial = f"the last {rest} of {len(content):,} bytes are not a complete event of 5 bytes" if rest else None
    return RawRecording(events, (2, height, width), partial)


def mat(path: Path, hints: Hints) -> RawRecording:
    """ST-MNIST: `spiketrain` `[101, N]`; a column holds 1, -1 or 0 for each of 100 taxels, and its time in seconds.

    The taxels form rows of ten. Times are rounded down to microseconds, as in tonic.
    """
    io = import_extra("scipy.io")
    try:
        train = io.loadmat(path, variable_names=["spiketrain"])["spiketrain"]
    except KeyError:
        raise DataError("it has no variable spiketrain") from None
    except Exception as error:  # scipy raises all kinds of errors for damaged files
        raise DataError(f"scipy says: {one_line(error)}") from None
    if not isinstance(train, np.ndarray) or train.ndim != 2 or len(train) != 101 or train.dtype.kind not in "iuf":
        raise DataError(f"its spiketrain is {getattr(train, 'dtype', type(train).__name__)}, expected numbers [101, N]")
    train = train.astype(np.float64)
    if not np.isin(train[:100], (-1, 0, 1)).all() or not (np.abs(train[100]) < 2**40).all():
        raise DataError("its spiketrain holds values other than -1, 0 and 1, or times out of range")
    column, taxel = train[:100].T.nonzero()
    t = (train[100][column] * 1e6).astype(np.int64)
    signs = train[taxel, column].astype(np.int64)
    return RawRecording({"x": taxel % 10, "y": taxel // 10, "t": t, "p": signs}, (2, 10, 10))
