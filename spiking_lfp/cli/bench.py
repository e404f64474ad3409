"""The commands that compare LFP with surrogate gradients, and with what others have published."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from spiking_lfp.cli.console import DataRoot, Scheduler, Threads, assignments, out, workers
from spiking_lfp.errors import DataError

if TYPE_CHECKING:
    from spiking_lfp.studies.surrogate_comparison.benchmark import Case, Outcome

bench = typer.Typer(help="Benchmarks of training.", no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.add_typer(bench, name="bench")


Methods = Annotated[str, typer.Option(help="lfp, surrogate, or both, separated by a comma.")]
Seeds = Annotated[int, typer.Option(help="Number of seeds for each, counted from 1.")]
Epochs = Annotated[int | None, typer.Option(help="Epochs, in place of those of the presets.", min=1)]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A value of any other setting for all, as for train; repeatable."),
]
Folder = Annotated[Path, typer.Option("--out", "-o", help="Folder for results and tables; finished cases are reused.")]


@bench.command()
def events(
    presets: Annotated[
        list[str] | None, typer.Argument(help="Presets of event data sets.", show_default="all whose data are present")
    ] = None,
    methods: Methods = "lfp,surrogate",
    seeds: Seeds = 3,
    epochs: Epochs = None,
    changes: Changes = None,
    folder: Folder = Path("bench"),
    threads: Threads = None,
    scheduler: Scheduler = None,
    data_root: DataRoot = None,
) -> None:
    """Train on every event data set present with LFP and with surrogate gradients, and write a table.

    Both use the same samples, networks, optimiser and epochs. If interrupted, the same command continues.
    """
    from spiking_lfp.studies.surrogate_comparison.benchmark import present_presets

    chosen = presets or present_presets(data_root)
    _compare("events", chosen, "event data set", methods, seeds, epochs, changes, folder, threads, scheduler, data_root)


@bench.command()
def rules(
    presets: Annotated[
        list[str] | None,
        typer.Argument(help="Presets of the comparison.", show_default="those of NeuroTrain whose data are present"),
    ] = None,
    methods: Methods = "lfp,surrogate",
    seeds: Seeds = 3,
    epochs: Epochs = None,
    changes: Changes = None,
    folder: Folder = Path("bench-rules"),
    threads: Threads = None,
    scheduler: Scheduler = None,
    data_root: DataRoot = None,
) -> None:
    """Train the networks on which NeuroTrain compares ten learning rules, and write a table with its best figures.

    LFP and the surrogate use the same samples, networks, optimiser and epochs. NeuroTrain (arXiv 2605.15058) searched
    settings of each rule with the test samples, ten trials of twenty epochs. The same command continues where it was.
    """
    from spiking_lfp.studies.surrogate_comparison.benchmark import NEUROTRAIN, present_presets

    chosen = presets or present_presets(data_root, NEUROTRAIN)
    _compare(
        "rules",
        chosen,
        "data set of the comparison",
        methods,
        seeds,
        epochs,
        changes,
        folder,
        threads,
        scheduler,
        data_root,
    )


def _compare(
    name: str,
    presets: list[str],
    what: str,
    methods: str,
    seeds: int,
    epochs: int | None,
    changes: list[str] | None,
    folder: Path,
    threads: int | None,
    scheduler: str | None,
    data_root: Path | None,
) -> None:
    from spiking_lfp.studies.surrogate_comparison.benchmark import NEUROTRAIN, cases_for, run_cases
    from spiking_lfp.studies.surrogate_comparison.report import rows, write_report

    if not presets:
        remedy = "a folder with --data-root" if scheduler is None else "the presets whose data workers have"
        raise DataError(f"no {what} is present: see `spiking-lfp datasets`, and name {remedy}")

    def on_case(case: "Case", outcome: "Outcome", done: int, total: int) -> None:
        out.print(
            f"{done} of {total}  {case.preset}  {case.method}  seed {case.seed}  accuracy {outcome.accuracy:.2%}  "
            f"{outcome.seconds:.0f} s",
            highlight=False,
        )

    names = [name.strip() for name in methods.split(",")]
    cases = cases_for(presets, names, seeds, epochs, assignments(changes or []))
    with workers(scheduler, data_root) as executor:
        results = run_cases(cases, folder, data_root, on_case, executor, threads)
    published = any(preset in NEUROTRAIN for preset in presets)
    table = Table("preset", "method", "accuracy", "spikes", "SynOps", "training", "memory")
    if published:
        table.add_column("published")
    for row in rows(results):
        known = NEUROTRAIN.get(row.preset)
        table.add_row(
            row.preset,
            row.method,
            f"{row.accuracy:.2f} % ± {row.deviation:.2f}",
            f"{row.spikes:,.0f}",
            f"{row.synops:,.0f}",
            f"{row.seconds:.0f} s",
            "-" if row.memory_mb is None else f"{row.memory_mb:,.0f} MB",
            *([] if not published else ["-" if known is None else str(known)]),
        )
    out.print(table)
    for path in write_report(results, folder, name):
        out.print(str(path), highlight=False)
