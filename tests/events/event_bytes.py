"""Writes recordings in each format, byte by byte as the formats' descriptions say."""

import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spiking_lfp.events.records import EVENT, EventArray

AEDAT_HEADER = b"#!AER-DAT2.0\r\n# Data format is int32 address, int32 timestamp\r\n# AEChip: retina.DVS128\r\n"
DAT_HEADER = b"% Data file containing CD events.\n% Version 2\n% Height 42\n% Width 78\n"


def made(seed: int = 0, count: int = 40, width: int = 34, height: int = 34, step: int = 900) -> EventArray:
    """Return random events in order of time."""
    random = np.random.default_rng(seed)
    events = np.zeros(count, EVENT)
    events["x"], events["y"] = random.integers(0, width, count), random.integers(0, height, count)
    events["t"], events["p"] = np.cumsum(random.integers(0, step, count)), random.integers(0, 2, count)
    return events


def rows(events: EventArray) -> list[tuple[int, int, int, int]]:
    """Return x, y, t and p as plain numbers."""
    return [(int(e["x"]), int(e["y"]), int(e["t"]), int(e["p"])) for e in events]


def nmnist(events: EventArray) -> bytes:
    """Five bytes an event."""
    return b"".join(bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255]) for x, y, t, p in rows(events))


def aedat(events: EventArray, header: bytes = AEDAT_HEADER) -> bytes:
    """Eight bytes an event, big-endian, for a DVS128."""
    return header + b"".join(
        (y << 8 | x << 1 | p).to_bytes(4, "big") + (t % 2**32).to_bytes(4, "big") for x, y, t, p in rows(events)
    )


def dat(events: EventArray, header: bytes = DAT_HEADER) -> bytes:
    """Eight bytes an event, little-endian."""
    return header + b"\x0c\x08" + b"".join(
        (t % 2**32).to_bytes(4, "little") + (p << 28 | y << 14 | x).to_bytes(4, "little") for x, y, t, p in rows(events)
    )  # fmt: skip


def es(events: EventArray, width: int = 34, height: int = 34) -> bytes:
    """Event Stream 2.0.0 of a DVS."""
    written, last = bytearray(b"Event Stream\x02\x00\x00\x01"), 0
    written += width.to_bytes(2, "little") + height.to_bytes(2, "little")
    for x, y, t, p in rows(events):
        passed, last = t - last, t
        written += b"\xff" * (passed // 127)
        written += bytes([passed % 127 << 1 | p]) + x.to_bytes(2, "little") + y.to_bytes(2, "little")
    return bytes(written)


def npy(events: EventArray) -> bytes:
    """NumPy's array with fields."""
    content = io.BytesIO()
    np.save(content, events)
    return content.getvalue()


def npy_columns(events: EventArray) -> bytes:
    """NumPy's plain array."""
    content = io.BytesIO()
    np.save(content, np.array(rows(events), np.int64).reshape(-1, 4))
    return content.getvalue()


def h5(events: EventArray) -> bytes:
    """HDF5 with a data set for each column, with checksums."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name in "xytp":
            column = events[name].astype(np.int64)
            checked: dict[str, Any] = {"chunks": column.shape, "fletcher32": True} if len(column) else {}
            file.create_dataset(f"events/{name}", data=column, **checked)
    return content.getvalue()


WRITERS = {".bin": nmnist, ".bs2": nmnist, ".aedat": aedat, ".dat": dat, ".es": es, ".npy": npy, ".h5": h5}
# bytes an event, where it has a fixed size, and of the header
SIZES = {".bin": (5, 0), ".bs2": (5, 0), ".aedat": (8, len(AEDAT_HEADER)), ".dat": (8, len(DAT_HEADER) + 2)}


def write(path: Path, events: EventArray) -> Path:
    """Write events in the format of the path's suffix."""
    path.write_bytes(WRITERS[path.suffix](events))
    return path
