"""The public names, listed once; and the wheel and the sdist, built here and tried in an environment of their own."""

import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import spiking_lfp

ROOT = Path(__file__).parents[1]


def test_public_names_are_listed_once_and_there() -> None:
    lines = (ROOT / "spiking_lfp" / "__init__.pyi").read_text().split("\n")
    imports = [line.split() for line in lines if line.startswith("from")]
    names = [words[3] for words in imports]
    # under its own name, which is how stubs hand a name on
    assert all(words[::2] == ["from", "import", "as"] and words[3] == words[5] for words in imports)
    assert spiking_lfp.__all__ == sorted(names)
    assert len(set(names)) == len(names) > 50
    for _, module, _, name, *_ in imports:
        assert getattr(spiking_lfp, name) is getattr(sys.modules[module], name)
        # from where it is written, but for the doors of whole folders
        home = getattr(getattr(spiking_lfp, name), "__module__", module)
        assert home == module or home.startswith(f"{module}.")


def test_public_names_are_all_that_the_package_shows() -> None:
    assert dir(spiking_lfp) == sorted([*spiking_lfp.__all__, "__version__"])
    found: dict[str, object] = {}
    exec("from spiking_lfp import *", found)
    assert found.keys() - {"__builtins__"} == set(spiking_lfp.__all__)
    with pytest.raises(AttributeError, match=r"^module 'spiking_lfp' has no attribute 'lif'$"):
        spiking_lfp.lif  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Lif'"):
        from spiking_lfp import Lif  # noqa: F401


def test_a_users_script_that_mypy_checks_runs() -> None:
    runpy.run_path(str(ROOT / "tests" / "user_script.py"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return folder


def test_wheel_and_sdist_hold_data_presets_types_and_licences(built: Path) -> None:
    wheel = zipfile.ZipFile(next(built.glob("*.whl"))).namelist()
    inside = (
        "py.typed",
        "__init__.pyi",
        "data/digits/digits.npz",
        "data/digits/LICENSE.md",
        "training/presets/mnist-mlp.toml",
        "deploy/report.html",
    )
    hardware = ("rtl/slfp_core.v", "runtime_c/slfp.c")
    for name in (*inside, *(f"hardware/{name}" for name in hardware)):
        assert f"spiking_lfp/{name}" in wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
    assert not any(name.startswith(("tests", "benchmarks", "examples")) for name in wheel)
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {
        "pyproject.toml",
        "README.md",
        "Makefile",
        "tests/golden/mlp_constant.npz",
        "spiking_lfp/neurons/lif.py",
    } <= names


def link_dependencies(wheel: Path, packages: Path) -> None:
    """Put what the wheel says it needs, and what that needs, into an environment, and nothing else.

    As links to what is installed here: pip takes a minute of computing to write 20,000 files of them.
    """
    done: set[tuple[str, str]] = set()

    def link(found: Distribution, extras: set[str]) -> None:
        for needed in map(Requirement, found.requires or ()):
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
                for extra in needed.extras | {""}:
                    if (needed.name, extra) not in done:
                        done.add((needed.name, extra))
                        installed = distribution(needed.name)
                        link(installed, {extra})
                        for top in {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}:
                            if not (packages / top).exists():
                                (packages / top).symlink_to(installed.locate_file(top))

    link(
        PathDistribution(next(path for path in zipfile.Path(wheel).iterdir() if path.name.endswith(".dist-info"))),
        set(),
    )


def test_the_wheel_trains_in_a_clean_environment(built: Path, tmp_path: Path) -> None:
    environment, wheel = tmp_path / "environment", next(built.glob("*.whl"))
    venv.create(environment)
    binaries = environment / "bin"
    link_dependencies(wheel, next((environment / "lib").glob("python3*/site-packages")))
    # by the pip that is there; whatever the wheel needs has to be there already
    install = [sys.executable, "-m", "pip", f"--python={binaries / 'python'}", "install", "--quiet", "--no-index"]
    done = subprocess.run(
        [*install, "--constraint", str(ROOT / "constraints.txt"), str(wheel)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def call(*words: str) -> str:
        run = subprocess.run(
            [str(binaries / "spiking-lfp"), *words], cwd=tmp_path, env=clean, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    words = ["--epochs", "1", "--steps", "4", "--set", "hidden=30", "--set", "threshold=0.3", "--out", "run"]
    assert "test accuracy" in call("train", "mnist-mlp", *words)
    assert {"checkpoint.pt", "config.toml", "metrics.jsonl", "learning_curve.png", "spike_raster.png"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    call("export", "run", "--to", "artifact", "c", "verilog", "--scale", "max", "--calibration", "50", "-o", "out")
    assert "accuracy" in call("simulate", "out/net.h5", "--data", "mnist-subset", "--samples", "50")
    for name in ("c/slfp.c", "c/network.h", "verilog/slfp_core.v", "verilog/Makefile"):
        assert (tmp_path / "out" / name).is_file()
    if shutil.which("cc"):
        assert "equal" in call("verify", "out/net.h5", "--with", "c")
    call("report", "out/net.h5", "--samples", "20")
    assert "<html" in (tmp_path / "out" / "report.html").read_text()
