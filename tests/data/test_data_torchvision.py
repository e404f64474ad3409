"""Importing torchvision: late, and beside a torch it was not built for."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from helpers.processes import ENVIRONMENT

IMPORTS_BADLY = """
import torch
if not hasattr(torch.ops.torchvision, "nms"):
    import torchvision.extension
    torchvision.extension.broken = True
    raise RuntimeError("operator torchvision::nms does not exist")
"""


Run = Callable[..., str]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run code in a process of its own, in which torch and this package are loaded, and return what it prints."""
    command = [sys.executable, "-W", "error", "-m", "helpers.forks"]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, env=ENVIRONMENT, text=True) as forks:
        assert forks.stdin is not None
        assert forks.stdout is not None

        def run(code: str, *paths: Path) -> str:
            print(json.dumps([code, list(map(str, paths))]), file=forks.stdin, flush=True)
            printed: str = json.loads(forks.stdout.readline())
            return printed.strip()

        yield run
        forks.stdin.close()


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


def test_the_package_imports_without_torchvision(run: Run) -> None:
    code = "import sys, spiking_lfp.data as data; data.load_dataset('mnist-subset')"
    assert run(f"{code}; print('torchvision' in sys.modules)") == "False"


@pytest.mark.parametrize(("module", "name"), [("datasets", "MNIST"), ("models", "VGG")])
def test_the_installed_torchvision_can_be_used(run: Run, module: str, name: str) -> None:
    code = f"{LOAD[module]}import gc; gc.collect(); print(module.{name}.__name__, module is door())"
    assert run(code) == f"{name} True"


def test_models_of_the_installed_torchvision_compute(run: Run) -> None:
    code = f"{LOAD['models']}print(*module.resnet18(num_classes=3).eval()(torch.zeros(2, 3, 32, 32)).shape)"
    assert run(code) == "2 3"


@pytest.mark.parametrize("doors", ["datasets models", "models datasets"])
def test_both_doors_open_one_torchvision(run: Run, doors: str) -> None:
    first, second = doors.split()
    found = f"import torchvision; print(torchvision.{first} is first, torchvision.{second} is module)"
    assert run(f"{LOAD[first]}first = module{LOAD[second]}{found}") == "True True"


@pytest.mark.parametrize("module", LOAD)
def test_operators_are_declared_where_the_import_fails_for_want_of_them(run: Run, module: str, tmp_path: Path) -> None:
    write_torchvision(tmp_path, IMPORTS_BADLY)
    code = f"{LOAD[module]}import torchvision.extension as e; print(hasattr(torch.ops.torchvision, 'qnms'), e.broken)"
    assert run(code, tmp_path) == "True False"


@pytest.mark.parametrize("module", LOAD)
def test_operators_are_not_declared_where_the_import_works(run: Run, module: str, tmp_path: Path) -> None:
    write_torchvision(tmp_path, "")
    assert run(f"{LOAD[module]}print(hasattr(torch.ops.torchvision, 'nms'))", tmp_path) == "False"


@pytest.mark.parametrize("error", ["RuntimeError('of another kind')", "ImportError('libcudart.so')"])
@pytest.mark.parametrize("module", LOAD)
def test_other_failures_are_not_hidden(run: Run, tmp_path: Path, module: str, error: str) -> None:
    write_torchvision(tmp_path, f"raise {error}")
    code = "import atexit, torch\natexit.register(lambda: print(hasattr(torch.ops.torchvision, 'nms')))"
    *_, raised, declared = run(f"{code}{LOAD[module]}", tmp_path).splitlines()
    assert raised == error.replace("('", ": ").replace("')", "")
    assert declared == "False"
