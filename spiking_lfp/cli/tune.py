"""The command that searches for better settings."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from spiking_lfp.cli.console import DataRoot, Device, announce_compiling, assignments, out

if TYPE_CHECKING:
    from spiking_lfp.studies.tune import Trial


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command()(tune)


def tune(
    preset: Annotated[str, typer.Argument(help="Settings to start from: see `spiking-lfp presets`.")],
    trials: Annotated[int, typer.Option(help="Number of trials in all.")] = 20,
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=LOW..HIGH",
            help="Range of a setting, or KEY=A,B,...; repeatable.",
            show_default="lr, gain, clip, and the reward of spikes",
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A fixed value of any other setting, as for train."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the trials.", show_default="tune/PRESET")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Database of Optuna, as postgresql://user@host/name: the same command on other machines "
            "shares the search.",
        ),
    ] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
) -> None:
    """Search for better settings of a preset with Optuna, by accuracy on held-out training samples.

    If interrupted, the same command continues.
    """
    from spiking_lfp import reuse_freed_memory
    from spiking_lfp.studies import tune as search_settings
    from spiking_lfp.training import preset_config

    reuse_freed_memory()
    announce_compiling()
    fixed = assignments(changes or [])
    config = preset_config(preset, fixed)

    def on_trial(trial: "Trial") -> None:
        accuracy = "no accuracy" if trial.accuracy is None else f"{trial.accuracy:.2%}"
        out.print(
            f"trial {trial.number}  {accuracy}{', pruned' if trial.given_up else ''}  {_settings(trial)}",
            highlight=False,
        )  # fmt: skip

    folder = folder or Path("tune") / preset
    ranked = search_settings.tune(
        config, folder, trials, search or (), on_trial, data_root, device, storage, fixed.keys()
    )
    table = Table("trial", "validation accuracy", "settings")
    for trial in ranked[:5]:
        table.add_row(str(trial.number), "-" if trial.accuracy is None else f"{trial.accuracy:.2%}", _settings(trial))
    out.print(table)
    if ranked[0].accuracy is None:
        out.print(
            "no trial came to an accuracy, feedback became NaN or infinite in all: search a lower lr, or a clip",
            soft_wrap=True,
        )
        return
    found = [*(changes or []), *(f"{key}={value}" for key, value in ranked[0].values.items())]
    words = shlex.join(["spiking-lfp", "train", preset, *(word for change in found for word in ("--set", change))])
    out.print(
        f"train with the best settings: {words}",
        highlight=False,
        soft_wrap=True,
    )


def _settings(trial: "Trial") -> str:
    return "  ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in trial.values.items()
    )
