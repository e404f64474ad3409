"""The public names, listed once; and the wheel and the sdist, built here and tried in an environment of their own."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import spiking_lfp
from spiking_lfp.deploy.pretrained import network_names

ROOT = Path(__file__).parents[1]


def test_extras_that_are_named_are_there_and_on_the_page() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    listed = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "install.md").read_text(), re.MULTILINE)
    assert extras == set(listed)
    texts = [
        path.read_text()
        for folder in ("spiking_lfp", "examples", "docs")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in (".py", ".md")
    ]
    named = re.findall(r"spiking-lfp\[(\w+)\]|import_extra\(\"[\w.]+\", \"(\w+)\"\)", "".join(texts))
    assert {"cameras", "events", "tune"} <= {name for pair in named for name in pair if name} <= extras


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


def test_a_users_script_that_mypy_checks_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "tests" / "user_script.py"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    return folder


def test_wheel_and_sdist_hold_data_presets_types_and_licences(built: Path) -> None:
    wheel = zipfile.ZipFile(next(built.glob("*.whl"))).namelist()
    inside = (
        "py.typed",
        "__init__.pyi",
        "data/digits/digits.npz",
        "data/digits/LICENSE.md",
        "training/presets/mnist-mlp.toml",
        *(f"deploy/pages/{name}" for name in ("page.html", "report.html", "live.html", "live.js")),
        "deploy/networks/LICENSE.md",
        *(f"deploy/networks/{name}.{end}" for name in network_names() for end in ("h5", "toml")),
    )
    hardware = ("rtl/slfp_core.v", "runtime_c/slfp.c", "boards/board.ld", "fpga/slfp_board.v", "web/slfp.wasm")
    for name in (*inside, *(f"hardware/{name}" for name in hardware)):
        assert f"spiking_lfp/{name}" in wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
    assert f"spiking_lfp-{spiking_lfp.__version__}.dist-info/METADATA" in wheel
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

    As links to what is installed here: to write its 20,000 files takes pip a minute of computing.
    """
    (metadata,) = (path for path in zipfile.Path(wheel).iterdir() if path.name.endswith(".dist-info"))
    left: list[Distribution] = [PathDistribution(metadata)]
    while left:
        for needed in map(Requirement, left.pop().requires or ()):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                found = distribution(needed.name)
                links = {packages / file.parts[0] for file in found.files or ()}
                for link in links - {packages / "..", packages / "__pycache__"}:
                    if not link.exists():
                        link.symlink_to(found.locate_file(link.name))
                        left += [found]


COMMANDS = """
import sys
from spiking_lfp.cli.main import main
for command in sys.argv[1:]:
    sys.argv = ["spiking-lfp", *command.split()]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    print(end="\f")
"""


def test_the_wheel_trains_in_a_clean_environment(built: Path, tmp_path: Path) -> None:
    environment, wheel = tmp_path / "environment", next(built.glob("*.whl"))
    venv.create(environment)
    binaries = environment / "bin"
    link_dependencies(wheel, next((environment / "lib").glob("python3*/site-packages")))
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def call(*words: object) -> str:
        run = subprocess.run(
            list(map(str, words)), cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    # by the pip that is there; what the wheel needs has to be there already, in versions it accepts
    python = binaries / "python"
    call(
        sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-index",
        "--constraint", ROOT / "constraints.txt", wheel,
    )  # fmt: skip
    words = ["--epochs", "1", "--steps", "4", "--set", "hidden=30", "--set", "threshold=0.3", "--out", "run"]
    assert "test accuracy" in call(binaries / "spiking-lfp", "train", "mnist-mlp", *words)
    assert {"checkpoint.pt", "config.toml", "metrics.jsonl", "learning_curve.png", "spike_raster.png"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    commands = [
        "export run --to artifact c verilog --scale max --calibration 50 -o out",
        "simulate out/net.h5 --data mnist-subset --samples 50",
        "report out/net.h5 --samples 20",
        "simulate mnist-mlp-int8 --data mnist-subset --samples 50",
    ]
    if shutil.which("cc"):
        commands.append("verify out/net.h5 --with c")
    # in one process: each would load torch anew
    _, simulated, _, by_name, *verified, _ = call(python, "-c", COMMANDS, *commands).split("\f")
    assert "accuracy" in simulated
    assert "accuracy" in by_name
    for name in ("c/slfp.c", "c/network.h", "verilog/slfp_core.v", "verilog/Makefile"):
        assert (tmp_path / "out" / name).is_file()
    assert all("equal" in said for said in verified)
    assert "<html" in (tmp_path / "out" / "report.html").read_text()
