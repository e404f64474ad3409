"""The results of the benchmark as a table in Markdown and CSV, and as a figure."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from statistics import mean, stdev

from matplotlib.figure import Figure

from spiking_lfp.errors import RunError
from spiking_lfp.files import RESULTS
from spiking_lfp.plots.drawing import rendered
from spiking_lfp.studies.surrogate_comparison.benchmark import NEUROTRAIN, Case, Outcome

# as in all pictures, from Okabe and Ito's palette
COLOURS = {"lfp": "#0072b2", "surrogate": "black"}


@dataclass(frozen=True)
class Row:
    """One method on one data set: means over seeds; the accuracy and its standard deviation are in percent."""

    preset: str
    method: str
    seeds: int
    epochs: int
    settings: str
    train_samples: int
    test_samples: int
    accuracy: float
    deviation: float
    spikes: float
    synops: float
    sparsity: float
    neurobench_acs: float | None
    neurobench_sparsity: float | None
    seconds: float
    memory_mb: float | None


def rows(results: Sequence[tuple[Case, Outcome]]) -> list[Row]:
    """Return the means of the cases that differ in their seed only, in the order of the cases.

    Raises:
        RunError: if the data set had other samples for some of them.
    """
    groups: dict[Case, list[tuple[Case, Outcome]]] = {}
    for case, outcome in results:
        groups.setdefault(replace(case, seed=0), []).append((case, outcome))
    table = []
    for case, group in groups.items():
        _, first = group[0]
        outcomes = [outcome for _, outcome in group]
        sizes = sorted({(outcome.train_samples, outcome.test_samples) for outcome in outcomes})
        if len(sizes) > 1:
            found = " and ".join(f"{train:,} + {test:,} samples" for train, test in sizes)
            raise RunError(
                f"{case.preset} had {found} in cases of {case.method} with different seeds: the data changed meanwhile,"
                " choose another --out"
            )
        accuracies = [100 * outcome.accuracy for outcome in outcomes]
        by_neurobench = [outcome.neurobench for outcome in outcomes if outcome.neurobench]
        memories = [outcome.memory_mb for outcome in outcomes if outcome.memory_mb]
        table.append(
            Row(
                preset=case.preset,
                method=case.method,
                seeds=len(group),
                epochs=case.epochs,
                settings=case.settings,
                train_samples=first.train_samples,
                test_samples=first.test_samples,
                accuracy=mean(accuracies),
                deviation=stdev(accuracies) if len(group) > 1 else 0.0,
                spikes=mean(outcome.spikes for outcome in outcomes),
                synops=mean(outcome.synops for outcome in outcomes),
                sparsity=mean(outcome.sparsity for outcome in outcomes),
                neurobench_acs=_mean([counts["effective accumulates"] for counts in by_neurobench]),
                neurobench_sparsity=_mean([counts["activation sparsity"] for counts in by_neurobench]),
                seconds=mean(outcome.seconds for outcome in outcomes),
                memory_mb=_mean(memories),
            )
        )
    return table


def _mean(values: list[float]) -> float | None:
    return mean(values) if values else None


def write_report(results: Sequence[tuple[Case, Outcome]], folder: Path, name: str = "events") -> list[Path]:
    """Write `NAME.md`, `NAME.csv` and `NAME.png` into `folder`, and return their paths."""
    table = rows(results)
    contents = {"md": markdown(table).encode(), "csv": _csv(table), "png": rendered(_figure(table))}
    return RESULTS.write_all(folder, {f"{name}.{suffix}": content for suffix, content in contents.items()})


def markdown(table: Sequence[Row]) -> str:
    """Return the table in Markdown."""
    published = any(row.preset in NEUROTRAIN for row in table)
    head = (
        "| preset | samples | method | accuracy | spikes | SynOps | accumulates by NeuroBench | training | memory |"
        + (" best in NeuroTrain |" if published else "")
        + "\n|---|---|---|---|---|---|---|---|---|"
        + ("---|" if published else "")
        + "\n"
    )
    return head + "".join(
        f"| {row.preset} | {row.train_samples:,} + {row.test_samples:,} "
        f"| {', '.join([row.method, f'{row.epochs} epochs', *row.settings.split()])} "
        f"| {row.accuracy:.2f} % ± {row.deviation:.2f}, {row.seeds} seed{'s' if row.seeds > 1 else ''} "
        f"| {row.spikes:,.0f} | {row.synops:,.0f} "
        f"| {_number(row.neurobench_acs)} | {row.seconds:.0f} s | {_number(row.memory_mb)} MB |"
        + (f" {NEUROTRAIN.get(row.preset, '')} |" if published else "")
        + "\n"
        for row in table
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _csv(table: Sequence[Row]) -> bytes:
    text = StringIO()
    writer = csv.DictWriter(text, list(Row.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in table)
    return text.getvalue().encode()


def _figure(table: Sequence[Row]) -> Figure:
    """Draw accuracy, synaptic operations and training time side by side, a group of bars for each data set."""
    presets = list(dict.fromkeys(row.preset for row in table))
    methods = list(dict.fromkeys(row.method for row in table))
    figure = Figure(figsize=(3 + 3.2 * 3, 1.4 + 0.7 * len(presets)), layout="constrained")
    panels = (("accuracy", "test accuracy [%]"), ("synops", "SynOps an inference"), ("seconds", "training [s]"))
    for axes, (value, title) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        for index, method in enumerate(methods):
            of_method = [row for row in table if row.method == method]
            positions = [presets.index(row.preset) + 0.38 * (index - (len(methods) - 1) / 2) for row in of_method]
            lengths = [getattr(row, value) for row in of_method]
            deviations = [row.deviation for row in of_method] if value == "accuracy" else None
            axes.barh(positions, lengths, 0.36, xerr=deviations, color=COLOURS[method], label=method)
        axes.set(title=title, yticks=range(len(presets)), yticklabels=presets)
        axes.grid(axis="x", alpha=0.3)
    axes.legend()
    axes.invert_yaxis()
    return figure
