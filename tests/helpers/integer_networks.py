"""Random integer networks that spike, for the tests of everything that runs them, and the rule once more, slowly."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.deploy.model import Conv, Dense, Flatten, IntegerNetwork, IntegerReset, Layer, MaxPool, Spiking

Array = NDArray[Any]


def dense(
    name: str, inputs: int, outputs: int, seed: int = 0, decay: int = 410, reset: IntegerReset = "subtract",
    bits: int = 8, frac_bits: int = 6, gain: float = 0.3, levels: int = 1,
) -> Dense:  # fmt: skip
    """Random weights; theta is `gain` times what a tenth of the inputs, all positive, would add up to."""
    random = np.random.default_rng(seed)
    top = 2 ** (bits - 1) - 1
    weight = random.integers(-top, top + 1, (outputs, inputs)).astype(np.int8)
    theta = max(1, int(gain * top * levels * max(1.0, inputs * 0.1)))
    return Dense(
        name, (inputs,), weight, random.integers(-top, top + 1, outputs).astype(np.int32), np.full(outputs, 0.01),
        np.full(outputs, theta, np.int32), decay, frac_bits, reset, bits,
    )  # fmt: skip


def conv(
    name: str, in_shape: tuple[int, int, int], outputs: int, kernel: tuple[int, int] = (3, 3), seed: int = 0,
    decay: int = 410, reset: IntegerReset = "subtract", stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0), groups: int = 1, gain: float = 0.3, frac_bits: int = 6, levels: int = 1,
) -> Conv:  # fmt: skip
    """Likewise."""
    random = np.random.default_rng(seed)
    weight = random.integers(-127, 128, (outputs, in_shape[0] // groups, *kernel)).astype(np.int8)
    theta = max(1, int(gain * 127 * levels * max(1.0, weight[0].size * 0.2)))
    return Conv(
        name, in_shape, weight, random.integers(-60, 61, outputs).astype(np.int32), np.full(outputs, 0.01),
        np.full(outputs, theta, np.int32), decay, frac_bits, reset, 8, stride, padding, groups,
    )  # fmt: skip


def network(layers: Sequence[Layer], steps: int = 12, levels: int = 1) -> IntegerNetwork:
    """Chain layers; with `levels` greater than 1 the inputs are images."""
    classes = layers[-1].out_shape[0]
    encoder = "spikes" if levels == 1 else "constant"
    return IntegerNetwork(tuple(layers), encoder, levels, steps, tuple(map(str, range(classes)))).check()


def mlp(
    sizes: Sequence[int] = (30, 20, 5), seed: int = 0, decay: int = 410, reset: IntegerReset = "subtract",
    steps: int = 12, levels: int = 1, bits: int = 8,
) -> IntegerNetwork:  # fmt: skip
    """A dense network; see `dense`."""
    layers: list[Layer] = []
    for k, (inputs, outputs) in enumerate(pairwise(sizes)):
        first = levels if k == 0 else 1
        layers.append(dense(str(k), inputs, outputs, seed + k, decay, reset, bits, 6 if first == 1 else 0, 0.3, first))
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
        before, theta = int(state[place]), int(layer.theta[o]) << layer.frac_bits
        leaked = (abs(before) * (4096 - layer.decay)) >> 12
        value = (leaked if before >= 0 else -leaked) + (acc << layer.frac_bits)
        if layer.reset == "subtract" and fired[place]:
            value -= theta
        value = max(-(2**23 - 1), min(2**23 - 1, value))
        spike = int(value > theta)
        if spike and layer.reset == "zero":
            value = 0
        if spike and layer.reset == "subtract_decayed":
            value -= theta
        state[place], fired[place] = value, spike
    return fired.copy()
