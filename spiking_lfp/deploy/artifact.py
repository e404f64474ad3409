"""The artifact, the file of an integer network: HDF5, complete, with a checksum, read without torch or running code.

Any HDF5 library from version 1.10 on reads it. Numbers are little-endian, arrays in C order, texts UTF-8 of fixed
length, padded with zeros. "Attribute" and "data set" are those of HDF5; k is the number of a layer from 000, in the
order in which they run. Anything else in a file is ignored.

Attributes of the root:

    format       text                  "spiking_lfp integer network"
    schema       int64 ()              the version of this description: 4 with "pad" or decays of each output, 3 with
                                       "recurrent" or "sequence", 2 with sources, "add" or "sum_pool", else 1
    encoder      text                  "constant": integers 0..levels, the same in every step; "sequence": such
                                       integers of every step; "spikes": 0 or 1 of every step
    levels       int64 ()              the largest input value: an intensity of 1 becomes `levels`; 1 for spikes
    steps        int64 ()              T, time steps of one inference
    class_names  text [classes]        one for each output
    notes        text                  a JSON object of texts: how the network was trained and quantised
    checksum     text                  SHA-256 of the content, 64 hexadecimal digits; see below

and of "sequence" the data set

    /span        float64 [2]           the real values for which the integers 0 and `levels` stand

Attributes of the group /layers/k:

    kind         text                  "dense", "recurrent", "conv", "max_pool", "flatten", "add", "sum_pool"
                                       or "pad"
    name         text                  the layer's path in the network it came from, not empty
    in_shape     int64 [axes]          the shape of one sample's input: features, or channels, height, width
    sources      text [any]            names of the layers before it whose outputs it takes, "" for the inputs of the
                                       network; without it the layer directly before, of layer 000 the inputs

and of those with neurons, "dense", "recurrent" and "conv":

    neuron       text                  the kind of neuron; not of "lif", leaky integrate-and-fire. Each kind has a class
                                       in `spiking_lfp.integers` with its equations. "li" does not fire: its membranes
                                       are the outputs, and it is the last layer
    decay        int64 ()              of the membrane, see `leak`; not if it is a data set
    frac_bits    int64 ()              fraction bits of the membrane, below one weight unit
    reset        text                  "zero", "subtract" (one step delayed) or "subtract_decayed"; not of "li"
    leak         text                  "mul12_trunc": (|V| * (4096 - decay)) >> 12, then V's sign, decay 0..4095;
                                       "mul12_floor": (V * (4096 - decay)) >> 12, which rounds down;
                                       "shift": V - (V >> decay), or V - 1 where V > 0 and V >> decay is 0, decay 0..15
    NAME         int64 ()              of other kinds than "lif": each further constant of its class, in the order and
                                       by the name there; such a decay is that of another state, with the same leak,
                                       and as the first one an attribute or a data set
    bits         int64 ()              of the weights, 2..8, in -(2^(bits-1) - 1) .. 2^(bits-1) - 1

Neurons compare V > theta 2^frac_bits, V has 24 bits and saturates at +-(2^23 - 1), and the leak is "mul12_trunc". A
layer of any other arithmetic has the group /layers/k/arithmetic with the attributes

    name            text               for messages only
    weight_bits     int64 ()           largest width of a weight, 2..8
    membrane_bits   int64 ()           of the membrane V, sign included, 2..24
    frac_bits       int64 ()           the largest that a layer may have, 0..6
    comparison      text               ">" or ">=": how V is compared with theta 2^frac_bits for a spike
    resets          text [any]         those that a layer may have
    overflow        text               "symmetric": V saturates at +-(2^(membrane_bits-1) - 1); "saturate": at
                                       -2^(membrane_bits-1) and 2^(membrane_bits-1) - 1; "wrap": it wraps around
    accumulation    text               "events", see `integers.arithmetic`; without it "sum"
    spikes          int64 ()           how often a neuron spikes in a step at most, 2..255; without it 1

Versions from before this group refuse such a file because of its leak or its checksum.

Attributes of "conv": kernel, stride, padding, int64 [2], rows then columns, in pixels; groups, int64 ();
of "max_pool": kernel, stride, int64 (), in pixels, the same for rows and columns; of "sum_pool": kernel, stride,
padding as of "conv"; divisor, int64 (): the sum that stands for 1, 1 or the size of the window, where it is a mean; of
"recurrent": factor, int64 (): a spike of its own neurons in the step before adds factor times its recurrent weight; and
of "pad": padding as of "conv", and a data set fill, int32 [C]: the value of each channel in the border of its images.

"add" adds its sources value by value, "sum_pool" adds up windows: values between layers are integers, not only 0 and 1,
and "max_pool" takes the largest.

Data sets of the group /layers/k of layers with neurons, for O outputs (neurons or channels):

    weight       int8 [O, I]           dense, recurrent; a convolution's is [O, channels / groups, rows, columns]
    bias         int32 [O]             in weight units, added in every step
    scale        float64 [O]           the floating-point weight is scale * weight
    recurrent    int8 [O, O]           of "recurrent": from each neuron, along the last axis, to each
    theta        int32 [O]             the threshold, in weight units; not of "li"
    decay        int32 [O]             of each output, where they are not all the same, in place of the attribute; and
                                       so are further decays, which come after it

If there is a readout on the host, it is in the group /readout, see `readout.HostReadout`. For n neurons of the last
layer, C classes and K decisions by nets of L layers it has the attributes

    activation   text                  "tanh", "hard-tanh" or "relu"
    windows      int64 ()              number of windows of equal length in which spikes are counted
    decisions    int64 ()              K
    depth        int64 ()              L

and data sets

    /readout/decay       float64 [1]         `HostReadout.beta`: what a step keeps of the weight of a spike
    /readout/polarity    int8 [n]            1 or -1
    /readout/code        float64 [C, K]      weights of decisions in the scores of classes
    /readout/k/l/weight  float32 [O, I]      of decision k, layer l, both from 000 on
    /readout/k/l/bias    float32 [O]

Data sets of a golden run of N samples, if there is a group /golden:

    /golden/inputs    uint8 0..levels, [N, *in_shape] of encoder "constant", else [T, N, *in_shape]
    /golden/spikes/k  uint8 [T, N, *out_shape], how many, gzip, of every layer with neurons; int32, membranes, of "li"

The checksum is the SHA-256 of records in the order above: root attributes without the checksum, /span, then layer by
layer its attributes, with those of its arithmetic before `bits` and NAME before `leak`, data sets, attributes of its
kind only, then the readout, then inputs and spikes. A record is the line

    PATH TYPE SHAPE "\\n"

in ASCII, for example `/layers/000/bias <i4 10` or `/layers/000/weight |i1 10x784`, followed by the bytes of the value.
TYPE is NumPy's name for it or `utf8`; SHAPE is empty for single numbers, and the number of bytes for texts. The class
names are one record each, `/class_names/0` and so on. Compression and layout of the file do not matter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from math import prod
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np

from spiking_lfp.arguments import describe
from spiking_lfp.deploy.hdf5 import LARGEST_NUMBER, LARGEST_TEXT, Reader, Value, digest, json_object, write_attribute
from spiking_lfp.deploy.layers import LAYERS, Add, Layer, Pad, Recurrent, Shape, Spiking, SumPool
from spiking_lfp.deploy.model import ENCODINGS, Encoding, GoldenRun, IntegerNetwork
from spiking_lfp.deploy.pretrained import network_path
from spiking_lfp.deploy.readout import HostReadout
from spiking_lfp.errors import ExportError, UsageError
from spiking_lfp.files import EXPORTS
from spiking_lfp.integers import NEURONS, IntegerLIF, IntegerNeuron
from spiking_lfp.integers.arithmetic import DEFAULT, Arithmetic
from spiking_lfp.integers.fields import (
    ArrayOf,
    Constraint,
    IntegerRange,
    IntegerTuple,
    OneOrEach,
    Sizes,
    Texts,
    constraints,
)

FORMAT = "spiking_lfp integer network"
# of chains, of other graphs, and of what came later: what older versions read stays as it was
SCHEMAS = (1, 2, 3, 4)

_MOST_LAYERS = 1000
_MOST_DECISIONS = 1000

# the fields that all layers with neurons have
_COMMON = {each.name for each in fields(Spiking)}


def save_network(network: IntegerNetwork, path: str | Path) -> None:
    """Write a network, and its golden run if it has one, to one file: whole, or not at all.

    The same network gives the same bytes.

    Args:
        network: to write.
        path: of the file, which is replaced if it exists; by convention `NAME.h5`.

    Raises:
        ExportError: if the network is not valid, or the file cannot be written.
    """
    check_content(network)
    EXPORTS.write(Path(path), _image(network))


def load_network(path: str | Path) -> IntegerNetwork:
    """Read and check a file that `save_network` wrote.

    Args:
        path: of the file.

    Raises:
        ExportError: if there is no such file, or it is of another format, damaged, of another schema, or not valid.
    """
    return _Reader.read(Path(path))


def as_network(network: IntegerNetwork | str | Path) -> IntegerNetwork:
    """Return an integer network as it is, or the one in a file or of a name in the package.

    Raises:
        UsageError: for an unknown name, with the nearest, and if it is none of these.
        ExportError: if the file is no network, or damaged.
    """
    if isinstance(network, IntegerNetwork):
        return network
    if not isinstance(network, str | Path):
        raise UsageError(
            f"network is {describe(network)}, expected an integer network, its file or the name of one in the package: "
            "export makes one"
        )
    return load_network(network_path(network))


def checksum(network: IntegerNetwork) -> str:
    """Return the SHA-256 of all content, in the order of the docstring of this module, as 64 digits."""
    return digest(_records(network))


def _records(network: IntegerNetwork) -> Iterator[tuple[str, Value]]:
    """Yield everything but the checksum, by path: arrays become data sets, the rest attributes."""
    yield "/format", FORMAT
    yield "/schema", _schema(network)
    yield "/encoder", network.encoder
    yield "/levels", int(network.levels)
    yield "/steps", int(network.steps)
    yield "/class_names", network.class_names
    yield "/notes", json_object(network.notes)
    if network.encoder == "sequence":
        yield "/span", np.array(network.span, np.float64)
    for k, layer in enumerate(network.layers):
        yield from _layer_records(f"/layers/{k:03d}/", layer)
    if network.readout is not None:
        yield from _readout_records(network.readout)
    if network.golden is not None:
        yield "/golden/inputs", network.golden.inputs
        for k, layer in enumerate(network.layers):
            if isinstance(layer, Spiking):
                yield f"/golden/spikes/{k:03d}", network.golden.spikes[layer.name]


def _schema(network: IntegerNetwork) -> int:
    """Return the version of the description that a network needs."""
    own_decays = any(layer.neuron.differing_decays for layer in network.spiking)
    if own_decays or any(isinstance(layer, Pad) for layer in network.layers):
        return 4
    if network.encoder == "sequence" or any(isinstance(layer, Recurrent) for layer in network.layers):
        return 3
    return 2 if any(layer.sources or isinstance(layer, Add | SumPool) for layer in network.layers) else 1


def _layer_records(at: str, layer: Layer) -> Iterator[tuple[str, Value]]:
    yield at + "kind", layer.kind
    yield at + "name", layer.name
    yield at + "in_shape", _numbers(layer.in_shape)
    if layer.sources:
        yield at + "sources", layer.sources
    common = [name for name in constraints(type(layer)) if name in _COMMON]
    if isinstance(layer, Spiking):
        neuron = layer.neuron
        if type(neuron) is not IntegerLIF:
            yield at + "neuron", neuron.kind
        yield from _field_records(at, neuron, arrays=False)
        yield at + "leak", neuron.arithmetic.leak
        if neuron.arithmetic != DEFAULT:
            yield from _field_records(at + "arithmetic/", neuron.arithmetic, but=["leak", *_usual(neuron.arithmetic)])
        own = [name for name in constraints(type(layer)) if name not in common]
        yield from _field_records(at, layer, arrays=False, but=own)
        yield from _field_records(at, layer, arrays=True)
        yield from _field_records(at, neuron, arrays=True)
    for name, constraint in layer.derived.items():
        yield at + name, _value(constraint, getattr(layer, name))
    yield from _field_records(at, layer, arrays=False, but=common)
    if not isinstance(layer, Spiking):
        yield from _field_records(at, layer, arrays=True)


def _usual(arithmetic: Arithmetic) -> list[str]:
    """Return the fields that a file leaves out: those whose value is the default of the class."""
    return [each.name for each in fields(Arithmetic) if getattr(arithmetic, each.name) == each.default]


def _field_records(
    at: str, owner: Any, arrays: bool | None = None, but: Sequence[str] = ()
) -> Iterator[tuple[str, Value]]:
    """Yield the fields of a dataclass that have a constraint, but for some: only arrays, all others, or all."""
    for name, constraint in constraints(type(owner)).items():
        value = getattr(owner, name)
        form = constraint.of(value) if isinstance(constraint, OneOrEach) else constraint
        if name not in but and arrays in (None, isinstance(form, ArrayOf)):
            yield at + name, _value(form, value)


def _value(constraint: Constraint, value: Any) -> Value:
    """Return the value of a field as it is in a record."""
    if isinstance(constraint, IntegerRange):
        return int(value)
    found: Value = _numbers(value) if isinstance(constraint, IntegerTuple) else value
    return found


def _readout_records(readout: HostReadout) -> Iterator[tuple[str, Value]]:
    yield "/readout/activation", readout.activation
    yield "/readout/windows", int(readout.windows)
    yield "/readout/decisions", len(readout.nets)
    yield "/readout/depth", len(readout.nets[0])
    yield "/readout/decay", np.array([readout.beta], np.float64)
    yield "/readout/polarity", readout.polarity
    yield "/readout/code", readout.code
    for k, net in enumerate(readout.nets):
        for index, (weight, bias) in enumerate(net):
            yield f"/readout/{k:03d}/{index:03d}/weight", weight
            yield f"/readout/{k:03d}/{index:03d}/bias", bias


def _numbers(values: Sequence[int]) -> tuple[int, ...]:
    return tuple(map(int, values))


def check_content(network: IntegerNetwork) -> IntegerNetwork:
    """Return a network, or raise an ExportError if it is not valid, no file holds it, or its golden run is wrong."""
    network.check()
    if len(network.layers) > _MOST_LAYERS:
        raise ExportError(f"the network has {len(network.layers)} layers, a file holds {_MOST_LAYERS} at most")
    decisions = 0 if network.readout is None else len(network.readout.nets)
    if decisions > _MOST_DECISIONS:
        raise ExportError(f"the readout has {decisions} decisions, a file holds {_MOST_DECISIONS}: train one-vs-rest")
    for text in network.texts():
        if len(text) > LARGEST_TEXT // 8:
            raise ExportError(f"a name or note has {len(text)} characters, a file holds {LARGEST_TEXT // 8} at most")
    for layer in network.layers:
        if not layer.name:
            raise ExportError("a layer has no name: give each one its path in the network")
        if max(prod(layer.in_shape), prod(layer.out_shape)) > LARGEST_NUMBER:
            raise ExportError(
                f"layer {layer.name}: {list(layer.in_shape)} to {list(layer.out_shape)} is more than a file holds"
            )
    if network.steps > LARGEST_NUMBER:
        raise ExportError(f"the network runs {network.steps} steps, a file holds {LARGEST_NUMBER} at most")
    if network.golden is not None:
        _check_golden(network, network.golden)
    return network


def _check_golden(network: IntegerNetwork, golden: GoldenRun) -> None:
    """Raise an ExportError if shapes or values of the golden run do not fit the network's layers."""
    lead = 1 if network.encoder == "constant" else 2
    inputs = golden.inputs
    if inputs.dtype != np.uint8 or inputs.shape[lead:] != network.in_shape or inputs.ndim < lead or 0 in inputs.shape:
        layout = "[N, ...]" if lead == 1 else "[T, N, ...]"
        raise ExportError(
            f"golden run: inputs are {inputs.dtype} {list(inputs.shape)}, expected uint8 {layout} of samples "
            f"{list(network.in_shape)}"
        )
    if inputs.max() > network.levels:
        raise ExportError(f"golden run: an input is {inputs.max()}, expected 0..{network.levels}")
    names = [layer.name for layer in network.spiking]
    if set(golden.spikes) != set(names):
        raise ExportError(f"golden run: has spikes of {sorted(golden.spikes)}, expected of the layers {sorted(names)}")
    leading = _golden_shape(network, inputs.shape)
    for layer in network.spiking:
        spikes, expected = golden.spikes[layer.name], (*leading, *layer.out_shape)
        if spikes.dtype != _golden_type(layer) or spikes.shape != expected:
            raise ExportError(
                f"golden run, layer {layer.name}: spikes are {spikes.dtype} {list(spikes.shape)}, expected "
                f"{_golden_type(layer)} {list(expected)}"
            )
        most = layer.neuron.arithmetic.spikes
        if layer.neuron.spiking and spikes.max() > most:
            allowed = "0 or 1" if most == 1 else f"0..{most}"
            raise ExportError(f"golden run, layer {layer.name}: a spike is {spikes.max()}, expected {allowed}")


def _golden_type(layer: Spiking) -> str:
    """Return the dtype of a layer's outputs in a golden run."""
    return "uint8" if layer.neuron.spiking else "int32"


def _golden_shape(network: IntegerNetwork, inputs: Shape) -> tuple[int, int]:
    """Return (T, N) of the spikes of a golden run with inputs of this shape."""
    return (network.steps, inputs[0]) if network.encoder == "constant" else (inputs[0], inputs[1])


# writing


def _image(network: IntegerNetwork) -> bytes:
    """Return the bytes of the file."""
    # from version 1.10 of the format on, HDF5's own structures have checksums too
    with h5py.File.in_memory(libver=("v110", "v110")) as file:
        for where, value in [*_records(network), ("/checksum", checksum(network))]:
            folder, _, name = where.rpartition("/")
            if isinstance(value, np.ndarray):
                packed = {"compression": "gzip"} if folder == "/golden/spikes" else {}
                little = value.dtype.newbyteorder("<")
                file.create_dataset(where, data=value.astype(little), dtype=little, track_times=False, **packed)
                continue
            write_attribute(file.require_group(folder) if folder else file, name, value)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


# reading


class _Reader(Reader[IntegerNetwork]):
    noun = "an exported network"
    remedy = "take an undamaged copy of the file, or export the network again"

    def content(self) -> IntegerNetwork:
        """Read everything, and compare the checksum."""
        root = self.file
        if "format" not in root.attrs:
            raise ExportError(
                f"{self.path} is an HDF5 file of another kind: it has no attribute format, expected {FORMAT!r}"
            )
        found = self.text(root, "format")
        if found != FORMAT:
            raise ExportError(f"{self.path} is an HDF5 file of another kind: its format is {found!r}, not {FORMAT!r}")
        schema = self.number(root, "schema")
        if schema not in SCHEMAS:
            raise ExportError(
                f"{self.path} has schema {schema}, this version reads schema {', '.join(map(str, SCHEMAS))}: export "
                "the network again, or install the version of spiking_lfp that wrote it"
            )
        encoder = self.choice(root, "encoder", ENCODINGS)
        span = self.array(root, "span", "<f8", (2,)).tolist() if encoder == "sequence" else (0.0, 1.0)
        network = IntegerNetwork(
            self.layers(),
            cast(Encoding, encoder),
            self.number(root, "levels"),
            self.number(root, "steps"),
            self.texts(root, "class_names"),
            notes=self.texts_by_name("/notes", self.text(root, "notes")),
            readout=self.readout() if "readout" in root else None,
            span=(span[0], span[1]),
        )
        if _schema(network) != schema:
            self.refuse("/schema", str(schema), f"{_schema(network)} as its layers have it")
        # the sizes of a golden run follow from the layers, so these must be in order before it is read
        self.valid(network)
        if "golden" in root:
            network = IntegerNetwork(**{**vars(network), "golden": self.golden(network)})
        self.compare(checksum(network), self.text(root, "checksum"))
        return self.valid(network)

    def valid(self, network: IntegerNetwork) -> IntegerNetwork:
        """Return a network if it is valid."""
        try:
            check_content(network)
        except ExportError as error:
            raise ExportError(f"{self.path} holds a network that is not valid: {error}") from None
        return network

    def layers(self) -> tuple[Layer, ...]:
        """Read all layers."""
        folder = self.group(self.file, "layers")
        if not 1 <= len(folder) <= _MOST_LAYERS:
            self.refuse("/layers", f"a group of {len(folder)}", f"1..{_MOST_LAYERS} layers")
        return tuple(self.layer(self.group(folder, f"{k:03d}")) for k in range(len(folder)))

    def layer(self, at: h5py.Group) -> Layer:
        """Read one layer."""
        kind, name, in_shape = self.text(at, "kind"), self.text(at, "name"), self.shape(at, "in_shape")
        if kind not in LAYERS:
            self.refuse(f"{at.name}/kind", repr(kind), ", ".join(LAYERS))
        sizes: Sizes = {}
        sources = self.texts(at, "sources") if "sources" in at.attrs else ()
        known: dict[str, Any] = {
            "name": name, "in_shape": in_shape, "sources": sources, **self.fields(at, LAYERS[kind], sizes),
        }  # fmt: skip
        if issubclass(LAYERS[kind], Spiking):
            known["neuron"] = self.neuron(at, sizes)
        layer = LAYERS[kind](**known)
        for name, constraint in layer.derived.items():
            found, follows = self.value(at, name, constraint, sizes), getattr(layer, name)
            if found != follows:
                self.refuse(f"{at.name}/{name}", str(list(found)), f"{list(follows)} as the weights have it")
        return layer

    def neuron(self, at: h5py.Group, sizes: Sizes) -> IntegerNeuron:
        """Read the neurons of a layer, with the lengths of the axes of its weights."""
        kind = self.text(at, "neuron") if "neuron" in at.attrs else IntegerLIF.kind
        if kind not in NEURONS:
            self.refuse(f"{at.name}/neuron", repr(kind), ", ".join(NEURONS))
        arithmetic = DEFAULT
        if "arithmetic" in at:
            leak = self.value(at, "leak", constraints(Arithmetic)["leak"], sizes)
            group = self.group(at, "arithmetic")
            left_out = [each.name for each in fields(Arithmetic) if each.default is not MISSING]
            absent = [name for name in left_out if name not in group.attrs]
            about = self.fields(group, Arithmetic, sizes, but=["leak", *absent])
            arithmetic = Arithmetic(leak=leak, **about)
        elif self.text(at, "leak") != arithmetic.leak:
            self.refuse(f"{at.name}/leak", repr(self.text(at, "leak")), repr(arithmetic.leak))
        make: Any = NEURONS[kind]
        found: IntegerNeuron = make(arithmetic=arithmetic, **self.fields(at, NEURONS[kind], sizes))
        return found

    def fields(self, at: h5py.Group, kind: type, sizes: Sizes, but: Sequence[str] = ()) -> dict[str, Any]:
        """Read the fields of a dataclass that have a constraint, but for some."""
        return {
            name: self.value(at, name, constraint, sizes)
            for name, constraint in constraints(kind).items()
            if name not in but
        }

    def value(self, at: h5py.Group, name: str, constraint: Constraint, sizes: Sizes) -> Any:
        """Read a field; the lengths of named axes of arrays are added to `sizes`."""
        if isinstance(constraint, OneOrEach):
            if name in at.attrs and name in at:
                self.refuse(f"{at.name}/{name}", "an attribute and a data set", "one of them")
            constraint = constraint.each if name in at else constraint.one
        if isinstance(constraint, IntegerRange):
            return self.number(at, name)
        if isinstance(constraint, IntegerTuple):
            return self.numbers(at, name, constraint.count)
        if isinstance(constraint, ArrayOf):
            little = np.dtype(constraint.dtype).newbyteorder("<").str
            found = self.array(at, name, little, constraint.shape(sizes)).astype(constraint.dtype)
            sizes |= dict(zip(constraint.axes, found.shape, strict=True))
            return found
        text = self.texts(at, name) if isinstance(constraint, Texts) else self.text(at, name)
        mismatch = constraint.mismatch(text, None, sizes)
        if mismatch is not None:
            self.refuse(f"{at.name}/{name}", *mismatch)
        return text

    def readout(self) -> HostReadout:
        """Read the readout."""
        at = self.group(self.file, "readout")
        decisions, depth = self.number(at, "decisions"), self.number(at, "depth")
        if not (1 <= decisions <= _MOST_DECISIONS and 1 <= depth <= _MOST_LAYERS):
            self.refuse(at.name, f"{decisions} decisions of {depth} layers", f"1..{_MOST_DECISIONS}, 1..{_MOST_LAYERS}")
        nets = []
        for k in range(decisions):
            net = self.group(at, f"{k:03d}")
            layers = [self.group(net, f"{index:03d}") for index in range(depth)]
            arrays = [
                (self.array(layer, "weight", "<f4", (None, None)), self.array(layer, "bias", "<f4", (None,)))
                for layer in layers
            ]
            nets.append(tuple((weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in arrays))
        return HostReadout(
            self.number(at, "windows"),
            float(self.array(at, "decay", "<f8", (1,))[0]),
            self.text(at, "activation"),
            self.array(at, "polarity", "|i1", (None,)).astype(np.int8),
            self.array(at, "code", "<f8", (None, decisions)).astype(np.float64),
            tuple(nets),
        )

    def golden(self, network: IntegerNetwork) -> GoldenRun:
        """Read the golden run."""
        at = self.group(self.file, "golden")
        lead = 1 if network.encoder == "constant" else 2
        inputs = self.array(at, "inputs", "|u1", (*(None,) * lead, *network.in_shape))
        leading = _golden_shape(network, inputs.shape)
        folder = self.group(at, "spikes")
        spikes = {
            layer.name: self.array(folder, f"{k:03d}", _golden_type(layer), (*leading, *layer.out_shape)).astype(
                _golden_type(layer)
            )
            for k, layer in enumerate(network.layers)
            if isinstance(layer, Spiking)
        }
        return GoldenRun(inputs, spikes)
