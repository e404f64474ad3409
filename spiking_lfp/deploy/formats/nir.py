"""NIR graphs (`nir` 1.0.8), of float networks and of integer networks: written so that other readers run them the same.

A network is a chain of nodes from "input" to "output", without time and batch in their shapes:

    LIF, Dense, Conv    layer<k>_weights: Affine, Linear (no bias), Conv2d; then layer<k>_neurons:
                        LIF(tau = dt / (1 - beta), r, v_leak = 0, v_threshold, v_reset = 0), of the neurons' shape,
                        or, with beta = 1, IF(r = 1 / dt, v_threshold, v_reset = 0)
    others              the same, with the node, time constants and gains of their neurons in `Counterparts`
    AvgPool2d           layer<k>_pool: AvgPool2d
    max-pooling         layer<k>_pool: SumPool2d; then layer<k>_any: Threshold(0.5). The sum of spikes is above one half
                        if any input spikes, so this is their maximum; for other values it is not.
    Flatten             layer<k>_flatten: Flatten(start_dim = 0)

NIR's equations, in Euler steps of dt, are `v += dt / tau * (r * I - v)`, spike where v > v_threshold, then v = v_reset:
our reset "zero". The input gain r * dt / tau has to be 1. With gain "resistance" r is tau / dt and weights are
unchanged, as the equations and snnTorch expect. norse ignores r: with gain "weights" r is 1 and weights and biases are
divided by 1 - beta, which both norse and snnTorch accept. norse needs dt as an argument; snnTorch assumes 1e-4, which
is the default here. Neither supports Threshold, norse no AvgPool2d, snnTorch no IF with this r: they raise an error.

NIR's CubaLIF has two such equations, `I += dt / tau_syn * (w_in * S - I)` and `v += dt / tau_mem * (r * I - v)`, each
with a gain that has to be 1. The current is updated first and is the input of the membrane in the same step, as in our
neurons, in snnTorch and norse. norse uses both gains, and snnTorch expects r = tau_mem / dt: "resistance" is for both.

NIR cannot express "subtract", "none", "subtract_decayed", the truncated leak of integer hardware, or saturation. Such
networks are refused, unless `dynamics_in_metadata` allows a file that other readers run differently. Then the exact
dynamics are in the metadata, which `read_nir` uses. Metadata of the graph:

    writer, schema      "spiking_lfp", 1
    kind                "float" or "integer"
    dt, gain            seconds; "resistance" or "weights"
    dynamics            "nodes": the nodes are exact; "metadata": only the metadata are
    encoder, levels, steps, class_names, notes, golden_inputs      of an integer network; names and notes as JSON

of every first node of a layer: `layer`, its name; `bias`, 0 where a Conv2d has none; and of its neurons:

    reset               of the membrane by a spike
    beta, threshold     float: the constants, in float64, one number or broadcastable to the neurons
    decay, frac_bits, bits, leak, scale, theta, golden_spikes      integer: as in `spiking_lfp.integers`

The weights of integer networks are int8, their biases int32; r is 4096 / decay and v_threshold is theta.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from spiking_lfp.deploy.interop import import_package, our_layer, our_layers, scale_synapse, synapse_copy
from spiking_lfp.deploy.model import (
    Array,
    ByLayer,
    Conv,
    Dense,
    Flatten,
    GoldenRun,
    IntegerNetwork,
    Layer,
    MaxPool,
    Shape,
    Spiking,
    unsupported_neurons,
)
from spiking_lfp.errors import ExportError
from spiking_lfp.files import EXPORTS
from spiking_lfp.integers import IntegerLIF
from spiking_lfp.integers.arithmetic import DEFAULT
from spiking_lfp.integers.fields import IntegerRange, constraints
from spiking_lfp.neurons import LIFNeuron, Neuron
from spiking_lfp.nn.layers import AvgPool2d, MaxPool2d, name_layers
from spiking_lfp.nn.layers import Flatten as FlattenLayer
from spiking_lfp.nn.spiking import LAYERS, SpikingLayer

Gain = Literal["resistance", "weights"]
WRITER, SCHEMA = "spiking_lfp", 1


def write_nir(
    network: nn.Module | IntegerNetwork,
    path: str | Path,
    in_shape: Sequence[int] | None = None,
    dt: float = 1e-4,
    gain: Gain = "resistance",
    dynamics_in_metadata: bool = False,
) -> None:
    """Write a network as a NIR graph.

    Args:
        network: an `nn.Sequential` of our layers, or an integer network, then with gain "resistance".
        path: of the file, which is replaced if it exists; by convention `NAME.nir`.
        in_shape: shape of one sample; needed for an `nn.Sequential` that does not begin with a dense layer.
        dt: seconds of a time step.
        gain: where the input gain of the neurons is compensated: "resistance", as in the equations and for snnTorch;
            "weights" for norse.
        dynamics_in_metadata: also write networks that other readers would run differently.

    Raises:
        ExportError: with the layer's name and what NIR cannot express, if nir is missing or the file cannot be written.
    """
    path = Path(path)
    nir = import_package("nir")
    if gain not in ("resistance", "weights") or not 0 < dt < float("inf"):
        raise ExportError(
            f"gain is {gain!r} and dt {dt}, expected 'resistance' or 'weights', and a time step in seconds"
        )
    graph = _Graph(nir, dt, gain, dynamics_in_metadata)
    if isinstance(network, IntegerNetwork):
        if gain != "resistance":
            raise ExportError("the weights of an integer network stay as they are: use gain 'resistance'")
        _write_integer(graph, network.check())
    else:
        _write_float(graph, network, in_shape)
    graph.save(path)


def read_nir(path: str | Path, dt: float | None = None) -> nn.Sequential | IntegerNetwork:
    """Read a NIR graph that `write_nir` wrote, or a chain from elsewhere whose neurons have counterparts here.

    Args:
        path: of the file.
        dt: seconds of a time step; needed if the file does not have it, as those of other packages.

    Returns:
        An integer network if `write_nir` wrote one, otherwise an `nn.Sequential` from `[T, B, ...]` to spikes.

    Raises:
        ExportError: if the file cannot be read, or holds what our layers cannot run; with the node's name.
    """
    path = Path(path)
    nir = import_package("nir")
    if not path.is_file():
        raise ExportError(f"there is no file {path}: name a NIR graph")
    try:
        found = nir.read(path)
    # what HDF5 and nir raise for files that are damaged or of another kind
    except (OSError, LookupError, ValueError, TypeError, AssertionError, AttributeError) as error:
        raise ExportError(f"{path} is no NIR graph that nir can read: {error}") from error
    chain = _chain(nir, found)
    about = found.metadata
    ours = about.get("writer") == WRITER
    if ours and about.get("schema") != SCHEMA:
        raise ExportError(f"{path} has schema {about.get('schema')}, this version reads {SCHEMA}: write it again")
    step = float(about["dt"]) if "dt" in about else dt
    if dt is not None and step != dt:
        raise ExportError(f"{path} was written for dt = {step:g}, found dt = {dt:g}: omit dt")
    if step is None:
        raise ExportError(f"{path} does not have its time step: give dt in seconds")
    try:
        if ours and about.get("kind") == "integer":
            return _read_integer(about, chain)
        return _read_float(chain, step, ours and about["gain"] == "weights")
    except (LookupError, ValueError, TypeError) as error:
        raise ExportError(f"{path} is damaged: {error!r}; take an undamaged copy or write it again") from error


# writing


class _Graph:
    """Collects the nodes of a chain."""

    def __init__(self, nir: Any, dt: float, gain: Gain, allowed: bool) -> None:
        self.nir, self.dt, self.gain, self.allowed = nir, dt, gain, allowed
        self.nodes: dict[str, Any] = {}
        self.about: dict[str, Any] = {"writer": WRITER, "schema": SCHEMA, "dt": dt, "gain": gain, "dynamics": "nodes"}

    def add(self, key: str, node: Any, **metadata: Any) -> None:
        # nir compresses every array, which HDF5 cannot do for scalars
        node.metadata = {
            name: value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
            for name, value in metadata.items()
            if value is not None
        }
        self.nodes[key] = node

    def differs(self, name: str, how: str) -> None:
        """Refuse a layer that other readers run differently, or note it if that is allowed."""
        if not self.allowed:
            raise ExportError(
                f"layer {name}: {how}, which NIR cannot express, so other readers would run it differently; allow it "
                "with dynamics_in_metadata"
            )
        self.about["dynamics"] = "metadata"

    def weights(self, k: int, name: str, node: Any, in_shape: Shape, out_shape: Shape, bias: bool) -> None:
        """Add the synapse of a layer, if nir derives its shapes correctly: not for groups and oblong kernels."""
        shapes = tuple(node.input_type["input"]), tuple(node.output_type["output"])
        if shapes != (in_shape, out_shape):
            found, true = (" to ".join(str([int(n) for n in shape]) for shape in pair) for pair in
                           (shapes, (in_shape, out_shape)))  # fmt: skip
            raise ExportError(
                f"layer {name}: nir reads its convolution as {found}, but it is {true}; nir assumes square kernels "
                "and one group: use those"
            )
        self.add(f"layer{k}_weights", node, layer=name, bias=None if bias else 0)

    def neurons(
        self,
        k: int,
        shape: Shape,
        kind: type[Neuron],
        kept: Mapping[str, Array],
        threshold: Array,
        dtype: Any,
        about: dict[str, Any],
    ) -> None:
        """Add neurons of this shape; `threshold`, and `kept`, what a step keeps, by constant, broadcast to it."""
        theirs = kind.counterparts
        threshold, zero = np.broadcast_to(threshold, shape).astype(dtype), np.zeros(shape, dtype)
        if _lossless(kept):
            node = getattr(self.nir, theirs.nir[-1])(np.full(shape, 1 / self.dt, dtype), threshold, zero)
        else:
            fields = {}
            for constant, (time_constant, gain) in theirs.time_constants.items():
                tau = self.dt / (1 - np.broadcast_to(kept[constant], shape).astype(np.float64))
                fields[time_constant] = tau.astype(dtype)
                fields[gain] = (tau / self.dt if self.gain == "resistance" else np.ones(shape)).astype(dtype)
            node = getattr(self.nir, theirs.nir[0])(**fields, v_leak=zero, v_threshold=threshold, v_reset=zero.copy())
        self.add(f"layer{k}_neurons", node, **about)

    def max_pool(self, k: int, name: str, kernel: int, stride: int, out_shape: Shape) -> None:
        """Add the sum over windows and a threshold of one half."""
        sides = np.array([kernel, kernel]), np.array([stride, stride]), np.array([0, 0])
        self.add(f"layer{k}_pool", self.nir.SumPool2d(*sides), layer=name)
        self.add(f"layer{k}_any", self.nir.Threshold(np.full(out_shape, 0.5)))

    def flatten(self, k: int, name: str, in_shape: Shape) -> None:
        self.add(f"layer{k}_flatten", self.nir.Flatten(np.array(in_shape), 0, -1), layer=name)

    def save(self, path: Path) -> None:
        """Write the file under a temporary name, then rename it."""
        last = list(self.nodes.values())[-1]
        self.nodes["output"] = self.nir.Output(np.array(last.output_type["output"]))
        keys = list(self.nodes)
        graph = self.nir.NIRGraph(self.nodes, list(pairwise(keys)), metadata=self.about)
        with EXPORTS.writing(path) as temporary:
            self.nir.write(temporary, graph)


def _write_float(graph: _Graph, network: nn.Module, in_shape: Sequence[int] | None) -> None:
    layers = our_layers(network, "nir")
    first = layers[0][1]
    if in_shape is None:
        if not (isinstance(first, SpikingLayer) and isinstance(first.synapse, nn.Linear)):
            raise ExportError(f"layer {layers[0][0]}: the shape of its inputs does not follow from it; give in_shape")
        in_shape = (first.synapse.in_features,)
    graph.about["kind"] = "float"
    shape = tuple(int(side) for side in in_shape)
    graph.add("input", graph.nir.Input(np.array(shape)))
    spikes = False
    for k, (name, layer) in enumerate(layers):
        out_shape = _out_shape(name, layer, shape)
        if isinstance(layer, SpikingLayer):
            _write_spiking(graph, k, name, layer, shape, out_shape)
            spikes = True
        elif isinstance(layer, MaxPool2d):
            if not spikes:
                graph.differs(name, "the maximum of values that are not spikes")
            graph.max_pool(k, name, layer.kernel_size, layer.stride, out_shape)
        elif isinstance(layer, AvgPool2d):
            sides = (np.array([side, side]) for side in (layer.kernel_size, layer.stride, layer.padding))
            graph.add(f"layer{k}_pool", graph.nir.AvgPool2d(*sides), layer=name)
            spikes = False
        else:
            graph.flatten(k, name, shape)
        shape = out_shape


def _lossless(kept: Mapping[str, Array]) -> bool:
    """Return whether there is no leak."""
    return all(bool((values == 1).all()) for values in kept.values())


def _write_spiking(graph: _Graph, k: int, name: str, layer: SpikingLayer, in_shape: Shape, out_shape: Shape) -> None:
    if layer.reset != "zero":
        graph.differs(name, f"its reset is {layer.reset!r}")
    synapse = synapse_copy(name, layer).cpu()
    theirs = layer.counterparts
    constants = {what: getattr(layer, what).detach().cpu().double().numpy() for what in layer.kind.limits()}
    kept = {what: constants[what] for what in theirs.time_constants}
    lossless = _lossless(kept)
    for what, values in kept.items():
        if (values == 1).any() and len(theirs.nir) == 1:
            raise ExportError(f"layer {name}: {what} is 1, for which NIR's {theirs.nir[0]} has no time constant")
        if (values == 1).any() and not lossless:
            raise ExportError(f"layer {name}: {what} is 1 for some neurons only, which would need two nodes in NIR")
    if graph.gain == "weights" and not lossless:
        gains = np.broadcast_arrays(*(1 / (1 - values) for values in kept.values()))
        scale_synapse(name, synapse, torch.as_tensor(np.prod(gains, axis=0)))
    weight, bias = (_numpy(values) for values in (synapse.weight, synapse.bias))
    assert weight is not None
    if isinstance(synapse, nn.Conv2d):
        zeros = np.zeros(len(weight), weight.dtype)
        node = graph.nir.Conv2d(
            input_shape=in_shape[1:],
            weight=weight,
            stride=synapse.stride,
            padding=_padding(synapse),
            dilation=synapse.dilation,
            groups=synapse.groups,
            bias=zeros if bias is None else bias,
        )
    else:
        node = graph.nir.Linear(weight) if bias is None else graph.nir.Affine(weight, bias)
    graph.weights(k, name, node, in_shape, out_shape, bias is not None)
    about = {"reset": layer.reset, **constants}
    graph.neurons(k, out_shape, layer.kind, kept, constants["threshold"], weight.dtype, about)


def _write_integer(graph: _Graph, network: IntegerNetwork) -> None:
    golden = network.golden
    graph.about |= {
        "kind": "integer",
        "encoder": network.encoder,
        "levels": network.levels,
        "steps": network.steps,
        "class_names": json.dumps(network.class_names),
        "notes": json.dumps(network.notes),
    }
    if golden is not None:
        graph.about["golden_inputs"] = golden.inputs
    graph.add("input", graph.nir.Input(np.array(network.in_shape)))
    for k, (layer, levels) in enumerate(network.with_levels()):
        if isinstance(layer, Spiking):
            refusal = unsupported_neurons(layer, "NIR")
            if refusal is not None:
                raise ExportError(refusal)
            difference = _difference(layer, levels, network.steps)
            if difference is not None:
                graph.differs(layer.name, difference)
        _write_layer(layer, graph, k)
        if isinstance(layer, Spiking):
            _write_neurons(graph, k, layer, None if golden is None else golden.spikes[layer.name])


# Write the node of a layer without its neurons.
_write_layer: ByLayer[None] = ByLayer("NIR")


@_write_layer.register(Flatten)
def _(layer: Flatten, graph: _Graph, k: int) -> None:
    graph.flatten(k, layer.name, layer.in_shape)


@_write_layer.register(MaxPool)
def _(layer: MaxPool, graph: _Graph, k: int) -> None:
    graph.max_pool(k, layer.name, layer.kernel, layer.stride, layer.out_shape)


@_write_layer.register(Dense)
def _(layer: Dense, graph: _Graph, k: int) -> None:
    node = graph.nir.Affine(layer.weight, layer.bias)
    graph.weights(k, layer.name, node, layer.in_shape, layer.out_shape, True)


@_write_layer.register(Conv)
def _(layer: Conv, graph: _Graph, k: int) -> None:
    node = graph.nir.Conv2d(
        layer.in_shape[1:], layer.weight, layer.stride, layer.padding, (1, 1), layer.groups, layer.bias
    )
    graph.weights(k, layer.name, node, layer.in_shape, layer.out_shape, True)


def _write_neurons(graph: _Graph, k: int, layer: Spiking, golden: Array | None) -> None:
    neuron = layer.neuron
    beta, theta = np.array(neuron.arithmetic.beta(neuron.decay)), neuron.theta
    # in the order of earlier versions, for equal bytes
    about: dict[str, Any] = {"reset": neuron.reset}
    about |= {name: getattr(neuron, name) for name in constraints(type(neuron)) if name != "theta"}
    about |= {"bits": layer.bits, "leak": neuron.arithmetic.leak, "scale": layer.scale, "theta": theta}
    column = theta.reshape(-1, *[1] * (len(layer.out_shape) - 1))
    about |= {"golden_spikes": golden}
    graph.neurons(k, layer.out_shape, LIFNeuron, {"beta": beta}, column, np.float64, about)


def _difference(layer: Spiking, levels: int, steps: int) -> str | None:
    """Return how NIR's equations, in exact arithmetic, would differ in at most `steps` steps, or None."""
    neuron = layer.neuron
    if neuron.reset != "zero":
        return f"its reset is {neuron.reset!r}"
    if neuron.decay:
        return f"its leak of {neuron.decay} / 4096 truncates the membrane to {neuron.frac_bits} fraction bits"
    if int(layer.largest_current(levels).max()) * steps > neuron.arithmetic.largest >> neuron.frac_bits:
        return f"its membranes may saturate at {neuron.arithmetic.membrane_bits} bits in {steps} steps"
    return None


def _out_shape(name: str, layer: nn.Module, shape: Shape) -> Shape:
    """Return the shape of one sample's output."""
    sample = torch.zeros((1, *shape))
    synapse = synapse_copy(name, layer) if isinstance(layer, SpikingLayer) else None
    if synapse is not None:
        weight = synapse.weight
        assert isinstance(weight, Tensor)
        sample = sample.to(weight)
        if isinstance(synapse, nn.Linear) and len(shape) != 1:
            raise ExportError(f"layer {name}: takes one axis, found inputs {list(shape)}: put a Flatten before it")
    try:
        with torch.no_grad():
            out = layer(sample[None])[0] if synapse is None else synapse(sample)
    except (RuntimeError, ValueError) as error:
        raise ExportError(f"layer {name}: cannot take inputs {list(shape)} ({error}); give another in_shape") from None
    return tuple(out.shape[1:])


def _padding(synapse: nn.Conv2d) -> tuple[int, ...]:
    """Return the padding in pixels; our layers take "same" with odd kernels only."""
    if not isinstance(synapse.padding, str):
        return synapse.padding
    if synapse.padding == "valid":
        return (0, 0)
    return tuple(gap * (side - 1) // 2 for gap, side in zip(synapse.dilation, synapse.kernel_size, strict=True))


def _numpy(values: Any) -> Array | None:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else None


# reading


@dataclass(frozen=True)
class _Node:
    key: str
    node: Any
    kind: str

    @property
    def about(self) -> dict[str, Any]:
        return self.node.metadata if isinstance(self.node.metadata, dict) else {}

    @property
    def name(self) -> str:
        """The layer's name, or the node's."""
        return str(self.about.get("layer", self.key))

    @property
    def in_shape(self) -> Shape:
        return tuple(int(side) for side in self.node.input_type["input"])

    @property
    def out_shape(self) -> Shape:
        return tuple(int(side) for side in self.node.output_type["output"])


def _chain(nir: Any, graph: Any) -> list[_Node]:
    """Return the nodes between input and output, in the order in which they run."""
    following: dict[str, list[str]] = {key: [] for key in graph.nodes}
    for before, after in graph.edges:
        following[before].append(after)
    inputs = [key for key, node in graph.nodes.items() if isinstance(node, nir.Input)]
    chain: list[_Node] = []
    if len(inputs) == 1:
        key = inputs[0]
        while len(following[key]) == 1 and len(chain) < len(graph.nodes):
            key = following[key][0]
            chain.append(_Node(key, graph.nodes[key], type(graph.nodes[key]).__name__))
    # an edge that is left leads back, or to a second node
    if len(graph.edges) != len(chain) or not chain or chain[-1].kind != "Output":
        raise ExportError(
            f"the graph has {len(graph.nodes)} nodes and {len(graph.edges)} edges that form no chain from one input to "
            "one output; branches and recurrent connections are not read"
        )
    return chain[:-1]


def _pairs(chain: Sequence[_Node]) -> Iterator[tuple[_Node, _Node | None]]:
    """Yield the layers of a chain: weights with neurons, sums with a threshold, other nodes alone."""
    neurons = list(_kinds())
    seconds = {"Affine": neurons, "Linear": neurons, "Conv2d": neurons, "SumPool2d": ["Threshold"]}
    rest = list(chain)
    while rest:
        first = rest.pop(0)
        if first.kind in ("AvgPool2d", "Flatten"):
            yield first, None
            continue
        if first.kind not in seconds:
            raise ExportError(
                f"node {first.key}: {first.kind} is not read here; expected {', '.join(seconds)}, each with neurons or "
                "a Threshold directly after it, AvgPool2d or Flatten"
            )
        if not rest or rest[0].kind not in seconds[first.kind]:
            after = rest[0].kind if rest else "the output"
            raise ExportError(
                f"node {first.key}: {first.kind} is followed by {after}, expected {' or '.join(seconds[first.kind])}"
            )
        yield first, rest.pop(0)


def _kinds() -> dict[str, type[Neuron]]:
    """Return our neurons by the nodes that are their counterparts."""
    return {node: kind for kind in LAYERS for node in kind.counterparts.nir}


def _read_float(chain: Sequence[_Node], dt: float, scaled: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    spikes = False
    for first, second in _pairs(chain):
        node = first.node
        if first.kind == "Flatten":
            if first.out_shape != (int(np.prod(first.in_shape)),):
                raise ExportError(f"node {first.key}: leaves {list(first.out_shape)}, expected one axis")
            layers.append(FlattenLayer())
        elif first.kind == "AvgPool2d":
            kernel, stride, padding = (_square(first, getattr(node, w)) for w in ("kernel_size", "stride", "padding"))
            layers.append(AvgPool2d(kernel, stride, padding))
            spikes = False
        elif first.kind == "SumPool2d":
            assert second is not None
            kernel, stride, padding = (_square(first, getattr(node, w)) for w in ("kernel_size", "stride", "padding"))
            bounds = second.node.threshold
            if padding or not (spikes or "layer" in first.about) or not ((bounds >= 0) & (bounds < 1)).all():
                raise ExportError(f"node {first.key}: sums that are not a maximum of spikes are not read here")
            layers.append(MaxPool2d(kernel, stride))
        else:
            assert second is not None
            layers.append(_read_spiking(first, second, dt, scaled))
            spikes = True
    network = nn.Sequential(*layers)
    name_layers(network)
    return network


def _read_spiking(first: _Node, second: _Node, dt: float, scaled: bool) -> SpikingLayer:
    """Join weights and neurons; `scaled` if `write_nir` divided the weights by the input gain."""
    node, neurons, about = first.node, second.node, second.about
    dtype = torch.float64 if node.weight.dtype == np.float64 else torch.float32
    has_bias = first.kind != "Linear" and first.about.get("bias", 1) != 0
    outputs = len(node.weight)
    synapse: nn.Linear | nn.Conv2d
    if first.kind == "Conv2d":
        kernel = node.weight.shape[2:]
        stride, dilation = (_sides(getattr(node, what)) for what in ("stride", "dilation"))
        padding = node.padding if isinstance(node.padding, str) else _sides(node.padding)
        groups = int(node.groups)
        inputs = node.weight.shape[1] * groups
        synapse = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, has_bias, dtype=dtype)
    else:
        synapse = nn.Linear(node.weight.shape[1], outputs, has_bias, dtype=dtype)
    with torch.no_grad():
        synapse.weight.copy_(torch.from_numpy(node.weight))
        if synapse.bias is not None:
            synapse.bias.copy_(torch.from_numpy(node.bias))
    kind = _kinds()[second.kind]
    leaks = second.kind == kind.counterparts.nir[0]
    if np.any(neurons.v_reset != 0) or (leaks and np.any(neurons.v_leak != 0)):
        raise ExportError(f"node {second.key}: v_leak or v_reset is not 0, ours are")
    # in the precision of the file a beta below 1 may round to 1
    constants: dict[str, Array] = {}
    gain: Any = 1.0
    for what, fields in kind.counterparts.time_constants.items():
        if leaks:
            tau, factor = (getattr(neurons, field).astype(np.float64) for field in fields)
            constants[what], gain = 1 - dt / tau, gain * (factor * (dt / tau))
        else:
            constants[what], gain = np.ones(neurons.r.shape), neurons.r.astype(np.float64) * dt
    constants["threshold"] = neurons.v_threshold.astype(np.float64)
    if "beta" in about:
        exact = {what: np.asarray(about[what], np.float64) for what in constants}
        for what, found in constants.items():
            if not np.allclose(np.broadcast_to(exact[what], found.shape), found, rtol=1e-4, atol=1e-6):
                raise ExportError(
                    f"node {second.key}: its {what} is not the one in its metadata; one of them was changed: remove "
                    "the metadata of the graph and its nodes, or write it again"
                )
        if scaled and leaks:
            lost = np.broadcast_arrays(*(1 - exact[what] for what in kind.counterparts.time_constants))
            scale_synapse(first.name, synapse, torch.as_tensor(np.prod(lost, axis=0)))
        tensors = {what: torch.from_numpy(values) for what, values in exact.items()}
        return our_layer(first.name, kind, synapse, about["reset"], **tensors)
    if not np.allclose(gain, 1, rtol=1e-6, atol=0):
        scale_synapse(first.name, synapse, torch.from_numpy(_compact(gain)))
    tensors = {what: torch.from_numpy(_compact(values)) for what, values in constants.items()}
    return our_layer(first.name, kind, synapse, "zero", **tensors)


def _read_integer(about: dict[str, Any], chain: Sequence[_Node]) -> IntegerNetwork:
    layers: list[Layer] = []
    spikes: dict[str, Array] = {}
    for first, second in _pairs(chain):
        node, name, shape = first.node, first.name, first.in_shape
        if first.kind == "Flatten":
            layers.append(Flatten(name, shape))
            continue
        if first.kind == "SumPool2d":
            layers.append(MaxPool(name, shape, _square(first, node.kernel_size), _square(first, node.stride)))
            continue
        if second is None:
            raise ExportError(f"node {first.key}: {first.kind} is no layer of an integer network")
        known = second.about
        if known["leak"] != DEFAULT.leak:
            raise ExportError(f"node {second.key}: its leak is {known['leak']!r}, expected {DEFAULT.leak!r}")
        constants: dict[str, Any] = {
            what: int(known[what]) if isinstance(constraint, IntegerRange) else known[what]
            for what, constraint in constraints(IntegerLIF).items()
        }
        fields: dict[str, Any] = {
            "name": name,
            "in_shape": shape,
            "weight": node.weight,
            "bias": node.bias,
            "scale": known["scale"],
            "bits": int(known["bits"]),
            "neuron": IntegerLIF(**constants),
        }
        if first.kind == "Conv2d":
            stride, padding = _sides(node.stride), _sides(node.padding)
            layers.append(Conv(**fields, stride=stride, padding=padding, groups=int(node.groups)))
        else:
            layers.append(Dense(**fields))
        if "golden_spikes" in known:
            spikes[name] = known["golden_spikes"]
    golden = GoldenRun(about["golden_inputs"], spikes) if "golden_inputs" in about else None
    return IntegerNetwork(
        tuple(layers),
        about["encoder"],
        int(about["levels"]),
        int(about["steps"]),
        tuple(json.loads(about["class_names"])),
        golden,
        json.loads(about["notes"]),
    ).check()


def _compact(values: Array) -> Array:
    """Return one number, or one per channel, where that is equal to one per neuron."""
    if (values == values.flat[0]).all():
        return np.array(values.flat[0], np.float64)
    if values.ndim == 3 and (values == values[:, :1, :1]).all():
        return np.array(values[:, :1, :1], np.float64)
    return np.array(values, np.float64)


def _sides(sides: Any) -> tuple[int, int]:
    height, width = np.broadcast_to(np.asarray(sides), 2).tolist()
    return int(height), int(width)


def _square(at: _Node, sides: Any) -> int:
    height, width = _sides(sides)
    if height != width:
        raise ExportError(f"node {at.key}: its windows are {height} x {width}, expected squares")
    return height
