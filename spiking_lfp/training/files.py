"""The folder of a run and its metrics, stored as JSON lines."""

import json
import os
from pathlib import Path
from typing import Any

from spiking_lfp.errors import RunError
from spiking_lfp.files import RESULTS, temporary_name
from spiking_lfp.training.checkpoint import CHECKPOINT

CONFIG, METRICS = "config.toml", "metrics.jsonl"


def create_run_folder(out: Path | None, preset: str) -> Path:
    """Create and return the folder `out`, or, if None, the first free one of `runs/PRESET`, `runs/PRESET-2`, ...

    Raises:
        RunError: if `out` exists and is not an empty folder, or cannot be created.
    """
    with RESULTS.convert_errors(out or Path("runs"), "create"):
        if out is not None:
            if out.exists() and (not out.is_dir() or any(out.iterdir())):
                raise RunError(f"{out} exists already: choose another --out, or go on with --resume {out}")
            out.mkdir(parents=True, exist_ok=True)
            return out
        number = 1
        while True:
            folder = Path("runs") / (preset if number == 1 else f"{preset}-{number}")
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                number += 1


def clear_unstarted_run(folder: Path) -> None:
    """Empty the folder of a run that died before its first checkpoint, unless it holds any other file."""
    leftovers = [folder / CONFIG, temporary_name(folder / CONFIG), temporary_name(folder / CHECKPOINT)]
    with RESULTS.convert_errors(folder, "empty"):
        if folder.is_dir() and set(folder.iterdir()) <= set(leftovers):
            for path in leftovers:
                path.unlink(missing_ok=True)


class Metrics:
    """Appends to a run's `metrics.jsonl`.

    Args:
        folder: the run's folder.
        size: number of bytes to keep of an interrupted run's file, as its checkpoint says; the rest is cut off.
    """

    def __init__(self, folder: Path, size: int = 0) -> None:
        self.path = folder / METRICS
        with RESULTS.convert_errors(self.path):
            self.path.touch()
            if self.path.stat().st_size < size:
                raise RunError(f"{self.path} is shorter than its checkpoint says: restore it or train again")
            os.truncate(self.path, size)
        self.size = size

    def write(self, line: dict[str, Any]) -> None:
        """Append one line, with a single write call."""
        content = (json.dumps(line) + "\n").encode()
        with RESULTS.convert_errors(self.path), self.path.open("ab") as file:
            file.write(content)
        self.size += len(content)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's `metrics.jsonl`; an incomplete last line, left by a killed process, is skipped."""
    path = folder / METRICS
    try:
        lines = path.read_text().split("\n")
        return [json.loads(line) for line in lines[:-1]]
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}") from None
