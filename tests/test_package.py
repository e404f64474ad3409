"""The wheel and the sdist are complete: built here, and the wheel tried in an environment of its own."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], check=True, capture_output=True)
    return folder


def test_wheel_and_sdist_hold_data_presets_types_and_licences(built: Path) -> None:
    wheel = zipfile.ZipFile(next(built.glob("*.whl"))).namelist()
    inside = ("py.typed", "data/digits/digits.npz", "data/digits/LICENSE.md", "training/presets/mnist-mlp.toml")
    hardware = ("rtl/slfp_core.v", "runtime_c/slfp.c")
    for name in (*inside, "deploy/report.html", *(f"hardware/{name}" for name in hardware)):
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


def test_the_wheel_trains_in_a_clean_environment(built: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    binaries = environment / "bin"
    wheel = next(built.glob("*.whl"))
    install = [
        str(binaries / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--constraint",
        str(ROOT / "constraints.txt"),
    ]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
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
