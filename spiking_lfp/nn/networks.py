"""The papers' networks, by name, with sizes as arguments."""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from spiking_lfp.arguments import describe, integer_of
from spiking_lfp.errors import UsageError, unknown_name
from spiking_lfp.mono.readout import MonoReadout, Scheme
from spiking_lfp.neurons import Reset
from spiking_lfp.nn.layers import Dropout, Flatten, NormalizeFeedback, name_layers
from spiking_lfp.nn.norm import ThresholdBatchNorm
from spiking_lfp.nn.pooling import AvgPool2d, MaxPool2d
from spiking_lfp.nn.spiking import LI, LIF, RecurrentLIF, SpikingLayer


def mlp(
    in_shape: Sequence[int] = (1, 28, 28),
    classes: int = 10,
    hidden: Sequence[int] = (1000, 1000),
    beta: float = 0.9,
    threshold: float = 1.0,
    reset: Reset = "subtract",
    normalize_feedback: bool = False,
    gain: float = 1.0,
) -> nn.Sequential:
    """Build the LFP paper's MLP, 784-1000-1000-10 (app. A.6.3).

    Args:
        in_shape: shape of one sample, which is flattened.
        classes: number of output neurons.
        hidden: neurons of each hidden layer.
        beta: part of the membrane kept per step, in all layers.
        threshold: firing threshold of all layers.
        reset: reset mode of all layers.
        normalize_feedback: insert a `NormalizeFeedback` between layers.
        gain: factor on torch's initial weights; with few steps, a low beta or sparse inputs, layers need a larger one
            to spike.

    Returns:
        A network from `[T, B, *in_shape]` to output spikes `[T, B, classes]`.

    Raises:
        UsageError: for a size that is none.

    Example:
        >>> network = mlp((1, 28, 28), classes=10, hidden=(100,), beta=0.9)
        >>> network(constant(torch.rand(2, 1, 28, 28), steps=5)).shape
        torch.Size([5, 2, 10])
    """
    in_shape, hidden = _sizes("in_shape", in_shape), _sizes("hidden", hidden)
    sizes = [math.prod(in_shape), *hidden, classes]
    _positive("layer sizes", sizes)
    stack = _Stack(beta, threshold, reset, normalize_feedback, gain)
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
    gain: float = 1.0,
) -> nn.Sequential:
    """Build the LFP paper's LeNet, 12C5-MP2-64C5-MP2-1024-10 (app. A.6.3).

    Args:
        in_shape: channels, height and width of one sample.
        classes: number of output neurons.
        channels: output channels of each convolution; each is followed by 2 x 2 max pooling.
        hidden: neurons of each hidden dense layer; an empty sequence gives 12C5-MP2-64C5-MP2-10.
        kernel: side length of the convolutions' kernels.
        beta: part of the membrane kept per step, in all layers.
        threshold: firing threshold of all layers.
        reset: reset mode of all layers.
        normalize_feedback: insert a `NormalizeFeedback` between layers.
        gain: factor on torch's initial weights; with few steps, a low beta or sparse inputs, layers need a larger one
            to spike.

    Returns:
        A network from `[T, B, *in_shape]` to output spikes `[T, B, classes]`.

    Raises:
        UsageError: for a size that is none, and samples that are too small.

    Example:
        >>> network = lenet(in_shape=(3, 32, 32), channels=(6, 16), hidden=(120, 84))
        >>> network(constant(torch.rand(2, 3, 32, 32), steps=5)).shape
        torch.Size([5, 2, 10])
    """
    in_shape, channels, hidden = (
        _sizes(what, given) for what, given in (("in_shape", in_shape), ("channels", channels), ("hidden", hidden))
    )
    if len(in_shape) != 3:
        raise UsageError(f"in_shape must be (channels, height, width), found {tuple(in_shape)}")
    _positive("layer sizes", [*in_shape, *channels, *hidden, classes, kernel])
    stack = _Stack(beta, threshold, reset, normalize_feedback, gain)
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


def stack(
    in_shape: Sequence[int] = (1, 28, 28),
    classes: int = 10,
    layers: str = "12C5-MP2-64C5-MP2-1024",
    beta: float = 0.9,
    threshold: float = 1.0,
    reset: Reset = "subtract",
    normalize_feedback: bool = False,
    gain: float = 1.0,
) -> nn.Sequential:
    """Build a network from a description of its layers as in papers: `12C5-MP2-64C5-MP2-DP0.3-256`.

    Dashes separate the layers: `12C5` is a convolution to 12 channels with a 5 x 5 kernel, `12C5s2p1` one with stride 2
    and padding 1; `MP2` and `AP2` are 2 x 2 max and mean pooling; `DP0.3` is dropout with probability 0.3; `256` is a
    dense layer of 256 neurons, `256R` a recurrent one. With `BN` behind it, as `12C5BN`, a layer with neurons has a
    `ThresholdBatchNorm` in place of a bias. The output layer with a neuron for each class is added last.

    Args:
        in_shape: of one step of one sample: channels, height and width for convolutions and pooling.
        classes: number of output neurons.
        layers: the layers before the output layer; none if empty.
        beta: part of the membrane kept per step, in all layers.
        threshold: firing threshold of all layers.
        reset: reset mode of all layers.
        normalize_feedback: insert a `NormalizeFeedback` between layers.
        gain: factor on torch's initial weights; with few steps, a low beta or sparse inputs, layers need a larger one
            to spike.

    Returns:
        A network from `[T, B, *in_shape]` to output spikes `[T, B, classes]`.

    Raises:
        UsageError: for a size that is none, a layer that cannot be parsed, or does not fit the layer before it.

    Example:
        >>> network = stack((2, 34, 34), classes=10, layers="8C5s2-MP2-DP0.3-64R")
        >>> [type(layer).__name__ for layer in network]
        ['LIF', 'MaxPool2d', 'Dropout', 'Flatten', 'RecurrentLIF', 'LIF']
    """
    in_shape = _sizes("in_shape", in_shape)
    _positive("layer sizes", [*in_shape, classes])
    stack = _Stack(beta, threshold, reset, normalize_feedback, gain)
    if not isinstance(layers, str):
        raise UsageError(f"layers must be a text such as 12C5-MP2-256, found {describe(layers)}")
    shape: tuple[int, ...] = in_shape
    for text in [layer.strip() for layer in layers.split("-") if layer.strip()] + [str(classes)]:
        match = _LAYER.fullmatch(text)
        if match is None:
            raise UsageError(
                f"layer {text!r} must be written like 12C5, 12C5s2p1, MP2, AP2, DP0.3, 256, 256R, 12C5BN or 256BN"
            )
        fields = match.groupdict()
        stack.normalised = text.endswith("BN")
        if fields["channels"]:
            shape = stack.convolution(text, shape, *(int(fields[key] or default) for key, default in _CONVOLUTION))
        elif fields["pool"]:
            shape = stack.pool(text, shape, fields["pool"], int(fields["side"]))
        elif fields["p"]:
            stack.modules.append(Dropout(float(fields["p"])))
        else:
            shape = stack.dense(text, shape, int(fields["neurons"]), bool(fields["recurrent"]))
    return stack.network()


_LAYER = re.compile(
    r"(?P<channels>\d+)C(?P<kernel>\d+)(s(?P<stride>\d+))?(p(?P<padding>\d+))?(BN)?"
    r"|(?P<pool>[MA])P(?P<side>\d+)|DP(?P<p>0?\.\d+|0)|(?P<neurons>\d+)(?P<recurrent>R)?(BN)?"
)
_CONVOLUTION = (("channels", 1), ("kernel", 1), ("stride", 1), ("padding", 0))

NETWORKS: dict[str, Callable[..., nn.Sequential]] = {"mlp": mlp, "lenet": lenet, "stack": stack}


def build_network(name: str, **arguments: Any) -> nn.Sequential:
    """Build the network called `name` with the arguments of its function.

    Raises:
        UsageError: for an unknown name and sizes that do not fit.
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    parameters = inspect.signature(NETWORKS[name]).parameters
    for argument in arguments:
        if argument not in parameters:
            raise unknown_name(f"argument of network {name!r}", argument, parameters)
    return NETWORKS[name](**arguments)


def with_mono_readout(
    network: nn.Sequential,
    hidden: Sequence[int] = (256,),
    scheme: Scheme = "one-vs-rest",
    windows: int = 1,
    beta: float = 1.0,
    seed: int = 0,
) -> nn.Sequential:
    """Return `network` with a `MonoReadout` in place of its last layer of neurons, for the same classes.

    Args:
        network: a network whose last layer is a dense layer of spiking neurons.
        hidden: see `MonoReadout`, also for `scheme`, `windows`, `beta` and `seed`.

    Raises:
        UsageError: for a network with another last layer, and if there are too few neurons for the decisions.
    """
    *below, last = list(network) or [network]
    if not isinstance(last, SpikingLayer) or not isinstance(last.synapse, nn.Linear):
        raise UsageError(f"a mono readout replaces a dense spiking layer at the end of a network, found {last}")
    if not any(isinstance(module, SpikingLayer) for module in below):
        raise UsageError("a mono readout needs a hidden layer with spikes below it, and the network has none: add one")
    features, classes = last.synapse.in_features, last.synapse.out_features
    return nn.Sequential(*below, MonoReadout(features, classes, hidden, scheme, windows, beta, seed=seed))


def with_membrane_readout(network: nn.Sequential, beta: float = 1.0) -> nn.Sequential:
    """Return `network` with leaky integrators, `LI`, in place of its last layer of neurons, on the same synapse.

    Args:
        network: a network whose last layer has spiking neurons.
        beta: part of an output's membrane that a step keeps, 1 to add up all steps.

    Raises:
        UsageError: for a network with another last layer.
    """
    *below, last = list(network) or [network]
    if not isinstance(last, SpikingLayer) or isinstance(last, RecurrentLIF):
        raise UsageError(f"a membrane readout replaces a spiking layer at the end of a network, found {last}")
    readout = nn.Sequential(*below, LI(last.synapse, beta, norm=last.norm))
    name_layers(readout)
    return readout


class _Stack:
    """Collects the modules of a feed-forward network whose LIF layers have the same constants.

    Attributes:
        normalised: whether the next LIF layers get a batch normalisation in place of a bias.
    """

    normalised = False

    def __init__(self, beta: float, threshold: float, reset: Reset, normalize_feedback: bool, gain: float) -> None:
        if not 0 < gain < float("inf"):
            raise UsageError(f"gain must be finite and greater than 0, found {gain}: weights of exactly 0 never learn")
        self.gain = gain
        self.constants = (beta, threshold, reset)
        self.normalize_feedback = normalize_feedback
        self.modules: list[nn.Module] = []

    def lif(self, synapse: nn.Linear | nn.Conv2d, kind: type[LIF] = LIF) -> None:
        if self.normalize_feedback and any(isinstance(module, LIF) for module in self.modules):
            self.modules.append(NormalizeFeedback())
        if self.gain != 1:
            with torch.no_grad():
                synapse.weight.mul_(self.gain)
        norm = ThresholdBatchNorm(len(synapse.weight), self.constants[1]) if self.normalised else None
        self.modules.append(kind(synapse, *self.constants, norm=norm))

    def convolution(
        self, text: str, shape: tuple[int, ...], channels: int, kernel: int, stride: int, padding: int
    ) -> tuple[int, ...]:
        """Add a convolution and return the shape after it."""
        planes, *sides = _image(text, shape)
        _positive(f"the numbers of layer {text!r}", [channels, kernel, stride])
        after = [(side + 2 * padding - kernel) // stride + 1 for side in sides]
        if min(after) < 1:
            raise UsageError(f"layer {text!r} is larger than its input of {sides[0]} x {sides[1]}")
        self.lif(nn.Conv2d(planes, channels, kernel, stride, padding, bias=not self.normalised))
        return (channels, *after)

    def pool(self, text: str, shape: tuple[int, ...], kind: str, side: int) -> tuple[int, ...]:
        """Add a pooling layer and return the shape after it."""
        planes, *sides = _image(text, shape)
        if not 1 <= side <= min(sides):
            raise UsageError(f"layer {text!r} does not fit its input of {sides[0]} x {sides[1]}")
        self.modules.append(MaxPool2d(side) if kind == "M" else AvgPool2d(side))
        return (planes, *(each // side for each in sides))

    def dense(self, text: str, shape: tuple[int, ...], neurons: int, recurrent: bool) -> tuple[int, ...]:
        """Add a dense layer and return the shape after it."""
        _positive(f"the neurons of layer {text!r}", [neurons])
        if len(shape) > 1:
            self.modules.append(Flatten())
        synapse = nn.Linear(math.prod(shape), neurons, bias=not self.normalised)
        self.lif(synapse, RecurrentLIF if recurrent else LIF)
        return (neurons,)

    def network(self) -> nn.Sequential:
        network = nn.Sequential(*self.modules)
        name_layers(network)
        return network


def _image(text: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise UsageError(
            f"layer {text!r} needs images, [channels, height, width], found {list(shape)}: put it before dense layers"
        )
    channels, height, width = shape
    return channels, height, width


def _sizes(what: str, given: Any) -> tuple[int, ...]:
    """Return sizes, one or more, as they are given to an argument."""
    found = [integer_of(size) for size in given] if isinstance(given, Iterable) else [None]
    sizes = tuple(size for size in found if size is not None)
    if len(sizes) < len(found):
        raise UsageError(f"{what} must be integers in a tuple or a list, as (100,), found {given!r}")
    return sizes


def _positive(what: str, sizes: Sequence[int]) -> None:
    if min(sizes) < 1:
        raise UsageError(f"{what} must be at least 1, found {list(sizes)}")
