"""Random integer networks that spike, for the tests of everything that runs them, and the rule once more, slowly."""

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.deploy.layers import (
    Add,
    Conv,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    Pad,
    Recurrent,
    Signal,
    Spiking,
    SumPool,
)
from spiking_lfp.deploy.model import Encoding, IntegerNetwork
from spiking_lfp.integers import IntegerLIF, IntegerNeuron
from spiking_lfp.integers.arithmetic import DEFAULT, Arithmetic, IntegerReset

Array = NDArray[Any]


def dense(
    name: str, inputs: int, outputs: int, seed: int = 0, decay: Any = 410, reset: IntegerReset = "subtract",
    bits: int = 8, frac_bits: int = 6, gain: float = 0.3, levels: int = 1, arithmetic: Arithmetic = DEFAULT,
) -> Dense:  # fmt: skip
    """Random weights; theta is `gain` times what a tenth of the inputs, all positive, would add up to."""
    random = np.random.default_rng(seed)
    top = 2 ** (bits - 1) - 1
    weight = random.integers(-top, top + 1, (outputs, inputs)).astype(np.int8)
    weight[0, 0] = weight[0, 0] or 1  # not all are zero
    theta = max(1, int(gain * top * levels * max(1.0, inputs * 0.1)))
    return Dense(
        name, (inputs,), weight, random.integers(-top, top + 1, outputs).astype(np.int32), np.full(outputs, 0.01),
        bits, IntegerLIF(np.full(outputs, theta, np.int32), decay, frac_bits, reset, arithmetic),
    )  # fmt: skip


def conv(
    name: str, in_shape: tuple[int, int, int], outputs: int, kernel: tuple[int, int] = (3, 3), seed: int = 0,
    decay: Any = 410, reset: IntegerReset = "subtract", stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0), groups: int = 1, gain: float = 0.3, frac_bits: int = 6, levels: int = 1,
    arithmetic: Arithmetic = DEFAULT,
) -> Conv:  # fmt: skip
    """Likewise."""
    random = np.random.default_rng(seed)
    weight = random.integers(-127, 128, (outputs, in_shape[0] // groups, *kernel)).astype(np.int8)
    theta = max(1, int(gain * 127 * levels * max(1.0, weight[0].size * 0.2)))
    return Conv(
        name, in_shape, weight, random.integers(-60, 61, outputs).astype(np.int32), np.full(outputs, 0.01),
        8, IntegerLIF(np.full(outputs, theta, np.int32), decay, frac_bits, reset, arithmetic), stride, padding, groups,
    )  # fmt: skip


def recurrent(name: str, inputs: int, outputs: int, seed: int = 0, factor: int = 1, **how: Any) -> Recurrent:
    """`dense`, and its neurons see their own spikes."""
    plain = dense(name, inputs, outputs, seed, **how)
    top = 2 ** (plain.bits - 1) - 1
    own = np.random.default_rng(seed + 1).integers(-top, top + 1, (outputs, outputs)).astype(np.int8)
    return Recurrent(**vars(plain), recurrent=own, factor=factor)


def network(
    layers: Sequence[Layer], steps: int = 12, levels: int = 1, span: tuple[float, float] | None = None
) -> IntegerNetwork:
    """Chain layers; with `levels` greater than 1 the inputs are images, or sequences with a `span`."""
    classes = layers[-1].out_shape[0]
    encoder: Encoding = "sequence" if span else "spikes" if levels == 1 else "constant"
    names = tuple(map(str, range(classes)))
    return IntegerNetwork(tuple(layers), encoder, levels, steps, names, span=span or (0.0, 1.0)).check()


def mlp(
    sizes: Sequence[int] = (30, 20, 5), seed: int = 0, decay: int = 410, reset: IntegerReset = "subtract",
    steps: int = 12, levels: int = 1, bits: int = 8, arithmetic: Arithmetic = DEFAULT,
) -> IntegerNetwork:  # fmt: skip
    """A dense network; see `dense`."""
    layers: list[Layer] = []
    for k, (inputs, outputs) in enumerate(pairwise(sizes)):
        first = levels if k == 0 else 1
        frac_bits = arithmetic.frac_bits if first == 1 else 0
        layers.append(dense(str(k), inputs, outputs, seed + k, decay, reset, bits, frac_bits, 0.3, first, arithmetic))
    return network(layers, steps, levels)


def lenet(
    side: int = 12,
    seed: int = 0,
    decay: int = 410,
    reset: IntegerReset = "subtract",
    steps: int = 10,
    levels: int = 255,
) -> IntegerNetwork:
    """Convolution, pooling, convolution, pooling, two dense layers, small."""
    first = conv(
        "0", (1, side, side), 4, seed=seed, decay=decay, reset=reset, frac_bits=0 if levels > 1 else 6, levels=levels
    )
    pool = MaxPool("1", first.out_shape, 2, 2)
    second = conv("2", pool.out_shape, 6, (2, 2), seed + 1, decay, reset, padding=(1, 1))
    pool2 = MaxPool("3", second.out_shape, 2, 2)
    flat = Flatten("4", pool2.out_shape)
    hidden = dense("5", flat.out_shape[0], 16, seed + 2, decay, reset)
    return network(
        [first, pool, second, pool2, flat, hidden, dense("6", 16, 10, seed + 3, decay, reset)], steps, levels
    )


def graph(seed: int, levels: int = 1, parts: int = 4, steps: int = 6) -> IntegerNetwork:
    """A random network with skips around layers and around other skips, sums, means and the largest of them.

    The outputs of every second convolution have decays of their own.
    """
    random = np.random.default_rng(seed)
    layers: list[Layer] = []
    # what the inputs are, and what each layer gives: by name
    known: dict[str, tuple[tuple[int, ...], Signal]] = {"": ((2, 7, 6), Signal(levels, levels))}

    def put(layer: Layer) -> str:
        given = [known[source][1] for source in layer.sources]
        layers.append(layer)
        known[layer.name] = layer.out_shape, layer.gives(given)
        return layer.name

    def name(what: str) -> str:
        return f"{what}{len(layers)}"

    def neurons(source: str) -> str:
        shape, given = known[source]
        assert len(shape) == 3
        room = DEFAULT.largest / (given.largest * 127 * 9 * shape[0] + 60)
        decay = random.integers(4096, size=1 + len(layers) % 2).astype(np.int32)
        layer = conv(
            name("conv"), shape, 2, seed=int(random.integers(2**31)), padding=(1, 1), levels=given.largest, gain=0.1,
            decay=decay, frac_bits=min(6, int(np.log2(room))),
        )  # fmt: skip
        return put(replace(layer, sources=(source,)))

    def branch(source: str, depth: int) -> str:
        """Spikes of the same shape."""
        kind = random.integers(3 if depth else 1)
        if kind == 1:
            return neurons(skip(source, depth - 1))
        return neurons(neurons(source) if kind else source)

    def skip(source: str, depth: int) -> str:
        summands = [branch(source, depth) for _ in range(random.integers(1, 3))]
        if known[source][1].levels == 1:
            summands.append(source)
        if len(summands) == 1:
            return summands[0]
        return put(Add(name("add"), known[source][0], sources=tuple(summands)))

    def pooled(source: str) -> str:
        shape = known[source][0]
        sides = tuple(int(random.integers(1, min(4, side + 1))) for side in shape[1:])
        kernel, square = (sides[0], sides[1]), min(sides)
        kind = random.integers(4)
        if kind == 0:
            return put(MaxPool(name("max"), shape, square, 1, sources=(source,)))
        if kind == 1:
            fill = random.integers(known[source][1].largest + 1, size=shape[0]).astype(np.int32)
            return put(Pad(name("pad"), shape, (square - 1, 1), fill, sources=(source,)))
        padding = (int(random.integers(kernel[0] // 2 + 1)), int(random.integers(kernel[1] // 2 + 1)))
        divisor = int(random.choice([1, kernel[0] * kernel[1]]))
        stride = (int(random.integers(1, 3)), int(random.integers(1, 3)))
        return put(SumPool(name("sum"), shape, kernel, stride, padding, divisor, sources=(source,)))

    last = ""
    for _ in range(parts):
        last = skip(last, 1) if random.integers(2) else pooled(last)
        if known[last][1].largest > 200:
            last = neurons(last)
    flat = Flatten(name("flat"), known[last][0], sources=(last,))
    put(flat)
    given = known[flat.name][1]
    room = DEFAULT.largest / (given.largest * 127 * flat.out_shape[0] + 127)
    out = dense("out", flat.out_shape[0], 3, seed, frac_bits=min(6, int(np.log2(room))), levels=given.largest, gain=0.1)
    layers.append(replace(out, sources=(flat.name,)))
    return network(layers, steps, levels)


def changed(layer: Layer, **changes: Any) -> Layer:
    """Return a layer with other values of its fields, or of those of its neurons."""
    if isinstance(layer, Spiking):
        neuron = {name: changes.pop(name) for name in list(changes) if name in IntegerLIF.__dataclass_fields__}
        changes["neuron"] = replace(layer.neuron, **neuron)
    return replace(layer, **changes)


def with_decays(net: IntegerNetwork, seed: int = 0) -> IntegerNetwork:
    """Give every output of a network decays of its own, of which the first are the ends of their range."""
    random = np.random.default_rng(seed)
    layers = list(net.layers)
    for k, layer in enumerate(layers):
        if isinstance(layer, Spiking):
            most = layer.neuron.arithmetic.largest_decay
            ends = [0, most, 1, most - 1]
            each = {name: random.integers(0, most + 1, layer.outputs, np.int32) for name in layer.neuron.decays}
            for values in each.values():
                values[: len(ends)] = random.permutation(ends)[: layer.outputs]
            layers[k] = replace(layer, neuron=replace(layer.neuron, **each))  # type: ignore[type-var]
    return replace(net, layers=tuple(layers)).check()


def assert_same_fields(found: Any, expected: Any) -> None:
    """Every field of a layer and of its neurons, with types."""
    for field in fields(expected):
        mine, theirs = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(theirs, IntegerNeuron):
            assert type(mine) is type(theirs)
            assert_same_fields(mine, theirs)
        else:
            assert_equal(mine, theirs)


def assert_equal(found: Any, expected: Any) -> None:
    """With types."""
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.tobytes() == expected.tobytes()
    else:
        assert found == expected


def inputs_for(net: IntegerNetwork, samples: int = 3, seed: int = 0, rate: float = 0.3) -> Array:
    """Random images, or random spikes."""
    random = np.random.default_rng(seed)
    if net.encoder == "constant":
        images = random.integers(0, net.levels + 1, (samples, *net.in_shape))
        return (images * (random.random(images.shape) < 0.5)).astype(np.uint8)
    if net.encoder == "sequence":
        return random.integers(0, net.levels + 1, (net.steps, samples, *net.in_shape)).astype(np.uint8)
    return (random.random((net.steps, samples, *net.in_shape)) < rate).astype(np.uint8)


def slowly(net: IntegerNetwork, inputs: Array) -> dict[str, Array]:
    """The specification, neuron by neuron, in Python integers; uint8 `[T, N, *out_shape]` by layer."""
    constant = net.encoder == "constant"
    samples = inputs.shape[0 if constant else 1]
    steps = net.steps if constant else len(inputs)
    found = {layer.name: np.zeros((steps, samples, *layer.out_shape), np.uint8) for layer in net.spiking}
    for n in range(samples):
        state = {layer.name: np.zeros(layer.out_shape, object) for layer in net.spiking}
        fired = {layer.name: np.zeros(layer.out_shape, object) for layer in net.spiking}
        for t in range(steps):
            x = (inputs[n] if constant else inputs[t, n]).astype(object)
            given = {"": x}
            for layer in net.layers:
                x, *others = [given[source] for source in layer.sources] or [x]
                if isinstance(layer, Flatten):
                    x = x.reshape(-1)
                elif isinstance(layer, Add):
                    x = sum(others, x)
                elif isinstance(layer, MaxPool):
                    out = np.zeros(layer.out_shape, object)
                    for place in np.ndindex(*layer.out_shape):
                        c, i, j = place
                        rows = slice(i * layer.stride, i * layer.stride + layer.kernel)
                        columns = slice(j * layer.stride, j * layer.stride + layer.kernel)
                        out[place] = int(x[c, rows, columns].max())
                    x = out
                elif isinstance(layer, SumPool):
                    x = _slow_sums(layer, x)
                elif isinstance(layer, Pad):
                    sides = [(pad, pad) for pad in layer.padding]
                    border = [np.pad(each, sides, constant_values=v) for each, v in zip(x, layer.fill, strict=True)]
                    x = np.stack(border)
                else:
                    assert isinstance(layer, Spiking)
                    x = _slow_step(layer, x, state[layer.name], fired[layer.name])
                    found[layer.name][t, n] = x
                given[layer.name] = x
    return found


def _slow_sums(layer: SumPool, x: Array) -> Array:
    out = np.zeros(layer.out_shape, object)
    for c, i, j in np.ndindex(*layer.out_shape):
        for a, b in np.ndindex(*layer.kernel):
            row, column = i * layer.stride[0] + a - layer.padding[0], j * layer.stride[1] + b - layer.padding[1]
            if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                out[c, i, j] += int(x[c, row, column])
    return out


def slow_leak(value: int, decay: int, leak: str) -> int:
    """What a step leaves, in Python's integers."""
    if leak == "shift":
        lost = value // 2**decay
        return value - (max(lost, 1) if value > 0 else lost)
    kept = value * (4096 - decay)
    return -(-kept // 4096) if leak == "mul12_trunc" and kept < 0 else kept // 4096


def slow_limit(value: int, arithmetic: Arithmetic) -> int:
    """A membrane as the chip has it."""
    half = 2 ** (arithmetic.membrane_bits - 1)
    if arithmetic.overflow == "wrap":
        while value >= half:
            value -= 2 * half
        while value < -half:
            value += 2 * half
        return value
    return max(-half + (arithmetic.overflow == "symmetric"), min(half - 1, value))


def _slow_step(layer: Spiking, x: Array, state: Array, fired: Array) -> Array:
    before = fired.copy()
    for place in np.ndindex(*layer.out_shape):
        o = place[0]
        acc = int(layer.bias[o])
        if isinstance(layer, Dense):
            acc += sum(int(w) * int(v) for w, v in zip(layer.weight[o], x, strict=True))
            if isinstance(layer, Recurrent):
                acc += layer.factor * sum(int(w) * int(v) for w, v in zip(layer.recurrent[o], before, strict=True))
        else:
            assert isinstance(layer, Conv)
            share = layer.outputs // layer.groups
            per = layer.weight.shape[1]
            for c, a, b in np.ndindex(*layer.weight.shape[1:]):
                i, j = (
                    place[1] * layer.stride[0] + a - layer.padding[0],
                    place[2] * layer.stride[1] + b - layer.padding[1],
                )
                if 0 <= i < layer.in_shape[1] and 0 <= j < layer.in_shape[2]:
                    acc += int(layer.weight[o, c, a, b]) * int(x[o // share * per + c, i, j])
        neuron = layer.neuron
        theta = int(neuron.theta[o]) << neuron.frac_bits
        decay = int(np.broadcast_to(neuron.decay, layer.outputs)[o])
        value = slow_leak(int(state[place]), decay, neuron.arithmetic.leak) + (acc << neuron.frac_bits)
        if neuron.reset == "subtract" and fired[place]:
            value -= theta
        value = slow_limit(value, neuron.arithmetic)
        spike = int(value >= theta if neuron.arithmetic.comparison == ">=" else value > theta)
        if spike and neuron.reset == "zero":
            value = 0
        if spike and neuron.reset == "subtract_decayed":
            value -= theta
        state[place], fired[place] = value, spike
    return fired.copy()
