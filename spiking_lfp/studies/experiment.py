"""What an experiment is: cases to train, and a report of what they came to."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal, get_args

from matplotlib.figure import Figure

from spiking_lfp.files import RESULTS
from spiking_lfp.plots.parts import save
from spiking_lfp.studies.cases import Case, Outcome

Scale = Literal["smoke", "small", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)
Results = Sequence[tuple[Case, Outcome]]


@dataclass(frozen=True)
class Finding:
    """A statement of the paper, and what was found; `holds` is None where it cannot be told."""

    paper: str
    found: str
    holds: bool | None


@dataclass(frozen=True)
class Report:
    """What an experiment came to.

    Attributes:
        rows: the numbers, a line of the table each, with the same columns.
        figure: in the paper's form.
        findings: the paper's statements.
    """

    rows: list[dict[str, Any]]
    figure: Figure
    findings: list[Finding]


@dataclass(frozen=True)
class Experiment:
    """One experiment of a paper.

    Attributes:
        title: what is done, in a line, with the paper's figure.
        seeds: how many, by scale.
        cases: the trainings of a scale for seeds 1, 2, ...; what cannot be told apart by its settings is not two cases.
        run: trains a case, with the data root; a function of a module, so that processes can be given it.
        report: sums up all cases.
    """

    title: str
    seeds: dict[Scale, int]
    cases: Callable[[Scale, int], list[Case]]
    run: Callable[[Case, Path | None], Outcome]
    report: Callable[[Results], Report]


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write numbers (CSV, JSON), figure (PNG) and findings of an experiment; return the files."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(report.rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(report.rows)
    paths = [folder / name for name in ("numbers.csv", "numbers.json", "figure.png")]
    RESULTS.write(paths[0], text.getvalue().encode())
    kept = {"rows": report.rows, "findings": [asdict(finding) for finding in report.findings]}
    RESULTS.write(paths[1], (json.dumps(kept, indent=1) + "\n").encode())
    save(report.figure, paths[2])
    return paths


@dataclass
class Groups:
    """Outcomes by the settings they share, whatever their seed."""

    results: Results
    by: tuple[str, ...]
    groups: dict[tuple[Any, ...], list[Outcome]] = field(init=False)

    def __post_init__(self) -> None:
        self.groups = {}
        for case, outcome in self.results:
            self.groups.setdefault(tuple(case[name] for name in self.by), []).append(outcome)

    def mean(self, value: Callable[[Outcome], float]) -> dict[tuple[Any, ...], float]:
        """Return the mean of a value over seeds, by group."""
        return {key: fmean(map(value, outcomes)) for key, outcomes in self.groups.items()}


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of a sample, 0 for one value."""
    return stdev(values) if len(values) > 1 else 0.0
