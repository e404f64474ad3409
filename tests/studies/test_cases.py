"""Grids of trainings: each case run once and saved, resumed grids, cases that fail."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from helpers.grids import squared, trained
from helpers.processes import ENVIRONMENT, is_alive
from spiking_lfp.errors import RunError, UsageError
from spiking_lfp.studies import cases as module
from spiking_lfp.studies import process
from spiking_lfp.studies.cases import CASES_FILE, read_cases, run_cases


def never(*_: Any) -> None:
    raise AssertionError("run again")


def test_each_case_has_a_process_and_is_run_once(tmp_path: Path) -> None:
    folder, called = tmp_path / "new" / "folder", []
    cases = [{"x": 3}, {"x": 1}]
    results = run_cases(cases, squared, folder, lambda case, outcome, *_: called.append((case, outcome)), processes=2)
    assert [(case, outcome["squared"]) for case, outcome in results] == [({"x": 3}, 9), ({"x": 1}, 1)]
    assert sorted(case["x"] for case, _ in called) == [1, 3]
    assert len({outcome["process"] for _, outcome in results} | {os.getpid()}) == 3
    threads = max(1, (os.cpu_count() or 1) // 2)
    assert {outcome["threads"] for _, outcome in results} == {threads}
    assert [outcome["libraries"] for _, outcome in results] == [[str(threads)] * 3] * 2
    saved = [json.loads(line)["made"] for line in (folder / CASES_FILE).read_text().splitlines()]
    assert [(made["versions"], made["threads"]) for made in saved] == [(process.versions(), threads)] * 2
    assert all(made["seconds"] >= 0 and made["processor"] and made["date"] >= "2026" for made in saved)
    # in another order, with its fields in another order: the same cases, which are saved already
    assert run_cases(cases[::-1], squared, folder, never) == results[::-1]
    assert run_cases([], squared, folder, never) == []


@pytest.mark.usefixtures("in_this_process")
def test_what_made_a_case_stays_with_it(tmp_path: Path) -> None:
    """Also what nobody knows any more, of cases saved before that was kept."""
    (tmp_path / CASES_FILE).write_text('{"case": {"x": 1}, "outcome": {"squared": 1}}\n')
    run_cases([{"x": 2}], squared, tmp_path, lambda *_: None)
    before = (tmp_path / CASES_FILE).read_text().splitlines()
    run_cases([{"x": 1}, {"x": 2}, {"x": 3}], squared, tmp_path, lambda *_: None)
    assert (tmp_path / CASES_FILE).read_text().splitlines()[:2] == before
    assert ["made" in json.loads(line) for line in before] == [False, True]


@pytest.mark.usefixtures("in_this_process")
def test_a_grid_goes_on_after_a_case_that_fails(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="x=-1: x must be at least 0"):
        run_cases([{"x": 2}, {"x": -1}, {"x": 4}], squared, tmp_path, lambda *_: None)
    # the case behind the one that fails is begun before that is known, and is saved too if it ends in time
    saved = [case for case, _ in read_cases(tmp_path)]
    assert saved in ([{"x": 2}], [{"x": 2}, {"x": 4}])
    called: list[Any] = []
    results = run_cases([{"x": 2}, {"x": 4}], squared, tmp_path, lambda case, *_: called.append(case))
    assert called == [{"x": 4}][: 2 - len(saved)]
    assert [outcome["squared"] for _, outcome in results] == [4, 16]


def test_a_case_whose_process_dies_every_time_is_told(tmp_path: Path) -> None:
    with (
        pytest.warns(UserWarning, match="x=13: its process was killed by signal 9; it is run again") as warned,
        pytest.raises(RunError, match=r"x=13: run 3 times, and lost each time, .* killed by signal 9, maybe"),
    ):
        run_cases([{"x": 13}], squared, tmp_path, never)
    assert len(warned) == 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, bytes]:
    """What a case comes to that nothing disturbs, and the file it leaves."""
    folder = tmp_path_factory.mktemp("whole")
    [(_, outcome)] = run_cases([{"seed": 2}], trained, folder, lambda *_: None, threads=1)
    return outcome, (folder / "run-2" / "weights").read_bytes()


def test_a_case_whose_process_dies_once_is_run_again(whole: tuple[Any, bytes], tmp_path: Path) -> None:
    case = {"seed": 2, "kills": "process", "marks": str(tmp_path / "marks")}
    counts: list[Any] = []
    with pytest.warns(UserWarning, match="its process ended with 143; it is run again"):
        [(_, outcome)] = run_cases([case], trained, tmp_path, lambda *given: counts.append(given[2:]), threads=1)
    assert counts == [(1, 1)]
    assert (outcome, (tmp_path / "run-2" / "weights").read_bytes()) == whole


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, partial(ProcessPoolExecutor, mp_context=get_context("spawn"))])
def test_any_executor_runs_cases_in_processes_of_their_own(pool: Any, whole: tuple[Any, bytes], tmp_path: Path) -> None:
    """Threads too, which share a generator of random numbers."""
    with pool(2) as executor:
        results = run_cases([{"seed": 1}, {"seed": 2}], trained, tmp_path, lambda *_: None, executor=executor)
        assert executor.submit(int, 3).result() == 3  # it is left open
    assert (results[1][1], (tmp_path / "run-2" / "weights").read_bytes()) == whole


def test_an_executor_that_breaks_is_told(tmp_path: Path) -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(RunError, match=r"the executor takes no more cases .*: run the command again"):
        run_cases([{"x": 1}], squared, tmp_path, never, executor=pool)


class Failing(Executor):
    """An executor whose workers fail like this."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def submit(self, *_: Any, **__: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        future.set_exception(self.error)
        return future


class Closing(Failing):
    """An executor that loses its second case together with all workers, as Dask does with its scheduler."""

    taken = 0

    def submit(self, *_: Any, **__: Any) -> "Future[Any]":
        self.taken += 1
        if self.taken == 3:
            raise self.error
        future: Future[Any] = Future()
        if self.taken == 2:
            future.set_exception(CancelledError())
        future.cancel = lambda: pytest.fail("cancelled")
        return future


def test_an_engine_that_goes_away_is_told(tmp_path: Path) -> None:
    executor = Closing(Exception("Client is closed. Can't send"))
    with (
        pytest.warns(UserWarning, match="x=2: CancelledError; it is run again"),
        pytest.raises(RunError, match=r"the executor takes no more cases \(Client is closed\): run the command again"),
    ):
        run_cases([{"x": 1}, {"x": 2}], squared, tmp_path, never, executor=executor)


def test_workers_without_this_package_are_told(tmp_path: Path) -> None:
    executor = Failing(ModuleNotFoundError("No module named 'spiking_lfp'"))
    with pytest.raises(RunError, match=r"x=1: a worker cannot load spiking_lfp .* install it on all of them"):
        run_cases([{"x": 1}], squared, tmp_path, never, executor=executor)


@pytest.mark.parametrize(("package", "other"), [("spiking_lfp", "0.0.9"), ("torch", "1.0"), ("numba", None)])
def test_other_versions_are_refused_by_name(
    package: str, other: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = process.versions()
    asked = {name: version for name, version in (found | {package: other}).items() if version is not None}
    job = {**process.job_of(squared, {"x": 1}, 1), "versions": asked}
    monkeypatch.setattr(module, "run_in_process", lambda *_, **__: ("worker node7", process.answer(job)))
    sentence = f"x=1: worker node7: it has {package} {found[package]}, but {other} is where the command was given"
    with pytest.raises(RunError, match=sentence):
        run_cases([{"x": 1}], squared, tmp_path, never)


def test_builds_for_cpu_and_gpu_are_the_same_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "version", lambda _: "2.13.0+cu130")
    assert process.versions()["torch"] == "2.13.0"


@pytest.mark.usefixtures("in_this_process")
def test_other_errors_keep_their_type_and_their_place(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="seed") as caught:
        run_cases([{"x": 1}], trained, tmp_path, never)
    assert "helpers/grids.py" in caught.value.__notes__[0]


def test_a_case_ends_with_the_command_that_runs_it(tmp_path: Path) -> None:
    """After Ctrl-C, and after a kill that leaves no time to tell anyone."""
    # commands in the background of a script ignore Ctrl-C
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "import sys, pathlib; from helpers.grids import sleeps; from spiking_lfp.studies.cases import run_cases; "
        "run_cases([{'folder': sys.argv[1], 'seconds': 60}], sleeps, pathlib.Path(sys.argv[1]), print)"
    )
    for ending in (signal.SIGINT, signal.SIGKILL):
        folder = tmp_path / ending.name
        folder.mkdir()
        command = subprocess.Popen([sys.executable, "-c", code, folder], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
        while not (folder / "process").exists() or not (folder / "process").read_text():
            assert command.poll() is None
            time.sleep(0.02)
        case = int((folder / "process").read_text())
        assert is_alive(case)
        command.send_signal(ending)
        assert command.wait(30) == -ending
        while is_alive(case):
            time.sleep(0.02)


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot read"):
        run_cases([{"x": 1}], squared, tmp_path / "file", never)
    (tmp_path / CASES_FILE).write_text('{"case": 1}\n')
    with pytest.raises(RunError, match=f"cannot read .*{CASES_FILE}"):
        run_cases([{"x": 1}], squared, tmp_path, never)
    with pytest.raises(UsageError, match="processes must be at least 1"):
        run_cases([{"x": 1}], squared, tmp_path / "other", never, 0)
    with pytest.raises(UsageError, match="threads must be at least 1"):
        run_cases([{"x": 1}], squared, tmp_path / "other", never, threads=0)
