"""The command as a process: what it loads, how it starts, and that a kill costs nothing but time."""

import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from helpers.forks import Forks
from helpers.processes import ENVIRONMENT
from spiking_lfp.training import load_run, preset_config, read_metrics, train
from spiking_lfp.training.checkpoint import Checkpoint

HEAVY = "print(sorted({'torch', 'numba', 'typer', 'matplotlib', 'torchvision'} & set(sys.modules)), file=sys.stderr)"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), env=ENVIRONMENT, capture_output=True, text=True, check=False)


def test_importing_the_package_imports_nothing_heavy() -> None:
    done = run(sys.executable, "-W", "error", "-c", f"import sys, spiking_lfp; dir(spiking_lfp); {HEAVY}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "[]\n")


def test_help_needs_no_torch() -> None:
    code = f"import sys, atexit; atexit.register(lambda: {HEAVY}); from spiking_lfp.cli.main import main; main()"
    done = run(sys.executable, "-W", "error", "-c", code, "--help")
    assert (done.returncode, done.stderr) == (0, "['typer']\n")
    assert "evaluate" in done.stdout


@pytest.mark.parametrize(
    "command", [[Path(sysconfig.get_path("scripts")) / "spiking-lfp"], [sys.executable, "-m", "spiking_lfp"]]
)
def test_there_are_two_ways_to_start(command: list[object]) -> None:
    done = run(*command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Layer-wise Feedback Propagation" in done.stdout
    wrong = run(*command, "nonsense")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Traceback" not in wrong.stderr


# in a fork, which has loaded torch
COMMAND = "from spiking_lfp.cli.main import main; main()"


def test_a_killed_command_resumes_exactly(data_root: Path, tmp_path: Path, forks: Forks) -> None:
    changes = {
        "data": "mnist", "hidden": 8, "steps": 3, "batch_size": 2, "epochs": 4, "threshold": 0.2,
        "lr": 1e-4, "log_every": 1, "checkpoint_every": 7,
    }  # fmt: skip
    command = [sys.executable, "-m", "spiking_lfp", "train", "--data-root", data_root]
    settings = [f"--set={key}={value}" for key, value in changes.items()]
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        list(map(str, [*command, "mnist-mlp", *settings, "--out", folder])), env=ENVIRONMENT, stdout=subprocess.DEVNULL
    )
    metrics = folder / "metrics.jsonl"
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < 40:
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -9
    assert len(read_metrics(folder)) < 4 * 31

    done = forks.run(COMMAND, "train", "--data-root", data_root, "--resume", folder)
    assert (done.returncode, done.stderr) == (0, "")

    whole = train(preset_config("mnist-mlp", {**changes, "hidden": "8"}), tmp_path / "whole", data_root)
    lines = [[{**line, "seconds": None} for line in read_metrics(each)] for each in (folder, whole)]
    assert lines[0] == lines[1]
    one, other = (Checkpoint.load(each) for each in (folder, whole))
    assert one.random.equal(other.random)
    for one, other in zip(*(load_run(each).network.parameters() for each in (folder, whole)), strict=True):
        assert one.equal(other)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [["presets"], ["datasets"], ["--help"], ["train", "--help"]])
def test_a_full_standard_output_is_one_sentence(words: list[str], forks: Forks) -> None:
    done = forks.run(f"import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1); {COMMAND}", *words)
    full_disk = "error: cannot write to standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, full_disk)


def test_what_the_terminal_cannot_show_is_escaped(tmp_path: Path, forks: Forks) -> None:
    (tmp_path / "données").mkdir()
    # as where PYTHONIOENCODING says so
    ascii_only = f"import sys; [each.reconfigure(encoding='ascii') for each in (sys.stdout, sys.stderr)]; {COMMAND}"
    done = forks.run(ascii_only, "info", tmp_path / "données")
    assert (done.returncode, done.stderr.partition(" is not a run")[0]) == (1, f"error: {tmp_path}/donn\\xe9es")
    done = forks.run(ascii_only, "datasets", "--data-root", tmp_path / "données")
    assert (done.returncode, done.stderr) == (0, "")
    assert f" {tmp_path}/donn\\xe9es\n" in done.stdout
