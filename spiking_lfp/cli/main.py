"""The command `spiking-lfp`: a thin layer, everything it does can be done from Python."""

import os
import sys
import warnings
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from spiking_lfp.cli import answers, bench, deploy, experiment, pictures, tune
from spiking_lfp.cli.console import (
    DataRoot,
    Device,
    RunFolder,
    announce_compiling,
    assignments,
    err,
    fail,
    out,
    read_samples,
)
from spiking_lfp.errors import OtherProcessError, RunStopped, SpikingLFPError, UsageError, unknown_name

if TYPE_CHECKING:
    from spiking_lfp.data import DatasetStatus
    from spiking_lfp.training import TrainConfig

# exit code of a run that was told to end and can be resumed: EX_TEMPFAIL of sysexits.h
TRY_AGAIN = 75
# the name of settings that start from no preset
NO_PRESET = "custom"
app = typer.Typer(
    help="Train spiking neural networks without surrogate gradients, by Layer-wise Feedback Propagation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; errors are one sentence; exit code 2 for wrong usage, 75 for a stopped run, else 1."""
    warnings.showwarning = lambda message, *_, **__: err.print(
        f"warning: {message}", style="yellow", highlight=False, soft_wrap=True
    )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what the terminal cannot show is escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except OtherProcessError:  # one sentence is enough
        sys.exit(1)
    except SpikingLFPError as error:
        fail(str(error), 2 if isinstance(error, UsageError) else TRY_AGAIN if isinstance(error, RunStopped) else 1)
    except OSError as error:
        if error.filename is not None:
            raise
        # of a full disk, say; nothing more goes there, also not when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail(f"cannot write to standard output: {error.strerror or error}", 1)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        fail("out of memory: lower batch_size or steps, or take a smaller network", 1)


def _print_version(wanted: bool | None) -> None:
    if wanted:
        from spiking_lfp import __version__

        out.print(f"spiking-lfp {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = None,
) -> None:
    """Train spiking neural networks without surrogate gradients, by Layer-wise Feedback Propagation."""


@app.command()
def train(
    preset: Annotated[str | None, typer.Argument(help="Settings to start from: see `spiking-lfp presets`.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training samples.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of initial weights and sample order.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Data set, see `spiking-lfp datasets`; or a folder of images, recordings or signals, or an .npz file."
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(help="Network: mlp, lenet, stack, or a Python function that makes it, as net.py:build(width=64)."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples per update.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="T, time steps for which an image is shown, or bins of a recording.")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Part of the membrane potential kept per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Initial learning rate.")] = None,
    quantize: Annotated[
        int | None, typer.Option(help="Bits of the weights, 2..8, to train with the integer forward pass of hardware.")
    ] = None,
    readout: Annotated[
        str | None,
        typer.Option(
            help="Output: spikes of output neurons (spikes), their membranes (membrane), or mono-nets on rates (mono)."
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting by name, repeatable, the last of a name counts: see `spiking-lfp presets custom`.",
        ),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option("--config", help="TOML file of settings, such as the config.toml of a run.")
    ] = None,
    run_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for the run, new or empty.", show_default="runs/PRESET")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Folder of an interrupted run, to continue exactly where it stopped.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard logs.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also show all settings.")] = False,
    data_root: DataRoot = None,
    device: Device = "auto",
) -> None:
    """Train a network with LFP, plot its learning curve, and save it in a run folder.

    spiking-lfp train mnist-mlp
    spiking-lfp train --network net.py:build --data photos/ --set lr=2e-3

    To train in several processes: torchrun --nproc-per-node=2 -m spiking_lfp train ...
    """
    from spiking_lfp import reuse_freed_memory
    from spiking_lfp.training import distributed

    reuse_freed_memory()
    announce_compiling()
    flags = {
        "epochs": epochs, "seed": seed, "data": data, "batch_size": batch_size, "steps": steps, "beta": beta, "lr": lr,
        "quantize": quantize, "readout": readout, "network": network,
    }  # fmt: skip
    changed = {key: value for key, value in flags.items() if value is not None} | assignments(changes or [])
    with distributed.processes(device):
        out.quiet = not distributed.is_writer()
        _train(preset, settings, changed, run_folder, resume, tensorboard, verbose, data_root, device)


def _train(
    preset: str | None,
    settings: Path | None,
    changed: dict[str, Any],
    run_folder: Path | None,
    resume: Path | None,
    tensorboard: bool,
    verbose: bool,
    data_root: Path | None,
    device: str,
) -> None:
    from spiking_lfp import training
    from spiking_lfp.training import distributed
    from spiking_lfp.training.watch import ProgressBar, TensorBoard

    if resume is None:
        config = _config(preset, settings, changed)
    else:
        config = distributed.from_writer(lambda: training.read_config(resume))
        if changed or settings is not None or run_folder is not None:
            raise UsageError("--resume uses the run's own settings: drop all other settings")
        if preset not in (None, config.preset):
            raise UsageError(f"{resume} is a run of {config.preset}, not of {preset}: drop the name of the preset")
    folder = resume
    with ProgressBar(out) as bar:
        callbacks: tuple[training.Callback, ...] = (bar, TensorBoard()) if tensorboard else (bar,)
        if verbose:
            out.print(_describe_settings(config.model_dump()))
        try:
            if resume is None:
                folder = training.train(config, run_folder, data_root, device, callbacks, progress=False)
            else:
                training.resume(resume, data_root, device, callbacks, progress=False)
        except KeyboardInterrupt:
            bar.progress.stop()
            if not distributed.is_writer():
                sys.exit(130)
            saved = bar.folder or folder
            fail(f"interrupted; continue with: spiking-lfp train --resume {saved}" if saved else "interrupted", 130)
    assert folder is not None
    if not distributed.is_writer():
        return
    source = _draw(folder, data_root)
    last = [line for line in training.read_metrics(folder) if line["kind"] == "epoch"][-1]
    held_out = "validation" if last["validation"] else "test"
    accuracy = f"{held_out} accuracy {last[held_out]['accuracy']:.2%}"
    out.print(Text.assemble((accuracy, "bold"), f" after epoch {last['epoch']}"))
    out.print(f"data: {source}", highlight=False)
    out.print(
        f"saved in {folder}: checkpoint.pt, metrics.jsonl, learning_curve.png, spike_raster.png",
        highlight=False,
    )


def _config(preset: str | None, settings: Path | None, changed: dict[str, Any]) -> "TrainConfig":
    """Return the settings of a new run."""
    from spiking_lfp import training
    from spiking_lfp.files import read_regular
    from spiking_lfp.training.config import check_used, checked_config, ungrouped

    if preset is None and "preset" in changed:
        raise UsageError(f"preset is only a name: give the preset itself, spiking-lfp train {changed['preset']}")
    if settings is not None:
        if preset is not None:
            raise UsageError(f"--config has all settings: drop {preset}, or change some of a preset with --set")
        try:
            text = read_regular(settings).decode()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"cannot read {settings}: {reason}") from None
        config = checked_config({**ungrouped(text), **changed})
    elif preset is not None:
        return training.preset_config(preset, changed)
    elif "network" in changed or "data" in changed:
        config = checked_config(changed)
    else:
        raise UsageError(
            f"give a preset, one of {', '.join(training.preset_names())}; or --network, --data, --config or --resume"
        )
    check_used(config, changed)
    return config


@app.command()
def info(run: RunFolder) -> None:
    """Show the settings, the network and the progress of a run."""
    from spiking_lfp import training

    trained = training.load_run(run, "cpu")
    out.print(_describe_settings(trained.config.model_dump()))
    out.print(str(trained.network), highlight=False)
    out.print(f"{sum(p.numel() for p in trained.network.parameters()):,} parameters", highlight=False)
    history = trained.history
    if not history:
        out.print(f"{run}: no epoch is finished yet", highlight=False, soft_wrap=True)
        return
    table = Table("epoch", "training", "validation", "test", "seconds", title=str(run))
    for line in history:
        shown = [f"{line[split]['accuracy']:.2%}" if line[split] else "" for split in ("train", "validation", "test")]
        table.add_row(str(line["epoch"]), *shown, f"{line['seconds']:.0f}")
    out.print(table)


@app.command()
def datasets(
    name: Annotated[str | None, typer.Argument(help="Data set of which more is shown.")] = None,
    data_root: DataRoot = None,
) -> None:
    """List the data sets by name, and which are there; or show all about one of them."""
    from spiking_lfp.data import data_root as find_root
    from spiking_lfp.data import dataset_status, event_set_status
    from spiking_lfp.data.cache import cache_folder, cache_status

    known = {status.name: status for status in (*dataset_status(data_root), *event_set_status(data_root))}
    cached = [entry for entry in cache_status() if name in (None, entry.name)]
    damaged = sum(entry.samples is None for entry in cached)
    in_cache = f"{len(cached)} files, {sum(entry.size for entry in cached) / 1e6:,.1f} MB, {damaged} damaged"
    if name is not None:
        if name not in known:
            raise unknown_name("data set", name, known)
        _print_rows((name, known[name].description), *_about(known[name]), ("in the cache", in_cache))
        return
    table = _table("name", "samples", "train + test", "present")
    for status in known.values():
        part = status.present and status.incomplete_sizes is not None
        table.add_row(
            status.name,
            status.description.partition(",")[0],
            f"{status.train_size:,} + {status.test_size:,}",
            "part" if part else "yes" if status.present else "no",
        )
    out.print(table)
    _print_rows(
        ("more of one", f"spiking-lfp datasets NAME; data root {find_root(data_root)}"),
        ("cache", f"{cache_folder()}: {in_cache}"),
    )


def _about(status: "DatasetStatus") -> list[tuple[str, str]]:
    """Return what there is to know about a data set, each with a word for it."""
    shape = ": channels x height x width" if len(status.sample_shape) == 3 else " values in a step"
    sizes = f"{status.train_size:,} to learn, {status.test_size:,} to test"
    present = f"yes, in {status.location}"
    if not status.present:
        how = "downloaded when it is first used" if status.downloads else "it cannot be downloaded automatically"
        present = f"no, expected in {status.location}; {how}"
    elif status.incomplete_sizes is not None:
        present = "a part, {:,} to learn, {:,} to test".format(*status.incomplete_sizes) + f", in {status.location}"
    return [
        ("by", status.note),
        ("a sample", " x ".join(map(str, status.sample_shape)) + shape),
        ("classes", str(status.classes)),
        ("samples", sizes),
        ("present", present),
    ]


@app.command()
def presets(
    name: Annotated[
        str | None, typer.Argument(help=f"Preset whose settings are shown; {NO_PRESET} for the defaults.")
    ] = None,
) -> None:
    """List the presets; or show all settings of one of them, with their meanings."""
    from spiking_lfp.training import preset_config, preset_names, preset_title
    from spiking_lfp.training.config import GROUPS, checked_config

    if name is None:
        table = _table("preset", "what it trains (all settings: spiking-lfp presets NAME)")
        for each in preset_names():
            table.add_row(each, preset_title(each))
        out.print(table)
        return
    values = (checked_config({}) if name == NO_PRESET else preset_config(name)).model_dump()
    settings = Table("setting", name, "meaning", title="change any setting with --set KEY=VALUE")
    for group, kind in GROUPS.items():
        settings.add_section()
        settings.add_row(f"[{group}]", "", kind.__doc__)
        for key, field in kind.model_fields.items():
            if key != "preset":
                settings.add_row(key, _show(values[key]), field.description)
    out.print(settings)


def _table(*columns: str) -> Table:
    """Make a table whose rows are one line each, as many as fit a screen."""
    return Table(*(Column(each, no_wrap=True) for each in columns), box=None, padding=(0, 2, 0, 0), pad_edge=False)


def _print_rows(*rows: tuple[str, str]) -> None:
    """Print words and what they say; paths stay whole."""
    width = max(len(word) for word, _ in rows)
    for word, said in rows:
        out.print(f"{word:{width}}  {said}", highlight=False, soft_wrap=True)


answers.add_commands(app)
bench.add_commands(app)
experiment.add_commands(app)
tune.add_commands(app)
pictures.add_commands(app)
deploy.add_commands(app)


def _draw(folder: Path, data_root: Path | None) -> str:
    """Draw the pictures of a run; return the source of the data."""
    from spiking_lfp import plots, training

    run = training.load_run(folder, "cpu")
    samples = read_samples(run, data_root)
    plots.draw_run(run, samples)
    return samples.source


def _describe_settings(settings: dict[str, Any]) -> str:
    return "  ".join(f"{key}={_show(value)}" for key, value in settings.items())


def _show(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
