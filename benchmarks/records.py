"""Results of benchmarks: a line of JSON for each, with what made it.

Tables and pictures of the documentation are made from those in `docs/experiments`, of the same thing from the latest.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from environments import HERE

from spiking_lfp.studies.process import origin

KEPT = HERE.parent / "docs" / "experiments"


def add(path: Path, line: dict[str, Any], threads: int) -> None:
    """Add a line to a file of results, which is made if it does not exist."""
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps({**line, "made": {"command": command, **origin(threads)}}) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of results."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
