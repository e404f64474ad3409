"""What each command does, prints and leaves behind."""

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
import typer
from rich.console import Console

from spiking_lfp.cli import main
from spiking_lfp.cli.main import app
from spiking_lfp.data import DATASET_NAMES, EVENT_SOURCES
from spiking_lfp.plots.drawing import OFF
from spiking_lfp.training import (
    TrainConfig,
    load_run,
    preset_config,
    preset_names,
    preset_title,
    read_config,
    read_metrics,
)
from spiking_lfp.training.config import GROUPS

Call = Callable[..., Any]
FILES = ["checkpoint.pt", "config.toml", "learning_curve.png", "metrics.jsonl", "spike_raster.png"]


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.glob("[!.]*"))


def without_time(folder: Path) -> list[dict[str, Any]]:
    lines = read_metrics(folder)
    for line in lines:
        line.pop("seconds", None)
    return lines


def weights(folder: Path) -> list[bytes]:
    return [parameter.detach().numpy().tobytes() for parameter in load_run(folder).network.parameters()]


def test_train_keeps_and_reports_a_run(call: Call, settings: list[str]) -> None:
    answer = call("train", *settings, "--out", "a run", "--verbose")
    assert (answer.code, answer.err) == (0, "")
    assert names(Path()) == ["a run"]
    assert names(Path("a run")) == FILES
    accuracies = [line["test"]["accuracy"] for line in read_metrics(Path("a run")) if line["kind"] == "epoch"]
    assert len(accuracies) == 2
    assert f"test accuracy {accuracies[-1]:.2%} after epoch 2" in answer.out
    assert [f"test {accuracy:.2%}" in answer.out for accuracy in accuracies] == [True, True]
    assert "10 classes of 6 + 3\n" in answer.out
    assert "\nrun      a run, on cpu\n" in answer.out
    assert "saved in a run:" in answer.out
    assert "hidden=8" in answer.out


def test_train_numbers_its_folders(call: Call, settings: list[str]) -> None:
    assert [call("train", *settings, "--epochs", 1).code for _ in range(2)] == [0, 0]
    assert names(Path("runs")) == ["mnist-mlp", "mnist-mlp-2"]


def test_options_and_settings_reach_the_run(call: Call) -> None:
    words = "--epochs 1 --seed 3 --data mnist --batch-size 20 --steps 4 --beta 0.8 --lr 1e-2"
    changes = ["hidden=9,7", "schedule = cosine", "normalize_feedback=true", "validation=0.2", "threshold=0.1"]
    answer = call(
        "train", "mnist-mlp", *words.split(), *(f"--set={change}" for change in changes), "--out", "run"
    )  # fmt: skip
    assert answer.code == 0
    expected = {
        "preset": "mnist-mlp", "epochs": 1, "seed": 3, "data": "mnist", "batch_size": 20, "steps": 4, "beta": 0.8,
        "lr": 0.01, "hidden": (9, 7), "schedule": "cosine", "normalize_feedback": True, "validation": 0.2,
        "threshold": 0.1,
    }  # fmt: skip
    config = read_config(Path("run"))
    assert {key: value for key, value in dict(config).items() if value != TrainConfig.model_fields[key].default} == {
        key: value for key, value in expected.items() if value != TrainConfig.model_fields[key].default
    }
    assert "validation accuracy" in answer.out


def test_a_lenet_trains(call: Call, settings: list[str]) -> None:
    answer = call("train", "mnist-lenet", *settings[1:], "--set=channels=2,3", "--epochs", 1, "--out", "run")
    assert (answer.code, answer.err) == (0, "")
    assert [each.shape[0] for each in load_run(Path("run")).network.parameters()] == [2, 2, 3, 3, 8, 8, 10, 10]


def test_the_data_root_may_be_an_option(
    call: Call, settings: list[str], data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPIKING_LFP_DATA", str(data_root / "nowhere"))
    assert call("train", *settings, "--data-root", data_root, "--epochs", 1, "--out", "run").code == 0


def test_the_pictures_show_something(call: Call, settings: list[str]) -> None:
    call("train", *settings, "--out", "run")
    for name, colour in (("learning_curve.png", OFF), ("spike_raster.png", (0, 0, 0))):
        pixels = np.round(matplotlib.image.imread(Path("run") / name)[..., :3] * 255)
        height, width, _ = pixels.shape
        assert min(height, width) >= 300
        assert 100 < (pixels == colour).all(-1).sum() < 0.5 * height * width


@pytest.mark.parametrize("stop_at", [4, 9])
def test_ctrl_c_says_how_to_go_on_exactly(
    stop_at: int, call: Call, settings: list[str], finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spiking_lfp.training import loop

    step, steps = loop.training_step, []

    def training_step(*arguments: Any) -> None:
        steps.append(1)
        if len(steps) == stop_at:
            raise KeyboardInterrupt
        step(*arguments)

    monkeypatch.setattr(loop, "training_step", training_step)
    stopped = call("train", *settings, "--out", "run")
    assert stopped.code == 130
    before, _, words = stopped.error.partition("; continue with: spiking-lfp ")
    assert (before, words) == ("interrupted", "train --resume run")
    answer = call(*words.split())
    assert (answer.code, answer.err) == (0, "")
    assert names(Path("run")) == FILES
    assert without_time(Path("run")) == without_time(finished_run)
    assert weights(Path("run")) == weights(finished_run)


def test_resume_leaves_a_finished_run(call: Call, finished: Path) -> None:
    before = {each.name: each.read_bytes() for each in finished.iterdir()}
    assert call("train", "mnist-mlp", "--resume", finished).code == 0
    after = {each.name: each.read_bytes() for each in finished.iterdir()}
    assert {name: after[name] for name in before} == before


def test_evaluate_repeats_the_accuracy(call: Call, finished_run: Path) -> None:
    answer = call("evaluate", finished_run)
    last = read_metrics(finished_run)[-1]["test"]
    assert (answer.code, answer.err) == (0, "")
    assert f"test accuracy {last['accuracy']:.2%} on 30 samples of mnist\n" in answer.out
    _, after = answer.out.split("spikes per neuron and step")
    table = [line.split("│")[1:3] for line in after.splitlines() if line.startswith("│")]
    assert {name.strip(): rate.strip() for name, rate in table} == {
        name: f"{rate:.2%}" for name, rate in last["spike_rates"].items()
    }


def test_evaluate_takes_other_data(call: Call, finished_run: Path) -> None:
    answer = call("evaluate", finished_run, "--data", "mnist-subset", "--picture", "other.png")
    assert answer.code == 0
    assert "2000 samples of mnist-subset" in answer.out
    answer = call("evaluate", finished_run, "--data", "fashion-mnist")
    assert "fashion-mnist has the class 'T-shirt/top', the network knows 0, 1, 2" in answer.error


@pytest.mark.parametrize(
    ("picture", "says"),
    [
        ("x.xyz", "cannot write x.xyz: its name must end in .png, .pdf, .svg, .jpg, .jpeg, .webp, .tif or .tiff"),
        ("no/a.png", "cannot write no/a.png, no is not a folder; choose another --picture"),
        (".", "cannot write ., it is a folder; choose another --picture"),
    ],
)
def test_evaluate_says_where_its_picture_cannot_go_before_the_work(
    picture: str, says: str, call: Call, finished_run: Path
) -> None:
    answer = call("evaluate", finished_run, "--picture", picture)
    assert (answer.code, answer.out, answer.err) == (2, "", f"error: {says}\n")
    assert call("evaluate", finished_run, "--picture", "x.pdf").code == 0
    assert Path("x.pdf").read_bytes().startswith(b"%PDF-")


def test_info_shows_settings_network_and_progress(call: Call, finished_run: Path) -> None:
    answer = call("info", finished_run)
    assert (answer.code, answer.err) == (0, "")
    assert "preset=mnist-mlp" in answer.out
    assert "threshold=0.2" in answer.out
    assert "Linear(in_features=784, out_features=8, bias=True)" in answer.out
    assert f"{784 * 8 + 8 + 8 * 10 + 10:,} parameters" in answer.out
    rows = [line.replace("│", " ").split() for line in answer.out.splitlines() if line.startswith("│")]
    expected = [line for line in read_metrics(finished_run) if line["kind"] == "epoch"]
    assert [row[:3] for row in rows] == [
        [str(line["epoch"]), f"{line['train']['accuracy']:.2%}", f"{line['test']['accuracy']:.2%}"] for line in expected
    ]


@pytest.mark.filterwarnings("ignore:.*is not finished")
def test_info_of_a_run_that_has_just_begun(call: Call, finished: Path) -> None:
    content = torch.load(finished / "checkpoint.pt", weights_only=True)
    content["progress"]["epoch"] = 0
    torch.save(content, finished / "checkpoint.pt")
    (finished / "metrics.jsonl").write_text("")
    answer = call("info", finished)
    assert (answer.code, answer.out.splitlines()[-1]) == (0, f"{finished}: no epoch is finished yet")


def test_info_says_which_epochs_the_metrics_lack_and_resume_brings_them_back(call: Call, finished: Path) -> None:
    whole = (finished / "metrics.jsonl").read_text()
    *most, _ = whole.splitlines(keepends=True)
    for content, number in (("", 0), ("".join(most), 1)):
        (finished / "metrics.jsonl").write_text(content)
        answer = call("info", finished)
        assert (answer.code, answer.error) == (
            1, f"{finished / 'metrics.jsonl'} has {number} epochs of the 2 that the checkpoint has: resume the run, "
            "which brings them back, or restore the file",
        )  # fmt: skip
    assert call("train", "--resume", finished).code == 0
    assert (finished / "metrics.jsonl").read_text() == whole


@pytest.mark.parametrize(
    ("folder", "there"), [("", {"mnist-subset", "mnist", "fashion-mnist"}), ("nowhere", {"mnist-subset"})]
)
def test_datasets_says_which_are_there(folder: str, there: set[str], call: Call, data_root: Path) -> None:
    answer = call("datasets", "--data-root", data_root / folder)
    assert (answer.code, answer.err) == (0, "")
    said = dict(line.split()[:: len(line.split()) - 1] for line in answer.out.splitlines())
    names = (*DATASET_NAMES, *EVENT_SOURCES)
    assert {name: said[name] for name in names} == {name: "yes" if name in there else "no" for name in names}
    assert re.search(rf"; data root {data_root / folder}$", answer.out, re.MULTILINE)


def test_datasets_tells_more_of_one(call: Call, data_root: Path, tmp_path: Path) -> None:
    shown = call("datasets", "mnist", "--data-root", data_root).out
    for said in ("LeCun", "1 x 28 x 28", "10\n", "60,000 to learn, 10,000 to test", f"yes, in {data_root / 'MNIST'}"):
        assert said in shown
    assert "downloaded when" in call("datasets", "mnist", "--data-root", tmp_path).out
    assert "cannot be downloaded" in call("datasets", "braille", "--data-root", tmp_path).out
    assert call("datasets", "mnits").error.startswith("unknown data set 'mnits': did you mean 'mnist'?")


@pytest.mark.parametrize("command", ["datasets", "presets"])
def test_lists_fit_a_screen(command: str, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "out", Console(width=80))
    lines = call(command, *(["--data-root", "data"] if command == "datasets" else [])).out.splitlines()
    rows = [line for line in lines if not line.startswith(("cache ", "more "))]  # a path is as long as it is
    assert max(map(len, rows)) <= 80
    assert 10 < len(lines) < 24
    assert "…" not in "".join(lines)


def test_presets_shows_every_setting_of_every_preset(call: Call) -> None:
    answer = call("presets")
    assert (answer.code, answer.err) == (0, "")
    assert all(re.search(rf"^{name} +{re.escape(preset_title(name))}", answer.out, re.M) for name in preset_names())
    shown = call("presets", "custom").out
    rows = {line.split("│")[1].strip(): line for line in shown.splitlines() if line.startswith("│")}
    groups = {f"[{group}]" for group in GROUPS}
    assert set(rows) == (set(TrainConfig.model_fields) - {"preset"}) | groups
    assert all(str(field.description) in rows[key] for key, field in TrainConfig.model_fields.items() if key in rows)
    assert "1000,1000" in rows["hidden"]
    for name in preset_names():
        shown = call("presets", name).out
        rows = {line.split("│")[1].strip(): line for line in shown.splitlines() if line.startswith("│")}
        for key, value in preset_config(name).model_dump().items():
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            assert key == "preset" or text == rows[key].split("│")[2].strip()
    assert call("presets", "mnist").code == 2


def commands() -> Iterator[tuple[str, Any]]:
    """All commands with their names, those of groups too."""

    def below(words: tuple[str, ...], command: Any) -> Iterator[tuple[str, Any]]:
        yield " ".join(words), command
        for name, each in getattr(command, "commands", {}).items():
            yield from below((*words, name), each)

    yield from below((), typer.main.get_command(app))


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_help_shows_every_word_that_is_written(
    name: str, command: Any, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("COLUMNS", "TERMINAL_WIDTH"):
        monkeypatch.setenv(variable, "1000")
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 1000)
    shown = " ".join(call(*name.split(), "--help").out.split())
    for parameter in command.params:
        # markup of Rich swallows words in brackets
        words = " ".join((parameter.help or "").split())
        assert words in shown
        if isinstance(parameter.show_default, str):
            assert f"[default: ({parameter.show_default})]" in shown
    for paragraph in (command.help or "").split("\n\n"):
        assert " ".join(paragraph.split()) in shown


def test_help_names_the_commands(call: Call) -> None:
    answer = call("--help")
    assert (answer.code, answer.err) == (0, "")
    assert all(f" {name} " in answer.out for name in ("train", "evaluate", "info", "datasets", "presets"))
    options = call("train", "--help").out
    assert all(option in options for option in ("--set", "--out", "--resume", "--tensorboard", "--data-root"))


@pytest.mark.parametrize("folder", ["sweep[a]", "x[/b]"])
def test_folders_may_have_brackets_in_their_names(folder: str, call: Call, settings: list[str]) -> None:
    trained = call("train", *settings, "--epochs", 1, "--out", folder)
    assert (trained.code, trained.err) == (0, "")
    assert f"run      {folder}, on cpu\n" in trained.out
    assert f"saved in {folder}:" in trained.out
    shown = call("info", folder)
    assert shown.code == 0
    assert folder in shown.out
    assert f" {folder}\n" in call("datasets", "--data-root", folder).out


def test_silent_layers_are_warned_of(call: Call, settings: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        answer = call("train", *settings, "--set=threshold=1e6", "--out", "run")
    assert answer.code == 0
    said = sorted(answer.err.splitlines())
    assert [line.partition(" did not spike")[0] for line in said] == ["warning: layer 1", "warning: layer 2"]


def test_tensorboard_gets_the_scalars(call: Call, settings: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        answer = call("train", *settings, "--tensorboard", "--out", "run")
        events = EventAccumulator("run/tensorboard").Reload()
    assert (answer.code, answer.err) == (0, "")
    assert names(Path("run")) == sorted([*FILES, "tensorboard"])
    lines = read_metrics(Path("run"))
    updates = {"batch": [2, 4, 6, 8, 10, 12], "epoch": [6, 12]}
    for kind, tag, path in (
        ("epoch", "epoch/test/accuracy", ("test", "accuracy")),
        ("epoch", "epoch/train/spike_rates/1", ("train", "spike_rates", "1")),
        ("batch", "batch/reward", ("reward",)),
        ("batch", "batch/lr", ("lr",)),
    ):
        expected = [line for line in lines if line["kind"] == kind]
        for key in path:
            expected = [line[key] for line in expected]
        found = events.Scalars(tag)
        assert [each.step for each in found] == updates[kind]
        assert [each.value for each in found] == pytest.approx(expected)


def test_metrics_are_plain_json_lines(finished_run: Path) -> None:
    lines = (finished_run / "metrics.jsonl").read_text().splitlines()
    kinds = [json.loads(line, parse_constant=pytest.fail)["kind"] for line in lines]
    assert kinds == ["batch", "batch", "batch", "epoch"] * 2


def test_freed_memory_is_kept_only_by_training(
    call: Call, settings: list[str], finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    monkeypatch.setattr("spiking_lfp.kernels.memory.reuse_freed_memory", lambda: kept.append(os.getpid()))
    call("info", finished_run)
    assert kept == []
    call("train", *settings, "--epochs", 1)
    assert kept == [os.getpid()]
