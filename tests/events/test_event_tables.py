"""Tables of events: what their columns are called, in what order they stand, and what unit times have."""

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import hdf5plugin
import numpy as np
import pytest

from helpers import event_bytes as make
from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.events import streams
from spiking_lfp.events.files import read_events
from spiking_lfp.events.records import EVENT, EventArray
from spiking_lfp.events.streams import read_stream

# many enough that one order fits only
EVENTS = make.made(3, count=400, width=200, height=100)
ROWS = np.array(make.rows(EVENTS))


def write_group(path: Path, group: str, names: str, **options: Any) -> Path:
    """Write HDF5 with a data set for each column, called as `names` says in the order x, y, t, p."""
    with h5py.File(path, "w") as file:
        for name, column in zip(names.split(), ROWS.T, strict=True):
            file.create_dataset(f"{group}/{name}", data=column, **options)
    return path


def same(path: Path, **hints: Any) -> bool:
    return make.rows(read_events(path, **hints).events) == make.rows(EVENTS)


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("events", "x y t p"),
        ("", "xs ys ts ps"),
        ("events", "xs ys ts ps"),
        ("CD", "x y timestamp polarity"),
        ("a/b", "X Y t_us pol"),
    ],
)
def test_columns_of_hdf5_are_found_by_name(group: str, names: str, tmp_path: Path) -> None:
    assert same(write_group(tmp_path / "a.h5", group, names))


@pytest.mark.parametrize("name", ["Blosc", "Zstd", "LZ4", "Bitshuffle", "Blosc2"])
def test_compressed_hdf5_is_read_by_its_plugin(name: str, tmp_path: Path) -> None:
    assert same(write_group(tmp_path / "a.h5", "events", "x y t p", chunks=(100,), **getattr(hdf5plugin, name)()))


def test_bzip2_is_refused(tmp_path: Path) -> None:
    path = write_group(tmp_path / "a.h5", "events", "x y t p", chunks=(100,), **hdf5plugin.BZip2())
    with pytest.raises(DataError, match=r"/events/[xytp] is compressed by bzip2: repack it, h5repack -f GZIP=4$"):
        read_events(path)


def test_a_plugin_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_group(tmp_path / "a.h5", "events", "x y t p", chunks=(100,), **hdf5plugin.Zstd())
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: False)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(UsageError, match=r"^hdf5plugin is not installed: pip install 'spiking-lfp\[events\]'"):
        read_events(path)


def test_prophesees_own_compression_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((100,))
        # as an option, so that a data set can be made without the plug-in
        created.set_filter(36559, h5py.h5z.FLAG_OPTIONAL)
        kind = h5py.h5t.py_create(np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")]), logical=True)
        group = h5py.h5g.create(file.id, b"CD")
        h5py.h5d.create(group, b"events", kind, h5py.h5s.create_simple((400,)), created)
    with pytest.raises(DataError, match="compressed by Prophesee's filter ECF: install the HDF5 plugin of Metavision"):
        read_events(path)


def test_a_filter_nobody_knows_is_an_error(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((100,))
        created.set_filter(32999, h5py.h5z.FLAG_OPTIONAL)
        kind = h5py.h5t.py_create(EVENT, logical=True)
        data = h5py.h5d.create(file.id, b"events", kind, h5py.h5s.create_simple((400,)), created)
        assert data.get_type()
    with pytest.raises(DataError, match="compressed by the HDF5 filter 32999, which is not installed"):
        read_events(tmp_path / "a.h5")


def test_metavision(tmp_path: Path) -> None:
    theirs = np.zeros(len(EVENTS), [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    for name in "xytp":
        theirs[name] = EVENTS[name]
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.attrs["geometry"] = "640x480"
        file["CD/events"] = theirs
        file["CD/indexes"] = np.zeros(9, [("id", "<u8"), ("ts", "<i8")])
        file["EXT_TRIGGER/events"] = np.zeros(3, [("p", "<i2"), ("t", "<i8"), ("id", "<i2")])
    found = read_events(tmp_path / "a.hdf5")
    assert (make.rows(found.events), found.sensor) == (make.rows(EVENTS), (2, 480, 640))


def test_dsec(tmp_path: Path) -> None:
    path = write_group(tmp_path / "events.h5", "events", "x y t p", chunks=(100,), **hdf5plugin.Blosc())
    with h5py.File(path, "r+") as file:
        file["ms_to_idx"] = np.arange(10)
        file["t_offset"] = np.int64(51_648_500_000)
    found = read_events(path).events
    assert np.array_equal(found["t"], EVENTS["t"] + 51_648_500_000)
    assert np.array_equal(found["x"], EVENTS["x"])


@pytest.mark.parametrize("order", ["xytp", "txyp", "xypt"])
def test_columns_without_names_are_found_by_what_they_hold(order: str, tmp_path: Path) -> None:
    table = ROWS[:, ["xytp".index(name) for name in order]]
    np.save(tmp_path / "a.npy", table)
    np.savez(tmp_path / "a.npz", table)
    np.savetxt(tmp_path / "a.txt", table, fmt="%d")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["events"] = table.astype(np.uint32)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["davis/left/events"] = table.astype(float) * np.where(np.array([*order]) == "t", 1e-6, 1)
    for name in ("a.npy", "a.npz", "a.txt", "a.h5", "b.h5"):
        assert same(tmp_path / name)
        assert same(tmp_path / name, column_order=order)


def test_an_order_that_contradicts_names_is_refused(tmp_path: Path) -> None:
    lines = "\n".join(",".join(map(str, row)) for row in ROWS[:, [2, 0, 1, 3]].tolist())
    (tmp_path / "a.csv").write_text(f"t,x,y,p\n{lines}\n")
    table = np.empty(len(EVENTS), [(name, EVENT[name]) for name in "txyp"])
    for name in "txyp":
        table[name] = EVENTS[name]
    np.save(tmp_path / "a.npy", table)
    np.savez(tmp_path / "b.npz", table)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["events"] = table
    message = r"{} cannot be read: its columns stand in the order txyp, but column_order is xytp: set column_order="
    for name in ("a.csv", "a.npy", "b.npz", "a.h5"):
        assert same(tmp_path / name, column_order="txyp")
        with pytest.raises(DataError, match=message.format(name)):
            read_events(tmp_path / name, column_order="xytp")
        with pytest.raises(DataError, match=message.format(name)):
            read_stream(tmp_path / name, 1.0, (2, 480, 640), column_order="xytp")
    # arrays of their own have names and no order
    assert same(write_group(tmp_path / "b.h5", "events", "x y t p"), column_order="txyp")
    assert same(make.write(tmp_path / "a.npz", EVENTS), column_order="xytp")


def test_hints_of_other_formats_are_refused(tmp_path: Path) -> None:
    path = make.write(tmp_path / "a.bin", make.made(3))
    message = r"^time_unit = ms changes nothing of .*a\.bin, it is for files that end in \.npy, .*: leave it out$"
    with pytest.raises(UsageError, match=message):
        read_events(path, time_unit="ms")
    with pytest.raises(UsageError, match=message):
        read_stream(path, 1.0, (2, 34, 34), time_unit="ms")
    with pytest.raises(UsageError, match=r"^chip = davis346 changes nothing of the stream, it is for files"):
        read_stream([EVENTS], 1.0, (2, 480, 640), chip="davis346")
    assert len([*read_stream([ROWS], 1.0, (2, 480, 640), column_order="xytp")])


def test_columns_that_could_be_others_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1 2 3 1\n2 3 4 0\n")
    with pytest.raises(DataError, match=r"orders xytp and txyp fit: name the right one by the setting column_order"):
        read_events(path)
    assert make.rows(read_events(path, column_order="xytp").events) == [(1, 2, 3, 1), (2, 3, 4, 0)]
    assert make.rows(read_events(path, column_order="txyp").events) == [(2, 3, 1, 1), (3, 4, 2, 0)]
    path.write_text("1 2 3 7\n2 3 4 0\n")
    with pytest.raises(DataError, match=r"none of xytp, txyp, xypt fits: name the right one by the setting"):
        read_events(path)


UNITS = {"s": 1e-6, "ms": 1e-3, "us": 1, "ns": 1000}


@pytest.mark.parametrize("unit", UNITS)
def test_units_of_times(unit: str, tmp_path: Path) -> None:
    t = ROWS[:, 2] * UNITS[unit]
    np.savez(tmp_path / "a.npz", x=ROWS[:, 0], y=ROWS[:, 1], t=t, p=ROWS[:, 3])
    assert same(tmp_path / "a.npz", time_unit=unit)
    lines = [f"{x},{y},{time!r},{p}" for (x, y, _, p), time in zip(ROWS.tolist(), t.tolist(), strict=True)]
    for name, header in (("a.csv", "x,y,t,p"), ("b.csv", f"x,y,t_{unit},p"), ("c.csv", f'"x";"y";"time [{unit}]";"p"')):
        (tmp_path / name).write_text("\n".join([header, *lines]).replace(",", ";" if name == "c.csv" else ",") + "\n")
    assert same(tmp_path / "a.csv", time_unit=unit)
    # a unit in the file is found, and one that is given must be the same
    assert same(tmp_path / "b.csv")
    assert same(tmp_path / "c.csv", time_unit=unit)
    other = "ms" if unit == "s" else "s"
    said = rf"c.csv cannot be read: its column time \[{unit}\] has times in {unit}, but time_unit is {other}: set "
    with pytest.raises(DataError, match=said + f"time_unit={unit}, leave it out, or correct the file$"):
        read_events(tmp_path / "c.csv", time_unit=other)
    words = {"s": "seconds", "ms": "msec", "us": "\u03bcs", "ns": "nanoseconds"}
    (tmp_path / "d.csv").write_text("\n".join([f"x,y,time_{words[unit]},p", *lines]), encoding="utf-8")
    assert same(tmp_path / "d.csv")


@pytest.mark.parametrize("header", ["x,y,t,p\n", "", "# made by hand\n", "x,y,t_us,p\n"])
def test_text_may_begin_with_the_mark_of_utf_8(header: str, tmp_path: Path) -> None:
    lines = "\n".join(",".join(map(str, row)) for row in ROWS.tolist())
    path = tmp_path / "a.csv"
    path.write_text(header + lines + "\n", encoding="utf-8-sig")
    assert same(path)
    with mock.patch.object(streams, "BLOCK", 500), read_stream(path, 1000.0, (2, 480, 640)) as stream:
        assert np.array_equal(np.concatenate([window.events for window in stream])["t"], EVENTS["t"])


def test_times_are_of_the_nearest_microsecond(tmp_path: Path) -> None:
    for unit, t, expected in (
        ("s", [0.0000004, 0.0000006], [0, 1]),
        ("ns", [1499, 1501], [1, 2]),
        # of nanoseconds since 1970 a float of 64 bits would lose some
        ("ns", [1_605_537_493_718_345_499, 1_605_537_493_718_345_500], [1_605_537_493_718_345, 1_605_537_493_718_346]),
    ):
        np.savez(tmp_path / "a.npz", x=[1, 2], y=[1, 2], t=np.array(t), p=[0, 1])
        assert read_events(tmp_path / "a.npz", time_unit=unit).events["t"].tolist() == expected
    with pytest.raises(DataError, match=r"too large for microseconds: name their unit by the setting time_unit$"):
        read_events(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("content", "sensor"),
    [
        # Event Camera Dataset, v2e, faery, Metavision, an old form with a first line of width and height, pandas
        ("0.000001 1 2 1\n0.000250 3 4 0\n", (2, 5, 4)),
        ("#!events.txt\n# Format is time (float s), x, y, polarity\n1e-06 1 2 1\n0.00025 3 4 0\n", (2, 5, 4)),
        ("t,x@640,y@480,on\r\n1,1,2,1\r\n250,3,4,0\r\n", (2, 480, 640)),
        ("% geometry:320,320\n1,2,1,1\n3,4,0,250\n", (2, 320, 320)),
        ("240 180\n0.000001 1 2 1\n0.000250 3 4 0\n", (2, 180, 240)),
        ('"timestamp","x","y","polarity","index"\n1,1,2,True,0\n250,3,4,False,1\n', (2, 5, 4)),
        ("# x y t p\n1 2 1 1\n\n3 4 250 -1\n", (2, 5, 4)),
        ("x\ty\tt\tp\n1\t2\t+1.0\t1\n3.0\t4\t2.5e2\t-1.0\n", (2, 5, 4)),
    ],
)
def test_text_of_several_programs(content: str, sensor: tuple[int, int, int], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(content, newline="")
    hints = {} if "," in content or "x" in content[:4] else {"column_order": "txyp"}
    found = read_events(tmp_path / "a.txt", **hints)
    assert make.rows(found.events) == [(1, 2, 1, 1), (3, 4, 250, 0)]
    assert found.sensor == sensor


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        ({"chip": "davis999"}, "chip .*davis999"),
        ({"column_order": "xyt"}, "column_order is 'xyt', expected x, y, t and p in some order, as txyp"),
    ],
)
def test_hints_that_are_none(hints: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        read_events(make.write(tmp_path / "a.npz", EVENTS), **hints)


def test_spikingjelly(tmp_path: Path) -> None:
    # its arrays stand in the order t, x, y, p and have several types
    columns: dict[str, EventArray] = {
        "t": EVENTS["t"].astype(np.int64), "x": EVENTS["x"], "y": EVENTS["y"].astype(np.uint8), "p": EVENTS["p"]
    }  # fmt: skip
    np.savez_compressed(tmp_path / "a.npz", **columns)  # type: ignore[arg-type]
    assert same(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", a=ROWS, b=ROWS)
    with pytest.raises(DataError, match="it has the arrays a, b, expected x, y, t, p or one table"):
        read_events(tmp_path / "b.npz")


def test_arguments_that_are_none_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path: Any = make.write(tmp_path / "a.npz", EVENTS)
    for sensor in (34, (34, 34), (2, 34.5, 34), ("2", "34", "34"), "34x34", (3, 34, 34)):
        for read in (lambda wrong: read_events(path, wrong), lambda wrong: read_stream(path, 1.0, wrong)):
            with pytest.raises(UsageError, match=r"^a sensor has 1 or 2 polarities, height and width, .*, found .*3"):
                read(sensor)
    for wrong in (5, None):
        with pytest.raises(UsageError, match=rf"^the recording must be a path, found {wrong}$"):
            read_events(wrong)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=r"^source must be a file, a camera or arrays of events, found"):
            read_stream(wrong, 1.0, (2, 34, 34))  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=f"^unknown chip {wrong}: known are"):
            read_events(path, chip=wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^column_order is \['x', 'y', 't', 'p'\], expected x, y, t and p"):
        read_events(path, column_order=[*"xytp"])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^window_ms must be at least .*, found '10'$"):
        read_stream(path, "10", (2, 34, 34))  # type: ignore[arg-type]
