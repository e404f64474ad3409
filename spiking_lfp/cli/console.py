"""Shared parts of the commands: consoles, errors, common options, and the parsing of settings."""

import sys
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
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run of the command train.")]


def fail(message: str, code: int) -> NoReturn:
    """Print an error as one sentence and exit with `code`."""
    err.print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)


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
