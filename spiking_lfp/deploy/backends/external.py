"""External simulators: each has its own environment, a worker script that runs in it, and a delay of a step per layer.

They pin versions of NumPy or have many dependencies, so each runs in a process of its own, which reads the network from
an `.npz` of plain arrays and writes spikes to another. The simulators delay every layer by one step. The workers append
steps without input until the last layer is done, start the bias of a layer when its first input arrives, and shift the
spikes of a layer back by its delay.
"""

import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from spiking_lfp.deploy.chip import Environment
from spiking_lfp.deploy.layers import Array, ByLayer, Conv, Dense, Flatten, Layer, MaxPool, Spiking, unsupported_neurons
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import check_inputs, simulate
from spiking_lfp.errors import ExportError
from spiking_lfp.integers import IntegerLIF
from spiking_lfp.integers.arithmetic import DEFAULT, INTEGER_RESETS, IntegerReset

# of membranes: all external simulators shift currents and thresholds by as many
FRAC_BITS = DEFAULT.frac_bits
WORKERS = Path(__file__).parent / "workers"
# how many lines at the end of a failed worker's output are shown
ERROR_LINES = 3
# bytes of memory that a network may take in a simulator
MAX_MEMORY = 4 * 10**9


@dataclass(frozen=True, eq=False)
class ExternalRun:
    """Spikes of a simulation, and how long it took.

    Attributes:
        spikes: uint8 `[T, N, *out_shape]` by the name of the layer.
        setup: seconds to build the network.
        run: seconds to run all samples, resets between samples included.
    """

    spikes: dict[str, Array]
    setup: float
    run: float


@dataclass(frozen=True)
class ExternalBackend:
    """An external simulator; see `chip.Backend`.

    Attributes:
        title: its name in messages.
        environment: in which it is installed.
        worker: file name of the script in `workers`.
        resets: those that it simulates bit for bit.
        threshold_per_neuron: whether neurons of a layer may have different thresholds.
        saturating_resets: those with which its membranes saturate as in the integer simulator.
        unrolled: whether convolutions are given to it as lists of synapses.
        bytes_per_synapse: measured use of memory.
        bytes_per_neuron: measured use of memory; an input counts as a neuron.
    """

    title: str
    environment: Environment
    worker: str
    resets: tuple[IntegerReset, ...] = ("zero",)
    threshold_per_neuron: bool = False
    saturating_resets: tuple[IntegerReset, ...] = ()
    unrolled: bool = True
    bytes_per_synapse: int = 0
    bytes_per_neuron: int = 0

    def missing(self) -> str | None:
        """Return how to install it, or None."""
        try:
            self.environment.python(self.title)
        except ExportError as error:
            return str(error)
        return None

    def unsupported(self, network: IntegerNetwork) -> str | None:
        """Return which layer it does not support and why, or None."""
        reason = _neuron_layers.unsupported(_working(network))
        if reason is not None:
            return reason
        if network.encoder == "sequence":
            return f"{self.title} takes spikes, and the network takes integers 0..{network.levels} in every step"
        layers = neuron_layers(network)
        if not layers:
            return f"{self.title} takes no analogue inputs, and the network has no layer after the first"
        for layer in layers:
            reason, neuron = unsupported_neurons(layer, self.title), layer.neuron
            if reason is not None:
                return reason
            if neuron.reset not in self.resets:
                return f"layer {layer.name}: {self.title} has no reset {neuron.reset!r}, only {', '.join(self.resets)}"
            if neuron.frac_bits != FRAC_BITS:
                return f"layer {layer.name}: {self.title} has {FRAC_BITS} fraction bits, not {neuron.frac_bits}"
            if not self.threshold_per_neuron and neuron.theta.min() != neuron.theta.max():
                return (
                    f"layer {layer.name}: thresholds are {neuron.theta.min()}..{neuron.theta.max()}, "
                    f"{self.title} has one for all neurons of a layer"
                )
        count = sum(layer.synapses for layer in layers)
        neurons = int(np.prod(layers[0].in_shape)) + sum(layer.neurons for layer in layers)
        memory = count * self.bytes_per_synapse + neurons * self.bytes_per_neuron
        if memory > MAX_MEMORY:
            return (
                f"{count:,} synapses and {neurons:,} neurons would take {memory / 1e9:.1f} GB in {self.title}, "
                f"the limit is {MAX_MEMORY / 1e9:.0f} GB"
            )
        return None

    def run(self, network: IntegerNetwork, inputs: Array) -> dict[str, Array]:
        """Run samples; see `chip.Backend.run`."""
        return self.timed(network, inputs).spikes

    def timed(self, network: IntegerNetwork, inputs: Array) -> ExternalRun:
        """Run samples, and measure how long it takes.

        Args:
            network: for which `unsupported` returned None.
            inputs: as `simulator.simulate` takes them.

        Raises:
            ExportError: if a membrane saturates that does not in this simulator, or the worker fails.
        """
        inputs = check_inputs(network, inputs)
        ours = simulate(network, inputs, record=network.encoder == "constant")
        layers = neuron_layers(network)
        for layer in layers:
            saturated = layer.name in ours.counters and ours.counters[layer.name].saturated
            if saturated and layer.neuron.reset not in self.saturating_resets:
                raise ExportError(
                    f"layer {layer.name}: {saturated} membranes saturate with these inputs, {self.title} does not"
                )
        if network.encoder == "constant":
            inputs = ours.spikes[network.spiking[0].name]
        arrays = _arrays(layers, inputs, self.unrolled)
        recorded = {layer.name: layer for layer in network.spiking}
        with TemporaryDirectory(prefix="spiking_lfp_") as folder:
            path, result = Path(folder) / "network.npz", Path(folder) / "spikes.npz"
            np.savez(path, allow_pickle=False, **arrays)
            run_worker(self.title, self.environment, self.worker, path, result)
            with np.load(result, allow_pickle=False) as found:
                spikes = {
                    layer.name: found[f"spikes{k}"].reshape(*inputs.shape[:2], *layer.out_shape)
                    for k, layer in enumerate(layers)
                    if layer.name in recorded
                }
                setup, run = map(float, found["seconds"])
        return ExternalRun(spikes, setup, run)


def run_worker(title: str, environment: Environment, worker: str, path: Path, result: Path) -> None:
    """Run a script of `workers` in its environment, beside the file that it reads; it writes another.

    Raises:
        ExportError: if it is not installed, or fails.
    """
    command = [environment.python(title), str(WORKERS / worker), str(path), str(result)]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)
    if done.returncode or not result.exists():
        message = " ".join((done.stderr or done.stdout).strip().splitlines()[-ERROR_LINES:])
        raise ExportError(f"{title} ended with {done.returncode}: {message}")


def neuron_layers(network: IntegerNetwork) -> list[Spiking]:
    """Return what an external simulator has to run, as layers of neurons only.

    A first layer with analogue inputs is left out. Max pooling becomes neurons with threshold 0 whose membrane is 0
    again after each step: they spike if any of their inputs does.
    """
    return [each for layer in _working(network) for each in _neuron_layers(layer)]


def _working(network: IntegerNetwork) -> Sequence[Layer]:
    """Return the layers that an external simulator has to run."""
    first = network.layers.index(network.spiking[0]) + 1 if network.encoder == "constant" else 0
    return network.layers[first:]


# Return a layer as layers of neurons.
_neuron_layers: ByLayer[list[Spiking]] = ByLayer("external simulators")


@_neuron_layers.register(Dense)
@_neuron_layers.register(Conv)
def _(layer: Spiking) -> list[Spiking]:
    return [layer]


@_neuron_layers.register(Flatten)
def _(layer: Flatten) -> list[Spiking]:
    return []


@_neuron_layers.register(MaxPool)
def _(pool: MaxPool) -> list[Spiking]:
    channels = pool.in_shape[0]
    zeros = np.zeros(channels, np.int32)
    weight = np.ones((channels, 1, pool.kernel, pool.kernel), np.int8)
    stride = (pool.stride, pool.stride)
    # reset "zero" sets the membrane to zero after a spike, and without one it is zero anyway
    neuron = IntegerLIF(zeros, 0, FRAC_BITS, "zero")
    return [Conv(pool.name, pool.in_shape, weight, zeros, np.ones(channels), 2, neuron, stride, groups=channels)]


# Return all synapses with a weight that is not zero: indices of inputs and neurons, in C order, and weights, int64.
synapses: ByLayer[tuple[Array, Array, Array]] = ByLayer("the list of synapses")


@synapses.register(Dense)
def _(layer: Dense) -> tuple[Array, Array, Array]:
    post, pre = np.nonzero(layer.weight)
    return pre, post, layer.weight[post, pre].astype(np.int64)


@synapses.register(Conv)
def _(layer: Conv) -> tuple[Array, Array, Array]:
    # the index of the input at each position of each window, -1 for padding
    indices = np.arange(np.prod(layer.in_shape)).reshape(layer.in_shape)
    pads = ((0, 0), *((pad, pad) for pad in layer.padding))
    padded = np.pad(indices, pads, constant_values=-1)
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


def per_neuron(layer: Spiking, values: Array) -> Array:
    """Return values of outputs `[O]` by neuron, int64 `[neurons]`."""
    return np.repeat(values.astype(np.int64), layer.neurons // layer.outputs)


def _arrays(layers: Iterable[Spiking], inputs: Array, unrolled: bool) -> dict[str, Array]:
    """Return the arrays for a worker: inputs `[T, N, I]`, and the constants of layer k, whose names end in k."""
    flat = inputs.astype(np.uint8).reshape(*inputs.shape[:2], -1)
    arrays: dict[str, Array] = {"inputs": flat}
    for k, layer in enumerate(layers):
        values: dict[str, Array] = {
            "in_shape": np.array(layer.in_shape),
            "out_shape": np.array(layer.out_shape),
            "bias": per_neuron(layer, layer.bias),
            "theta": per_neuron(layer, layer.neuron.theta),
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
