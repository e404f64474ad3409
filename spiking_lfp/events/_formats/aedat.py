"""AEDAT of jAER, cAER and DV, versions 1.0, 2.0, 3.1 and 4.0."""

import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from spiking_lfp.errors import DataError, one_line
from spiking_lfp.events._formats.common import (
    CHIPS,
    DVS128,
    LARGEST_TIME,
    AdviceError,
    Columns,
    Content,
    Reading,
    import_extra,
    no_events,
    text_header,
)

HEADER_ENDS = (b"#End Of ASCII Header", b"#!END-HEADER")


def aedat(reading: Reading) -> Iterator[Columns]:
    """AEDAT, depending on the first line."""
    with Content(reading) as content:
        first = content.at(0, 16)
        line = re.match(rb"#!AER-DAT(\d\.\d)\r?\n", first)
        if line is None or line[1] not in VERSIONS:
            begin = first.decode("ascii", "replace").splitlines()[0]
            raise DataError(f"it begins with {begin!r}, expected #!AER-DAT and 1.0, 2.0, 3.1 or 4.0")
        yield from VERSIONS[line[1]](reading, content)


def _aedat1(reading: Reading, content: Content) -> Iterator[Columns]:
    """AEDAT 1.0: as 2.0, but addresses of 16 bits."""
    return _addresses(reading, content, np.dtype([("address", ">u2"), ("t", ">u4")]))


def _aedat2(reading: Reading, content: Content) -> Iterator[Columns]:
    """AEDAT 2.0: after the text header, big-endian address and microseconds, 32 bits each; see `Layout`.

    DVS128: bit 0 is polarity, bits 1 to 7 are x, 8 to 14 y, as the manufacturer documents it, without flips: row 0 is
    the lowest. DAVIS: bit 11 is polarity, bits 12 to 21 are x, 22 to 30 y, both counted from the far corner. External
    signals and special events (bits 15 and 31 of a DVS128, bit 10 of a DAVIS) are left out, and so are images and
    inertial data (bit 31 of a DAVIS). Times that wrap around at 32 bits are unwrapped.

    Files that name no chip, such as v2e's, or an unknown one, are of the one in `hints`. Without it, those that name
    none are read as of a DVS128 if all addresses are such.
    """
    return _addresses(reading, content, np.dtype([("address", ">u4"), ("t", ">u4")]))


def _addresses(reading: Reading, content: Content, record: np.dtype[Any]) -> Iterator[Columns]:
    from spiking_lfp.kernels.cpu import decoders

    hints = reading.hints
    lines, start = text_header(content.head, b"#", HEADER_ENDS)
    named = [line.removeprefix(b"# AEChip:").decode("ascii", "replace") for line in lines if b"# AEChip:" in line]
    in_file = named[0].strip().rpartition(".")[2] if named else ""
    chip = in_file if in_file.lower() in CHIPS else hints.chip
    if in_file and chip == in_file:
        agrees = CHIPS.get(hints.chip.lower()) == CHIPS[chip.lower()]
        hints.check("chip", chip, agrees, f"it names the chip {chip}")
    if in_file and not chip:
        raise AdviceError(
            f"it is from the chip {in_file!r}, supported are {', '.join(CHIPS)}: if one of them has the same "
            "addresses, name it by the setting chip"
        )
    if not chip:
        chip = "DVS128"
        reading.assumed.append("it names no chip and is read as of a DVS128, see the setting chip")
    elif in_file and chip != in_file:
        reading.assumed.append(f"it names the chip {in_file} and is read as of a {chip}")
    layout, (_, height, width) = CHIPS[chip.lower()]
    if layout != DVS128 and record.itemsize == 6:
        raise DataError(f"it has the 16-bit addresses of AEDAT 1.0, which no {chip} has")
    reading.sensor = (2, height, width)
    count, rest = divmod(content.size - start, record.itemsize)
    if not count and (rest or not lines[-1].startswith(HEADER_ENDS)):
        raise DataError(f"it has no event after its header of {start:,} bytes")
    last = (width - 1, height - 1) if layout.flipped else (-1, -1)
    fields = (*layout[:5], *last, layout.signal, layout.other, layout.never)
    state, before = (0, 0), 0
    for records in content.records(start, record, reading):
        pairs = records.astype([("address", ">u4"), ("t", ">u4")], copy=False)
        events = no_events(len(records))
        count, state, signals, invalid = decoders.addresses(pairs.view("<u4").reshape(-1, 2), fields, state, events)
        if invalid >= 0:
            found = f"record {before + invalid} has the address {int(records['address'][invalid]):#x}"
            if in_file or hints.chip:
                raise DataError(f"{found}, which no {chip} has")
            raise AdviceError(
                f"it names no chip, and {found}, which no DVS128 has: name the chip by the setting chip (v2e's DAVIS "
                "files: davis346 or davis240, those of 640 x 480: dvs640)"
            )
        before += len(records)
        reading.left_out["records of external signals or special events"] += signals
        yield events[:count]


def _aedat3(reading: Reading, content: Content) -> Iterator[Columns]:
    """AEDAT 3.1: packets of a 28-byte header and their events, little-endian; only polarity events are read.

    A polarity event takes 8 bytes: a valid bit, polarity, 15 bits each of y and x, and 31 bits of microseconds, whose
    overflows the packet counts. Invalid events are left out.
    """
    from spiking_lfp.kernels.cpu import decoders

    lines, start = text_header(content.head, b"#", HEADER_ENDS)
    if not lines[-1].startswith(HEADER_ENDS[1]):
        raise DataError("its header has no end")
    sources = re.findall(r"^#Source \d+: *(\w+)", b"\n".join(lines).decode("ascii", "replace"), re.MULTILINE)
    chip = next((name for name in sources if name.lower() in CHIPS), None)
    if chip:
        reading.sensor = CHIPS[chip.lower()][1]
        agrees = CHIPS.get(reading.hints.chip.lower()) == CHIPS[chip.lower()]
        reading.hints.check("chip", chip, agrees, f"it names the chip {chip}")
    state, rest, at = (0,) * 7, b"", start
    for block in content.blocks(start):
        found = np.frombuffer(rest + block if rest else block, np.uint8)
        events = no_events(len(found) // 8)
        count, state, end, wrong = decoders.packets(found, state, events)
        if wrong == 1:
            raise DataError(f"the header of its packet at byte {at + end:,} is damaged")
        if wrong:
            raise DataError(f"events of its packet at byte {at + end:,} take {state[2]} bytes, expected 8")
        at, rest = at + end, found[end:].tobytes()
        yield events[:count]
    left, kind, size, _, number, seen, special = state
    missing = -(-left // size) if left else 0
    if left:
        reading.partial = f"of the {number:,} events of its last packet only {number - missing:,} are there"
    elif rest:
        reading.partial = f"the last {len(rest)} of {content.size:,} bytes are not a complete packet"
    if reading.partial and not seen:
        raise DataError(f"it has no complete event after its header of {start:,} bytes")
    reading.left_out["special events"] += special - (missing if kind == 0 else 0)


def _aedat4(reading: Reading, content: Content) -> Iterator[Columns]:
    """AEDAT 4.0, read by the package aedat; of several event streams, the one with the lowest number.

    Packets, and events in them, are in order of time, as the recorder writes them. The package's decoder allocates as
    much memory as a damaged length says, does not report how much of a truncated file it read, and aborts the process
    if the header's text is not valid UTF-8: header and lengths are checked here first.
    """
    packets, reading.partial = _count_packets(content)
    package = import_extra("aedat")
    try:
        decoder = package.Decoder(str(reading.path))
        streams = {number: stream for number, stream in decoder.id_to_stream().items() if stream["type"] == "events"}
        number = min(streams)
        reading.sensor = (2, int(streams[number]["height"]), int(streams[number]["width"]))
    except ValueError:
        raise DataError("it has no stream of events") from None
    except BaseException as error:
        raise _as_data_error(error) from None
    waiting: list[Any] = []
    size = 0
    for _ in range(packets):
        try:
            packet = next(decoder)
        except BaseException as error:
            raise _as_data_error(error) from None
        if packet["stream_id"] == number:
            waiting.append(packet["events"])
            size += packet["events"].nbytes
            if reading.block is not None and size >= reading.block:
                yield _joined(waiting)
                waiting, size = [], 0
    yield _joined(waiting)


def _as_data_error(error: BaseException) -> BaseException:
    """Return what to raise for an error of the package aedat, whose panics are no Exceptions."""
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        return error
    return DataError(f"the package aedat says: {one_line(error)}")


def _joined(arrays: list[Any]) -> Columns:
    """Return the events of packets of AEDAT 4."""
    events, at = no_events(sum(map(len, arrays))), 0
    for array in arrays:
        some = events[at : at + len(array)]
        if len(array) and int(array["t"].max()) > LARGEST_TIME:
            raise DataError(f"it has times up to {int(array['t'].max())} us, which is out of range")
        # of columns and rows from 2^15 on none is on a sensor, and `Recording` finds them as negative ones
        for name, theirs in (("x", "x"), ("y", "y"), ("t", "t"), ("p", "on")):
            some[name] = array[theirs]
        at += len(array)
    return events


def _count_packets(content: Content) -> tuple[int, str | None]:
    """Return how many packets of an AEDAT 4 file are complete, and a description of what is missing.

    After the first line there are four bytes with the length of a flatbuffer, the flatbuffer, and packets: eight bytes
    (stream and length) and their content. The second field of the flatbuffer is the position at which the packets end
    and a table of them begins, or -1 if the recorder did not get to write it; the third is a text about the streams.
    """

    def number(form: str, at: int) -> int:
        return int(struct.unpack(form, content.at(max(at, 0), struct.calcsize(form)))[0])

    try:
        start = 18 + number("<I", 14)
        root = 18 + number("<I", 18)
        fields = struct.unpack("<5H", content.at(max(root - number("<i", root), 0), 10))
        position = number("<q", root + fields[3]) if fields[3] else -1
        text = root + fields[4] + number("<I", root + fields[4])
        content.at(text + 4, number("<I", text)).decode()
    except (struct.error, UnicodeDecodeError):  # invalid UTF-8 would make the decoder abort the process
        raise DataError("its header is truncated or damaged") from None
    size = content.size
    end = position if position >= 0 else size
    at, count = start, 0
    while at + 8 <= min(end, size):
        packet_end = at + 8 + number("<I", at + 4)
        if packet_end > min(end, size):
            break
        at, count = packet_end, count + 1
    if at == end:
        return count, None
    if end < size or not count:
        raise DataError(f"its packets end at byte {at:,}, expected {end:,}")
    return count, f"the last {size - at:,} of {size:,} bytes are not a complete packet, after {count}"


VERSIONS: dict[bytes, Callable[[Reading, Content], Iterator[Columns]]] = {
    b"1.0": _aedat1,
    b"2.0": _aedat2,
    b"3.1": _aedat3,
    b"4.0": _aedat4,
}
