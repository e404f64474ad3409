"""The search for settings: what is searched, what is held out, how it goes on, and what it turns away."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.processes import ENVIRONMENT
from spiking_lfp.errors import DataError, NonFiniteError, RunError, RunStopped, UsageError
from spiking_lfp.studies import tune as module
from spiking_lfp.studies.tune import JOURNAL, TRIALS, Trial, read_search, tune
from spiking_lfp.training import TrainConfig
from spiking_lfp.training.config import checked_config
from spiking_lfp.training.loop import Trainer

SMALL = {"hidden": "8", "steps": 2, "epochs": 2, "batch_size": 500, "threshold": 0.3, "lr": 0.01}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """Settings of a training on 1,000 of the packaged digits."""
    whole = module.samples_for

    def few(*arguments: Any) -> Any:
        samples = whole(*arguments)
        return type(samples)(
            samples.name, samples.sample_shape, samples.class_names, samples.train.subset(torch.arange(1000)),
            samples.test.subset(torch.arange(10)), samples.source,
        )  # fmt: skip

    monkeypatch.setattr(module, "samples_for", few)
    return checked_config({"data": "mnist-subset", **SMALL})


def test_a_search_goes_on_after_half_a_line(small: TrainConfig, tmp_path: Path) -> None:
    first = tune(small, tmp_path, 2, ["lr=0.001..0.1"])
    journal = tmp_path / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-9])
    found = tune(small, tmp_path, 3, ["lr=0.001..0.1"])
    assert len(found) == 3
    assert {trial.values["lr"] for trial in first if trial.number == 0} < {trial.values["lr"] for trial in found}
    assert tune(small, tmp_path, 3, ["lr=0.001..0.1"]) == found
    assert {path.name for path in tmp_path.iterdir()} == {JOURNAL, TRIALS}


def test_what_is_searched_is_within_its_bounds(small: TrainConfig, tmp_path: Path) -> None:
    called: list[Trial] = []
    search = ["lr=0.001..0.1", "hidden=5,7", "batch_size=100..300", "threshold=0.2..0.4"]
    trials = tune(small, tmp_path, 6, search, called.append)
    assert [trial.number for trial in called] == list(range(6))
    assert sorted(trial.number for trial in trials) == list(range(6))
    accuracies = [trial.accuracy for trial in trials if trial.accuracy is not None]
    assert accuracies == sorted(accuracies, reverse=True)
    assert all(0 <= accuracy <= 1 for accuracy in accuracies)
    for trial in trials:
        assert set(trial.values) == {"lr", "hidden", "batch_size", "threshold"}
        assert 0.001 <= trial.values["lr"] <= 0.1
        assert trial.values["hidden"] in ("5", "7")
        assert isinstance(trial.values["batch_size"], int)
        assert 100 <= trial.values["batch_size"] <= 300
    assert len({trial.values["lr"] for trial in trials}) == 6
    with (tmp_path / TRIALS).open() as file:
        lines = list(csv.DictReader(file))
    by_number = {trial.number: trial for trial in trials}
    assert [float(line["lr"]) for line in lines] == [by_number[number].values["lr"] for number in range(6)]


@pytest.mark.parametrize("word", ["lr=0.1", "lr=0.1,0.10", "hidden=8", "batch_size=64,64,64", "reward=spike-rate"])
def test_one_value_is_no_search(word: str, small: TrainConfig, tmp_path: Path) -> None:
    setting = word.partition("=")[0]
    with pytest.raises(UsageError, match=f"^--search {word}: one value is no search: .* --set {setting}="):
        tune(small, tmp_path / "none", 3, [word])
    assert not (tmp_path / "none").exists()


def test_a_fixed_setting_is_not_searched(small: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^setting lr is fixed and searched: leave one of the two out$"):
        tune(small, tmp_path / "none", 3, ["lr=0.001..0.1"], fixed=["lr"])
    assert not (tmp_path / "none").exists()
    [trial] = tune(small, tmp_path / "rest", 1, fixed=["lr", "clip"])
    assert set(trial.values) == {"gain", "reward"}


def test_a_setting_is_searched_once(small: TrainConfig) -> None:
    with pytest.raises(UsageError, match=r"^--search lr=0\.1,0\.2: lr is searched already: give it once$"):
        read_search(["lr=0.001..0.1", "lr=0.1,0.2"], small)


@pytest.mark.parametrize("readout", ["spikes", "mono"])
def test_the_reward_of_spikes_is_searched_where_spikes_answer(readout: str, small: TrainConfig, tmp_path: Path) -> None:
    changes = {"readout": readout, "hidden": "20", "readout_hidden": "4", "epochs": 1}
    [trial] = tune(checked_config({**small.model_dump(), **changes}), tmp_path, 1)
    assert set(trial.values) == {"lr", "gain", "clip"} | ({"reward"} if readout == "spikes" else set())


def test_the_search_sees_held_out_training_samples_only(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    finish = Trainer.finish

    def watched(run: Trainer) -> None:
        seen.append((len(run.training.split), len(run.evaluation.split)))
        finish(run)

    monkeypatch.setattr(Trainer, "finish", watched)
    tune(small, tmp_path / "a", 1, ["lr=0.001..0.1"])
    tune(small.model_copy(update={"validation": 0.3}), tmp_path / "b", 1, ["lr=0.001..0.1"])
    assert seen == [(900, 100), (700, 300)]


def test_a_search_goes_on_and_does_not_repeat_itself(small: TrainConfig, tmp_path: Path) -> None:
    first = tune(small, tmp_path, 2, ["lr=0.001..0.1"])
    called: list[Trial] = []
    both = tune(small, tmp_path, 4, ["lr=0.001..0.1"], called.append)
    assert [trial.number for trial in called] == [2, 3]
    assert {trial.values["lr"] for trial in first} < {trial.values["lr"] for trial in both}
    assert len({trial.values["lr"] for trial in both}) == 4
    assert tune(small, tmp_path, 3, ["lr=0.001..0.1"], called.append) == both
    with pytest.raises(UsageError, match="has trials of other settings or another search"):
        tune(small, tmp_path, 5, ["lr=0.001..0.2"])
    with pytest.raises(UsageError, match="has trials of other settings or another search"):
        tune(small.model_copy(update={"beta": 0.5}), tmp_path, 5, ["lr=0.001..0.1"])


def test_a_training_that_breaks_is_given_up(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(run: Trainer) -> None:
        raise NonFiniteError("layer 1: its feedback holds NaN")

    monkeypatch.setattr(Trainer, "finish", breaks)
    [trial] = tune(small, tmp_path, 1, ["lr=0.001..0.1"])
    assert (trial.accuracy, trial.given_up) == (None, True)
    assert [trial.number for trial in tune(small, tmp_path, 1, ["lr=0.001..0.1"])] == [0]


def test_a_trial_behind_the_others_is_given_up(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After four trials, one that is worse than the median after its first epoch ends there."""
    done: list[int] = []

    def finish(run: Trainer) -> None:
        for epoch in (1, 2):
            done.append(epoch)
            accuracy = 0.9 if len(done) < 9 else 0.1
            run.callbacks[0].epoch({"kind": "epoch", "epoch": epoch, "validation": {"accuracy": accuracy}})
        run.progress.best_accuracy = 0.9

    monkeypatch.setattr(Trainer, "finish", finish)
    trials = tune(small, tmp_path, 5, ["lr=0.001..0.1"])
    assert done == [1, 2] * 4 + [1]
    assert [(trial.accuracy, trial.given_up) for trial in trials] == [(0.9, False)] * 4 + [(0.1, True)]
    assert "4,0.1,True," in (tmp_path / TRIALS).read_text()


def test_a_trial_that_is_interrupted_does_not_count(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def interrupted(run: Trainer) -> None:
            raise KeyboardInterrupt

        patch.setattr(Trainer, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(small, tmp_path, 2, ["lr=0.001..0.1"])
    trials = tune(small, tmp_path, 2, ["lr=0.001..0.1"])
    assert sorted(trial.number for trial in trials) == [1, 2]
    assert all(trial.accuracy is not None for trial in trials)


def test_a_trial_that_is_told_to_end_is_the_next(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[float] = []
    finish = Trainer.finish

    def kill(run: Trainer) -> None:
        stopped.append(run.config.lr)
        start = run.callbacks[0].batch
        monkeypatch.setattr(
            run.callbacks[0], "batch", lambda *given: (os.kill(os.getpid(), signal.SIGTERM), start(*given))
        )
        finish(run)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "finish", kill)
        with pytest.raises(RunStopped, match="stopped by SIGTERM: the same command continues"):
            tune(small, tmp_path, 2, ["lr=0.001..0.1"])
    trials = {trial.number: trial.values["lr"] for trial in tune(small, tmp_path, 2, ["lr=0.001..0.1"])}
    assert sorted(trials) == [1, 2]
    assert trials[1] == stopped[0] != trials[2]


def test_a_process_that_dies_costs_its_trial_only(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes share a search; one is killed in a trial, whose settings the other tries again."""
    storage, folder, search = f"sqlite:///{tmp_path / 'trials.db'}", tmp_path / "out", ["lr=0.001..0.1"]
    code = f"""
import time
from pathlib import Path
from spiking_lfp.studies.tune import tune
from spiking_lfp.training import TrainConfig
from spiking_lfp.training.loop import Trainer

def finish(run):
    Path({str(tmp_path / "lr.new")!r}).write_text(str(run.config.lr))
    Path({str(tmp_path / "lr.new")!r}).rename({str(tmp_path / "lr")!r})
    time.sleep(60)

Trainer.finish = finish
tune(TrainConfig(**{small.model_dump()!r}), Path({str(folder)!r}), 3, {search!r}, storage={storage!r})
"""
    other = subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT)
    while not (tmp_path / "lr").exists():
        assert other.poll() is None
        time.sleep(0.02)
    assert tune(small, folder, 1, search, storage=storage)[0].number == 1  # while the other trains
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    monkeypatch.setattr(module, "HEARTBEAT_S", 1)
    time.sleep(3)  # until it counts as dead
    trials = tune(small, folder, 3, search, storage=storage)
    assert sorted(trial.number for trial in trials) == [1, 2, 3]
    assert {trial.number: trial.values["lr"] for trial in trials}[2] == float((tmp_path / "lr").read_text())
    assert len({trial.values["lr"] for trial in trials}) == 3
    with (folder / TRIALS).open() as file:
        assert [line["trial"] for line in csv.DictReader(file)] == ["1", "2", "3"]


def test_searches_in_one_storage_are_told_apart_by_folder_and_version(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"sqlite:///{tmp_path / 'trials.db'}"
    for folder in ("a", "b"):
        [trial] = tune(small, tmp_path / folder, 1, ["lr=0.001..0.1"], storage=storage)
        assert trial.number == 0
    with pytest.raises(UsageError, match="has trials of other settings or another search"):
        tune(small, tmp_path / "a", 2, ["lr=0.001..0.2"], storage=storage)
    version = module.spiking_lfp.__version__
    monkeypatch.setattr(module.spiking_lfp, "__version__", "0.0.9")
    sentence = f"a has trials of spiking_lfp {version}, but .* has 0.0.9: install the same version, or choose another"
    with pytest.raises(RunError, match=sentence):
        tune(small, tmp_path / "a", 2, ["lr=0.001..0.1"], storage=storage)


def test_a_process_without_the_data_is_named(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> Any:
        raise DataError("no MNIST in /nowhere")

    monkeypatch.setattr(module, "samples_for", missing)
    monkeypatch.setattr("socket.gethostname", lambda: "node7")
    with pytest.raises(DataError, match=r"^worker node7: no MNIST in /nowhere$"):
        tune(small, tmp_path, 1, ["lr=0.001..0.1"], storage=f"sqlite:///{tmp_path / 'trials.db'}")


@pytest.mark.parametrize(
    ("storage", "error", "sentence"),
    [
        ("nonsense", UsageError, "--storage: Could not parse SQLAlchemy URL .*; expected the URL of a database"),
        ("nonsense://host/name", UsageError, "--storage: .*nonsense; expected the URL of a database"),
        (
            "oracle://me:secret@host/name",
            UsageError,
            "--storage: Failed to import DB access module .*; expected the URL",
        ),
        ("sqlite:////nowhere/trials.db", RunError, "the storage cannot be used: .*unable to open database file"),
    ],
)
def test_a_storage_that_cannot_be_used(
    storage: str, error: type[Exception], sentence: str, small: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(error, match=sentence) as caught:
        tune(small, tmp_path, 1, ["lr=0.001..0.1"], storage=storage)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("lr", r"--search expects KEY=LOW..HIGH or KEY=A,B,..., found 'lr'"),
        ("lr=", r"--search expects"),
        ("lr=3..1", "the range is empty, its first number must be the smaller one"),
        ("lr=0..1", "setting lr = 0.0: Input should be greater than 0"),
        ("lr=-..1", "-..1 is not a range of numbers"),
        ("speed=1..2", "unknown setting 'speed'"),
        ("reward=spike-count,praise", "setting reward = 'praise'"),
        ("validation=0.1..0.5", "validation cannot be searched, it is what trials are judged by; leave it out"),
        (
            "seed=0..9",
            "seed cannot be searched, each of them holds out other samples, so that the best is the luckiest",
        ),
        ("preset=mnist-mlp,mnist-lenet", "preset cannot be searched, it is only a name: give the preset itself; le"),
        ("log_every=5..50", "log_every cannot be searched, it only says what is written; leave it out"),
    ],
)
def test_what_cannot_be_searched(word: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_search([word], checked_config({}))


def test_what_would_change_nothing_is_not_searched() -> None:
    with pytest.raises(UsageError, match="reward changes nothing with readout mono, it is for spikes or membrane"):
        read_search(["reward=spike-count,spike-rate"], checked_config({"readout": "mono"}))
    with pytest.raises(UsageError, match="momentum changes nothing with optimizer adam, it is for sgd: leave it out"):
        read_search(["momentum=0.5..0.9"], checked_config({}))
    assert len(read_search(["momentum=0.5..0.9", "optimizer=adam,sgd"], checked_config({}))) == 2


def test_what_cannot_be_used(small: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trials must be at least 1"):
        tune(small, tmp_path, 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot use .*file"):
        tune(small, tmp_path / "file", 1)
    (tmp_path / JOURNAL).write_text("{broken\n")
    with pytest.raises(RunError, match=f"cannot use {tmp_path}"):
        tune(small, tmp_path, 1)
