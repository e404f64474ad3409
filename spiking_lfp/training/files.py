"""A run's folder: atomic writes, checkpoints loaded without executing code, metrics as JSON lines."""

import json
import os
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch

from spiking_lfp.errors import RunError

CONFIG, METRICS, CHECKPOINT = "config.toml", "metrics.jsonl", "checkpoint.pt"
FORMAT = 2


def create_run_folder(wanted: Path | None, preset: str) -> Path:
    """Create and return the folder `wanted`, or `runs/PRESET`, `runs/PRESET-2`, ... where None.

    Raises:
        RunError: if `wanted` exists already or cannot be created.
    """
    try:
        if wanted is not None:
            if wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
                raise RunError(f"{wanted} exists already: choose another --out, or go on with --resume {wanted}")
            wanted.mkdir(parents=True, exist_ok=True)
            return wanted
        number = 1
        while True:
            folder = Path("runs") / (preset if number == 1 else f"{preset}-{number}")
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                number += 1
    except OSError as error:
        raise _cannot("create", Path(error.filename or wanted or "runs"), error) from None


def clear_stillborn(folder: Path) -> None:
    """Empty the folder of a run that died before its first checkpoint, unless there is anything else in it."""
    left = [folder / CONFIG, _temporary(folder / CONFIG), _temporary(folder / CHECKPOINT)]
    try:
        if folder.is_dir() and set(folder.iterdir()) <= set(left):
            for path in left:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot("empty", folder, error) from None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: under a temporary name, to disk, then renamed."""
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise _cannot("write", path, error) from None


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write `state`, made of tensors and plain values, to the run's checkpoint."""
    buffer = BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomically(folder / CHECKPOINT, buffer.getvalue())


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """Read the run's checkpoint onto the CPU, executing nothing.

    Raises:
        RunError: if there is none, or it is damaged or of another format.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise RunError(f"no checkpoint in {folder}: expected {path}; give the folder of a run that trained a while")
    try:
        with ZipFile(path) as archive:  # torch writes checksums but does not compare them
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(damaged)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises what it happens to stumble over
        raise RunError(f"{path} is damaged or no checkpoint: restore it from a copy or train again") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise RunError(f"{path} has format {found}, this version reads format {FORMAT}")
    return state


class Metrics:
    """Appends to a run's `metrics.jsonl`.

    Args:
        folder: the run's folder.
        keep: bytes of an interrupted run's file that its checkpoint vouches for; the rest is cut off.
    """

    def __init__(self, folder: Path, keep: int = 0) -> None:
        self.path = folder / METRICS
        try:
            self.path.touch()
            if self.path.stat().st_size < keep:
                raise RunError(f"{self.path} is shorter than its checkpoint says: restore it or train again")
            os.truncate(self.path, keep)
        except OSError as error:
            raise _cannot("write", self.path, error) from None
        self.size = keep

    def write(self, line: dict[str, Any]) -> None:
        """Append one line, in one write."""
        content = (json.dumps(line) + "\n").encode()
        try:
            with self.path.open("ab") as file:
                file.write(content)
        except OSError as error:
            raise _cannot("write", self.path, error) from None
        self.size += len(content)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's `metrics.jsonl`; a last line that was cut off by a kill is left out."""
    path = folder / METRICS
    try:
        lines = path.read_text().split("\n")
        return [json.loads(line) for line in lines[:-1]]
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}") from None


def _temporary(path: Path) -> Path:
    """Return where `path` is written at first: one name, so that what a kill leaves is overwritten."""
    return path.with_name(f".{path.name}.tmp")


def _cannot(verb: str, path: Path, error: OSError) -> RunError:
    return RunError(f"cannot {verb} {path}: {error.strerror or error}; free some space or choose another --out")
