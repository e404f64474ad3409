"""AEDAT of jAER, cAER and DV, versions 1.0, 2.0, 3.1 and 4.0."""

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spiking_lfp.errors import DataError
from spiking_lfp.events._formats.common import (
    CHIPS,
    DVS128,
    LARGEST_TIME,
    AdviceError,
    Hints,
    RawRecording,
    counted,
    import_extra,
    no_events,
    one_line,
    text_header,
    whole_records,
)

HEADER_ENDS = (b"#End Of ASCII Header", b"#!END-HEADER")
POLARITY_PACKET = 1
SPECIAL_PACKET = 0


def aedat(path: Path, hints: Hints) -> RawRecording:
    """AEDAT, depending on the first line."""
    content = path.read_bytes()
    line = re.match(rb"#!AER-DAT(\d\.\d)\r?\n", content)
    if line is None or line[1] not in VERSIONS:
        begin = content[:16].decode("ascii", "replace").splitlines()[0]
        raise DataError(f"it begins with {begin!r}, expected #!AER-DAT and 1.0, 2.0, 3.1 or 4.0")
    return VERSIONS[line[1]](path, content, hints)


def _aedat1(path: Path, content: bytes, hints: Hints) -> RawRecording:
    """AEDAT 1.0: as 2.0, but addresses of 16 bits."""
    return _addresses(content, np.dtype([("address", ">u2"), ("t", ">u4")]), hints)


def _aedat2(path: Path, content: bytes, hints: Hints) -> RawRecording:
    """AEDAT 2.0: after the text header, big-endian address and microseconds, 32 bits each; see `Layout`.

    DVS128: bit 0 is polarity, bits 1 to 7 are x, 8 to 14 y, as the manufacturer documents it, without flips: row 0 is
    the lowest. DAVIS: bit 11 is polarity, bits 12 to 21 are x, 22 to 30 y, both counted from the far corner. External
    signals and special events (bits 15 and 31 of a DVS128, bit 10 of a DAVIS) are left out, and so are images and
    inertial data (bit 31 of a DAVIS). Times that wrap around at 32 bits are unwrapped.

    Files that name no chip, such as v2e's, or an unknown one, are of the one in `hints`. Without it, those that name
    none are read as of a DVS128 if all addresses are such.
    """
    return _addresses(content, np.dtype([("address", ">u4"), ("t", ">u4")]), hints)


def _addresses(content: bytes, record: np.dtype[Any], hints: Hints) -> RawRecording:
    from spiking_lfp.kernels.cpu import decoders

    lines, start = text_header(content, b"#", HEADER_ENDS)
    named = [line.removeprefix(b"# AEChip:").decode("ascii", "replace") for line in lines if b"# AEChip:" in line]
    in_file = named[0].strip().rpartition(".")[2] if named else ""
    chip = in_file if in_file.lower() in CHIPS else hints.chip
    if in_file and not chip:
        raise AdviceError(
            f"it is from the chip {in_file!r}, supported are {', '.join(CHIPS)}: if one of them has the same "
            "addresses, name it by the setting chip"
        )
    assumed: tuple[str, ...] = ()
    if not chip:
        chip = "DVS128"
        assumed = ("it names no chip and is read as of a DVS128, see the setting chip",)
    elif in_file and chip != in_file:
        assumed = (f"it names the chip {in_file} and is read as of a {chip}",)
    layout, (_, height, width) = CHIPS[chip.lower()]
    if layout != DVS128 and record.itemsize == 6:
        raise DataError(f"it has the 16-bit addresses of AEDAT 1.0, which no {chip} has")
    records, partial = whole_records(content, start, record)
    if not len(records) and (partial or not lines[-1].startswith(HEADER_ENDS)):
        raise DataError(f"it has no event after its header of {start:,} bytes")
    pairs = records.astype([("address", ">u4"), ("t", ">u4")], copy=False)
    events = no_events(len(records))
    last = (width - 1, height - 1) if layout.flipped else (-1, -1)
    fields = (*layout[:5], *last, layout.signal, layout.other, layout.never)
    count, signals, invalid = decoders.addresses(pairs.view("<u4").reshape(-1, 2), fields, events)
    if invalid >= 0:
        address = f"{int(records['address'][invalid]):#x}"
        if in_file or hints.chip:
            raise DataError(f"record {invalid} has the address {address}, which no {chip} has")
        raise AdviceError(
            f"it names no chip, and record {invalid} has the address {address}, which no DVS128 has: name the chip by "
            "the setting chip (v2e's DAVIS files: davis346 or davis240, those of 640 x 480: dvs640)"
        )
    remarks = (*assumed, *counted(signals, "records of external signals or special events"))
    return RawRecording(events[:count], (2, height, width), partial, remarks)


def _aedat3(path: Path, content: bytes, hints: Hints) -> RawRecording:
    """AEDAT 3.1: packets of a 28-byte header and their events, little-endian; only polarity events are read.

    A polarity event takes 8 bytes: a valid bit, polarity, 15 bits each of y and x, and 31 bits of microseconds, whose
    overflows the packet counts. Invalid events are left out.
    """
    lines, start = text_header(content, b"#", HEADER_ENDS)
    if not lines[-1].startswith(HEADER_ENDS[1]):
        raise DataError("its header has no end")
    sources = re.findall(r"^#Source \d+: *(\w+)", b"\n".join(lines).decode("ascii", "replace"), re.MULTILINE)
    sensor = next((CHIPS[name.lower()][1] for name in sources if name.lower() in CHIPS), None)
    event = np.dtype([("data", "<u4"), ("t", "<i4")])
    data, t, partial, at, end = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], None, start, len(content)
    special = 0
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
        elif kind == SPECIAL_PACKET:
            special += present
        at += count * size
    words, times = np.concatenate(data), np.concatenate(t)
    if partial and not len(words):
        raise DataError(f"it has no complete event after its header of {start:,} bytes")
    valid_events = words & 1 == 1
    columns = {"x": words >> 17, "y": words >> 2 & 0x7FFF, "t": times, "p": words >> 1 & 1}
    remarks = counted(special, "special events")
    return RawRecording({name: column[valid_events] for name, column in columns.items()}, sensor, partial, remarks)


def _aedat4(path: Path, content: bytes, hints: Hints) -> RawRecording:
    """AEDAT 4.0, read by the package aedat; of several event streams, the one with the lowest number.

    Packets, and events in them, are in order of time, as the recorder writes them. The package's decoder allocates as
    much memory as a damaged length says, does not report how much of a truncated file it read, and aborts the process
    if the header's text is not valid UTF-8: header and lengths are checked here first.
    """
    packets, partial = _count_packets(content)
    package = import_extra("aedat")
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
        raise DataError(f"the package aedat says: {one_line(error)}") from None
    arrays = [packet["events"] for packet in decoded if packet["stream_id"] == number]
    events, at = no_events(sum(map(len, arrays))), 0
    for array in arrays:
        some = events[at : at + len(array)]
        if len(array) and int(array["t"].max()) > LARGEST_TIME:
            raise DataError(f"it has times up to {int(array['t'].max())} us, which is out of range")
        # of columns and rows from 2^15 on none is on a sensor, and `Recording` finds them as negative ones
        for name, theirs in (("x", "x"), ("y", "y"), ("t", "t"), ("p", "on")):
            some[name] = array[theirs]
        at += len(array)
    return RawRecording(events, (2, int(height), int(width)), partial)


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


VERSIONS: dict[bytes, Callable[[Path, bytes, Hints], RawRecording]] = {
    b"1.0": _aedat1,
    b"2.0": _aedat2,
    b"3.1": _aedat3,
    b"4.0": _aedat4,
}
