"""A run's folder: new or empty, numbered, and metrics that end where they were cut."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from helpers.forks import Forks
from spiking_lfp.errors import RunError
from spiking_lfp.training import read_config
from spiking_lfp.training.files import CONFIG, METRICS, Metrics, create_run_folder, locked, read_metrics

BATCH = {"kind": "batch", "epoch": 1, "batch": 1, "batches": 3, "accuracy": 0.5, "reward": 0}
EPOCH = {"kind": "epoch", "epoch": 1, "seconds": 2.5, "train": {"accuracy": 0.5}, "test": {"accuracy": 1}}


def test_metrics_grow_by_lines(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    for line in (BATCH, EPOCH):
        metrics.write(line)
        assert metrics.content == (tmp_path / METRICS).read_bytes()
    assert read_metrics(tmp_path) == [BATCH, EPOCH]


@pytest.mark.parametrize(
    "after",
    [
        lambda content: content,
        lambda content: content + b'{"kind": "ba',
        lambda content: content[:10],
        lambda content: content[:10] + bytes(len(content)),
        lambda content: b"",
        lambda content: bytes(3 * len(content)),
        None,
    ],
)
def test_metrics_are_what_the_checkpoint_says(after: Callable[[bytes], bytes] | None, tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.write(BATCH)
    kept = bytes(metrics.content)
    if after is None:
        (tmp_path / METRICS).unlink()
    else:
        (tmp_path / METRICS).write_bytes(after(kept))
    Metrics(tmp_path, kept).write(EPOCH)
    assert read_metrics(tmp_path) == [BATCH, EPOCH]


def test_metrics_of_a_new_run_start_empty(tmp_path: Path) -> None:
    Metrics(tmp_path).write(BATCH)
    Metrics(tmp_path)
    assert read_metrics(tmp_path) == []


@pytest.mark.parametrize("end", [b'{"a": 2', bytes(100), b'{"a' + bytes(100)])
def test_an_end_that_was_not_written_is_left_out(end: bytes, tmp_path: Path) -> None:
    lines = f"{json.dumps(BATCH)}\n{json.dumps({**EPOCH, 'more': 'é'}, ensure_ascii=False)}\n"
    (tmp_path / METRICS).write_bytes(lines.encode() + end)
    assert read_metrics(tmp_path) == [BATCH, {**EPOCH, "more": "é"}]


@pytest.mark.parametrize(
    "content", [b'{"a": 1}\n{"a"\n{"a": 2}\n', b"\xff\n", b"[" * 100_000 + b"\n", b"a\0b\n", b'{"a":' * 100_000 + b"\n"]
)
def test_damaged_metrics_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / METRICS).write_bytes(content)
    with pytest.raises(RunError, match=f"^cannot read {tmp_path / METRICS}: "):
        read_metrics(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        1, [], "text", None, {}, {"kind": "epoch"}, {**EPOCH, "kind": "other"}, {**EPOCH, "epoch": "1"},
        {**EPOCH, "train": None}, {**EPOCH, "test": None}, {**EPOCH, "test": {}}, {**EPOCH, "test": {"accuracy": "1"}},
        {**EPOCH, "validation": {"accuracy": 1}}, {**EPOCH, "seconds": None}, {**BATCH, "accuracy": []},
        {name: value for name, value in BATCH.items() if name != "batches"},
    ],
)  # fmt: skip
def test_lines_that_no_run_writes_are_refused(line: Any, tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text(f"{json.dumps(EPOCH)}\n{json.dumps(line)}\n")
    with pytest.raises(
        RunError, match=f"^cannot read {tmp_path / METRICS}: line 2 is not one that train writes; resume"
    ):
        read_metrics(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / METRICS)
    os.mkfifo(tmp_path / CONFIG)
    with pytest.raises(RunError, match=r"cannot read .*: it is not a regular file"):
        read_metrics(tmp_path)
    with pytest.raises(RunError, match=r"cannot write .*: it is not a regular file"):
        Metrics(tmp_path, b"")
    with pytest.raises(RunError, match=r"cannot read .*: .*it is not a regular file"):
        read_config(tmp_path)


def test_missing_metrics_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"^cannot read {tmp_path / METRICS}: "):
        read_metrics(tmp_path)


def test_metrics_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / METRICS).mkdir()
    with pytest.raises(RunError, match=f"^cannot write {tmp_path / METRICS}: "):
        Metrics(tmp_path)


def test_run_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [str(create_run_folder(None, "x")) for _ in range(3)] == ["runs/x", "runs/x-2", "runs/x-3"]
    assert sorted(each.name for each in Path("runs").iterdir()) == ["x", "x-2", "x-3"]


def test_a_run_folder_may_be_new_or_empty(tmp_path: Path) -> None:
    wanted = tmp_path / "not" / "yet"
    assert create_run_folder(wanted, "x") == wanted
    assert create_run_folder(wanted, "x") == wanted
    assert list(wanted.iterdir()) == []


@pytest.mark.parametrize(
    "names",
    [
        [".lock"], [CONFIG], [f".{CONFIG}.tmp"], [CONFIG, ".checkpoint.pt.tmp", ".lock"],
        [CONFIG, ".network.pt.tmp"], [CONFIG, "network.pt", ".checkpoint.pt.tmp"],
    ],
)  # fmt: skip
def test_the_folder_of_a_run_that_died_before_its_first_checkpoint_may_be_used(
    names: list[str], tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert create_run_folder(tmp_path, "x") == tmp_path


def test_one_process_at_a_time_has_a_folder(tmp_path: Path, forks: Forks) -> None:
    code = "import sys; from spiking_lfp.training.files import *\nwith locked(Path(sys.argv[1])): print('has it')"

    def other() -> tuple[str, str]:
        done = forks.run(code, tmp_path)
        return done.stdout, done.stderr.strip().rpartition("\n")[2]

    with locked(tmp_path):
        printed, error = other()
        assert (printed, error.partition(": ")[2]) == (
            "", f"another process is training in {tmp_path}: wait for it, or choose another --out",
        )  # fmt: skip
    assert other() == ("has it\n", "")


def test_folders_without_locks_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(FileLock, "acquire", fail)
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("place", ["full", "full/file"])
def test_a_run_folder_with_something_in_it_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("precious")
    with pytest.raises(RunError, match=f"^{tmp_path / place} exists already: choose another --out"):
        create_run_folder(tmp_path / place, "x")
    assert (tmp_path / "full" / "file").read_text() == "precious"


@pytest.mark.parametrize("wanted", [Path("runs") / "x", None])
def test_a_run_folder_below_a_file_is_refused(
    wanted: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").touch()
    with pytest.raises(RunError, match=r"^cannot create runs"):
        create_run_folder(wanted, "x")
