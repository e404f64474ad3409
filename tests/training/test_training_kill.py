"""Runs that are killed (SIGKILL) at any moment and resumed end bit for bit like one that was left alone."""

import subprocess
import sys
from pathlib import Path

from helpers.processes import ENVIRONMENT
from helpers.small_runs import outcome


def test_killed_runs_resume_exactly(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "helpers.killed_runs", tmp_path],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for network, least in (("mlp", 30), ("lenet", 6), ("noise", 4)):
        expected = outcome(tmp_path / network / "whole")
        assert [line["epoch"] for line in expected["metrics"] if line["kind"] == "epoch"] == [1, 2]
        runs = list((tmp_path / network).iterdir())
        assert len(runs) > least
        assert [run.name for run in runs if outcome(run) != expected] == []
        assert len((tmp_path / network / "again" / "deaths").read_text()) >= 2
