"""Train spiking neural networks without surrogate gradients, by Layer-wise Feedback Propagation (LFP).

The public names live here and are imported on first use, so that `import spiking_lfp` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spiking_lfp.checks import raise_deferred
    from spiking_lfp.data import EventRecipe, load_dataset, load_samples
    from spiking_lfp.errors import DataError, ExportError, NonFiniteError, RunError, SpikingLFPError, UsageError
    from spiking_lfp.events.files import read_events
    from spiking_lfp.events.frames import event_frames
    from spiking_lfp.events.saccades import saccade_events
    from spiking_lfp.kernels.memory import reuse_freed_memory
    from spiking_lfp.lfp.rewards import (
        correctness_reward,
        cross_entropy_reward,
        logit_reward,
        propagate,
        spike_count_reward,
        spike_rate_reward,
    )
    from spiking_lfp.mono import FeedbackAlignment, FeedforwardNet, MonoReadout
    from spiking_lfp.nn.chunks import run_in_chunks
    from spiking_lfp.nn.composites import Composite, composite, fold_batch_norm
    from spiking_lfp.nn.encoders import constant, delta, latency, population, rate
    from spiking_lfp.nn.execution import recorded, run_in_integers
    from spiking_lfp.nn.explain import input_feedback
    from spiking_lfp.nn.layers import (
        Affine,
        AvgPool2d,
        Dropout,
        Flatten,
        MaxPool2d,
        NormalizeFeedback,
        add,
        name_layers,
    )
    from spiking_lfp.nn.networks import lenet, mlp, stack
    from spiking_lfp.nn.optim import AdaptiveClip, SignSGD
    from spiking_lfp.nn.spiking import LIF, RecurrentLIF
    from spiking_lfp.rules import AlphaBeta, Contributions, Epsilon, Flat, Gamma, Rule, Zero, ZPlusZMinus

_HOME = {
    "checks": ["raise_deferred"],
    "nn.chunks": ["run_in_chunks"],
    "nn.composites": ["Composite", "composite", "fold_batch_norm"],
    "data": ["EventRecipe", "load_dataset", "load_samples"],
    "nn.encoders": ["constant", "delta", "latency", "population", "rate"],
    "errors": ["DataError", "ExportError", "NonFiniteError", "RunError", "SpikingLFPError", "UsageError"],
    "events.files": ["read_events"],
    "events.frames": ["event_frames"],
    "events.saccades": ["saccade_events"],
    "nn.explain": ["input_feedback"],
    "nn.execution": ["recorded", "run_in_integers"],
    "kernels.memory": ["reuse_freed_memory"],
    "nn.layers": [
        "Affine",
        "AvgPool2d",
        "Dropout",
        "Flatten",
        "MaxPool2d",
        "NormalizeFeedback",
        "add",
        "name_layers",
    ],
    "nn.spiking": ["LIF", "RecurrentLIF"],
    "mono": ["FeedbackAlignment", "FeedforwardNet", "MonoReadout"],
    "nn.networks": ["lenet", "mlp", "stack"],
    "nn.optim": ["AdaptiveClip", "SignSGD"],
    "lfp.rewards": [
        "correctness_reward",
        "cross_entropy_reward",
        "logit_reward",
        "propagate",
        "spike_count_reward",
        "spike_rate_reward",
    ],
    "rules": ["AlphaBeta", "Contributions", "Epsilon", "Flat", "Gamma", "Rule", "Zero", "ZPlusZMinus"],
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__version__ = "0.1.0"
__all__ = [
    "LIF",
    "AdaptiveClip",
    "Affine",
    "AlphaBeta",
    "AvgPool2d",
    "Composite",
    "Contributions",
    "DataError",
    "Dropout",
    "Epsilon",
    "EventRecipe",
    "ExportError",
    "FeedbackAlignment",
    "FeedforwardNet",
    "Flat",
    "Flatten",
    "Gamma",
    "MaxPool2d",
    "MonoReadout",
    "NonFiniteError",
    "NormalizeFeedback",
    "RecurrentLIF",
    "Rule",
    "RunError",
    "SignSGD",
    "SpikingLFPError",
    "UsageError",
    "ZPlusZMinus",
    "Zero",
    "add",
    "composite",
    "constant",
    "correctness_reward",
    "cross_entropy_reward",
    "delta",
    "event_frames",
    "fold_batch_norm",
    "input_feedback",
    "latency",
    "lenet",
    "load_dataset",
    "load_samples",
    "logit_reward",
    "mlp",
    "name_layers",
    "population",
    "propagate",
    "raise_deferred",
    "rate",
    "read_events",
    "recorded",
    "reuse_freed_memory",
    "run_in_chunks",
    "run_in_integers",
    "saccade_events",
    "spike_count_reward",
    "spike_rate_reward",
    "stack",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f"spiking_lfp.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module 'spiking_lfp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
