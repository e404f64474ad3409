"""Whether a network fits a piece of hardware, whose limits are data: one file for each in `hardware/targets`.

A file has these tables; a limit that is left out does not exist. Ranges are `[least, most]`.

    title                        what it is, for people
    [inputs]   analogue          whether the first layer may take numbers in place of spikes
    [neurons]  resets            the names that it knows
               decay, theta, bias, frac_bits      ranges; theta and bias in units of the weights
    [weights]  bits              range
    [pooling]  neurons           true: a pooled output takes a neuron, and a synapse for each pixel of its window
    [cores]    count, compartments (neurons of a core), synapse_bits (memory of a core), bits_per_synapse,
               in_axons (different inputs of a core); a core works for one layer only
    [network]  synapses          of the whole network
    [memory]   bits              for everything together, with bits_per_membrane, bits_per_accumulator,
               bits_per_output (bias and theta), bits_per_spike, bits_per_pixel

Estimates of cores and memory are lower bounds: what does not fit by them does not fit at all.
"""

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from spiking_lfp.deploy.hardware import hardware_folder
from spiking_lfp.deploy.model import Conv, Flatten, IntegerNetwork, Layer, MaxPool, Spiking
from spiking_lfp.errors import ExportError, unknown_name

# every limit that there is, with the type of its value
_FIELDS: dict[str, dict[str, type]] = {
    "inputs": {"analogue": bool},
    "neurons": {"resets": list, "decay": list, "theta": list, "bias": list, "frac_bits": list},
    "weights": {"bits": list},
    "pooling": {"neurons": bool},
    "cores": {"count": int, "compartments": int, "synapse_bits": int, "bits_per_synapse": int, "in_axons": int},
    "network": {"synapses": int},
    "memory": {
        "bits": int,
        "bits_per_membrane": int,
        "bits_per_accumulator": int,
        "bits_per_output": int,
        "bits_per_spike": int,
        "bits_per_pixel": int,
    },
}
# these come together or not at all
_TOGETHER = (("cores", "synapse_bits", "bits_per_synapse"), ("memory", *_FIELDS["memory"]))

Limits = Mapping[str, Any]


def target_names() -> list[str]:
    """Return the targets that there are, in alphabetical order."""
    return sorted(path.stem for path in hardware_folder("targets").glob("*.toml"))


def check(network: IntegerNetwork, target_name: str) -> tuple[bool, list[str]]:
    """Compare a network with the limits of a target.

    Args:
        network: what is to run there.
        target_name: one of `target_names()`.

    Returns:
        Whether it fits, and if it does not, one sentence for each reason, with layer and numbers.

    Raises:
        UsageError: for an unknown target.
        ExportError: if the target's file cannot be read, or the network does not fit together.
    """
    network.check()
    limits = read_limits(target_name)
    findings = [*_inputs(network, target_name, limits)]
    # a layer whose inputs the target cannot take runs elsewhere, and takes nothing there
    first = (
        0
        if network.levels == 1 or limits["inputs"].get("analogue", True)
        else network.layers.index(_first(network)) + 1
    )
    layers = network.layers[first:]
    for layer in layers:
        if isinstance(layer, Spiking):
            findings += _layer(layer, target_name, limits)
    findings += _cores(layers, target_name, limits)
    findings += _network(layers, target_name, limits)
    findings += _memory(network, target_name, limits)
    return not findings, findings


def read_limits(target_name: str) -> Limits:
    """Return a target's limits: tables by name, all of them, empty where the file has none.

    Raises:
        UsageError: for an unknown target.
        ExportError: if the file cannot be read, or holds a limit that there is not.
    """
    if target_name not in target_names():
        raise unknown_name("target", target_name, target_names())
    path = hardware_folder("targets") / f"{target_name}.toml"
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"cannot read the limits in {path}: {error}") from error
    limits: dict[str, Any] = {name: {} for name in _FIELDS}
    for table, values in read.items():
        if table == "title" and isinstance(values, str):
            continue
        if table not in _FIELDS or not isinstance(values, dict):
            raise ExportError(f"{path}: there is no table {table!r}, expected {', '.join(_FIELDS)}")
        for name, value in values.items():
            kind: Any = _FIELDS[table].get(name)
            if kind is None:
                raise ExportError(f"{path}: there is no limit {table}.{name}, expected {', '.join(_FIELDS[table])}")
            if type(value) is not kind:
                raise ExportError(f"{path}: {table}.{name} is {value!r}, expected {kind.__name__}")
            if kind is list and name != "resets" and not (len(value) == 2 and all(type(each) is int for each in value)):
                raise ExportError(f"{path}: {table}.{name} is {value!r}, expected [least, most]")
            limits[table][name] = value
    for table, *names in _TOGETHER:
        there = [name in limits[table] for name in names]
        if any(there) and not all(there):
            raise ExportError(f"{path}: {table} needs {', '.join(names)}, all of them or none")
    return limits


def _first(network: IntegerNetwork) -> Spiking:
    return network.spiking[0]


def _inputs(network: IntegerNetwork, target: str, limits: Limits) -> Iterator[str]:
    if network.levels > 1 and not limits["inputs"].get("analogue", True):
        yield (
            f"layer {_first(network).name}: takes numbers 0..{network.levels}, {target} takes spikes only: run this "
            "layer elsewhere and send its spikes"
        )


def _layer(layer: Spiking, target: str, limits: Limits) -> Iterator[str]:
    """Yield what is wrong with the numbers of one layer."""
    neurons = limits["neurons"]
    resets = neurons.get("resets", [layer.reset])
    if layer.reset not in resets:
        yield f"layer {layer.name}: reset is {layer.reset}, {target} has {', '.join(resets)}"
    values = {
        "decay": (layer.decay, layer.decay),
        "theta": (int(layer.theta.min()), int(layer.theta.max())),
        "bias": (int(layer.bias.min()), int(layer.bias.max())),
        "frac_bits": (layer.frac_bits, layer.frac_bits),
    }
    for name, (low, high) in values.items():
        if name in neurons:
            least, most = neurons[name]
            if low < least or high > most:
                yield f"layer {layer.name}: {name} is {_range(low, high)}, {target} holds {_range(least, most)}"
    if "bits" in limits["weights"]:
        least, most = limits["weights"]["bits"]
        if not least <= layer.bits <= most:
            yield f"layer {layer.name}: weights have {layer.bits} bits, {target} holds {_range(least, most)}"


def _cores(layers: tuple[Layer, ...], target: str, limits: Limits) -> Iterator[str]:
    """Yield neurons that no core can hold, and whether there are too few cores."""
    cores = limits["cores"]
    per_synapse, memory = cores.get("bits_per_synapse", 0), cores.get("synapse_bits", 0)
    needed: dict[str, int] = {}
    for layer in layers:
        neurons, synapses, fan_in = _size(layer, limits)
        if not neurons:
            continue
        if fan_in > cores.get("in_axons", fan_in):
            yield f"layer {layer.name}: a neuron has {fan_in} inputs, a core of {target} takes {cores['in_axons']}"
        if fan_in * per_synapse > memory:
            yield (
                f"layer {layer.name}: a neuron's synapses take {fan_in * per_synapse} bits, a core of {target} has "
                f"{memory}"
            )
        needed[layer.name] = max(
            -(-neurons // cores.get("compartments", neurons)), -(-synapses * per_synapse // max(1, memory))
        )
    total = sum(needed.values())
    if total > cores.get("count", total):
        each = ", ".join(f"layer {name} {count}" for name, count in needed.items())
        yield f"the network needs {total} cores at least ({each}), {target} has {cores['count']}"


def _network(layers: tuple[Layer, ...], target: str, limits: Limits) -> Iterator[str]:
    most = limits["network"].get("synapses")
    sizes = {layer.name: _size(layer, limits)[1] for layer in layers}
    total = sum(sizes.values())
    if most is not None and total > most:
        largest = max(sizes, key=lambda name: sizes[name])
        yield (f"the network has {total} synapses, {sizes[largest]} of them in layer {largest}, {target} holds {most}")


def _memory(network: IntegerNetwork, target: str, limits: Limits) -> Iterator[str]:
    memory = limits["memory"]
    if not memory:
        return
    spiking, inputs = network.spiking, int(np.prod(network.in_shape))
    constant = network.encoder == "constant"
    sums = max(layer.neurons for layer in (spiking[1:] if constant and len(spiking) > 1 else spiking))
    if constant and len(spiking) > 1:
        sums += spiking[0].neurons
    pooled = sum(int(np.prod(layer.out_shape)) for layer in network.layers if isinstance(layer, MaxPool))
    neurons = sum(layer.neurons for layer in spiking)
    parts = {
        "weights": sum(layer.weight.size for layer in spiking) * max(layer.bits for layer in spiking),
        "membranes": neurons * memory["bits_per_membrane"],
        "accumulators": sums * memory["bits_per_accumulator"],
        "biases and thresholds": sum(layer.outputs for layer in spiking) * memory["bits_per_output"],
        "spikes": (neurons + pooled + (0 if constant else inputs)) * memory["bits_per_spike"],
        "pixels": inputs * memory["bits_per_pixel"] if constant else 0,
    }
    total = sum(parts.values())
    if total > memory["bits"]:
        largest = max(spiking, key=lambda layer: layer.weight.size)
        each = ", ".join(f"{name} {bits}" for name, bits in parts.items() if bits)
        yield (
            f"the network needs {total} bits of memory at least ({each}; most weights in layer {largest.name}), "
            f"{target} has {memory['bits']}"
        )


def _size(layer: Layer, limits: Limits) -> tuple[int, int, int]:
    """Return how many neurons and synapses a layer takes, and the most synapses of one neuron."""
    if isinstance(layer, Spiking):
        fan_in = layer.weight[0].size
        if isinstance(layer, Conv):
            # no neuron sees more than the whole image
            rows, columns = (min(pair) for pair in zip(layer.kernel, layer.in_shape[1:], strict=True))
            fan_in = layer.weight.shape[1] * rows * columns
        return layer.neurons, int(layer.fan_out().sum()), fan_in
    if isinstance(layer, Flatten) or not limits["pooling"].get("neurons", False):
        return 0, 0, 0
    outputs, window = int(np.prod(layer.out_shape)), layer.kernel**2
    return outputs, outputs * window, window


def _range(low: int, high: int) -> str:
    return f"{low}..{high}" if low != high else str(low)
