"""Data sets by name that are neither images nor events: Yin-Yang, and spoken digits, heard in bands."""

import os
import shutil
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spiking_lfp import LIF, fit
from spiking_lfp.data import EventRecipe, dataset_status, load_dataset, subset
from spiking_lfp.data.samples import load_samples
from spiking_lfp.data.signals import Signal, read_signal
from spiking_lfp.data.sound import FLOOR, mel_bands, read_sound
from spiking_lfp.data.yin_yang import yin_yang
from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.training import TrainConfig, load_run, preset_config, train


def settings(**changes: object) -> TrainConfig:
    return TrainConfig.model_validate({"hidden": (9,), "epochs": 1, "threshold": 0.1, **changes})


@pytest.mark.skipif("SPIKING_LFP_DATA" not in os.environ, reason="SPIKING_LFP_DATA is not set: no published points")
def test_points_are_those_that_were_published() -> None:
    data_root = Path(os.environ["SPIKING_LFP_DATA"])
    for name, size, seed in (("train", 5000, 42), ("validation", 1000, 41), ("test", 1000, 40)):
        values, labels = yin_yang(size, seed)
        np.testing.assert_array_equal(values, np.load(data_root / "yin_yang" / f"{name}_samples.npy"))
        np.testing.assert_array_equal(labels, np.load(data_root / "yin_yang" / f"{name}_labels.npy"))


def test_points_need_no_files_and_train(tmp_path: Path) -> None:
    config = preset_config("yin-yang", {"epochs": 1})
    samples = load_samples("yin-yang", config.recipe, config.inputs, tmp_path)
    assert (len(samples.train), len(samples.test), samples.sample_shape) == (5000, 1000, (4,))
    assert samples.class_names == ("yin", "yang", "dot")
    scaled = load_samples("yin-yang", config.recipe, settings(data="yin-yang", normalize=True).inputs)
    x, _ = scaled.train.batch(torch.arange(5000))
    torch.testing.assert_close(x[0].mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    run = train(config, tmp_path / "run")
    assert load_run(run).evaluate().accuracy > 0.6  # 0.35 by chance
    with pytest.raises(UsageError, match="encoding delta is for signals, yin-yang has values"):
        load_samples("yin-yang", config.recipe, settings(encoding="delta").inputs)


def slow_bands(values: np.ndarray, rate: float, bands: int, hop: int) -> np.ndarray:
    """Window by window and frequency by frequency, by the definition."""
    window, size = round(0.025 * rate), 1
    while size < window:
        size *= 2
    shape = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    before = (size - window) // 2
    padded = np.concatenate([np.zeros(size // 2), values, np.zeros(size // 2)])
    scale = lambda f: 2595 * np.log10(1 + f / 700)  # noqa: E731
    edges = [700 * (10 ** (scale(rate / 2) * k / (bands + 1) / 2595) - 1) for k in range(bands + 2)]
    rows = []
    for start in range(0, len(values) + 1, hop):
        part = padded[start + before : start + before + window] * shape
        row = []
        for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
            energy = 0.0
            for k in range(size // 2 + 1):
                f = k * rate / size
                weight = max(0.0, min((f - low) / (middle - low), (high - f) / (high - middle)))
                angle = -2j * np.pi * k * np.arange(window) / size
                energy += weight * abs((part * np.exp(angle)).sum()) ** 2 / window
            row.append(np.log10(energy + FLOOR))
        rows.append(row)
    return np.array(rows)


def test_bands_are_those_of_the_definition() -> None:
    random = np.random.default_rng(0)
    values = random.uniform(-1, 1, (333, 2)).astype(np.float32)
    found = mel_bands(Signal(values, 4000.0), 6, hop_ms=5.0)
    expected = np.concatenate([slow_bands(values[:, channel], 4000.0, 6, 20) for channel in range(2)], 1)
    np.testing.assert_allclose(found.values, expected, atol=1e-4)
    assert found.rate == 200
    centred = mel_bands(Signal(values, 4000.0), 6, hop_ms=5.0, centred=True)
    np.testing.assert_allclose(centred.values, expected - expected.mean(0), atol=1e-4)


def write_digits(root: Path, takes: int) -> None:
    (root / "fsdd").mkdir()
    random = np.random.default_rng(0)
    for digit in range(10):
        for speaker in ("ann", "bob"):
            for take in range(takes):
                length = 900 + 100 * (take + digit % 3)
                tone = np.sin(2 * np.pi * (300 + 300 * digit) * np.arange(length) / 8000)
                samples = (9000 * tone + random.normal(0, 300, length)).astype("<i2")
                with wave.open(str(root / "fsdd" / f"{digit}_{speaker}_{take}.wav"), "wb") as file:
                    file.setparams((1, 2, 8000, length, "NONE", ""))
                    file.writeframes(samples.tobytes())


def test_a_part_of_the_spoken_digits_is_told(tmp_path: Path) -> None:
    write_digits(tmp_path, 6)
    changes: dict[str, object] = {"data": "spoken-digits", "encoding": "sequence", "steps": 2}
    config = settings(**changes)
    for path in (tmp_path / "fsdd").glob("[2-9]_*.wav"):
        path.unlink()
    shutil.copytree(tmp_path / "fsdd", tmp_path / "fsdd/recordings")  # as in the archive, and taken out of it
    with pytest.warns(UserWarning, match="a part of spoken-digits, without training samples of 2, 3, 4, 5, 6, 7, 8, 9"):
        samples = load_samples("spoken-digits", config.recipe, config.inputs, tmp_path)
    assert (len(samples.train), len(samples.test)) == (4, 20)
    shutil.rmtree(tmp_path / "fsdd/recordings")
    for path in (tmp_path / "fsdd").glob("*_[0-4].wav"):
        path.unlink()
    with pytest.raises(DataError, match=r"fsdd has 4 recordings for training and 0 for testing, which are takes 0 to"):
        load_samples("spoken-digits", config.recipe, config.inputs, tmp_path)
    for path in (tmp_path / "fsdd").glob("*_bob_*.wav"):
        path.unlink()
    with pytest.raises(DataError, match="0 recordings for training and 2 for testing, which are those of ann: add"):
        load_samples("spoken-digits", settings(**changes, test_session="ann").recipe, config.inputs, tmp_path)


def test_digits_are_split_by_take_or_by_speaker_heard_in_bands_and_predicted(tmp_path: Path) -> None:
    write_digits(tmp_path, 8)
    changes: dict[str, object] = {
        "data": "spoken-digits", "encoding": "sequence", "mel_bands": 12, "hop_ms": 5.0, "steps": 10, "normalize": True
    }  # fmt: skip
    config = settings(**changes, readout="membrane", epochs=4, batch_size=8, lr=1e-2)
    samples = load_samples("spoken-digits", config.recipe, config.inputs, tmp_path)
    assert (len(samples.train), len(samples.test), samples.sample_shape) == (60, 100, (12,))
    by_speaker = settings(**changes, test_session="bob")
    samples = load_samples("spoken-digits", by_speaker.recipe, by_speaker.inputs, tmp_path)
    assert (len(samples.train), len(samples.test)) == (80, 80)
    with pytest.raises(UsageError, match="test_session 'eve' is no speaker of spoken-digits: it has ann, bob"):
        load_samples("spoken-digits", settings(**changes, test_session="eve").recipe, config.inputs, tmp_path)
    status = next(each for each in dataset_status(tmp_path) if each.name == "spoken-digits")
    assert (status.present, status.incomplete_sizes) == (True, (60, 100))
    with pytest.raises(DataError, match=r"not in .*fsdd: put the files DIGIT_SPEAKER_TAKE.wav"):
        load_samples("spoken-digits", config.recipe, config.inputs, tmp_path / "fsdd")

    run = load_run(train(config, tmp_path / "run", tmp_path))
    files = [tmp_path / "fsdd" / f"{digit}_ann_0.wav" for digit in range(10)]
    _, found = run.predict_files(files)
    centred = {**changes, "centre_bands": True, "normalize": False}
    louder = settings(**centred)
    x, _ = load_samples("spoken-digits", louder.recipe, louder.inputs, tmp_path).train.batch(torch.arange(60))
    assert x.mean(0).abs().max() < 0.2  # bins of unequal length have a mean beside that of the recording
    assert sum(name == str(digit) for digit, name in enumerate(found.names)) >= 8


def test_sound_without_a_rate_and_with_too_many_bands_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(500, np.float32))
    assert len(read_sound(tmp_path / "a.npy").values) == len(read_signal(tmp_path / "a.npy").values)
    with pytest.raises(DataError, match=r"a.npy does not say its rate: set signal_rate"):
        read_sound(tmp_path / "a.npy", bands=8)
    with pytest.raises(
        DataError, match=r"too few for 400 mel bands, of which number 0 would be empty: lower mel_bands"
    ):
        read_sound(tmp_path / "a.npy", 8000.0, bands=400)
    assert read_sound(tmp_path / "a.npy", 8000.0, bands=8).values.shape == (7, 8)


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        ("mnist-subset", {"mel_bands": 8}, "mel_bands = 8 changes nothing of mnist-subset in training: leave it at 0"),
        ("mnist-subset", {"image_size": "9x9"}, "image_size = 9x9 changes nothing"),
        (
            "mnist-subset",
            {"downsample": 2},
            "downsample = 2 changes nothing of mnist-subset in training: leave it at 1",
        ),
        ("mnist-subset", {"augment": ("flip=0.5",), "copies": 2}, "augment = flip=0.5 changes nothing"),
        ("mnist-subset", {"signal_rate": 8000.0}, "signal_rate = 8000.0 changes nothing"),
        ("mnist-subset", {"chip": "davis346"}, "chip = davis346 changes nothing"),
        ("mnist-subset", {"window_ms": 5.0}, "window_ms = 5.0 changes nothing"),
        ("mnist-subset", {"values": "count"}, "values = count changes nothing"),
        ("mnist-subset@saccades", {"chip": "davis346"}, "chip = davis346 changes nothing"),
        ("mnist-subset@saccades", {"test_session": "x"}, "test_session = x changes nothing of mnist-subset@saccades"),
        ("spoken-digits", {"polarities": 1, "encoding": "sequence"}, "polarities = 1 changes nothing"),
        ("yin-yang", {"flip": True}, "flip = True changes nothing of yin-yang in training: leave it at False"),
        ("yin-yang", {"test_session": "x"}, "test_session = x changes nothing"),
        ("spoken-digits", {"shift": 2, "encoding": "sequence"}, "shift = 2 changes nothing"),
        ("recordings", {"cutout": 4}, "cutout = 4 changes nothing of .*recordings in training"),
        ("recordings", {"encoding": "rate"}, "encoding = rate changes nothing .* leave it at 'constant'"),
        ("recordings", {"normalize": True}, "normalize = True changes nothing"),
        ("values.npz", {"shift": 1}, "shift = 1 changes nothing of values.npz"),
        ("values.npz", {"crop": 3}, "crop = 3 changes nothing"),
    ],
)
def test_settings_that_would_change_nothing_are_refused(
    data: str, changes: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPIKING_LFP_CACHE", str(tmp_path / "cache"))
    if data == "spoken-digits":
        write_digits(tmp_path, 6)
    for kind in ("left", "right"):
        for number in range(6):
            path = tmp_path / "recordings" / kind / f"{number}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.arange(40).reshape(10, 4) % np.array([9, 9, 40, 2]))
    np.savez(tmp_path / "values.npz", x=np.random.default_rng(0).random((20, 5)), y=np.arange(20) % 2)
    config = settings(data="mnist", **changes)
    by_name = ("mnist-subset", "mnist-subset@saccades", "yin-yang", "spoken-digits")
    name = data if data in by_name else str(tmp_path / data)
    with pytest.raises(UsageError, match=message):
        load_samples(name, config.recipe, config.inputs, tmp_path)


@pytest.mark.parametrize("changes", [{"flip": True}, {"normalize": True}, {"crop": 3}, {"mel_bands": 4}])
def test_fit_refuses_settings_that_would_change_nothing(changes: dict[str, object], tmp_path: Path) -> None:
    samples = torch.rand(12, 6), torch.arange(12) % 2
    network = torch.nn.Sequential(LIF(torch.nn.Linear(6, 2), threshold=0.1))
    with pytest.raises(UsageError, match="changes nothing of data given in Python"):
        fit(network, samples, samples, out=tmp_path / "run", epochs=1, progress=False, **changes)
    assert not (tmp_path / "run").exists()


def test_hops_need_bands() -> None:
    with pytest.raises(ValueError, match="hop_ms is the time between windows of mel_bands, which is 0"):
        settings(hop_ms=5.0)
    with pytest.raises(ValueError, match="centre_bands is about mel_bands, which is 0"):
        settings(centre_bands=True)


@pytest.mark.usefixtures("unchecked")
def test_arguments_that_are_none_are_refused_in_one_sentence() -> None:
    digits, recipe = load_dataset("mnist-subset"), EventRecipe(steps=2)
    calls: dict[str, Callable[[], Any]] = {
        r"recipe must be an EventRecipe\(...\), found dict": lambda: load_samples("mnist-subset", {"steps": 5}),  # type: ignore[arg-type]
        r"inputs must be an InputRecipe\(...\), found dict": lambda: load_samples("mnist-subset", recipe, {}),  # type: ignore[arg-type]
        "root must be a path, found 5": lambda: load_samples("n-mnist", recipe, root=5),  # type: ignore[arg-type]
        "train must be an integer, at least 0, found 20.5": lambda: subset(digits, train=20.5),  # type: ignore[arg-type]
        "seed must be an integer, at least 0, found 1.5": lambda: subset(digits, seed=1.5),  # type: ignore[arg-type]
        "dataset must be an ImageDataset, .*, found 'mnist'": lambda: subset("mnist"),  # type: ignore[arg-type]
        "classes must be a list of class indices, found 3": lambda: subset(digits, classes=3),  # type: ignore[arg-type]
        "setting downsample = 100000: Input should be less": lambda: EventRecipe(downsample=100_000),
        "setting denoise_us = 10+: Input should be less": lambda: EventRecipe(denoise_us=10**30),
    }
    for sentence, call in calls.items():
        with pytest.raises(UsageError, match=f"^{sentence}"):
            call()
