"""The outcome of a benchmark as a table in Markdown and CSV, and as a picture."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import BytesIO, StringIO
from pathlib import Path
from statistics import mean, stdev

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spiking_lfp.files import RESULTS
from spiking_lfp.studies.surrogate_comparison.events import Case, Outcome

COLOURS = {"lfp": "tab:blue", "surrogate": "tab:orange"}


@dataclass(frozen=True)
class Row:
    """The cases of one method on one data set: means over seeds, and the deviation of the accuracy, in percent."""

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
    """Sum up cases, in the order in which they come."""
    groups: dict[tuple[str, str], list[tuple[Case, Outcome]]] = {}
    for case, outcome in results:
        groups.setdefault((case.preset, case.method), []).append((case, outcome))
    made = []
    for (preset, method), group in groups.items():
        case, first = group[0]
        outcomes = [outcome for _, outcome in group]
        accuracies = [100 * outcome.accuracy for outcome in outcomes]
        by_neurobench = [outcome.neurobench for outcome in outcomes if outcome.neurobench]
        memories = [outcome.memory_mb for outcome in outcomes if outcome.memory_mb]
        made.append(
            Row(
                preset=preset,
                method=method,
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
                neurobench_acs=_mean([found["effective accumulates"] for found in by_neurobench]),
                neurobench_sparsity=_mean([found["activation sparsity"] for found in by_neurobench]),
                seconds=mean(outcome.seconds for outcome in outcomes),
                memory_mb=_mean(memories),
            )
        )
    return made


def _mean(values: list[float]) -> float | None:
    return mean(values) if values else None


def write_report(results: Sequence[tuple[Case, Outcome]], folder: Path) -> list[Path]:
    """Write `events.md`, `events.csv` and `events.png` into `folder`, and return their paths."""
    found = rows(results)
    contents = {"events.md": markdown(found).encode(), "events.csv": _csv(found), "events.png": _picture(found)}
    for name, content in contents.items():
        RESULTS.write(folder / name, content)
    return [folder / name for name in contents]


def markdown(found: Sequence[Row]) -> str:
    """Return the table."""
    head = (
        "| preset | samples | method | accuracy | spikes | SynOps | accumulates by NeuroBench | training | memory |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
    )
    return head + "".join(
        f"| {row.preset} | {row.train_samples:,} + {row.test_samples:,} "
        f"| {', '.join([row.method, f'{row.epochs} epochs', *row.settings.split()])} "
        f"| {row.accuracy:.2f} % ± {row.deviation:.2f}, {row.seeds} seed{'s' if row.seeds > 1 else ''} "
        f"| {row.spikes:,.0f} | {row.synops:,.0f} "
        f"| {_shown(row.neurobench_acs)} | {row.seconds:.0f} s | {_shown(row.memory_mb)} MB |\n"
        for row in found
    )


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _csv(found: Sequence[Row]) -> bytes:
    text = StringIO()
    writer = csv.DictWriter(text, list(Row.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in found)
    return text.getvalue().encode()


def _picture(found: Sequence[Row]) -> bytes:
    """Draw accuracy, synaptic operations and time of training side by side, one group of bars a data set."""
    presets = list(dict.fromkeys(row.preset for row in found))
    methods = list(dict.fromkeys(row.method for row in found))
    figure = Figure(figsize=(3 + 3.2 * 3, 1.4 + 0.7 * len(presets)), layout="constrained")
    panels = (("accuracy", "test accuracy [%]"), ("synops", "SynOps an inference"), ("seconds", "training [s]"))
    for axes, (value, title) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        for index, method in enumerate(methods):
            mine = [row for row in found if row.method == method]
            places = [presets.index(row.preset) + 0.38 * (index - (len(methods) - 1) / 2) for row in mine]
            lengths = [getattr(row, value) for row in mine]
            deviations = [row.deviation for row in mine] if value == "accuracy" else None
            axes.barh(places, lengths, 0.36, xerr=deviations, color=COLOURS[method], label=method)
        axes.set(title=title, yticks=range(len(presets)), yticklabels=presets)
        axes.grid(axis="x", alpha=0.3)
    axes.legend()
    axes.invert_yaxis()
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
