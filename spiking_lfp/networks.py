"""The papers' networks, by name, with sizes as arguments."""

import inspect
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from spiking_lfp.errors import UsageError, unknown_name
from spiking_lfp.layers import LIF, Flatten, MaxPool2d, NormalizeFeedback, name_layers
from spiking_lfp.lif import Reset


def mlp(
    in_shape: Sequence[int] = (1, 28, 28),
    classes: int = 10,
    hidden: Sequence[int] = (1000, 1000),
    beta: float = 0.9,
    threshold: float = 1.0,
    reset: Reset = "subtract",
    normalize_feedback: bool = False,
) -> nn.Sequential:
    """Build the LFP paper's MLP, 784-1000-1000-10 (app. A.6.3).

    Args:
        in_shape: shape of one sample; flattened.
        classes: number of output neurons.
        hidden: neurons of each hidden layer.
        beta: membrane decay of all layers.
        threshold: firing threshold of all layers.
        reset: reset of all layers.
        normalize_feedback: put a `NormalizeFeedback` between layers.

    Returns:
        A network from `[T, B, *in_shape]` to output spikes `[T, B, classes]`.
    """
    sizes = [math.prod(in_shape), *hidden, classes]
    _positive("layer sizes", sizes)
    stack = _Stack(beta, threshold, reset, normalize_feedback)
    stack.modules.append(Flatten())
    for inputs, outputs in pairwise(sizes):
        stack.lif(nn.Linear(inputs, outputs))
    return stack.network()


def lenet(
    in_shape: Sequence[int] = (1, 28, 28),
    classes: int = 10,
    channels: Sequence[int] = (12, 64),
    hidden: Sequence[int] = (1024,),
    kernel: int = 5,
    beta: float = 0.9,
    threshold: float = 1.0,
    reset: Reset = "subtract",
    normalize_feedback: bool = False,
) -> nn.Sequential:
    """Build the LFP paper's LeNet, 12C5-MP2-64C5-MP2-1024-10 (app. A.6.3).

    Args:
        in_shape: channels, height and width of one sample.
        classes: number of output neurons.
        channels: output channels of each convolution; each is followed by a 2 x 2 max pooling.
        hidden: neurons of each hidden dense layer; none gives 12C5-MP2-64C5-MP2-10.
        kernel: side of the convolutions' kernels.
        beta: membrane decay of all layers.
        threshold: firing threshold of all layers.
        reset: reset of all layers.
        normalize_feedback: put a `NormalizeFeedback` between layers.

    Returns:
        A network from `[T, B, *in_shape]` to output spikes `[T, B, classes]`.
    """
    if len(in_shape) != 3:
        raise UsageError(f"in_shape must be (channels, height, width), found {tuple(in_shape)}")
    _positive("layer sizes", [*in_shape, *channels, *hidden, classes, kernel])
    stack = _Stack(beta, threshold, reset, normalize_feedback)
    planes, height, width = in_shape
    for outputs in channels:
        height, width = (height - kernel + 1) // 2, (width - kernel + 1) // 2
        if min(height, width) < 1:
            raise UsageError(f"samples of {tuple(in_shape)} are too small for {len(channels)} convolutions of {kernel}")
        stack.lif(nn.Conv2d(planes, outputs, kernel))
        stack.modules.append(MaxPool2d(2))
        planes = outputs
    stack.modules.append(Flatten())
    sizes = [planes * height * width, *hidden, classes]
    for inputs, outputs in pairwise(sizes):
        stack.lif(nn.Linear(inputs, outputs))
    return stack.network()


NETWORKS: dict[str, Callable[..., nn.Sequential]] = {"mlp": mlp, "lenet": lenet}


def build_network(name: str, **arguments: Any) -> nn.Sequential:
    """Build the network called `name` with the arguments of its function.

    Raises:
        UsageError: for an unknown name and sizes that do not fit.
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    known = inspect.signature(NETWORKS[name]).parameters
    for argument in arguments:
        if argument not in known:
            raise unknown_name(f"argument of network {name!r}", argument, known)
    return NETWORKS[name](**arguments)


class _Stack:
    """Collects the modules of a feed-forward network whose LIF layers share their constants."""

    def __init__(self, beta: float, threshold: float, reset: Reset, normalize_feedback: bool) -> None:
        self.constants = (beta, threshold, reset)
        self.normalize_feedback = normalize_feedback
        self.modules: list[nn.Module] = []

    def lif(self, synapse: nn.Module) -> None:
        if self.normalize_feedback and any(isinstance(module, LIF) for module in self.modules):
            self.modules.append(NormalizeFeedback())
        self.modules.append(LIF(synapse, *self.constants))

    def network(self) -> nn.Sequential:
        network = nn.Sequential(*self.modules)
        name_layers(network)
        return network


def _positive(what: str, sizes: Sequence[int]) -> None:
    if min(sizes) < 1:
        raise UsageError(f"{what} must be at least 1, found {list(sizes)}")
