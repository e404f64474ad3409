"""The command that compares LFP with the surrogate baseline on data sets of recordings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from spiking_lfp.cli.console import DataRoot, out
from spiking_lfp.errors import DataError

if TYPE_CHECKING:
    from spiking_lfp.studies.surrogate_comparison.benchmark import Case, Outcome

bench = typer.Typer(help="Benchmarks that train.", no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.add_typer(bench, name="bench")


@bench.callback()
def _group() -> None:
    """Keep `events` a command of its own."""


@bench.command()
def events(
    presets: Annotated[
        list[str] | None, typer.Argument(help="Presets of event data; if none, all whose data are there.")
    ] = None,
    methods: Annotated[str, typer.Option(help="lfp, surrogate or both, with a comma.")] = "lfp,surrogate",
    seeds: Annotated[int, typer.Option(help="How many seeds each, from 1 on.")] = 3,
    epochs: Annotated[int | None, typer.Option(help="Epochs instead of the presets'.", min=1)] = None,
    folder: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the cases and the tables; finished cases are kept.")
    ] = Path("bench"),
    data_root: DataRoot = None,
) -> None:
    """Train every event data set that is there by LFP and by surrogate gradients, and write a table.

    Both see the same samples, networks, optimiser and epochs. Interrupted, the same command goes on.
    """
    from spiking_lfp.studies.surrogate_comparison.benchmark import cases_for, present_presets, run_cases
    from spiking_lfp.studies.surrogate_comparison.report import rows, write_report

    chosen = presets or present_presets(data_root)
    if not chosen:
        raise DataError("no event data set is there: see `spiking-lfp datasets`, and name a folder with --data-root")

    def told(case: "Case", outcome: "Outcome") -> None:
        out.print(
            f"{case.preset}  {case.method}  seed {case.seed}  accuracy {outcome.accuracy:.2%}  {outcome.seconds:.0f} s",
            highlight=False,
        )

    names = [name.strip() for name in methods.split(",")]
    results = run_cases(cases_for(chosen, names, seeds, epochs), folder, data_root, told)
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
