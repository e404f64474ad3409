"""Every example runs as it stands, and learns."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

# torchmetrics imports torchvision, and PyPI's does not load beside a CPU build of torch without this
START = """
import runpy, sys
from spiking_lfp.data._torchvision import torchvision_datasets
torchvision_datasets()
runpy.run_path(sys.argv[1], run_name="__main__")
"""
EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_learns(example: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error"]
    if example.stem == "lightning_module":
        if find_spec("lightning") is None:
            pytest.skip("Lightning is not installed: pip install 'spiking-lfp[lightning]'")
        # Lightning calls what torch has deprecated
        command += ["-W", "ignore::FutureWarning", "-c", START]
    run = subprocess.run([*command, str(example)], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    accuracies = [float(value) for value in re.findall(r"([\d.]+)%", run.stdout)]
    assert accuracies, run.stdout
    # ten classes: chance is 10 %
    assert accuracies[-1] > 75
    assert not list(tmp_path.iterdir())


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3
