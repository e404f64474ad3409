"""Shared parts of the commands: consoles, errors, common options, and the parsing of settings."""

import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from spiking_lfp.errors import UsageError

out = Console()
err = Console(stderr=True)

DataRoot = Annotated[
    Path | None, typer.Option(help="Folder of the data sets.", envvar="SPIKING_LFP_DATA", show_envvar=True)
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto uses a GPU if available.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Scheduler of Dask, or its scheduler file: its workers run the trainings, on any machines.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(help="Threads of each training. [default: its share of the cores; 1 with --scheduler]", min=1),
]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run of the command train.")]


def fail(message: str, code: int) -> NoReturn:
    """Print an error as one sentence and exit with `code`."""
    err.print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)


@contextmanager
def workers(scheduler: str | None, context: typer.Context) -> Iterator[Executor | None]:
    """Yield what runs trainings, None for this machine, and refuse options that are about this machine alone."""
    if scheduler is None:
        yield None
        return
    from spiking_lfp.studies.cluster import dask_client

    for option, instead in (
        ("data_root", "workers look for data where SPIKING_LFP_DATA says on their machines"),
        ("processes", "a worker of Dask runs as many trainings at a time as its --nthreads says"),
    ):
        source = context.get_parameter_source(option)
        if source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"--{option.replace('_', '-')} is for this machine: leave it out, {instead}")
    with dask_client(scheduler) as client:
        threads = client.nthreads()
        places = f"{len(threads)} workers, {sum(threads.values())} trainings at a time" if threads else "no workers yet"
        out.print(f"{places}; dashboard: {client.dashboard_link}", highlight=False, markup=False)
        yield client.get_executor(pure=False)


def assignments(changes: list[str]) -> dict[str, Any]:
    """Parse KEY=VALUE arguments into settings by name."""
    settings: dict[str, Any] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise UsageError(f"--set expects KEY=VALUE, found {change!r}")
        settings[key.strip()] = value.strip()
    return settings


def announce_compiling() -> None:
    """Print a line before kernels are compiled for the first time."""
    from spiking_lfp.kernels.compilation import before_compiling

    line = "compiling kernels for this machine, once (about ten seconds) ..."
    before_compiling(lambda: out.print(line, style="dim", highlight=False))
