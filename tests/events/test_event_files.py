"""Every format against its reference reader and its literal bytes."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import event_bytes as make
from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.events._formats import aedat, common
from spiking_lfp.events.files import SUFFIXES, read_events
from spiking_lfp.events.records import EVENT, EventArray

REAL = Path(os.environ.get("SPIKING_LFP_DATA", ""))
real_data = pytest.mark.skipif(
    "SPIKING_LFP_DATA" not in os.environ, reason="needs SPIKING_LFP_DATA, a folder with real recordings"
)
SAMPLES = REAL / "event_samples"
RECORDINGS = REAL / "recordings"
# of AEDAT 3.1, whose writer puts a special event in front; what is said of others has its own tests
pytestmark = pytest.mark.filterwarnings("ignore:.*left out 1 special events:UserWarning")


def equal(events: EventArray, theirs: Any, polarity: str = "p") -> bool:
    return len(events) == len(theirs) and all(
        np.array_equal(events[name].astype(np.int64), theirs[polarity if name == "p" else name].astype(np.int64))
        for name in "xytp"
    )


@real_data
def test_nmnist_is_what_tonic_reads() -> None:
    from tonic.io import read_mnist_file

    dtype = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
    paths = [SAMPLES / "sample_nmnist.bin", *sorted((REAL / "NMNIST").rglob("*.bin"))]
    paths += sorted((REAL / "dvs128_gesture").glob("*.bs2"))
    assert len(paths) == 1 + 1100 + 7
    for path in paths:
        recording = read_events(path)
        assert equal(recording.events, read_mnist_file(path, dtype))
        assert recording.partial is None


@real_data
def test_dat_is_what_expelliarmus_reads() -> None:
    from expelliarmus import Wizard

    path = SAMPLES / "sample_ncars.dat"
    recording = read_events(path)
    assert equal(recording.events, Wizard(encoding="dat").read(path))
    assert (len(recording.events), recording.partial) == (2009, None)


@real_data
def test_aedat4_is_what_tonic_reads() -> None:
    from tonic.io import read_aedat4

    recording = read_events(SAMPLES / "sample.aedat4")
    assert equal(recording.events, read_aedat4(str(SAMPLES / "sample.aedat4")), "on")
    assert (len(recording.events), recording.sensor, recording.partial) == (111_954, (2, 240, 320), None)


@real_data
def test_st_mnist_is_the_taxels_of_its_matrix() -> None:
    from scipy.io import loadmat

    recording = read_events(SAMPLES / "sample_stmnist.mat")
    train = loadmat(SAMPLES / "sample_stmnist.mat")["spiketrain"]
    expected = [
        (taxel % 10, taxel // 10, int(train[100, column] * 1e6), int(train[taxel, column] > 0))
        for column in range(train.shape[1])
        for taxel in range(100)
        if train[taxel, column]
    ]
    assert make.rows(recording.events) == expected
    assert (len(expected), recording.sensor) == (2346, (2, 10, 10))


@real_data
def test_aedat_has_the_addresses_that_tonic_reads() -> None:
    from tonic.io import get_aer_events_from_file, read_aedat_header_from_file

    paths = sorted((REAL / "dvs128_objects").rglob("*.aedat"))
    assert len(paths) == 13
    for path in paths:
        version, start, _ = read_aedat_header_from_file(str(path))
        theirs = get_aer_events_from_file(str(path), version, start)
        recording = read_events(path)
        events = recording.events
        address = events["y"].astype(np.int64) << 8 | events["x"].astype(np.int64) << 1 | events["p"]
        assert np.array_equal(address, theirs["address"])
        assert np.array_equal(events["t"], theirs["timeStamp"])
        assert (recording.sensor, recording.partial) == ((2, 128, 128), None)


@real_data
def test_davis_recordings_are_what_tonic_reads() -> None:
    from tonic.io import get_aer_events_from_file, read_aedat_header_from_file

    sizes = {"davis_IMU_rotDisk": 374_296, "synth_RotatingBar": 45_000, "synth_TranslatingBarX": 10_000}
    for name, count in sizes.items():
        path = RECORDINGS / f"{name}.aedat"
        version, start, _ = read_aedat_header_from_file(str(path))
        theirs = get_aer_events_from_file(str(path), version, start)
        address, t = theirs["address"].astype(np.int64), theirs["timeStamp"]
        is_event = (address >> 31 == 0) & (address >> 10 & 1 == 0)
        assert is_event.sum() == count
        hints = {} if name.startswith("davis") else {"chip": "davis240"}
        recording = read_events(path, **hints)
        assert np.array_equal(recording.events["x"], 239 - (address[is_event] >> 12 & 0x3FF))
        assert np.array_equal(recording.events["y"], 179 - (address[is_event] >> 22 & 0x1FF))
        assert np.array_equal(recording.events["p"], address[is_event] >> 11 & 1)
        assert np.array_equal(recording.events["t"], t[is_event])
        assert (recording.sensor, recording.partial) == ((2, 180, 240), None)


@real_data
def test_a_dvs128_without_its_name_is_said_to_be_one() -> None:
    from tonic.io import get_aer_events_from_file, read_aedat_header_from_file

    path = RECORDINGS / "dvs128_rotated_cam255_right_clamp_test1.aedat"
    version, start, _ = read_aedat_header_from_file(str(path))
    theirs = get_aer_events_from_file(str(path), version, start)
    is_event = theirs["address"] >> 15 & 1 == 0
    said = "it names no chip and is read as of a DVS128, see the setting chip; left out 318 records of external signals"
    with pytest.warns(UserWarning, match=said):
        recording = read_events(path)
    assert (~is_event).sum() == 318
    assert np.array_equal(recording.events["x"], theirs["address"][is_event] >> 1 & 127)
    assert np.array_equal(recording.events["t"], theirs["timeStamp"][is_event])
    # a chip that is named is not assumed
    with pytest.warns(UserWarning, match="aedat: left out 318 records"):
        read_events(path, chip="DVS128")


@real_data
def test_a_chip_that_contradicts_the_file_is_refused() -> None:
    path = RECORDINGS / "davis_IMU_rotDisk.aedat"
    assert read_events(path, chip="davis240").sensor == (2, 180, 240)  # its DAVIS240C by another name
    said = r"rotDisk.aedat cannot be read: it names the chip DAVIS240\w, but chip is dvs128: set chip=DAVIS240"
    with pytest.raises(DataError, match=said):
        read_events(path, chip="dvs128")


def test_a_chip_that_contradicts_aedat_3_is_refused(tmp_path: Path) -> None:
    path = make.write(tmp_path / "3.aedat", make.made(2))
    assert read_events(path, chip="dvs128").sensor == (2, 128, 128)
    with pytest.raises(DataError, match="it names the chip DVS128, but chip is davis346: set chip=DVS128, leave it"):
        read_events(path, chip="davis346")


@real_data
def test_raw_is_what_expelliarmus_reads() -> None:
    from expelliarmus import Wizard

    path = RECORDINGS / "exp_evt2_sample.raw"
    recording = read_events(path)
    assert equal(recording.events, Wizard(encoding="evt2").read(path))
    assert (len(recording.events), recording.sensor, recording.partial) == (539_481, (2, 480, 640), None)
    path = RECORDINGS / "exp_evt3_sample.raw"
    theirs = Wizard(encoding="evt3").read(path)
    recording = read_events(path)
    assert all(np.array_equal(recording.events[name], theirs[name]) for name in "xyp")
    # expelliarmus takes a low time below the one before for an overflow, though overflows have words of their own
    assert set((theirs["t"] - recording.events["t"]) // 4096) == set(range(12))
    assert not ((theirs["t"] - recording.events["t"]) % 4096).any()
    assert np.array_equal(recording.events["t"], evt3_times(path.read_bytes()))
    assert (len(recording.events), recording.sensor, recording.partial) == (219_596, (2, 720, 1280), None)
    assert equal(read_events(RECORDINGS / "exp_evt3_sample.npy").events, theirs)


def evt3_times(content: bytes) -> list[int]:
    """Times of events by the manufacturer's description, word by word."""
    start = content.index(b"\n", content.index(b"% system_ID")) + 1
    high, low, times = 0, 0, []
    for word in np.frombuffer(content, "<u2", (len(content) - start) // 2, start).tolist():
        kind, value = word >> 12, word & 0xFFF
        if kind == 8:
            high = value
        elif kind == 6:
            low = value
        times += [high << 12 | low] * {2: 1, 4: value.bit_count(), 5: (value & 0xFF).bit_count()}.get(kind, 0)
    return times


@real_data
def test_lines_are_what_numpy_reads() -> None:
    path = RECORDINGS / "events_viz_chunk.txt"
    t, x, y, p = np.loadtxt(path).T
    theirs = {"x": x, "y": y, "t": np.rint(t * 1e6), "p": p}
    recording = read_events(path)
    assert all(np.array_equal(recording.events[name], theirs[name]) for name in "xytp")
    assert (len(recording.events), recording.sensor) == (50_000, (2, 180, 240))


@real_data
def test_a_file_of_many_recordings_is_none() -> None:
    with pytest.raises(DataError, match=r"it has 40 tables of events, 0/00004, 0/00011, 0/00014 \.\.\.: expected one"):
        read_events(RECORDINGS / "aertb_Bond_TEST.h5")


@real_data
def test_a_header_alone_is_an_error() -> None:
    with pytest.raises(DataError, match=r"aedat_header.aedat cannot be read: it has no event after its header of 599"):
        read_events(SAMPLES / "sample_aedat_header.aedat")


def test_a_davis_is_what_tonic_reads(tmp_path: Path) -> None:
    from tonic.io import read_davis_346

    random = np.random.default_rng(0)
    header = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.Davis346red\r\n"
    x, y, p = random.integers(0, 346, 50), random.integers(0, 260, 50), random.integers(0, 2, 50)
    # the first begins like a line of the header
    y[0] = 0x23 << 2
    words = np.stack([y << 22 | x << 12 | p << 11, np.arange(50)], 1).astype(">u4")
    (tmp_path / "a.aedat").write_bytes(header + b"#End Of ASCII Header\r\n" + words.tobytes())
    found = read_events(tmp_path / "a.aedat")
    assert make.rows(found.events) == list(zip(345 - x, 259 - y, range(50), p, strict=True))
    assert found.sensor == (2, 260, 346)
    (tmp_path / "a.aedat").write_bytes(header + words[1:].tobytes())
    assert equal(read_events(tmp_path / "a.aedat").events, read_davis_346(str(tmp_path / "a.aedat"))[2])


def test_aedat3_is_what_tonic_reads(tmp_path: Path) -> None:
    from tonic.io import get_aer_events_from_file, read_aedat_header_from_file

    events = make.made(5, width=128, height=128)
    path = make.write(tmp_path / "3.aedat", events)
    version, start, _ = read_aedat_header_from_file(str(path))
    # of what kind a packet is tonic does not ask: the first one holds a special event
    address = get_aer_events_from_file(str(path), version, start)["address"][1:].astype(np.int64)
    found = read_events(path).events
    assert np.array_equal(found["x"], address >> 17 & 0x1FFF)
    assert np.array_equal(found["y"], address >> 2 & 0x1FFF)
    assert np.array_equal(found["p"], address >> 1 & 1)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), step=st.sampled_from([0, 1, 300, 100_000]))
@pytest.mark.parametrize("name", make.WRITERS)
def test_what_is_written_is_read(
    name: str, seed: int, count: int, step: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    events = make.made(seed, count, step=step + 1)
    recording = read_events(make.write(tmp_path_factory.getbasetemp() / name, events), **make.HINTS.get(name, {}))
    assert make.rows(recording.events) == make.rows(events)
    assert recording.partial is None
    assert recording.events.dtype == EVENT


@pytest.mark.parametrize("name", sorted(set(make.WRITERS) - {"a.bin", "a.bs2", "a.bag", "plain.txt"}))
def test_a_whole_file_without_events_is_read(name: str, tmp_path: Path) -> None:
    path = make.write(tmp_path / name, make.made(count=0))
    if name in ("1.aedat", "2.aedat"):
        # what says that the header is whole
        path.write_bytes(path.read_bytes() + b"#End Of ASCII Header\r\n")
    recording = read_events(path)
    assert (len(recording.events), recording.partial) == (0, None)


def test_n_mnist_bytes(tmp_path: Path) -> None:
    # an overflow lets 8,192 us pass, for all that follow
    content = bytes([3, 7, 0x80 | 0x12, 0x34, 0x56, 5, 240, 0, 0, 0, 33, 0, 0x12, 0x34, 0x57, 5, 240, 0, 0, 0])
    content += bytes([1, 2, 0x12, 0x34, 0x57])
    (tmp_path / "a.bin").write_bytes(content)
    later = 0x123457 + 8192
    expected = [(3, 7, 0x123456, 1), (33, 0, later, 0), (1, 2, later + 8192, 0)]
    assert make.rows(read_events(tmp_path / "a.bin").events) == expected
    (tmp_path / "b.bin").write_bytes(bytes([3, 241, 0, 0, 0]))
    with pytest.raises(DataError, match=r"it has events in row 241, but .bin files have rows up to 239"):
        read_events(tmp_path / "b.bin")
    # SLAYER's files have no overflows, and rows up to 255
    (tmp_path / "b.bs2").write_bytes(bytes([3, 240, 0x80, 0, 1, 255, 255, 0, 0, 2]))
    assert make.rows(read_events(tmp_path / "b.bs2").events) == [(3, 240, 1, 1), (255, 255, 2, 0)]


def test_aedat_2_bytes(tmp_path: Path) -> None:
    def written(name: str, head: bytes, *words: tuple[int, int]) -> Path:
        content = b"".join(a.to_bytes(4, "big") + t.to_bytes(4, "big") for a, t in words)
        (tmp_path / name).write_bytes(head + content)
        return tmp_path / name

    head = b"#!AER-DAT2.0\n# AEChip: DVS128\n#End Of ASCII Header\n"
    # the second is a signal from outside, the third a special event; times wrap around
    words = ((0x7E03, 0xFFFFFFFE), (0x8000, 0xFFFFFFFF), (0x80000002, 0xFFFFFFFF), (0x0102, 0x00000001))
    with pytest.warns(UserWarning, match="a.aedat: left out 2 records of external signals or special events$"):
        found = read_events(written("a.aedat", head, *words))
    assert make.rows(found.events) == [(1, 126, 2**32 - 2, 1), (1, 1, 2**32 + 1, 0)]
    with pytest.raises(DataError, match="record 1 has the address 0x400102, which no DVS128 has"):
        read_events(written("a.aedat", head, (0x102, 1), (0x400102, 2)))
    davis = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n"
    words = ((5 << 22 | 9 << 12 | 1 << 11, 4), (1 << 31 | 3, 5), (2 << 22 | 1 << 10, 6), (179 << 22 | 239 << 12, 7))
    with pytest.warns(UserWarning, match="left out 1 records of external signals"):
        found = read_events(written("b.aedat", davis, *words))
    assert found.sensor == (2, 180, 240)
    assert make.rows(found.events) == [(239 - 9, 179 - 5, 4, 1), (0, 0, 7, 0)]
    # an event that is, byte for byte, a line of text
    found = read_events(written("b.aedat", davis + b"#End Of ASCII Header\r\n", (0x23412020, 0x2020200A)))
    assert make.rows(found.events) == [(239 - 18, 179 - 141, 0x2020200A, 0)]


def test_aedat_3_bytes(tmp_path: Path) -> None:
    frames = make.packet([(0, 0)] * 3, kind=2)
    # the second event is marked as not valid, and the second packet is 2^31 us later
    first = make.packet([(5 << 17 | 6 << 2 | 2 | 1, 7), (9 << 17, 8), (127 << 17 | 127 << 2 | 1, 9)])
    content = frames + first + make.packet([(1 << 2 | 1, 3)], overflows=1)
    (tmp_path / "a.aedat").write_bytes(make.AEDAT3_HEADER + content)
    found = read_events(tmp_path / "a.aedat")
    assert make.rows(found.events) == [(5, 6, 7, 1), (127, 127, 9, 0), (0, 1, 2**31 + 3, 0)]
    assert found.sensor == (2, 128, 128)
    (tmp_path / "a.aedat").write_bytes(make.AEDAT3_HEADER.replace(b"DVS128", b"eDVS") + content)
    assert read_events(tmp_path / "a.aedat").sensor == (2, 128, 128)
    assert read_events(tmp_path / "a.aedat", (2, 200, 300)).sensor == (2, 200, 300)


def test_event_stream_bytes(tmp_path: Path) -> None:
    stream = b"Event Stream\x02\x00\x00\x01\x40\x01\xf0\x00" + bytes(
        [0x07, 0x3F, 0x01, 0x02, 0x00, 0xFF, 0xFE, 0x08, 1, 0, 0xEF, 0]
    )
    (tmp_path / "a.es").write_bytes(stream)
    found = read_events(tmp_path / "a.es")
    assert (found.sensor, make.rows(found.events)) == ((2, 240, 320), [(319, 2, 3, 1), (1, 239, 3 + 127 + 4, 0)])
    atis = b"Event Stream\x02\x00\x00\x02\x40\x01\xf0\x00" + bytes(
        [5 << 2 | 2, 1, 0, 2, 0, 0xFE, 1 << 2 | 1, 9, 0, 9, 0, 0xFC, 2 << 2, 3, 0, 4, 0]
    )
    (tmp_path / "b.es").write_bytes(atis)
    # the measurement of exposure is left out, its time is not
    assert make.rows(read_events(tmp_path / "b.es").events) == [(1, 2, 5, 1), (3, 4, 5 + 126 + 1 + 2, 0)]


def test_dat_bytes(tmp_path: Path) -> None:
    head = b"% Version 2\n% Height 240\n% Width 304\n\x0c\x08"
    (tmp_path / "a.dat").write_bytes(
        head + bytes([255, 255, 255, 255, 0x05, 0x80, 0x01, 0x10, 1, 0, 0, 0, 0x2F, 1, 0, 0])
    )
    found = read_events(tmp_path / "a.dat")
    # times wrap around
    assert (found.sensor, make.rows(found.events)) == ((2, 240, 304), [(5, 6, 2**32 - 1, 1), (303, 0, 2**32 + 1, 0)])
    (tmp_path / "a.dat").write_bytes(head + bytes([1, 0, 0, 0, 0x05, 0x80, 0x01, 0x30]))
    with pytest.raises(DataError, match="it has polarities up to 3, expected 0 and 1"):
        read_events(tmp_path / "a.dat")


def test_arrays_in_other_forms(tmp_path: Path) -> None:
    events = make.made(1)
    signed = np.array(make.rows(events), np.int32)
    signed[:, 3] = 2 * signed[:, 3] - 1
    np.save(tmp_path / "b.npy", signed)
    assert make.rows(read_events(tmp_path / "b.npy").events) == make.rows(events)
    fields = np.zeros(len(events), [("t", "<u8"), ("p", "u1"), ("more", "f4"), ("y", ">u2"), ("x", "i4")])
    for name in "xytp":
        fields[name] = events[name]
    np.save(tmp_path / "a.npy", fields)
    assert make.rows(read_events(tmp_path / "a.npy").events) == make.rows(events)
    t_max = np.zeros(1, [(name, "u8") for name in "xytp"])
    t_max["t"] = 2**64 - 1
    for wrong, message in (
        (signed + 0.5, "its x are decimals, expected whole numbers"),
        (signed.astype(str), r"expected fields x, y, t, p or numbers \[N, 4\]"),
        (signed[:, :3], r"expected fields x, y, t, p or numbers \[N, 4\]"),
        (np.zeros(3, [(name, "u1") for name in "xyt"]), "expected fields x, y, t, p"),
        (np.zeros(3, [(name, "u1", 2) for name in "xytp"]), r"its x are uint8 \[3, 2\]"),
        (signed * 10**6, "it has polarities from -1000000"),
        (signed * (-1, 1, 1, 1), r"it has x from -\d to 0, expected 0 to 32767"),
        (signed[::-1], "before the"),
        # in the order t, x, y, p of POKER-DVS
        (signed[:, [2, 0, 1, 3]], "before the|it has x from"),
        (np.where(np.arange(4) == 3, 7, signed), "polarities from 7 to 7"),
        (np.concatenate([signed, signed[-1:] * (1, 1, 1, 0)]), "polarities from -1 to 1"),
        (t_max, "its times, up to 1.84e\\+19, are too large for microseconds: name their unit"),
    ):
        np.save(tmp_path / "c.npy", wrong)
        with pytest.raises(DataError, match=message):
            read_events(tmp_path / "c.npy", column_order="xytp")


def test_the_sensor_is_that_of_the_file_or_the_one_named(tmp_path: Path) -> None:
    path = make.write(tmp_path / "a.bin", make.made(2, width=20, height=10))
    assert read_events(path).sensor == (2, 10, 20)
    assert read_events(path, (2, 34, 34)).sensor == (2, 34, 34)
    with pytest.raises(DataError, match=r"a.bin cannot be read: event \d+ is at x = \d+, y = \d+, outside of a sensor"):
        read_events(path, (2, 5, 34))
    aedat = make.write(tmp_path / "2.aedat", make.made(2))
    assert read_events(aedat, (2, 128, 128)).sensor == (2, 128, 128)
    with pytest.raises(DataError, match=r"of a sensor \(2, 128, 128\), expected \(2, 34, 34\)"):
        read_events(aedat, (2, 34, 34))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has the suffix '.avi': recordings end in .bin, "):
        read_events(tmp_path / "a.avi")
    for suffix in SUFFIXES:
        with pytest.raises(DataError, match=r"cannot read .*No such file"):
            read_events(tmp_path / f"a{suffix}")
        (tmp_path / f"b{suffix}").mkdir()
        with pytest.raises(DataError, match=r"cannot (be )?read"):
            read_events(tmp_path / f"b{suffix}")


def test_without_its_package_a_format_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(common, "import_module", missing)
    monkeypatch.setattr(aedat, "_count_packets", lambda content: (0, None))
    (tmp_path / "a.aedat4").write_bytes(b"#!AER-DAT4.0\r\nabc")
    (tmp_path / "a.mat").write_bytes(b"abc")
    (tmp_path / "a.bag").write_bytes(b"abc")
    for name, package, extra in (
        ("a.aedat4", "aedat", "events"),
        ("a.mat", "scipy", "events"),
        ("a.bag", "rosbags", "ros"),
    ):
        with pytest.raises(UsageError, match=rf"{package} is not installed: pip install 'spiking-lfp\[{extra}\]'"):
            read_events(tmp_path / name)
    # the others need nothing
    for name in set(make.WRITERS) - {"a.mat", "a.bag"}:
        assert len(read_events(make.write(tmp_path / name, make.made(1))).events) == 40
