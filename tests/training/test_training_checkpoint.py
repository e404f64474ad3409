"""Checkpoints: all fields or a refusal, no code that is run, and those of older versions."""

import io
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.small_runs import plain
from spiking_lfp.data.spec import DataSpec
from spiking_lfp.errors import RunError
from spiking_lfp.training import Meter, TrainConfig, load_run, read_metrics, resume
from spiking_lfp.training.checkpoint import CHECKPOINT, METRICS, VERSION, Checkpoint, Progress

VERSION_2 = Path(__file__).with_name("version2")


def checkpoint(**changes: Any) -> Checkpoint:
    some = Checkpoint(
        config={"steps": 3},
        data=DataSpec([1, 8, 8], 3, ["a", "b", "c"]),
        network={"weight": torch.zeros(200, 10)},
        layers={"": "Linear(in_features=10, out_features=200, bias=False)"},
        optimizer={"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]},
        schedule={"last_epoch": 4},
        progress=Progress(1, 2, 0.5, 0, False, Meter(3, 2, 0.25, {"1": 0.5})),
        metrics="{}\n",
        samples="0123",
        random=torch.get_rng_state(),
        random_cuda=None,
    )
    return replace(some, **changes)


def content(of: Checkpoint) -> dict[str, Any]:
    """What stands in its file."""
    return {
        "format": VERSION,
        **{each.name: getattr(of, each.name) for each in fields(of)},
        "data": asdict(of.data),
        "progress": asdict(of.progress),
    }


def test_checkpoints_come_back(tmp_path: Path) -> None:
    kept = checkpoint(random_cuda=torch.ones(2))
    kept.save(tmp_path)
    loaded = Checkpoint.load(tmp_path)
    assert plain(asdict(loaded)) == plain(asdict(kept))
    assert isinstance(loaded.progress.meter, Meter)
    assert (tmp_path / CHECKPOINT).read_bytes() == saved(content(kept))


class Evil:
    """Creates a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def saved(content: object, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize("form", [saved, lambda content: saved(content, zipped=False), pickle.dumps])
def test_checkpoints_execute_nothing(form: Callable[[object], bytes], tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    evil = form({**content(checkpoint()), "network": Evil(trap)})
    pickle.loads(form(Evil(trap))) if form is pickle.dumps else torch.load(io.BytesIO(evil), weights_only=False)
    trap.rmdir()  # it works, so that it can fail
    (tmp_path / CHECKPOINT).write_bytes(evil)
    with pytest.raises(RunError, match=CHECKPOINT):
        Checkpoint.load(tmp_path)
    assert not trap.exists()


def refuses(folder: Path, content: bytes) -> bool:
    """Whether `content` is refused as a checkpoint; any other error than RunError goes on its way."""
    (folder / CHECKPOINT).write_bytes(content)
    try:
        Checkpoint.load(folder)
    except RunError as error:
        assert str(folder / CHECKPOINT) in str(error)  # noqa: PT017
        return True
    return False


@pytest.fixture
def good(tmp_path: Path) -> bytes:
    checkpoint().save(tmp_path)
    return (tmp_path / CHECKPOINT).read_bytes()


def test_truncated_checkpoints_are_refused(good: bytes, tmp_path: Path) -> None:
    assert not refuses(tmp_path, good)
    assert all(refuses(tmp_path, good[:length]) for length in [0, 1, 3, *range(4, len(good), 97), len(good) - 1])


def test_a_flipped_bit_of_a_weight_is_refused(good: bytes, tmp_path: Path) -> None:
    weights = good.index(bytes(8000))  # 200 x 10 float32 zeros
    flipped = bytearray(good)
    flipped[weights + 4321] ^= 4
    assert refuses(tmp_path, bytes(flipped))


@pytest.mark.parametrize("zipped", [True, False])
def test_flipped_bits_never_cause_another_error(zipped: bool, good: bytes, tmp_path: Path) -> None:
    whole = good if zipped else saved(content(checkpoint()), zipped=False)
    rng = random.Random(3)
    refused = 0
    for _ in range(400):
        flipped = bytearray(whole)
        flipped[rng.randrange(min(1500, len(flipped)))] ^= 1 << rng.randrange(8)
        refused += refuses(tmp_path, bytes(flipped))
    assert refused > 50


@pytest.mark.parametrize(
    "file",
    [
        b"not a checkpoint\n",
        b"\x80",
        b".",
        bytes(1000),
        pickle.dumps({"format": 2}, protocol=2),
        pickle.dumps({"format": 2}),
        saved([1, 2]),
        saved(torch.ones(2)),
        saved({"state_dict": {}}),
        saved(torch.nn.Linear(1, 1)),
        saved({"format": 2}),
        saved({"format": VERSION}),
        saved({"format": VERSION + 1}),
        saved({"format": [2]}),
        saved({"format": torch.ones(2)}),
    ],
    ids=[
        "text",
        "byte",
        "stop",
        "zeros",
        "pickle 2",
        "pickle",
        "list",
        "tensor",
        "dict",
        "module",
        "empty 2",
        "empty",
        "later",
        "format of lists",
        "format of tensors",
    ],
)
def test_foreign_files_are_refused(file: bytes, tmp_path: Path) -> None:
    assert refuses(tmp_path, file)


@pytest.mark.parametrize("other", [1, VERSION + 1])
def test_other_formats_are_named(other: int, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(saved({**content(checkpoint()), "format": other}))
    with pytest.raises(
        RunError, match=f"has format {other}, this version reads format 2, 3, 4, 5, 6, 7, 8: choose another run"
    ):
        Checkpoint.load(tmp_path)


@pytest.mark.parametrize("name", [each.name for each in fields(Checkpoint)])
def test_a_field_that_is_lacking_or_of_another_type_is_named(name: str, tmp_path: Path) -> None:
    whole = content(checkpoint())
    (tmp_path / CHECKPOINT).write_bytes(saved({key: value for key, value in whole.items() if key != name}))
    with pytest.raises(RunError, match=f"^{tmp_path / CHECKPOINT} was not written by train: it lacks {name}; restore"):
        Checkpoint.load(tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(saved({**whole, name: True}))
    with pytest.raises(RunError, match=f"was not written by train: its {name} is bool, expected [\\w. |]+; restore"):
        Checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"more": 1, "lr": 2}, "it has unknown lr, more; "),
        ({"progress": {"epoch": 1}}, "progress lacks batch, best_accuracy, epochs_since_best, meter, "),
        ({"progress": {**asdict(Progress()), "epoch": "1"}}, "its epoch is str, expected int; "),
        ({"progress": {**asdict(Progress()), "meter": {"samples": 3}}}, "meter lacks correct, rates, reward; "),
        ({"data": {**asdict(DataSpec([1, 8], 3)), "classes": [3]}}, "its classes is list, expected int; "),
        (
            {"data": {**asdict(DataSpec([1, 8], 3)), "in_shape": [1, "8"]}},
            "its value in in_shape is str, expected int; ",
        ),
        (
            {"progress": {**asdict(Progress()), "meter": {**asdict(Meter()), "rates": {"1": [2]}}}},
            "its value in rates is list, expected float; ",
        ),
        ({"format": 2}, "it lacks metrics_size; "),
    ],
)
def test_fields_that_nobody_knows_or_within_fields_are_named(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / CHECKPOINT).write_bytes(saved({**content(checkpoint()), **change}))
    with pytest.raises(RunError, match=f"was not written by train: {sentence}"):
        Checkpoint.load(tmp_path)


@pytest.mark.filterwarnings("ignore:the run in .* is not finished:UserWarning")
def test_a_checkpoint_of_version_2_is_read_whole() -> None:
    old = torch.load(VERSION_2 / CHECKPOINT, weights_only=True)
    assert old.pop("format") == 2
    new = content(Checkpoint.load(VERSION_2))
    assert new.pop("format") == VERSION
    data = old.pop("data")
    assert new.pop("data") == asdict(DataSpec(data["in_shape"], data["classes"]))
    size = old["progress"].pop("metrics_size")
    assert new.pop("metrics").encode() == (VERSION_2 / "metrics.jsonl").read_bytes()[:size]
    assert new.pop("samples") is None
    assert new.pop("layers") == {}
    assert plain(new) == plain(old)
    assert TrainConfig(**Checkpoint.load(VERSION_2).config) == load_run(VERSION_2).config


def test_a_run_killed_under_version_2_ends_as_it_would_have_there(tmp_path: Path) -> None:
    """What it came to there, with two threads on another processor: sums of floats may differ in their last bits."""
    folder = Path(shutil.copytree(VERSION_2, tmp_path / "run"))
    assert resume(folder) == folder
    [expected] = [json.loads(line) for line in (VERSION_2 / "whole.jsonl").read_text().splitlines()]
    *_, found = read_metrics(folder)
    assert (found["kind"], found["epoch"], found["lr"]) == (expected["kind"], expected["epoch"], expected["lr"])
    assert found["train"]["accuracy"] == pytest.approx(expected["train"]["accuracy"], abs=1e-3)
    assert found["test"]["accuracy"] == pytest.approx(expected["test"]["accuracy"], abs=1e-3)
    weights = load_run(folder).network.state_dict()
    with np.load(VERSION_2 / "whole.npz") as whole:
        assert set(whole) == set(weights)
        for name, values in whole.items():
            np.testing.assert_allclose(weights[name].numpy(), values, rtol=0, atol=1e-5)
    assert Checkpoint.load(folder).progress.best_accuracy == found["test"]["accuracy"]


@pytest.mark.filterwarnings("ignore:the run in .* is not finished:UserWarning")
def test_lost_metrics_of_an_older_version_are_missed_where_the_run_goes_on_only(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(VERSION_2, tmp_path / "run"))
    (folder / METRICS).write_bytes((folder / METRICS).read_bytes()[:20])
    load_run(folder)
    with pytest.raises(RunError, match=f"^{folder / METRICS} is shorter than its checkpoint says: restore it or train"):
        resume(folder)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"no checkpoint in {tmp_path}: expected {tmp_path / CHECKPOINT}"):
        Checkpoint.load(tmp_path)
