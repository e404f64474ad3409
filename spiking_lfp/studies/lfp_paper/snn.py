"""Trainings of the paper's spiking networks, by LFP or by what it is compared with."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from spiking_lfp.data import ImageDataset, Samples
from spiking_lfp.data.values import encoder_of, image_samples
from spiking_lfp.training import read_metrics
from spiking_lfp.training.config import TrainConfig
from spiking_lfp.training.feeds import MemoryData
from spiking_lfp.training.loop import Callback, Trainer
from spiking_lfp.training.runs import network_for


def prepared(config: TrainConfig, images: ImageDataset) -> tuple[Samples, nn.Module]:
    """Return images as the settings want them, and a new network for them."""
    samples = image_samples(images, encoder_of(config.inputs, config.recipe), config.inputs)
    torch.manual_seed(config.seed)
    return samples, network_for(config, samples)


def train(
    config: TrainConfig, samples: Samples, network: nn.Module, kind: type[Trainer], callbacks: Sequence[Callback] = ()
) -> list[dict[str, Any]]:
    """Train a network by a kind of training; return the metrics of each epoch."""
    training = kind(config, MemoryData(samples), network, torch.device("cpu"), callbacks)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about silent layers: the spike rates show them
        training.folder = Path(folder)
        training.finish()
        return [line for line in read_metrics(training.folder) if line["kind"] == "epoch"]
