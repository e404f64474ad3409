"""Records of five bytes (N-MNIST, SLAYER), Event Stream, and ST-MNIST's matrices."""

import struct
from collections.abc import Iterator

import numpy as np

from spiking_lfp.errors import DataError, one_line
from spiking_lfp.events._formats.common import (
    AdviceError,
    Columns,
    Content,
    Reading,
    import_extra,
    no_events,
)
from spiking_lfp.events.records import EventArray

# an N-MNIST record with this row adds 2^13 us to all later times
OVERFLOW_ROW, OVERFLOW_US = 240, 2**13
# bytes of a matrix of ST-MNIST that are read where memory is short: its own are a thousand times smaller
LARGEST_MATRIX = 2**26


def nmnist(reading: Reading) -> Iterator[Columns]:
    """N-MNIST: records as in `bs2`, but row 240 marks a timer overflow, which adds 8,192 us to all later times.

    Files with this suffix therefore have at most 240 rows, those of the ATIS, for which the format was made.
    """
    for events, highest in _five_bytes(reading, OVERFLOW_ROW, OVERFLOW_US):
        if highest > OVERFLOW_ROW:
            raise DataError(
                f"it has events in row {highest}, but .bin files have rows up to {OVERFLOW_ROW - 1} (.bs2 to 255)"
            )
        yield events


def bs2(reading: Reading) -> Iterator[Columns]:
    """SLAYER's format, five bytes per event: x, y, one bit of polarity and 23 bits of microseconds, big-endian."""
    for events, _ in _five_bytes(reading, -1, 0):
        yield events


def _five_bytes(reading: Reading, overflow_row: int, overflow_us: int) -> Iterator[tuple[EventArray, int]]:
    from spiking_lfp.kernels.cpu import decoders

    record, later = np.dtype((np.uint8, 5)), 0
    with Content(reading) as content:
        if content.size < record.itemsize:
            raise DataError(f"it has {content.size} bytes, expected at least 5, the size of an event")
        for records in content.records(0, record, reading):
            events = no_events(len(records))
            count, later, highest = decoders.five_bytes(records, overflow_row, overflow_us, later, events)
            yield events[:count], int(highest)


def es(reading: Reading) -> Iterator[Columns]:
    """Event Stream 2 of a DVS or ATIS: per event a byte of elapsed time and flags, then 16-bit x and y, little-endian.

    The header is a signature, three bytes of version, one of type, width and height. For a DVS, type 1, the first byte
    of an event holds seven bits of microseconds since the last one and the polarity, and 0xff means that 127 us elapse
    without an event; for an ATIS, type 2, it holds six bits, polarity, and a flag of exposure measurements, which are
    left out, and 0xfc to 0xff mean that 0 to 3 times 63 us elapse. Rows are counted as stored, from the bottom.
    """
    from spiking_lfp.kernels.cpu import decoders

    with Content(reading) as content:
        header = content.at(0, 20)
        if header[:12] != b"Event Stream":
            raise DataError(f"it begins with {header[:12]!r}, expected Event Stream")
        if len(header) < 20:
            raise DataError(f"its header has {len(header)} bytes, expected 20")
        major, kind = header[12], header[15]
        if major != 2 or kind not in (1, 2):
            raise DataError(f"it is version {major}, type {kind}: version 2, types 1 (DVS) and 2 (ATIS), are read")
        width, height = struct.unpack_from("<HH", header, 16)
        reading.sensor = (2, height, width)
        overflow, unit = (0xFE, 127) if kind == 1 else (0xFC, 63)
        time, rest = 0, b""
        for block in content.blocks(20):
            bytes_read = np.frombuffer(rest + block if rest else block, np.uint8)
            count, _, _ = decoders.event_stream(bytes_read, time, overflow, unit, kind, no_events(0))
            events = no_events(count)
            _, time, end = decoders.event_stream(bytes_read, time, overflow, unit, kind, events)
            rest = bytes_read[end:].tobytes()
            yield events
        if rest:
            reading.partial = f"the last {len(rest)} of {content.size:,} bytes are not a complete event of 5 bytes"


def mat(reading: Reading) -> Iterator[Columns]:
    """ST-MNIST: `spiketrain` `[101, N]`; a column holds 1, -1 or 0 for each of 100 taxels, and its time in seconds.

    The taxels form rows of ten. Times are rounded down to microseconds, as in tonic.
    """
    if reading.block is not None and reading.path.stat().st_size > LARGEST_MATRIX:
        raise AdviceError("a matrix is read as a whole: convert it, np.save(NAME, read_events(PATH).events)")
    io = import_extra("scipy.io")
    try:
        train = io.loadmat(reading.path, variable_names=["spiketrain"])["spiketrain"]
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
    reading.sensor = (2, 10, 10)
    yield {"x": taxel % 10, "y": taxel // 10, "t": t, "p": signs}
