"""Data sets of recordings: what tonic reads of the same files, folders of one's own, windows, copies, damage."""

import os
import socket
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tonic.datasets
import torch
from torch import Tensor

from helpers import small_recordings as make
from spiking_lfp.data import EVENT_SOURCES, EventRecipe, event_set_status, load_samples, window_frames
from spiking_lfp.data import cache as cache_module
from spiking_lfp.data.event_sets import list_event_set
from spiking_lfp.data.folders import list_folder
from spiking_lfp.data.recordings import cut_into_windows, read_window
from spiking_lfp.data.tactile import level_crossings
from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.events.frames import event_frames
from spiking_lfp.events.streams import read_stream

REAL = os.environ.get("SPIKING_LFP_DATA")
real_data = pytest.mark.skipif(REAL is None, reason="needs SPIKING_LFP_DATA, a folder with real recordings")
TONIC: dict[str, list[dict[str, Any]]] = {
    "n-mnist": [{"train": True}, {"train": False}],
    "n-caltech101": [{}],
    "dvs-gesture": [{"train": True}, {"train": False}],
    "poker-dvs": [{"train": True}, {"train": False}],
    "dvs-lip": [{"train": True}, {"train": False}],
}
HEIDELBERG: dict[str, list[dict[str, Any]]] = {
    "shd": [{"train": True}, {"train": False}],
    "ssc": [{"split": "train"}, {"split": "test"}],
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPIKING_LFP_CACHE", str(tmp_path / "cache"))
    # processes of their own take longer to start than these small sets take to make
    monkeypatch.setattr(cache_module, "MAX_WORKERS", 1)
    return tmp_path / "cache"


def dense(split: Any, epoch: int = 0) -> Tensor:
    found: Tensor = split.batch(torch.arange(len(split)), epoch)[0]
    return found


@pytest.mark.parametrize("name", TONIC)
def test_recordings_are_those_that_tonic_reads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make.WRITERS[name](tmp_path)
    listing = list_event_set(name, tmp_path, download=False)
    source = EVENT_SOURCES[name]
    tonic_class = getattr(tonic.datasets, source.tonic_class or "DVSLip")
    monkeypatch.setattr(tonic_class, "_check_exists", lambda self: True)
    theirs: Counter[Any] = Counter()
    for arguments in TONIC[name]:
        dataset = tonic_class(str(tmp_path), **arguments)
        for index in range(len(dataset)):
            events, label = dataset[index]
            rows = [events[axis].astype(np.int64) for axis in "xtp"]
            rows.append(events["y"].astype(np.int64) if "y" in events.dtype.names else 0 * rows[0])
            theirs[(str(label), np.stack(rows).tobytes())] += 1
    ours: Counter[Any] = Counter()
    for sample in (*listing.train, *listing.test):
        events = listing.read(sample).events
        label = listing.class_names[sample.label] if name == "n-caltech101" else sample.label
        ours[(str(label), np.stack([events[axis].astype(np.int64) for axis in "xtpy"]).tobytes())] += 1
    if name == "dvs-lip":  # tonic counts in all hundred words, also where a few are there
        theirs = Counter({(str({0: 0, 1: 1, 99: 2}[int(label)]), rows): n for (label, rows), n in theirs.items()})
    assert ours == theirs
    assert len(ours) > 2


@pytest.mark.parametrize("name", ["shd", "ssc"])
def test_spike_trains_are_those_that_tonic_reads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make.WRITERS[name](tmp_path)
    listing = list_event_set(name, tmp_path, download=False)
    tonic_class = getattr(tonic.datasets, name.upper())
    monkeypatch.setattr(tonic_class, "_check_exists", lambda self: True)
    for samples, arguments in zip((listing.train, listing.test), HEIDELBERG[name], strict=True):
        dataset = tonic_class(str(tmp_path), **arguments)
        assert len(dataset) == len(samples)
        for index, sample in enumerate(samples):
            theirs, label = dataset[index]
            ours = listing.read(sample).events
            assert sample.label == label
            assert ours["x"].tolist() == theirs["x"].tolist()
            # tonic cuts off what is behind the microsecond, in float32
            assert not len(ours) or np.abs(ours["t"] - theirs["t"]).max() <= 1
    assert listing.class_names == ("zero", "eins", "two")


@pytest.mark.parametrize("name", make.WRITERS)
def test_a_data_set_trains_from_its_cache(name: str, tmp_path: Path, cache: Path) -> None:
    make.WRITERS[name](tmp_path)
    recipe = EventRecipe(steps=3, downsample=5)
    # of dvs-gesture three classes are written
    told = pytest.warns(UserWarning, match="a part of dvs-gesture") if name == "dvs-gesture" else nullcontext()
    with told:
        first = load_samples(name, recipe, root=tmp_path, download=False)
    (file,) = cache.glob("*.h5")
    written = file.stat().st_mtime_ns
    with told:
        again = load_samples(name, recipe, root=tmp_path, download=False)
    assert file.stat().st_mtime_ns == written
    polarities, height, width = EVENT_SOURCES[name].sensor
    assert first.sample_shape == (polarities, -(-height // 5), -(-width // 5))
    for split in ("train", "test"):
        assert torch.equal(dense(getattr(first, split)), dense(getattr(again, split)))
        assert dense(getattr(first, split)).any()
    listing = list_event_set(name, tmp_path, download=False)
    assert first.train.labels.tolist() == [sample.label for sample in listing.train]
    assert f"{len(listing.train)} training and {len(listing.test)} test recordings" in first.source


def test_frames_are_those_of_the_recipe(tmp_path: Path) -> None:
    make.write_nmnist(tmp_path)
    samples = load_samples("n-mnist", EventRecipe(steps=4, values="count", polarities=1), root=tmp_path)
    listing = list_event_set("n-mnist", tmp_path, download=False)
    for index, sample in enumerate(listing.test):
        events = listing.read(sample).events
        expected = event_frames(events, (1, 34, 34), 4, values="count")
        assert np.array_equal(dense(samples.test)[:, index].numpy(), expected)
    binary = load_samples("n-mnist", EventRecipe(steps=4), root=tmp_path)
    assert torch.equal(dense(binary.test).sum(2, keepdim=True) > 0, dense(samples.test) > 0)


def test_each_epoch_sees_the_next_copy_and_tests_see_none(tmp_path: Path) -> None:
    make.write_nmnist(tmp_path)
    plain = load_samples("n-mnist", EventRecipe(steps=3), root=tmp_path)
    samples = load_samples("n-mnist", EventRecipe(steps=3, augment=("shift=3",), copies=3), root=tmp_path)
    seen = [dense(samples.train, epoch) for epoch in range(4)]
    assert torch.equal(seen[0], dense(plain.train))
    assert torch.equal(seen[3], seen[0])
    assert not torch.equal(seen[1], seen[0])
    assert not torch.equal(seen[1], seen[2])
    assert torch.equal(dense(samples.test), dense(plain.test))
    assert len(samples.train) == len(plain.train)
    part = samples.train.subset(torch.tensor([7, 2]))
    assert part.labels.tolist() == [samples.train.labels[7], samples.train.labels[2]]
    assert torch.equal(dense(part, 2), seen[2][:, [7, 2]])


def test_long_recordings_are_cut_into_windows(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    made = make.events(5, 400, lasts=105_000)
    made["t"] += 1_000 - made["t"][0]
    for session in ("one", "two"):
        make.write_bin(folder / session / "cup.bin", made)
        make.write_bin(folder / session / "pen.bin", made[:150])
    listing = list_folder(folder, "two")
    assert listing.class_names == ("cup", "pen")
    times = made["t"] - 1_000
    cut = list(cut_into_windows(listing.train, listing.read, 25_000))
    lasts = {0: times[-1], 1: times[149]}
    expected = [(label, 25_000 * k) for label in (0, 1) for k in range(int(lasts[label]) // 25_000)]
    assert [(sample.label, sample.start) for sample in cut] == expected
    for sample in cut:
        events = read_window(sample, listing.read, 25_000).events
        whole = made if sample.label == 0 else made[:150]
        inside = (times[: len(whole)] >= sample.start) & (times[: len(whole)] < sample.start + 25_000)
        assert np.array_equal(events["x"], whole["x"][inside])
        assert np.array_equal(events["t"], times[: len(whole)][inside] - sample.start)
    recipe = EventRecipe(steps=5, window_ms=25.0, windows="all", test_session="two", sensor="34x34")
    samples = load_samples(str(folder), recipe)
    assert len(samples.train) == len(samples.test) == len(cut)
    first = load_samples(str(folder), recipe.model_copy(update={"windows": "first"}))
    assert len(first.train) == 2
    counts = [len(read_window(sample, listing.read, 25_000).events) for sample in cut]
    # as many as each class has in a window
    enough = min(
        max(count for count, sample in zip(counts, cut, strict=True) if sample.label == label) for label in (0, 1)
    )
    fuller = load_samples(str(folder), recipe.model_copy(update={"min_events": enough}))
    assert len(fuller.train) == sum(count >= enough for count in counts)
    assert 0 < len(fuller.train) < len(cut)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"values": "count", "polarities": 1},
        {"crop": 20, "denoise_us": 9000, "downsample": 2},
        {"bin_by": "count", "centre": True},
    ],
)
def test_windows_of_a_stream_have_the_frames_of_training(settings: dict[str, Any], tmp_path: Path) -> None:
    for session, seed in (("one", 5), ("two", 6)):
        for name in ("cup", "pen"):
            make.write_bin(tmp_path / "own" / session / f"{name}.bin", make.events(seed, 600, lasts=150_000))
    recipe = EventRecipe(steps=5, window_ms=20.0, windows="all", test_session="two", sensor="34x34", **settings)
    samples = load_samples(str(tmp_path / "own"), recipe)
    with read_stream(tmp_path / "own" / "one" / "cup.bin", recipe.window_ms, recipe.sensor_shape) as stream:
        *whole, rest = (window_frames(window, recipe) for window in stream)
    frames = samples.train.batch(torch.arange(len(whole)))[0]
    assert np.array_equal(frames.numpy(), np.stack(whole, 1))
    assert frames.any()
    # training leaves out the rest of a recording, which is no whole window
    assert len(samples.train) == 2 * len(whole)
    assert rest.shape == whole[0].shape


def test_folders_of_one_s_own(tmp_path: Path) -> None:
    for label in ("left", "right"):
        for number in range(6):
            make.write_bin(tmp_path / "plain" / label / f"{number}.bin", make.events(number))
            make.write_bin(
                tmp_path / "split" / ("test" if number < 2 else "train") / label / f"{number}.bin", make.events(1)
            )
    plain = list_folder(tmp_path / "plain")
    assert plain.class_names == ("left", "right")
    assert [sample.path.name for sample in plain.test] == ["4.bin", "4.bin"]
    assert len(plain.train) == 10
    split = list_folder(tmp_path / "split")
    assert (len(split.train), len(split.test)) == (8, 4)
    assert {sample.path.parts[-3] for sample in split.test} == {"test"}


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"there is no folder .*/none: name one that holds a folder of files for each class$"
    ):
        load_samples(f"{tmp_path}/none", EventRecipe())
    with pytest.raises(DataError, match="holds no recordings"):
        list_folder(tmp_path)
    make.write_bin(tmp_path / "a.bin", make.events(0))
    with pytest.raises(DataError, match="1 recordings for training and 0 for testing"):
        list_folder(tmp_path)
    make.write_bin(tmp_path / "s" / "a.bin", make.events(0))
    with pytest.raises(UsageError, match="test_session 'morning' is not a folder"):
        list_folder(tmp_path, "morning")


@pytest.mark.parametrize(
    ("file", "key", "values", "sentence"),
    [
        ("train", "labels", [0, 1, 2, 0, 1, 3], r"shd_train.h5 cannot .*: it has labels from 0 to 3, and names of 3"),
        ("test", "labels", [0, 1], r"shd_test.h5 cannot be .*: its labels are int64 \[2\], expected integers \[4\]"),
        ("test", "extra/keys", [b"two", b"eins", b"zero"], "name different words, so that labels differ: replace one"),
    ],
)
def test_labels_of_spike_trains_that_do_not_fit_are_refused(
    file: str, key: str, values: list[Any], sentence: str, tmp_path: Path
) -> None:
    make.write_heidelberg(tmp_path, "shd")
    with h5py.File(tmp_path / "SHD" / f"shd_{file}.h5", "a") as opened:
        del opened[key]
        opened[key] = np.array(values)
    with pytest.raises(DataError, match=sentence):
        load_samples("shd", EventRecipe(steps=2), root=tmp_path)


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        (1, 65_536 + 3, r"it has x from \d+ to 65539, expected 0 to 32767: repair the recording$"),
        (2, 3.5, "its y are decimals, expected whole numbers; replace or remove it$"),
        (3, 7, "it has polarities from 0 to 7, expected 0 and 1, or -1 and 1: repair the recording$"),
        (0, float("nan"), "its t are not all finite; replace or remove it$"),
    ],
)
def test_numbers_of_a_table_that_are_no_events_are_refused(
    column: int, value: float, sentence: str, tmp_path: Path
) -> None:
    make.write_poker(tmp_path)
    path = tmp_path / "POKERDVS/pips_train/cl/0.npy"
    table = np.load(path).astype(type(value))
    table[5, column] = value
    np.save(path, table)
    with pytest.raises(DataError, match=rf"POKERDVS/pips_train/cl/0.npy cannot be read: {sentence}"):
        load_samples("poker-dvs", EventRecipe(steps=2), root=tmp_path)


def test_units_of_spike_trains_do_not_wrap_around(tmp_path: Path) -> None:
    make.write_heidelberg(tmp_path, "shd")
    with h5py.File(tmp_path / "SHD/shd_train.h5", "a") as opened:
        units = [np.asarray(each, np.int64) for each in opened["spikes/units"]]
        units[0][0] += 65_536
        del opened["spikes/units"]
        opened.create_dataset("spikes/units", (len(units),), h5py.vlen_dtype(np.int64))[:] = units
    with pytest.raises(DataError, match=r"shd_train.h5 cannot be read: it has x from \d+ to 6\d{4}, expected 0 to 327"):
        load_samples("shd", EventRecipe(steps=2), root=tmp_path)


def test_a_damaged_recording_ends_with_its_name(tmp_path: Path, cache: Path) -> None:
    make.write_nmnist(tmp_path)
    broken = tmp_path / "NMNIST/Train/3/00001.bin"
    broken.write_bytes(broken.read_bytes()[:-2])
    with pytest.raises(DataError, match=r"NMNIST/Train/3/00001.bin"):
        load_samples("n-mnist", EventRecipe(steps=2), root=tmp_path)
    assert not list(cache.glob("*.h5"))


def test_what_is_not_there_and_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in EVENT_SOURCES:
        with pytest.raises(DataError, match=rf"data set '{name}' is not in .*--data-root or SPIKING_LFP_DATA") as told:
            load_samples(name, EventRecipe(), root=tmp_path / "empty")
        assert "\n" not in str(told.value)
        assert ("cannot be downloaded automatically" in str(told.value)) == (EVENT_SOURCES[name].tonic_class is None)


def test_an_unknown_name_is_compared_with_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown data set 'nmnist': did you mean 'n-mnist'\?.*mnist-subset"):
        load_samples("nmnist", EventRecipe(), root=tmp_path)


def test_the_status_counts_partial_copies(tmp_path: Path) -> None:
    make.write_nmnist(tmp_path)
    states = {state.name: state for state in event_set_status(tmp_path)}
    assert set(states) == set(EVENT_SOURCES)
    assert (states["n-mnist"].present, states["n-mnist"].incomplete_sizes) == (True, (20, 20))
    assert (states["shd"].present, states["shd"].incomplete_sizes) == (False, (0, 0))


def test_images_become_recordings_by_saccades() -> None:
    from spiking_lfp.data.moved_images import list_moved
    from spiking_lfp.events.saccades import saccade_events

    listing = list_moved("mnist-subset@saccades", None, download=False)
    assert (len(listing.train), len(listing.test), listing.sensor) == (10_000, 2_000, (2, 34, 34))
    from spiking_lfp.data import load_dataset

    digits = load_dataset("mnist-subset")
    for sample, image, label in (
        (listing.train[17], digits.train_images[17], digits.train_labels[17]),
        (listing.test[5], digits.test_images[5], digits.test_labels[5]),
    ):
        assert sample.label == label
        assert np.array_equal(listing.read(sample).events, saccade_events(image.numpy()).events)
    with pytest.raises(UsageError, match="unknown data set of images 'n-mnist'"):
        load_samples("n-mnist@saccades", EventRecipe())


def test_images_that_took_the_place_of_others_are_recorded_anew(mnist_root: Path) -> None:
    path = mnist_root / "MNIST/raw/train-images-idx3-ubyte"
    recipe = EventRecipe(steps=2)
    before = load_samples("mnist@saccades", recipe, root=mnist_root)
    content = path.read_bytes()
    path.write_bytes(content[:16] + content[16:][::-1])  # within the file, so that its folder stays as it was
    after = load_samples("mnist@saccades", recipe, root=mnist_root)
    assert not torch.equal(before.train.tensors()[0], after.train.tensors()[0])
    assert torch.equal(before.test.tensors()[0], after.test.tensors()[0])


def test_level_crossings_are_all_levels_between_two_readings() -> None:
    signal = np.array([[10, 255], [13, 250], [13, 255], [8, 255]], np.uint8)
    found = [(int(e["x"]), int(e["y"]), int(e["t"]), bool(e["p"])) for e in level_crossings(signal, 2)]
    # taxel 0: 5 -> 6 -> 6 -> 4; taxel 1: 127 -> 125 -> 127
    assert found == [
        (0, 6, 25_000, True), (1, 127, 25_000, False), (1, 126, 25_000, False),
        (1, 126, 50_000, True), (1, 127, 50_000, True), (0, 6, 75_000, False), (0, 5, 75_000, False),
    ]  # fmt: skip


@real_data
def test_real_recordings_have_their_known_numbers() -> None:
    assert REAL is not None
    states = {state.name: state.incomplete_sizes for state in event_set_status(Path(REAL)) if state.present}
    assert states == {"n-mnist": (1_000, 100), "braille": None, "dvs128-objects": None}
    braille = list_event_set("braille", Path(REAL), download=False)
    assert Counter(sample.label for sample in braille.test) == dict.fromkeys(range(27), 10)
    objects = list_event_set("dvs128-objects", Path(REAL), download=False)
    assert [objects.class_names[sample.label] for sample in objects.test] == [
        "box_caixa", "cutter_estilete", "mouse", "mug_caneca", "pencil_lapiseira", "scissors_tesoura",
    ]  # fmt: skip
    windows = list(cut_into_windows(objects.train[:1], objects.read, 100_000))
    events = objects.read(objects.train[0]).events
    assert len(windows) == int(events["t"][-1] - events["t"][0]) // 100_000


@real_data
def test_real_braille_letters_can_be_told_from_their_events() -> None:
    assert REAL is not None
    samples = load_samples("braille", EventRecipe(steps=26), root=Path(REAL))
    train, test = (dense(split).sum(0).flatten(1) for split in (samples.train, samples.test))
    nearest = torch.cdist(test, train).argmin(1)
    assert (samples.train.labels[nearest] == samples.test.labels).float().mean() > 0.6
