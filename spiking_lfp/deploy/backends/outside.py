"""What the simulators of other people have in common: an environment of their own, a worker in it, and a delay a layer.

They pin versions of NumPy or bring much that nobody else needs, so each runs in its own process: the network goes there
as one `.npz` of plain arrays, spikes come back as another. Every layer there takes a step to answer. The workers show
silence until the last layer is done, start the bias of a layer when its first input arrives, and shift spikes back.
"""

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from spiking_lfp.deploy.chip import Environment
from spiking_lfp.deploy.model import (
    Array,
    Conv,
    Dense,
    Flatten,
    Forms,
    IntegerNetwork,
    MaxPool,
    Spiking,
    other_neurons,
)
from spiking_lfp.deploy.simulator import check_inputs, simulate
from spiking_lfp.errors import ExportError
from spiking_lfp.integers import IntegerLIF
from spiking_lfp.integers.arithmetic import DEFAULT, INTEGER_RESETS, IntegerReset

# of membranes: all of these shift currents and thresholds by as many
FRAC_BITS = DEFAULT.frac_bits
WORKERS = Path(__file__).parent / "workers"
# lines of a failed worker's last words that are shown
LAST_WORDS = 3
# bytes that a network may take in a simulator
MEMORY = 4 * 10**9


@dataclass(frozen=True, eq=False)
class OutsideRun:
    """What a simulator did, and how long it took.

    Attributes:
        spikes: uint8 `[T, N, *out_shape]` by the name of the layer.
        setup: seconds to build the network in the simulator.
        run: seconds to run all samples in it, resets between samples included.
    """

    spikes: dict[str, Array]
    setup: float
    run: float


@dataclass(frozen=True)
class OutsideBackend:
    """A simulator in an environment of its own; see `chip.Backend`.

    Attributes:
        title: its name in sentences.
        environment: that it lives in.
        worker: file name of the script below `workers`.
        resets: that it can do bit for bit.
        theta_per_neuron: whether neurons of a layer may have different thresholds.
        saturates: the resets with which its membranes end where ours do.
        unrolled: whether it takes convolutions as lists of synapses.
        bytes_per_synapse: of memory, as measured.
        bytes_per_neuron: likewise, inputs included.
    """

    title: str
    environment: Environment
    worker: str
    resets: tuple[IntegerReset, ...] = ("zero",)
    theta_per_neuron: bool = False
    saturates: tuple[IntegerReset, ...] = ()
    unrolled: bool = True
    bytes_per_synapse: int = 0
    bytes_per_neuron: int = 0

    def missing(self) -> str | None:
        """Say how to install it, or return None."""
        try:
            self._python()
        except ExportError as error:
            return str(error)
        return None

    def refusal(self, network: IntegerNetwork) -> str | None:
        """Say which layer cannot be represented there, or return None."""
        layers = stages(network)
        if not layers:
            return f"{self.title} takes no analogue inputs, and the network has no layer after the first"
        for layer in layers:
            reason, neuron = other_neurons(layer, self.title), layer.neuron
            if reason is not None:
                return reason
            if neuron.reset not in self.resets:
                return f"layer {layer.name}: {self.title} has no reset {neuron.reset!r}, only {', '.join(self.resets)}"
            if neuron.frac_bits != FRAC_BITS:
                return f"layer {layer.name}: {self.title} has {FRAC_BITS} fraction bits, not {neuron.frac_bits}"
            if not self.theta_per_neuron and neuron.theta.min() != neuron.theta.max():
                return (
                    f"layer {layer.name}: thresholds are {neuron.theta.min()}..{neuron.theta.max()}, "
                    f"{self.title} has one for all neurons of a layer"
                )
        links = sum(int(layer.fan_out().sum()) for layer in layers)
        neurons = int(np.prod(layers[0].in_shape)) + sum(layer.neurons for layer in layers)
        memory = links * self.bytes_per_synapse + neurons * self.bytes_per_neuron
        if memory > MEMORY:
            return (
                f"{links:,} synapses and {neurons:,} neurons would take {memory / 1e9:.1f} GB in {self.title}, "
                f"the limit is {MEMORY / 1e9:.0f} GB"
            )
        return None

    def run(self, network: IntegerNetwork, inputs: Array) -> dict[str, Array]:
        """Run samples from rest; see `chip.Backend.run`."""
        return self.timed(network, inputs).spikes

    def timed(self, network: IntegerNetwork, inputs: Array) -> OutsideRun:
        """Run samples from rest, and say how long the simulator took.

        Args:
            network: that `refusal` did not refuse.
            inputs: as `simulator.simulate` takes them.

        Raises:
            ExportError: if a membrane saturates that does not there, or the worker fails.
        """
        inputs = check_inputs(network, inputs)
        ours = simulate(network, inputs, record=network.encoder == "constant")
        layers = stages(network)
        for layer in layers:
            cut = layer.name in ours.counters and ours.counters[layer.name].saturated
            if cut and layer.neuron.reset not in self.saturates:
                raise ExportError(
                    f"layer {layer.name}: {cut} membranes saturate with these inputs, {self.title} does not"
                )
        if network.encoder == "constant":
            inputs = ours.spikes[network.spiking[0].name]
        arrays = _arrays(layers, inputs, self.unrolled)
        recorded = {layer.name: layer for layer in network.spiking}
        with TemporaryDirectory(prefix="spiking_lfp_") as folder:
            path, answer = Path(folder) / "network.npz", Path(folder) / "spikes.npz"
            np.savez(path, allow_pickle=False, **arrays)
            command = [self._python(), str(WORKERS / self.worker), str(path), str(answer)]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode or not answer.exists():
                words = " ".join((done.stderr or done.stdout).strip().splitlines()[-LAST_WORDS:])
                raise ExportError(f"{self.title} ended with {done.returncode}: {words}")
            with np.load(answer, allow_pickle=False) as found:
                spikes = {
                    layer.name: found[f"spikes{k}"].reshape(*inputs.shape[:2], *layer.out_shape)
                    for k, layer in enumerate(layers)
                    if layer.name in recorded
                }
                setup, run = map(float, found["seconds"])
        return OutsideRun(spikes, setup, run)

    def _python(self) -> str:
        """Return the Python that has the simulator.

        Raises:
            ExportError: that says how to get one.
        """
        home = self.environment
        try:
            version(home.distribution)
        except PackageNotFoundError:
            python = os.environ.get(home.variable)
        else:
            return sys.executable
        if not python:
            raise ExportError(f"{self.title} is not installed: {home.install}, then set {home.variable}=ENV/bin/python")
        if not _has(python, home.distribution):
            raise ExportError(f"{home.variable}={python} cannot run or has no {home.distribution}: {home.install}")
        return python


@cache
def _has(python: str, distribution: str) -> bool:
    """Return whether that Python has the package."""
    code = f"from importlib.metadata import version; version({distribution!r})"
    try:
        return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def stages(network: IntegerNetwork) -> list[Spiking]:
    """Return what has to run outside, all of it as layers of neurons.

    A first layer that takes analogue inputs is left out. Max pooling becomes neurons with threshold 0 that forget
    everything: they fire if any of their inputs does.
    """
    layers = list(network.layers)
    if network.encoder == "constant":
        layers = layers[layers.index(network.spiking[0]) + 1 :]
    return [stage for layer in layers for stage in _stages(layer)]


# Return what a layer is outside: layers of neurons.
_stages: Forms[list[Spiking]] = Forms("simulators outside")


@_stages.of(Dense)
@_stages.of(Conv)
def _(layer: Spiking) -> list[Spiking]:
    return [layer]


@_stages.of(Flatten)
def _(layer: Flatten) -> list[Spiking]:
    return []


@_stages.of(MaxPool)
def _(pool: MaxPool) -> list[Spiking]:
    channels = pool.in_shape[0]
    zeros = np.zeros(channels, np.int32)
    weight = np.ones((channels, 1, pool.kernel, pool.kernel), np.int8)
    stride = (pool.stride, pool.stride)
    # a spike leaves zero behind with reset "zero", and without one the membrane is at zero anyway
    neuron = IntegerLIF(zeros, 0, FRAC_BITS, "zero")
    return [Conv(pool.name, pool.in_shape, weight, zeros, np.ones(channels), 2, neuron, stride, groups=channels)]


# Return all synapses whose weight is not zero: inputs, neurons, both counted in C order, and weights, int64.
synapses: Forms[tuple[Array, Array, Array]] = Forms("lists of synapses")


@synapses.of(Dense)
def _(layer: Dense) -> tuple[Array, Array, Array]:
    post, pre = np.nonzero(layer.weight)
    return pre, post, layer.weight[post, pre].astype(np.int64)


@synapses.of(Conv)
def _(layer: Conv) -> tuple[Array, Array, Array]:
    # the number of the input at each place of each window, -1 where there is padding
    places = np.arange(np.prod(layer.in_shape)).reshape(layer.in_shape)
    pads = ((0, 0), *((pad, pad) for pad in layer.padding))
    padded = np.pad(places, pads, constant_values=-1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, layer.kernel, (1, 2))
    windows = windows[:, :: layer.stride[0], :: layer.stride[1]]
    share, per_group = layer.outputs // layer.groups, layer.weight.shape[1]
    grouped = windows.reshape(layer.groups, 1, per_group, *windows.shape[1:])
    shape = (layer.groups, share, *grouped.shape[2:])
    pre = np.broadcast_to(grouped, shape)
    weight = layer.weight.reshape(layer.groups, share, per_group, 1, 1, *layer.kernel)
    post = np.arange(layer.neurons).reshape(layer.groups, share, 1, *layer.out_shape[1:], 1, 1)
    kept = (pre >= 0) & (weight != 0)
    return (
        pre[kept],
        np.broadcast_to(post, shape)[kept],
        np.broadcast_to(weight, shape)[kept].astype(np.int64),
    )


def _per_neuron(layer: Spiking, values: Array) -> Array:
    """Return what outputs have, `[O]`, for each neuron, int64 `[neurons]`."""
    return np.repeat(values.astype(np.int64), layer.neurons // layer.outputs)


def _arrays(layers: Iterable[Spiking], inputs: Array, unrolled: bool) -> dict[str, Array]:
    """Return the file for a worker: inputs `[T, N, I]`, and of each layer its numbers, `k` being its place."""
    flat = inputs.astype(np.uint8).reshape(*inputs.shape[:2], -1)
    arrays: dict[str, Array] = {"inputs": flat}
    for k, layer in enumerate(layers):
        values: dict[str, Array] = {
            "in_shape": np.array(layer.in_shape),
            "out_shape": np.array(layer.out_shape),
            "bias": _per_neuron(layer, layer.bias),
            "theta": _per_neuron(layer, layer.neuron.theta),
            "decay": np.array(layer.neuron.decay),
            "reset": np.array(INTEGER_RESETS.index(layer.neuron.reset)),
        }
        if unrolled:
            values["pre"], values["post"], values["weight"] = synapses(layer)
        else:
            values["weight"] = layer.weight.astype(np.int64)
            if isinstance(layer, Conv):
                values["geometry"] = np.array([*layer.stride, *layer.padding, layer.groups])
        arrays |= {f"{name}{k}": value for name, value in values.items()}
    arrays["layers"] = np.array(k + 1)
    return arrays
