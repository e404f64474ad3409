"""What the commands share: where they print, how they fail, options by name."""

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
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.")]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run, as train made it.")]


def fail(message: str, code: int) -> NoReturn:
    """Print an error of one sentence and end."""
    err.print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)


def assignments(changes: list[str]) -> dict[str, Any]:
    """Read KEY=VALUE words."""
    settings: dict[str, Any] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise UsageError(f"--set expects KEY=VALUE, found {change!r}")
        settings[key.strip()] = value.strip()
    return settings


def announce_compiling() -> None:
    """Print a line when kernels are about to be compiled."""
    from spiking_lfp.kernels.compilation import before_compiling

    line = "compiling kernels for this machine, once (about ten seconds) ..."
    before_compiling(lambda: out.print(line, style="dim", highlight=False))
