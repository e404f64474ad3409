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

What lava-dl has no fields for is in attributes, which it does not read; texts and integers are as in the artifact:

    of the root             format, encoder, levels, steps, class_names, notes (a JSON object of texts), checksum
    of each layer           name, in_shape
    of those with neurons   scale, float64 [out]; bits

The checksum is that of `hdf5.digest` of everything else in the file, sorted by path, the attributes of a group first.
`read_netx` takes only what `write_netx` writes, field by field.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spiking_lfp.deploy.hdf5 import Array, Reader, difference, digest, json_object, write_attribute
from spiking_lfp.deploy.layers import ByLayer, Conv, Dense, Flatten, Layer, MaxPool, Spiking, unsupported_neurons
from spiking_lfp.deploy.model import IntegerNetwork
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
    _check(network, early_bias)
    with _file(network) as file:
        image = file.id.get_file_image()
    EXPORTS.write(path, image)


def read_netx(path: str | Path) -> IntegerNetwork:
    """Read a file that `write_netx` wrote.

    Args:
        path: of the file.

    Raises:
        ExportError: if there is no such file, or `write_netx` did not write it, or it is damaged.
    """
    return _Reader.read(Path(path))


def _check(network: IntegerNetwork, early_bias: bool) -> None:
    """Raise an ExportError if a network is not valid, or netx cannot represent it."""
    network.check()
    refusal = _fill_layer.unsupported(network.layers)
    if refusal is not None:
        raise ExportError(refusal)
    for layer, inputs in network.with_inputs():
        if isinstance(layer, Spiking):
            refusal = _refusal(layer, inputs[0].largest, early_bias)
            if refusal is not None:
                raise ExportError(refusal)


def _refusal(layer: Spiking, largest: int, early_bias: bool) -> str | None:
    """Return what in a layer netx cannot represent, or None."""
    neuron, refusal = layer.neuron, unsupported_neurons(layer, "netx")
    if refusal is not None:
        return refusal
    if neuron.reset != "zero":
        refusal = f"its reset is {neuron.reset!r}, netx neurons reset to 'zero' only"
    elif neuron.frac_bits != FRAC_BITS:
        refusal = f"its membrane has {neuron.frac_bits} fraction bits, netx has {FRAC_BITS}"
    elif largest > 1:
        refusal = f"its inputs are 0..{largest}, netx layers take spikes; encode images as spikes"
    elif neuron.theta.min() != neuron.theta.max():
        refusal = f"its theta is {neuron.theta.min()}..{neuron.theta.max()}, netx has one threshold per layer"
    elif layer.bias.any() and not early_bias:
        refusal = (
            "its bias is not zero, and Lava adds it before the first inputs arrive; train without, or allow it with "
            "early_bias=True"
        )
    return None if refusal is None else f"layer {layer.name}: {refusal}"


def _file(network: IntegerNetwork) -> h5py.File:
    """Return the file of a network, in memory."""
    # from version 1.10 of the format on, HDF5's own structures have checksums too
    file = h5py.File.in_memory(libver=("v110", "v110"))
    for name, text in (("format", FORMAT), ("encoder", network.encoder), ("notes", json_object(network.notes))):
        write_attribute(file, name, text)
    write_attribute(file, "class_names", network.class_names)
    write_attribute(file, "levels", int(network.levels))
    write_attribute(file, "steps", int(network.steps))
    layers = file.create_group("layer")
    first = layers.create_group("0")
    first["type"] = _word("input")
    first["shape"] = np.array(network.in_shape, np.int64)
    # lava-dl flattens three axes only
    kept = [layer for layer in network.layers if not isinstance(layer, Flatten) or len(layer.in_shape) == 3]
    for i, layer in enumerate(kept, 1):
        group = layers.create_group(f"{i}")
        write_attribute(group, "name", layer.name)
        write_attribute(group, "in_shape", tuple(layer.in_shape))
        group["type"] = _word(layer.kind)
        _fill_layer(layer, group)
    write_attribute(file, "checksum", digest(_Reader(Path(), file).everything(file)))
    file.flush()
    return file


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
    group.attrs["scale"] = layer.scale
    write_attribute(group, "bits", int(layer.bits))
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


# reading


class _Reader(Reader[IntegerNetwork]):
    noun = "a netx network"
    remedy = "take an undamaged copy of the file, or write it again"

    def content(self) -> IntegerNetwork:
        """Read everything, and compare the checksum, and the file with what `write_netx` would write."""
        root = self.file
        if "format" not in root.attrs or self.text(root, "format") != FORMAT:
            raise ExportError(
                f"{self.path} was not written by write_netx: other files do not have the encoder and steps of a "
                "network; only those of write_netx are read"
            )
        found = dict(self.everything(root))
        found.pop("/checksum", None)
        self.compare(digest(found.items()), self.text(root, "checksum"))
        network = self.valid(self.network())
        with _file(network) as file:
            written = dict(_Reader(self.path, file).everything(file))
        del written["/checksum"]
        differs = difference(found, written)
        if differs is not None:
            self.refuse(*differs)
        return network

    def valid(self, network: IntegerNetwork) -> IntegerNetwork:
        """Return a network if it is valid and netx represents it."""
        try:
            _check(network, True)
        except ExportError as error:
            raise ExportError(f"{self.path} holds a network that is not valid: {error}") from None
        return network

    def network(self) -> IntegerNetwork:
        """Read the network."""
        root, folder = self.file, self.group(self.file, "layer")
        return IntegerNetwork(
            tuple(self.layer(self.group(folder, f"{i}")) for i in range(1, len(self.names(folder)))),
            self.choice(root, "encoder", ("constant", "spikes")),  # type: ignore[arg-type]
            self.number(root, "levels"),
            self.number(root, "steps"),
            self.texts(root, "class_names"),
            notes=self.texts_by_name("/notes", self.text(root, "notes")),
        )

    def layer(self, at: h5py.Group) -> Layer:
        """Read a layer; what follows from other fields is compared later."""
        kind = bytes(self.array(at, "type", "S10", (1,))[0])
        name, in_shape = self.text(at, "name"), self.shape(at, "in_shape")
        if kind == b"flatten":
            return Flatten(name, in_shape)
        if kind not in (b"dense", b"conv"):
            self.refuse(f"{at.name}/type", repr(kind), "dense, conv or flatten")
        weight = self.integers(at, "weight", (None,) * (2 if kind == b"dense" else 4), 127).astype(np.int8)
        neuron = self.group(at, "neuron")
        decay, theta = (self.scalar(neuron, part) for part in ("vDecay", "vThMant"))
        fields: dict[str, Any] = {
            "name": name,
            "in_shape": in_shape,
            "weight": weight,
            "bias": self.integers(at, "bias", (len(weight),), 2**24).astype(np.int32),
            "scale": np.asarray(self.attribute(at, "scale", "f", 1, "numbers, float64"), np.float64),
            "bits": self.number(at, "bits"),
            "neuron": IntegerLIF(np.full(len(weight), theta, np.int32), decay, FRAC_BITS, "zero"),
        }
        if kind == b"dense":
            return Dense(**fields)
        stride, padding = (
            (int(y), int(x)) for y, x in (self.array(at, part, "<i8", (2,)) for part in ("stride", "padding"))
        )
        return Conv(**fields, stride=stride, padding=padding, groups=self.scalar(at, "groups"))

    def integers(self, at: h5py.Group, name: str, shape: tuple[int | None, ...], most: int) -> Array:
        """Read float32 that are integers of at most this size."""
        found = self.array(at, name, "<f4", shape)
        wrong = found[~((found == np.rint(found)) & (np.abs(found) <= most))]
        if wrong.size:
            self.refuse(f"{at.name}/{name}", f"{wrong[0]} somewhere", f"integers, -{most}..{most}")
        return found

    def scalar(self, at: h5py.Group, name: str) -> int:
        """Read a data set of one integer."""
        return self.in_range(at, name, [int(self.array(at, name, "<i8", ()))])[0]
