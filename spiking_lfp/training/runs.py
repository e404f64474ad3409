"""Runs by their folder: train, go on, load."""

import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spiking_lfp.data import ImageDataset, load_dataset
from spiking_lfp.errors import RunError, UsageError
from spiking_lfp.networks import build_network
from spiking_lfp.training.config import TrainConfig, checked_config, to_toml
from spiking_lfp.training.files import CONFIG, create_run_folder, load_checkpoint, write_atomically
from spiking_lfp.training.loop import Run, Watcher, restore_state


def train(
    config: TrainConfig,
    out: Path | None = None,
    data_root: Path | None = None,
    device: str = "auto",
    watchers: tuple[Watcher, ...] = (),
) -> Path:
    """Train a network from the start.

    Args:
        config: all settings.
        out: folder of the run, new or empty; `runs/PRESET` (or `-2`, `-3`, ...) if None.
        data_root: folder of the data sets, see `spiking_lfp.data.data_root`.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        watchers: are told how the run goes.

    Returns:
        The run's folder, with `config.toml`, `metrics.jsonl` and `checkpoint.pt`.

    Raises:
        UsageError: for settings that do not fit together or to the data.
        DataError: if the data set is missing or damaged.
        NonFiniteError: if NaN or infinity appears, with the layer's name.
        RunError: if the folder cannot be written.
    """
    target = pick_device(device)
    dataset = load_dataset(config.data, data_root)
    torch.manual_seed(config.seed)
    network = network_for(config, dataset)
    run = Run(config, dataset, network.to(target), target, watchers)
    run.folder = create_run_folder(out, config.preset)
    try:
        write_atomically(run.folder / CONFIG, to_toml(config).encode())
        run.save()
    except RunError:  # nothing half-made stays behind
        with suppress(OSError):
            (run.folder / CONFIG).unlink(missing_ok=True)
            run.folder.rmdir()
        raise
    run.finish()
    return run.folder


def resume(
    folder: Path, data_root: Path | None = None, device: str = "auto", watchers: tuple[Watcher, ...] = ()
) -> Path:
    """Go on with an interrupted run exactly where its checkpoint stands; on CPU the result is that of one go.

    Args and errors are those of `train`; a run that is finished already is left as it is.
    """
    target = pick_device(device)
    config = read_config(folder)
    state = _checkpoint(folder, config, "data", "network", "optimizer", "schedule", "progress", "random", "random_cuda")
    dataset = load_dataset(config.data, data_root)
    run = Run(config, dataset, network_for(config, dataset).to(target), target, watchers)
    run.folder = folder
    run.restore(state)
    run.finish()
    return folder


def load_run(folder: Path, device: str = "auto") -> tuple[nn.Module, TrainConfig]:
    """Return the network of a run as its checkpoint has it, in evaluation mode, and the run's settings.

    Raises:
        RunError: if `folder` holds no readable run.
    """
    config = read_config(folder)
    state = _checkpoint(folder, config, "data", "network")
    shape = state["data"]
    network = _network(config, shape["in_shape"], shape["classes"])
    restore_state(network.load_state_dict, state["network"], folder)
    return network.to(pick_device(device)).eval(), config


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called `name`, or the best one for "auto": CUDA where there is one, else the CPU.

    Raises:
        UsageError: if torch does not know the name, or finds no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not usable here: try cpu, or cuda on a machine with a GPU")
    return device


def network_for(config: TrainConfig, dataset: ImageDataset) -> nn.Sequential:
    """Build the network that `config` names, for samples and classes of `dataset`, with fresh weights."""
    return _network(config, list(dataset.train_images.shape[1:]), len(dataset.class_names))


def _network(config: TrainConfig, in_shape: list[int], classes: int) -> nn.Sequential:
    arguments: dict[str, Any] = {"channels": config.channels} if config.network == "lenet" else {}
    return build_network(
        config.network,
        in_shape=in_shape,
        classes=classes,
        hidden=config.hidden,
        beta=config.beta,
        threshold=config.threshold,
        reset=config.reset,
        normalize_feedback=config.normalize_feedback,
        **arguments,
    )


def _checkpoint(folder: Path, config: TrainConfig, *parts: str) -> dict[str, Any]:
    state = load_checkpoint(folder)
    lacking = [part for part in ("config", *parts) if part not in state]
    if lacking:
        raise RunError(f"the checkpoint in {folder} lacks {', '.join(lacking)}: it was not written by train")
    trained = checked_config(state["config"]).model_dump()
    changed = [key for key, value in config.model_dump().items() if trained[key] != value]
    if changed:
        raise RunError(
            f"{folder / CONFIG} says {changed[0]} = {getattr(config, changed[0])}, its checkpoint was trained with "
            f"{trained[changed[0]]}: put the old value back, or train anew"
        )
    return state


def read_config(folder: Path) -> TrainConfig:
    """Read the settings of the run in `folder`.

    Raises:
        RunError: if there are none or they cannot be read.
    """
    path = folder / CONFIG
    try:
        return checked_config(tomllib.loads(path.read_text()))
    except FileNotFoundError:
        raise RunError(f"{folder} is no run: expected {path}; give a folder that train made") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, UsageError) as error:
        raise RunError(f"cannot read {path}: {error}") from None
