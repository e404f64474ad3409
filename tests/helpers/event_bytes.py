"""Writes recordings in each format, byte by byte as the formats' descriptions say."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np

from spiking_lfp.events.records import EVENT, EventArray

AEDAT_HEADER = b"#!AER-DAT2.0\r\n# Data format is int32 address, int32 timestamp\r\n# AEChip: retina.DVS128\r\n"
AEDAT3_HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
AEDAT1_HEADER = b"#!AER-DAT1.0\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.Tmpdiff128\r\n"
DAT_HEADER = b"% Data file containing CD events.\n% Version 2\n% Height 42\n% Width 78\n"


def made(seed: int = 0, count: int = 40, width: int = 10, height: int = 10, step: int = 900) -> EventArray:
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


def aedat(events: EventArray) -> bytes:
    """Eight bytes an event, big-endian, for a DVS128."""
    return AEDAT_HEADER + b"".join(
        (y << 8 | x << 1 | p).to_bytes(4, "big") + (t % 2**32).to_bytes(4, "big") for x, y, t, p in rows(events)
    )


def aedat1(events: EventArray) -> bytes:
    """Six bytes an event, big-endian, for a Tmpdiff128."""
    return AEDAT1_HEADER + b"".join(
        (y << 8 | x << 1 | p).to_bytes(2, "big") + (t % 2**32).to_bytes(4, "big") for x, y, t, p in rows(events)
    )


def packet(data: list[tuple[int, int]], kind: int = 1, overflows: int = 0) -> bytes:
    """A packet of AEDAT 3.1, of 8 bytes an event."""
    header = struct.pack("<hhiiiiii", kind, 1, 8, 4, overflows, len(data), len(data), len(data))
    return header + b"".join(struct.pack("<Ii", *each) for each in data)


def aedat3(events: EventArray) -> bytes:
    """AEDAT 3.1, 16 events a packet, with a packet of special events in front."""
    written = AEDAT3_HEADER + packet([(1, 0)], kind=0)
    every = rows(events)
    for start in range(0, len(every), 16):
        written += packet([(x << 17 | y << 2 | p << 1 | 1, t) for x, y, t, p in every[start : start + 16]])
    return written


def dat(events: EventArray) -> bytes:
    """Eight bytes an event, little-endian."""
    return DAT_HEADER + b"\x0c\x08" + b"".join(
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


def es_atis(events: EventArray, width: int = 34, height: int = 34) -> bytes:
    """Event Stream 2.0.0 of an ATIS, with a measurement of exposure behind every event."""
    written, last = bytearray(b"Event Stream\x02\x00\x00\x02"), 0
    written += width.to_bytes(2, "little") + height.to_bytes(2, "little")
    for x, y, t, p in rows(events):
        passed, last = t - last, t
        written += b"\xff" * (passed // 63 // 3) + (b"", b"\xfd", b"\xfe")[passed // 63 % 3]
        address = x.to_bytes(2, "little") + y.to_bytes(2, "little")
        written += bytes([passed % 63 << 2 | p << 1]) + address + b"\x01" + address
    return bytes(written)


def evt2_words(events: EventArray) -> list[int]:
    """Words of 32 bits, with the high part of the time where it changes."""
    words, high = [], -1
    for x, y, t, p in rows(events):
        if t >> 6 != high:
            high = t >> 6
            words.append(0x8 << 28 | high)
        words.append(p << 28 | (t & 0x3F) << 22 | x << 11 | y)
    return words


def evt2(events: EventArray) -> bytes:
    """EVT 2.0."""
    return raw("2.0", evt2_words(events), 4)


def evt21(events: EventArray, name: str = "2.1") -> bytes:
    """EVT 2.1 of a GenX320: a word as in EVT 2.0, and beneath it which pixels of a row of 32, here one."""
    words = []
    for word in evt2_words(events):
        x = word >> 11 & 0x1F  # of a row that starts at a multiple of 32
        words.append((word ^ x << 11) << 32 | 1 << x if word >> 28 <= 1 else word << 32)
    return raw(name, words, 8)


def evt21_legacy(events: EventArray) -> bytes:
    """EVT 2.1 of an IMX636: the same with the halves the other way round."""
    header, content = len(raw("2.1", [], 8)), evt21(events)
    return content[:header] + b"".join(
        content[at + 4 : at + 8] + content[at : at + 4] for at in range(header, len(content), 8)
    )


def raw(encoding: str, words: list[int], size: int) -> bytes:
    """Prophesee's RAW."""
    header = f"% camera_integrator_name Prophesee\n% evt {encoding}\n% geometry 34x34\n% end\n"
    return header.encode() + b"".join(word.to_bytes(size, "little") for word in words)


def evt3(events: EventArray) -> bytes:
    """EVT 3.0: words of 16 bits: both parts of the time, the row, and the column of each event."""
    words = []
    for x, y, t, p in rows(events):
        words += [0x8000 | t >> 12 & 0xFFF, 0x6000 | t & 0xFFF, y, 0x2000 | p << 11 | x]
    return raw("3.0", words, 2)


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


def h5_compressed(events: EventArray) -> bytes:
    """HDF5 as DSEC's, compressed by a plug-in, without checksums."""
    import hdf5plugin

    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name in "xytp":
            column = events[name].astype(np.int64)
            options = {"chunks": column.shape, **hdf5plugin.Blosc(cname="zstd")} if len(column) else {}
            file.create_dataset(f"events/{name}", data=column, **options)
        file["t_offset"] = 0
    return content.getvalue()


def h5_fields(events: EventArray) -> bytes:
    """HDF5 with one data set."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["events"] = events
    return content.getvalue()


def h5_v2e(events: EventArray) -> bytes:
    """HDF5 with one array of the columns t, x, y and p, as v2e writes it."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        table = np.array(rows(events), np.uint32).reshape(-1, 4)[:, [2, 0, 1, 3]]
        file.create_dataset("events", data=table, **({"compression": "gzip", "fletcher32": True} if len(table) else {}))
    return content.getvalue()


def npz(events: EventArray) -> bytes:
    """NumPy's archive with an array for each column."""
    content = io.BytesIO()
    np.savez(content, **{name: events[name].astype(np.int64) for name in "txyp"})
    return content.getvalue()


def plain_text(events: EventArray) -> bytes:
    """Lines of seconds, x, y and polarity, as in the Event Camera Dataset."""
    return b"".join(b"%d.%06d000 %d %d %d\n" % (*divmod(t, 10**6), x, y, p) for x, y, t, p in rows(events))


def csv(events: EventArray) -> bytes:
    """Comma-separated values with a line of names."""
    return b"timestamp,x,y,polarity\n" + b"".join(b"%d,%d,%d,%d\n" % (t, x, y, p) for x, y, t, p in rows(events))


def bag(events: EventArray, topics: tuple[str, ...] = ("/dvs/events",), name: str = "dvs_msgs/msg/EventArray") -> bytes:
    """A bag of ROS 1 with 16 events a message."""
    from rosbags.rosbag1 import Writer

    definition = "Header header\nuint32 height\nuint32 width\ndvs_msgs/Event[] events\n"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.bag"
        with Writer(path) as writer:
            for topic in topics:
                connection = writer.add_connection(topic, name, msgdef=definition, md5sum="5" * 32)
                every = rows(events)
                for start in range(0, len(every), 16):
                    some = every[start : start + 16]
                    message = struct.pack("<III", start, 0, 0) + struct.pack("<I", 3) + b"cam"
                    message += struct.pack("<III", 34, 34, len(some))
                    for x, y, t, p in some:
                        message += struct.pack("<HHIIB", x, y, t // 10**6, t % 10**6 * 1000, p)
                    writer.write(connection, start, message)
        return path.read_bytes()


def mat(events: EventArray) -> bytes:
    """ST-MNIST, a column for every event; half a microsecond more, since times are rounded down."""
    from scipy.io import savemat

    train = np.zeros((101, len(events)))
    train[events["y"].astype(int) * 10 + events["x"], np.arange(len(events))] = np.where(events["p"], 1, -1)
    train[100] = (events["t"] + 0.5) / 1e6
    content = io.BytesIO()
    savemat(content, {"spiketrain": train}, do_compression=True)
    return content.getvalue()


WRITERS: dict[str, Callable[[EventArray], bytes]] = {
    "a.bin": nmnist,
    "a.bs2": nmnist,
    "1.aedat": aedat1,
    "2.aedat": aedat,
    "3.aedat": aedat3,
    "a.dat": dat,
    "2.raw": evt2,
    "21.raw": evt21,
    "21legacy.raw": evt21_legacy,
    "3.raw": evt3,
    "dvs.es": es,
    "atis.es": es_atis,
    "fields.npy": npy,
    "columns.npy": npy_columns,
    "a.npz": npz,
    "columns.h5": h5,
    "v2e.h5": h5_v2e,
    "blosc.h5": h5_compressed,
    "fields.hdf5": h5_fields,
    "plain.txt": plain_text,
    "names.csv": csv,
    "a.mat": mat,
    "a.bag": bag,
}
# of tables whose columns have no names; few events would fit several orders
HINTS = {
    "columns.npy": {"column_order": "xytp"},
    "v2e.h5": {"column_order": "txyp"},
    "plain.txt": {"column_order": "txyp"},
}
# formats that do not know at their beginning how many events there are
STREAMS = (
    *("a.bin", "a.bs2", "1.aedat", "2.aedat", "3.aedat", "a.dat", "dvs.es", "atis.es"),
    *("2.raw", "21.raw", "21legacy.raw", "3.raw", "plain.txt", "names.csv"),
)
# bytes of an event, where it has a fixed size, and of the header
SIZES = {
    "a.bin": (5, 0),
    "a.bs2": (5, 0),
    "1.aedat": (6, len(AEDAT1_HEADER)),
    "2.aedat": (8, len(AEDAT_HEADER)),
    "a.dat": (8, len(DAT_HEADER) + 2),
}


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """Damage a file as disks, cables and programs do it, half of the time near its beginning."""
    end = len(content) if random.random() < 0.5 else min(len(content), 500)
    at, size = int(random.integers(end)), int(random.integers(1, 40))
    kind = random.choice(["cut", "bytes", "zeros", "insert", "delete", "repeat"])
    if kind == "cut":
        return content[: max(at, 1)]
    if kind == "bytes":
        changed = bytearray(content)
        for place in random.integers(end, size=size):
            changed[place] = random.integers(256)
        return bytes(changed)
    if kind == "zeros":
        size = int(random.integers(1, len(content) - at + 1))
        return content[:at] + bytes(size) + content[at + size :]
    if kind == "insert":
        return content[:at] + random.bytes(size) + content[at:]
    if kind == "delete":
        return content[:at] + content[at + size :] or b"\0"
    return content[:at] + content[at : at + size] * 2 + content[at + size :]


def write(path: Path, events: EventArray) -> Path:
    """Write events in the format of `WRITERS` that has the path's name."""
    path.write_bytes(WRITERS[path.name](events))
    return path
