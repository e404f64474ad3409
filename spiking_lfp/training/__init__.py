"""Training runs: settings, training loop, checkpoints, metrics."""

from spiking_lfp.training.config import TrainConfig, preset_config, preset_names, preset_title
from spiking_lfp.training.devices import pick_device
from spiking_lfp.training.distributed import processes, sum_updates
from spiking_lfp.training.files import read_metrics
from spiking_lfp.training.fit import fit
from spiking_lfp.training.loop import Callback, Evaluation, evaluate
from spiking_lfp.training.results import Prediction, Run, load_run
from spiking_lfp.training.runs import read_config, resume, samples_for, train
from spiking_lfp.training.step import Meter, training_step, watch_spikes

__all__ = [
    "Callback",
    "Evaluation",
    "Meter",
    "Prediction",
    "Run",
    "TrainConfig",
    "evaluate",
    "fit",
    "load_run",
    "pick_device",
    "preset_config",
    "preset_names",
    "preset_title",
    "processes",
    "read_config",
    "read_metrics",
    "resume",
    "samples_for",
    "sum_updates",
    "train",
    "training_step",
    "watch_spikes",
]
