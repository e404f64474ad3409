"""A run's folder: new or empty, numbered, and metrics that end where they were cut."""

from pathlib import Path

import pytest

from spiking_lfp.errors import RunError
from spiking_lfp.training.files import METRICS, Metrics, create_run_folder, read_metrics


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
