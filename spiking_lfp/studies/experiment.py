"""What an experiment is: cases to train, and a report of their outcomes."""

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
from spiking_lfp.plots.drawing import rendered
from spiking_lfp.studies.cases import Case, Outcome

Scale = Literal["smoke", "small", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)
Results = Sequence[tuple[Case, Outcome]]


@dataclass(frozen=True)
class Finding:
    """A statement of the paper and what was measured; `holds` is None where the numbers do not decide it."""

    paper: str
    found: str
    holds: bool | None


@dataclass(frozen=True)
class Report:
    """The results of an experiment.

    Attributes:
        rows: the lines of the table of numbers, all with the same columns.
        figure: drawn like the paper's, as wide as a page.
        findings: the paper's statements, each compared with the numbers.
        others: more figures by name.
    """

    rows: list[dict[str, Any]]
    figure: Figure
    findings: list[Finding]
    others: dict[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """One experiment of a paper.

    Attributes:
        title: one line that describes the experiment, with the number of the paper's figure.
        seeds: number of seeds at each scale.
        cases: the trainings of a scale for seeds 1, 2, ...; no two cases have the same settings.
        run: trains a case, given the data root; a function at the top level of a module, so that it can be pickled.
        report: summarises all cases, or those of one part.
        parts: the setting of cases by whose values an experiment may be run in parts; None if it is run as a whole.
    """

    title: str
    seeds: dict[Scale, int]
    cases: Callable[[Scale, int], list[Case]]
    run: Callable[[Case, Path | None], Outcome]
    report: Callable[[Results], Report]
    parts: str | None = None


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write the numbers (CSV, JSON), the figures (PNG) and the findings of an experiment; return the files' paths."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(report.rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(report.rows)
    figures = {"figure": report.figure, **report.others}
    content = {"rows": report.rows, "findings": [asdict(finding) for finding in report.findings]}
    files = {
        "numbers.csv": text.getvalue().encode(),
        "numbers.json": (json.dumps(content, indent=1) + "\n").encode(),
        **{f"{name}.png": rendered(figure) for name, figure in figures.items()},
    }
    return RESULTS.write_all(folder, files)


@dataclass
class Groups:
    """Outcomes grouped by the settings named in `by`, over all seeds."""

    results: Results
    by: tuple[str, ...]
    groups: dict[tuple[Any, ...], list[Outcome]] = field(init=False)

    def __post_init__(self) -> None:
        self.groups = {}
        for case, outcome in self.results:
            self.groups.setdefault(tuple(case[name] for name in self.by), []).append(outcome)

    def mean(self, value: Callable[[Outcome], float]) -> dict[tuple[Any, ...], float]:
        """Return the mean of a value over the seeds of each group."""
        return {key: fmean(map(value, outcomes)) for key, outcomes in self.groups.items()}


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation, 0 for a single value."""
    return stdev(values) if len(values) > 1 else 0.0
