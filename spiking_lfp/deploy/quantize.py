"""Quantises a trained network to an integer network, layer by layer, and reports the loss of accuracy."""

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from spiking_lfp.arguments import as_integer, as_names, check_choice
from spiking_lfp.checks import Values, as_tensor
from spiking_lfp.deploy.conversion import (
    CALIBRATION_METHODS,
    CalibrationMethod,
    LayerReport,
    Settings,
    chosen_layer,
    converter,
    has_neurons_in_integers,
    kind_in_integers,
    no_integer_form,
    report_of,
    without_dilation,
)
from spiking_lfp.deploy.graph import Place, evaluate, sources_of_last, trace
from spiking_lfp.deploy.interop.chains import synapse_copy
from spiking_lfp.deploy.layers import Add, Array, Flatten, Layer, MaxPool, Pad, Signal, SumPool
from spiking_lfp.deploy.model import Encoding, IntegerNetwork
from spiking_lfp.deploy.readout import HostReadout
from spiking_lfp.deploy.scaled_inputs import Border
from spiking_lfp.deploy.simulator import run_layer, without_neurons
from spiking_lfp.errors import DataError, ExportError
from spiking_lfp.integers.arithmetic import DEFAULT, INTEGER_RESETS, Arithmetic, IntegerReset
from spiking_lfp.lfp.execution import Execution, Integer, Real
from spiking_lfp.lfp.synapses import Convolution, synapse_of
from spiking_lfp.mono import FeedforwardNet, MonoReadout
from spiking_lfp.nn.encoders import constant
from spiking_lfp.nn.execution import LEVELS
from spiking_lfp.nn.layers import Flatten as FlattenLayer
from spiking_lfp.nn.layers import PopulationReadout
from spiking_lfp.nn.pooling import AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d, Pool, SumPool1d, SumPool2d
from spiking_lfp.nn.spiking import LAYERS, RecurrentLIF, SpikingLayer, spiking_layers
from spiking_lfp.training.own import check_classes, dtype_of

Kept = TypeVar("Kept")
# along one axis, and the same on images one pixel high
IMAGE_POOLS: dict[type[nn.Module], type[Pool]] = {MaxPool1d: MaxPool2d, AvgPool1d: AvgPool2d, SumPool1d: SumPool2d}


@dataclass(frozen=True)
class AccuracyPoint:
    """The accuracy on the calibration samples after a step of the quantisation."""

    step: str
    accuracy: float


@dataclass(frozen=True)
class QuantisationReport:
    """Effect of the quantisation; `to_json` is kept in the notes of the network."""

    layers: tuple[LayerReport, ...]
    accuracy: tuple[AccuracyPoint, ...]
    samples: int

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(asdict(self))


def checked_settings(bits: int | None, scale: str | None, reset: str | None) -> int | None:
    """Check what `quantize` takes, before any work is done, and return the bits.

    Raises:
        UsageError: for what it does not take.
    """
    for what, value, known in (("scale", scale, CALIBRATION_METHODS), ("reset", reset, INTEGER_RESETS)):
        if value is not None:
            check_choice(what, value, known)
    return None if bits is None else as_integer(bits, "bits", 2, 8)


def quantize(
    network: nn.Module,
    images: Values,
    labels: Values,
    steps: int | None,
    class_names: Sequence[str],
    bits: int | None = None,
    scale: CalibrationMethod | None = None,
    per_channel: bool = False,
    reset: IntegerReset | None = None,
    arithmetic: Arithmetic | None = None,
    levels: int = 1,
) -> tuple[IntegerNetwork, QuantisationReport]:
    """Quantise a trained network.

    Args:
        network: of `LIF`, `RecurrentLIF`, or others with an integer form, `MaxPool2d`, `AvgPool2d`, `SumPool2d` and
            `Flatten`, one after the other or joined by `add` in code of its own; at its end may be an `LI`, a
            `PopulationReadout` or a `MonoReadout`, and the last two run on the host. `Dropout` and `NormalizeFeedback`
            are left out, batch normalisation is folded.
        images: for calibration, uint8 `[N, C, H, W]`; or spikes, 0 or 1, uint8 `[T, N, C, H, W]`, if the network was
            trained on recordings; or integers 0..`levels` of every step in that shape. Signals `[..., C, length]` for
            an `nn.Conv1d`; to the integer network they are images one pixel high.
        labels: `[N]`.
        steps: T, time steps for which an image is presented; None for sequences, which have their own.
        class_names: one for each output.
        bits: of a weight, 2..8; if None those of the training in integers, else 8.
        scale: how the scale of a layer is chosen: "max", the largest weight becomes the largest integer;
            "percentile", one weight in a thousand is clipped; "mean", see `FixedPoint`; "search", the scale for which
            spikes differ least from those of the floating-point layer with the same inputs. If None that of the
            training in integers, else "search".
        per_channel: give each output a scale of its own.
        reset: another reset than that of the training.
        arithmetic: of the chip; if None that of the training in integers, else the default.
        levels: of sequences, the integer that stands for an input of 1; 1 for spikes.

    Raises:
        ExportError: with layer and number, for what integers cannot represent.
        UsageError: for bits, steps, a scale or a reset that there are not.
        DataError: for labels that are no classes of the network.

    Example:
        >>> network = nn.Sequential(Flatten(), LIF(nn.Linear(64, 8)), LIF(nn.Linear(8, 3)))
        >>> images, labels = torch.randint(256, (9, 1, 8, 8), dtype=torch.uint8), [0, 1, 2] * 3
        >>> integers, report = quantize(network, images, labels, 10, ["a", "b", "c"], bits=4)
    """
    images, labels = (as_tensor(each, what).cpu() for each, what in ((images, "the images"), (labels, "the labels")))
    bits, class_names = checked_settings(bits, scale, reset), as_names(class_names, "class_names")
    steps = None if steps is None else as_integer(steps, "steps", 1)
    synapses = {name: synapse_copy(name, layer) for name, layer in spiking_layers(network).items()}
    real = copy.deepcopy(network).cpu().eval()
    for name, synapse in synapses.items():
        spiking_layers(real)[name].synapse = without_dilation(synapse.cpu())
    for name, each in spiking_layers(real).items():
        if isinstance(each, RecurrentLIF):
            each.recurrent = synapse_copy(name, each, "recurrent")
    executions = {each: each.execution for each in spiking_layers(real).values()}
    trained = next((each for each in executions.values() if isinstance(each, Integer)), None)
    for each in executions:
        each.fold_norm_()
        each.execution = Real()
    if bits is None:
        bits = 8 if trained is None else trained.bits
    if scale is None:
        scale = "search" if trained is None or trained.bits != bits else trained.scale
    if arithmetic is None:
        arithmetic = DEFAULT if trained is None else trained.arithmetic
    exact = trained is not None and trained.bits == bits
    settings = Settings(bits, scale, per_channel, reset, arithmetic, not exact)
    last = replace(settings, arithmetic=arithmetic.of_outputs())
    dtype = dtype_of(real)
    if dtype not in (torch.float32, torch.float64):
        real, dtype = real.float(), torch.float32  # NumPy has no bfloat16
    if steps is None:
        seen, steps = images.to(dtype) / levels, len(images)
        encoder: Encoding = "spikes" if levels == 1 else "sequence"
    else:
        seen, levels, encoder = constant(images.to(dtype) / LEVELS, steps), LEVELS, "constant"
    with torch.no_grad():
        places = trace(real, seen[:, :1])
        outputs = evaluate(places, {0: seen})
        if not torch.equal(outputs, real(seen)):
            raise ExportError(
                "the network computes something else for the calibration samples than its layers do, joined as for the "
                "first sample: its forward pass depends on the values"
            )
    if outputs.shape[2:] != (len(class_names),):
        remedy = ": let a dense layer be the last" if outputs.dim() > 3 else ""
        raise ExportError(
            f"outputs are {list(outputs.shape[2:])}, but there are {len(class_names)} class names{remedy}"
        )
    check_classes(labels, len(class_names), "the calibration")
    if len(labels) != outputs.shape[1]:
        raise DataError(f"there are {outputs.shape[1]} images and {len(labels)} labels: give one label for each image")
    if any(_runs_on_signals(place.module) for place in places):
        images, seen = images.unsqueeze(-2), seen.unsqueeze(-2)
        places = tuple(replace(place, module=_on_images(place)) for place in places)
    readout = None if places[-1].module is None else _host_readout(places[-1].module, len(class_names))
    below = places if readout is None else places[:-1]
    # by number of the place, of those whose outputs are still needed: what it hands on in integers, images or spikes
    # without or with an axis of time; in real numbers; and what is known of the network whose first layers are integers
    integers: dict[int, Array] = {0: images.numpy()}
    reals, known = {0: seen}, {0: seen}
    signals = [Signal(levels, levels)]
    layers: list[Layer] = []
    reports: list[LayerReport] = []
    accuracy = [AccuracyPoint("real weights", _accuracy(outputs, labels))]
    with torch.no_grad():
        for index, place in enumerate(below):
            name, module, sources, number = place.name, place.module, place.sources, index + 1
            shape = tuple(reals[sources[0]].shape[2:])
            reals[number] = place.run([reals[source] for source in sources])
            given = [integers[source] for source in sources]
            inputs = [signals[source] for source in sources]
            named = () if sources == (index,) else tuple("" if k == 0 else layers[k - 1].name for k in sources)
            if isinstance(module, SpikingLayer) and has_neurons_in_integers(module):
                if not module.kind.spiking and place is not places[-1]:
                    raise ExportError(f"layer {name}: does not fire, so it has to be the last layer")
                _check_training(name, executions[module], inputs[0], bits)
                of_layer = last if place is below[-1] else settings
                convert = converter(module, name, shape, inputs[0], of_layer)
                layer, chosen = chosen_layer(convert, module, given[0], steps, of_layer, inputs[0])
                integers[number], saturated = run_layer(layer, given[0], steps)
                spikes, real_spikes = integers[number], reals[number]
                reports.append(report_of(chosen, module, layer, real_spikes, spikes, saturated, inputs[0].levels))
                known[number] = torch.from_numpy(spikes).to(dtype)
                layers.append(replace(layer, sources=named))
                rest = _accuracy(evaluate(places, known), labels)
                accuracy.append(AccuracyPoint(f"layer {name} in integers", rest))
            else:
                layers.append(_without_neurons(place, shape, named))
                integers[number] = _in_steps(layers[-1], given, steps, layers[-1].gives(inputs).largest)
            signals.append(layers[-1].gives(inputs))
            later = {source for place in places[number:] for source in place.sources}
            integers, reals = _only(integers, later), _only(reals, later)
            known = _only(known, sources_of_last(places, known))
    report = QuantisationReport(tuple(reports), tuple(accuracy), len(labels))
    whole = IntegerNetwork(tuple(layers), encoder, levels, steps, tuple(class_names), readout=readout).check()
    return replace(whole, notes={"quantisation": report.to_json()}), report


def _only(values: dict[int, Kept], numbers: set[int]) -> dict[int, Kept]:
    return {number: values[number] for number in values.keys() & numbers}


def _check_training(name: str, execution: Execution, given: Signal, bits: int) -> None:
    """Refuse a layer that was trained in integers as if others arrived."""
    if isinstance(execution, Integer) and execution.bits == bits:
        trained = Signal(execution.levels, execution.largest or execution.levels)
        if given != trained:
            raise ExportError(
                f"layer {name}: was trained in integers for inputs 0..{trained.largest}, and gets 0..{given.largest}, "
                f"of which {given.levels} stand for 1: train in real numbers, or export with other bits"
            )


def _without_neurons(place: Place, shape: tuple[int, ...], sources: tuple[str, ...]) -> Layer:
    """Return a layer without neurons.

    Args:
        place: of the layer.
        shape: of one sample's input.
        sources: as a `Layer` has them.
    """
    name, module = place.name, place.module
    if module is None:
        return Add(name, shape, sources=sources)
    if isinstance(module, MaxPool2d):
        if not _has_integer_form(module):
            raise ExportError(f"layer {name}: {module} has no integer form: use square windows without padding")
        assert isinstance(module.kernel_size, int)
        assert isinstance(module.stride, int)
        return MaxPool(name, shape, module.kernel_size, module.stride, sources=sources)
    if isinstance(module, AvgPool2d | SumPool2d):
        sides = (module.of(name) for name in ("kernel_size", "stride", "padding"))
        kernel, stride, padding = ((high, wide) for high, wide in sides)
        divisor = math.prod(kernel) if module.divides else 1
        return SumPool(name, shape, kernel, stride, padding, divisor, sources=sources)
    if isinstance(module, Border):
        high, wide = module.padding
        return Pad(name, shape, (high, wide), module.get_buffer("fill").numpy(), sources=sources)
    if isinstance(module, FlattenLayer):
        return Flatten(name, shape, sources=sources)
    known = ", ".join(each.__name__ for each in LAYERS.values() if kind_in_integers(each))
    kind = f"{'nn.' if type(module).__module__.startswith('torch.nn') else ''}{type(module).__name__}"
    raise ExportError(
        f"layer {name}: {kind} has no integer form: use {known}, MaxPool2d, AvgPool2d, SumPool2d, Flatten and add of "
        "this package"
    )


def _has_integer_form(pool: MaxPool2d) -> bool:
    return isinstance(pool.kernel_size, int) and isinstance(pool.stride, int) and not pool.padding


def _in_steps(layer: Layer, given: Sequence[Array], steps: int, largest: int) -> Array:
    """Run a layer without neurons on integers `[N, ...]`, the same in every step, or `[T, N, ...]`, to 0..`largest`."""
    kind = np.min_scalar_type(largest)
    constant = [each.ndim == 1 + len(layer.in_shape) for each in given]
    if all(constant):
        return without_neurons(layer, *given).astype(kind)
    every = zip(given, constant, strict=True)
    each = [[values] * steps if same else values for values, same in every]
    return np.stack([without_neurons(layer, *now).astype(kind) for now in zip(*each, strict=True)])


def _host_readout(module: nn.Module, classes: int) -> HostReadout | None:
    """Return the readout, as the host runs it in floating point, or None if the module is none."""
    if isinstance(module, PopulationReadout):
        one = np.ones((1, module.size), np.float32), np.zeros(1, np.float32)
        signs, mean = np.ones(classes * module.size, np.int8), np.eye(classes) / module.size
        return HostReadout(1, 1.0, "relu", signs, mean, ((one,),) * classes)
    if not isinstance(module, MonoReadout):
        return None

    def numbers(tensor: Tensor | None, dtype: type) -> Array:
        assert tensor is not None  # mono-nets of a readout have biases
        found: Array = tensor.detach().numpy().astype(dtype)
        return found

    nets = []
    for net in module.nets:
        assert isinstance(net, FeedforwardNet)
        layers = [net.parameters_of(index) for index in range(len(net.maps))]
        nets.append(tuple((numbers(w, np.float32), numbers(b, np.float32)) for w, b in layers))
    activation = module.nets[0].activation
    assert isinstance(activation, str)
    polarity, code = numbers(module.polarity, np.int8), numbers(module.code, np.float64)
    return HostReadout(module.windows, module.beta, activation, polarity, code, tuple(nets))


def _runs_on_signals(module: nn.Module | None) -> bool:
    if isinstance(module, SpikingLayer):
        return isinstance(module.synapse, nn.Conv1d)
    return type(module) in IMAGE_POOLS


def _on_images(place: Place) -> nn.Module | None:
    """Return what runs along one axis as the same on images one pixel high; layers with neurons change in place.

    Raises:
        ExportError: with the layer's name, for what images have no integer form of.
    """
    module = place.module
    if isinstance(module, Pool) and type(module) in IMAGE_POOLS:
        window = (module.of(side, images=True) for side in ("kernel_size", "stride", "padding"))
        pool = IMAGE_POOLS[type(module)](*window)
        if isinstance(pool, MaxPool2d) and not _has_integer_form(pool):
            raise ExportError(
                f"layer {place.name}: {module} has no integer form: use AvgPool1d or SumPool1d, or a stride of the "
                "convolution before it"
            )
        return pool
    if isinstance(module, Border):
        return Border((0, *module.padding), module.get_buffer("fill"))
    signal: Any = module.synapse if isinstance(module, SpikingLayer) else None
    if isinstance(signal, nn.Conv1d) and isinstance(synapse_of(signal, signal.weight), Convolution):
        assert isinstance(module, SpikingLayer)
        sides = ((1, signal.kernel_size[0]), (1, signal.stride[0]))
        padding = signal.padding if isinstance(signal.padding, str) else (0, signal.padding[0])
        image = nn.Conv2d(
            signal.in_channels, signal.out_channels, *sides, padding, (1, signal.dilation[0]), signal.groups,
            signal.bias is not None,
        )  # fmt: skip
        image.weight, image.bias = nn.Parameter(signal.weight.detach().unsqueeze(2)), signal.bias
        for constant_ in module.kind.limits():
            value = getattr(module, constant_)
            setattr(module, constant_, value.unsqueeze(-2) if value.dim() == 2 else value)
        module.synapse = image
    elif isinstance(module, SpikingLayer) and not isinstance(module.synapse, nn.Linear):
        raise no_integer_form(place.name, module.synapse)
    return module


def _accuracy(spikes: Tensor, labels: Tensor) -> float:
    return float((spikes.sum(0).argmax(-1) == labels).float().mean())
