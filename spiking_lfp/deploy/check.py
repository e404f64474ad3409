"""Compares a network with the limits of a chip, as its file in `chips` has them.

Estimates of cores and memory are lower bounds: a network that exceeds a limit by them does not fit.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from spiking_lfp.arguments import check_choice
from spiking_lfp.deploy.artifact import as_network
from spiking_lfp.deploy.chip import Limits, Range
from spiking_lfp.deploy.chips import targets
from spiking_lfp.deploy.layers import (
    Add,
    ByLayer,
    Conv,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    Pad,
    Recurrent,
    Spiking,
    SumPool,
    unsupported_neurons,
)
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.integers.cuba import IntegerCubaLIF


def check(network: IntegerNetwork | str | Path, target: str) -> list[str]:
    """Compare a network with the limits of a chip.

    Args:
        network: to be run there; or its file, or the name of one in the package.
        target: a name in `chips.targets()`.

    Returns:
        One sentence, with layer and numbers, for each limit that it exceeds; an empty list if it fits.

    Raises:
        UsageError: for an unknown target or name.
        ExportError: if the network is not valid, or cannot be read.

    Example:
        >>> check("mnist-mlp-int8", "loihi")[1]
        'layer 2: reset is subtract, loihi has zero'
    """
    network = as_network(network).check()
    known = targets()
    check_choice("target", target, known)
    chip = known[target]
    limits = chip.limits
    assert limits is not None
    findings = [*_inputs(network, target, limits)]
    # a first layer whose inputs the chip cannot take runs elsewhere and takes none of its resources
    first = 0 if network.levels == 1 or limits.analogue else network.layers.index(network.spiking[0]) + 1
    layers = network.layers[first:]
    for layer in layers:
        if isinstance(layer, Add | SumPool | Pad):
            findings += [f"layer {layer.name}: {type(layer).__name__} is not supported by {target}"]
        if isinstance(layer, Spiking):
            arithmetic = chip.arithmetic
            if arithmetic is not None and layer is layers[-1]:
                arithmetic = arithmetic.of_outputs()
            reason = None
            if arithmetic is not None:
                reason = unsupported_neurons(layer, target, arithmetic, chip.neuron, chip.own_decays)
            findings += [*_layer(layer, target, limits)] if reason is None else [reason]
    findings += _cores(layers, target, limits)
    findings += _populations(layers, target, limits)
    findings += _network(layers, target, limits)
    findings += _memory(network, target, limits)
    return findings


def _inputs(network: IntegerNetwork, target: str, limits: Limits) -> Iterator[str]:
    if network.levels > 1 and not limits.analogue:
        yield (
            f"layer {network.spiking[0].name}: has inputs 0..{network.levels}, {target} takes spikes only: run this "
            "layer elsewhere and send its spikes"
        )


def _layer(layer: Spiking, target: str, limits: Limits) -> Iterator[str]:
    """Yield which constants of one layer are out of range."""
    neuron = layer.neuron
    if limits.resets is not None and neuron.spiking and neuron.reset not in limits.resets:
        yield f"layer {layer.name}: reset is {neuron.reset}, {target} has {', '.join(limits.resets)}"
    values = {"decay": (neuron.decay, limits.decay)}
    if isinstance(neuron, IntegerCubaLIF):
        values["current_decay"] = neuron.current_decay, limits.current_decay
    if neuron.spiking:
        values["theta"] = neuron.theta, limits.theta
    values |= {"bias": (layer.bias, limits.bias), "frac_bits": (neuron.frac_bits, limits.frac_bits)}
    for name, (each, held) in values.items():
        found = int(np.min(each)), int(np.max(each))
        if held is not None and not (held[0] <= found[0] and found[1] <= held[1]):
            yield f"layer {layer.name}: {name} is {_range(found)}, {target} holds {_range(held)}"
    if limits.weight_bits is not None and not limits.weight_bits[0] <= layer.bits <= limits.weight_bits[1]:
        yield f"layer {layer.name}: weights have {layer.bits} bits, {target} holds {_range(limits.weight_bits)}"


def _cores(layers: Sequence[Layer], target: str, limits: Limits) -> Iterator[str]:
    """Yield which neurons no core can hold, and whether there are too few cores."""
    cores, memory = limits.cores, limits.cores.synapse_memory
    needed: dict[str, int] = {}
    for layer in layers:
        neurons, synapses, fan_in = _size(layer, limits)
        if not neurons:
            continue
        if cores.input_axons is not None and fan_in > cores.input_axons:
            yield f"layer {layer.name}: a neuron has a fan-in of {fan_in}, a core of {target} takes {cores.input_axons}"
        for_neurons = 1 if cores.neurons is None else -(-neurons // cores.neurons)
        for_synapses = 1 if memory is None else -(-synapses * memory.bits_per_synapse // memory.bits)
        if memory is not None and fan_in * memory.bits_per_synapse > memory.bits:
            yield (
                f"layer {layer.name}: a neuron's synapses take {fan_in * memory.bits_per_synapse} bits, a core of "
                f"{target} has {memory.bits}"
            )
        needed[layer.name] = max(for_neurons, for_synapses)
    total = sum(needed.values())
    if cores.count is not None and total > cores.count:
        each = ", ".join(f"layer {name} {count}" for name, count in needed.items())
        yield f"the network needs {total} cores at least ({each}), {target} has {cores.count}"


def _populations(layers: Sequence[Layer], target: str, limits: Limits) -> Iterator[str]:
    """Yield what does not fit into a chip of inputs, hidden neurons and outputs."""
    most = limits.populations
    if most is None:
        return
    for layer in layers:
        if isinstance(layer, MaxPool):
            yield f"layer {layer.name}: {type(layer).__name__} is not supported by {target}"
    spiking = [layer for layer in layers if isinstance(layer, Spiking)]
    if len(spiking) < 2:
        yield f"the network has {len(spiking)} layer with neurons, {target} needs a hidden one: inputs reach no output"
        return
    *hidden, last = spiking
    inputs, neurons = int(np.prod(hidden[0].in_shape)), sum(layer.neurons for layer in hidden)
    if inputs > most.inputs:
        yield f"layer {hidden[0].name}: has {inputs} inputs, {target} has {most.inputs} channels"
    if neurons > most.hidden:
        each = ", ".join(f"layer {layer.name} {layer.neurons}" for layer in hidden)
        yield f"the network has {neurons} hidden neurons ({each}), {target} has {most.hidden}"
    if last.neurons > most.outputs:
        yield f"layer {last.name}: has {last.neurons} neurons, {target} has {most.outputs} outputs"
    among, synapses = hidden[1:], sum(layer.synapses for layer in hidden[1:])
    for layer in among:
        reached = int(layer.fan_out().max())
        if reached > most.fan_out:
            yield f"layer {layer.name}: a neuron below has a fan-out of {reached}, {target} has {most.fan_out}"
        if layer.neuron.frac_bits != among[0].neuron.frac_bits:
            yield (
                f"layer {layer.name}: frac_bits is {layer.neuron.frac_bits}, and {among[0].neuron.frac_bits} in layer "
                f"{among[0].name}: {target} shifts all weights among hidden neurons by as many bits"
            )
    if synapses > most.synapses:
        yield f"the network has {synapses} synapses among hidden neurons, {target} holds {most.synapses}"


def _network(layers: Sequence[Layer], target: str, limits: Limits) -> Iterator[str]:
    most = limits.synapses
    sizes = {layer.name: _size(layer, limits)[1] for layer in layers}
    total = sum(sizes.values())
    if most is not None and total > most:
        largest = max(sizes, key=lambda name: sizes[name])
        yield (f"the network has {total} synapses, {sizes[largest]} of them in layer {largest}, {target} holds {most}")


def _memory(network: IntegerNetwork, target: str, limits: Limits) -> Iterator[str]:
    memory = limits.memory
    if memory is None:
        return
    spiking, inputs = network.spiking, int(np.prod(network.in_shape))
    constant = network.encoder == "constant"
    sums = max(layer.neurons for layer in (spiking[1:] if constant and len(spiking) > 1 else spiking))
    if constant and len(spiking) > 1:
        sums += spiking[0].neurons
    pooled = sum(int(np.prod(layer.out_shape)) for layer in network.layers if isinstance(layer, MaxPool))
    neurons = sum(layer.neurons for layer in spiking)
    sizes = {
        "weights": sum(layer.weights for layer in spiking) * max(layer.bits for layer in spiking),
        "membranes": neurons * memory.bits_per_membrane,
        "accumulators": sums * memory.bits_per_accumulator,
        "biases and thresholds": sum(layer.outputs for layer in spiking) * memory.bits_per_output,
        "spikes": (neurons + pooled + (0 if constant else inputs)) * memory.bits_per_spike,
        "pixels": inputs * memory.bits_per_pixel if constant else 0,
    }
    total = sum(sizes.values())
    if total > memory.bits:
        largest = max(spiking, key=lambda layer: layer.weights)
        each = ", ".join(f"{name} {bits}" for name, bits in sizes.items() if bits)
        yield (
            f"the network needs {total} bits of memory at least ({each}; most weights in layer {largest.name}), "
            f"{target} has {memory.bits}"
        )


# Return the number of neurons and synapses of a layer, and the largest fan-in of a neuron.
_size: ByLayer[tuple[int, int, int]] = ByLayer("the comparison with chips")


@_size.register(Dense)
def _(layer: Dense, limits: Limits) -> tuple[int, int, int]:
    return layer.neurons, layer.synapses, layer.weight[0].size


@_size.register(Recurrent)
def _(layer: Recurrent, limits: Limits) -> tuple[int, int, int]:
    return layer.neurons, layer.synapses, layer.weight[0].size + layer.outputs


@_size.register(Conv)
def _(layer: Conv, limits: Limits) -> tuple[int, int, int]:
    # the fan-in is no larger than the image
    rows, columns = (min(pair) for pair in zip(layer.kernel, layer.in_shape[1:], strict=True))
    return layer.neurons, layer.synapses, layer.weight.shape[1] * rows * columns


@_size.register(Flatten)
@_size.register(Add)
@_size.register(Pad)
@_size.register(SumPool)
def _(layer: Layer, limits: Limits) -> tuple[int, int, int]:
    return 0, 0, 0


@_size.register(MaxPool)
def _(layer: MaxPool, limits: Limits) -> tuple[int, int, int]:
    if not limits.pooling_neurons:
        return 0, 0, 0
    outputs, window = int(np.prod(layer.out_shape)), layer.kernel**2
    return outputs, outputs * window, window


def _range(values: Range) -> str:
    low, high = values
    return f"{low}..{high}" if low != high else str(low)
