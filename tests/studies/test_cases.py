"""Grids of trainings: each case run once and saved, resumed grids, cases that fail."""

import os
from pathlib import Path
from typing import Any

import pytest

from helpers.grids import squared
from spiking_lfp.errors import RunError, UsageError
from spiking_lfp.studies.cases import CASES_FILE, read_cases, run_cases


def never(*_: Any) -> None:
    raise AssertionError("run again")


def test_each_case_has_a_process_and_is_run_once(tmp_path: Path) -> None:
    folder, called = tmp_path / "new" / "folder", []
    cases = [{"x": 3}, {"x": 1}]
    results = run_cases(cases, squared, folder, lambda case, outcome: called.append((case, outcome)), processes=2)
    assert [(case, outcome["squared"]) for case, outcome in results] == [({"x": 3}, 9), ({"x": 1}, 1)]
    assert sorted(case["x"] for case, _ in called) == [1, 3]
    assert len({outcome["process"] for _, outcome in results} | {os.getpid()}) == 3
    assert {outcome["threads"] for _, outcome in results} == {max(1, (os.cpu_count() or 1) // 2)}
    # in another order, with its fields in another order: the same cases, which are saved already
    assert run_cases(cases[::-1], squared, folder, never) == results[::-1]
    assert run_cases([], squared, folder, never) == []


def test_a_grid_goes_on_after_a_case_that_fails(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="x=-1: x must be at least 0"):
        run_cases([{"x": 2}, {"x": -1}, {"x": 4}], squared, tmp_path, lambda *_: None)
    assert [case for case, _ in read_cases(tmp_path)] == [{"x": 2}]
    called: list[Any] = []
    results = run_cases([{"x": 2}, {"x": 4}], squared, tmp_path, lambda case, _: called.append(case))
    assert called == [{"x": 4}]
    assert [outcome["squared"] for _, outcome in results] == [4, 16]


def test_a_process_that_dies_is_told_with_its_case(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the process of x=13 died"):
        run_cases([{"x": 13}], squared, tmp_path, never)


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot read"):
        run_cases([{"x": 1}], squared, tmp_path / "file", never)
    (tmp_path / CASES_FILE).write_text('{"case": 1}\n')
    with pytest.raises(RunError, match=f"cannot read .*{CASES_FILE}"):
        run_cases([{"x": 1}], squared, tmp_path, never)
    with pytest.raises(UsageError, match="processes must be at least 1"):
        run_cases([{"x": 1}], squared, tmp_path / "other", never, 0)
