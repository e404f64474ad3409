"""What a trained network says of new files, and of labelled ones, by commands."""

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spiking_lfp.deploy.backends.c import compiler
from spiking_lfp.training import load_run
from spiking_lfp.training.checkpoint import Checkpoint

Call = Callable[..., Any]
NET = """
from torch import nn
from spiking_lfp import LIF, Flatten

def build(in_shape, classes, width=6):
    channels, height, sides = in_shape
    first = LIF(nn.Linear(channels * height * sides, width), threshold=0.2)
    return nn.Sequential(Flatten(), first, LIF(nn.Linear(width, classes), threshold=0.2))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of ten pictures, of which a row is lit."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for row, name in enumerate(("one", "seven", "zero")):
        (folder / name).mkdir()
        for number in range(10):
            pixels = random.integers(0, 80, (9, 8), dtype=np.uint8)
            pixels[3 * row : 3 * row + 2] = 255
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def run(call: Call, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network of one's own on pictures of one's own."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    words = [
        "--network",
        "net.py:build(width=20)",
        "--data",
        photos,
        "--steps",
        "8",
        "--batch-size",
        "6",
        "--lr",
        "0.02",
    ]
    answer = call("train", *words, "--epochs", "8", "--out", "run")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].startswith(f"data     {photos.name}: 24 + 6 samples for training and testing, 3 classes of 8 + 2")
    assert "net.py:build(width=20)" in lines[1]
    assert "beta=" not in answer.out
    return tmp_path / "run"


@pytest.mark.parametrize("beta", ["0.5", "0.9"])  # 0.9 is the default of the setting, not of the function
def test_a_setting_that_the_users_function_does_not_take_is_refused(
    beta: str, call: Call, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(NET)
    words = ["--network", f"{tmp_path}/net.py:build", "--data", photos, "--out", tmp_path / "run"]
    answer = call("train", *words, "--set", f"beta={beta}")
    assert answer.code == 2
    message = " ".join(answer.err.split())
    assert message.endswith("net.py:build, which does not take it: leave it out")
    assert "error: beta changes nothing of network" in message
    assert not (tmp_path / "run").exists()


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_files_and_folders_are_answered_in_three_forms(
    run: Path, photos: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    names, expected = load_run(run).predict_files([photos / "one", photos / "zero" / "1.png"])
    assert len(names) == 11
    table = rows(call("predict", run, photos / "one", photos / "zero" / "1.png", "--format", "csv").out)
    assert [row["file"] for row in table] == names
    assert [row["class"] for row in table] == expected.names
    assert [float(row["seven"]) for row in table] == expected.scores[:, 1].tolist()
    found = json.loads(call("predict", run, photos / "one", photos / "zero" / "1.png", "--format", "json").out)
    assert [entry["class"] for entry in found] == expected.names
    assert [list(entry["scores"].values()) for entry in found] == expected.scores.tolist()
    shown = call("predict", run, photos / "zero" / "1.png").out
    assert f"{expected.scores[10].max():.3f}" in shown
    assert rows(call("predict", run, photos, "--format", "csv").out)
    correct = sum(
        row["class"] in row["file"].split("/") for row in rows(call("predict", run, photos, "--format", "csv").out)
    )
    assert correct > 20
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "one").symlink_to(photos / "one")
    assert load_run(run).predict_files([linked])[0] == [str(linked / "one" / Path(name).name) for name in names[:10]]


def test_pictures_of_other_sizes_are_scaled_and_arrays_are_taken(run: Path, photos: Path, call: Call) -> None:
    image = Image.open(photos / "one" / "3.png")
    image.resize((32, 36), Image.Resampling.NEAREST).convert("RGB").save("large.png")
    pixels = np.asarray(image)
    np.save("one.npy", pixels)
    np.savez("three.npz", x=np.stack([pixels] * 3))
    expected = rows(call("predict", run, photos / "one" / "3.png", "--format", "csv").out)[0]
    arrays = rows(call("predict", run, "one.npy", "three.npz", "--format", "csv").out)
    assert [row["file"] for row in arrays] == ["one.npy", "three.npz[0]", "three.npz[1]", "three.npz[2]"]
    np.save("swapped.npy", pixels.astype(">i2"))
    np.save("bytes.npy", pixels.astype("<i2"))
    swapped, plain = rows(call("predict", run, "swapped.npy", "bytes.npy", "--format", "csv").out)
    assert {**swapped, "file": ""} == {**plain, "file": ""}
    for row in arrays:
        assert {**row, "file": ""} == {**expected, "file": ""}
    assert rows(call("predict", run, "large.png", "--format", "csv").out)[0]["class"] == expected["class"]


def test_files_that_cannot_be_asked_about_are_named(run: Path, call: Call, photos: Path) -> None:
    Path("notes.aedat4").write_bytes(b"x")
    np.save("odd.npy", np.zeros((4, 4), np.uint8))
    np.save("number.npy", 3.0)
    np.savez("empty.npz")
    np.savez("several.npz", x_train=np.zeros((2, 9, 8), np.uint8), x_test=np.zeros((2, 9, 8), np.uint8))
    np.save("complex.npy", np.zeros((9, 8), complex))
    Path("damaged.npz").write_bytes(b"PK\x03\x04" + b"z" * 200)
    Path("none").mkdir()
    for words, sentence in {
        ("gone.png",): "there is no file gone.png",
        ("none",): "none holds no images",
        ("notes.aedat4",): "notes.aedat4 cannot be classified: the network was trained on images",
        ("number.npy",): "number.npy holds one number, expected samples",
        ("empty.npz",): "empty.npz holds no arrays",
        ("several.npz",): "several.npz holds x_train, x_test: call the samples x, or put them into a file of their own",
        ("complex.npy",): "the values of complex.npy are torch.complex128, expected real numbers",
        ("damaged.npz",): "damaged.npz cannot be read as arrays: File is not a zip file; repair or remove it",
        ("odd.npy",): "a step of odd.npy[0] is [4], the network was trained on [1, 9, 8]",
    }.items():
        answer = call("predict", run, *words)
        assert answer.code == 1
        assert sentence in answer.error
    assert call("predict", run, photos, "--format", "xml").code == 2


def test_evaluate_goes_by_the_names_of_classes_and_takes_whole_folders(run: Path, call: Call, photos: Path) -> None:
    """A folder with one class of three: its number there is 0, and all of its files count."""
    shutil.copytree(photos / "seven", "some/seven")
    answer = call("evaluate", run, "--data", "some")
    assert answer.code == 0
    right = sum(name == "seven" for name in load_run(run).predict_files([photos / "seven"])[1].names)
    assert f"test accuracy {right / 10:.2%} on 10 samples of some" in answer.out
    assert right >= 5
    assert Path("run/confusion.png").read_bytes().startswith(b"\x89PNG")
    other = call("evaluate", run, "--data", "some", "--picture", "other.png")
    assert other.code == 0
    assert Path("other.png").is_file()
    shutil.copytree(photos / "one", "some/nine")
    assert (
        "some has the class 'nine', the network knows one, seven, zero" in call("evaluate", run, "--data", "some").error
    )


@pytest.mark.skipif(compiler() is None, reason="there is no C compiler")
def test_the_integer_network_and_the_c_program_give_the_same_answers(run: Path, call: Call, photos: Path) -> None:
    assert call("export", run, "--to", "artifact", "c", "--calibration", "20").code == 0
    table = rows(call("predict", "out/net.h5", photos, "--format", "csv").out)
    assert len(table) == 30
    converted = call("convert", photos, "--for", "out/net.h5", "-o", "samples.bin")
    assert "30 samples, 2,160 bytes: samples.bin" in converted.out
    subprocess.run(["make", "-s", "-C", "out/c", "classify"], check=True)
    with Path("samples.bin").open("rb") as file:
        done = subprocess.run(["out/c/classify"], stdin=file, capture_output=True, text=True, check=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [name for name, _ in lines] == [row["class"] for row in table]
    scores = [max(float(row[name]) for name in ("one", "seven", "zero")) for row in table]
    assert [int(count) for _, count in lines] == [round(8 * score) for score in scores]


def test_settings_come_from_a_file_and_the_version_is_told(run: Path, call: Call) -> None:
    from spiking_lfp import __version__

    assert call("train", "--config", "run/config.toml", "--out", "again", "--verbose").code == 0
    assert Path("again/metrics.jsonl").read_text().count('"epoch", "epoch"') == 8
    both = call("train", "mnist-mlp", "--config", "run/config.toml")
    assert (both.code, "--config has all settings: drop mnist-mlp" in both.error) == (2, True)
    assert "cannot read nothing.toml" in call("train", "--config", "nothing.toml").error
    assert call("--version").out == f"spiking-lfp {__version__}\n"
    assert "--install-completion" in call("--help").out


@pytest.mark.filterwarnings("always")
def test_a_run_that_was_broken_off_says_so(run: Path, call: Call, photos: Path) -> None:
    checkpoint = Checkpoint.load(run)
    replace(checkpoint, progress=replace(checkpoint.progress, epoch=2)).save(run)
    for words in (("evaluate", run), ("info", run), ("export", run, "--calibration", "4", "-o", "out")):
        answer = call(*words)
        assert answer.code == 0
        sentence = f"the run in {run} is not finished: this is its network in epoch 3 of 8, after 0 updates of it"
        assert f"warning: {sentence}" in answer.err


def test_names_that_look_like_styles_and_emojis_are_shown_as_they_are(call: Call, tmp_path: Path) -> None:
    names = ["[/a]", "[red]", ":cat:"]
    labels = np.arange(60) % 3
    rng = np.random.default_rng(2)
    values = rng.random((60, 6)).astype(np.float32)
    np.savez(tmp_path / "odd.npz", x=values, y=labels, class_names=np.array(names))
    words = ["--network=mlp", "--set=hidden=9", "--set=steps=3", "--set=threshold=0.2"]
    assert call("train", *words, "--data", tmp_path / "odd.npz", "--epochs", 1, "--out", "odd").code == 0
    np.save("some.npy", values[:2])
    answer = call("evaluate", "odd")
    assert (answer.code, answer.err) == (0, "")
    assert all(name in answer.out for name in names)
    assert any(name in call("predict", "odd", "some.npy").out for name in names)


def test_pixels_of_arrays_are_the_same_to_a_run_and_to_what_was_exported_of_it(call: Call, finished: Path) -> None:
    assert call("export", finished, "--calibration", "20", "-o", "out").code == 0
    pixels = np.random.default_rng(3).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    np.save("pixels.npy", pixels)
    for network in (finished, "out/net.h5"):
        expected = call("predict", network, "pixels.npy", "--format", "csv")
        for kind in (np.int64, np.uint16):
            np.save("pixels.npy", pixels.astype(kind))
            answer = call("predict", network, "pixels.npy", "--format", "csv")
            assert (answer.code, answer.out) == (expected.code, expected.out)
        for name, values, sentence in (
            (
                "far.npy",
                pixels.astype(np.float32),
                "far.npy[0]: values are torch.float32 from 0 to 255, the network was",
            ),
            ("nan.npy", pixels / np.where(pixels == 7, np.nan, 255), "nan.npy[0] holds NaN or infinity: repair or"),
        ):
            np.save(name, values)
            assert call("predict", network, name).error.startswith(sentence)
