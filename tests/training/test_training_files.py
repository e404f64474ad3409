"""A run's folder: whole files or none, checkpoints that run no code, metrics that end where they were cut."""

import errno
import io
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spiking_lfp.errors import RunError
from spiking_lfp.training.files import (
    CHECKPOINT,
    METRICS,
    Metrics,
    create_run_folder,
    load_checkpoint,
    read_metrics,
    save_checkpoint,
    write_atomically,
)


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def stop_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full)


def stop_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", full)


@pytest.mark.parametrize("failure", [stop_fsync, stop_rename])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_failing_write_leaves_what_was_there(
    failure: Callable[[pytest.MonkeyPatch], None], old: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with pytest.MonkeyPatch.context() as monkeypatch:
        failure(monkeypatch)
        with pytest.raises(RunError, match=f"^cannot write {path}: "):
            write_atomically(path, b"new content")
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == ({} if old is None else {"file": old})


def test_a_write_beyond_the_limit_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    # in a process of its own, since the limit holds for all that it writes
    script = f"""
import resource
from pathlib import Path
from spiking_lfp.errors import RunError
from spiking_lfp.training.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (4, resource.RLIM_INFINITY))
try:
    write_atomically(Path({str(path)!r}), b"new content")
except RunError as error:
    assert str(error).startswith("cannot write {path}: File too large"), error
else:
    raise AssertionError("the limit of file sizes has no effect")
"""
    run = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    assert run.returncode == 0, run.stderr
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"file": b"old"}


def test_a_write_replaces_the_file(tmp_path: Path) -> None:
    for content in (b"first, the longer one", b"second"):
        write_atomically(tmp_path / "file", content)
        assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"file": content}


def test_a_write_is_on_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append((os.fstat(file).st_size, [each.name for each in tmp_path.iterdir()]))
    )
    write_atomically(tmp_path / "file", b"12345")
    [(size, names)] = synced
    assert size == 5
    assert "file" not in names


def test_a_write_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"^cannot write "):
        write_atomically(tmp_path / "file" / "x", b"")


def test_checkpoints_come_back(tmp_path: Path) -> None:
    state = {"a": torch.arange(3.0), "b": {"c": [1, 2.5, None, "text", True]}}
    save_checkpoint(tmp_path, state)
    loaded = load_checkpoint(tmp_path)
    assert torch.equal(loaded.pop("a"), state["a"])
    assert loaded == {"format": 2, "b": state["b"]}


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
    content = form({"format": 2, "network": Evil(trap)})
    pickle.loads(form(Evil(trap))) if form is pickle.dumps else torch.load(io.BytesIO(content), weights_only=False)
    trap.rmdir()  # it works, so that it can fail
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(RunError, match=CHECKPOINT):
        load_checkpoint(tmp_path)
    assert not trap.exists()


def refuses(folder: Path, content: bytes) -> bool:
    """Whether `content` is refused as a checkpoint; any other error than RunError goes on its way."""
    (folder / CHECKPOINT).write_bytes(content)
    try:
        load_checkpoint(folder)
    except RunError as error:
        assert str(folder / CHECKPOINT) in str(error)  # noqa: PT017
        return True
    return False


@pytest.fixture
def good(tmp_path: Path) -> bytes:
    save_checkpoint(tmp_path, {"network": {"weight": torch.zeros(200, 10)}, "progress": {"epoch": 1}})
    return (tmp_path / CHECKPOINT).read_bytes()


def test_truncated_checkpoints_are_refused(good: bytes, tmp_path: Path) -> None:
    assert not refuses(tmp_path, good)
    assert all(refuses(tmp_path, good[:length]) for length in [0, 1, 3, *range(4, len(good), 97), len(good) - 1])


def test_a_flipped_bit_of_a_weight_is_refused(good: bytes, tmp_path: Path) -> None:
    weights = good.index(bytes(8000))  # 200 x 10 float32 zeros
    flipped = bytearray(good)
    flipped[weights + 4321] ^= 4
    assert refuses(tmp_path, bytes(flipped))


def test_what_a_kill_left_of_a_write_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(tmp_path / "file", b"first")
    assert [each.name for each in tmp_path.iterdir()] == [".file.tmp"]
    write_atomically(tmp_path / "file", b"second")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("zipped", [True, False])
def test_flipped_bits_never_cause_another_error(zipped: bool, good: bytes, tmp_path: Path) -> None:
    content = good if zipped else saved({"format": 2, "weight": torch.ones(5)}, zipped=False)
    rng = random.Random(3)
    refused = 0
    for _ in range(400):
        flipped = bytearray(content)
        flipped[rng.randrange(min(1500, len(flipped)))] ^= 1 << rng.randrange(8)
        refused += refuses(tmp_path, bytes(flipped))
    assert refused > 50


@pytest.mark.parametrize(
    "content",
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
        saved({"format": 3}),
    ],
    ids=["text", "byte", "stop", "zeros", "pickle 2", "pickle", "list", "tensor", "dict", "module", "format 3"],
)
def test_foreign_files_are_refused(content: bytes, tmp_path: Path) -> None:
    assert refuses(tmp_path, content)


def test_other_formats_are_named(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(saved({"format": 3}))
    with pytest.raises(RunError, match="has format 3, this version reads format 2"):
        load_checkpoint(tmp_path)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"no checkpoint in {tmp_path}: expected {tmp_path / CHECKPOINT}"):
        load_checkpoint(tmp_path)


def test_metrics_grow_by_lines(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    lines = [{"kind": "batch", "lr": 0.1}, {"kind": "epoch", "test": None}]
    for line in lines:
        metrics.write(line)
        assert metrics.size == (tmp_path / METRICS).stat().st_size
    assert read_metrics(tmp_path) == lines


def test_metrics_are_cut_to_what_the_checkpoint_vouches_for(tmp_path: Path) -> None:
    first = Metrics(tmp_path)
    first.write({"line": 1})
    kept = first.size
    first.write({"line": 2})
    second = Metrics(tmp_path, kept)
    second.write({"line": 3})
    assert read_metrics(tmp_path) == [{"line": 1}, {"line": 3}]
    assert second.size == (tmp_path / METRICS).stat().st_size


def test_metrics_of_a_new_run_start_empty(tmp_path: Path) -> None:
    Metrics(tmp_path).write({"line": 1})
    Metrics(tmp_path)
    assert read_metrics(tmp_path) == []


def test_metrics_shorter_than_the_checkpoint_says_are_refused(tmp_path: Path) -> None:
    Metrics(tmp_path).write({"line": 1})
    with pytest.raises(RunError, match="shorter than its checkpoint says"):
        Metrics(tmp_path, 1000)
    assert read_metrics(tmp_path) == [{"line": 1}]


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_bytes(b'{"a": 1}\n{"b": "\xc3\xa9"}\n{"a": 2')
    assert read_metrics(tmp_path) == [{"a": 1}, {"b": "é"}]


@pytest.mark.parametrize("content", [b'{"a": 1}\n{"a"\n{"a": 2}\n', b"\xff\n"])
def test_damaged_metrics_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / METRICS).write_bytes(content)
    with pytest.raises(RunError, match=f"^cannot read {tmp_path / METRICS}: "):
        read_metrics(tmp_path)


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
