"""Networks that were trained on recordings of one's own, asked about others."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import small_recordings as make
from spiking_lfp.data import cache as cache_module
from spiking_lfp.training import load_run

Call = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:no recording like", "ignore:layer . did not spike")
SMALL = ["--network=mlp", "--steps=4", "--epochs=1", "--device=cpu", "--set=hidden=8", "--set=threshold=0.2"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKING_LFP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache_module, "MAX_WORKERS", 1)


def write(folder: Path, classes: str = "ab", count: int = 5, left: int = 0) -> Path:
    """Write recordings of 20 x 20 pixels that name no sensor; those of class a are on the left, with fewer columns."""
    for label, name in enumerate(classes):
        for number in range(count):
            made = make.events(10 * label + number, 80, width=10, height=20)
            made["x"] += left + 10 * label
            made["x"][:2], made["y"][:2] = (left + 10 * label, left + 10 * label + 9), (0, 19)
            (folder / name).mkdir(parents=True, exist_ok=True)
            np.save(folder / name / f"{number}.npy", made)
    return folder


def train(call: Call, data: object, *settings: str, out: str = "run") -> Path:
    answer = call("train", *SMALL, "--data", data, "--out", out, *(f"--set={each}" for each in settings))
    assert answer.code == 0, answer.err
    return Path(out)


def answers(call: Call, run: Path, *files: object) -> list[list[str]]:
    answer = call("predict", run, *files, "--format", "csv")
    assert answer.code == 0, answer.err
    return list(csv.reader(answer.out.splitlines()))[1:]


def of_evaluation(call: Call, run: Path, data: object) -> str:
    answer = call("evaluate", run, "--data", data)
    assert answer.code == 0, answer.err
    return str(answer.out.partition("\nconfusion")[0]).replace(f"of {Path(str(data)).name}", "of DATA").strip()


# ---------------------------------------------------------------- the sensor


@pytest.mark.parametrize("setting", ["crop=12", "downsample=2", "centre=true"])
def test_a_file_alone_is_read_by_the_sensor_of_the_training(setting: str, call: Call) -> None:
    write(Path("own"))
    run = load_run(train(call, "own", setting), "cpu")
    assert run.data.sensor == [2, 20, 20]
    files = sorted(Path("own").glob("*/*.npy"))
    samples = run.samples("own")  # all of them are for testing
    x, _ = samples.test.batch(torch.arange(len(files)))
    read = [run.reader.read(path)[0].values for path in files]
    assert all(np.array_equal(each, x[:, index]) for index, each in enumerate(read))


@pytest.mark.parametrize("setting", ["crop=12", "polarities=2"])
def test_other_recordings_are_evaluated_by_the_sensor_of_the_training(setting: str, call: Call) -> None:
    write(Path("own"))
    run = train(call, "own", setting)
    expected = dict(answers(call, run, *sorted(Path("own/a").iterdir()))[number][:2] for number in range(5))
    shutil.rmtree("own/b")  # what is left has a smaller sensor, if its files are asked
    found = load_run(run, "cpu").evaluate("own")
    assert [found.class_names[label] for label in found.predictions.tolist()] == list(expected.values())


def test_recordings_of_another_sensor_are_not_cut_as_those_of_the_training(call: Call, data_root: Path) -> None:
    write(Path("own"))
    run = train(call, "own", "crop=12")
    answer = call("evaluate", run, "--data", "mnist@saccades")
    assert answer.error.startswith(
        "the recordings of mnist@saccades are of a sensor of 34 x 34 pixels, the network was trained on 20 x 20: give"
    )


# ---------------------------------------------------------------- other folders


def test_a_folder_to_evaluate_needs_neither_sessions_nor_training_samples(call: Call) -> None:
    write(Path("days/monday"))
    write(Path("days/tuesday"))
    run = train(call, "days", "test_session=tuesday")
    expected = of_evaluation(call, run, "days/tuesday")
    shutil.copytree("days/tuesday", "only/test")
    assert of_evaluation(call, run, "only") == expected
    assert of_evaluation(call, run, "days") == expected
    shutil.rmtree("days/monday/a")
    assert of_evaluation(call, run, "days") == expected


@pytest.mark.parametrize("command", ["explain", "animate"])
def test_pictures_say_the_classes_of_the_network(command: str, call: Call) -> None:
    write(Path("own"))
    run = train(call, "own")
    out = "picture.gif" if command == "animate" else "picture.png"
    assert call(command, run, "--out", out).code == 0
    Path("own/a").rename("own/c")  # now they are b and c, in the other order
    answer = call(command, run, "--out", "other" + out)
    assert answer.error == "own has the class 'c', the network knows a, b: rename or remove it"
    assert not Path("other" + out).exists()


def test_exported_networks_find_classes_by_their_names(call: Call) -> None:
    write(Path("own"))
    run = train(call, "own", "crop=12")
    assert call("export", run, "--to", "artifact", "--calibration", "8", "-o", "out").code == 0
    assert answers(call, Path("out/net.h5"), "own/a/0.npy")
    assert call("simulate", "out/net.h5", "--data", "own").code == 0
    Path("own/a").rename("own/c")
    error = "own has the class 'c', the network knows a, b: rename or remove it"
    assert call("simulate", "out/net.h5", "--data", "own").error == error


@pytest.mark.filterwarnings("always")
def test_notes_beside_samples_are_no_samples(call: Call) -> None:
    write(Path("own"))
    run = train(call, "own")
    expected = answers(call, run, "own")
    Path("own/README.md").write_text("Recordings.")
    Path("own/README.txt").write_text("Recordings.")
    Path("own/a/0.txt").write_text("the first")  # a note about a recording
    assert answers(call, run, "own") == expected
    Path("own/a/more.csv").write_text("x,y,t,p\n1,2,3,1\n")
    answer = call("predict", run, "own", "--format", "csv")
    assert list(csv.reader(answer.out.splitlines()))[1:] == expected
    assert "1 files of text in own, which has other recordings, are left out: more.csv; name them if" in answer.err
    assert len(answers(call, run, "own", "own/a/more.csv")) == 11
    again = call("train", *SMALL, "--data", "own", "--out", "again")
    assert "1 more files of it are left out, because they are text beside other recordings, or do not end" in again.err


# ---------------------------------------------------------------- windows


@pytest.mark.filterwarnings("always")
def test_recordings_without_a_window_are_told_and_not_lost(call: Call) -> None:
    write(Path("own"))
    whole = np.load("own/a/1.npy")
    np.save("own/a/1.npy", whole[whole["t"] < whole["t"][0] + 20_000])
    words = [*SMALL, "--data", "own", "--out", "run", "--set=window_ms=30", "--set=windows=all"]
    answer = call("train", *words)
    assert answer.code == 0
    sentence = "1 of 10 recordings are left out, because each has no whole window of window_ms = 30: 1.npy"
    assert f"warning: {sentence}" in answer.err
    # also where they come from the cache
    assert f"warning: {sentence}" in call("train", *words[:-3], "again", *words[-2:]).err
    assert call("predict", "run", "own/a/0.npy", "own/a/1.npy").error == (
        "own/a/1.npy has no whole window of window_ms = 30: leave it out"
    )


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("bin_by", ["time", "count"])
def test_recordings_that_end_before_their_window_are_told(bin_by: str, call: Call) -> None:
    write(Path("own"))
    whole = np.load("own/a/1.npy")
    np.save("own/a/1.npy", whole[whole["t"] < whole["t"][0] + 20_000])
    words = [*SMALL, "--data", "own", "--set=window_ms=30", f"--set=bin_by={bin_by}", "--out"]
    sentence = (
        "1 of 10 samples are shorter than window_ms = 30, with empty steps at the end: 1.npy; lower window_ms, or"
    )
    told = [call("train", *words, name).err for name in ("run", "again")]  # also where they come from the cache
    assert [f"warning: {sentence}" in each for each in told] == [bin_by == "time"] * 2
    told = [call("predict", "run", f"own/a/{number}.npy").err for number in (0, 1)]
    assert ["is shorter than window_ms = 30" in each for each in told] == [False, bin_by == "time"]


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ([], "1 of 10 samples are without events: 1.npy; remove the recordings"),
        (["crop=1"], "10 of 10 samples are without events: 0.npy, 1.npy, 2.npy, ...; set another crop or denoise_us"),
        (["window_ms=10"], "1 of 10 samples are without events: 1.npy; remove the recordings"),
        (["window_ms=10", "windows=all"], "1 of 72 samples are without events: 0.npy; set min_events=1 to leave them"),
    ],
)
def test_samples_without_events_are_told(settings: list[str], advice: str, call: Call) -> None:
    write(Path("own"))
    for path in Path("own").glob("*/*.npy"):
        events = np.load(path)
        np.save(path, events[np.abs(events["y"] - 10) > 1])  # none in the middle
    np.save("own/a/1.npy", events[:0])
    pause = np.load("own/a/0.npy")
    np.save("own/a/0.npy", pause[(pause["t"] - pause["t"][0]) // 10_000 != 1])
    answer = call("train", *SMALL, "--data", "own", "--out", "run", *(f"--set={each}" for each in settings))
    assert f"warning: {advice}" in answer.err


def test_windows_keep_their_numbers_where_others_are_left_out(call: Call) -> None:
    write(Path("own"))
    for path in Path("own").glob("*/*.npy"):
        events = np.load(path)
        since = events["t"] - events["t"][0]
        np.save(path, events[(since < 5_000) | (since >= 25_000)])
    run = train(call, "own", "window_ms=20", "windows=all", "min_events=10")
    names = [name for name, *_ in answers(call, run, "own/a/0.npy")]
    assert names == ["own/a/0.npy[1]", "own/a/0.npy[2]", "own/a/0.npy[3]"]
    assert len(np.load("own/a/0.npy")) > 30


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["min_events=5"], "min_events leaves out windows of windows = all: set windows=all and window_ms, too"),
        (["window_ms=0.0004"], "window_ms = 0.0004 is less than a microsecond: give 0.001 or more, or 0 for the whole"),
        (["chip=davis346"], "chip = davis346 changes nothing of {own}, it is for files that end in .aedat, .aedat2, "),
    ],
)
def test_settings_that_change_nothing_of_recordings_are_refused(settings: list[str], sentence: str, call: Call) -> None:
    own = write(Path("own")).resolve()
    answer = call("train", *SMALL, "--data", "own", "--out", "run", *(f"--set={each}" for each in settings))
    assert answer.error.startswith(sentence.format(own=own))
    assert (answer.code, Path("run").exists()) == (2, False)


def test_settings_that_contradict_a_file_are_refused_with_its_name(call: Call) -> None:
    for path in write(Path("own")).glob("*/*.npy"):
        made = np.load(path)
        made["t"] //= 1000  # milliseconds, which the file does not say
        np.save(path, made)
    run = train(call, "own", "time_unit=ms")
    micros = np.load("own/b/4.npy")[["x", "y", "t", "p"]].astype([("x", "i2"), ("y", "i2"), ("t_us", "i8"), ("p", "?")])
    micros["t_us"] *= 1000
    np.save("own/b/4.npy", micros)
    answer = call("train", *SMALL, "--data", "own", "--out", "again", "--set=time_unit=ms")
    assert (answer.code, answer.error) == (
        1,
        f"{Path('own/b/4.npy').resolve()} cannot be read: its column t_us has times in us, but time_unit is ms: set "
        "time_unit=us, leave it out, or correct the file",
    )
    # of a network that is trained the setting is about the files of the training
    assert answers(call, run, "own/b/4.npy")[0][0] == "own/b/4.npy"
    assert of_evaluation(call, run, "own")


def test_a_folder_called_as_a_data_set_is_not_taken_for_it(call: Call) -> None:
    for name in ("mnist-subset", "yin-yang", "braille"):
        write(Path(name))
    train(call, "yin-yang")
    assert load_run("run").config.data == "yin-yang"
    assert call("train", *SMALL, "--data", "braille", "--out", "b").error.startswith("data set 'braille' is not in")
    assert load_run(train(call, "./braille", out="c")).config.data == str(Path("braille").resolve())
