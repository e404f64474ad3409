"""Every format against its reference reader, its literal bytes, and what damage does to it."""

import os
from pathlib import Path
from typing import Any

import event_bytes as make
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.events import files
from spiking_lfp.events.files import SUFFIXES, read_events
from spiking_lfp.events.records import EVENT, EventArray, Recording

REAL = Path(os.environ.get("SPIKING_LFP_DATA", ""))
real_data = pytest.mark.skipif(
    "SPIKING_LFP_DATA" not in os.environ, reason="needs SPIKING_LFP_DATA, a folder with real recordings"
)
SAMPLES = REAL / "event_samples"


def equal(events: EventArray, theirs: Any, polarity: str = "p") -> bool:
    return len(events) == len(theirs) and all(
        np.array_equal(events[name].astype(np.int64), theirs[polarity if name == "p" else name].astype(np.int64))
        for name in "xytp"
    )


@real_data
def test_nmnist_is_what_tonic_reads() -> None:
    from tonic.io import read_mnist_file

    dtype = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
    paths = [SAMPLES / "sample_nmnist.bin", *sorted((REAL / "NMNIST/Test").rglob("*.bin"))]
    paths += sorted((REAL / "dvs128_gesture").glob("*.bs2"))
    assert len(paths) == 108
    for path in paths:
        assert equal(read_events(path).events, read_mnist_file(path, dtype))


@real_data
def test_dat_is_what_expelliarmus_reads() -> None:
    from expelliarmus import Wizard

    path = SAMPLES / "sample_ncars.dat"
    assert equal(read_events(path).events, Wizard(encoding="dat").read(path))
    assert len(read_events(path).events) == 2009


@real_data
def test_aedat4_is_what_tonic_reads() -> None:
    from tonic.io import read_aedat4

    recording = read_events(SAMPLES / "sample.aedat4")
    assert equal(recording.events, read_aedat4(str(SAMPLES / "sample.aedat4")), "on")
    assert (len(recording.events), recording.sensor) == (111_954, (2, 240, 320))


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
    from tonic.io import get_aer_events_from_file

    for path in sorted((REAL / "dvs128_objects").rglob("*.aedat")):
        content = path.read_bytes()
        start = content.index(b"#End Of ASCII Header\r\n") + 22 if b"#End Of ASCII" in content[:99999] else None
        if start is None:
            start = max(content[:99999].rfind(b"\r\n#"), 0)
            start = content.index(b"\n", start + 2) + 1
        theirs = get_aer_events_from_file(str(path), 2.0, start)
        events = read_events(path).events
        address = events["y"].astype(np.int64) << 8 | events["x"].astype(np.int64) << 1 | events["p"]
        assert np.array_equal(address, theirs["address"])
        assert np.array_equal(events["t"], theirs["timeStamp"])


@real_data
def test_a_header_alone_is_an_error() -> None:
    with pytest.raises(
        DataError, match=r"sample_aedat_header.aedat cannot be read: there is nothing behind its header"
    ):
        read_events(SAMPLES / "sample_aedat_header.aedat")


@real_data
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("name", ["sample.aedat4", "sample_stmnist.mat"])
def test_real_files_that_are_damaged(name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = (SAMPLES / name).read_bytes()
    path = tmp_path_factory.getbasetemp() / f"damaged{Path(name).suffix}"
    if data.draw(st.booleans()):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        at = data.draw(st.one_of(st.integers(0, 3000), st.integers(0, len(whole) - 1)))
        flipped = bytearray(whole)
        flipped[at] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(flipped)
    sane_or_refused(path)


def sane_or_refused(path: Path) -> Recording | None:
    """A `Recording` checks itself; everything else must be an error that names the file, in one sentence."""
    try:
        return read_events(path)
    except DataError as error:
        said = str(error)
    assert str(path) in said
    assert "\n" not in said
    return None


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), step=st.sampled_from([0, 1, 300, 100_000]))
@pytest.mark.parametrize("suffix", make.WRITERS)
def test_what_is_written_is_read(
    suffix: str, seed: int, count: int, step: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    events = make.made(seed, count, step=step + 1)
    recording = read_events(make.write(tmp_path_factory.getbasetemp() / f"whole{suffix}", events))
    assert make.rows(recording.events) == make.rows(events)
    assert recording.partial is None
    assert recording.events.dtype == EVENT


def test_literal_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes([3, 7, 0x80 | 0x12, 0x34, 0x56, 5, 240, 0, 0, 0, 33, 0, 0x12, 0x34, 0x57]))
    # the overflow lets 8,192 us pass
    assert make.rows(read_events(tmp_path / "a.bin").events) == [(3, 7, 0x123456, 1), (33, 0, 0x123457 + 8192, 0)]
    head = b"#!AER-DAT2.0\n#End Of ASCII Header\n"
    words = [(0x7FFF, 0xFFFFFFFE), (0x8000, 0xFFFFFFFF), (0x0102, 0x00000001)]
    (tmp_path / "a.aedat").write_bytes(head + b"".join(a.to_bytes(4, "big") + t.to_bytes(4, "big") for a, t in words))
    # the second is a signal from outside; times wrap around
    assert make.rows(read_events(tmp_path / "a.aedat").events) == [(127, 127, 2**32 - 2, 1), (1, 1, 2**32 + 1, 0)]
    davis = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.Davis346red\r\n"
    words = [(5 << 22 | 9 << 12 | 1 << 11, 4), (1 << 31 | 3, 5), (2 << 22 | 1 << 10, 6), (259 << 22 | 345 << 12, 7)]
    (tmp_path / "b.aedat").write_bytes(davis + b"".join(a.to_bytes(4, "big") + t.to_bytes(4, "big") for a, t in words))
    found = read_events(tmp_path / "b.aedat")
    assert found.sensor == (2, 260, 346)
    assert make.rows(found.events) == [(345 - 9, 259 - 5, 4, 1), (0, 0, 7, 0)]
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
    (tmp_path / "a.dat").write_bytes(
        b"% Height 240\n% Width 304\n\x0c\x08" + bytes([1, 0, 0, 0, 0x05, 0x80, 0x01, 0x10])
    )
    found = read_events(tmp_path / "a.dat")
    assert (found.sensor, make.rows(found.events)) == ((2, 240, 304), [(5, 6, 1, 1)])


@pytest.mark.parametrize("suffix", make.SIZES)
def test_a_cut_file_gives_its_whole_events_and_says_so(suffix: str, tmp_path: Path) -> None:
    events = make.made(3)
    whole = make.WRITERS[suffix](events)
    size, header = make.SIZES[suffix]
    path = tmp_path / f"cut{suffix}"
    for length in range(header + size, len(whole)):
        path.write_bytes(whole[:length])
        recording = read_events(path)
        count, rest = divmod(length - header, size)
        assert make.rows(recording.events) == make.rows(events[:count])
        assert (recording.partial is None) == (rest == 0)
        assert rest == 0 or f"the last {rest} of" in str(recording.partial)


def test_a_cut_event_stream_gives_its_whole_events(tmp_path: Path) -> None:
    events = make.made(3)
    whole = make.es(events)
    for length in range(20, len(whole)):
        (tmp_path / "cut.es").write_bytes(whole[:length])
        found = read_events(tmp_path / "cut.es")
        count = len(found.events)
        assert make.rows(found.events) == make.rows(events[:count])
        assert found.partial is None or "are no whole event" in found.partial
    assert count == len(events) - 1


@pytest.mark.parametrize("suffix", make.WRITERS)
def test_files_cut_in_their_header(suffix: str, tmp_path: Path) -> None:
    whole = make.WRITERS[suffix](make.made(3))
    path = tmp_path / f"cut{suffix}"
    for length in range(0, min(len(whole), make.SIZES.get(suffix, (1, 19))[1])):
        path.write_bytes(whole[:length])
        assert sane_or_refused(path) is None or suffix == ".dat"
    path.write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read: it is empty"):
        read_events(path)


@settings(max_examples=150)
@given(seed=st.integers(0, 5), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@pytest.mark.parametrize("suffix", make.WRITERS)
def test_a_flipped_bit_is_noticed_or_leaves_a_sane_recording(
    suffix: str, seed: int, place: float, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(make.WRITERS[suffix](make.made(seed)))
    content[int(place * len(content))] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / f"flipped{suffix}"
    path.write_bytes(content)
    sane_or_refused(path)


@settings(max_examples=100)
@given(content=st.binary(min_size=1, max_size=300))
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_garbage(suffix: str, content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / f"garbage{suffix}"
    path.write_bytes(content)
    sane_or_refused(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.aedat", b"#!AER-DAT3.1\r\nabcdefgh", r"begins with '#!AER-DAT3.1', expected #!AER-DAT2.0"),
        ("a.aedat", b"#!AER-DAT2.0\r\n# AEChip: Tmpdiff64\r\nabcdefgh", "of the chip 'Tmpdiff64', known are dvs128"),
        ("a.aedat4", b"#!AER-DAT2.0\r\n", "expected #!AER-DAT4.0"),
        ("a.dat", b"abcdefgh" * 3, "expected a header of lines that begin with %"),
        ("a.dat", b"% Version 2\n\x0c\x10abcdefgh", "its events are of 16 bytes, expected 8"),
        ("a.es", b"Event Stream\x01\x00\x00\x01abcdefgh", "version 1, type 1"),
        ("a.npy", b"abcdefgh" * 3, "NumPy says"),
        ("a.h5", b"abcdefgh" * 3, "HDF5 says"),
        ("a.mat", b"abcdefgh" * 30, "scipy says|no variable spiketrain"),
        ("a.bin", b"abc", "it has 3 bytes, an event takes 5"),
    ],
)
def test_what_is_wrong_is_said(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} cannot be read: .*({message}).*; replace or remove it"):
        read_events(tmp_path / name)


def test_arrays_in_other_forms(tmp_path: Path) -> None:
    events = make.made(1)
    (tmp_path / "a.npy").write_bytes(make.npy_columns(events))
    assert make.rows(read_events(tmp_path / "a.npy").events) == make.rows(events)
    signed = np.array(make.rows(events), np.int32)
    signed[:, 3] = 2 * signed[:, 3] - 1
    np.save(tmp_path / "b.npy", signed)
    assert make.rows(read_events(tmp_path / "b.npy").events) == make.rows(events)
    for wrong, message in (
        (signed.astype(float), "its x are float64, expected integers"),
        (signed[:, :3], r"expected fields x, y, t, p or integers \[N, 4\]"),
        (signed * 10**6, "it has x from"),
        (signed[::-1], "before the"),
        (np.where(np.arange(4) == 3, 7, signed), "polarities other than"),
    ):
        np.save(tmp_path / "c.npy", wrong)
        with pytest.raises(DataError, match=message):
            read_events(tmp_path / "c.npy")


def test_the_sensor_is_that_of_the_file_or_the_one_named(tmp_path: Path) -> None:
    path = make.write(tmp_path / "a.bin", make.made(2, width=20, height=10))
    assert read_events(path).sensor == (2, 10, 20)
    assert read_events(path, (2, 34, 34)).sensor == (2, 34, 34)
    with pytest.raises(DataError, match=r"a.bin cannot be read: event \d+ is at x = \d+, y = \d+, outside of a sensor"):
        read_events(path, (2, 5, 34))
    aedat = make.write(tmp_path / "a.aedat", make.made(2))
    with pytest.raises(DataError, match=r"of a sensor \(2, 128, 128\), expected \(2, 34, 34\)"):
        read_events(aedat, (2, 34, 34))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has the suffix '.avi': recordings end in .bin, "):
        read_events(tmp_path / "a.avi")
    with pytest.raises(DataError, match=r"cannot read .*No such file"):
        read_events(tmp_path / "a.bin")
    (tmp_path / "b.bin").mkdir()
    with pytest.raises(DataError, match="cannot read"):
        read_events(tmp_path / "b.bin")


def test_without_its_package_a_format_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(files, "import_module", missing)
    (tmp_path / "a.aedat4").write_bytes(b"#!AER-DAT4.0\r\nabc")
    (tmp_path / "a.mat").write_bytes(b"abc")
    for name, package in (("a.aedat4", "aedat"), ("a.mat", "scipy")):
        with pytest.raises(UsageError, match=rf"{package} is not installed: pip install 'spiking-lfp\[events\]'"):
            read_events(tmp_path / name)
