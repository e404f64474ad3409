"""Runs and their folders: train, resume, load."""

import inspect
from pathlib import Path

import torch
from torch import nn

from spiking_lfp.data import Progress, Samples, load_samples
from spiking_lfp.errors import RunError, SpikingLFPError, UsageError
from spiking_lfp.files import RESULTS, read_regular
from spiking_lfp.nn.composites import composite
from spiking_lfp.nn.execution import LEVELS, run_in_integers
from spiking_lfp.nn.networks import NETWORKS, build_network, with_mono_readout
from spiking_lfp.training import distributed
from spiking_lfp.training.checkpoint import CHECKPOINT, Checkpoint
from spiking_lfp.training.config import TrainConfig, checked_config, from_toml, to_toml
from spiking_lfp.training.devices import pick_device
from spiking_lfp.training.files import (
    CONFIG,
    check_unstarted,
    create_run_folder,
    is_unstarted_run,
    locked,
    remove_unstarted_run,
)
from spiking_lfp.training.loop import Run, Watcher, convert_misfits, restore_network


def train(
    config: TrainConfig,
    out: Path | None = None,
    data_root: Path | None = None,
    device: str = "auto",
    watchers: tuple[Watcher, ...] = (),
    progress: Progress | None = None,
) -> Path:
    """Train a network from the start, in all processes if torchrun started several.

    torchrun restarts its processes with the same arguments when one of them dies: then a run with the same settings in
    `out` is resumed.

    Args:
        config: all settings.
        out: folder of the run, new or empty; `runs/PRESET` (or `-2`, `-3`, ...) if None.
        data_root: folder of the data sets, see `spiking_lfp.data.data_root`.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        watchers: callbacks, called in the process that writes.
        progress: called with the numbers of recordings ready and in all, while a data set is prepared for the first
            time.

    Returns:
        The run's folder, with `config.toml`, `metrics.jsonl` and `checkpoint.pt`.

    Raises:
        UsageError: for settings that do not fit together or to the data.
        DataError: if the data set is missing or damaged.
        NonFiniteError: if NaN or infinity appears, with the layer's name.
        RunError: if the folder cannot be written, or the connection to another process is lost.
        OtherProcessError: if another process failed first.
    """
    with distributed.processes(device) as target:
        if out is not None and distributed.started_by_torchrun():
            folder = out
            if distributed.from_writer(lambda: _can_resume(folder, config)):
                return resume(out, data_root, device, watchers, progress)
        run = _new_run(config, data_root, target, watchers, progress)
        run.folder = distributed.from_writer(lambda: create_run_folder(out, config.preset))
        with distributed.by_writer(lambda: locked(run.folder)):
            distributed.from_writer(lambda: _start(run))
            run.finish()
        return run.folder


def _new_run(
    config: TrainConfig,
    data_root: Path | None,
    device: torch.device,
    watchers: tuple[Watcher, ...],
    progress: Progress | None,
) -> Run:
    samples = distributed.one_first(lambda: samples_for(config, data_root, progress))
    torch.manual_seed(config.seed)
    return Run(config, samples, network_for(config, samples).to(device), device, watchers)


def resume(
    folder: Path,
    data_root: Path | None = None,
    device: str = "auto",
    watchers: tuple[Watcher, ...] = (),
    progress: Progress | None = None,
) -> Path:
    """Resume an interrupted run exactly at its checkpoint; on CPU the result equals that of an uninterrupted run.

    A run that died before its first checkpoint starts anew. The number of processes may differ from before. Args and
    errors are those of `train`; a finished run is left as it is.
    """
    with distributed.processes(device) as target:
        config = distributed.from_writer(lambda: read_config(folder))
        with distributed.by_writer(lambda: locked(folder)):
            unstarted = distributed.from_writer(lambda: is_unstarted_run(folder))
            checkpoint = None if unstarted else distributed.from_writer(lambda: _checkpoint(folder, config))
            run = _new_run(config, data_root, target, watchers, progress)
            run.folder = folder
            if checkpoint is None:
                distributed.from_writer(lambda: _start(run))
            else:
                run.restore(checkpoint)
            run.finish()
        return folder


def load_run(folder: Path, device: str = "auto") -> tuple[nn.Module, TrainConfig]:
    """Load the network in the checkpoint of a run, in evaluation mode, and the settings of the run.

    Raises:
        RunError: if `folder` holds no readable run.
    """
    config = read_config(folder)
    checkpoint = _checkpoint(folder, config)
    with convert_misfits(folder):
        network = _network(config, checkpoint.in_shape, checkpoint.classes)
    restore_network(network, checkpoint, folder)
    return network.to(pick_device(device)).eval(), config


def samples_for(config: TrainConfig, data_root: Path | None = None, progress: Progress | None = None) -> Samples:
    """Load the data set that `config` names, as sequences for the network: see `spiking_lfp.data.load_samples`."""
    return load_samples(config.data, config.recipe, config.encoding, data_root, progress=progress, shift=config.shift)


def network_for(config: TrainConfig, samples: Samples) -> nn.Sequential:
    """Build the network that `config` names, for the shape and classes of `samples`, with new random weights."""
    return _network(config, list(samples.sample_shape), len(samples.class_names))


def _start(run: Run) -> None:
    """Write the settings of `run` into its folder, and its initial checkpoint; without it no folder stays behind."""
    check_unstarted(run.folder)  # once more, as nobody else can write now
    try:
        RESULTS.write(run.folder / CONFIG, to_toml(run.config).encode())
        run.save()
    except SpikingLFPError:
        remove_unstarted_run(run.folder)
        raise


def _can_resume(folder: Path, config: TrainConfig) -> bool:
    """Tell whether `folder` holds a run with these settings that can be resumed."""
    return (folder / CHECKPOINT).is_file() and (folder / CONFIG).is_file() and read_config(folder) == config


def _network(config: TrainConfig, in_shape: list[int], classes: int) -> nn.Sequential:
    # the settings that the network's function takes
    parameters = inspect.signature(NETWORKS[config.network]).parameters
    settings = {name: value for name, value in dict(config).items() if name in parameters}
    network = build_network(config.network, in_shape=in_shape, classes=classes, **settings)
    if config.readout == "mono":
        network = with_mono_readout(
            network,
            config.readout_hidden,
            config.readout_scheme,
            config.readout_windows,
            config.readout_beta,
            config.seed,
        )
    composite(config.rule).assign(network)
    if config.quantize:
        scale = None if config.quantize_scale == "auto" else config.quantize_scale
        run_in_integers(network, config.quantize, LEVELS if config.uses_images else 1, scale=scale)
    return network


def _checkpoint(folder: Path, config: TrainConfig) -> Checkpoint:
    checkpoint = Checkpoint.load(folder)
    try:
        trained = checked_config(checkpoint.config).model_dump()
    except UsageError as error:
        raise RunError(
            f"the checkpoint in {folder} was not written by train: {error}; restore it or train again"
        ) from None
    changed = [key for key, value in config.model_dump().items() if trained[key] != value]
    if changed:
        raise RunError(
            f"{folder / CONFIG} says {changed[0]} = {getattr(config, changed[0])}, its checkpoint was trained with "
            f"{trained[changed[0]]}: put the old value back, or train again"
        )
    return checkpoint


def read_config(folder: Path) -> TrainConfig:
    """Read the settings of the run in `folder`.

    Raises:
        RunError: if they are missing or cannot be read.
    """
    path = folder / CONFIG
    try:
        return from_toml(read_regular(path).decode())
    except FileNotFoundError:
        raise RunError(f"{folder} is not a run: expected {path}; give a folder that train has written") from None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, UsageError) as error:
        raise RunError(f"cannot read {path}: {error}") from None
