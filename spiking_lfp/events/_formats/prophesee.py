"""Prophesee's DAT, and RAW in EVT 2.0, 2.1 and 3.0."""

import re
from collections.abc import Iterator

import numpy as np

from spiking_lfp.errors import DataError
from spiking_lfp.events._formats.aedat import aedat
from spiking_lfp.events._formats.common import Columns, Content, Reading, no_events, text_header
from spiking_lfp.events.records import Sensor

HEADER_END = b"% end"
# by the name of the recorder's plugin: older headers say no more
GENERATIONS = {"gen3": (480, 640), "gen31": (480, 640), "gen4": (720, 1280), "gen41": (720, 1280)}
# EVT 2.1 words, little-endian: the halves are in this order, or, of older cameras ("legacy"), in the other one
WORDS = {"2": (np.dtype("<u4"), "evt2"), "21": (np.dtype(("<u4", 2)), "evt21"), "3": (np.dtype("<u2"), "evt3")}
# bytes that are looked at to tell which
FIRST_WORDS = 2**20


def dat(reading: Reading) -> Iterator[Columns]:
    """Prophesee's DAT, version 2: after the text header two bytes, type and size of events, then events of 8 bytes.

    An event is, little-endian, 32 bits of microseconds, 14 of x, 14 of y and 4 of polarity. Times that wrap around are
    unwrapped. The header of newer files names the sensor; that of N-CARS does not. Files that begin as AEDAT, jAER's
    first ones, are read as such.
    """
    from spiking_lfp.kernels.cpu import decoders

    with Content(reading) as content:
        if content.head.startswith(b"#!AER-DAT"):
            yield from aedat(reading)
            return
        lines, start = _header(content)
        words = dict(re.findall(rb"^%\s*(Version|Height|Width)\s+(\d{1,9})\s*$", b"\n".join(lines), re.MULTILINE))
        if words.get(b"Version") != b"2":
            version = words.get(b"Version", b"").decode()
            raise DataError(f"its header names {f'version {version}' if version else 'no version'}, expected version 2")
        if content.size < start + 2:
            raise DataError(f"there is nothing after its header of {start:,} bytes")
        kind, size = content.at(start, 2)
        if kind not in (0, 12) or size != 8:
            raise DataError(f"its events are of type {kind} and {size} bytes, expected 0 or 12 and 8")
        if words.keys() >= {b"Height", b"Width"}:
            reading.sensor = (2, int(words[b"Height"]), int(words[b"Width"]))
        state = (0, 0)
        for records in content.records(start + 2, np.dtype(("<u4", 2)), reading):
            events = no_events(len(records))
            state, highest = decoders.dat(records, state, events)
            if highest > 1:
                raise DataError(f"it has polarities up to {highest}, expected 0 and 1")
            yield events


def raw(reading: Reading) -> Iterator[Columns]:
    """Prophesee's RAW: a text header that names the encoding, then words of 16, 32 or 64 bits, see `evt2` and so on.

    Times are the camera's, from the first word of them on, and unwrapped. Triggers are left out, and so is what comes
    before the first time.
    """
    from spiking_lfp.kernels.cpu import decoders

    with Content(reading) as content:
        lines, start = _header(content)
        fields = dict(re.findall(r"^% *(\w+) +(.*)$", b"\n".join(lines).decode("ascii", "replace"), re.MULTILINE))
        # % format EVT3;height=720;width=1280, in older headers % evt 3.0
        named, *options = fields.get("format", f"EVT{fields.get('evt', '')}").split(";")
        fields |= dict(option.split("=", 1) for option in options if "=" in option)
        encoding = re.sub(r"\.0$|\.", "", named.upper().removeprefix("EVT"))
        if encoding not in WORDS:
            found = f"the encoding {named}" if len(named) > len("EVT") else "no encoding"
            raise DataError(f"its header names {found}, expected evt 2.0, 2.1 or 3.0")
        reading.sensor = _raw_sensor(fields)
        dtype, decoder = WORDS[encoding]
        decode = getattr(decoders, decoder)
        legacy = encoding == "21" and _is_legacy(content, start, fields.get("endianness", ""))
        state, any_event = decoders.EVT_START, False
        for words in content.records(start, dtype, reading):
            if legacy:
                words = np.ascontiguousarray(words[:, ::-1])
            # of EVT 2.0 a word is one event at most, of others up to 32: those are counted first
            events = no_events(len(words) if encoding == "2" else 0)
            count, after = decode(words, state, events)
            if count > len(events):
                events = no_events(count)
                decode(words, state, events)
            state, any_event = after, any_event or count > 0
            yield events[:count]
        early, triggers, unknown = state[-3:]
        if not any_event and (early or reading.partial):
            raise DataError(f"it has no event with a time after its header of {start:,} bytes")
        reading.left_out |= {
            "events before the first time": early, "external triggers": triggers, "words of unknown type": unknown
        }  # fmt: skip


def _header(content: Content) -> tuple[list[bytes], int]:
    lines, start = text_header(content.head, b"%", (HEADER_END,))
    if not lines:
        raise DataError(f"it begins with {content.head[:8]!r}, expected a header of lines that begin with %")
    return lines, start


def _is_legacy(content: Content, start: int, endianness: str) -> bool:
    """Tell whether the second half of EVT 2.1 words is not the one that has their type.

    Where the header does not say so, it is the order with words of time, whose other half is empty, at the beginning.
    """
    if endianness not in ("", "little", "legacy"):
        raise DataError(f"its header names the endianness {endianness}, expected little or legacy")
    if endianness:
        return endianness == "legacy"
    first = content.at(start, FIRST_WORDS)
    halves = np.frombuffer(first, ("<u4", 2), len(first) // 8)
    little_times, legacy_times = (
        int(np.count_nonzero((halves[:, half] >> 28 == 0x8) & (halves[:, 1 - half] == 0))) for half in (1, 0)
    )
    return legacy_times > little_times


def _raw_sensor(fields: dict[str, str]) -> Sensor | None:
    """Return the sensor that a header names, by its size or by the generation of the camera."""
    size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", fields.get("geometry", "").strip())
    width, height = size.groups() if size else (fields.get("width", ""), fields.get("height", ""))
    if re.fullmatch(r"\d{1,5}", width) and re.fullmatch(r"\d{1,5}", height):
        return (2, int(height), int(width))
    generation = re.search(r"hal_plugin_(gen\d+)_", fields.get("plugin_name", ""))
    sides = GENERATIONS.get(generation[1]) if generation else None
    return (2, *sides) if sides else None
