"""Random integer networks that spike, for the tests of everything that runs them, and the rule once more, slowly."""

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.deploy.model import Conv, Dense, Flatten, IntegerNetwork, Layer, MaxPool, Spiking
from spiking_lfp.integers import IntegerLIF, IntegerNeuron
from spiking_lfp.integers.arithmetic import DEFAULT, Arithmetic, IntegerReset

Array = NDArray[Any]


def dense(
    name: str, inputs: int, outputs: int, seed: int = 0, decay: int = 410, reset: IntegerReset = "subtract",
    bits: int = 8, frac_bits: int = 6, gain: float = 0.3, levels: int = 1, arithmetic: Arithmetic = DEFAULT,
) -> Dense:  # fmt: skip
    """Random weights; theta is `gain` times what a tenth of the inputs, all positive, would add up to."""
    random = np.random.default_rng(seed)
    top = 2 ** (bits - 1) - 1
    weight = random.integers(-top, top + 1, (outputs, inputs)).astype(np.int8)
    theta = max(1, int(gain * top * levels * max(1.0, inputs * 0.1)))
    return Dense(
        name, (inputs,), weight, random.integers(-top, top + 1, outputs).astype(np.int32), np.full(outputs, 0.01),
        bits, IntegerLIF(np.full(outputs, theta, np.int32), decay, frac_bits, reset, arithmetic),
    )  # fmt: skip


def conv(
    name: str, in_shape: tuple[int, int, int], outputs: int, kernel: tuple[int, int] = (3, 3), seed: int = 0,
    decay: int = 410, reset: IntegerReset = "subtract", stride: tuple[int, int] = (1, 1),
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


def network(layers: Sequence[Layer], steps: int = 12, levels: int = 1) -> IntegerNetwork:
    """Chain layers; with `levels` greater than 1 the inputs are images."""
    classes = layers[-1].out_shape[0]
    encoder = "spikes" if levels == 1 else "constant"
    return IntegerNetwork(tuple(layers), encoder, levels, steps, tuple(map(str, range(classes)))).check()


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


def changed(layer: Layer, **changes: Any) -> Layer:
    """Return a layer with other values of its fields, or of those of its neurons."""
    if isinstance(layer, Spiking):
        neuron = {name: changes.pop(name) for name in list(changes) if name in IntegerLIF.__dataclass_fields__}
        changes["neuron"] = replace(layer.neuron, **neuron)
    return replace(layer, **changes)


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
            for layer in net.layers:
                if isinstance(layer, Flatten):
                    x = x.reshape(-1)
                elif isinstance(layer, MaxPool):
                    out = np.zeros(layer.out_shape, object)
                    for place in np.ndindex(*layer.out_shape):
                        c, i, j = place
                        rows = slice(i * layer.stride, i * layer.stride + layer.kernel)
                        columns = slice(j * layer.stride, j * layer.stride + layer.kernel)
                        out[place] = int(x[c, rows, columns].any())
                    x = out
                else:
                    x = _slow_step(layer, x, state[layer.name], fired[layer.name])
                    found[layer.name][t, n] = x
    return found


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
    for place in np.ndindex(*layer.out_shape):
        o = place[0]
        acc = int(layer.bias[o])
        if isinstance(layer, Dense):
            acc += sum(int(w) * int(v) for w, v in zip(layer.weight[o], x, strict=True))
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
        value = slow_leak(int(state[place]), neuron.decay, neuron.arithmetic.leak) + (acc << neuron.frac_bits)
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
