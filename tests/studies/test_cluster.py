"""Grids on a real scheduler of Dask with two workers: equal outcomes, workers that die, lack data or have old code."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from helpers.grids import needs_data, sleeps, squared, trained
from helpers.processes import is_alive, put_on_path, set_variable, take_off_path
from spiking_lfp import __version__
from spiking_lfp.cli.main import app
from spiking_lfp.errors import DataError, RunError, UsageError
from spiking_lfp.studies.cases import read_cases, run_cases
from spiking_lfp.studies.cluster import dask_client

dask = pytest.importorskip("dask", reason="dask is not installed: pip install 'spiking-lfp[cluster]'")
distributed = pytest.importorskip("distributed", reason="dask is not installed: pip install 'spiking-lfp[cluster]'")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a scheduler with two workers, each one case at a time."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with dask_client(address) as client:
        client.wait_for_workers(2)
        yield client


def test_a_worker_that_is_killed_costs_its_case_only(client: Any, tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = [{"seed": seed, "marks": str(tmp_path / "marks")} for seed in (1, 2)]
    cases[1]["kills"] = "worker"
    before = set(client.nthreads())
    counts: list[Any] = []
    found = run_cases(
        cases, trained, tmp_path / "cluster", lambda *given: counts.append(given[2:]), executor=client.get_executor()
    )
    assert (tmp_path / "marks" / "worker").exists()
    client.wait_for_workers(2)
    assert len(before - set(client.nthreads())) == 1
    assert counts == [(1, 2), (2, 2)]
    assert sorted(case["seed"] for case, _ in read_cases(tmp_path / "cluster")) == [1, 2]
    # as on this machine, where nothing is killed any more
    assert found[1:2] == run_cases(cases[1:2], trained, tmp_path / "here", lambda *_: None, threads=1)
    files = [tmp_path / place / "run-2" / "weights" for place in ("cluster", "here")]
    assert files[0].read_bytes() == files[1].read_bytes() != b""


def on_one_worker(client: Any, change: Callable[..., None], *arguments: str | None) -> str:
    """Change a worker, and return its address."""
    worker = sorted(client.nthreads())[0]
    client.run(change, *arguments, workers=[worker])
    return worker


def executor_on(client: Any, worker: str) -> Any:
    return client.get_executor(workers=[worker])


def test_a_worker_without_the_data_is_named(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    client.run(set_variable, "SPIKING_LFP_DATA", str(tmp_path / "data"))
    worker = on_one_worker(client, set_variable, "SPIKING_LFP_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("SPIKING_LFP_DATA", str(tmp_path / "not for workers"))
    sentence = rf"x=1: worker {worker} on .*: no data in {tmp_path / 'none'}: set SPIKING_LFP_DATA"
    with pytest.raises(DataError, match=sentence):
        run_cases([{"x": 1}], needs_data, tmp_path / "out", lambda *_: None, executor=executor_on(client, worker))
    client.run(set_variable, "SPIKING_LFP_DATA", None)


def test_a_worker_with_another_version_is_named(client: Any, tmp_path: Path) -> None:
    package, ours = tmp_path / "old" / "spiking_lfp", Path(__file__).parents[2] / "spiking_lfp"
    package.mkdir(parents=True)
    for path in ours.iterdir():
        if path.name != "__init__.py":
            (package / path.name).symlink_to(path)
    text = (ours / "__init__.py").read_text()
    (package / "__init__.py").write_text(text.replace(f'"{__version__}"', '"0.0.9"'))
    worker = on_one_worker(client, put_on_path, str(tmp_path / "old"))
    sentence = f"worker {worker} on .*: it has spiking_lfp 0.0.9, but {__version__} is where the command was given"
    with pytest.raises(RunError, match=sentence):
        run_cases([{"x": 1}], squared, tmp_path, lambda *_: None, executor=executor_on(client, worker))
    client.run(take_off_path, str(tmp_path / "old"), workers=[worker])


def test_what_still_runs_ends_with_the_command(client: Any, tmp_path: Path) -> None:
    running: list[int] = []

    def interrupt(*_: Any) -> None:
        while not (tmp_path / "process").exists() or not (tmp_path / "process").read_text():
            time.sleep(0.02)
        running.append(int((tmp_path / "process").read_text()))
        assert is_alive(running[0])
        raise KeyboardInterrupt

    cases = [{"folder": str(tmp_path), "seconds": seconds} for seconds in (0, 60)]
    with pytest.raises(KeyboardInterrupt):
        run_cases(cases, sleeps, tmp_path, interrupt, executor=client.get_executor())
    assert [case["seconds"] for case, _ in read_cases(tmp_path)] == [0]
    while is_alive(running[0]):
        time.sleep(0.02)


def test_the_command_runs_on_a_scheduler(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKING_LFP_DATA", str(tmp_path))
    command = ["experiment", "simple-reward", "--scale", "smoke", "-o", str(tmp_path / "out"), "--scheduler", address]
    shown = CliRunner().invoke(app, command, catch_exceptions=False).output
    assert "2 workers, 2 trainings at a time; dashboard: http://" in " ".join(shown.split())
    assert "1 of 1  seed 1" in shown
    assert (tmp_path / "out" / "numbers.csv").exists()
    for option in ("--data-root", "--processes"):
        refused = CliRunner().invoke(app, [*command, option, "2"])
        assert isinstance(refused.exception, UsageError)
        assert f"{option} is for this machine: workers" in str(refused.exception)


def test_no_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with dask.config.set({"distributed.comm.timeouts.connect": "100ms"}):
        for wrong, error, sentence in (
            ("tcp://127.0.0.1:9", RunError, "no scheduler of Dask at tcp://127.0.0.1:9 .*: start one by"),
            ("nonsense://x", UsageError, "--scheduler nonsense://x: .*; expected an address like tcp://node1:8786"),
            ("node1", UsageError, "--scheduler node1: missing port number"),
            (str(tmp_path / "none.json"), RunError, "cannot read the scheduler file .*none.json: .*No such file"),
        ):  # fmt: skip
            with pytest.raises(error, match=sentence), dask_client(wrong):
                pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(UsageError, match=r"Dask is not installed: pip install 'spiking-lfp\[cluster\]'"),
        dask_client("x"),
    ):
        pass
