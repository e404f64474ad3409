"""Runs told to end, dead before their first checkpoint, on other data, or with a checkpoint that is not theirs."""

import copy
import random
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.processes import ENVIRONMENT
from helpers.small_runs import Sigterm, outcome, small_config, small_dataset
from spiking_lfp.data import samples
from spiking_lfp.errors import RunError, RunStopped
from spiking_lfp.training import Meter, load_run, resume, train
from spiking_lfp.training.checkpoint import CHECKPOINT, Checkpoint, Progress
from spiking_lfp.training.files import CONFIG
from spiking_lfp.training.optimizers import OPTIMIZERS

Run = Callable[..., Path]


@pytest.mark.parametrize(("at", "stands_at"), [((1, 1), (0, 2)), ((1, 2), (1, 0)), ((1, 3), (1, 0)), ((2, 1), (1, 2))])
def test_a_run_that_is_told_to_end_saves_and_goes_on(at: tuple[int, int], stands_at: tuple[int, int], run: Run) -> None:
    whole = run("whole")
    with pytest.raises(RunStopped, match=r"^stopped by SIGTERM; continue with: spiking-lfp train --resume ") as caught:
        run("run", callbacks=(Sigterm(*at),))
    folder = Path(str(caught.value).rpartition(" ")[2])
    progress = Checkpoint.load(folder).progress
    assert (progress.epoch, progress.batch) == stands_at
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert outcome(resume(folder)) == outcome(whole)


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS])
def test_a_run_goes_on_with_every_optimizer(optimizer: str, run: Run) -> None:
    whole = run("whole", optimizer=optimizer)
    with pytest.raises(RunStopped) as caught:
        run("run", optimizer=optimizer, callbacks=(Sigterm(1, 2),))
    assert outcome(resume(str(caught.value).rpartition(" ")[2])) == outcome(whole)


@pytest.mark.parametrize(
    ("at", "where"), [((1, 1), "in epoch 1 of 2, after 2 updates of it"), ((1, 3), "in epoch 2 of 2, after 0 updates")]
)
def test_a_run_that_is_not_finished_says_so_where_it_is_loaded(at: tuple[int, int], where: str, run: Run) -> None:
    with pytest.raises(RunStopped) as caught:
        run("run", callbacks=(Sigterm(*at),))
    folder = str(caught.value).rpartition(" ")[2]
    with pytest.warns(UserWarning, match=f"the run in {folder} is not finished: this is its network {where}"):
        load_run(folder, "cpu")
    resume(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_run(folder, "cpu")


def test_a_run_that_stopped_early_is_finished(run: Run) -> None:
    folder = run("run", epochs=9, patience=1, validation=0.3)
    assert len(load_run(folder, "cpu").history) < 9


def test_a_run_that_is_through_anyway_ends_as_usual(run: Run) -> None:
    assert outcome(run("run", callbacks=(Sigterm(2, 3),))) == outcome(run("whole"))


def test_a_handler_of_ones_own_stays(run: Run) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        run("run", callbacks=(Sigterm(1, 1),))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_runs_in_other_threads_are_none_the_worse(run: Run) -> None:
    thread = threading.Thread(target=run, args=("run",))
    thread.start()
    thread.join()
    assert outcome(run("whole"))["progress"]["epoch"] == 2


def test_the_command_ends_with_a_code_that_says_go_on(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "spiking_lfp", "train", "mnist-mlp", "--out", str(tmp_path / "run"), "--epochs", "50",
        "--set", "hidden=20", "--set", "steps=3",
    ]  # fmt: skip
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if "epoch 1 " in line:
                run.send_signal(signal.SIGTERM)
                break
        _, error = run.communicate(timeout=60)
    assert (run.returncode, error) == (
        75, f"error: stopped by SIGTERM; continue with: spiking-lfp train --resume {tmp_path / 'run'}\n",
    )  # fmt: skip


@pytest.mark.parametrize("left", [[CONFIG], [CONFIG, ".checkpoint.pt.tmp"], [CONFIG, f".{CONFIG}.tmp", ".lock"]])
@pytest.mark.parametrize("how", ["resume", "train"])
def test_a_run_that_died_before_its_first_checkpoint_begins_anew(
    how: str, left: list[str], tmp_path: Path, run: Run
) -> None:
    whole = run("whole")
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).write_bytes((whole / name).read_bytes() if name == CONFIG else b"half a fi")
    folder = run("run") if how == "train" else resume(tmp_path / "run")
    assert outcome(folder) == outcome(whole)


@pytest.mark.parametrize("what", ["images", "labels", "order", "fewer"])
def test_other_data_of_the_same_shape_are_refused(what: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(epochs=1)
    before = (folder / CHECKPOINT).read_bytes()
    data = small_dataset()
    if what == "images":
        data.train_images[3, 0, 2, 2] ^= 1
    elif what == "labels":
        data.test_labels[0] ^= 1
    else:
        rows = torch.tensor([1, 0, *range(2, 10)]) if what == "order" else torch.arange(4)
        data = replace(data, train_images=data.train_images[rows], train_labels=data.train_labels[rows])
    monkeypatch.setattr(samples, "load_dataset", lambda *_: data)
    sentence = f"^{folder} was trained on other samples or labels of the same shape than those of small now: put"
    with pytest.raises(RunError, match=sentence):
        resume(folder)
    assert (folder / CHECKPOINT).read_bytes() == before


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of Adam in the middle of its second epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "DATASET_NAMES", (*samples.DATASET_NAMES, "small"))
        patch.setattr(samples, "load_dataset", lambda *_: small_dataset())
        folder = tmp_path_factory.mktemp("interrupted") / "run"
        with pytest.raises(RunStopped):
            train(small_config(schedule="cosine"), folder, callbacks=(Sigterm(2, 1),))
        return folder


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in nested dicts and lists."""
    if isinstance(value, dict | list | tuple) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [place for key, each in pairs for place in places(each, (*path, key))]
    return [path]


def changed(value: Any, place: tuple[Any, ...], new: Callable[[Any], Any]) -> Any:
    if not place:
        return new(value)
    if isinstance(value, dict):
        return {key: changed(each, place[1:], new) if key == place[0] else each for key, each in value.items()}
    kind = type(value)
    return kind(changed(each, place[1:], new) if index == place[0] else each for index, each in enumerate(value))


CHANGES: list[Callable[[Any], Any]] = [
    lambda old: None,
    lambda old: "text",
    lambda old: [old],
    lambda old: {},
    lambda old: -1,
    lambda old: 10**6,
    lambda old: float("nan"),
    lambda old: torch.zeros(2, 3),
    lambda old: old.half() if isinstance(old, Tensor) and old.is_floating_point() else b"",
    lambda old: old * float("inf") if isinstance(old, Tensor) and old.is_floating_point() else -0.5,
    lambda old: old[:1] if isinstance(old, Tensor | str | bytes) and len(getattr(old, "shape", "1")) else 7,
]


@pytest.mark.filterwarnings("ignore:the run in .* is not finished:UserWarning")
def test_checkpoints_with_other_insides_are_refused_or_are_the_same_run(interrupted: Path, tmp_path: Path) -> None:
    """Every number, text and tensor in a checkpoint is replaced by others, under a valid checksum."""
    content = torch.load(interrupted / CHECKPOINT, weights_only=True)
    folder, expected, passed, rng = tmp_path / "run", None, [], random.Random(1)
    shutil.copytree(interrupted, tmp_path / "whole")
    expected = outcome(resume(tmp_path / "whole"))
    for place in places(content):
        for number in rng.sample(range(len(CHANGES)), 3):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(interrupted, folder)
            torch.save(changed(copy.deepcopy(content), place, CHANGES[number]), folder / CHECKPOINT)
            try:
                load_run(folder)
                resume(folder)
            except RunError as error:
                assert "\n" not in str(error)  # noqa: PT017
                continue
            if outcome(folder) != expected:
                passed.append((place, number))
    # what carries no truth of its own: sums of an epoch, and how good it was before
    free = {("progress", name) for name in ("best_accuracy", "epochs_since_best", "meter", "stopped")}
    assert [each for each in passed if each[0][:2] not in free] == []


def test_weights_that_are_not_finite_are_named(run: Run) -> None:
    folder = run(epochs=1)
    checkpoint = Checkpoint.load(folder)
    checkpoint.network["1.synapse.weight"][0, 0] = float("nan")
    checkpoint.save(folder)
    for what in (load_run, resume):
        with pytest.raises(RunError, match=r"does not fit its settings: 1\.synapse\.weight holds NaN or infinity"):
            what(folder)


@pytest.mark.parametrize("deep", ["a = " + "[" * 5000, "a." * 5000 + "b = 1", "a = " + "{b = " * 5000])
def test_settings_nested_without_end_are_refused(deep: str, run: Run) -> None:
    folder = run(epochs=1)
    (folder / CONFIG).write_text(deep)
    with pytest.raises(RunError, match=f"^cannot read {folder / CONFIG}: "):
        load_run(folder)


def test_progress_that_cannot_be_is_told() -> None:
    meter = Meter(4, 3, 0.5, {"1": 0.5})
    assert Progress(1, 2, 0.5, 0, False, meter).is_possible(2, 3, ["1"])
    for progress in (
        Progress(3, 0), Progress(0, 3, meter=meter), Progress(-1), Progress(2, 1, meter=meter), Progress(1, 1),
        Progress(1, 0, meter=meter), Progress(1, 1, float("nan"), meter=meter), Progress(epochs_since_best=1),
        Progress(0, 1, meter=Meter(4, 5)), Progress(0, 1, meter=Meter(4, 3, 0.0, {"2": 0.5})),
    ):  # fmt: skip
        assert not progress.is_possible(2, 3, ["1"])
