"""NIR graphs, of float networks and of integer networks: written so that other readers run them the same.

A network is a chain of nodes from "input" to "output", without time and batch in their shapes:

    LIF, Dense, Conv    layer<k>_weights: Affine, Linear (no bias), Conv1d, Conv2d; then layer<k>_neurons:
                        LIF(tau = dt / (1 - beta), r, v_leak = 0, v_threshold, v_reset = 0), of the neurons' shape
    LI                  the same with LI(tau, r, v_leak = 0), whose membrane is the output
    RecurrentLIF        the same, and layer<k>_recurrent: Linear, from the neurons to themselves
    others              the same, with the node, time constants and gains of their neurons in `Counterparts`
    AvgPool2d           layer<k>_pool: AvgPool2d, or SumPool2d and the next weights divided by the size of the window
    max-pooling         layer<k>_pool: as above; then layer<k>_any: LIF whose threshold is a quarter of what one spike
                        adds. It spikes if any input does, and its membrane is 0 again after every step.
    Flatten             layer<k>_flatten: Flatten(start_dim = -axes, end_dim = -1), which leaves a batch axis alone

NIR's equations, in Euler steps of dt, are `v += dt / tau * (r * I - v)`, spike where v > v_threshold, then v = v_reset:
our reset "zero". The input gain r * dt / tau has to be 1. Readers differ in what they make of a file, so it is written
for one of them, by default for those that run the equations; see `READERS`. Then r is tau / dt, and a neuron without
leak has tau = 2^60 dt. Readers without r (norse) get r = 1, weights and biases divided by 1 - beta, and IF for neurons
without leak. docs/nir.md has a table of what each reader makes of it.

NIR's CubaLIF has two such equations, `I += dt / tau_syn * (w_in * S - I)` and `v += dt / tau_mem * (r * I - v)`, each
with a gain that has to be 1. The current is updated first and is the input of the membrane in the same step.

NIR cannot express "subtract", "none", "subtract_decayed", the truncated leak of integer hardware, or saturation. Such
networks are refused, unless the reader subtracts in spite of NIR (spyx), or `dynamics_in_metadata` allows a file that
other readers run differently. Then the exact dynamics are in the metadata, which `read_nir` uses.

Metadata of the graph:

    writer, schema      "spiking_lfp", 2
    kind                "float" or "integer"
    dt, reader          seconds; for whom it was written
    dynamics            "nodes": the nodes are exact; "metadata": only the metadata are
    encoder, levels, steps, class_names, notes, golden_inputs      of an integer network; names and notes as JSON
    checksum            that of `hdf5.digest` of all other data sets in /node, sorted by path

of every first node of a layer: `layer`, its name; `bias`, 0 where a convolution has none; and of its neurons:

    reset               of the membrane by a spike
    beta, threshold     float: the constants, in float64, one number or broadcastable to the neurons
    decay, frac_bits, bits, leak, scale, theta, golden_spikes      integer: as in `spiking_lfp.integers`; decay is one
                        number, or one for each output

The weights of integer networks are int8, their biases int32; r is 4096 / decay and v_threshold is theta. Files of other
writers have no metadata of ours and no checksum; their fields are checked as `nir_graphs` says.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from spiking_lfp.arguments import as_path, check_time_step
from spiking_lfp.deploy.formats.nir_graphs import CHECKSUM, SCHEMA, WRITER, GraphReader
from spiking_lfp.deploy.hdf5 import digest, json_object
from spiking_lfp.deploy.interop.chains import import_package, our_layers, scale_synapse, synapse_copy
from spiking_lfp.deploy.layers import Array, ByLayer, Conv, Dense, Flatten, MaxPool, Shape, Spiking, unsupported_neurons
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.errors import ExportError, unknown_name
from spiking_lfp.files import EXPORTS
from spiking_lfp.integers.fields import constraints
from spiking_lfp.neurons import LIFNeuron, Neuron
from spiking_lfp.nn.pooling import AvgPool2d, MaxPool2d
from spiking_lfp.nn.spiking import RecurrentLIF, SpikingLayer


@dataclass(frozen=True)
class Form:
    """What a reader makes of NIR.

    Attributes:
        dt: its time step in seconds where it is not told another.
        resets: those of our neurons that its LIF runs.
        gain: whether it uses r; if not, weights are divided by 1 - beta.
        leakless: whether it runs the nodes that NIR has for neurons without leak.
        pool: its node for means and maxima over windows.
        any_beta: of the neurons that make a maximum of a sum.
        detour: whether recurrent weights have a flatten of one axis, which changes nothing, behind them.
        signals: whether it runs convolutions of signals.
        refuses: what it runs differently, whatever is written.
    """

    dt: float = 1e-4
    resets: tuple[str, ...] = ("zero",)
    gain: bool = True
    leakless: bool = False
    pool: Literal["AvgPool2d", "SumPool2d"] = "AvgPool2d"
    any_beta: float = 0.5
    detour: bool = False
    signals: bool = True
    refuses: str | None = None


READERS: dict[str, Form] = {
    # these run the equations
    # snnTorch sends what goes into a loop of two nodes through the recurrent weights too, and leaves others as they are
    "snntorch": Form(detour=True),
    "spikingjelly": Form(),
    "norse": Form(dt=1e-3, gain=False, leakless=True, pool="SumPool2d", signals=False),
    # subtracts the threshold one step after a spike, and delays every layer by a step
    "spyx": Form(dt=1.0, resets=("subtract",), leakless=True, pool="SumPool2d", any_beta=0.0, signals=False),
    "sinabs": Form(
        refuses="sinabs takes no metadata, and lets every LIF subtract its threshold at once, fire at v >= v_threshold "
        "and several times a step, which none of our neurons does: choose another reader"
    ),
}
# tau of neurons without leak, in time steps: 1 - dt / tau is 1 in float64
_ENDLESS = 2.0**60


def write_nir(
    network: nn.Module | IntegerNetwork,
    path: str | Path,
    in_shape: Sequence[int] | None = None,
    dt: float | None = None,
    reader: str = "snntorch",
    dynamics_in_metadata: bool = False,
) -> None:
    """Write a network as a NIR graph.

    Args:
        network: an `nn.Sequential` of our layers, or an integer network.
        path: of the file, which is replaced if it exists; by convention `NAME.nir`.
        in_shape: shape of one sample; needed for an `nn.Sequential` that does not begin with a dense layer.
        dt: seconds of a time step; None for that which the reader takes by default.
        reader: for whom it is written, see `READERS`; "snntorch" is for all that run NIR's equations.
        dynamics_in_metadata: also write networks that other readers would run differently.

    Raises:
        UsageError: for an unknown reader.
        ExportError: with the layer's name and what NIR cannot express, if nir is missing or the file cannot be written.

    Example:
        >>> network = nn.Sequential(LIF(nn.Linear(4, 8), reset="zero"), LIF(nn.Linear(8, 3), reset="zero"))
        >>> write_nir(network, "net.nir", reader="norse")
    """
    path = as_path(path, "path")
    nir = import_package("nir")
    if reader not in READERS:
        raise unknown_name("reader of NIR", reader, READERS)
    form = READERS[reader]
    if form.refuses is not None:
        raise ExportError(form.refuses)
    dt = form.dt if dt is None else dt
    check_time_step(dt)
    graph = Writer(nir, dt, reader, dynamics_in_metadata)
    if isinstance(network, IntegerNetwork):
        write_integer(graph, network.check())
    else:
        _write_float(graph, network, in_shape)
    content = BytesIO()
    graph.save(content)
    EXPORTS.write(path, content.getbuffer())


class Writer:
    """Collects the nodes of a chain.

    Args:
        nir: the package.
        dt: seconds of a time step.
        reader: for whom it is written.
        allowed: whether others may run it differently.
    """

    def __init__(self, nir: Any, dt: float, reader: str, allowed: bool) -> None:
        self.nir, self.dt, self.allowed, self.form = nir, dt, allowed, READERS[reader]
        self.reader = reader
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.about: dict[str, Any] = {
            "writer": WRITER, "schema": SCHEMA, "dt": dt, "reader": reader, "dynamics": "nodes"
        }  # fmt: skip
        self.last = ""
        # what the inputs of the next layer have to be multiplied by
        self.factor = 1.0

    def add(self, key: str, node: Any, **metadata: Any) -> None:
        """Add the next node of the chain."""
        # nir compresses every array, which HDF5 cannot do for scalars
        node.metadata = {
            name: value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
            for name, value in metadata.items()
            if value is not None
        }
        self.nodes[key] = node
        if self.last:
            self.edges.append((self.last, key))
        self.last = key

    def differs(self, name: str, how: str) -> None:
        """Refuse a layer that other readers run differently, or note it if that is allowed."""
        if not self.allowed:
            others = "other readers" if self.form.gain and self.reader != "spyx" else self.reader
            raise ExportError(
                f"layer {name}: {how}, so {others} would run it differently; allow it with dynamics_in_metadata=True"
            )
        self.about["dynamics"] = "metadata"

    def resets(self, name: str, reset: str) -> None:
        """Refuse or note neurons whose reset is not the reader's, and note those whose reset is not NIR's."""
        if reset not in self.form.resets:
            others = "which NIR cannot express" if self.form.resets == ("zero",) else f"not {self.form.resets[0]!r}"
            self.differs(name, f"its reset is {reset!r}, {others}")
        elif reset != "zero":
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
        if self.reader == "spyx":
            if np.any(np.asarray(getattr(node, "dilation", 1)) != 1):
                raise ExportError(f"layer {name}: spyx has no dilation")
            if len(self.nodes) > 2 and np.any(getattr(node, "bias", 0)):
                self.differs(name, "its bias is not 0, and added before its first inputs arrive, a step late a layer")
        if self.factor != 1:
            node.weight = (node.weight.astype(np.float64) * self.factor).astype(node.weight.dtype)
            self.factor = 1.0
        self.add(f"layer{k}_weights", node, layer=name, bias=None if bias else 0)

    def neurons(
        self,
        key: str,
        shape: Shape,
        kind: type[Neuron],
        kept: Mapping[str, Array],
        threshold: Array | None,
        dtype: Any,
        about: dict[str, Any],
        recurrent: Array | None = None,
    ) -> None:
        """Add neurons of this shape.

        Args:
            key: of the node.
            shape: of the neurons.
            kind: theirs.
            kept: what a step keeps, by constant; broadcasts to `shape`, and so does `threshold`.
            threshold: theirs, None if they do not fire.
            dtype: of the arrays.
            about: metadata.
            recurrent: weights through which they see their own spikes.
        """
        theirs = kind.counterparts
        zero = np.zeros(shape, dtype)
        fields = {}
        if threshold is not None:
            fields = {"v_threshold": np.broadcast_to(threshold, shape).astype(dtype), "v_reset": zero}
        if _leakless(kept) and self.form.leakless and len(theirs.nir) == 2:
            node = getattr(self.nir, theirs.nir[1])(r=np.full(shape, 1 / self.dt, dtype), **fields)
        else:
            for constant, (time_constant, gain) in theirs.time_constants.items():
                lost = 1 - np.broadcast_to(kept[constant], shape).astype(np.float64)
                steps = np.divide(1, lost, out=np.full(shape, _ENDLESS), where=lost > 0)
                fields[time_constant] = (self.dt * steps).astype(dtype)
                fields[gain] = (steps if self.form.gain else np.ones(shape)).astype(dtype)
            node = getattr(self.nir, theirs.nir[0])(**fields, v_leak=zero.copy())
        self.add(key, node, **about)
        if recurrent is not None:
            back = key.replace("neurons", "recurrent")
            self.nodes[back] = self.nir.Linear(recurrent)
            ways = [key, back]
            if self.form.detour:
                ways.append(f"{back}_axis")
                self.nodes[ways[-1]] = self.nir.Flatten(np.array(shape), -1, -1)
            self.edges += zip(ways, [*ways[1:], key], strict=True)

    def pool(self, k: int, name: str, kernel: int, stride: int, padding: int = 0) -> float:
        """Add the mean or the sum over windows, and return what one spike adds."""
        if padding and self.form.pool == "SumPool2d":
            raise ExportError(f"layer {name}: {self.reader} ignores the padding of a pooling window")
        sides = (np.array([side, side]) for side in (kernel, stride, padding))
        self.add(f"layer{k}_pool", getattr(self.nir, self.form.pool)(*sides), layer=name)
        return 1.0 if self.form.pool == "SumPool2d" else 1 / kernel**2

    def max_pool(self, k: int, name: str, kernel: int, stride: int, out_shape: Shape) -> None:
        """Add the mean or sum over windows, and neurons that spike for any spike in it."""
        one = self.pool(k, name, kernel, stride)
        beta = self.form.any_beta
        threshold = np.array(one / 4 * (1 if self.form.gain else 1 - beta))
        self.neurons(f"layer{k}_any", out_shape, LIFNeuron, {"beta": np.array(beta)}, threshold, np.float64, {})

    def flatten(self, k: int, name: str, in_shape: Shape) -> None:
        """Add a flatten, of all axes but those of batch and time, which some readers have."""
        if self.reader == "spyx" and int(np.prod(in_shape[1:])) > 1:
            raise ExportError(
                f"layer {name}: spyx flattens {list(in_shape)} in another order, the channels last; use convolutions "
                "down to one pixel"
            )
        self.add(f"layer{k}_flatten", self.nir.Flatten(np.array(in_shape), -len(in_shape), -1), layer=name)

    def save(self, path: Path | BytesIO) -> None:
        """Write the file."""
        shape = np.array(self.nodes[self.last].output_type["output"])
        self.add("output", self.nir.Output(shape))
        self.nir.write(path, self.nir.NIRGraph(self.nodes, self.edges, metadata=self.about))
        with h5py.File(path, "r+") as file:
            records = GraphReader(Path(), file).everything(file["node"], attributes=False)
            file[CHECKSUM] = digest(records)


def _write_float(graph: Writer, network: nn.Module, in_shape: Sequence[int] | None) -> None:
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
            spikes = layer.kind.spiking
        elif isinstance(layer, MaxPool2d):
            if not spikes:
                graph.differs(name, "the maximum of values that are not spikes, which NIR cannot express")
            graph.max_pool(k, name, layer.kernel_size, layer.stride, out_shape)
        elif isinstance(layer, AvgPool2d):
            one = graph.pool(k, name, layer.kernel_size, layer.stride, layer.padding)
            graph.factor *= 1 / layer.kernel_size**2 / one
            spikes = False
        else:
            graph.flatten(k, name, shape)
        shape = out_shape
    if graph.factor != 1:
        raise ExportError(
            f"layer {name}: {graph.reader} has sums in place of means, and no weights follow that could divide them"
        )


def _leakless(kept: Mapping[str, Array]) -> bool:
    """Return whether there is no leak."""
    return all(bool((values == 1).all()) for values in kept.values())


def _write_spiking(graph: Writer, k: int, name: str, layer: SpikingLayer, in_shape: Shape, out_shape: Shape) -> None:
    if layer.kind.spiking:
        graph.resets(name, layer.reset)
    synapse = synapse_copy(name, layer).cpu()
    recurrent = synapse_copy(name, layer, "recurrent").cpu() if isinstance(layer, RecurrentLIF) else None
    theirs, form = layer.counterparts, graph.form
    constants = {what: getattr(layer, what).detach().cpu().double().numpy() for what in layer.kind.limits()}
    kept = {what: constants[what] for what in theirs.time_constants}
    for what, values in kept.items():
        if not form.gain and (values == 1).any() and not (_leakless(kept) and len(theirs.nir) == 2):
            raise ExportError(
                f"layer {name}: {what} is 1{'' if (values == 1).all() else ' for some neurons'}, so that its weights "
                f"cannot be divided by 1 - {what}, as {graph.reader} needs"
            )
    if graph.reader == "spyx" and theirs.nir[0] == "CubaLIF":
        graph.differs(name, "the threshold of a CubaLIF is subtracted before the leak there")
    if graph.reader == "norse" and not layer.kind.spiking:
        graph.differs(name, "leaky integrators are left out there")
    if not form.gain and not _leakless(kept):
        gains = np.broadcast_arrays(*(1 / (1 - values) for values in kept.values()))
        for each in (synapse, recurrent):
            if each is not None:
                scale_synapse(name, each, torch.as_tensor(np.prod(gains, axis=0)))
    weight, bias = (_numpy(values) for values in (synapse.weight, synapse.bias))
    assert weight is not None
    if isinstance(synapse, nn.Conv1d | nn.Conv2d):
        zeros = np.zeros(len(weight), weight.dtype)
        geometry = (in_shape[1:], synapse.stride, _padding(synapse), synapse.dilation)
        signal = isinstance(synapse, nn.Conv1d)
        if signal and not form.signals:
            raise ExportError(f"layer {name}: {graph.reader} has no convolutions of signals: choose another reader")
        sides, stride, padding, dilation = (each[0] if signal else each for each in geometry)
        node = (graph.nir.Conv1d if signal else graph.nir.Conv2d)(
            input_shape=sides,
            weight=weight,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=synapse.groups,
            bias=zeros if bias is None else bias,
        )
    else:
        node = graph.nir.Linear(weight) if bias is None else graph.nir.Affine(weight, bias)
    graph.weights(k, name, node, in_shape, out_shape, bias is not None)
    about = {"reset": layer.reset if layer.kind.spiking else None, **constants}
    back = None if recurrent is None else _numpy(recurrent.weight)
    threshold = constants.get("threshold")
    graph.neurons(f"layer{k}_neurons", out_shape, layer.kind, kept, threshold, weight.dtype, about, back)


def write_integer(graph: Writer, network: IntegerNetwork) -> None:
    """Collect the nodes of an integer network."""
    refusal = _write_layer.unsupported(network.layers)
    if refusal is not None:
        raise ExportError(refusal)
    if network.encoder == "sequence":
        raise ExportError(
            f"its inputs are integers 0..{network.levels} of every step, and integer networks in NIR take spikes, or "
            "the same pixels in every step"
        )
    golden = network.golden
    graph.about |= {
        "kind": "integer",
        "encoder": network.encoder,
        "levels": network.levels,
        "steps": network.steps,
        "class_names": json.dumps(network.class_names),
        "notes": json_object(network.notes),
    }
    if golden is not None:
        graph.about["golden_inputs"] = golden.inputs
    graph.add("input", graph.nir.Input(np.array(network.in_shape)))
    for k, (layer, inputs) in enumerate(network.with_inputs()):
        if isinstance(layer, Spiking):
            refusal = unsupported_neurons(layer, "NIR", own_decays=True)
            if refusal is not None:
                raise ExportError(refusal)
            leaks = bool(np.any(layer.neuron.decay))
            if leaks and not graph.form.gain:
                raise ExportError(
                    f"layer {layer.name}: {graph.reader} needs weights divided by 1 - beta, and those of integer "
                    "networks stay as they are: choose another reader"
                )
            # without leak it makes no difference when the threshold is subtracted
            same = layer.neuron.reset == "subtract_decayed" and not leaks
            graph.resets(layer.name, "subtract" if same else layer.neuron.reset)
            difference = _difference(layer, inputs[0].largest, network.steps)
            if difference is not None:
                graph.differs(layer.name, difference)
        _write_layer(layer, graph, k)
        if isinstance(layer, Spiking):
            _write_neurons(graph, k, layer, None if golden is None else golden.spikes[layer.name])


# Write the node of a layer without its neurons.
_write_layer: ByLayer[None] = ByLayer("NIR")


@_write_layer.register(Flatten)
def _(layer: Flatten, graph: Writer, k: int) -> None:
    graph.flatten(k, layer.name, layer.in_shape)


@_write_layer.register(MaxPool)
def _(layer: MaxPool, graph: Writer, k: int) -> None:
    graph.max_pool(k, layer.name, layer.kernel, layer.stride, layer.out_shape)


@_write_layer.register(Dense)
def _(layer: Dense, graph: Writer, k: int) -> None:
    node = graph.nir.Affine(layer.weight, layer.bias)
    graph.weights(k, layer.name, node, layer.in_shape, layer.out_shape, True)


@_write_layer.register(Conv)
def _(layer: Conv, graph: Writer, k: int) -> None:
    node = graph.nir.Conv2d(
        layer.in_shape[1:], layer.weight, layer.stride, layer.padding, (1, 1), layer.groups, layer.bias
    )
    graph.weights(k, layer.name, node, layer.in_shape, layer.out_shape, True)


def _write_neurons(graph: Writer, k: int, layer: Spiking, golden: Array | None) -> None:
    neuron = layer.neuron
    axes = [-1, *[1] * (len(layer.out_shape) - 1)]
    theta, beta = neuron.theta, np.reshape(neuron.arithmetic.beta(neuron.decay), axes)
    about: dict[str, Any] = {"reset": neuron.reset}
    about |= {name: getattr(neuron, name) for name in constraints(type(neuron)) if name != "theta"}
    about |= {"bits": layer.bits, "leak": neuron.arithmetic.leak, "scale": layer.scale, "theta": theta}
    about |= {"golden_spikes": golden}
    graph.neurons(
        f"layer{k}_neurons", layer.out_shape, LIFNeuron, {"beta": beta}, theta.reshape(axes), np.float64, about
    )


def _difference(layer: Spiking, largest: int, steps: int) -> str | None:
    """Return how NIR's equations, in exact arithmetic, would differ in at most `steps` steps, or None."""
    neuron = layer.neuron
    if np.any(neuron.decay):
        largest_leak = np.max(neuron.decay)
        return f"its leak of {largest_leak} / 4096 truncates the membrane to {neuron.frac_bits} fraction bits"
    if int(layer.largest_current(largest).max()) * steps > neuron.arithmetic.largest >> neuron.frac_bits:
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


def _padding(synapse: nn.Conv1d | nn.Conv2d) -> tuple[int, ...]:
    """Return the padding in pixels; our layers take "same" with odd kernels only."""
    if not isinstance(synapse.padding, str):
        return synapse.padding
    if synapse.padding == "valid":
        return (0,) * len(synapse.kernel_size)
    return tuple(gap * (side - 1) // 2 for gap, side in zip(synapse.dilation, synapse.kernel_size, strict=True))


def _numpy(values: Any) -> Array | None:
    if not isinstance(values, Tensor):
        return None
    # NumPy has no bfloat16
    found: Array = (values.float() if values.dtype == torch.bfloat16 else values).detach().cpu().numpy()
    return found
