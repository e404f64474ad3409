"""A run's folder: made, emptied where a run began and died, and its metrics as JSON lines."""

import json
import os
from pathlib import Path
from typing import Any

from spiking_lfp.errors import RunError
from spiking_lfp.files import RESULTS, temporary_name
from spiking_lfp.training.checkpoint import CHECKPOINT

CONFIG, METRICS = "config.toml", "metrics.jsonl"


def create_run_folder(wanted: Path | None, preset: str) -> Path:
    """Create and return the folder `wanted`, or `runs/PRESET`, `runs/PRESET-2`, ... where None.

    Raises:
        RunError: if `wanted` exists already or cannot be created.
    """
    with RESULTS.convert_errors(wanted or Path("runs"), "create"):
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


def clear_stillborn(folder: Path) -> None:
    """Empty the folder of a run that died before its first checkpoint, unless there is anything else in it."""
    left = [folder / CONFIG, temporary_name(folder / CONFIG), temporary_name(folder / CHECKPOINT)]
    with RESULTS.convert_errors(folder, "empty"):
        if folder.is_dir() and set(folder.iterdir()) <= set(left):
            for path in left:
                path.unlink(missing_ok=True)


class Metrics:
    """Appends to a run's `metrics.jsonl`.

    Args:
        folder: the run's folder.
        keep: bytes of an interrupted run's file that its checkpoint vouches for; the rest is cut off.
    """

    def __init__(self, folder: Path, keep: int = 0) -> None:
        self.path = folder / METRICS
        with RESULTS.convert_errors(self.path):
            self.path.touch()
            if self.path.stat().st_size < keep:
                raise RunError(f"{self.path} is shorter than its checkpoint says: restore it or train again")
            os.truncate(self.path, keep)
        self.size = keep

    def write(self, line: dict[str, Any]) -> None:
        """Append one line, in one write."""
        content = (json.dumps(line) + "\n").encode()
        with RESULTS.convert_errors(self.path), self.path.open("ab") as file:
            file.write(content)
        self.size += len(content)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's `metrics.jsonl`; a last line that was cut off by a kill is left out."""
    path = folder / METRICS
    try:
        lines = path.read_text().split("\n")
        return [json.loads(line) for line in lines[:-1]]
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}") from None
