"""Runs and their folders: train, resume."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from spiking_lfp.data import Progress, Samples, load_samples
from spiking_lfp.data.recipes import OWN
from spiking_lfp.data.samples import is_path
from spiking_lfp.data.spec import DataSpec
from spiking_lfp.errors import RunError, RunStopped, SpikingLFPError, UsageError
from spiking_lfp.events.records import Sensor
from spiking_lfp.files import RESULTS, read_regular
from spiking_lfp.integers.arithmetic import ARITHMETICS
from spiking_lfp.nn.composites import composite
from spiking_lfp.nn.execution import run_in_integers
from spiking_lfp.nn.layers import PopulationReadout
from spiking_lfp.nn.networks import NETWORKS, build_network, with_membrane_readout, with_mono_readout
from spiking_lfp.training import distributed
from spiking_lfp.training.checkpoint import CHECKPOINT, Checkpoint
from spiking_lfp.training.config import TrainConfig, checked_config, from_toml, to_toml
from spiking_lfp.training.feeds import Data, MemoryData
from spiking_lfp.training.files import (
    CONFIG,
    check_unstarted,
    create_run_folder,
    is_unstarted_run,
    locked,
    remove_run,
    remove_unstarted_run,
)
from spiking_lfp.training.loop import Callback, Trainer
from spiking_lfp.training.sources import absolute_source, is_source, network_from_source, store_network
from spiking_lfp.training.watch import progress_bar


@dataclass(frozen=True)
class Job:
    """A run that is not started yet: its settings, its data and its network.

    Attributes:
        config: all settings.
        make: called once in each process, for the data and the network on a device; its second argument is called
            with the numbers of recordings ready and in all.
    """

    config: TrainConfig
    make: Callable[[torch.device, Progress], tuple[Data, nn.Module]]


def train(
    config: TrainConfig,
    out: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str = "auto",
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Path:
    """Train a network by name on a data set by name, in all processes if torchrun started several.

    It is the command `train` without its pictures, which `spiking_lfp.plots.draw_run` draws. For networks and data of
    your own there is `fit`. torchrun restarts its processes with the same arguments when one of them dies: then a run
    with the same settings in `out` is resumed.

    Args:
        config: all settings.
        out: folder of the run, new or empty; `runs/PRESET` (or `-2`, `-3`, ...) if None.
        data_root: folder of the data sets, see `spiking_lfp.data.data_root`.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        callbacks: called in the process that writes.
        progress: show what happens, in a terminal or a notebook.

    Returns:
        The run's folder, with `config.toml`, `metrics.jsonl` and `checkpoint.pt`.

    Raises:
        UsageError: for settings that do not fit together or to the data.
        DataError: if the data set is missing or damaged.
        NonFiniteError: if NaN or infinity appears, with the layer's name.
        RunError: if the folder cannot be written, or the connection to another process is lost.
        OtherProcessError: if another process failed first.

    Example:
        >>> changes = {"hidden": (10,), "steps": 2, "batch_size": 1000, "gain": 3.0, "epochs": 1}
        >>> config = preset_config("mnist-mlp", changes)
        >>> folder = train(config, "runs/small", progress=False)
        >>> load_run(folder).history[0]["test"]["samples"]
        2000
    """
    job = _job_by_name(with_whole_paths(config), data_root)
    with progress_bar(progress) as bars:
        return run_job(job, None if out is None else Path(out), False, device, (*bars, *callbacks))


def run_job(job: Job, out: Path | None, resuming: bool, device: str, callbacks: Sequence[Callback]) -> Path:
    """Train from the start; or, if `resuming` or restarted by torchrun, go on with the run in `out` if there is one."""
    with distributed.processes(device) as target:
        if out is not None and (resuming or distributed.started_by_torchrun()):
            folder = out
            if distributed.from_writer(lambda: _can_resume(folder, job.config, resuming)):
                return _resume(job, folder, target, callbacks)
        run = _new_run(job, target, callbacks)
        run.folder = distributed.from_writer(lambda: create_run_folder(out, job.config.preset))
        with distributed.by_writer(lambda: locked(run.folder)):
            distributed.from_writer(lambda: _start(run))
            _finish_new(run)
        return run.folder


def _job_by_name(config: TrainConfig, data_root: str | Path | None) -> Job:
    for name in ("network", "data", "encoding"):
        if getattr(config, name) == OWN:
            raise UsageError(
                f"{name} = {OWN} stands for what is given in Python: call spiking_lfp.fit again with it, out=... and "
                "resume=True"
            )

    def make(device: torch.device, preparing: Progress) -> tuple[Data, nn.Module]:
        samples = distributed.one_first(lambda: samples_for(config, data_root, preparing))
        torch.manual_seed(config.seed)
        return MemoryData(samples), network_for(config, samples).to(device)

    return Job(config, make)


def _new_run(job: Job, device: torch.device, callbacks: Sequence[Callback]) -> Trainer:
    def preparing(done: int, total: int) -> None:
        if distributed.is_writer():
            for callback in callbacks:
                callback.preparing(done, total)

    data, network = job.make(device, preparing)
    torch.manual_seed(job.config.seed)
    return Trainer(job.config, data, network, device, callbacks)


def resume(
    folder: str | Path,
    data_root: str | Path | None = None,
    device: str = "auto",
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Path:
    """Resume an interrupted run exactly at its checkpoint; on CPU the result equals that of an uninterrupted run.

    A run that died before its first checkpoint starts anew. The number of processes may differ from before. Args and
    errors are those of `train`; a finished run is left as it is.

    Example:
        >>> changes = {"hidden": (10,), "steps": 2, "batch_size": 1000, "gain": 3.0, "epochs": 1}
        >>> config = preset_config("mnist-mlp", changes)
        >>> folder = train(config, "runs/small", progress=False)
        >>> resume(folder, progress=False) == folder  # at once: it is finished
        True
    """
    folder = Path(folder)
    with progress_bar(progress) as bars, distributed.processes(device) as target:
        config = distributed.from_writer(lambda: read_config(folder))
        return _resume(_job_by_name(config, data_root), folder, target, (*bars, *callbacks))


def _resume(job: Job, folder: Path, device: torch.device, callbacks: Sequence[Callback]) -> Path:
    with distributed.by_writer(lambda: locked(folder)):
        unstarted = distributed.from_writer(lambda: is_unstarted_run(folder))
        checkpoint = None if unstarted else distributed.from_writer(lambda: checkpoint_of(folder, job.config))
        run = _new_run(job, device, callbacks)
        run.folder = folder
        if checkpoint is None:
            distributed.from_writer(lambda: _start(run))
            _finish_new(run)
        else:
            run.restore(checkpoint)
            run.finish()
    return folder


def samples_for(
    config: TrainConfig,
    data_root: str | Path | None = None,
    progress: Progress | None = None,
    whole: bool = False,
    sensor: Sensor | None = None,
) -> Samples:
    """Load the data set that `config` names, as sequences for the network: see `spiking_lfp.data.load_samples`.

    Args:
        config: all settings.
        data_root: folder of the data sets, see `spiking_lfp.data.data_root`.
        progress: called with the numbers of files ready and in all.
        whole: for a network that is trained, see `load_samples`; `sensor`, too.
        sensor: see `whole`.

    Example:
        >>> samples = samples_for(preset_config("mnist-mlp", {"steps": 10}))
        >>> samples.name, samples.sample_shape, len(samples.test)
        ('mnist-subset', (1, 28, 28), 2000)
    """
    if config.data == OWN:
        raise UsageError(
            "the run was trained on data given in Python, which have no name: name other data, or give samples in "
            "Python"
        )
    root = None if data_root is None else Path(data_root)
    return load_samples(config.data, config.recipe, config.inputs, root, progress=progress, whole=whole, sensor=sensor)


def network_for(config: TrainConfig, samples: Samples) -> nn.Module:
    """Build the network that `config` names, for the shape and classes of `samples`, with new random weights."""
    return build(config, MemoryData(samples).spec)


def with_whole_paths(config: TrainConfig) -> TrainConfig:
    """Return the settings with paths that hold in every folder."""
    changes = {"network": absolute_source(config.network)}
    if is_path(config.data):
        changes["data"] = str(Path(config.data).expanduser().resolve())
    return config.model_copy(update=changes)


def _start(run: Trainer) -> None:
    """Write the settings of `run` into its folder, and its initial checkpoint; without it no folder stays behind."""
    check_unstarted(run.folder)  # once more, as nobody else can write now
    try:
        RESULTS.write(run.folder / CONFIG, to_toml(run.config).encode())
        if run.config.network == OWN:
            store_network(run.network, run.folder)
        run.save()
    except SpikingLFPError:
        remove_unstarted_run(run.folder)
        raise


def _finish_new(run: Trainer) -> None:
    """Finish a run that has just begun; if network and data do not go together in its first batch, leave no folder."""
    try:
        run.finish()
    except RunStopped:
        raise
    except SpikingLFPError:
        if (run.progress.epoch, run.progress.batch) == (0, 0) and distributed.is_writer():
            remove_run(run.folder)
        raise


def _can_resume(folder: Path, config: TrainConfig, resuming: bool) -> bool:
    """Tell whether `folder` holds a run that can be resumed; if nobody asked for that, one with these settings."""
    if not (folder / CONFIG).is_file() or not (folder / CHECKPOINT).is_file():
        return False
    return resuming or read_config(folder) == config


def build(config: TrainConfig, data: DataSpec) -> nn.Module:
    """Build the network that `config` names, for some data."""
    settings = {"in_shape": tuple(data.in_shape), "classes": data.classes, **dict(config)}
    network: nn.Module
    if is_source(config.network):
        network = network_from_source(config.network, settings)
    else:
        # the settings that the network's function takes
        parameters = inspect.signature(NETWORKS[config.network]).parameters
        settings["classes"] = data.classes * config.population
        network = build_network(config.network, **{name: settings[name] for name in parameters if name in settings})
        if config.population > 1:
            network = network.append(PopulationReadout(config.population))
    return adapted(network, config, data.levels)


# wrappers by the name of their class, which need not be imported, and where their network is
_INSIDE = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}


def adapted(network: nn.Module, config: TrainConfig, levels: int) -> nn.Module:
    """Return a network with the readout, the rules and the arithmetic of the settings; the rest of it stays.

    Args:
        network: is changed, too.
        config: the settings.
        levels: the integer that stands for an input of 1.

    Raises:
        UsageError: if the network cannot have them, or is in a wrapper.
    """
    inside = _INSIDE.get(type(network).__name__)
    if inside is not None:
        raise UsageError(
            f"the network is wrapped by {type(network).__name__}, which would change the names of its weights: give "
            f"network.{inside}, the one inside"
        )
    if config.readout != "spikes":
        if not isinstance(network, nn.Sequential):
            raise UsageError(
                f"readout {config.readout} replaces the last layer of an nn.Sequential, found {type(network).__name__}"
            )
        if config.readout == "membrane":
            network = with_membrane_readout(network, config.readout_beta)
        else:
            network = with_mono_readout(
                network,
                config.readout_hidden,
                config.readout_scheme,
                config.readout_windows,
                config.readout_beta,
                config.seed,
            )
    if config.rule != OWN:
        composite(config.rule).assign(network)
    if config.quantize:
        scale = None if config.quantize_scale == "auto" else config.quantize_scale
        arithmetic = ARITHMETICS[config.quantize_arithmetic]
        run_in_integers(network, config.quantize, levels, scale=scale, arithmetic=arithmetic)
    return network


def checkpoint_of(folder: Path, config: TrainConfig) -> Checkpoint:
    """Load the checkpoint of the run in `folder`, trained with these settings.

    Raises:
        RunError: if it is damaged, or was trained with other settings.
    """
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
            f"the checkpoint in {folder} was trained with {changed[0]} = {trained[changed[0]]}, but {CONFIG} or the "
            f"call says {getattr(config, changed[0])}: put the old value back, or train again"
        )
    return checkpoint


def read_config(folder: str | Path) -> TrainConfig:
    """Read the settings of the run in `folder`.

    Raises:
        RunError: if they are missing or cannot be read.

    Example:
        >>> samples = torch.rand(20, 8), torch.arange(20) % 2
        >>> network = nn.Sequential(LIF(nn.Linear(8, 2), threshold=0.1))
        >>> run = fit(network, samples, samples, epochs=1, steps=5, progress=False)
        >>> read_config(run.folder).steps
        5
    """
    folder = Path(folder)
    path = folder / CONFIG
    try:
        return from_toml(read_regular(path).decode())
    except FileNotFoundError:
        raise RunError(f"{folder} is not a run: expected {path}; give a folder that train has written") from None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, UsageError) as error:
        raise RunError(f"cannot read {path}: {error}") from None
