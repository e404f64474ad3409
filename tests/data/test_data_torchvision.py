"""Importing torchvision: late, and beside a torch it was not built for."""

from pathlib import Path

import pytest

from helpers.forks import Forks

IMPORTS_BADLY = """
import torch
if not hasattr(torch.ops.torchvision, "nms"):
    import torchvision.extension
    torchvision.extension.broken = True
    raise RuntimeError("operator torchvision::nms does not exist")
"""


def said(forks: Forks, code: str, path: Path | None = None) -> str:
    done = forks.run(code, path=path)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def write_torchvision(folder: Path, code: str) -> Path:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(code)
    (package / "extension.py").write_text("broken = False")
    for module in ("datasets", "models"):
        (package / f"{module}.py").write_text("")
    return folder


LOAD = {
    module: f"""
import torch
from spiking_lfp.data._torchvision import torchvision_{module} as door
module = door()
"""
    for module in ("datasets", "models")
}


def test_the_package_imports_without_torchvision(forks: Forks) -> None:
    code = "import sys, spiking_lfp.data as data; data.load_dataset('mnist-subset')"
    assert said(forks, f"{code}; print('torchvision' in sys.modules)") == "False"


@pytest.mark.parametrize(("module", "name"), [("datasets", "MNIST"), ("models", "VGG")])
def test_the_installed_torchvision_can_be_used(forks: Forks, module: str, name: str) -> None:
    code = f"{LOAD[module]}import gc; gc.collect(); print(module.{name}.__name__, module is door())"
    assert said(forks, code) == f"{name} True"


def test_models_of_the_installed_torchvision_compute(forks: Forks) -> None:
    code = f"{LOAD['models']}print(*module.resnet18(num_classes=3).eval()(torch.zeros(2, 3, 32, 32)).shape)"
    assert said(forks, code) == "2 3"


@pytest.mark.parametrize("doors", ["datasets models", "models datasets"])
def test_both_doors_open_one_torchvision(forks: Forks, doors: str) -> None:
    first, second = doors.split()
    found = f"import torchvision; print(torchvision.{first} is first, torchvision.{second} is module)"
    assert said(forks, f"{LOAD[first]}first = module{LOAD[second]}{found}") == "True True"


@pytest.mark.parametrize("module", LOAD)
def test_operators_are_declared_where_the_import_fails_for_want_of_them(
    forks: Forks, module: str, tmp_path: Path
) -> None:
    write_torchvision(tmp_path, IMPORTS_BADLY)
    code = f"{LOAD[module]}import torchvision.extension as e; print(hasattr(torch.ops.torchvision, 'qnms'), e.broken)"
    assert said(forks, code, tmp_path) == "True False"


@pytest.mark.parametrize("module", LOAD)
def test_operators_are_not_declared_where_the_import_works(forks: Forks, module: str, tmp_path: Path) -> None:
    write_torchvision(tmp_path, "")
    assert said(forks, f"{LOAD[module]}print(hasattr(torch.ops.torchvision, 'nms'))", tmp_path) == "False"


@pytest.mark.parametrize("error", ["RuntimeError('of another kind')", "ImportError('libcudart.so')"])
@pytest.mark.parametrize("module", LOAD)
def test_other_failures_are_not_hidden(forks: Forks, tmp_path: Path, module: str, error: str) -> None:
    write_torchvision(tmp_path, f"raise {error}")
    code = "import atexit, torch\natexit.register(lambda: print(hasattr(torch.ops.torchvision, 'nms')))"
    done = forks.run(f"{code}{LOAD[module]}", path=tmp_path)
    assert done.stderr.splitlines()[-1] == error.replace("('", ": ").replace("')", "")
    assert (done.returncode, done.stdout) == (1, "False\n")
