"""netx networks: the HDF5 files of lava-dl, which Lava runs on Loihi and in its bit-accurate simulation.

`/layer/<i>`, from 0, in the order in which they run; numbers are scalars, pairs are (rows, columns):

    type                "input", "dense", "conv" or "flatten", a one-element array of 10 bytes
    shape               of one sample's output, [features] or [channels, height, width]; not of "flatten"
    weight              float32 holding integers, [out, in] or [out, in, kernel rows, kernel columns], as in torch
    bias                float32 [out], integers in weight units, added in every step
    inChannels, outChannels, groups, kernelSize, stride, padding, dilation      of "conv"
    neuron/type         "CUBA": with iDecay = 4096 the current lasts one step
    neuron/iDecay, vDecay, vThMant, refDelay, gradedSpike      4096, decay, theta, 1, False

The neuron resets to zero, compares with vThMant << 6 and adds currents << 6: six fraction bits, one threshold per
layer, spikes as inputs. Anything else is refused. In Lava each layer has a delay of one step: layer l, from 1, spikes l
steps late. Its bias is added from the first step on, so l steps before its first inputs arrive: biases are refused too,
unless `early_bias` accepts spikes that differ at the beginning. In Lava samples have axes (width, height, channels);
after a leading "flatten" they are flat, in the order of this package.

What lava-dl has no fields for is in attributes, which it does not read: of the root `format`, `encoder`, `levels`,
`steps`, `class_names` and `notes` (JSON), of each layer `name` and `in_shape`, and of those with neurons `scale` and
`bits`.
"""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spiking_lfp.deploy.model import (
    Array,
    ByLayer,
    Conv,
    Dense,
    Flatten,
    IntegerNetwork,
    Layer,
    MaxPool,
    Spiking,
    unsupported_neurons,
)
from spiking_lfp.errors import ExportError
from spiking_lfp.files import EXPORTS
from spiking_lfp.integers import IntegerLIF
from spiking_lfp.integers.arithmetic import DEFAULT

FORMAT = "spiking_lfp netx"
# of membranes: Lava shifts currents and thresholds by as many bits
FRAC_BITS = DEFAULT.frac_bits


def write_netx(network: IntegerNetwork, path: str | Path, early_bias: bool = False) -> None:
    """Write an integer network as a netx file.

    Args:
        network: with reset "zero", six fraction bits, one theta per layer, no max pooling, and spikes as inputs.
        path: of the file, which is replaced if it exists; by convention `NAME.net`.
        early_bias: write biases, although Lava adds those of layer l for l steps before its first inputs arrive.

    Raises:
        ExportError: with the layer's name and what netx cannot represent, or if the file cannot be written.
    """
    path = Path(path)
    network.check()
    for layer, levels in network.with_levels():
        if isinstance(layer, Spiking):
            refusal = _refusal(layer, levels, early_bias)
            if refusal is not None:
                raise ExportError(refusal)
    with EXPORTS.writing(path) as temporary, h5py.File(temporary, "w") as file:
        _fill(file, network)


def read_netx(path: str | Path) -> IntegerNetwork:
    """Read a file that `write_netx` wrote.

    Args:
        path: of the file.

    Raises:
        ExportError: if there is no such file, or `write_netx` did not write it, or it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise ExportError(f"there is no file {path}: name a netx file that write_netx wrote")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise ExportError(
                    f"{path} was not written by write_netx: other files do not have the encoder and steps of a "
                    "network; only those of write_netx are read"
                )
            return _network(file).check()
    except (OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise ExportError(f"{path} is damaged: {error}; write it again") from error


def _refusal(layer: Spiking, levels: int, early_bias: bool) -> str | None:
    """Return what in a layer netx cannot represent, or None."""
    neuron, refusal = layer.neuron, unsupported_neurons(layer, "netx")
    if refusal is not None:
        return refusal
    if neuron.reset != "zero":
        refusal = f"its reset is {neuron.reset!r}, netx neurons reset to 'zero' only"
    elif neuron.frac_bits != FRAC_BITS:
        refusal = f"its membrane has {neuron.frac_bits} fraction bits, netx has {FRAC_BITS}"
    elif levels > 1:
        refusal = f"its inputs are 0..{levels}, netx layers take spikes; encode images as spikes"
    elif neuron.theta.min() != neuron.theta.max():
        refusal = f"its theta is {neuron.theta.min()}..{neuron.theta.max()}, netx has one threshold per layer"
    elif layer.bias.any() and not early_bias:
        refusal = (
            "its bias is not zero, and Lava adds it before the first inputs arrive; train without, or allow early_bias"
        )
    return None if refusal is None else f"layer {layer.name}: {refusal}"


def _fill(file: h5py.File, network: IntegerNetwork) -> None:
    about = {"class_names": json.dumps(network.class_names), "notes": json.dumps(network.notes)}
    about |= {"format": FORMAT, "encoder": network.encoder}
    file.attrs.update({**about, "levels": network.levels, "steps": network.steps})
    layers = file.create_group("layer")
    first = layers.create_group("0")
    first["type"] = _word("input")
    first["shape"] = np.array(network.in_shape, np.int64)
    # lava-dl flattens three axes only
    kept = [layer for layer in network.layers if not isinstance(layer, Flatten) or len(layer.in_shape) == 3]
    for i, layer in enumerate(kept, 1):
        group = layers.create_group(f"{i}")
        group.attrs.update({"name": layer.name, "in_shape": np.array(layer.in_shape, np.int64)})
        group["type"] = _word(layer.kind)
        _fill_layer(layer, group)


# Write the fields of a kind of layer.
_fill_layer: ByLayer[None] = ByLayer("netx")


@_fill_layer.register(MaxPool)
def _(layer: MaxPool, group: h5py.Group) -> None:
    raise ExportError(f"layer {layer.name}: netx has no max pooling; use convolutions with a stride")


@_fill_layer.register(Flatten)
def _(layer: Flatten, group: h5py.Group) -> None:
    """Write nothing: a flatten has no fields."""


@_fill_layer.register(Dense)
def _(layer: Dense, group: h5py.Group) -> None:
    _fill_synapse(group, layer)
    _fill_neuron(group, layer)


@_fill_layer.register(Conv)
def _(layer: Conv, group: h5py.Group) -> None:
    _fill_synapse(group, layer)
    group["inChannels"], group["outChannels"], group["groups"] = layer.in_shape[0], layer.outputs, layer.groups
    pairs = {"kernelSize": layer.kernel, "stride": layer.stride, "padding": layer.padding, "dilation": (1, 1)}
    for name, pair in pairs.items():
        group[name] = np.array(pair, np.int64)
    _fill_neuron(group, layer)


def _fill_synapse(group: h5py.Group, layer: Spiking) -> None:
    group.attrs.update({"scale": layer.scale, "bits": layer.bits})
    group["shape"] = np.array(layer.out_shape, np.int64)
    group["weight"] = layer.weight.astype(np.float32)
    # currents are less than 2^17: float32 represents them exactly
    group["bias"] = layer.bias.astype(np.float32)


def _fill_neuron(group: h5py.Group, layer: Spiking) -> None:
    neuron = group.create_group("neuron")
    neuron["type"] = _word("CUBA")
    neuron["gradedSpike"] = False
    numbers = {"iDecay": 4096, "vDecay": layer.neuron.decay, "vThMant": int(layer.neuron.theta[0]), "refDelay": 1}
    for name, number in numbers.items():
        neuron[name] = number


def _word(text: str) -> Array:
    return np.array([text.encode("ascii")], "S10")


def _network(file: h5py.File) -> IntegerNetwork:
    about, groups = file.attrs, file["layer"]
    layers = tuple(_layer(groups[f"{i}"]) for i in range(1, len(groups)))
    encoder, levels, steps = str(about["encoder"]), int(about["levels"]), int(about["steps"])
    names, notes = (json.loads(about[name]) for name in ("class_names", "notes"))
    # check() refuses unknown encoders
    return IntegerNetwork(layers, encoder, levels, steps, tuple(names), notes=notes)  # type: ignore[arg-type]


def _layer(group: h5py.Group) -> Layer:
    kind = bytes(group["type"][0]).decode("ascii")
    name, in_shape = str(group.attrs["name"]), tuple(int(side) for side in group.attrs["in_shape"])
    if kind == "flatten":
        return Flatten(name, in_shape)
    if kind not in ("dense", "conv"):
        raise ValueError(f"layer {name} is of type {kind!r}, expected dense, conv or flatten")
    weight, bias = (group[part][()] for part in ("weight", "bias"))
    neuron = {part: int(group["neuron"][part][()]) for part in ("iDecay", "vDecay", "vThMant")}
    if neuron["iDecay"] != 4096:
        raise ValueError(f"layer {name} has iDecay {neuron['iDecay']}, expected 4096")
    fields: dict[str, Any] = {
        "name": name,
        "in_shape": in_shape,
        "weight": weight.astype(np.int8),
        "bias": bias.astype(np.int32),
        "scale": group.attrs["scale"],
        "bits": int(group.attrs["bits"]),
        "neuron": IntegerLIF(np.full(len(weight), neuron["vThMant"], np.int32), neuron["vDecay"], FRAC_BITS, "zero"),
    }
    if kind == "dense":
        return Dense(**fields)
    stride, padding = (tuple(int(side) for side in group[part][()]) for part in ("stride", "padding"))
    return Conv(**fields, stride=stride, padding=padding, groups=int(group["groups"][()]))  # type: ignore[arg-type]
