"""Runs a network in brian2-loihi: python brian2_loihi_worker.py NETWORK.npz SPIKES.npz; see `external`.

One network holds copies for as many samples as `BLOCK` synapses allow; each block of samples has a new network.
"""

import sys
from time import perf_counter
from typing import Any

import numpy as np

BLOCK = 2**20
# a synapse adds at most 127 * 2^7 weight units: larger biases come from several generators
LARGEST = 127


def digits(bias: Any) -> tuple[Any, list[int]]:
    """Return `[n, O]` digits of the bias and the exponent of each row: bias is the sum of digit * 2^exponent."""
    low = (bias + 64) % 128 - 64
    high = (bias - low) // 128
    rows, exponents = [low], [0]
    while np.any(high):
        part = np.clip(high, -LARGEST, LARGEST)
        rows.append(part)
        exponents.append(7)
        high = high - part
    return np.array(rows), exponents


def main(source: str, target: str) -> None:
    """Read a network, run it, write its spikes."""
    from brian2 import prefs

    # needs no compiler, and is faster for few steps
    prefs.codegen.target = "numpy"
    data = dict(np.load(source))
    inputs, layers = data["inputs"], int(data["layers"])
    steps, samples, _ = inputs.shape
    count = sum(len(data[f"pre{k}"]) for k in range(layers))
    block = max(1, BLOCK // max(1, count))
    spikes: dict[str, Any] = {
        f"spikes{k}": np.zeros((steps, samples, len(data[f"theta{k}"])), np.uint8) for k in range(layers)
    }
    setup = run = 0.0
    for low in range(0, samples, block):
        part = inputs[:, low : low + block]
        started = perf_counter()
        network, monitors = build(data, part, layers)
        built = perf_counter()
        network.run(steps + layers - 1)
        run += perf_counter() - built
        setup += built - started
        for k, monitor in enumerate(monitors):
            neurons = len(data[f"theta{k}"])
            # its `t` truncates milliseconds that are not exact
            index, t = np.asarray(monitor.i), np.rint(np.asarray(monitor.t_) * 1000).astype(int) - k
            seen = (t >= 0) & (t < steps)
            index, t = index[seen], t[seen]
            spikes[f"spikes{k}"][t, low + index // neurons, index % neurons] = 1
    np.savez(target, seconds=np.array([setup, run]), **spikes)


def build(data: dict[str, Any], inputs: Any, layers: int) -> tuple[Any, list[Any]]:
    """Return a network with a copy for each sample of inputs `[T, N, I]`, and a monitor of each layer."""
    from brian2_loihi import (
        LoihiNetwork,
        LoihiNeuronGroup,
        LoihiSpikeGeneratorGroup,
        LoihiSpikeMonitor,
        LoihiSynapses,
        synapse_sign_mode,
    )

    steps, samples, features = inputs.shape
    objects: list[Any] = []
    monitors: list[Any] = []

    def connect(before: Any, after: Any, pre: Any, post: Any, weight: Any, exponent: int) -> None:
        # mantissas of mixed sign are even: twice the weight, half the scale
        synapses = LoihiSynapses(before, after, sign_mode=synapse_sign_mode.MIXED, w_exp=exponent - 1)
        synapses.connect(i=pre, j=post)
        synapses.w = 2 * weight
        objects.append(synapses)

    t, sample, feature = np.nonzero(inputs)
    before, width = LoihiSpikeGeneratorGroup(samples * features, sample * features + feature, t), features
    objects.append(before)
    copies = np.arange(samples)[:, None]
    for k in range(layers):
        theta, bias = data[f"theta{k}"], data[f"bias{k}"]
        neurons = len(theta)
        group = LoihiNeuronGroup(
            samples * neurons,
            threshold_v_mant=int(theta[0]),
            decay_v=int(data[f"decay{k}"]),
            decay_I=4096,
        )
        objects.append(group)
        pre, post, weight = data[f"pre{k}"], data[f"post{k}"], data[f"weight{k}"]
        connect(
            before,
            group,
            (copies * width + pre).ravel(),
            (copies * neurons + post).ravel(),
            np.tile(weight, samples),
            0,
        )
        if np.any(bias):
            rows, exponents = digits(bias)
            for row, exponent in zip(rows, exponents, strict=True):
                # layer k has a delay of k steps, and its bias must not come earlier
                generator = LoihiSpikeGeneratorGroup(1, np.zeros(steps, int), np.arange(k, k + steps))
                objects.append(generator)
                all_neurons = np.arange(samples * neurons)
                connect(generator, group, np.zeros_like(all_neurons), all_neurons, np.tile(row, samples), exponent)
        monitor = LoihiSpikeMonitor(group)
        objects.append(monitor)
        monitors.append(monitor)
        before, width = group, neurons
    return LoihiNetwork(*objects), monitors


if __name__ == "__main__":
    main(*sys.argv[1:])
