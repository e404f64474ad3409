"""The command that reproduces the experiments of the papers."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from spiking_lfp.cli.console import DataRoot, Scheduler, Threads, out, refuse_unused, workers
from spiking_lfp.errors import unknown_name

if TYPE_CHECKING:
    from spiking_lfp.studies.cases import Case, Outcome


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command()(experiment)


def experiment(
    name: Annotated[str | None, typer.Argument(help="Name of the experiment; without it, all are listed.")] = None,
    scale: Annotated[
        str | None, typer.Option(help="Size of the experiment: smoke, small or paper.", show_default="small")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Number of seeds, counted from 1.", show_default="that of the scale")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(help="The only network, data set or start to run, where there are several.", show_default="all"),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Number of trainings at a time; they share the cores.", show_default="1")
    ] = None,
    threads: Threads = None,
    scheduler: Scheduler = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the results.", show_default="experiments/NAME-SCALE"),
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Reproduce an experiment of the papers, and report which of their statements hold.

    If interrupted, the same command continues where it stopped.
    """
    from spiking_lfp.studies.experiment import SCALES
    from spiking_lfp.studies.registry import EXPERIMENTS, run_experiment

    if name is None:
        refuse_unused(
            "no experiment is named", scale=scale, seeds=seeds, part=part, processes=processes, threads=threads,
            scheduler=scheduler, out=folder, data_root=data_root,
        )  # fmt: skip
        table = Table(Column("experiment", no_wrap=True), "description")
        for each, entry in EXPERIMENTS.items():
            table.add_row(each, entry.title)
        out.print(table)
        return
    scale = "small" if scale is None else scale
    chosen = next((each for each in SCALES if each == scale), None)
    if chosen is None:
        raise unknown_name("scale", scale, SCALES)

    def on_case(case: "Case", outcome: "Outcome", done: int, total: int) -> None:
        settings = "  ".join(f"{key} {value}" for key, value in case.items())
        out.print(f"{done} of {total}  {settings}  accuracy {_last(outcome)}", highlight=False)

    folder = folder or Path("experiments") / f"{name}-{scale}"
    with workers(scheduler, data_root, processes) as executor:
        count = 1 if processes is None else processes
        report, paths = run_experiment(name, chosen, folder, on_case, seeds, count, data_root, executor, threads, part)
    _print_table(report.rows)
    for finding in report.findings:
        verdict = {True: "holds", False: "does not hold", None: "undecided"}[finding.holds]
        out.print(Text.assemble((verdict, "bold"), f": {finding.paper} Found: {finding.found}"))
    for path in paths:
        out.print(str(path), highlight=False)


def _print_table(rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table; values that are the same in all rows are printed below it."""
    common = [name for name in rows[0] if len(rows) > 1 and all(row[name] == rows[0][name] for row in rows)]
    names = [name for name in rows[0] if name not in common]
    table = Table(*names)
    for row in rows:
        table.add_row(*(_show(row[name]) for name in names))
    # on a narrower console its lines wrap: if they were cut to fit, numbers would be unreadable
    table.width = Measurement.get(out, out.options.update(max_width=sys.maxsize), table).maximum
    out.print(table, crop=False)
    if common:
        text = ", ".join(f"{name} {_show(rows[0][name])}" for name in common)
        out.print(f"all: {text}", highlight=False)


def _last(outcome: "Outcome") -> str:
    """Return the accuracy of an outcome, or the last one of its curve."""
    value = outcome.get("accuracy")
    if isinstance(value, list):
        value = value[-1] if value else None
    return "-" if value is None else f"{value:.2%}"


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
