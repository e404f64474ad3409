"""Every example runs as it stands, and learns."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_learns(example: Path, tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-W", "error", str(example)], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    accuracies = [float(value) for value in re.findall(r"([\d.]+)%", run.stdout)]
    assert accuracies, run.stdout
    # ten classes: chance is 10 %
    assert accuracies[-1] > 75
    assert not list(tmp_path.iterdir())


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3
