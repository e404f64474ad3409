"""What damage does to every format: an error that names the file, or events that are sane."""

import faulthandler
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers import event_bytes as make
from spiking_lfp.errors import DataError
from spiking_lfp.events.files import SUFFIXES, read_events
from spiking_lfp.events.records import Recording

SAMPLES = Path(os.environ.get("SPIKING_LFP_DATA", "")) / "event_samples"
# what is left out of a file, and what was assumed, has its own tests
pytestmark = pytest.mark.filterwarnings("ignore:.*(left out|names no chip):UserWarning")
real_data = pytest.mark.skipif(
    "SPIKING_LFP_DATA" not in os.environ, reason="needs SPIKING_LFP_DATA, a folder with real recordings"
)
# of each format; more of them take longer and find no more, but now and then
CASES = int(os.environ.get("SPIKING_LFP_DAMAGE_CASES", "30"))
REAL = [
    *("recordings/exp_evt2_sample.raw", "recordings/exp_evt3_sample.raw", "recordings/davis_IMU_rotDisk.aedat"),
    *("recordings/dvs128_rotated_cam255_right_clamp_test1.aedat", "recordings/events_viz_chunk.txt"),
    *("event_samples/sample.aedat4", "event_samples/sample_stmnist.mat", "recordings/aertb_ncars_obj_004416_td.dat"),
]
# of sample.aedat4: where its packets begin and end
AEDAT4_PACKETS = (2334, 945_243)


def sane_or_refused(path: Path, name: str = "") -> Recording | None:
    """Read what may be damaged: every error but this one fails the test."""
    try:
        recording = read_events(path, **make.HINTS.get(name, {}))
    except DataError as error:
        said = str(error)
        assert str(path) in said
        assert "\n" not in said
        return None
    _, height, width = recording.sensor
    for name, size in (("x", width), ("y", height)):
        assert ((recording.events[name] >= 0) & (recording.events[name] < size)).all()
    assert (np.diff(recording.events["t"]) >= 0).all()
    return recording


@pytest.mark.parametrize("name", make.SIZES)
def test_a_cut_file_gives_its_whole_events_and_says_so(name: str, tmp_path: Path) -> None:
    events = make.made(3)
    whole = make.WRITERS[name](events)
    size, header = make.SIZES[name]
    path = tmp_path / name
    for length in range(header + size, len(whole)):
        path.write_bytes(whole[:length])
        recording = read_events(path)
        count, rest = divmod(length - header, size)
        assert make.rows(recording.events) == make.rows(events[:count])
        said = f"the last {rest} of {length:,} bytes are not a complete event of {size} bytes" if rest else None
        assert recording.partial == said


@pytest.mark.parametrize("name", make.WRITERS)
def test_a_file_cut_anywhere_gives_its_first_events_or_an_error(name: str, tmp_path: Path) -> None:
    events = make.made(3)
    whole = make.WRITERS[name](events)
    path = tmp_path / name
    counts = {}
    for length in range(1, len(whole), 1 if len(whole) < 2000 else 37):
        path.write_bytes(whole[:length])
        recording = sane_or_refused(path, name)
        if recording is not None:
            counts[length] = len(recording.events)
            assert make.rows(recording.events) == make.rows(events[: len(recording.events)])
    # formats of records lose the last one only, others say how many there are and are not read at all
    assert set(counts.values()) >= set(range(1, len(events))) if name in make.STREAMS else not counts


def test_a_cut_aedat3_says_what_is_missing(tmp_path: Path) -> None:
    whole = make.aedat3(make.made(3, count=20))
    for cut, events, message in (
        (5, 19, "of the 4 events of its last packet only 3 are there"),
        (32 + 20, 16, "the last 8 of 261 bytes are not a complete packet"),
    ):
        (tmp_path / "a.aedat").write_bytes(whole[:-cut])
        recording = read_events(tmp_path / "a.aedat")
        assert (len(recording.events), recording.partial) == (events, message)


@real_data
def test_a_cut_aedat4_gives_its_whole_packets(tmp_path: Path) -> None:
    whole = (SAMPLES / "sample.aedat4").read_bytes()
    events = read_events(SAMPLES / "sample.aedat4").events
    path = tmp_path / "a.aedat4"
    before = 0
    for length in (10_291, 10_292, 100_000, 500_000, AEDAT4_PACKETS[1] - 1):
        path.write_bytes(whole[:length])
        recording = read_events(path)
        assert before <= len(recording.events) <= len(events)
        assert np.array_equal(recording.events, events[: len(recording.events)])
        assert f"of {length:,} bytes are not a complete packet" in str(recording.partial)
        before = len(recording.events)
    assert before > 110_000
    # of the table behind the packets nothing is needed
    path.write_bytes(whole[: AEDAT4_PACKETS[1] + 10])
    assert np.array_equal(read_events(path).events, events)
    assert read_events(path).partial is None
    for length in (14, 17, 300, AEDAT4_PACKETS[0], AEDAT4_PACKETS[0] + 100):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"its header is truncated|its packets end at byte 2,334, expected 945,243"):
            read_events(path)


@real_data
def test_a_damaged_aedat4_does_not_end_the_process(tmp_path: Path) -> None:
    # each of these made the decoder abort or panic, which no except in this process would see
    whole = (SAMPLES / "sample.aedat4").read_bytes()
    for at, bit in ((262, 7), (900, 7), (2300, 7), (18, 5), (36, 0), (42, 3), (2342, 2), (2338, 7)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << bit
        (tmp_path / f"{at}.aedat4").write_bytes(flipped)
    code = (
        "import sys; from pathlib import Path\n"
        "from spiking_lfp.errors import DataError\n"
        "from spiking_lfp.events.files import read_events\n"
        "for path in Path(sys.argv[1]).iterdir():\n"
        "    try: read_events(path)\n"
        "    except DataError: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["refused"] * 8), done.stderr[-2000:]


@real_data
@settings(max_examples=40)
@given(data=st.data())
@pytest.mark.parametrize("name", ["sample.aedat4", "sample_stmnist.mat", "sample_ncars.dat", "sample_nmnist.bin"])
def test_real_files_that_are_damaged(name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = (SAMPLES / name).read_bytes()
    path = tmp_path_factory.getbasetemp() / f"damaged{Path(name).suffix}"
    if data.draw(st.booleans()):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        recording = sane_or_refused(path)
        events = read_events(SAMPLES / name).events
        assert recording is None or np.array_equal(recording.events, events[: len(recording.events)])
        return
    at = data.draw(st.one_of(st.integers(0, 3000), st.integers(0, len(whole) - 1)))
    flipped = bytearray(whole)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(flipped)
    sane_or_refused(path)


@settings(max_examples=150)
@given(seed=st.integers(0, 5), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@pytest.mark.parametrize("name", make.WRITERS)
def test_a_flipped_bit_is_noticed_or_leaves_a_sane_recording(
    name: str, seed: int, place: float, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(make.WRITERS[name](make.made(seed)))
    content[int(place * len(content))] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / f"flipped{Path(name).suffix}"
    path.write_bytes(content)
    sane_or_refused(path, name)


@pytest.fixture
def watchdog() -> Iterator[None]:
    """End the process with a traceback if a test hangs, also where it does not come back to Python."""
    faulthandler.dump_traceback_later(60 + CASES, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.usefixtures("watchdog")
@pytest.mark.parametrize("name", make.WRITERS)
def test_damage_of_all_kinds(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    random = np.random.default_rng(zlib.crc32(name.encode()))
    wholes = [make.WRITERS[name](make.made(seed, count=count)) for seed, count in ((0, 40), (1, 400))]
    read = 0
    for case in range(CASES):
        path.write_bytes(make.damaged(wholes[case % 2], random))
        read += sane_or_refused(path, name) is not None
    assert read < CASES


@real_data
@pytest.mark.usefixtures("watchdog")
@pytest.mark.parametrize("name", REAL)
def test_damage_of_all_kinds_to_real_files(name: str, tmp_path: Path) -> None:
    whole = (SAMPLES.parent / name).read_bytes()[:200_000]
    path = tmp_path / Path(name).name
    random = np.random.default_rng(zlib.crc32(name.encode()))
    for _ in range(CASES):
        path.write_bytes(make.damaged(whole, random))
        sane_or_refused(path)


@pytest.mark.parametrize("name", ["2.aedat", "3.aedat", "a.dat"])
def test_the_highest_bit_of_a_time_is_no_wrap(name: str, tmp_path: Path) -> None:
    content = bytearray(make.WRITERS[name](make.made(3)))
    # of the fifth time from the end
    at = len(content) - 40 + {"2.aedat": 4, "3.aedat": 7, "a.dat": 3}[name]
    content[at] ^= 0x80
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="before the"):
        read_events(tmp_path / name)


@settings(max_examples=100)
@given(content=st.binary(min_size=1, max_size=300))
@example(content=b"PK\x03\x04")
@example(content=b"\n")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_garbage(suffix: str, content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / f"garbage{suffix}"
    path.write_bytes(content)
    sane_or_refused(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_file(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"")
    with pytest.raises(DataError, match=rf"a{suffix} cannot be read: it is empty; replace or remove it"):
        read_events(tmp_path / f"a{suffix}")


def packets(**changed: int) -> bytes:
    """AEDAT 3.1 with one packet of one event, whose header has other values."""
    header = {"kind": 1, "source": 1, "size": 8, "offset": 4, "overflows": 0, "capacity": 1, "count": 1, "valid": 1}
    numbers = {**header, **changed}
    sizes = {"kind": 2, "source": 2}
    written = (value.to_bytes(sizes.get(name, 4), "little", signed=True) for name, value in numbers.items())
    return make.AEDAT3_HEADER + b"".join(written) + bytes([1, 0, 0, 0, 5, 0, 0, 0])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.aedat", b"#!AER-DAT1.5\r\nabcdefgh", r"begins with '#!AER-DAT1.5', expected #!AER-DAT and 1.0, 2.0, 3.1"),
        # names are compared as a whole: neither of them has the addresses of a DVS128
        (
            "a.aedat",
            b"#!AER-DAT2.0\r\n# AEChip: a.DVS1280\r\nabcdefgh",
            "from the chip 'DVS1280', supported are dvs128",
        ),
        ("a.aedat", b"#!AER-DAT2.0\r\n# AEChip: CDVS128b\r\nabcdefgh", "from the chip 'CDVS128b', supported are"),
        (
            "a.aedat",
            b"#!AER-DAT1.0\r\n# AEChip: DAVIS240C\r\nabcdef",
            "16-bit addresses of AEDAT 1.0, which no DAVIS240C",
        ),
        ("a.aedat", b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n# Hardware", "its header has no end"),
        ("a.aedat", b"#!AER-DAT2.0\r\n# a\r\n", "no event after its header of 19 bytes"),
        ("a.aedat", b"#!AER-DAT2.0\r\n a\r\n#End Of ASCII Header\r\n" + bytes(8), "a line at byte 14 does not begin"),
        ("a.aedat", make.AEDAT3_HEADER[:-16] + bytes(36), "its header has no end"),
        ("a.aedat", packets(size=16, capacity=0), "the header of its packet at byte 61 is damaged"),
        ("a.aedat", packets(count=-1, capacity=-1), "the header of its packet at byte 61 is damaged"),
        ("a.aedat", packets(size=16), "events of its packet at byte 61 take 16 bytes, expected 8"),
        ("a.aedat", make.AEDAT3_HEADER + bytes(20), "no complete event after its header of 61 bytes"),
        ("a.aedat4", b"#!AER-DAT4.1\r\n", "expected #!AER-DAT and"),
        ("a.aedat4", b"#!AER-DAT4.0\r\nabc", "its header is truncated"),
        ("a.dat", b"abcdefgh" * 3, "expected a header of lines that begin with %"),
        ("a.dat", b"% Version 2\n\x0c\x10abcdefgh", "events are of type 12 and 16 bytes, expected 0 or 12 and 8"),
        ("a.dat", b"% Version 2\n\x0e\x08abcdefgh", "events are of type 14 and 8 bytes"),
        ("a.dat", b"% Version 1\n\x00\x08abcdefgh", "names version 1, expected version 2"),
        ("a.dat", b"% Data\n\x00\x08abcdefgh", "names no version, expected version 2"),
        ("a.dat", b"% Version 2\n\x00", "nothing after its header of 12 bytes"),
        ("a.raw", b"abcdefgh", "expected a header of lines that begin with %"),
        ("a.raw", b"% evt 4.0\n% end\nabcd", "names the encoding EVT4.0, expected evt 2.0, 2.1 or 3.0"),
        ("a.raw", b"% format HISTO3D;width=320\n% end\n", "names the encoding HISTO3D, expected evt"),
        ("a.raw", b"% geometry 4x4\n% end\n", "names no encoding"),
        ("a.raw", b"% evt 2.1\n% endianness big\n% end\n", "the endianness big, expected little or legacy"),
        ("a.raw", b"% evt 2.0\n% end\n\x01\x02\x03\x04", "no event with a time after its header of 16 bytes"),
        ("a.txt", b"hello\n1 2 3 1\n", "begins with 'hello', expected names of the columns"),
        ("a.txt", b"1 2 3\n", "its lines have 3 numbers, expected 4"),
        ("a.txt", b"1 2 3 1\n1 2 3\n1 2 3 1\n", "its line 2 is '1 2 3', expected 4 numbers"),
        ("a.txt", b"1 2 3 nan\n1 2 3 1\n", "expected"),
        ("a.csv", b"x,y,t,ts,p\n1,2,3,3,1\n", "its columns t and ts could both be t: rename one"),
        ("a.csv", b"x,y,t,p\n1,2.5,3,1\n", "its y are decimals, expected whole numbers"),
        (
            "a.csv",
            b"x,y,t,p\n1,2,0.5,1\n1,2,2000.5,1\n",
            "its times are decimals and span 2,000, too many to be seconds",
        ),
        ("a.npz", b"abcdefgh" * 3, "NumPy says"),
        ("a.bag", b"abcdefgh" * 3, "rosbags says"),
        ("a.es", b"Event Stream\x01\x00\x00\x01abcdefgh", "version 1, type 1"),
        ("a.es", b"Event Stream\x02\x00\x00\x04abcdefgh", "version 2, type 4"),
        ("a.es", b"Event Stream\x02\x00\x00\x01abc", "its header has 19 bytes, expected 20"),
        ("a.es", b"Event stream" * 2, "begins with b'Event stream'"),
        ("a.npy", b"abcdefgh" * 3, "NumPy says"),
        ("a.h5", b"abcdefgh" * 3, "HDF5 says"),
        ("a.mat", b"abcdefgh" * 30, "scipy says|no variable spiketrain"),
        ("a.bin", b"abc", "it has 3 bytes, expected at least 5"),
    ],
)
def test_what_is_wrong_is_said(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    # what a setting would settle is no reason to remove the file
    rest = "(; replace or remove it|by the setting [a-z_]+)$"
    with pytest.raises(DataError, match=rf"{name} cannot be read: .*({message}).*{rest}"):
        read_events(tmp_path / name)


def test_an_archive_of_arrays_is_no_recording(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", make.made())
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(DataError, match="NumPy says: the magic string is not correct"):
        read_events(tmp_path / "a.npy")


def test_hdf5_of_other_forms(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    for columns, message in (
        ({"events/x": [1], "events/y": [1], "events/t": [1]}, "it has no events: expected one group with data sets x"),
        ({"events/x": [1, 2], "events/y": [1], "events/t": [1], "events/p": [1]}, "its columns have the shapes"),
        ({"events/x": [1.5], "events/y": [1], "events/t": [1], "events/p": [1]}, "its x are decimals, expected whole"),
        (
            {f"{eye}/{name}": [1] for eye in ("left", "right") for name in "xytp"},
            "it has 2 tables of events, left, right",
        ),
        ({"other": [1]}, "it has no events"),
    ):
        with h5py.File(path, "w") as file:
            for name, column in columns.items():
                file[name] = column
        with pytest.raises(DataError, match=message):
            read_events(path)
    # nothing is there, but HDF5 would make it up
    with h5py.File(path, "w") as file:
        for name in "xytp":
            file.create_dataset(f"events/{name}", (2**50,), "u1", chunks=(2**20,))
    with pytest.raises(DataError, match=r"/events/[xytp] claims 1,125,899,906,842,624 bytes, in a file of"):
        read_events(path)


def test_st_mnist_of_other_forms(tmp_path: Path) -> None:
    from scipy.io import savemat

    good = np.zeros((101, 2))
    good[3], good[100] = 1, (0.1, 0.2)
    for train, message in (
        (good[:100], r"its spiketrain is float64, expected numbers \[101, N\]"),
        (good * 2, "holds values other than -1, 0 and 1"),
        (good * np.nan, "holds values other"),
        (good[:, ::-1], "before the"),
        (good.astype(str), "its spiketrain is <U"),
    ):
        savemat(tmp_path / "a.mat", {"spiketrain": train})
        with pytest.raises(DataError, match=message):
            read_events(tmp_path / "a.mat")
    savemat(tmp_path / "a.mat", {"spiketrain": good, "more": 1})
    assert make.rows(read_events(tmp_path / "a.mat").events) == [(3, 0, 100_000, 1), (3, 0, 200_000, 1)]
