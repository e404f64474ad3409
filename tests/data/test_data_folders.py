"""Folders of one's own: the size of the sensor, classes that would vanish, labels in CSV, files that change places."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import small_recordings as make
from spiking_lfp.data import EventRecipe, load_samples
from spiking_lfp.data import cache as cache_module
from spiking_lfp.data.folders import list_folder, with_one_sensor
from spiking_lfp.data.recordings import Sample, files_below
from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.events.frames import event_frames
from spiking_lfp.events.records import EVENT

REAL = os.environ.get("SPIKING_LFP_DATA")
real_data = pytest.mark.skipif(REAL is None, reason="needs SPIKING_LFP_DATA, a folder with real recordings")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPIKING_LFP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache_module, "MAX_WORKERS", 1)
    return tmp_path / "cache"


def write_dat(path: Path, made: np.ndarray) -> None:
    """Write events as N-CARS has them, without the size of the sensor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words = np.zeros((len(made), 2), "<u4")
    words[:, 0] = made["t"]
    words[:, 1] = made["x"].astype(int) | made["y"].astype(int) << 14 | made["p"].astype(int) << 28
    path.write_bytes(b"% Version 2\n" + bytes([0, 8]) + words.tobytes())


def write_npy(path: Path, made: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, made)


def write_h5(path: Path, made: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name in "xytp":
            file[f"events/{name}"] = made[name].astype(np.int64)


def write_aedat(path: Path, made: np.ndarray) -> None:
    """Write events of a DVS128, which AEDAT 2.0 names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words = np.zeros((len(made), 2), ">u4")
    words[:, 0] = made["y"].astype(int) << 8 | made["x"].astype(int) << 1 | made["p"].astype(int)
    words[:, 1] = made["t"]
    header = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.DVS128\r\n#End Of ASCII Header\r\n"
    path.write_bytes(header + words.tobytes())


def write_es(path: Path, made: np.ndarray, width: int, height: int) -> None:
    """Write events as Event Stream, which names the size of the sensor."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = b"Event Stream" + bytes([2, 0, 0, 1]) + np.array([width, height], "<u2").tobytes()
    for x, y, _, p in made:
        content += bytes([2 | int(p)]) + np.array([x, y], "<u2").tobytes()
    path.write_bytes(content)


UNSIZED: dict[str, Callable[[Path, np.ndarray], None]] = {
    ".bin": make.write_bin, ".dat": write_dat, ".npy": write_npy, ".h5": write_h5,
}  # fmt: skip


def two_classes(folder: Path, suffix: str = ".bin", sizes: Any = ((34, 33), (33, 34))) -> Path:
    """Write 6 recordings of 2 classes; the largest addresses are those of `sizes`, width and height, in turn."""
    for label, name in enumerate(("left", "right")):
        for number in range(6):
            width, height = sizes[number % len(sizes)]
            made = make.events(10 * label + number, width=width, height=height)
            made["x"][3], made["y"][4] = width - 1, height - 1
            UNSIZED[suffix](folder / name / f"{number}{suffix}", made)
    return folder


@pytest.mark.parametrize("suffix", UNSIZED)
def test_files_without_a_size_get_one_for_all(suffix: str, tmp_path: Path) -> None:
    folder = two_classes(tmp_path / "own", suffix)
    for _ in range(2):  # the size is found when the cache is built, and told then and afterwards
        with pytest.warns(UserWarning, match=r"names the size of its sensor: 34x34 is the smallest .* set sensor=WID"):
            samples = load_samples(str(folder), EventRecipe(steps=3))
        assert samples.sample_shape == (2, 34, 34)


def test_a_size_is_that_of_training_and_test_files(tmp_path: Path) -> None:
    # the 5th recording of a class is for testing
    folder = two_classes(tmp_path / "own", sizes=[(20, 20)] * 4 + [(30, 25)] + [(20, 20)])
    with pytest.warns(UserWarning, match="30x25"):
        assert load_samples(str(folder), EventRecipe(steps=3)).sample_shape == (2, 25, 30)


@pytest.mark.parametrize("suffix", UNSIZED)
def test_the_setting_is_the_size_and_the_middle(suffix: str, tmp_path: Path) -> None:
    folder = two_classes(tmp_path / "own", suffix)
    samples = load_samples(str(folder), EventRecipe(steps=3, sensor="44x40"))
    assert samples.sample_shape == (2, 40, 44)
    cropped = load_samples(str(folder), EventRecipe(steps=3, sensor="44x40", crop=20))
    whole, middle = (part.train.batch(torch.tensor([1]))[0] for part in (samples, cropped))
    # bins are from the first to the last event that is left: only their union is the same
    assert torch.equal(middle.amax(0), whole.amax(0)[..., 10:30, 12:32])


@pytest.mark.parametrize("suffix", UNSIZED)
def test_events_outside_of_the_size_are_refused_by_name(suffix: str, tmp_path: Path) -> None:
    folder = two_classes(tmp_path / "own", suffix)
    with pytest.raises(DataError, match=rf"left/0{suffix} has events up to x = 33, y = 32, .* 33x40 .*: set sensor=WI"):
        load_samples(str(folder), EventRecipe(steps=3, sensor="33x40"))


def test_files_with_a_size_give_it_to_those_without(tmp_path: Path) -> None:
    for number in range(5):
        write_aedat(tmp_path / "own" / "one" / f"{number}.aedat", make.events(number, width=60, height=60))
        make.write_bin(tmp_path / "own" / "two" / f"{number}.bin", make.events(number))
    assert load_samples(f"{tmp_path}/own", EventRecipe(steps=2)).sample_shape == (2, 128, 128)
    far = make.events(7)
    far["x"][3] = 130
    make.write_bin(tmp_path / "own" / "two" / "3.bin", far)
    with pytest.raises(DataError, match=r"two/3.bin has events up to x = 130, y = 3\d, outside of a sensor of 128x128"):
        load_samples(f"{tmp_path}/own", EventRecipe(steps=2))


def test_mixed_sensors_are_refused_by_name_or_scaled(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    for number in range(5):
        write_es(folder / "one" / f"{number}.es", make.events(number, width=40, height=30), 40, 30)
        write_es(folder / "two" / f"{number}.es", make.events(number, width=60, height=50), 60, 50)
    sentence = r"one/0.es is of a sensor of 40x30 pixels, but .*two/0.es of 60x50: set sensor=WIDTHxHEIGHT to scale"
    with pytest.raises(DataError, match=sentence):
        load_samples(str(folder), EventRecipe(steps=2))
    samples = load_samples(str(folder), EventRecipe(steps=2, sensor="20x25"))
    assert samples.sample_shape == (2, 25, 20)
    made = make.events(0, width=60, height=50)
    made["t"], made["x"], made["y"] = np.arange(1, 51), made["x"] // 3, made["y"] // 2
    found = samples.train.batch(torch.tensor([4]))[0][:, 0]
    assert np.array_equal(found.numpy(), event_frames(made, (2, 25, 20), 2))


@given(own=st.tuples(st.integers(1, 40), st.integers(1, 40)), wanted=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_scaled_pixels_are_those_at_the_same_part_of_the_sensor(
    own: tuple[int, int], wanted: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("es") / "a.es"
    made = make.events(3, 80, *own)
    write_es(path, made, *own)
    folder = list_folder_of(path, (2, wanted[1], wanted[0]))
    events = folder.read(Sample(path, 0)).events
    expected = [(int(x * wanted[0] / own[0] + 1e-9), int(y * wanted[1] / own[1] + 1e-9)) for x, y, _, _ in made]
    assert [(int(x), int(y)) for x, y, _, _ in events] == expected


def list_folder_of(path: Path, sensor: tuple[int, int, int]) -> Any:
    for name in ("one", "two"):
        for number in range(5):
            other = path.parent / name / f"{number}.es"
            other.parent.mkdir(exist_ok=True)
            other.write_bytes(path.read_bytes())
    path.unlink()
    listing = list_folder(path.parent, sensor=sensor)
    path.write_bytes(listing.train[0].path.read_bytes())
    return listing


@pytest.mark.parametrize("text", ["34", "34x", "x34", "0x34", "34x0", "-1x2", "34*34", "034x34", "32769x1", "1x99999"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="sensor"):
        EventRecipe(sensor=text)


def test_a_known_sensor_is_not_set(tmp_path: Path) -> None:
    make.write_nmnist(tmp_path)
    with pytest.raises(UsageError, match="sensor = 34x34 is for folders of recordings, the sensor of n-mnist is known"):
        load_samples("n-mnist", EventRecipe(sensor="34x34"), root=tmp_path)


def test_recordings_without_events(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    nothing = np.empty(0, EVENT)
    for number in range(5):
        write_npy(folder / "one" / f"{number}.npy", nothing)
        write_npy(folder / "two" / f"{number}.npy", nothing)
    with pytest.raises(DataError, match="have no events, and name no sensor: set sensor=WIDTHxHEIGHT"):
        load_samples(str(folder), EventRecipe(steps=2))
    for windows in (0.0, 10.0):
        recipe = EventRecipe(steps=2, sensor="8x9", window_ms=windows)
        with pytest.warns(UserWarning, match="10 of 10 samples are without events: 0.npy, 1.npy, 2.npy, ...; remove"):
            samples = load_samples(str(folder), recipe)
        assert not samples.train.batch(torch.arange(8))[0].any()
    write_npy(folder / "one" / "0.npy", make.events(1, width=9, height=8))
    with pytest.warns(UserWarning, match="9x8"):
        listing = with_one_sensor(list_folder(folder))
    assert listing.sensor is not None
    assert all(listing.read(sample).sensor == listing.sensor for sample in (*listing.train, *listing.test))


@real_data
def test_real_recordings_without_a_size_are_of_one_sensor(tmp_path: Path) -> None:
    assert REAL is not None
    folder = tmp_path / "own"
    for split in ("Train", "Test"):
        for digit in "07":
            (folder / split / digit).mkdir(parents=True)
            for path in sorted((Path(REAL) / "NMNIST" / split / digit).glob("*.bin"))[:15]:
                (folder / split / digit / path.name).symlink_to(path)
    with pytest.warns(UserWarning, match="34x34"):
        samples = load_samples(str(folder), EventRecipe(steps=4))
    assert samples.sample_shape == (2, 34, 34)
    assert samples.class_names == ("0", "7")


@pytest.mark.parametrize("session", [False, True])
def test_a_class_whose_files_are_of_no_known_kind_is_an_error(session: bool, tmp_path: Path) -> None:
    folder = two_classes(tmp_path / "own")
    if session:
        two_classes(folder / "test").rename(folder / "test")
        (folder / "morning").mkdir()
        for name in ("left", "right"):
            (folder / name).rename(folder / "morning" / name)
    pen = folder / ("morning/pen" if session else "pen")
    pen.mkdir()
    with pytest.raises(
        DataError, match=r"class 'pen' has no recordings in .*pen: it is empty; recordings end in \.bin"
    ):
        list_folder(folder)
    for number in range(4):
        (pen / f"{number}.clip").touch()
    with pytest.raises(
        DataError, match=r"class 'pen' has no recordings .* its 4 files are 0\.clip, 1\.clip, 2\.clip, \."
    ):
        list_folder(folder)


def test_a_class_that_shrank_is_told(tmp_path: Path) -> None:
    folder = two_classes(tmp_path / "own")
    for number in range(2):
        (folder / "left" / f"more{number}.clip").touch()
    (folder / "left" / "0.png").touch()  # a picture of 0.bin
    (folder / "README.md").touch()
    (folder / "pen.clip").touch()
    (folder / ".hidden").mkdir()
    make.write_bin(folder / "__MACOSX" / "left" / "0.bin", make.events(0))
    make.write_bin(folder / "left" / "._0.bin", make.events(0))
    listing = list_folder(folder)
    assert [sample.path.name for sample in listing.train if sample.label == 0] == [
        "0.bin",
        "1.bin",
        "2.bin",
        "3.bin",
        "5.bin",
    ]
    one, two = listing.remarks
    assert one.startswith(
        "class 'left' has 6 recordings; 2 more files of it are left out, because they do not end in .bin"
    )
    assert one.endswith("more0.clip, more1.clip")
    assert two.startswith("1 files in")
    assert two.endswith("pen.clip")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        load_samples(str(folder), EventRecipe(steps=2, sensor="34x34"))
    assert [str(each.message) for each in told] == [one, two]


@pytest.mark.parametrize("session", ["", "test/", "day/"])
def test_files_beside_the_folders_of_classes_are_left_out(session: str, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    for part in [session] if session != "day/" else ["day/", "test/"]:
        two_classes(folder / part)
    if session == "test/":
        two_classes(folder / "train")
    make.write_bin(folder / session / "z.bin", make.events(1))
    listing = list_folder(folder)
    assert listing.class_names == ("left", "right")
    [remark] = listing.remarks
    assert remark.startswith(f"1 recordings beside the folders of classes in {folder} are left out: z.bin; put them in")


def test_files_may_be_classes_where_there_are_no_folders_of_them(tmp_path: Path) -> None:
    for name in ("cup", "pen"):
        make.write_bin(tmp_path / "day" / name / "0.bin", make.events(1))
        make.write_bin(tmp_path / "test" / f"{name}.bin", make.events(1))
    listing = list_folder(tmp_path)
    assert (listing.class_names, len(listing.test), listing.remarks) == (("cup", "pen"), 2, ())


@pytest.mark.parametrize("where", ["class", "folder"])
def test_names_that_are_no_text_are_refused(where: str, tmp_path: Path) -> None:
    folder = two_classes(tmp_path / "own")
    odd = folder / "left" if where == "class" else folder
    odd = odd.rename(odd.with_name("caf\udce9"))
    with pytest.raises(
        DataError, match=r"the name '.*caf\\udce9' is no text in UTF-8, which the files of runs hold: ren"
    ):
        list_folder(odd if where == "folder" else folder)


def test_one_class_is_nothing_to_learn(tmp_path: Path) -> None:
    two_classes(tmp_path / "own" / "root")
    with pytest.raises(DataError, match=r"own has one class, 'root': if its classes are left, right, name .*own/root$"):
        list_folder(tmp_path / "own")
    two_classes(tmp_path / "parted" / "train" / "root")
    two_classes(tmp_path / "parted" / "test" / "root")
    sentence = r"has one class, 'root': if its classes are left, right, move the folders in .*/t\w+/root one up$"
    with pytest.raises(DataError, match=sentence):
        list_folder(tmp_path / "parted")
    (tmp_path / "own" / "root" / "right").rename(tmp_path / "right")
    with pytest.raises(DataError, match=r"root has one class, 'left': add recordings of another one, .*/CLASS/NAME"):
        list_folder(tmp_path / "own" / "root")
    assert len(list_folder(tmp_path / "own" / "root", whole=True).test) == 6  # what is asked of a trained network
    for number in range(9):
        make.write_bin(tmp_path / "flat" / f"{number}.bin", make.events(number))
    with pytest.raises(DataError, match=r"9 recordings for training and 0 for testing: put them into a folder for"):
        list_folder(tmp_path / "flat")


@pytest.mark.parametrize("kind", ["folder", "folders", "files"])
def test_links_are_followed(kind: str, tmp_path: Path) -> None:
    real = two_classes(tmp_path / "real")
    folder = tmp_path / "own"
    if kind == "folder":
        folder.symlink_to(real)
    for name in ("left", "right"):
        if kind == "folders":
            folder.mkdir(exist_ok=True)
            (folder / name).symlink_to(real / name)
        elif kind == "files":
            (folder / name).mkdir(parents=True)
            for path in (real / name).iterdir():
                (folder / name / path.name).symlink_to(path)
    found, expected = list_folder(folder), list_folder(real)
    assert found.class_names == expected.class_names
    assert [sample.path.name for sample in found.train] == [sample.path.name for sample in expected.train]
    assert files_below(folder) == sorted(folder.glob("*/*.bin"))


def test_a_class_in_a_linked_folder_without_recordings_is_told(tmp_path: Path) -> None:
    two_classes(tmp_path / "own")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "own" / "pen").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"class 'pen' has no recordings in .*pen: it is empty"):
        list_folder(tmp_path / "own")


def test_a_folder_of_other_files_names_their_kind(tmp_path: Path) -> None:
    (tmp_path / "pen").mkdir()
    (tmp_path / "pen" / "a.clip").touch()
    with pytest.raises(
        DataError, match=r"holds no recordings .*: its 1 files end in \.clip; name another folder, or conv"
    ):
        list_folder(tmp_path)


def test_classes_of_one_split_only(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    for session, names in (("day", ("cup", "pen")), ("test", ("cup",))):
        for name in names:
            make.write_bin(folder / session / f"{name}.bin", make.events(1))
    assert list_folder(folder).remarks == (f"there are no test recordings in {folder} of pen",)
    make.write_bin(folder / "test" / "box.bin", make.events(1))
    with pytest.raises(
        DataError, match=r"class 'box' has 1 recordings for testing in .* and none for training: add some"
    ):
        list_folder(folder)


@pytest.mark.filterwarnings("ignore:6 of 18 recordings are left out")
def test_a_class_without_windows_is_an_error(tmp_path: Path) -> None:
    folder = two_classes(tmp_path / "own")
    for number in range(6):
        make.write_bin(folder / "short" / f"{number}.bin", make.events(number, lasts=9_000))
    recipe = EventRecipe(steps=2, sensor="34x34", window_ms=20.0, windows="all")
    with pytest.raises(
        DataError, match="no train samples are left of the 5 recordings of class 'short' of own: lower win"
    ):
        load_samples(str(folder), recipe)


def test_a_part_of_a_data_set_says_what_it_lacks(tmp_path: Path) -> None:
    make.write_nmnist(tmp_path)
    for path in (tmp_path / "NMNIST/Train/7").iterdir():
        path.unlink()
    with pytest.warns(UserWarning, match=r"NMNIST is a part of n-mnist, without training samples of 7$"):
        samples = load_samples("n-mnist", EventRecipe(steps=2), root=tmp_path)
    assert samples.class_sizes()[6:8] == [("6", 2, 2), ("7", 0, 2)]


HEADER = "class,startTime_usec,endTime_usec\n"


def write_gestures(folder: Path, lists: bool = True) -> np.ndarray:
    """Write a folder like DVS128 Gesture's: long recordings, and beside each a CSV of classes and times."""
    made = make.events(4, 600, width=128, height=128, lasts=6_000_000)
    for user in range(1, 6):
        name = f"user{user:02}_fluorescent"
        write_aedat(folder / f"{name}.aedat", made[user:])
        rows = [(label, 1_000_000 * k, 1_000_000 * k + 600_000) for k, label in enumerate((1, 2, 11, 1))]
        (folder / f"{name}_labels.csv").write_text(HEADER + "".join(f"{a},{b},{c}\n" for a, b, c in rows))
    (folder / "gesture_mapping.csv").write_text("action,label\nhand_clapping,1\nright_hand_wave,2\nother_gestures,11\n")
    (folder / "README.txt").write_text("about these recordings")
    if lists:
        train = [f"user{user:02}_fluorescent.aedat" for user in range(1, 5)]
        (folder / "trials_to_train.txt").write_text("\n".join(train) + "\n")
        (folder / "trials_to_test.txt").write_text("user05_fluorescent.aedat\n\n")
    return made


def test_recordings_are_parts_of_files_as_a_csv_says(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    made = write_gestures(folder)
    listing = list_folder(folder)
    assert listing.class_names == ("hand_clapping", "right_hand_wave", "other_gestures")
    assert [sample.label for sample in listing.test] == [0, 1, 2, 0]
    assert {sample.path.name[:6] for sample in listing.train} == {"user01", "user02", "user03", "user04"}
    assert {sample.path.name[:6] for sample in listing.test} == {"user05"}
    assert listing.remarks == ()
    for k, sample in enumerate(listing.train[:4]):
        inside = made[1:][(made[1:]["t"] >= 1_000_000 * k) & (made[1:]["t"] < 1_000_000 * k + 600_000)]
        assert np.array_equal(listing.read(sample).events, inside)
        assert 0 < len(inside) < 100
    samples = load_samples(str(folder), EventRecipe(steps=4, downsample=8))
    assert samples.class_sizes() == [("hand_clapping", 8, 2), ("right_hand_wave", 4, 1), ("other_gestures", 4, 1)]
    frames = samples.train.batch(torch.tensor([2]))[0][:, 0].numpy()
    events = listing.read(listing.train[2]).events.copy()
    events["x"], events["y"] = events["x"] // 8, events["y"] // 8
    assert np.array_equal(frames, event_frames(events, (2, 16, 16), 4))
    cut = load_samples(str(folder), EventRecipe(steps=4, window_ms=100.0, windows="all"))
    assert len(cut.train) > 3 * len(samples.train)


def test_parts_of_files_without_lists_are_split_by_class(tmp_path: Path) -> None:
    write_gestures(tmp_path / "own", lists=False)
    (tmp_path / "own" / "gesture_mapping.csv").unlink()
    listing = list_folder(tmp_path / "own")
    assert listing.class_names == ("1", "2", "11")
    assert [sample.label for sample in listing.test].count(0) == 2
    assert (len(listing.train), len(listing.test)) == (16, 4)


def test_lists_and_files_that_do_not_agree_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    write_gestures(folder)
    (folder / "trials_to_train.txt").write_text("user01_fluorescent.aedat\nuser09_led.aedat\n")
    listing = list_folder(folder)
    assert {sample.path.name[:6] for sample in (*listing.train, *listing.test)} == {"user01", "user05"}
    missing, unlisted = listing.remarks
    assert missing == f"1 recordings of the lists in {folder} are not there: user09_led.aedat"
    assert unlisted.startswith(f"3 recordings in {folder} are in none of its lists: user02_fluorescent.aedat, ")
    (folder / "trials_to_train.txt").write_text("user05_fluorescent.aedat\n")
    with pytest.raises(
        DataError, match=r"user05_fluorescent.aedat is in trials_to_train.txt and in trials_to_test.txt"
    ):
        list_folder(folder)
    (folder / "trials_to_train.txt").unlink()
    with pytest.raises(DataError, match=r"trials_to_train.txt cannot be read: .*; add it, or remove both lists"):
        list_folder(folder)


def test_lists_that_a_session_overrules_are_told(tmp_path: Path) -> None:
    for session in ("test", "monday"):
        for name in ("cup", "pen"):
            make.write_bin(tmp_path / "own" / session / name / "1.bin", make.events(1))
    assert list_folder(tmp_path / "own").remarks == ()
    (tmp_path / "own/trials_to_test.txt").write_text("monday/cup/1.bin\n")
    assert list_folder(tmp_path / "own").remarks == (
        f"trials_to_test.txt in {tmp_path / 'own'} are not used, since its folder test is for testing: remove them, or "
        "call the folder otherwise",
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", r"begins with '', expected the columns class,startTime_usec,endTime_usec"),
        ("a,b,c\n1,2,3\n", "begins with 'a,b,c', expected the columns class"),
        (HEADER + "1,200\n", "has the line '1,200', expected class,starttime_usec,endtime_usec: repair it"),
        (HEADER + "1,start,200\n", "has the line '1,start,200', expected class, start and end in us"),
        (HEADER + "1,300,200\n", "has the line '1,300,200', expected .* the end after the start"),
        (HEADER + ",100,200\n", "has the line ',100,200', expected class"),
        (b"\xff\xfe1,2", "cannot be read as CSV"),
    ],
)
def test_labels_that_cannot_be_used(content: str | bytes, sentence: str, tmp_path: Path) -> None:
    write_gestures(tmp_path)
    labels = tmp_path / "user03_fluorescent_labels.csv"
    labels.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=rf"user03_fluorescent_labels.csv {sentence}"):
        list_folder(tmp_path)


def test_labels_that_do_not_belong_to_their_file(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    write_gestures(folder)
    labels = folder / "user02_fluorescent_labels.csv"
    labels.write_text(HEADER + " 1 , 9000000 , 9500000 \n\n")
    with pytest.raises(
        DataError, match=r"user02_fluorescent_labels.csv names a part of .* from 9000000 to 9500000 us, in"
    ):
        load_samples(str(folder), EventRecipe(steps=2))
    labels.unlink()
    with pytest.raises(
        DataError, match=r"there is no .*user02_fluorescent_labels.csv, as there is for other recordings"
    ):
        list_folder(folder)
    for path in folder.glob("*_labels.csv"):
        path.write_text(HEADER)
    labels.write_text(HEADER)
    with pytest.raises(DataError, match=r"the files \*_labels.csv in .* have no lines"):
        list_folder(folder)


def frames_of(folder: Path) -> np.ndarray:
    samples = load_samples(str(folder), EventRecipe(steps=2, sensor="34x34"))
    return samples.train.batch(torch.arange(len(samples.train)))[0].numpy()


@pytest.mark.parametrize("how", ["renamed", "folders renamed", "rewritten"])
def test_files_that_change_places_are_read_again(how: str, tmp_path: Path) -> None:
    folder = two_classes(tmp_path / "own")
    for path in folder.glob("*/*.bin"):
        os.utime(path, ns=(10**18, 10**18))
    before = frames_of(folder)
    left, right = folder / "left", folder / "right"
    if how == "folders renamed":
        pairs = [(left, right)]
    else:
        pairs = [(left / f"{number}.bin", right / f"{number}.bin") for number in range(6)]
    for one, other in pairs:
        if how == "rewritten":
            first, second = one.read_bytes(), other.read_bytes()
            one.write_bytes(second)
            other.write_bytes(first)
        else:
            one.rename(tmp_path / "between")
            other.rename(one)
            (tmp_path / "between").rename(other)
    for path in folder.glob("*/*.bin"):
        os.utime(path, ns=(10**18, 10**18))
    after = frames_of(folder)
    assert not np.array_equal(before, after)
    assert np.array_equal(after, np.roll(before, 5, axis=1))
    assert np.array_equal(frames_of(folder), after)


def test_labels_that_change_are_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    write_gestures(folder)
    recipe = EventRecipe(steps=2, downsample=16)
    before = load_samples(str(folder), recipe).train.labels.tolist()
    labels = folder / "user01_fluorescent_labels.csv"
    labels.write_text(labels.read_text().replace("11,", "2,"))
    after = load_samples(str(folder), recipe).train.labels.tolist()
    assert (before[:4], after[:4]) == ([0, 1, 2, 0], [0, 1, 1, 0])


def test_a_recording_that_changes_is_read_again_by_the_same_process(tmp_path: Path) -> None:
    folder = two_classes(tmp_path / "own")
    recipe = EventRecipe(steps=2, sensor="34x34", window_ms=30.0)
    before = load_samples(str(folder), recipe).train.batch(torch.arange(10))[0]
    changed = folder / "right" / "5.bin"  # what was read last is kept in memory
    make.write_bin(changed, make.events(99))
    after = load_samples(str(folder), recipe).train.batch(torch.arange(10))[0]
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.equal(before[:, 9], after[:, 9])
