"""Folders of images and signals, files of arrays, and the encoders that the settings name."""

import shutil
import struct
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from spiking_lfp import constant, delta, population
from spiking_lfp.data import EventRecipe, ImageDataset, load_samples
from spiking_lfp.data.encoding import Encoder
from spiking_lfp.data.images import read_images
from spiking_lfp.data.inputs import InputReader
from spiking_lfp.data.recipes import InputRecipe
from spiking_lfp.data.signals import read_signal
from spiking_lfp.data.values import encoder_of, image_samples
from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.training.config import checked_config
from spiking_lfp.training.results import as_trained

STEPS = EventRecipe(steps=3)


def inputs(**changes: Any) -> InputRecipe:
    return InputRecipe.model_validate(changes)


def picture(path: Path, seed: int, size: tuple[int, int] = (6, 5), mode: str = "RGB") -> NDArray[np.uint8]:
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, first in (("cat", 0), ("dog", 10)):
        for number in range(10):
            picture(tmp_path / "photos" / name / f"{number}.png", first + number)
    return tmp_path / "photos"


def test_images_of_a_folder_are_those_of_the_files(photos: Path) -> None:
    samples = load_samples(photos, STEPS)
    assert (samples.class_names, samples.sample_shape, samples.kind) == (("cat", "dog"), (3, 5, 6), "values")
    assert samples.class_sizes() == [("cat", 8, 2), ("dog", 8, 2)]
    x, labels = samples.test.batch(torch.arange(4))
    assert labels.tolist() == [0, 0, 1, 1]
    # every 5th by name is for testing
    expected = np.random.default_rng(14).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    assert torch.equal(x[0, 2], torch.from_numpy(expected.transpose(2, 0, 1)).float() / 255)
    assert torch.equal(x[0], x[2])


def test_images_are_scaled_made_grey_and_normalised_by_the_training_images(photos: Path) -> None:
    samples = load_samples(photos, STEPS, inputs(image_size="4x3", colour="grey", normalize=True))
    assert samples.sample_shape == (1, 3, 4)
    x = samples.train.batch(torch.arange(16))[0][0].double()
    assert float(x.mean()) == pytest.approx(0, abs=1e-5)
    assert float(x.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert len(samples.mean) == len(samples.deviation) == 1


def test_a_folder_says_which_images_are_for_testing(photos: Path) -> None:
    root = photos.parent / "split"
    root.mkdir()
    photos.rename(root / "train")
    picture(root / "val" / "dog" / "new.png", 77)
    with pytest.warns(UserWarning, match="no test images"):
        samples = load_samples(root, STEPS)
    assert samples.class_sizes() == [("cat", 10, 0), ("dog", 10, 1)]
    assert len(load_samples(root / "train", STEPS, whole=True).test) == 20


def test_classes_of_images_are_called_images(photos: Path) -> None:
    photos.rename(photos.parent / "train")
    picture(photos / "test" / "emu" / "0.png", 1)
    (photos.parent / "train").rename(photos / "train")
    with pytest.raises(DataError, match=r"class 'emu' has 1 images for testing in .* and none for training"):
        load_samples(photos, STEPS)


def test_sixteen_bits_transparency_and_rotation_are_understood(tmp_path: Path) -> None:
    deep = np.array([[0, 256, 65535], [1000, 32768, 255]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_images([tmp_path / "deep.png"])[0, 0].tolist() == (deep >> 8).tolist()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert read_images([tmp_path / "turned.png"])[0, 0].tolist() == np.rot90(pixels, -1).tolist()
    pixels = np.full((2, 2, 4), 9, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "solid.png")
    with pytest.warns(UserWarning, match=r"^1 of 2 images have transparent pixels, .* often black: clear.png; save"):
        found = read_images([tmp_path / "clear.png", tmp_path / "solid.png"])
    assert found.tolist() == [[[[9, 9], [9, 9]]] * 3, [[[9, 9], [9, 9]]] * 3]


@pytest.mark.parametrize("suffix", [".gif", ".tif", ".webp", ".png"])
def test_images_of_several_frames_are_named(suffix: str, photos: Path) -> None:
    frames = [Image.fromarray(np.full((5, 6, 3), level, np.uint8)) for level in (0, 200, 90)]
    frames[0].save(photos / "cat" / f"a{suffix}", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match=rf"^1 of 21 images have several frames, .* first is used: a\{suffix}; save"):
        samples = load_samples(photos, STEPS)
    assert samples.class_sizes()[0] == ("cat", 9, 2)
    assert int(read_images([photos / "cat" / "0.png"]).amax()) > 0
    with pytest.warns(UserWarning, match="1 of 1 images"):
        assert int(read_images([photos / "cat" / f"a{suffix}"]).amax()) < 9


def test_a_cameras_preview_is_no_frame(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((5, 6, 3), 99, np.uint8))
    image.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[image])
    with Image.open(tmp_path / "a.jpg") as opened:
        assert getattr(opened, "n_frames", 1) == 2
    assert read_images([tmp_path / "a.jpg"]).shape == (1, 3, 5, 6)


def test_images_that_cannot_be_used_are_named(photos: Path) -> None:
    picture(photos / "cat" / "other.png", 3, (7, 5))
    with pytest.raises(DataError, match=r"has 6x5 pixels, but .*other\.png 7x5: set image_size=WIDTHxHEIGHT"):
        load_samples(photos, STEPS)
    (photos / "cat" / "other.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"other\.png cannot be read as an image: its content is none"):
        load_samples(photos, STEPS)
    whole = (photos / "cat" / "1.png").read_bytes()
    (photos / "cat" / "other.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"other\.png cannot be read as an image"):
        load_samples(photos, STEPS)
    (photos / "cat" / "other.png").unlink()


def test_pictures_have_no_time() -> None:
    images, labels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.arange(2)
    dataset = ImageDataset("photos", images, labels, images, labels, ("a", "b"))
    with pytest.raises(UsageError, match="encoding delta is for signals, photos has images"):
        image_samples(dataset, Encoder("delta", 3))


def sound(path: Path, values: NDArray[np.float64], width: int, rate: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.clip(np.rint(values * 2 ** (8 * width - 1)), -(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1)
    integers = numbers.astype(np.int64)
    content = (
        (integers + 128).astype(np.uint8).tobytes()
        if width == 1
        else integers.astype("<i8").reshape(-1, 1).view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    )
    with wave.open(str(path), "wb") as file:
        file.setnchannels(values.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(content)


def riff(form: int, bits: int, data: bytes, more: bytes = b"", channels: int = 1) -> bytes:
    """Return a WAV file with a chunk of notes, as programs write them, before its data."""
    size = channels * bits // 8
    header = struct.pack("<HHIIHH", form, channels, 100, 100 * size, size, bits) + more
    chunks = {b"fmt ": header, b"LIST": b"odd", b"data": data}
    body = b"".join(name + struct.pack("<I", len(each)) + each + bytes(len(each) % 2) for name, each in chunks.items())
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


WAVE = np.stack([np.sin(np.arange(40) / 3), np.linspace(-1, 0.99, 40)], 1)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_of_every_width_is_read(width: int, tmp_path: Path) -> None:
    sound(tmp_path / "a.wav", WAVE, width)
    signal = read_signal(tmp_path / "a.wav")
    assert signal.rate == 100
    np.testing.assert_allclose(signal.values, WAVE, atol=2.0 ** (1 - 8 * width) + 1e-6)


@pytest.mark.parametrize("kind", ["float", "double", "extensible", "extensible float"])
def test_wav_of_floats_and_of_long_headers_is_read(kind: str, tmp_path: Path) -> None:
    form = 3 if kind != "extensible" else 1
    values = WAVE.astype({"double": "<f8", "extensible": "<i2"}.get(kind, "<f4"))
    more = b""
    if kind.startswith("extensible"):
        more, form = (
            struct.pack("<HHIH14s", 22, 8 * values.itemsize, 3, form, b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"),
            0xFFFE,
        )
    (tmp_path / "a.wav").write_bytes(riff(form, 8 * values.itemsize, values.tobytes(), more, 2))
    signal = read_signal(tmp_path / "a.wav")
    expected = values / 2**15 if kind == "extensible" else values
    assert signal.rate == 100
    assert np.array_equal(signal.values, expected.astype(np.float32))


TABLES = {
    "a.csv": "time,x,y\n0,1,2\n1,3,4\n",
    "b.csv": '"x";"y"\n1;2\n3;4\n',
    "c.csv": "1,2\n3,4\n",
    "d.txt": "# a comment\n1 2\n3 4\n",
    "e.csv": "\ufeffx,timestamp,y\r\n1,0.5,2\r\n3,0.6,4\r\n",
    "seconds.csv": "time(s),x,y\n0.5,1,2\n1,3,4\n",
    "microseconds.csv": "t_us,x,y\n0,1,2\n1,3,4\n",
    "milliseconds.csv": "x,y,Time [ms]\n1,2,0\n3,4,1\n",
    "words.csv": "timestamp_seconds,x,y\n0,1,2\n1,3,4\n",
    "unit.csv": "time (my clock),x,y\n0,1,2\n1,3,4\n",
    "pandas.csv": ",x,y\n0,1.0,2.0\n1,3.0,4.0\n",
    "again.csv": "Unnamed: 0,x,y\n7,1,2\n8,3,4\n",
    "index.csv": "index,t,x,y\n0,0,1,2\n1,0.5,3,4\n",
    "quoted.csv": '"x","y"\n"1","2"\n"3","4"\n',
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_read_without_their_times(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(TABLES[name], encoding="utf-8")
    assert read_signal(tmp_path / name).values.tolist() == [[1, 2], [3, 4]]


def npy(values: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, values, allow_pickle=True)


BROKEN: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "text": ("a.csv", lambda path: path.write_text("x,y\n\n# no\n1,a\n"), "line 4 has 'a', expected a number with a d"),
    "missing": ("a.csv", lambda path: path.write_text("NA,2\n3,4\n"), "line 1 has 'NA' among its cells, expected num"),
    "all missing": ("a.csv", lambda path: path.write_text("NA,-\n3,4\n"), "line 1 has 'NA' among its cells"),
    "slip": ("a.csv", lambda path: path.write_text("# no\n0.l,0.2\n3,4\n"), "line 2 has '0.l' among its cells"),
    "comma": ("a.csv", lambda path: path.write_text("1,5;2\n3;4\n"), "line 1 has '1,5' among its cells, expected num"),
    "commas": ("a.csv", lambda path: path.write_text("1,5;2,5\n3;4\n"), "line 1 has '1,5' among its cells"),
    "pandas": ("a.csv", lambda path: path.write_text(",0,1\n0,1,2\n1,3,4\n"), "line 1 has '' among its cells, expect"),
    "numbers": (
        "a.csv",
        lambda path: path.write_text("0,1,2\n0.5,0.1,0.2\n"),
        "line 1 may be names of columns or numbers, 0, 1, 2: name the columns in words, or write 0.0",
    ),
    "no name": ("a.csv", lambda path: path.write_text("a,,b\n1,2,3\n"), "column 2 has no name: name it, or take aw"),
    "comma at the end": ("a.csv", lambda path: path.write_text("a,b,\n1,2,\n"), "column 3 has no name"),
    "commas at the end": ("a.csv", lambda path: path.write_text("1,2,\n3,4,\n"), "line 1 has '' among its cells"),
    "no index": ("a.csv", lambda path: path.write_text(",a\n0.5,2\n0.6,3\n"), "column 1 has no name"),
    "only times": ("a.csv", lambda path: path.write_text("t\n1\n2\n"), "it has no columns but times"),
    "only names": ("a.csv", lambda path: path.write_text("a,b\n"), "has no samples"),
    "too large": ("a.csv", lambda path: path.write_text("1e39,2\n3,4\n"), "NaN or infinity"),
    "no rows": ("a.npy", npy(np.zeros((0, 3))), "has no samples"),
    "text as wav": ("a.wav", lambda path: path.write_text("hello"), "a signal: it is no WAV file, which begins with"),
    "packed wav": ("a.wav", lambda path: path.write_bytes(riff(7, 8, b"123")), "of format 7 with 8 bits, expected PCM"),
    "odd wav": (
        "a.wav",
        lambda path: path.write_bytes(riff(1, 40, b"12345")),
        "of format 1 with 40 bits, expected",
    ),
    "ragged": ("a.csv", lambda path: path.write_text("1,2\n3\n"), "line 2 has 1 columns, expected 2"),
    "empty": ("a.csv", lambda path: path.write_text(""), "has no samples"),
    "nan": ("a.csv", lambda path: path.write_text("1,nan\n"), "NaN or infinity"),
    "no wav": ("a.wav", lambda path: path.write_bytes(b"RIFF"), "cannot be read as a signal"),
    "cut wav": ("a.wav", lambda path: path.write_bytes(b"RIFF\x24\0\0\0WAVEfmt "), "cannot be read as a signal"),
    "broken off": (
        "a.wav",
        lambda path: path.write_bytes(riff(1, 16, bytes(40))[:-6]),
        "its sound ends after 34 of 40 bytes",
    ),
    "objects": ("a.npy", npy(np.array([{}])), "cannot be read as a signal"),
    "axes": ("a.npy", npy(np.zeros((2, 2, 2))), r"expected numbers \[L\] or \[L, C\]"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_signals_that_cannot_be_read_are_named(kind: str, tmp_path: Path) -> None:
    name, make, sentence = BROKEN[kind]
    make(tmp_path / name)
    with pytest.raises(DataError, match=sentence) as caught:
        read_signal(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.fixture
def signals(tmp_path: Path) -> Path:
    for name, first in (("high", 0), ("low", 5)):
        (tmp_path / "signals" / name).mkdir(parents=True)
        for number in range(5):
            values = np.random.default_rng(first + number).uniform(-1, 1, (40, 2))
            np.save(tmp_path / "signals" / name / f"{number}.npy", values)
    return tmp_path / "signals"


def test_signals_become_bins_of_means_or_of_spikes(signals: Path) -> None:
    values = np.load(signals / "low" / "4.npy")
    means = load_samples(signals, EventRecipe(steps=8), inputs(encoding="sequence"))
    assert (means.kind, means.sample_shape, means.class_sizes()) == ("signals", (2,), [("high", 4, 1), ("low", 4, 1)])
    x, labels = means.test.batch(torch.arange(2))
    assert labels.tolist() == [0, 1]
    np.testing.assert_allclose(x[:, 1], values.reshape(8, 5, 2).mean(1), rtol=1e-5, atol=1e-6)
    spikes = delta(torch.from_numpy(values).float()[:, None], 0.3, "count")[:, 0].view(8, 5, 2, 2).sum(1)
    for kind, expected in (("count", spikes), ("binary", spikes.clamp(max=1))):
        recipe = EventRecipe(steps=8, values=kind)
        found = load_samples(signals, recipe, inputs(encoding="delta", delta_threshold=0.3))
        if kind == "count":
            assert torch.equal(found.test.batch(torch.tensor([1]))[0][:, 0], expected)
        else:
            assert torch.equal(found.test.batch(torch.tensor([1]))[0][:, 0].bool(), expected.bool())
    whole = load_samples(signals, EventRecipe(steps=0), inputs(encoding="sequence", normalize=True))
    flat = whole.train.batch(torch.arange(8))[0].flatten(0, 1).double()
    assert flat.mean(0).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert flat.std(0, correction=0).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_signals_are_cut_into_windows_if_their_rate_is_known(signals: Path) -> None:
    recipe = EventRecipe(steps=5, window_ms=100, windows="all")
    with pytest.raises(DataError, match=r"0\.npy does not say its rate: set signal_rate"):
        load_samples(signals, recipe, inputs(encoding="sequence"))
    samples = load_samples(signals, recipe, inputs(encoding="sequence", signal_rate=100))
    assert len(samples.test) == 2 * 4
    first = load_samples(signals, EventRecipe(steps=5, window_ms=100), inputs(encoding="sequence", signal_rate=100))
    assert len(first.test) == 2
    with pytest.raises(DataError, match="lasts 400 ms, less than window_ms = 500"):
        load_samples(signals, EventRecipe(steps=5, window_ms=500), inputs(encoding="sequence", signal_rate=100))
    with pytest.raises(DataError, match=r"0\.npy: a signal has 40 samples, which do not make steps = 41 bins"):
        load_samples(signals, EventRecipe(steps=41), inputs(encoding="sequence"))
    np.save(signals / "low" / "9.npy", np.zeros((40, 3)))
    with pytest.raises(DataError, match=r"0\.npy has 2 channels, but .*9\.npy 3"):
        load_samples(signals, EventRecipe(steps=4), inputs(encoding="sequence"))


def test_a_new_file_that_the_encoder_does_not_take_is_named(signals: Path, tmp_path: Path) -> None:
    recipe, settings = EventRecipe(steps=20), inputs(encoding="sequence")
    reader = InputReader(recipe, settings, encoder_of(settings, recipe), load_samples(signals, recipe, settings).spec)
    np.save(tmp_path / "short.npy", np.zeros((7, 2), np.float32))
    with pytest.raises(DataError, match=r"short\.npy: a signal has 7 samples, which do not make steps = 20 bins"):
        reader.read(tmp_path / "short.npy")


def sounds(folder: Path, rates: Sequence[int] = (100, 100), length: int = 40) -> Path:
    for label, name in enumerate("ab"):
        for number in range(5):
            values = np.random.default_rng(10 * label + number).uniform(-1, 1, (length, 1))
            sound(folder / name / f"{number}.wav", values, 2, rates[number % 2])
    return folder


@pytest.mark.parametrize("settings", [{"encoding": "delta"}, {"encoding": "sequence", "steps": 0}, {"mel_bands": 4}])
def test_signals_whose_rate_counts_have_one(settings: dict[str, Any], tmp_path: Path) -> None:
    config = checked_config({"encoding": "sequence", "steps": 2, **settings})
    with pytest.raises(
        DataError, match=r"1\.wav has 2000 samples a second, expected 1000, as of those in training: conv"
    ):
        load_samples(sounds(tmp_path / "mixed", (1000, 2000)), config.recipe, config.inputs)
    found = load_samples(sounds(tmp_path / "one", (1000, 1000)), config.recipe, config.inputs)
    assert (found.rate, found.spec.rate) == (1000, 1000)
    encoder = encoder_of(config.inputs, config.recipe)
    reader = InputReader(config.recipe, config.inputs, encoder, found.spec)
    assert reader.read(tmp_path / "mixed/a/0.wav")
    with pytest.raises(DataError, match=r"1\.wav has 2000 samples a second, expected 1000"):
        reader.read(tmp_path / "mixed/a/1.wav")
    other = load_samples(sounds(tmp_path / "other", (2000, 2000)), config.recipe, config.inputs, whole=True)
    with pytest.raises(UsageError, match=r"signals of other have 2000 samples a second, .* was trained on 1000: conv"):
        as_trained(other, found.spec)


def test_means_of_bins_are_those_of_any_rate(tmp_path: Path) -> None:
    folder = sounds(tmp_path / "mixed", (1000, 2000))
    assert load_samples(folder, EventRecipe(steps=2), inputs(encoding="sequence")).rate == 0


def test_columns_of_tables_are_the_same_in_all_files(tmp_path: Path) -> None:
    """Channels go by their place: with other names there a file would be taken for something else."""
    for number in range(10):
        path = tmp_path / "own" / "ab"[number // 5] / f"{number}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("time,X,y\n" + "".join(f"{step},{number},0\n" for step in range(8)))
    settings = EventRecipe(steps=4), inputs(encoding="sequence")
    found = load_samples(tmp_path / "own", *settings)
    assert found.spec.channels == ["x", "y"]
    path.write_text("".join(f"{number},0\n" for step in range(8)))  # without names
    assert load_samples(tmp_path / "own", *settings).spec.channels == ["x", "y"]
    path.write_text("y,x,time\n" + "".join(f"0,{number},{step}\n" for step in range(8)))
    with pytest.raises(DataError, match=r"9.csv has the columns y, x, but .*0.csv x, y: give all files the same colu"):
        load_samples(tmp_path / "own", *settings)
    reader = InputReader(settings[0], settings[1], encoder_of(settings[1], settings[0]), found.spec)
    assert len(reader.read(tmp_path / "own" / "a" / "0.csv")) == 1
    with pytest.raises(DataError, match=r"9.csv has the columns y, x, but those in training x, y: give all files"):
        reader.read(path)
    (tmp_path / "other" / "a").mkdir(parents=True)
    shutil.copy(path, tmp_path / "other" / "a")
    with pytest.raises(UsageError, match="signals of other have the columns y, x, the network was trained on x, y: gi"):
        as_trained(load_samples(tmp_path / "other", *settings, whole=True), found.spec)


def test_signals_of_different_lengths_need_bins_or_windows(signals: Path) -> None:
    np.save(signals / "low" / "0.npy", np.zeros((41, 2)))
    with pytest.raises(DataError, match=r"high/0\.npy makes 40 steps, but .*low/0\.npy 41: set steps, the number of"):
        load_samples(signals, EventRecipe(steps=0), inputs(encoding="sequence"))
    assert len(load_samples(signals, EventRecipe(steps=4), inputs(encoding="sequence")).train) == 8


@pytest.mark.parametrize("name", ["sounds", "signals"])
def test_settings_that_change_nothing_of_signals_are_refused(name: str, signals: Path, tmp_path: Path) -> None:
    folder = sounds(tmp_path / "sounds") if name == "sounds" else signals
    with pytest.raises(UsageError, match="signal_rate changes nothing without mel_bands or window_ms: set one of"):
        load_samples(folder, EventRecipe(steps=4), inputs(encoding="sequence", signal_rate=100))
    with pytest.raises(UsageError, match="values = count is for spikes of encoding=delta, and of sequence changes"):
        load_samples(folder, EventRecipe(steps=4, values="count"), inputs(encoding="sequence"))
    windows = EventRecipe(steps=4, window_ms=100)
    if name == "sounds":
        with pytest.raises(UsageError, match="signal_rate changes nothing of sounds, whose WAV files say their own"):
            load_samples(folder, windows, inputs(encoding="sequence", signal_rate=100))
    else:
        assert len(load_samples(folder, windows, inputs(encoding="sequence", signal_rate=100)).test) == 2


def test_a_rate_that_contradicts_a_file_is_refused(tmp_path: Path) -> None:
    folder = sounds(tmp_path / "mixed", (100, 200))
    for label in "ab":  # a file that does not say its rate
        np.save(folder / label / "5.npy", np.zeros((40, 1)))
    windows, settings = EventRecipe(steps=4, window_ms=100), inputs(encoding="sequence", signal_rate=100)
    with pytest.raises(DataError, match=r"mixed/a/1\.wav has 200 samples a second, but signal_rate is 100: convert"):
        load_samples(folder, windows, settings)
    # of a network that is trained the setting is about the files of the training
    assert len(load_samples(folder, windows, settings, whole=True).test) == 12
    assert len(load_samples(sounds(tmp_path / "other", (200, 200)), windows, settings, whole=True).test) == 10
    assert len(load_samples(sounds(folder, (100, 100)), windows, settings).train) == 10


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_sound_of_a_pipe_has_no_size(size: int, tmp_path: Path) -> None:
    content = bytearray(riff(1, 16, bytes(range(10))))
    content[-14:-10] = struct.pack("<I", size)
    (tmp_path / "a.wav").write_bytes(content)
    assert len(read_signal(tmp_path / "a.wav").values) == 5


def test_sounds_need_an_encoder_of_signals(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number in range(5):
            sound(tmp_path / name / f"{number}.wav", WAVE, 2)
    with pytest.raises(UsageError, match=r"encoding constant is for values without time, .* has signals"):
        load_samples(tmp_path, STEPS)
    assert load_samples(tmp_path, STEPS, inputs(encoding="sequence")).sample_shape == (2,)


IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 5), dtype=np.uint8)
LABELS = np.arange(20) % 2
TRAIN = {"x_train": IMAGES[:15], "y_train": LABELS[:15]}
ARRAYS: dict[str, dict[str, Any]] = {
    "keras": {"x_train": IMAGES[:15], "y_train": LABELS[:15], "x_test": IMAGES[15:], "y_test": LABELS[15:]},
    "medmnist": {
        "train_images": IMAGES[:15], "train_labels": LABELS[:15, None],
        "test_images": IMAGES[15:], "test_labels": LABELS[15:, None], "val_images": IMAGES, "val_labels": LABELS,
    },
    "one": {"x": IMAGES, "y": LABELS, "class_names": np.array(["even", "odd"])},
    "bytes": {"x": IMAGES, "y": LABELS, "class_names": np.array([b"even", "fünf".encode()])},
    "channels last": {"images": np.repeat(IMAGES[..., None], 3, 3), "labels": LABELS},
}  # fmt: skip


@pytest.mark.parametrize("whole", [False, True])
def test_samples_for_testing_are_those_that_the_file_names(whole: bool, tmp_path: Path) -> None:
    tests = {"x_test": IMAGES[15:].astype(np.int64), "y_test": LABELS[15:]}
    np.savez(tmp_path / "my.npz", x=IMAGES[:15], y=LABELS[:15], **tests, weights=LABELS)
    with pytest.warns(UserWarning, match=r"^1 arrays of .*my\.npz are left out: weights$"):
        samples = load_samples(tmp_path / "my.npz", STEPS, whole=whole)
    assert (len(samples.train), len(samples.test)) == (15, 5)
    x, _ = samples.test.batch(torch.arange(5))
    assert torch.equal((x[0, :, 0] * 255).round().byte(), torch.from_numpy(IMAGES[15:]))


@pytest.mark.filterwarnings("ignore:2 arrays of .*my.npz are left out. val_images, val_labels")
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_in_a_file_are_found_by_their_usual_names(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "my.npz"
    np.savez(path, **ARRAYS[kind])
    samples = load_samples(path, STEPS)
    assert samples.sample_shape == ((3 if kind == "channels last" else 1), 4, 5)
    names = {"one": ("even", "odd"), "bytes": ("even", "fünf")}
    assert samples.class_names == names.get(kind, ("0", "1"))
    rows = torch.arange(len(samples.test))
    x, labels = samples.test.batch(rows)
    chosen = [row for row in range(20) if row >= 15] if kind in ("keras", "medmnist") else [8, 9, 18, 19]
    assert labels.tolist() == LABELS[chosen].tolist()
    assert torch.equal((x[0, :, 0] * 255).round().byte(), torch.from_numpy(IMAGES[chosen]))


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"a": IMAGES}, "holds a, expected x_train, y_train, x_test and y_test, or x and y"),
        (
            {"x": IMAGES, "y": LABELS[:15]},
            r"^\(x, y\) of .*my.npz has values \[20, 1, 4, 5\] and labels \[15\], exp",
        ),
        ({"x": IMAGES[:15], "y": LABELS}, r"has values \[15, 1, 4, 5\] and labels \[20\], expected"),
        ({"x": IMAGES, "y": np.int64(1)}, r"and labels \[\], expected \[N, ...\] and \[N\]"),
        ({"x": np.float32(1), "y": LABELS}, r"has values \[\] and labels \[20\], expected"),
        ({"x": IMAGES, "y": LABELS - 1}, "has labels from -1 to 0: number classes from 0"),
        (
            {"x": IMAGES, "y": LABELS + 1},
            "labels from 1 to 2, and no training samples of class 0: number the classes",
        ),
        ({"x": IMAGES, "y": LABELS * 3}, "labels from 0 to 3, and no training samples of class 1"),
        ({"x": IMAGES, "y": LABELS * 10**9}, r"labels from 0 to 10{9}, and no training samples of class 1"),
        ({**TRAIN, "x_test": IMAGES[:3], "y_test": [0, 1, 2]}, "from 0 to 2, and no training samples of class 2"),
        ({"x": IMAGES, "y": LABELS * 0}, "has one class: give samples of another one"),
        ({"x": IMAGES, "y": LABELS + 0.5}, "has 0.5 in y, expected numbers of classes"),
        ({"x": IMAGES, "y": np.where(LABELS, np.nan, 0)}, "has nan in y, expected numbers of classes"),
        ({"x": IMAGES, "y": np.where(LABELS, np.inf, 0)}, "has inf in y, expected numbers of classes"),
        (
            {"x": IMAGES, "y": np.array(["a", "b"] * 10)},
            "has text in y: number the classes from 0, and give",
        ),
        ({"x": IMAGES + 1j, "y": LABELS}, "values of .* are torch.complex128, expected real numbers"),
        ({"x": IMAGES, "y": LABELS, "class_names": "ab"}, r"class_names of .* are \[\], expected \[C\]"),
        (
            {"x": IMAGES, "y": LABELS, "class_names": ["a"]},
            "labels from 0 to 1 and 1 class_names: number classes",
        ),
        ({"x": IMAGES, "y": LABELS, "class_names": ["a", "a"]}, "my calls two classes 'a': give each class a name"),
        ({"x": IMAGES[:3], "y": LABELS[:3]}, "has 3 samples, of which every 5th of a class is for testing: give more"),
        (
            {**TRAIN, "x_test": IMAGES[:3, :3], "y_test": LABELS[:3]},
            r"\[15, 1, 4, 5\], labels .* values \[3, 1, 3, 5\]",
        ),
        (
            {"x": np.array([{}] * 20), "y": LABELS},
            "it holds Python objects, or is none of NumPy's files, expected",
        ),
    ],
)
def test_arrays_that_cannot_be_used_are_named(arrays: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "my.npz", **arrays)
    with pytest.raises(DataError, match=sentence):
        load_samples(tmp_path / "my.npz", STEPS)


LABELS_IN_OTHER_FORMS: dict[str, Callable[[Any], Any]] = {
    "column": lambda labels: labels[:, None],
    "truth values": lambda labels: labels == 1,
    "float": lambda labels: labels.astype(np.float32),
    "half": lambda labels: labels.astype(np.float16),
    "unsigned": lambda labels: labels.astype(np.uint64),
    "other order of bytes": lambda labels: labels.astype(">i4"),
    "one-hot": lambda labels: np.eye(2)[labels],
    "one-hot truth values": lambda labels: np.eye(2, dtype=bool)[labels],
}


@pytest.mark.parametrize("parted", [False, True])
@pytest.mark.parametrize("form", LABELS_IN_OTHER_FORMS)
def test_labels_in_a_file_may_have_other_forms(form: str, parted: bool, tmp_path: Path) -> None:
    labels = LABELS_IN_OTHER_FORMS[form](LABELS)
    arrays = {"x_train": IMAGES[:16], "y_train": labels[:16], "x_test": IMAGES[16:], "y_test": labels[16:]}
    np.savez(tmp_path / "my.npz", **(arrays if parted else {"x": IMAGES, "y": labels}))
    samples = load_samples(tmp_path / "my.npz", STEPS)
    assert samples.class_sizes() == [("0", 8, 2), ("1", 8, 2)]
    assert samples.test.batch(torch.arange(4))[1].tolist() == [0, 1, 0, 1]


def test_classes_that_a_file_names_may_be_without_samples(tmp_path: Path) -> None:
    path = tmp_path / "my.npz"
    np.savez(path, x=IMAGES, y=LABELS * 2, class_names=["a", "b", "c"])
    with pytest.warns(UserWarning, match=r"there are no training samples in .*my.npz of b$"):
        samples = load_samples(path, STEPS)
    assert samples.class_sizes() == [("a", 8, 2), ("b", 0, 0), ("c", 8, 2)]


def test_a_file_that_is_only_asked_about_may_have_some_classes(tmp_path: Path) -> None:
    path = tmp_path / "my.npz"
    np.savez(path, x=IMAGES[:3], y=[2, 2, 4])
    samples = load_samples(path, STEPS, whole=True)
    assert (samples.class_names, samples.test.labels.tolist()) == (("0", "1", "2", "3", "4"), [2, 2, 4])
    np.savez(path, x=IMAGES[:3], y=[2, 2, 10**9])
    with pytest.raises(DataError, match="labels up to 1000000000, more than there can be classes"):
        load_samples(path, STEPS, whole=True)


def test_other_targets_of_a_file_are_values_of_outputs(tmp_path: Path) -> None:
    targets = np.stack([LABELS, np.ones(20), LABELS * 0.5], 1).astype(np.float32)
    np.savez(tmp_path / "my.npz", x=IMAGES / 255, y=targets)
    samples = load_samples(tmp_path / "my.npz", STEPS)
    assert len(samples.class_names) == 3
    assert samples.test.batch(torch.arange(4))[1].tolist() == targets[4::5].tolist()


def test_values_of_outputs_are_found_by_their_names(tmp_path: Path) -> None:
    targets = np.array([[1, 1, 0], [0, 1, 1]] * 10)
    np.savez(tmp_path / "learned.npz", x=IMAGES, y=targets, class_names=["a", "b", "c"])
    spec = load_samples(tmp_path / "learned.npz", STEPS).spec
    np.savez(tmp_path / "other.npz", x=IMAGES, y=targets[:, [2, 0, 1]], class_names=["c", "a", "b"])
    other = as_trained(load_samples(tmp_path / "other.npz", STEPS, whole=True), spec)
    assert other.test.batch(torch.arange(20))[1].tolist() == targets.tolist()
    np.savez(tmp_path / "fewer.npz", x=IMAGES, y=targets[:, :2], class_names=["a", "b"])
    fewer = load_samples(tmp_path / "fewer.npz", STEPS, whole=True)
    with pytest.raises(UsageError, match="fewer has values for a, b, the network has the outputs a, b, c: add those"):
        as_trained(fewer, spec)


@pytest.mark.parametrize("shape", [(20, 20), (20, 4, 5), (20, 1, 4, 5)])
def test_pixels_of_arrays_are_normalised_as_pixels(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.savez(tmp_path / "my.npz", x=IMAGES.reshape(shape), y=LABELS)
    x, _ = load_samples(tmp_path / "my.npz", STEPS, inputs(normalize=True)).train.batch(torch.arange(16))
    assert float(x.mean()) == pytest.approx(0, abs=1e-5)
    assert float(x.std(correction=0)) == pytest.approx(1, abs=1e-5)


def damaged(path: Path) -> None:
    """Write an archive whose packed numbers are no longer such."""
    np.savez_compressed(path, x=np.random.default_rng(0).random((20, 5)), y=LABELS)
    content = bytearray(path.read_bytes())
    content[60:400] = bytes(340)
    path.write_bytes(content)


DAMAGED: dict[str, Callable[[Path], Any]] = {
    "packed numbers": damaged,
    "no archive": lambda path: path.write_bytes(b"PK\x03\x04" + b"z" * 200),
    "text": lambda path: path.write_text("hello"),
    "nothing": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_archives_are_named(kind: str, tmp_path: Path) -> None:
    DAMAGED[kind](tmp_path / "my.npz")
    with pytest.raises(DataError, match=r"my\.npz cannot be read as arrays: .+; repair or remove it"):
        load_samples(tmp_path / "my.npz", STEPS)


def test_the_encoder_is_that_of_the_functions() -> None:
    values = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Encoder("constant", 5)(values), constant(values, 5))
    assert torch.equal(Encoder("constant", 5, neurons=4)(values), constant(population(values, 4), 5))
    pixels = (values * 255).byte()
    assert torch.equal(Encoder("constant", 2)(pixels), constant(pixels.float() / 255, 2))
    scaled = Encoder("constant", 2, mean=(0.1, 0.2, 0.3), deviation=(1.0, 2.0, 4.0))(values)
    expected = (values - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([1.0, 2.0, 4.0])
    torch.testing.assert_close(scaled[0], expected)
    signal = torch.rand(4, 12, 3)
    assert torch.equal(Encoder("sequence", 0)(signal), signal.transpose(0, 1))
    assert torch.equal(Encoder("delta", 0, 0.2)(signal), delta(signal.transpose(0, 1), 0.2))


@pytest.mark.parametrize("kind", [np.int64, np.uint16])
def test_test_images_of_another_type_are_pixels_like_those_of_the_training(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "my.npz"
    np.savez(path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES.astype(kind), y_test=LABELS)
    samples = load_samples(str(path), EventRecipe(steps=2))
    every = torch.arange(len(samples.test))
    assert torch.equal(samples.test.batch(every)[0], samples.train.batch(every)[0])
    np.savez(path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES / 255, y_test=LABELS)
    real = load_samples(str(path), EventRecipe(steps=2)).test.batch(every)[0]
    torch.testing.assert_close(real, samples.train.batch(every)[0])
    np.savez(path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES.astype(kind) + 256, y_test=LABELS)
    with pytest.raises(UsageError, match="the network was trained on pixels: give integers 0 to 255"):
        load_samples(str(path), EventRecipe(steps=2))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Ts,Tb\n3,2\n1,4\n", [[3, 2], [1, 4]]),
        ("t_s,x\n0.0,2\n0.5,4\n", [[2], [4]]),
        ("time,0,1\n0.0,2,3\n0.5,4,5\n", [[2, 3], [4, 5]]),
        ("t,x\n3,2\n1,4\n", [[2], [4]]),
    ],
)
def test_short_names_of_times_are_times_if_they_grow(text: str, values: list[list[float]], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert read_signal(tmp_path / "a.csv").values.tolist() == values
