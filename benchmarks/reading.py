"""How fast are recordings read? Events a second by format, beside the other readers that are installed, in one run.

The events of a recording, one after the other until there are enough, are written in every format; faery writes
those of cameras. Each reader must give the same events as `read_events`, which also checks that they lie
on the sensor and in order of time, and is timed from a file in the page cache to x, y, t and p in memory: medians, one
after the other in every round. Readers: tonic, expelliarmus, faery, dv-processing, event_stream, importRosbag,
NumPy, h5py, polars; those that are not installed are left out.

    python benchmarks/reading.py RECORDING --events 2000000
"""

import argparse
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from timing import medians_ms

from spiking_lfp import read_events
from spiking_lfp.events.records import EVENT, EventArray

# of the sensor that all are said to be of
WIDTH, HEIGHT = 1280, 720
Read = Callable[[Path], Any]
HINTS: dict[str, Any] = {".txt": {"column_order": "txyp"}, "table.npy": {"column_order": "xytp"}}


def repeated(events: EventArray, count: int) -> EventArray:
    """Return the events over and over, later each time, with times from 0 on."""
    events = events.copy()
    events["t"] -= events["t"][0]
    rounds = -(-count // len(events))
    many = np.tile(events, rounds)
    many["t"] += np.repeat(np.arange(rounds) * (int(events["t"][-1]) + 1), len(events))
    return many[:count]


def columns(x: Any, y: Any, t: Any, p: Any) -> tuple[NDArray[Any], ...]:
    """Return what all readers are compared by."""
    return tuple(np.asarray(column).astype(np.int64) for column in (x, y, t, p))


def of_fields(events: Any, on: str = "p") -> tuple[NDArray[Any], ...]:
    return columns(events["x"], events["y"], events["t"], events[on])


# --- writers


def write_bin(path: Path, events: EventArray) -> EventArray:
    """N-MNIST: what fits its 256 columns, 239 rows and 23 bits of time."""
    events = events[(events["x"] < 256) & (events["y"] < 239) & (events["t"] < 2**23)]
    records = np.empty((len(events), 5), np.uint8)
    t = events["t"]
    records[:, 0], records[:, 1], records[:, 2] = events["x"], events["y"], events["p"] * 128 + (t >> 16)
    records[:, 3], records[:, 4] = t >> 8 & 255, t & 255
    path.write_bytes(records.tobytes())
    return events


def write_aedat2(path: Path, events: EventArray) -> EventArray:
    events = events[(events["x"] < 346) & (events["y"] < 260)]
    words = np.empty((len(events), 2), ">u4")
    x, y, p = (events[name].astype(np.int64) for name in "xyp")
    words[:, 0], words[:, 1] = (259 - y) << 22 | (345 - x) << 12 | p << 11, events["t"]
    path.write_bytes(b"#!AER-DAT2.0\r\n# AEChip: Davis346red\r\n#End Of ASCII Header\r\n" + words.tobytes())
    return events


def by_faery(path: Path, events: EventArray) -> EventArray:
    import faery

    theirs = np.empty(len(events), faery.EVENTS_DTYPE)
    for name, mine in (("t", "t"), ("x", "x"), ("y", "y"), ("on", "p")):
        theirs[name] = events[mine]
    if path.suffix == ".es":
        theirs["y"] = HEIGHT - 1 - theirs["y"]  # it counts rows from the other side
    version = path.stem if path.suffix == ".raw" else None
    faery.events_stream_from_array(theirs, (WIDTH, HEIGHT)).to_file(path, version=version)
    return events


def write_npy(path: Path, events: EventArray) -> EventArray:
    np.save(path, events if path.name == "fields.npy" else np.stack(of_fields(events), 1))
    return events


def write_npz(path: Path, events: EventArray) -> EventArray:
    x, y, t, p = of_fields(events)
    np.savez(path, x=x, y=y, t=t, p=p)
    return events


def write_h5(path: Path, events: EventArray) -> EventArray:
    with h5py.File(path, "w") as file:
        for name, dtype in (("x", "u2"), ("y", "u2"), ("t", "u4"), ("p", "u1")):
            file.create_dataset(f"events/{name}", data=events[name].astype(dtype), compression="gzip", chunks=True)
    return events


def write_text(path: Path, events: EventArray) -> EventArray:
    with path.open("w") as file:
        if path.suffix == ".csv":
            file.write("t,x,y,p\n")
            file.writelines(f"{t},{x},{y},{p:d}\n" for x, y, t, p in events.tolist())
        else:
            file.writelines(f"{t // 10**6}.{t % 10**6:06d} {x} {y} {p:d}\n" for x, y, t, p in events.tolist())
    return events


def write_bag(path: Path, events: EventArray) -> EventArray:
    """ROS 1, 10,000 events a message."""
    from rosbags.rosbag1 import Writer

    records = np.empty(len(events), [("x", "<u2"), ("y", "<u2"), ("s", "<u4"), ("ns", "<u4"), ("p", "u1")])
    for name in "xyp":
        records[name] = events[name]
    records["s"], records["ns"] = events["t"] // 10**6, events["t"] % 10**6 * 1000
    definition = (
        f"Header header\nuint32 height\nuint32 width\ndvs_msgs/Event[] events\n{'=' * 80}\nMSG: dvs_msgs/Event\n"
        "uint16 x\nuint16 y\ntime ts\nbool polarity\n"
    )
    with Writer(path) as writer:
        connection = writer.add_connection(
            "/dvs/events", "dvs_msgs/msg/EventArray", msgdef=definition, md5sum="5e8beee5a6c107e504c2e78903c224b8"
        )
        for start in range(0, len(records), 10_000):
            some = records[start : start + 10_000]
            head = (
                np.array([0, 0, 0, 3], "<u4").tobytes() + b"cam" + np.array([HEIGHT, WIDTH, len(some)], "<u4").tobytes()
            )
            writer.write(connection, int(events["t"][start]) * 1000, head + some.tobytes())
    return events


# --- other readers


def tonic_bin(path: Path) -> Any:
    from tonic.io import read_mnist_file

    return of_fields(read_mnist_file(path, np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])))


def tonic_davis(path: Path) -> Any:
    from tonic.io import read_davis_346

    return of_fields(read_davis_346(str(path))[2])


def expelliarmus(path: Path) -> Any:
    from expelliarmus import Wizard

    encoding = "dat" if path.suffix == ".dat" else path.stem
    return Wizard(encoding=encoding).read(path)


def faery(path: Path) -> Any:
    import faery

    events = faery.events_stream_from_file(path, dimensions_fallback=(WIDTH, HEIGHT)).to_array()
    if path.suffix == ".es":
        events["y"] = HEIGHT - 1 - events["y"]
    return events


def tonic_aedat4(path: Path) -> Any:
    from tonic.io import read_aedat4

    return read_aedat4(str(path))


def dv_processing(path: Path) -> Any:
    import dv_processing

    recording = dv_processing.io.MonoCameraRecording(str(path))
    batches = []
    while (batch := recording.getNextEventBatch()) is not None:
        batches.append(batch.numpy())
    return np.concatenate(batches)


def event_stream(path: Path) -> Any:
    import event_stream

    with event_stream.Decoder(str(path)) as decoder:
        return np.concatenate(list(decoder))


def loadtxt(path: Path) -> Any:
    return np.loadtxt(path)


def polars(path: Path) -> Any:
    import polars

    if path.suffix == ".csv":
        return polars.read_csv(path)
    return polars.read_csv(path, separator=" ", has_header=False)


def numpy_npy(path: Path) -> Any:
    return np.load(path)


def numpy_npz(path: Path) -> Any:
    with np.load(path) as archive:
        return {name: archive[name] for name in "xytp"}


def plain_h5(path: Path) -> Any:
    with h5py.File(path) as file:
        return {name: file[f"events/{name}"][()] for name in "xytp"}


def import_rosbag(path: Path) -> Any:
    from importRosbag.importRosbag import importRosbag

    return importRosbag(filePathOrName=str(path), log="ERROR")["/dvs/events"]


# --- what they return as x, y, t and p


def as_columns(found: Any) -> tuple[NDArray[Any], ...]:
    if isinstance(found, tuple):
        return found
    if hasattr(found, "columns"):  # of polars
        found = found if "x" in found.columns else found.to_numpy()
    if isinstance(found, np.ndarray) and found.dtype.names is None:
        if found.dtype.kind == "f":
            return columns(found[:, 1], found[:, 2], np.rint(found[:, 0] * 1e6), found[:, 3])
        return columns(*found.T)
    if isinstance(found, dict) and "ts" in found:
        return columns(found["x"], found["y"], np.rint(found["ts"] * 1e6), found["pol"])
    names = getattr(getattr(found, "dtype", None), "names", None) or ()
    if "timestamp" in names:
        return columns(found["x"], found["y"], found["timestamp"], found["polarity"])
    return of_fields(found, "on" if "on" in names else "p")


FORMATS: dict[str, tuple[Callable[[Path, EventArray], EventArray], dict[str, tuple[str, Read]]]] = {
    "a.bin": (write_bin, {"tonic": ("tonic", tonic_bin)}),
    "a.aedat": (write_aedat2, {"tonic": ("tonic", tonic_davis)}),
    "a.aedat4": (
        by_faery,
        {
            "tonic": ("tonic", tonic_aedat4),
            "faery": ("faery", faery),
            "dv-processing": ("dv_processing", dv_processing),
        },
    ),
    "dat.dat": (
        by_faery,
        {"expelliarmus": ("expelliarmus", expelliarmus), "faery": ("faery", faery)},
    ),
    "evt2.raw": (
        by_faery,
        {"expelliarmus": ("expelliarmus", expelliarmus), "faery": ("faery", faery)},
    ),
    "evt3.raw": (
        by_faery,
        {"expelliarmus": ("expelliarmus", expelliarmus), "faery": ("faery", faery)},
    ),
    "a.es": (by_faery, {"faery": ("faery", faery), "event_stream": ("event_stream", event_stream)}),
    "fields.npy": (write_npy, {"NumPy": ("numpy", numpy_npy)}),
    "table.npy": (write_npy, {"NumPy": ("numpy", numpy_npy)}),
    "a.npz": (write_npz, {"NumPy": ("numpy", numpy_npz)}),
    "a.h5": (write_h5, {"h5py": ("h5py", plain_h5)}),
    "a.txt": (
        write_text,
        {"NumPy": ("numpy", loadtxt), "polars": ("polars", polars)},
    ),
    "a.csv": (write_text, {"polars": ("polars", polars), "faery": ("faery", faery)}),
    "a.bag": (write_bag, {"importRosbag": ("importRosbag", import_rosbag)}),
}


def measure(path: Path, events: EventArray, readers: dict[str, Read], rounds: int) -> list[str]:
    """Return one row of the table."""
    hints = HINTS.get(path.name, HINTS.get(path.suffix, {}))

    def ours(path: Path) -> Any:
        return read_events(path, **hints).events

    expected = of_fields(events)
    assert all(map(np.array_equal, of_fields(ours(path)), expected)), path
    calls: dict[str, Callable[[], object]] = {"ours": lambda: ours(path)}
    remarks = []
    for name, read in readers.items():
        try:
            found = as_columns(read(path))
        except Exception as error:
            remarks.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:60]}")
            continue
        if len(found[0]) != len(events) or not all(map(np.array_equal, found, expected)):
            remarks.append(f"{name} gives other events ({len(found[0]):,})")
            continue
        calls[name] = lambda read=read: read(path)  # type: ignore[misc]
    times = medians_ms(calls, rounds)
    rates = {name: len(events) / 1000 / milliseconds for name, milliseconds in times.items()}
    mine = rates.pop("ours")
    others = ", ".join(f"{name} {rate:.1f}" for name, rate in sorted(rates.items(), key=lambda item: -item[1]))
    best = f"{mine / max(rates.values()):.2f}" if rates else "-"
    return [path.name, f"{len(events):,}", f"{mine:.1f}", others or "-", best, "; ".join(remarks)]


def main() -> None:
    """Write the events in all formats and read them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path, help="any recording that read_events reads")
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), choices=list(FORMATS))
    arguments = parser.parse_args()
    events = repeated(read_events(arguments.recording).events.astype(EVENT), arguments.events)
    table = Table("file", "events", "read_events, M/s", "others, M/s", "of the fastest", "left out")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.formats:
            write, others = FORMATS[name]
            path = Path(folder) / name
            try:
                written = write(path, events)
            except ImportError as error:
                table.add_row(name, "", "", "", "", f"{error.name} is not installed")
                continue
            readers = {reader: read for reader, (module, read) in others.items() if find_spec(module)}
            table.add_row(*measure(path, written, readers, arguments.rounds))
            with suppress(OSError):
                path.unlink()
    Console(width=190).print(table)


if __name__ == "__main__":
    main()
