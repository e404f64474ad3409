"""Normalised inputs, folded into the layers that take them, so that an integer network takes pixels as they are.

With a mean `m` and a deviation `s` of each channel, a synapse on `(x - m) / s` is one on `x`:

    W (x - m) / s + b = W' x + b'        W' = W / s,  b' = b - W' m

Where a convolution pads its inputs with zeros, those of `x` have a border of `m`, as near as an integer comes to it.
"""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spiking_lfp.deploy.conversion import no_integer_form
from spiking_lfp.deploy.graph import Place, trace
from spiking_lfp.errors import ExportError
from spiking_lfp.lfp.execution import Integer
from spiking_lfp.lfp.synapses import Convolution, sides_of, synapse_of
from spiking_lfp.nn.execution import LEVELS
from spiking_lfp.nn.layers import Flatten
from spiking_lfp.nn.spiking import SpikingLayer


class Border(nn.Module):
    """Sequences `[T, B, C, ...]` with a border along their last axes, of one value for each channel.

    Args:
        padding: how many at either end of each axis.
        fill: integers `[C]`, of which `LEVELS` stands for 1.
    """

    def __init__(self, padding: Sequence[int], fill: Tensor) -> None:
        super().__init__()
        self.padding = tuple(padding)
        self.register_buffer("fill", fill)

    def forward(self, x: Tensor) -> Tensor:
        """Return them with their border."""
        inner = tuple(slice(pad, pad + side) for pad, side in zip(self.padding, x.shape[3:], strict=True))
        sides = [side + 2 * pad for pad, side in zip(self.padding, x.shape[3:], strict=True)]
        fill: Tensor = self.get_buffer("fill").to(x.dtype) / LEVELS
        padded = fill.view(-1, *[1] * len(sides)).expand(*x.shape[:3], *sides).clone()
        padded[:, :, :, *inner] = x
        return padded


@dataclass(frozen=True)
class Inputs:
    """What errors say of the inputs.

    Attributes:
        called: what they are.
        remedy: what makes folding unnecessary.
    """

    called: str
    remedy: str


NORMALISED = Inputs("normalised inputs", "train without normalize")
SCALED = Inputs("inputs other than 0 and 1, to be scaled", "train on spikes")


def fold_normalisation(
    network: nn.Module, mean: Sequence[float], deviation: Sequence[float], x: Tensor, inputs: Inputs = NORMALISED
) -> nn.Module:
    """Return a copy of a network, in evaluation mode, that computes on `x` what `network` does on `(x - m) / s`.

    Args:
        network: of layers with an integer form, of which dense ones or convolutions take the inputs; only one if it
            pads them.
        mean: of each channel, the axis of `x` after time and batch.
        deviation: of each.
        x: a sequence, `[T, B, C, ...]`.
        inputs: what errors say of them.

    Raises:
        ExportError: with the layer's name, if something else takes the inputs, or it was trained in integers.

    Example:
        >>> network = nn.Sequential(Flatten(), LIF(nn.Linear(4, 3)))
        >>> folded = fold_normalisation(network, [0.5], [0.25], torch.rand(5, 2, 1, 2, 2))
        >>> bool((folded[1].synapse.weight == 4 * network[1].synapse.weight).all())
        True
    """
    network = copy.deepcopy(network).cpu().eval()
    each = [torch.tensor(values, dtype=torch.float64).view(-1, *[1] * (x.dim() - 3)) for values in (mean, deviation)]
    m, s = (values.expand(x.shape[2:]) for values in each)
    with torch.no_grad():
        places = trace(network, x[:, :1])
        reached, taken, border = {0}, list[Place](), None
        for number, place in enumerate(places, 1):
            if reached.isdisjoint(place.sources):
                continue
            if isinstance(place.module, Flatten):
                reached.add(number)
            else:
                _check_runs_once(place, places, inputs)
                taken.append(place)
                border = _fold(place, m, s, inputs) or border
    if border is None:
        return network
    if len(taken) > 1:
        raise ExportError(
            f"layer {taken[1].name}: takes the {inputs.called} of layer {taken[0].name}, too, and one of them pads "
            f"them: use padding=0, or {inputs.remedy}"
        )
    return _behind(border, network)


def _check_runs_once(place: Place, places: Sequence[Place], inputs: Inputs) -> None:
    """Refuse a layer that takes the inputs and runs elsewhere, too, where nothing is normalised."""
    if place.module is not None and sum(other.module is place.module for other in places) > 1:
        raise ExportError(
            f"layer {place.name}: takes {inputs.called} and runs more than once: use another layer elsewhere, or "
            f"{inputs.remedy}"
        )


def _behind(border: Border, network: nn.Module) -> nn.Sequential:
    """Return a network whose inputs have a border; the layers of a chain keep their names."""
    # named_children would leave out a layer's second place
    chain = dict(network._modules) if type(network) is nn.Sequential else {"network": network}
    name = "border"
    while name in chain:
        name += "_"
    return nn.Sequential(OrderedDict({name: border, **chain}))


def _fold(place: Place, mean: Tensor, deviation: Tensor, inputs: Inputs) -> Border | None:
    """Change the synapse of a layer for inputs of this mean and deviation, each `[*i]`, and return their border."""
    layer = place.module
    if not isinstance(layer, SpikingLayer):
        what = "add" if layer is None else type(layer).__name__
        raise ExportError(
            f"layer {place.name}: {what} takes {inputs.called}, which integer hardware does not: let a dense layer "
            f"or a convolution come first, or {inputs.remedy}"
        )
    if not isinstance(layer.synapse, nn.Linear | nn.Conv1d | nn.Conv2d):
        raise no_integer_form(place.name, layer.synapse)
    if isinstance(layer.execution, Integer):
        raise ExportError(
            f"layer {place.name}: was trained in integers on inputs that are neither spikes nor pixels from 0 to 1: "
            "train on these, or in real numbers"
        )
    layer.fold_norm_()
    synapse: Any = layer.synapse
    weight, border = synapse.weight.double(), None
    if isinstance(synapse, nn.Linear):
        mean, deviation = mean.flatten(), deviation.flatten()
    else:
        described = synapse_of(synapse, synapse.weight)
        if not isinstance(described, Convolution):
            raise no_integer_form(place.name, synapse)
        if any(described.padding):
            border = Border(described.padding, _integers(mean.flatten(1)[:, 0], place.name))
            synapse.padding = sides_of(0, described.kernel_size)
        # of a channel, the same at all its places; a group sees some of them
        values = [each.flatten(1)[:, 0].view(synapse.groups, -1) for each in (mean, deviation)]
        mean, deviation = (
            each.repeat_interleave(len(weight) // synapse.groups, 0).view(*weight.shape[:2], *[1] * (weight.dim() - 2))
            for each in values
        )
    weight = weight / deviation
    bias = -(weight * mean).flatten(1).sum(1)
    if synapse.bias is not None:
        bias += synapse.bias.double()
    for name, value in (("weight", weight), ("bias", bias)):
        setattr(synapse, name, nn.Parameter(value.to(synapse.weight.dtype), requires_grad=False))
    return border


def _integers(zeros: Tensor, name: str) -> Tensor:
    """Return the integers for the inputs `[C]` that were 0 when they were normalised."""
    fill = (zeros * LEVELS).round().int()
    if fill.min() < 0 or fill.max() > LEVELS:
        raise ExportError(
            f"layer {name}: pads its inputs with zeros, which lie outside of what the calibration samples span: use "
            "padding=0, or samples on both sides of 0"
        )
    return fill
