"""Streams of windows are the recording, whatever their blocks and windows are, in memory that does not grow."""

import gc
import os
import re
import tracemalloc
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import event_bytes as make
from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.events import streams
from spiking_lfp.events._formats import simple, tables
from spiking_lfp.events.cameras import Camera
from spiking_lfp.events.files import read_events
from spiking_lfp.events.records import EVENT, EventArray, Recording
from spiking_lfp.events.streams import Window, read_stream

pytestmark = pytest.mark.filterwarnings("ignore:.*(left out|names no chip):UserWarning")
# of files that name none
SENSOR = (2, 34, 34)
NAMELESS = (".bin", ".bs2", ".npy", ".npz", ".h5", ".hdf5", ".txt", ".csv")
LONGEST_MS = 1e9
REAL = Path(os.environ.get("SPIKING_LFP_DATA", ""))
real_data = pytest.mark.skipif(
    "SPIKING_LFP_DATA" not in os.environ, reason="needs SPIKING_LFP_DATA, a folder with real recordings"
)
REAL_FILES = [
    *("recordings/exp_evt2_sample.raw", "recordings/exp_evt3_sample.raw", "recordings/exp_evt3_sample.npy"),
    *("recordings/davis_IMU_rotDisk.aedat", "recordings/dvs128_rotated_cam255_right_clamp_test1.aedat"),
    *("recordings/events_viz_chunk.txt", "recordings/aertb_ncars_obj_004416_td.dat", "recordings/aertb_03263.bin"),
    *("event_samples/sample.aedat4", "event_samples/sample_stmnist.mat", "event_samples/sample_ncars.dat"),
    *("event_samples/sample_nmnist.bin", "dvs128_gesture/1.bs2", "dvs128_objects/session1/mouse.aedat"),
]
TXYP = {"column_order": "txyp"}


def sensor_for(path: Path) -> tuple[int, int, int] | None:
    return SENSOR if path.suffix in NAMELESS else None


@contextmanager
def suppress_if(message: str) -> Iterator[None]:
    """Let a DataError pass that says this."""
    try:
        yield
    except DataError as error:
        if not re.search(message, str(error)):
            raise


def joined(windows: Iterable[Window]) -> EventArray:
    return np.concatenate([np.empty(0, EVENT), *(window.events for window in windows)])


def windows_of(path: Path, recording: Recording, window_ms: float, block: int, **hints: Any) -> list[Window]:
    """Read a stream in blocks of so many bytes, and check what is true of all windows."""
    sensor = recording.sensor if recording.guessed else None
    with mock.patch.object(streams, "BLOCK", block), read_stream(path, window_ms, sensor, **hints) as stream:
        windows = list(stream)
    assert stream.sensor == recording.sensor
    start = int(recording.events["t"][0]) if len(recording.events) else 0
    for window in windows:
        t = window.events["t"]
        assert (window.start, window.duration) == (start, round(window_ms * 1000))
        assert window.sensor == recording.sensor
        assert not len(t) or (t.min() >= start and t.max() < start + window.duration)
        start += window.duration
    assert [window.partial for window in windows[:-1]] == [None] * (len(windows) - 1)
    assert np.array_equal(joined(windows), recording.events)
    return windows


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 60),
    step=st.sampled_from([1, 300, 30_000]),
    windows=st.floats(0.3, 100),
    block=st.one_of(st.integers(1, 200), st.integers(1, 20_000)),
)
@pytest.mark.parametrize("name", make.WRITERS)
def test_windows_are_the_recording(
    name: str,
    seed: int,
    count: int,
    step: int,
    windows: float,
    block: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    events = make.made(seed, count, step=step + 1)
    path = make.write(tmp_path_factory.getbasetemp() / name, events)
    # a first block of one event at 0.000 s would be one of microseconds
    hints = make.HINTS.get(name, {}) | ({"time_unit": "s"} if name == "plain.txt" else {})
    span = int(events["t"][-1] - events["t"][0])
    found = windows_of(path, read_events(path, **hints), max(span / windows / 1000, 0.001), block, **hints)
    assert make.rows(joined(found)) == make.rows(events)
    assert found[-1].partial is None


@real_data
@pytest.mark.parametrize("block", [997, 65_539, streams.BLOCK])
@pytest.mark.parametrize("name", REAL_FILES)
def test_real_recordings_are_what_they_are_as_a_whole(name: str, block: int) -> None:
    hints = TXYP if name.endswith(".txt") else {}
    with warnings.catch_warnings(record=True) as whole:
        warnings.simplefilter("always")
        recording = read_events(REAL / name, **hints)
    with warnings.catch_warnings(record=True) as parts:
        warnings.simplefilter("always")
        windows_of(REAL / name, recording, 7.3, block, **hints)
    # of one warning, two: what was assumed before the first window, what was left out after the last one
    said = "; ".join(str(each.message).removeprefix(f"{REAL / name}: ") for each in parts)
    assert [f"{REAL / name}: {said}"][: len(whole)] == [str(each.message) for each in whole]
    assert not said or whole


@real_data
def test_many_real_recordings() -> None:
    for path in sorted((REAL / "NMNIST").rglob("*.bin"))[::50]:
        windows_of(path, read_events(path), 11.0, 2000)


@pytest.mark.parametrize("name", make.STREAMS)
def test_a_cut_file_ends_where_it_ends_as_a_whole(name: str, tmp_path: Path) -> None:
    content = make.WRITERS[name](make.made(3))
    path = tmp_path / name
    hints = make.HINTS.get(name, {})
    partial = 0
    for length in {*range(1, len(content), 9), *range(len(content) - 12, len(content))}:
        path.write_bytes(content[:length])
        try:
            recording = read_events(path, **hints)
        except DataError as error:
            said = re.escape(str(error))
            with mock.patch.object(streams, "BLOCK", 64), pytest.raises(DataError, match=f"^{said}$"):
                list(read_stream(path, 3.0, sensor_for(path), **hints))
            continue
        windows = windows_of(path, recording, 3.0, 64, **hints)
        if windows:
            assert windows[-1].partial == recording.partial
            partial += recording.partial is not None
    assert partial > 0


@pytest.mark.parametrize("name", make.WRITERS)
def test_damage_is_found_as_in_the_whole(name: str, tmp_path: Path) -> None:
    """What is read as a whole is read as a stream; what is not is refused, if only after some windows."""
    random = np.random.default_rng(len(name))
    whole = make.WRITERS[name](make.made(1, count=200))
    path = tmp_path / name
    hints = make.HINTS.get(name, {})
    for _ in range(25):
        path.write_bytes(make.damaged(whole, random))
        try:
            recording = read_events(path, **hints)
        except DataError:
            with mock.patch.object(streams, "BLOCK", 300), pytest.raises((DataError, UsageError)):
                list(read_stream(path, LONGEST_MS, sensor_for(path), **hints))
            continue
        # tables are what their beginning is; times may be far apart
        with suppress_if("name the right one|name their unit|more than a million windows"):
            windows_of(path, recording, LONGEST_MS, 300, **hints)


GOOD = make.made(0, 99, step=1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"0.000001 1 2 1\n" * 99 + b"0.00002 1 x 1\n0.00003 1 2 1\n", "its line 100 is '0.00002 1 x 1', exp"),
        ("a.csv", b"# a\nt,x,y,p\n" + b"1,1,2,1\n" * 99 + b"2,1\n3,1,2,1\n", "its line 102 is '2,1', expected 4"),
        ("a.csv", b"t,x,y,p\n" + b"1,1,2,1\n" * 99 + b"0,1,2,1\n", "event 99 is at 0 us, before the 1 us of the one"),
        (
            "a.csv",
            b"t,x,y,p\n" + b"1,1,2,1\n" * 99 + b"1,7,77,1\n",
            "event 99 is at x = 7, y = 77, outside of a sensor",
        ),
        ("a.bin", bytes([1, 2, 0, 0, 1]) * 99 + bytes([1, 241, 0, 0, 1]), "it has events in row 241, but .bin files"),
        ("a.dat", make.dat(GOOD) + bytes([0, 0, 0, 0, 1, 0, 0, 0x70]), "it has polarities up to 7, expected 0 and 1"),
        ("a.aedat", make.aedat(GOOD) + bytes([0, 1, 0, 0, 0, 0, 0, 0]), "record 99 has the address 0x10000, which no"),
        ("a.aedat", make.aedat3(GOOD[:96]) + bytes(28), "the header of its packet at byte 1,033 is damaged"),
    ],
)
def test_what_is_wrong_further_on_is_said_with_its_place(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    hints = TXYP if name == "a.txt" else {}
    with pytest.raises(DataError, match=message) as whole:
        read_events(path, sensor_for(path), **hints)
    for block in (50, 300, 10**6):
        with (
            mock.patch.object(streams, "BLOCK", block),
            pytest.raises(DataError, match=f"^{re.escape(str(whole.value))}$"),
        ):
            list(read_stream(path, 0.001, sensor_for(path), **hints))


def test_windows_before_the_damage_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"t,x,y,p\n" + b"".join(b"%d,1,2,1\n" % t for t in range(1000)) + b"what\n5,1,2,1\n")
    found: list[Window] = []
    with mock.patch.object(streams, "BLOCK", 500), pytest.raises(DataError, match="its line 1,002 is 'what'"):
        found.extend(read_stream(path, 0.01, SENSOR))
    # list.extend keeps what came before the error
    assert 900 < len(joined(found)) < 1000
    assert joined(found)["t"].tolist() == list(range(len(joined(found))))


def test_damaged_archives_are_noticed(tmp_path: Path) -> None:
    events = make.made(0, 4000)
    for name, at in (("a.npz", 60_000), ("columns.h5", 60_000)):
        content = bytearray(make.WRITERS[name](events))
        content[at] ^= 1
        (tmp_path / name).write_bytes(content)
        with mock.patch.object(streams, "BLOCK", 2000), pytest.raises(DataError, match=name):
            list(read_stream(tmp_path / name, 1000.0, SENSOR))
    path = tmp_path / "fields.npy"
    path.write_bytes(make.npy(events)[:-13])
    with (
        mock.patch.object(streams, "BLOCK", 13_000),
        pytest.raises(DataError, match="its array ends after"),
    ):
        list(read_stream(path, 1000.0, SENSOR))


def test_empty_windows_let_time_go_on(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"t,x,y,p\n5,1,2,1\n1004,1,2,1\n1005,3,2,0\n5004,1,2,1\n5005,1,1,1\n")
    with read_stream(path, 1.0, SENSOR) as stream:
        found = [(window.start, window.events["t"].tolist()) for window in stream]
    # an event at the end of a window is in the next one
    assert found == [(5, [5, 1004]), (1005, [1005]), (2005, []), (3005, []), (4005, [5004]), (5005, [5005])]


@pytest.mark.parametrize("name", sorted(set(make.WRITERS) - {"a.bin", "a.bs2", "a.bag", "plain.txt"}))
def test_a_recording_without_events_has_no_windows(name: str, tmp_path: Path) -> None:
    path = make.write(tmp_path / name, make.made(count=0))
    if name in ("1.aedat", "2.aedat"):
        path.write_bytes(path.read_bytes() + b"#End Of ASCII Header\r\n")
    assert list(read_stream(path, 10.0, sensor_for(path))) == []


def test_a_pause_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"t,x,y,p\n1,1,2,1\n3000000001,1,2,1\n")
    with pytest.raises(DataError, match=r"event 1 is 3,000 s after the one before it, more than a million windows: re"):
        list(read_stream(path, 1.0, SENSOR))
    assert sum(1 for _ in read_stream(path, 100.0, SENSOR)) == 30_001


def test_tables_are_what_their_first_block_is(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with mock.patch.object(streams, "BLOCK", 100):
        path.write_text("t,x,y,p\n" + "1,1,2,1\n" * 99 + "1.5,1,2,1\n")
        with pytest.raises(DataError, match="begin with whole numbers and go on with decimals: name their unit by the"):
            list(read_stream(path, 1.0, SENSOR))
        windows_of(path, read_events(path, time_unit="ms"), 1.0, 100, time_unit="ms")
        path.write_text("t,x,y,p\n" + "0.5,1,2,1\n" * 99 + "1000.7,1,2,1\n")
        with pytest.raises(DataError, match=r"its times are decimals and span 1,000, too many to be seconds: name"):
            list(read_stream(path, 1000.0, SENSOR))
        path.write_text("t,x,y,p\n" + "1,1,2,0\n" * 99 + "1,1,2,-1\n")
        with pytest.raises(DataError, match="it has polarities 0 and 1, and further on -1 and 1"):
            list(read_stream(path, 1.0, SENSOR))
        path = tmp_path / "a.txt"
        path.write_text("1 2 1 1\n" * 99 + "2 1 30 1\n")
        with pytest.raises(DataError, match="name the right one by the setting column_order"):
            read_stream(path, 1.0, SENSOR)


def test_what_is_only_read_as_a_whole_is_refused_where_it_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "LARGEST_CHUNK", 20_000)
    monkeypatch.setattr(simple, "LARGEST_MATRIX", 1000)
    events = make.made(0, 1000)
    path = make.write(tmp_path / "columns.h5", events)  # in one chunk
    with pytest.raises(DataError, match=r"its chunks of 1,000 events are read as a whole: repack it, h5repack"):
        read_stream(path, 10.0, SENSOR)
    with h5py.File(path, "w") as file:
        for name in "xytp":
            file.create_dataset(name, data=events[name].astype(np.int64), chunks=(300 if name == "t" else 70,))
    windows_of(path, read_events(path), 10.0, 1000)
    path = make.write(tmp_path / "a.mat", events)
    with pytest.raises(DataError, match=r"a matrix is read as a whole: convert it, np\.save"):
        read_stream(path, 10.0)


def test_arrays_in_the_order_of_columns_are_read_in_rows(tmp_path: Path) -> None:
    events = make.made(3, 500, 200, 100)
    table = np.asfortranarray(np.array(make.rows(events)))
    np.save(tmp_path / "a.npy", table)
    np.savez_compressed(tmp_path / "a.npz", table)
    for path in tmp_path.iterdir():
        windows_of(path, read_events(path), 10.0, 3000)


def test_files_are_closed(tmp_path: Path) -> None:
    for name in make.WRITERS:
        path = make.write(tmp_path / name, make.made(0, 400))
        with (
            mock.patch.object(streams, "BLOCK", 500),
            read_stream(path, 10.0, sensor_for(path), **make.HINTS.get(name, {})) as stream,
        ):
            next(stream)
        assert list(stream) == []
    gc.collect()  # once: it takes longer than the rest
    opened = [target for each in Path("/proc/self/fd").iterdir() if (target := _target(each)) is not None]
    assert [target.name for target in opened if target.parent == tmp_path] == []


def _target(link: Path) -> Path | None:
    try:
        return link.resolve(strict=True)
    except OSError:
        return None


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for count in (500_000, 4_000_000):
        records = np.zeros((count, 5), np.uint8)
        t = np.arange(count) // (count // 8_000_000 + 1) % 2**23
        records[:, 0], records[:, 2], records[:, 3], records[:, 4] = t % 34, t >> 16, t >> 8 & 255, t & 255
        records.tofile(tmp_path / "a.bs2")
        tracemalloc.start()
        events = sum(len(window.events) for window in read_stream(tmp_path / "a.bs2", 10.0, SENSOR))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert events == count
    # the second file has 20 MB, and its events take 52
    assert max(peaks) < 2**24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0,), "window_ms must be at least 0.001 and at most 1,000,000,000, found 0.0"),
        ((0.0001,), "window_ms must be at least 0.001"),
        ((float("nan"),), "window_ms must be at least 0.001"),
        ((2e9,), "window_ms must be at least 0.001"),
        ((10.0,), r"a.csv names no sensor, which is not known before its end: give sensor, as \(2, 480, 640\)"),
    ],
)
def test_arguments_are_checked(arguments: tuple[Any, ...], message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"t,x,y,p\n5,1,2,1\n")
    with pytest.raises(UsageError, match=message):
        read_stream(path, *arguments)


def test_a_path_may_be_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,x,y,p\n100,1,2,1\n")
    [window] = read_stream(str(tmp_path / "a.csv"), 10.0, (2, 8, 8))
    assert window.events["x"].tolist() == [1]


def test_a_sensor_that_is_another_is_refused(tmp_path: Path) -> None:
    path = make.write(tmp_path / "2.aedat", make.made(0))
    with pytest.raises(DataError, match=r"of a sensor \(2, 128, 128\), expected \(2, 34, 34\)"):
        read_stream(path, 10.0, SENSOR)
    with pytest.raises(DataError, match=r"of a sensor \(1, 2, 3\), expected \(2, 34, 34\)"):
        read_stream(Camera("c", (1, 2, 3), iter([])), 10.0, SENSOR)
    with pytest.raises(UsageError, match=r"a sensor has 1 or 2 polarities, .*, as \(2, 480, 640\), found \(3, 2, 3\)"):
        read_stream([], 10.0, (3, 2, 3))


def theirs(events: EventArray, names: str, dtypes: str) -> np.ndarray:
    """Return events with the fields of another package, called as `names` says in the order t, x, y, p."""
    made = np.zeros(len(events), [*zip(names.split(), dtypes.split(), strict=True)])
    for name, mine in zip(names.split(), "txyp", strict=True):
        made[name] = events[mine]
    return made


@pytest.mark.parametrize(
    ("names", "dtypes"),
    [
        ("t x y p", "i8 u2 u2 i2"),  # Metavision's EventCD
        ("t x y on", "u8 u2 u2 ?"),  # faery, neuromorphic_drivers
        ("timestamp x y polarity", "i8 i2 i2 i1"),  # dv-processing
    ],
)
def test_arrays_of_other_packages_are_streams(names: str, dtypes: str) -> None:
    events = make.made(5, 300)
    batches = [theirs(part, names, dtypes) for part in np.split(events, [0, 7, 7, 200])]
    windows = list(read_stream(batches, 20.0, SENSOR))
    assert make.rows(joined(windows)) == make.rows(events)
    plain = [np.array(make.rows(events), np.int64)[:, [2, 0, 1, 3]]]
    assert np.array_equal(joined(read_stream(plain, 20.0, SENSOR, column_order="txyp")), events)
    with pytest.raises(DataError, match="the stream cannot be read: event 300 is at"):
        list(read_stream([*batches, batches[1]], 20.0, SENSOR))
    with pytest.raises(DataError, match=r"the stream cannot be read: it holds float64 \[3\], expected fields"):
        list(read_stream([np.zeros(3)], 20.0, SENSOR))
    with pytest.raises(UsageError, match="the stream names no sensor"):
        read_stream(batches, 20.0)


def test_a_stream_that_is_endless_is_read_as_it_comes() -> None:
    asked = 0

    def endless() -> Iterable[np.ndarray]:
        nonlocal asked
        while True:
            yield np.array([(1000 * asked, 1, 1, 1)], [(name, "i8") for name in "txyp"])
            asked += 1

    with read_stream(endless(), 1.0, SENSOR) as stream:
        for number in range(5):
            next(stream)
            assert asked == number + 1
