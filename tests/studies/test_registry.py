"""Experiments by name: what is run, kept and written, and the command around it."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from spiking_lfp.cli.main import app
from spiking_lfp.errors import UsageError
from spiking_lfp.studies import registry
from spiking_lfp.studies.cases import Case, Outcome
from spiking_lfp.studies.experiment import SCALES, Experiment, Finding, Groups, Report, Results, Scale, deviation
from spiking_lfp.studies.registry import EXPERIMENTS, run_experiment


def trained(case: Case, data_root: Path | None) -> Outcome:
    return {"accuracy": [0.5, case["seed"] / 10], "root": str(data_root)}


def cases(scale: Scale, seeds: int) -> list[Case]:
    return [{"size": SCALES.index(scale), "seed": seed} for seed in range(1, seeds + 1)]


def report(results: Results) -> Report:
    mean = Groups(results, ("size",)).mean(lambda outcome: outcome["accuracy"][-1])
    rows: list[dict[str, Any]] = [{"size": size, "accuracy": value} for (size,), value in mean.items()]
    findings = [Finding("It learns.", "it did.", True), Finding("It flies.", "no.", None)]
    return Report(rows, Figure(), findings, {"curves": Figure()})


FAKE = Experiment("one that takes no time", {"smoke": 1, "small": 2, "paper": 3}, cases, trained, report)


pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPERIMENTS, "fake", FAKE)


def test_an_experiment_writes_numbers_figure_and_findings(tmp_path: Path) -> None:
    called: list[Case] = []
    summary, paths = run_experiment("fake", "small", tmp_path, lambda case, *_: called.append(case), data_root=tmp_path)
    assert called == [{"size": 1, "seed": 1}, {"size": 1, "seed": 2}]
    assert summary.rows == [{"size": 1, "accuracy": pytest.approx(0.15)}]
    assert [path.name for path in paths] == ["numbers.csv", "numbers.json", "figure.png", "curves.png"]
    with paths[0].open() as file:
        assert [float(row["accuracy"]) for row in csv.DictReader(file)] == [pytest.approx(0.15)]
    saved = json.loads(paths[1].read_text())
    assert saved["findings"][0] == {"paper": "It learns.", "found": "it did.", "holds": True}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths[2:])
    # more seeds: those that are there already are not trained again
    run_experiment("fake", "small", tmp_path, lambda case, *_: called.append(case), seeds=3, data_root=tmp_path)
    assert called[2:] == [{"size": 1, "seed": 3}]


def test_a_part_is_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def two_sizes(scale: Scale, seeds: int) -> list[Case]:
        return [{"size": size, "seed": seed} for size in ("large", "tiny") for seed in range(1, seeds + 1)]

    called: list[Case] = []
    monkeypatch.setitem(EXPERIMENTS, "fake", replace(FAKE, cases=two_sizes, parts="size"))
    summary, _ = run_experiment("fake", "smoke", tmp_path, lambda case, *_: called.append(case), part="tiny")
    assert called == [{"size": "tiny", "seed": 1}]
    assert [row["size"] for row in summary.rows] == ["tiny"]
    with pytest.raises(UsageError, match=r"unknown part of 'fake' at scale small 'tny': did you mean 'tiny'\?"):
        run_experiment("fake", "small", tmp_path, lambda *_: None, part="tny")
    monkeypatch.setitem(EXPERIMENTS, "fake", FAKE)
    with pytest.raises(UsageError, match=r"experiment 'fake' has no parts, found part 'tiny'"):
        run_experiment("fake", "smoke", tmp_path, lambda *_: None, part="tiny")


def test_what_cannot_be_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown experiment 'fig7'"):
        run_experiment("fig7", "small", tmp_path, print)
    with pytest.raises(UsageError, match="seeds must be at least 1"):
        run_experiment("fake", "small", tmp_path, print, seeds=0)


def test_the_command_lists_and_runs(tmp_path: Path) -> None:
    listed = CliRunner().invoke(app, ["experiment"]).output
    for name in EXPERIMENTS:
        assert name in listed
    shown = CliRunner().invoke(app, ["experiment", "fake", "--scale", "smoke", "-o", str(tmp_path / "out")])
    assert shown.exit_code == 0
    text = " ".join(shown.output.split())
    assert "size 0 seed 1 accuracy 10.00%" in text
    assert "holds: It learns. Found: it did." in text
    assert "undecided: It flies. Found: no." in text
    assert (tmp_path / "out" / "numbers.csv").is_file()


def test_what_all_rows_have_in_common_stands_beneath(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"set": "tiles", "parts": [1], "rate": 0.1, "score": score} for score in (0.5, 0.25)]
    several = replace(FAKE, report=lambda results: Report(rows, Figure(), []))
    monkeypatch.setitem(EXPERIMENTS, "fake", several)
    lines = CliRunner().invoke(app, ["experiment", "fake", "-o", str(tmp_path)]).output.splitlines()
    [head] = [line for line in lines if "score" in line]
    assert head.strip("\u2503 ") == "score"
    assert "all: set tiles, parts [1], rate 0.1" in lines


def test_numbers_are_whole_in_a_table_wider_than_the_console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{f"a long name {column}": 0.125 + row + column for column in range(20)} for row in (0, 1000)]
    monkeypatch.setitem(EXPERIMENTS, "fake", replace(FAKE, report=lambda results: Report(rows, Figure(), [])))
    shown = CliRunner().invoke(app, ["experiment", "fake", "-o", str(tmp_path)]).output
    assert [line.split()[1::2] for line in shown.splitlines() if "0.125" in line] == [
        [f"{0.125 + column:.4g}" for column in range(20)]
    ]


def test_the_command_knows_its_scales() -> None:
    result = CliRunner().invoke(app, ["experiment", "fake", "--scale", "large"])
    assert isinstance(result.exception, UsageError)
    assert "unknown scale 'large'" in str(result.exception)


def test_every_experiment_has_other_cases_at_every_scale() -> None:
    for name, experiment in registry.EXPERIMENTS.items():
        for scale in SCALES:
            made = experiment.cases(scale, experiment.seeds[scale])
            texts = [json.dumps(case, sort_keys=True) for case in made]
            assert len(set(texts)) == len(texts) > 0, name
            assert len(experiment.cases(scale, experiment.seeds[scale] + 1)) > len(made), name


def test_a_single_value_does_not_deviate() -> None:
    assert deviation([3.0]) == 0
    assert deviation([1.0, 3.0]) == pytest.approx(2**0.5)
