"""Shared parts of the commands: consoles, errors, common options, and the parsing of settings."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from spiking_lfp.errors import UsageError

if TYPE_CHECKING:
    from spiking_lfp.data import Samples
    from spiking_lfp.training import Run

# names of files and classes are shown as they are: `[x]` is no style and `:x:` no emoji
out = Console(markup=False, emoji=False)
err = Console(stderr=True, markup=False, emoji=False)

DataRoot = Annotated[Path | None, typer.Option(help="Folder of the data sets.", show_default="$SPIKING_LFP_DATA")]
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
    typer.Option(help="Threads of each training.", show_default="its share of the cores; 1 with --scheduler", min=1),
]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run of the command train.")]


def fail(message: str, code: int) -> NoReturn:
    """Print an error as one sentence and exit with `code`."""
    err.print(f"error: {message}", style="red", highlight=False, soft_wrap=True)
    sys.exit(code)


def check_file(path: Path, suffixes: Sequence[str], option: str = "--out") -> None:
    """Check where the picture goes before the work is done."""
    from spiking_lfp.plots.drawing import check_suffix

    check_suffix(path, suffixes)
    if path.is_dir() or not path.parent.is_dir():
        reason = "it is a folder" if path.is_dir() else f"{path.parent} is not a folder"
        raise UsageError(f"cannot write {path}, {reason}; choose another {option}")


@contextmanager
def workers(
    scheduler: str | None, data_root: Path | None = None, processes: int | None = None
) -> Iterator[Executor | None]:
    """Yield what runs trainings, None for this machine; elsewhere options about this machine are refused."""
    if scheduler is None:
        yield None
        return
    from spiking_lfp.studies.cluster import dask_client

    if data_root is not None:
        raise UsageError(
            "--data-root is for this machine: workers look where SPIKING_LFP_DATA says on theirs, leave it out"
        )
    if processes is not None:
        raise UsageError("--processes is for this machine: workers run as many as their --nthreads says, leave it out")
    with dask_client(scheduler) as client:
        threads = client.nthreads()
        places = f"{len(threads)} workers, {sum(threads.values())} trainings at a time" if threads else "no workers yet"
        out.print(f"{places}; dashboard: {client.dashboard_link}", highlight=False)
        yield client.get_executor(pure=False)


def refuse_unused(reason: str, **options: Any) -> None:
    """Refuse options that were given, not None, and would change nothing.

    Args:
        reason: why they would, the start of the sentence.
        **options: by their names, with _ in place of -.
    """
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if given:
        raise UsageError(f"{reason}: leave out {' and '.join(given)}")


def assignments(changes: list[str]) -> dict[str, Any]:
    """Parse KEY=VALUE arguments into settings by name, of which the last counts."""
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


def read_samples(run: "Run", data_root: Path | None, data: str | None = None) -> "Samples":
    """Load the samples of a run, or others, see `Run.samples`, and show how far that is while files are read."""
    from spiking_lfp.training.watch import preparation

    with preparation(out) as progress:
        return run.samples(data, data_root, progress)
