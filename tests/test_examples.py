"""Every example runs as it stands, and learns."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from helpers.forks import Forks

START = """
import runpy, sys
runpy.run_path(sys.argv[1], run_name="__main__")
"""
# torchmetrics imports torchvision, and PyPI's does not load beside a CPU build of torch without this; and Lightning
# calls what torch has deprecated
START_LIGHTNING = f"""
import warnings
from spiking_lfp.data._torchvision import torchvision_datasets
torchvision_datasets()
warnings.simplefilter("ignore", FutureWarning)
{START}
"""
EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_learns(example: Path, tmp_path: Path, forks: Forks) -> None:
    start = START
    if example.stem == "lightning_module":
        if find_spec("lightning") is None:
            pytest.skip("Lightning is not installed: pip install 'spiking-lfp[lightning]'")
        start = START_LIGHTNING
    run = forks.run(start, example, folder=tmp_path)
    assert run.returncode == 0, run.stderr
    accuracies = [float(value) for value in re.findall(r"([\d.]+)%", run.stdout)]
    assert accuracies, run.stdout
    # ten classes: chance is 10 %
    assert accuracies[-1] > 75
    assert not list(tmp_path.iterdir())


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3
