"""The folder of a run and its metrics, stored as JSON lines."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from spiking_lfp.errors import RunError
from spiking_lfp.files import RESULTS, read_regular, temporary_name
from spiking_lfp.training.checkpoint import CHECKPOINT, METRICS
from spiking_lfp.training.sources import NETWORK

CONFIG = "config.toml"
_KINDS = ("batch", "epoch")


def create_run_folder(out: Path | None, preset: str) -> Path:
    """Create and return the folder `out`, or, if None, the first free one of `runs/PRESET`, `runs/PRESET-2`, ...

    A run that died before its first checkpoint may begin anew in its folder.

    Raises:
        RunError: if `out` exists and is not an empty folder, or cannot be created.
    """
    with RESULTS.convert_errors(out or Path("runs"), "create"):
        if out is not None:
            if not out.exists():
                out.mkdir(parents=True, exist_ok=True)
            check_unstarted(out)
            return out
        number = 1
        while True:
            folder = Path("runs") / (preset if number == 1 else f"{preset}-{number}")
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                number += 1


def is_unstarted_run(folder: Path) -> bool:
    """Tell whether `folder` holds only what a run writes before its first checkpoint."""
    return folder.is_dir() and set(folder.iterdir()) <= set(_first_files(folder))


def check_unstarted(folder: Path) -> None:
    """Raise RunError if `folder` holds anything else than what a run writes before its first checkpoint."""
    if not is_unstarted_run(folder):
        raise RunError(f"{folder} exists already: choose another --out, or go on with --resume {folder}")


def remove_unstarted_run(folder: Path) -> None:
    """Remove what a run has written before its first checkpoint, and the folder if nothing else is in it."""
    with suppress(OSError):
        for path in _first_files(folder):
            path.unlink(missing_ok=True)
        folder.rmdir()


def remove_run(folder: Path) -> None:
    """Remove a run, whose folder was empty before, with all that it and its callbacks have written; a link stays."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        folder.rmdir()


def _first_files(folder: Path) -> tuple[Path, ...]:
    files = [folder / name for name in (CONFIG, NETWORK, CHECKPOINT)]
    return _lock_file(folder), *files[:2], *map(temporary_name, files)


def _lock_file(folder: Path) -> Path:
    return folder / ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training in `folder`; the lock of a process that dies is released.

    Raises:
        RunError: if another process does.
    """
    lock = FileLock(_lock_file(folder))
    try:
        with RESULTS.convert_errors(folder, "lock"):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise RunError(
                    f"another process is training in {folder}: wait for it, or choose another --out"
                ) from None
    except NotImplementedError:  # a file system without locks
        yield
        return
    try:
        yield
    finally:
        lock.release()


class Metrics:
    """Appends to a run's `metrics.jsonl`.

    Args:
        folder: the run's folder.
        kept: the content of the file according to the checkpoint, which is the truth: a power failure may take away the
            end of the file, or put zeros there.

    Attributes:
        content: of the file.
    """

    def __init__(self, folder: Path, kept: bytes = b"") -> None:
        self.path, self.content = folder / METRICS, bytearray(kept)
        with RESULTS.convert_errors(self.path):
            if self.path.exists() and read_regular(self.path)[: len(kept)] == kept:
                os.truncate(self.path, len(kept))
            else:
                RESULTS.write(self.path, kept)

    def write(self, line: dict[str, Any]) -> None:
        """Append one line, with a single write call."""
        content = (json.dumps(line) + "\n").encode()
        with RESULTS.convert_errors(self.path), self.path.open("ab") as file:
            file.write(content)
        self.content += content


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """Return the lines of a run's `metrics.jsonl`; an incomplete end, left by a killed process, is skipped.

    Raises:
        RunError: if the file cannot be read, or has a line that no run writes.

    Example:
        >>> samples = torch.rand(20, 8), torch.arange(20) % 2
        >>> network = nn.Sequential(LIF(nn.Linear(8, 2), threshold=0.1))
        >>> run = fit(network, samples, samples, epochs=2, steps=5, progress=False)
        >>> [line["test"]["samples"] for line in read_metrics(run.folder) if line["kind"] == "epoch"]
        [20, 20]
    """
    folder = Path(folder)
    path = folder / METRICS
    try:
        return parse_metrics(read_regular(path))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RunError(f"cannot read {path}: {reason}; resume the run, or restore the file") from None


def parse_metrics(content: bytes) -> list[dict[str, Any]]:
    """Return the complete lines of metrics; raise ValueError or RecursionError for those that no run writes."""
    # after a power failure the end may be zeros
    *lines, _ = content.rstrip(b"\0").decode().split("\n")
    found = [json.loads(line) for line in lines]
    for number, line in enumerate(found, 1):
        if not _is_line(line):
            raise ValueError(f"line {number} is not one that train writes")
    return found


def _is_line(line: Any) -> bool:
    """Tell whether `line` has what readers of metrics rely on."""
    if not isinstance(line, dict) or not isinstance(line.get("epoch"), int) or line.get("kind") not in _KINDS:
        return False
    if line["kind"] == "batch":
        return all(isinstance(line.get(name), int | float) for name in ("batch", "batches", "accuracy", "reward"))
    outcomes = [line.get(split) for split in ("train", "validation", "test")]
    has_accuracy = [
        isinstance(each, dict) and isinstance(each.get("accuracy"), int | float)
        for each in outcomes
        if each is not None
    ]
    # training, and one of the others
    return isinstance(line.get("seconds"), int | float) and has_accuracy == [True, True] and outcomes[0] is not None
