"""Reads NIR graphs of `write_nir`, unchanged, and of other writers, with the spikes that NIR's equations have.

Layers are weights with neurons directly after them. Pools are means, and sums a factor of the weights that follow; a
pool of spikes with neurons that spike for any of them is a maximum. See `nir` for the nodes and the metadata.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import nn

from spiking_lfp.arguments import as_path, check_time_step
from spiking_lfp.deploy.artifact import check_content
from spiking_lfp.deploy.formats.nir import READERS, Form, Writer, write_integer
from spiking_lfp.deploy.formats.nir_graphs import CHECKSUM, WEIGHTS, Graph, GraphReader, Node, padded
from spiking_lfp.deploy.hdf5 import difference
from spiking_lfp.deploy.interop.chains import import_package, our_layer, scale_synapse
from spiking_lfp.deploy.layers import Array, Conv, Dense, Flatten, Layer, MaxPool
from spiking_lfp.deploy.model import GoldenRun, IntegerNetwork
from spiking_lfp.errors import ExportError
from spiking_lfp.integers import IntegerLIF
from spiking_lfp.integers.arithmetic import DEFAULT
from spiking_lfp.neurons import RESETS, LIFNeuron, Neuron, Reset
from spiking_lfp.neurons.li import LINeuron
from spiking_lfp.nn.layers import Flatten as FlattenLayer
from spiking_lfp.nn.layers import name_layers
from spiking_lfp.nn.pooling import AvgPool2d, MaxPool2d
from spiking_lfp.nn.spiking import LAYERS, RecurrentLIF, SpikingLayer


def read_nir(path: str | Path, dt: float | None = None, reset: Reset | None = None) -> nn.Sequential | IntegerNetwork:
    """Read a NIR graph that `write_nir` wrote, or a chain from elsewhere whose neurons have counterparts here.

    Args:
        path: of the file.
        dt: seconds of a time step; needed if the file does not have it, as those of other packages.
        reset: what a spike does to the membranes of a file from elsewhere, if its writer had another reset than NIR,
            where it is "zero", and lost it: "subtract" for most networks of snnTorch.

    Returns:
        An integer network if `write_nir` wrote one, otherwise an `nn.Sequential` from `[T, B, ...]` to spikes.

    Raises:
        ExportError: if the file cannot be read, or holds what our layers cannot run, with the node's name; and for a
            `dt` that is none.

    Example:
        >>> from spiking_lfp.deploy.formats.nir import write_nir
        >>> network = nn.Sequential(LIF(nn.Linear(4, 8)), LIF(nn.Linear(8, 3)))
        >>> write_nir(network, "net.nir", dynamics_in_metadata=True)
        >>> x = torch.rand(10, 2, 4)
        >>> torch.equal(read_nir("net.nir")(x), network(x))
        True
    """
    if reset not in (None, *RESETS):
        raise ExportError(f"reset is {reset!r}, expected {', '.join(RESETS)}")
    if dt is not None:
        check_time_step(dt)
    path = as_path(path, "path")
    graph = GraphReader.read(path)
    try:
        return _network(graph, dt, reset)
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from None
    # of texts and numbers that fit their types and nothing else
    except (LookupError, ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise ExportError(f"{path} is damaged: {error!r}; {GraphReader.remedy}") from error


def _network(graph: Graph, dt: float | None, reset: Reset | None) -> nn.Sequential | IntegerNetwork:
    """Return the network of a graph."""
    about = graph.about
    if not graph.ours:
        if dt is None:
            raise ExportError("the file does not have its time step: give dt in seconds")
        return _read_float(graph, dt, reset or "zero", None)
    step = about.number("dt")
    if dt is not None and step != dt:
        raise ExportError(f"it was written for dt = {step:g}, found dt = {dt:g}: omit dt")
    if reset is not None:
        raise ExportError("it was written with the resets of its neurons: omit reset")
    reader = about.text("reader", list(READERS))
    if about.text("kind", ["float", "integer"]) == "float":
        return _read_float(graph, step, None, READERS[reader])
    network = check_content(_read_integer(graph))
    # what is there twice, for other readers, has to be the same
    again, file = Writer(import_package("nir"), step, reader, True), BytesIO()
    write_integer(again, network)
    again.save(file)
    with h5py.File(file, "r") as written:
        expected = dict(GraphReader(Path(), written).everything(written["node"], attributes=False))
    del expected[CHECKSUM]
    differs = difference(graph.records, expected)
    if differs is not None:
        raise ExportError("{} is {}, expected {}: {}".format(*differs, GraphReader.remedy))
    return network


def _pairs(chain: Sequence[Node]) -> Iterator[tuple[Node, Node | None]]:
    """Yield the layers of a chain: weights with neurons, pools with what makes a maximum of them, other nodes alone."""
    neurons = list(_kinds())
    rest = list(chain)
    while rest:
        first, second = rest.pop(0), rest[0] if rest else None
        if first.kind in ("SumPool2d", "AvgPool2d"):
            yield first, rest.pop(0) if second is not None and second.kind in ("Threshold", *neurons) else None
        elif first.kind == "Flatten":
            yield first, None
        elif first.kind not in WEIGHTS:
            raise ExportError(
                f"node {first.key}: {first.kind} is not read here; expected {', '.join(WEIGHTS)}, each with neurons "
                "directly after it, SumPool2d, AvgPool2d or Flatten"
            )
        elif second is None or second.kind not in neurons:
            after = "the output" if second is None else second.kind
            raise ExportError(f"node {first.key}: {first.kind} is followed by {after}, expected {' or '.join(neurons)}")
        else:
            yield first, rest.pop(0)


def _kinds() -> dict[str, type[Neuron]]:
    """Return our neurons by the nodes that are their counterparts, those that do not see their own spikes."""
    return {node: kind for kind, layer in LAYERS.items() for node in kind.counterparts.nir if layer is not RecurrentLIF}


def _read_float(graph: Graph, dt: float, reset: Reset | None, form: Form | None) -> nn.Sequential:
    """Read a float network; `form` is that of the reader for whom `write_nir` wrote it, which then knows the resets."""
    layers: list[nn.Module] = []
    spikes, factor = graph.ours, 1.0
    for first, second in _pairs(graph.chain):
        if first.kind == "Flatten":
            if len(first.out_shape) != 1:
                raise ExportError(f"node {first.key}: leaves {list(first.out_shape)}, expected one axis")
            layers.append(FlattenLayer())
        elif first.kind in WEIGHTS:
            assert second is not None
            layers.append(_read_spiking(first, second, dt, reset, form, factor))
            spikes, factor = second.kind not in LINeuron.counterparts.nir, 1.0
        else:
            kernel, stride, padding = (_square(first, what) for what in ("kernel_size", "stride", "padding"))
            one = 1.0 if first.kind == "SumPool2d" else 1 / kernel**2
            if second is None:
                layers.append(AvgPool2d(kernel, stride, padding))
                factor *= one * kernel**2
                spikes = False
            elif padding or not spikes or factor != 1 or not _is_any(second, one, dt):
                raise ExportError(
                    f"node {first.key}: followed by {second.kind}, read only where both make a maximum of spikes"
                )
            else:
                layers.append(MaxPool2d(kernel, stride))
    if factor != 1:
        raise ExportError(f"node {first.key}: sums that are the output are not read here")
    network = nn.Sequential(*layers)
    name_layers(network)
    return network


def _is_any(node: Node, one: float, dt: float) -> bool:
    """Return whether neurons, or a threshold, of sums of spikes spike for any spike, which adds `one`."""
    if node.recurrent is not None:
        return False
    if node.kind == "Threshold":
        bound, gain = node.constant("threshold"), 1.0
    elif node.kind in LIFNeuron.counterparts.nir:
        bound = node.constant("v_threshold")
        gain = np.asarray(node.constant("r") * (dt / node.constant("tau") if node.kind == "LIF" else dt)).min()
        if any(node.constant(what).any() for what in ("v_leak", "v_reset") if what in node.fields):
            return False
    else:
        return False
    return bool(((bound >= 0) & (bound < gain * one)).all())


def _read_spiking(
    first: Node, second: Node, dt: float, reset: Reset | None, form: Form | None, factor: float
) -> SpikingLayer:
    """Join weights, times a factor, and neurons; see `_read_float`."""
    about = second.about
    synapse = _synapse(first)
    recurrent = None if second.recurrent is None else _recurrent(second.recurrent)
    kind = _kinds()[second.kind]
    leaks = second.kind == kind.counterparts.nir[0]
    if any(second.constant(what).any() for what in ("v_leak", "v_reset") if what in second.fields):
        raise ExportError(f"node {second.key}: v_leak or v_reset is not 0, ours are")
    constants: dict[str, Array] = {}
    gain: Any = 1.0
    for what, (time_constant, factors) in kind.counterparts.time_constants.items():
        if leaks:
            constants[what], input_gain = _kept(second, kind, what, time_constant, dt), second.constant(factors)
            gain = gain * input_gain * dt / second.constant(time_constant)
        else:
            constants[what], gain = np.ones(second.in_shape), second.constant("r") * dt
    if kind.spiking:
        constants["threshold"] = second.constant("v_threshold")
    if recurrent is not None:
        kind = RecurrentLIF.kind if kind is LIFNeuron else _no_recurrence(second)
    both = [synapse, *([] if recurrent is None else [recurrent])]
    if factor != 1:
        with torch.no_grad():
            synapse.weight.mul_(factor)
    if form is not None:
        exact = {what: about.array(what, "f", tuple(range(4))) for what in constants}
        for what, found in constants.items():
            try:
                meant = np.broadcast_to(exact[what], found.shape)
            except ValueError:
                about.refuse(what, f"of shape {list(exact[what].shape)}", f"one that fits {list(found.shape)}")
            # in the precision of the file a beta below 1 may round to 1
            if not np.allclose(meant, found, rtol=1e-4, atol=1e-6):
                raise ExportError(
                    f"node {second.key}: its {what} is not the one in its metadata; one of them was changed: remove "
                    "the metadata of the graph and its nodes, or write it again"
                )
        if not form.gain and leaks:
            lost = np.broadcast_arrays(*(1 - exact[what] for what in kind.counterparts.time_constants))
            for each in both:
                scale_synapse(first.name, each, torch.as_tensor(np.prod(lost, axis=0)))
        reset = about.text("reset", RESETS) if kind.spiking else "none"  # type: ignore[assignment]
    else:
        if not np.allclose(gain, 1, rtol=1e-6, atol=0):
            for each in both:
                scale_synapse(first.name, each, torch.from_numpy(_compact(gain)))
        exact = {what: _compact(values) for what, values in constants.items()}
    assert reset is not None
    tensors: dict[str, Any] = {what: torch.from_numpy(np.array(values)) for what, values in exact.items()}
    if recurrent is not None:
        tensors["recurrent"] = recurrent
    return our_layer(first.name, kind, synapse, reset, **tensors)


def _kept(node: Node, kind: type[Neuron], what: str, time_constant: str, dt: float) -> Array:
    """Return which part of a state a step keeps."""
    tau = node.constant(time_constant)
    holds, words = kind.limits()[what]
    if not (tau > 0).all():
        raise ExportError(f"node {node.key}: {time_constant} is {tau.min():g}, expected seconds, greater than 0")
    kept: Array = 1 - dt / tau
    kept[(kept < 0) & (kept > -1e-6)] = 0  # rounded in the file
    if not bool(holds(torch.from_numpy(kept)).all()):
        raise ExportError(
            f"node {node.key}: {time_constant} is {tau.min():g} s, too short for steps of dt = {dt:g} s: {what} = "
            f"1 - dt / {time_constant} = {kept.min():g} must be {words}; give the dt that the file is for"
        )
    return kept


def _no_recurrence(node: Node) -> Any:
    raise ExportError(
        f"node {node.key}: {node.kind} neurons that see their own spikes are not read here, only LIF and IF"
    )


def _recurrent(node: Node) -> nn.Linear:
    """Return recurrent weights."""
    if node.kind == "Affine" and node.fields["bias"].any():
        raise ExportError(f"node {node.key}: recurrent weights have a bias, which is not read here")
    found = _synapse(replace(node, kind="Linear"))
    assert isinstance(found, nn.Linear)
    return found


CONVOLUTIONS: dict[str, Any] = {"Conv1d": nn.Conv1d, "Conv2d": nn.Conv2d}


def _synapse(node: Node) -> nn.Linear | nn.Conv1d | nn.Conv2d:
    """Return weights and bias of a node."""
    weight = node.fields["weight"]
    dtype = torch.float64 if weight.dtype.itemsize > (4 if weight.dtype.kind == "f" else 2) else torch.float32
    has_bias = node.kind != "Linear" and not ("bias" in node.about and node.about.integer("bias") == 0)
    outputs = len(weight)
    synapse: nn.Linear | nn.Conv1d | nn.Conv2d
    if node.kind in CONVOLUTIONS:
        kind, axes = CONVOLUTIONS[node.kind], weight.ndim - 2
        groups = node.fields.integer("groups", 1)
        stride, dilation = (node.fields.sides(what, axes, 1) for what in ("stride", "dilation"))
        synapse = kind(
            weight.shape[1] * groups, outputs, weight.shape[2:], stride, padded(node), dilation, groups, has_bias,
            dtype=dtype,
        )  # fmt: skip
    else:
        synapse = nn.Linear(weight.shape[1], outputs, has_bias, dtype=dtype)
    with torch.no_grad():
        synapse.weight.copy_(torch.from_numpy(weight))
        if synapse.bias is not None:
            synapse.bias.copy_(torch.from_numpy(node.fields["bias"]))
    return synapse


def _read_integer(graph: Graph) -> IntegerNetwork:
    layers: list[Layer] = []
    spikes: dict[str, Array] = {}
    about = graph.about
    for first, second in _pairs(graph.chain):
        name, shape = first.name, first.in_shape
        if first.kind == "Flatten":
            layers.append(Flatten(name, shape))
            continue
        if first.kind not in WEIGHTS:
            layers.append(MaxPool(name, shape, _square(first, "kernel_size"), _square(first, "stride")))
            continue
        assert second is not None
        known = second.about
        known.text("leak", [DEFAULT.leak])
        scale, decay = known.array("scale", "f", (1,)), known.array("decay", "iu", (0, 1), "integers")
        constants: dict[str, Any] = {
            "theta": known.array("theta", "i", (1,)).astype(np.int32),
            "reset": known.text("reset"),
            "decay": decay.astype(np.int32) if decay.ndim else int(decay),
            "frac_bits": known.integer("frac_bits"),
        }
        fields: dict[str, Any] = {
            "name": name,
            "in_shape": shape,
            "weight": first.fields["weight"],
            "bias": first.fields["bias"],
            "scale": scale,
            "bits": known.integer("bits"),
            "neuron": IntegerLIF(**constants),
        }
        if first.kind == "Conv2d":
            rows, columns = padded(first)
            layers.append(Conv(**fields, stride=first.fields.pair("stride", 1), padding=(rows, columns),
                               groups=first.fields.integer("groups", 1)))  # fmt: skip
        else:
            layers.append(Dense(**fields))
        if "golden_spikes" in known:
            spikes[name] = known.array("golden_spikes", "u", tuple(range(6)))
    golden = GoldenRun(about.array("golden_inputs", "u", tuple(range(6))), spikes) if "golden_inputs" in about else None
    return IntegerNetwork(
        tuple(layers),
        about.text("encoder", ["constant", "spikes"]),  # type: ignore[arg-type]
        about.integer("levels"),
        about.integer("steps"),
        tuple(map(str, json.loads(about.text("class_names")))),
        golden,
        {str(name): str(text) for name, text in json.loads(about.text("notes")).items()},
    )


def _compact(values: Any) -> Array:
    """Return one number, or one per channel, where that is equal to one per neuron."""
    values = np.array(values, np.float64)
    if (values == values.flat[0]).all():
        return np.array(values.flat[0])
    per_channel = values.ndim == 3 and bool((values == values[:, :1, :1]).all())
    return np.array(values[:, :1, :1] if per_channel else values)


def _square(at: Node, name: str) -> int:
    height, width = at.fields.pair(name)
    if height != width:
        raise ExportError(f"node {at.key}: its windows are {height} x {width}, expected squares")
    return height
