"""A small data set, runs on it that take milliseconds, and what is compared of them."""

import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spiking_lfp.data import ImageDataset, Samples
from spiking_lfp.data.encoding import Encoder
from spiking_lfp.data.values import image_samples
from spiking_lfp.training import Callback, Meter, TrainConfig, read_metrics
from spiking_lfp.training.checkpoint import Checkpoint
from spiking_lfp.training.files import METRICS


def small_dataset(size: int = 8, classes: int = 3) -> ImageDataset:
    """10 training images, of which the first pixel is the index, and 7 test images."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (17, 1, size, size), generator=generator, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(17)
    labels = torch.arange(17) % classes
    names = tuple(f"kind {index}" for index in range(classes))
    return ImageDataset("small", images[:10], labels[:10], images[10:], labels[10:], names)


def small_samples(size: int = 8, classes: int = 3) -> Samples:
    """The same, shown for three steps."""
    return image_samples(small_dataset(size, classes), Encoder("constant", 3))


def small_config(**changes: Any) -> TrainConfig:
    """Two epochs of three batches, the last of them with 2 images."""
    settings: dict[str, Any] = {
        "data": "small",
        "hidden": (6,),
        "channels": (2,),
        "steps": 3,
        "epochs": 2,
        "batch_size": 4,
        "threshold": 0.2,
        "log_every": 1,
    }
    return TrainConfig(**{**settings, **changes})


def outcome(folder: Path) -> dict[str, Any]:
    """All that a run came to, comparable bit for bit: everything but the time it took."""
    state, lines = asdict(Checkpoint.load(folder)), read_metrics(folder)
    assert state.pop("metrics") == (folder / METRICS).read_text()
    for line in lines:
        line.pop("seconds", None)
    return {"metrics": lines, **plain(state)}


def plain(value: Any) -> Any:
    """The same with the bytes of tensors in their place, to be compared."""
    if isinstance(value, Tensor):
        return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


class Sigterm(Callback):
    """Sends SIGTERM to this process at a batch, as a cluster does some minutes before a job's time is over."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.when = epoch, batch

    def batch(self, epoch: int, batch: int, batches: int, meter: Meter) -> None:
        if (epoch, batch) == self.when:
            os.kill(os.getpid(), signal.SIGTERM)
