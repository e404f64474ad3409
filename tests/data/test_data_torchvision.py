"""Importing torchvision: late, and beside a torch it was not built for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import spiking_lfp.data

PACKAGES = Path(spiking_lfp.data.__file__).parents[2]
IMPORTS_BADLY = """
import torch
if not hasattr(torch.ops.torchvision, "nms"):
    import torchvision.extension
    torchvision.extension.broken = True
    raise RuntimeError("operator torchvision::nms does not exist")
"""


def run(code: str, *paths: Path) -> str:
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*paths, PACKAGES]))},
        capture_output=True,
        text=True,
        check=False,
    )
    return (found.stdout + found.stderr).strip()


def write_torchvision(folder: Path, code: str) -> Path:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(code)
    (package / "extension.py").write_text("broken = False")
    (package / "datasets.py").write_text("")
    return folder


LOAD = """
import torch
from spiking_lfp.data._torchvision import torchvision_datasets
datasets = torchvision_datasets()
"""


def test_the_package_imports_without_torchvision() -> None:
    code = "import sys, spiking_lfp.data as data; data.load_dataset('mnist-subset')"
    assert run(f"{code}; print('torchvision' in sys.modules)") == "False"


def test_the_installed_torchvision_can_be_used() -> None:
    code = f"{LOAD}import gc; gc.collect(); print(datasets.MNIST.__name__, datasets is torchvision_datasets())"
    assert run(code) == "MNIST True"


def test_operators_are_declared_where_the_import_fails_for_want_of_them(tmp_path: Path) -> None:
    write_torchvision(tmp_path, IMPORTS_BADLY)
    code = f"{LOAD}import torchvision.extension as e; print(hasattr(torch.ops.torchvision, 'qnms'), e.broken)"
    assert run(code, tmp_path) == "True False"


def test_operators_are_not_declared_where_the_import_works(tmp_path: Path) -> None:
    write_torchvision(tmp_path, "")
    assert run(f"{LOAD}print(hasattr(torch.ops.torchvision, 'nms'))", tmp_path) == "False"


@pytest.mark.parametrize("error", ["RuntimeError('of another kind')", "ImportError('libcudart.so')"])
def test_other_failures_are_not_hidden(tmp_path: Path, error: str) -> None:
    write_torchvision(tmp_path, f"raise {error}")
    code = "import atexit, torch\natexit.register(lambda: print(hasattr(torch.ops.torchvision, 'nms')))"
    printed = run(f"{code}{LOAD}", tmp_path).splitlines()
    assert printed[0] == "False"
    assert printed[-1] == error.replace("('", ": ").replace("')", "")
