"""Simulates an integer network with NumPy, bit for bit as on hardware, and counts operations.

Products are in float32, which is exact here: every sum fits into a membrane, of at most 24 bits. All else is int32.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from spiking_lfp.deploy.artifact import as_network
from spiking_lfp.deploy.layers import (
    Add,
    Array,
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
)
from spiking_lfp.deploy.model import GoldenRun, IntegerNetwork
from spiking_lfp.errors import ExportError

# neurons of the largest layer that are in memory at once, over all samples of a block
BLOCK = 2**20


@dataclass
class Counters:
    """Counts of a layer, summed over samples and steps.

    Attributes:
        spikes: of its neurons.
        synops: synaptic operations: inputs that are not zero times their fan-out.
        recurrent: those of them that come from spikes of the layer itself.
        updates: neurons times steps.
        saturated: states that overflowed, and were saturated or wrapped.
    """

    spikes: int = 0
    synops: int = 0
    recurrent: int = 0
    updates: int = 0
    saturated: int = 0


@dataclass
class Outcome:
    """Result of simulating a network on N samples.

    Attributes:
        counts: spike counts of the outputs, or the sums of their membranes if they do not fire, int64 `[N, outputs]`.
        counters: by spiking layer.
        spikes: uint8 `[T, N, *out_shape]`, how many, by spiking layer, if they were recorded; int32, membranes, of
            neurons that do not fire.
        scores: of the readout, float64 `[N, classes]`, if the network has one.
    """

    counts: Array
    counters: dict[str, Counters]
    spikes: dict[str, Array] = field(default_factory=dict)
    scores: Array | None = None

    @property
    def predictions(self) -> Array:
        """The class with the highest score or count for each sample; of equal ones the first."""
        predictions: Array = (self.counts if self.scores is None else self.scores).argmax(1)
        return predictions


class _Neurons:
    """The state of a spiking layer for a batch."""

    def __init__(self, layer: Spiking, batch: int) -> None:
        self.layer, self.synapse = layer, _synapse(layer)
        self.fan_out = layer.fan_out()
        self.bias = layer.bias.reshape(-1, *[1] * (len(layer.out_shape) - 1))
        shape = (batch, *layer.out_shape)
        self.state = tuple(np.zeros(shape, np.int32) for _ in layer.neuron.states)
        self.fired = np.zeros(shape, bool)
        self.counters = Counters()
        self.recurrent = layer.recurrent.T.astype(np.float32) if isinstance(layer, Recurrent) else np.zeros((0, 0))
        if layer.neuron.by_events:
            most = replace(layer, weight=layer.weight.clip(min=0)), replace(layer, weight=layer.weight.clip(max=0))
            self.by_sign = tuple(map(_synapse, most))

    def current(self, x: Array) -> Array:
        """Return `(W x + bias) << frac_bits`."""
        return (self.synapse(x) + self.bias) << self.layer.neuron.frac_bits

    def step(self, current: Array, x: Array) -> Array:
        """Take one step with the `current` of the inputs `x`, and return the spikes, or membranes that do not fire."""
        if self.layer.neuron.by_events:
            current = self._by_events(current, x)
        if isinstance(self.layer, Recurrent):
            current = current + self._own(self.layer)
        self.state, self.fired = self.layer.neuron.step(self.state, self.fired, current, self._limit)
        counters = self.counters
        counters.spikes += int(np.count_nonzero(self.fired) if self.fired.dtype == bool else self.fired.sum())
        counters.synops += int(np.tensordot((x != 0).sum(0), self.fan_out, self.fan_out.ndim))
        counters.updates += self.fired.size
        return self.fired if self.layer.neuron.spiking else self.state[0]

    def _own(self, layer: Recurrent) -> Array:
        """Return what the spikes of the last step bring to the neurons themselves, and count it."""
        synops = int(np.count_nonzero(self.fired)) * layer.outputs
        self.counters.synops += synops
        self.counters.recurrent += synops
        own: Array = (self.fired.astype(np.float32) @ self.recurrent).astype(np.int32) * layer.factor
        return own << layer.neuron.frac_bits

    def _by_events(self, current: Array, x: Array) -> Array:
        """Return what the synaptic currents gain if they saturate after every spike."""
        shift, axes = self.layer.neuron.frac_bits, [1] * len(self.layer.out_shape)
        flat = x.reshape(len(x), -1).astype(np.int32)
        reach = (synapse(x) + self.bias << shift for synapse in self.by_sign)

        def events() -> Iterator[Array]:
            rows = self.synapse(np.eye(flat.shape[1], dtype=np.int32).reshape(-1, *self.layer.in_shape)) << shift
            yield (self.bias << shift)[None]
            for column, row in zip(flat.T, rows, strict=True):
                if column.any():
                    yield column.reshape(-1, *axes) * row

        gained: Array = self.layer.neuron.arithmetic.gained(self.state[1], current, reach, events)
        self.counters.saturated += int(np.count_nonzero(gained != current))
        return gained

    def _limit(self, values: Array) -> Array:
        """Saturate or wrap values as the chip does, and count those that this changes."""
        limited: Array = self.layer.neuron.arithmetic.limit(values)
        self.counters.saturated += int(np.count_nonzero(limited != values))
        return limited


class Stream:
    """Simulates a network step by step; its states are kept between steps, and start at 0.

    Args:
        network: to simulate.
        batch: number of samples.
    """

    def __init__(self, network: IntegerNetwork, batch: int = 1) -> None:
        self.network = network
        self._sources = network.sources()
        self.neurons = {layer.name: _Neurons(layer, batch) for layer in network.spiking}

    def step(self, x: ArrayLike) -> dict[str, Array]:
        """Take one step with inputs `[N, *in_shape]`, and return the spikes of every spiking layer, bool `[N, ...]`.

        They are int32, how many, where neurons spike several times in a step. Of a layer that does not fire they are
        its membranes, int32.
        """
        return self._step(np.asarray(x), {})

    def _step(self, x: Any, currents: dict[str, Array]) -> dict[str, Array]:
        spikes, values = {}, [x]
        for layer, sources in zip(self.network.layers, self._sources, strict=True):
            given = [values[source] for source in sources]
            if isinstance(layer, Spiking):
                neurons = self.neurons[layer.name]
                current = currents.get(layer.name)
                spikes[layer.name] = neurons.step(neurons.current(*given) if current is None else current, *given)
                values.append(spikes[layer.name])
            else:
                values.append(without_neurons(layer, *given))
        return spikes

    def run(self, x: ArrayLike) -> Iterator[dict[str, Array]]:
        """Yield the spikes of all steps, for constant inputs `[N, ...]` or sequences `[T, N, ...]`."""
        x = np.asarray(x)
        if self.network.encoder != "constant":
            yield from map(self.step, x)
            return
        # constant inputs have the same current in every step: multiply once
        values = [x]
        for layer, sources in zip(self.network.layers, self._sources, strict=True):
            given = [values[source] for source in sources]
            if isinstance(layer, Spiking):
                current = {layer.name: self.neurons[layer.name].current(*given)}
                break
            values.append(without_neurons(layer, *given))
        for _ in range(self.network.steps):
            yield self._step(x, current)


# Return the output of a layer without neurons for integers `[N, ...]` of each of its sources.
without_neurons: ByLayer[Array] = ByLayer("the simulator")


@without_neurons.register(Flatten)
def _(layer: Flatten, x: Array) -> Array:
    return x.reshape(len(x), -1)


@without_neurons.register(Add)
def _(layer: Add, *summands: Array) -> Array:
    total: Array = np.zeros(summands[0].shape, np.int32)
    for summand in summands:
        total = total + summand
    return total


@without_neurons.register(Pad)
def _(layer: Pad, x: Array) -> Array:
    (above, beside), (height, width) = layer.padding, layer.in_shape[1:]
    padded = np.empty((len(x), *layer.out_shape), x.dtype if x.dtype != bool else np.uint8)
    padded[:] = layer.fill[:, None, None]
    padded[:, :, above : above + height, beside : beside + width] = x
    return padded


@without_neurons.register(MaxPool)
def _(layer: MaxPool, x: Array) -> Array:
    pooled: Array = np.zeros((len(x), *layer.out_shape), x.dtype)
    for part in _parts(layer, x, (layer.kernel, layer.kernel), (layer.stride, layer.stride)):
        np.maximum(pooled, part, out=pooled)
    return pooled


@without_neurons.register(SumPool)
def _(layer: SumPool, x: Array) -> Array:
    pooled: Array = np.zeros((len(x), *layer.out_shape), np.int32)
    padded = np.pad(x, ((0, 0), (0, 0), *((pad, pad) for pad in layer.padding)))
    for part in _parts(layer, padded, layer.kernel, layer.stride):
        pooled += part
    return pooled


def _parts(layer: Layer, x: Array, kernel: Sequence[int], stride: Sequence[int]) -> Iterator[Array]:
    """Yield for each place in the window what the windows of `x` have there, `[N, *out_shape]`."""
    height, width = (step * (side - 1) + 1 for step, side in zip(stride, layer.out_shape[1:], strict=True))
    for i, j in np.ndindex(*kernel):
        yield x[:, :, i : i + height : stride[0], j : j + width : stride[1]]


def simulate(network: IntegerNetwork | str | Path, inputs: ArrayLike, record: bool = False) -> Outcome:
    """Simulate samples, with all states at 0 before each, in blocks that fit into memory.

    Args:
        network: to simulate; or its file, or the name of one in the package.
        inputs: integers in 0..levels, `[N, *in_shape]`, or `[T, N, *in_shape]` of sequences and spikes, as
            `network.encoder` says.
        record: return the spikes of all layers.

    Raises:
        ExportError: if inputs do not fit, or the file cannot be read.
        UsageError: for an unknown name.

    Returns:
        counts of spikes, predictions, and what each layer did.

    Example:
        >>> network = nn.Sequential(LIF(nn.Linear(4, 8)), LIF(nn.Linear(8, 3)))
        >>> integers = export(network, (torch.rand(9, 4), [0, 1, 2] * 3), steps=10).network
        >>> simulate(integers, torch.randint(256, (5, 4))).counts.shape
        (5, 3)
    """
    network = as_network(network)
    inputs = check_inputs(network, inputs)
    axis = 0 if network.encoder == "constant" else 1
    samples, steps = inputs.shape[axis], network.steps if axis == 0 else len(inputs)
    largest = max(layer.neurons for layer in network.spiking)
    block = max(1, BLOCK // largest)
    last = network.layers[-1].name
    counts = np.zeros((samples, *network.out_shape), np.int64)
    totals = {layer.name: Counters() for layer in network.spiking}
    kept = {
        layer.name: np.empty((steps, samples, *layer.out_shape), np.uint8 if layer.neuron.spiking else np.int32)
        for layer in network.spiking
        if record
    }
    readout = network.readout
    kernel = np.zeros((0, steps)) if readout is None else readout.kernel(steps)
    rates = np.zeros((len(kernel), *counts.shape))
    for low in range(0, samples, block):
        high = min(low + block, samples)
        stream = Stream(network, high - low)
        for t, spikes in enumerate(stream.run(inputs[low:high] if axis == 0 else inputs[:, low:high])):
            counts[low:high] += spikes[last]
            rates[:, low:high] += np.multiply.outer(kernel[:, t], spikes[last])
            for name, recorded in kept.items():
                recorded[t, low:high] = spikes[name]
        for name, neurons in stream.neurons.items():
            for what, value in vars(neurons.counters).items():
                setattr(totals[name], what, getattr(totals[name], what) + value)
    return Outcome(counts, totals, kept, None if readout is None else readout.scores(rates.swapaxes(0, 1)))


def run_layer(layer: Spiking, inputs: Array, steps: int) -> tuple[Array, int]:
    """Run a single layer, in blocks that fit into memory.

    Args:
        layer: with neurons.
        inputs: integers `[N, *in_shape]`, the same in every step, or `[T, N, *in_shape]`.
        steps: T.

    Returns:
        its outputs as `Outcome.spikes` has them, and how many states overflowed.
    """
    constant = inputs.ndim == 1 + len(layer.in_shape)
    samples, block = inputs.shape[0 if constant else 1], max(1, BLOCK // layer.neurons)
    outputs = np.empty((steps, samples, *layer.out_shape), np.uint8 if layer.neuron.spiking else np.int32)
    saturated = 0
    for low in range(0, samples, block):
        part = slice(low, low + block)
        neurons = _Neurons(layer, min(block, samples - low))
        current = neurons.current(inputs[part]) if constant else None
        for t in range(steps):
            x = inputs[part] if constant else inputs[t, part]
            outputs[t, part] = neurons.step(neurons.current(x) if current is None else current, x)
        saturated += neurons.counters.saturated
    return outputs, saturated


def check_inputs(network: IntegerNetwork, inputs: ArrayLike) -> Array:
    """Return `inputs`, an array, a list or a tensor on the host, as an array if the network takes them.

    Raises:
        ExportError: that says what was found and what was expected.
    """
    try:
        inputs = np.asarray(inputs)
    except (TypeError, ValueError, RuntimeError) as error:  # the last of a tensor that has a gradient
        reason = " ".join(str(error).split())
        raise ExportError(f"inputs are {type(inputs).__name__}, expected an array of integers ({reason})") from None
    lead = 1 if network.encoder == "constant" else 2
    channels, *sides = network.in_shape
    if len(sides) == 2 and sides[0] == 1 and inputs.shape[lead:] == (channels, sides[1]):
        inputs = inputs.reshape(*inputs.shape[:lead], *network.in_shape)  # signals are images one pixel high
    if inputs.ndim < lead or inputs.shape[lead:] != network.in_shape or 0 in inputs.shape:
        layout = "[N, ...]" if lead == 1 else "[T, N, ...]"
        raise ExportError(f"inputs are {list(inputs.shape)}, expected {layout} of samples {list(network.in_shape)}")
    # truth values are spikes; where integers stand for 0 to 1, they would be 1 of so many, almost nothing
    if inputs.dtype.kind not in ("bui" if network.levels == 1 else "ui"):
        remedy = ": network.integers(values) makes them of real numbers" if network.levels > 1 else ""
        raise ExportError(f"inputs are {inputs.dtype}, expected integers 0..{network.levels}{remedy}")
    low, high = int(inputs.min()), int(inputs.max())
    if low < 0 or high > network.levels:
        raise ExportError(f"inputs go from {low} to {high}, expected integers 0..{network.levels}")
    return inputs


def with_golden_run(network: IntegerNetwork, inputs: ArrayLike) -> IntegerNetwork:
    """Return the network with a golden run of these inputs."""
    inputs = check_inputs(network, inputs)
    outcome = simulate(network, inputs, record=True)
    return replace(network, golden=GoldenRun(inputs.astype(np.uint8), outcome.spikes))


# Return the function from inputs `[N, ...]` to weighted sums, int32 `[N, *out_shape]`.
_synapse: ByLayer[Callable[[Array], Array]] = ByLayer("the simulator")


@_synapse.register(Dense)
@_synapse.register(Recurrent)
def _(layer: Dense) -> Callable[[Array], Array]:
    weight = layer.weight.astype(np.float32)
    return lambda x: (x.astype(np.float32) @ weight.T).astype(np.int32)


@_synapse.register(Conv)
def _(layer: Conv) -> Callable[[Array], Array]:
    weight = layer.weight.astype(np.float32)
    groups, outputs = layer.groups, layer.outputs // layer.groups
    matrices = weight.reshape(groups, outputs, -1)
    pads = ((0, 0), (0, 0), *((pad, pad) for pad in layer.padding))

    def convolve(x: Array) -> Array:
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, pads), layer.kernel, (2, 3))
        windows = windows[:, :, :: layer.stride[0], :: layer.stride[1]]
        samples, channels, height, width = windows.shape[:4]
        each = windows.reshape(samples, groups, channels // groups, height, width, *layer.kernel)
        # [groups, N, H, W, patch]
        patches = each.transpose(1, 0, 3, 4, 2, 5, 6).reshape(groups, samples * height * width, -1).astype(np.float32)
        sums = patches @ matrices.transpose(0, 2, 1)
        sums = sums.reshape(groups, samples, height, width, outputs).transpose(1, 0, 4, 2, 3)
        return sums.reshape(samples, layer.outputs, height, width).astype(np.int32)

    return convolve
