"""One layer in integers: its weights are rounded, and its scale is chosen by what its neurons do."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from spiking_lfp.deploy.layers import Array, Conv, Dense, Recurrent, Signal, Spiking
from spiking_lfp.deploy.rounding import Rounding, second_moments
from spiking_lfp.deploy.simulator import run_layer
from spiking_lfp.errors import ExportError, UsageError
from spiking_lfp.integers import IntegerNeuron
from spiking_lfp.integers.arithmetic import Arithmetic, IntegerReset
from spiking_lfp.lfp.synapses import Convolution, synapse_of
from spiking_lfp.neurons import LIFNeuron, RecurrentLIFNeuron
from spiking_lfp.neurons.integer import FixedPoint, ScaleMethod
from spiking_lfp.nn.encoders import constant
from spiking_lfp.nn.spiking import LAYERS, RecurrentLIF, SpikingLayer

Parameters = tuple[Tensor, Tensor | None]
Converter = Callable[..., Spiking]
CalibrationMethod = Literal["max", "mean", "percentile", "search"]
CALIBRATION_METHODS: tuple[CalibrationMethod, ...] = ("max", "mean", "percentile", "search")
PERCENTILE = 0.999
# fractions of the largest weight that the search tries to map to the largest integer, and on how many samples
SEARCHED = tuple(np.linspace(0.2, 1.0, 17))
SEARCH_SAMPLES = 64
# tried if none of those fits into the membranes: weights then have fewer levels
LARGER = (1.25, 1.5, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class LayerReport:
    """Effect of quantising one layer, on the calibration samples.

    Attributes:
        name: of the layer.
        bits: of its weights.
        scale_min: smallest scale of its outputs.
        scale_max: largest scale of its outputs.
        weight_error: L2 norm of the quantisation error of its weights over that of the weights.
        clipped: fraction of weights clipped to the largest integer.
        rate_float: spikes per neuron and step in the floating-point network; 0 for neurons that do not fire.
        rate_integer: spikes per neuron and step in the integer network.
        disagreement: fraction of values, spike or none, that differ between the two; for neurons that do not fire the
            L2 norm of the error of membranes over that of the membranes.
        saturated: states that overflowed, and were saturated or wrapped.
    """

    name: str
    bits: int
    scale_min: float
    scale_max: float
    weight_error: float
    clipped: float
    rate_float: float
    rate_integer: float
    disagreement: float
    saturated: int


@dataclass(frozen=True)
class Settings:
    """What layers are converted with.

    Attributes:
        bits: see `quantize`, also for scale, per_channel, reset and arithmetic.
        compensated: whether weights make up for what others lose by rounding; not if training rounded each for itself.
    """

    bits: int
    scale: CalibrationMethod
    per_channel: bool
    reset: IntegerReset | None
    arithmetic: Arithmetic
    compensated: bool

    def fixed_point(self, given: Signal, scale: ScaleMethod = "max") -> FixedPoint:
        """Return how layers are quantised that are given such a signal."""
        return FixedPoint(self.bits, given.levels, self.per_channel, scale, self.arithmetic, given.largest)


def kind_in_integers(kind: type[SpikingLayer]) -> bool:
    """Tell whether the neurons of a kind of layer have an integer form."""
    return kind is RecurrentLIF or kind.kind.counterparts.integer is not None


def has_neurons_in_integers(module: SpikingLayer) -> bool:
    """Tell whether the neurons of a layer have an integer form; a subclass may run them in another way."""
    return type(module) is LAYERS[module.kind] and kind_in_integers(type(module))


def converter(module: SpikingLayer, name: str, shape: tuple[int, ...], given: Signal, settings: Settings) -> Converter:
    """Return the function from the scales of a layer `[O]`, and other weights and biases, to the integer layer."""
    own = _parameters(module)
    weight, _ = own
    synapse = synapse_of(module.synapse, weight)
    dense = isinstance(module.synapse, nn.Linear)
    if not dense and not (isinstance(synapse, Convolution) and _has_integer_form(synapse)):
        raise no_integer_form(name, module.synapse)
    # in the precision of training, so that what is rounded is the same
    neuron, recurrent = module.neuron(weight.dtype), None
    if isinstance(neuron, RecurrentLIFNeuron):
        if not dense:
            raise ExportError(f"layer {name}: recurrent convolutions have no integer form: use dense neurons")
        recurrent = neuron.recurrent.detach()
        neuron = LIFNeuron(neuron.beta, neuron.threshold, neuron.reset)
    fixed = settings.fixed_point(given)

    def convert(scale: Tensor, parameters: Parameters = own) -> Spiking:
        try:
            layer = fixed.layer(*parameters, neuron, name, scale, settings.reset, recurrent)
        except UsageError as error:
            raise ExportError(str(error)) from None
        whole = np.zeros(len(weight)) if layer.bias is None else layer.bias.numpy()
        common = (
            name, shape, layer.weight.numpy().astype(np.int8), whole.astype(np.int32), scale.double().numpy(),
            settings.bits, _without_torch(layer.neuron),
        )  # fmt: skip
        if layer.recurrent is not None:
            return Recurrent(*common, layer.recurrent.numpy().astype(np.int8), layer.factor)
        if not isinstance(synapse, Convolution):
            return Dense(*common)
        (high, wide), (above, beside) = synapse.stride, synapse.padding
        return Conv(*common, (high, wide), (above, beside), synapse.groups)

    return convert


def no_integer_form(name: str, synapse: nn.Module) -> ExportError:
    """Return the error for a layer whose synapse integers cannot have."""
    return ExportError(
        f"layer {name}: {synapse} has no integer form: use nn.Linear, nn.Conv1d or nn.Conv2d, padded evenly with zeros"
    )


def _without_torch(neuron: Any) -> IntegerNeuron:
    """Return an integer neuron whose tensors are arrays."""
    arrays = {name: value.numpy() for name, value in vars(neuron).items() if isinstance(value, Tensor)}
    found: IntegerNeuron = replace(neuron, **arrays)
    return found


def _has_integer_form(synapse: Convolution) -> bool:
    return not synapse.transposed and len(synapse.kernel_size) == 2 and set(synapse.dilation) == {1}


def without_dilation(synapse: nn.Module) -> nn.Module:
    """Return the same convolution with a larger kernel, which has zeros where a dilated one has holes."""
    if not isinstance(synapse, nn.Conv1d | nn.Conv2d) or set(synapse.dilation) == {1}:
        return synapse
    weight = synapse.weight.detach()
    sides = tuple(step * (side - 1) + 1 for side, step in zip(synapse.kernel_size, synapse.dilation, strict=True))
    full = weight.new_zeros(*weight.shape[:2], *sides)
    places = [slice(None, None, step) for step in synapse.dilation]
    full[:, :, *places] = weight
    like: Any = type(synapse)
    # "same" stays: it is told from the sides, which are as large as before
    made = like(
        synapse.in_channels, synapse.out_channels, sides, synapse.stride, synapse.padding, 1, synapse.groups,
        synapse.bias is not None, synapse.padding_mode,
    )  # fmt: skip
    made.weight, made.bias = nn.Parameter(full), synapse.bias
    return cast(nn.Module, made)


def _parameters(module: SpikingLayer) -> tuple[Tensor, Tensor | None]:
    weight, bias = module.synapse.weight, module.synapse.bias
    assert isinstance(weight, Tensor)
    return weight.detach(), bias.detach() if isinstance(bias, Tensor) else None


def chosen_layer(
    convert: Converter, module: SpikingLayer, inputs: Array, steps: int, settings: Settings, given: Signal
) -> tuple[Spiking, Tensor]:
    """Return the integer layer and its scales, chosen as the settings say.

    Args:
        convert: of the layer.
        module: the layer in real numbers.
        inputs: those of the integer network.
        steps: T.
        settings: say how.
        given: what `inputs` stand for.
    """
    weight, bias = _parameters(module)
    most = 2 ** (settings.bits - 1) - 1
    # membranes are compared with each other, so they have one unit
    apart = settings.per_channel and module.kind.spiking
    fixed = settings.fixed_point(given, "mean" if settings.scale == "mean" else "max")
    scale = replace(fixed, per_channel=apart).scales(weight)
    if settings.scale == "percentile":
        rows = weight.abs().flatten(1) if apart else weight.abs().flatten().unsqueeze(0)
        kept = rows.kthvalue(max(1, math.ceil(PERCENTILE * rows.shape[1])), 1).values
        scale = (kept / most).expand(len(weight))
    synapse = module.synapse
    assert isinstance(synapse, nn.Linear | nn.Conv2d)
    moments = second_moments(synapse, torch.from_numpy(inputs), given.levels) if settings.compensated else None
    rounding = None if moments is None else Rounding.of(moments, bias is not None)

    def converted(scale: Tensor) -> Spiking:
        return convert(scale) if rounding is None else convert(scale, rounding(weight, bias, scale, most))

    if settings.scale != "search":
        return converted(scale), scale
    # what the layer would do with the same inputs: scales do not make up for what others have changed before it
    images = inputs.ndim == weight.dim()
    few = inputs[:SEARCH_SAMPLES] if images else inputs[:, :SEARCH_SAMPLES]
    seen = torch.from_numpy(few).to(weight.dtype) / given.levels
    expected = module(constant(seen, steps) if images else seen).numpy()
    best: tuple[float, Spiking, Tensor] | None = None
    refused: ExportError | None = None
    for fraction in (*SEARCHED, *LARGER):
        if fraction > 1 and best is not None:
            break
        try:
            layer = converted(scale * fraction)
        except ExportError as error:
            refused = error
            continue
        different = _difference(layer, run_layer(layer, few, steps)[0], expected, given.levels)
        if best is None or different < best[0]:
            best = different, layer, scale * fraction
    if best is None:
        assert refused is not None
        raise refused
    return best[1], best[2]


def _difference(layer: Spiking, found: Array, expected: Array, levels: int) -> float:
    """Return the share of spikes that differ, or the size of the error of membranes over theirs.

    Args:
        layer: in integers.
        found: its outputs.
        expected: those of the floating-point layer.
        levels: the integer that stands for an input of 1.
    """
    if layer.neuron.spiking:
        return float(np.mean(found != expected))
    real = found * layer.membrane_unit(levels).reshape(-1, *[1] * (found.ndim - 3))
    return float(np.linalg.norm(real - expected) / max(float(np.linalg.norm(expected)), 1e-30))


def report_of(
    scale: Tensor, module: SpikingLayer, layer: Spiking, real: Tensor, spikes: Array, saturated: int, levels: int
) -> LayerReport:
    """Return the effect of the quantisation of a layer.

    Args:
        scale: that was chosen, `[O]`.
        module: the layer in real numbers.
        layer: in integers.
        real: outputs of the one.
        spikes: outputs of the other.
        saturated: states that overflowed.
        levels: the integer that stands for an input of 1.
    """
    weight, _ = _parameters(module)
    columns = scale.view(-1, *[1] * (weight.dim() - 1))
    most = 2 ** (layer.bits - 1) - 1
    difference = weight - columns * torch.from_numpy(layer.weight)
    return LayerReport(
        name=layer.name,
        bits=layer.bits,
        scale_min=float(scale.min()),
        scale_max=float(scale.max()),
        weight_error=float(difference.norm() / weight.norm()),
        clipped=float(((weight / columns).abs() > most + 0.5).float().mean()),
        rate_float=float(real.mean()) if layer.neuron.spiking else 0.0,
        rate_integer=float(spikes.mean()) if layer.neuron.spiking else 0.0,
        disagreement=_difference(layer, spikes, real.numpy(), levels),
        saturated=saturated,
    )
