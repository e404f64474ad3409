"""The command that compares LFP with surrogate gradients on event data sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from spiking_lfp.cli.console import DataRoot, Scheduler, Threads, out, workers
from spiking_lfp.errors import DataError

if TYPE_CHECKING:
    from spiking_lfp.studies.surrogate_comparison.benchmark import Case, Outcome

bench = typer.Typer(help="Benchmarks of training.", no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.add_typer(bench, name="bench")


@bench.callback()
def _group() -> None:
    """Make `events` a sub-command, although it is the only one."""


@bench.command()
def events(
    presets: Annotated[
        list[str] | None, typer.Argument(help="Presets of event data sets.", show_default="all whose data are present")
    ] = None,
    methods: Annotated[str, typer.Option(help="lfp, surrogate, or both, separated by a comma.")] = "lfp,surrogate",
    seeds: Annotated[int, typer.Option(help="Number of seeds for each, counted from 1.")] = 3,
    epochs: Annotated[int | None, typer.Option(help="Epochs, in place of those of the presets.", min=1)] = None,
    folder: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for results and tables; finished cases are reused.")
    ] = Path("bench"),
    threads: Threads = None,
    scheduler: Scheduler = None,
    data_root: DataRoot = None,
) -> None:
    """Train on every event data set present with LFP and with surrogate gradients, and write a table.

    Both use the same samples, networks, optimiser and epochs. If interrupted, the same command continues.
    """
    from spiking_lfp.studies.surrogate_comparison.benchmark import cases_for, present_presets, run_cases
    from spiking_lfp.studies.surrogate_comparison.report import rows, write_report

    chosen = presets or present_presets(data_root)
    if not chosen:
        name = "a folder with --data-root" if scheduler is None else "the presets whose data workers have"
        raise DataError(f"no event data set is present: see `spiking-lfp datasets`, and name {name}")

    def on_case(case: "Case", outcome: "Outcome", done: int, total: int) -> None:
        out.print(
            f"{done} of {total}  {case.preset}  {case.method}  seed {case.seed}  accuracy {outcome.accuracy:.2%}  "
            f"{outcome.seconds:.0f} s",
            highlight=False,
        )

    names = [name.strip() for name in methods.split(",")]
    cases = cases_for(chosen, names, seeds, epochs)
    with workers(scheduler, data_root) as executor:
        results = run_cases(cases, folder, data_root, on_case, executor, threads)
    table = Table("preset", "method", "accuracy", "spikes", "SynOps", "training", "memory")
    for row in rows(results):
        table.add_row(
            row.preset,
            row.method,
            f"{row.accuracy:.2f} % ± {row.deviation:.2f}",
            f"{row.spikes:,.0f}",
            f"{row.synops:,.0f}",
            f"{row.seconds:.0f} s",
            "-" if row.memory_mb is None else f"{row.memory_mb:,.0f} MB",
        )
    out.print(table)
    for path in write_report(results, folder):
        out.print(str(path), highlight=False, markup=False)
