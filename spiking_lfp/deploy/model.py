"""The integer network: what is exported, simulated and run on hardware. NumPy only.

A spiking layer is a synapse, `Dense`, `Recurrent` or `Conv`, and its neurons, see `integers`. It has O outputs (neurons
of a dense layer, channels of a convolution). In every step the synapse gives the neurons the integers

    acc  = W s_in + bias

to which `Recurrent` adds `factor V s`, with the spikes `s` of its own neurons in the last step, and states start at 0.
There is no delay between layers. Analogue inputs are integers 0..levels: images as they are (constant encoding), the
same in every step, or those of a sequence. Input spikes are 0 and 1, and `levels` is 1. Between layers run spikes, how
many where neurons spike several times in a step, and behind `Add` and `SumPool` larger integers; `Signal` says which.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spiking_lfp.arguments import as_integer
from spiking_lfp.deploy.readout import HostReadout
from spiking_lfp.errors import ExportError
from spiking_lfp.integers import IntegerLIF, IntegerNeuron
from spiking_lfp.integers.arithmetic import DEFAULT, Arithmetic
from spiking_lfp.integers.fields import ArrayOf, Constraint, IntegerRange, IntegerTuple, Sizes, mismatch

Array = NDArray[Any]
Shape = tuple[int, ...]
Encoding = Literal["constant", "sequence", "spikes"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
Result = TypeVar("Result")
# up to here float32 holds every integer
LARGEST = 2**24


@dataclass(frozen=True)
class Signal:
    """What runs between layers: integers from 0.

    Attributes:
        levels: the integer that stands for 1; for a mean of spikes that is the size of its window.
        largest: of the integers.
    """

    levels: int
    largest: int


@dataclass(frozen=True, eq=False)
class Layer(ABC):
    """One layer of a network.

    Attributes:
        name: its path in the network it came from.
        in_shape: of one sample's input.
        sources: names of the layers before it whose outputs it takes, "" for the inputs of the network; none means the
            layer directly before it, or the inputs.
    """

    name: str
    in_shape: Shape
    sources: tuple[str, ...] = field(default=(), kw_only=True)

    # its name in files, and further values that files hold, computed from its fields
    kind: ClassVar[str]
    derived: ClassVar[dict[str, Constraint]] = {}

    @property
    @abstractmethod
    def out_shape(self) -> Shape:
        """The shape of one sample's output."""

    def gives(self, inputs: Sequence[Signal]) -> Signal:
        """Return what it hands on, if its sources hand on `inputs`."""
        return inputs[0]

    def check(self, inputs: Sequence[Signal]) -> None:
        """Raise an ExportError, with layer and number, if a field is out of range for these inputs."""
        self._check_fields(self, {})

    def _check_fields(self, owner: Any, sizes: Sizes) -> None:
        """Raise an ExportError if a field of the layer, its neurons or their arithmetic violates its constraint."""
        found = mismatch(owner, sizes)
        if found is not None:
            raise ExportError(f"layer {self.name}: {found}")


@dataclass(frozen=True, eq=False)
class Spiking(Layer):
    """A synapse and its integer neurons.

    Attributes:
        weight: int8, `[O, I]` dense, `[O, C / groups, kH, kW]` convolution.
        bias: int32 `[O]`, in weight units times input.
        scale: float64 `[O]`: the floating-point weight is `scale * weight`.
        bits: width of the weights, which are in `-(2^(bits-1) - 1) .. 2^(bits-1) - 1`.
        neuron: constants of the neurons; theta, if they fire, is in the same units as `bias`.
    """

    weight: Array
    bias: Annotated[Array, ArrayOf("int32", ("O",))]
    scale: Annotated[Array, ArrayOf("float64", ("O",))]
    bits: Annotated[int, IntegerRange(2, lambda layer: layer.neuron.arithmetic.weight_bits)]
    neuron: IntegerNeuron

    @property
    def outputs(self) -> int:
        """O: neurons of a dense layer, channels of a convolution."""
        return len(self.weight)

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.out_shape))

    @property
    def weights(self) -> int:
        """Number of weights in memory."""
        return self.weight.size

    @property
    def synapses(self) -> int:
        """Number of synapses; those of a convolution share weights."""
        return int(self.fan_out().sum())

    @abstractmethod
    def fan_out(self) -> Array:
        """Return the fan-out: how many synapses each input has, int64 of shape `in_shape`."""

    def gives(self, inputs: Sequence[Signal]) -> Signal:
        """Return that it hands on spikes, and how many in a step."""
        return Signal(1, self.neuron.arithmetic.spikes)

    def largest_current(self, most: int) -> Array:
        """Return the largest `|acc|` of each output that inputs 0..`most` can cause, int64 `[O]`."""
        # inputs are not negative: only weights of one sign add up
        high, low = (reach + self.bias for reach in self._reach(most))
        largest: Array = np.maximum(high, -low)
        return largest

    def _reach(self, most: int) -> tuple[Array, Array]:
        """Return the largest and the smallest sum of each output that inputs 0..`most` can cause, int64 `[O]`."""
        return _sums_by_sign(self.weight, most)

    def membrane_unit(self, levels: int) -> Array:
        """Return the real value of one unit of each output's membrane, float64 `[O]`; `levels` of an input are 1."""
        unit: Array = self.scale / (levels * 2**self.neuron.frac_bits)
        return unit

    def check(self, inputs: Sequence[Signal]) -> None:
        """Check the fields, those of the neurons, and that the currents of one step cannot overflow a membrane."""
        neuron, arithmetic, sizes = self.neuron, self.neuron.arithmetic, Sizes()
        for value in (arithmetic, self, neuron):
            self._check_fields(value, sizes)
        if neuron.spiking and neuron.reset not in arithmetic.resets:
            known = ", ".join(arithmetic.resets)
            raise ExportError(
                f"layer {self.name}: reset is {neuron.reset!r}, the arithmetic {arithmetic.name} has {known}"
            )
        if not (np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise ExportError(f"layer {self.name}: its weight scale must be finite and greater than 0")
        largest, limit = int(np.abs(self.weight.astype(np.int16)).max()), 2 ** (self.bits - 1) - 1
        if largest > limit:
            raise ExportError(f"layer {self.name}: a weight is {largest}, {self.bits} bits hold {limit} at most")
        if largest == 0:
            raise ExportError(f"layer {self.name}: all weights are zero")
        room = arithmetic.largest >> neuron.frac_bits
        current = int(self.largest_current(inputs[0].largest).max())
        # what joins a state event by event saturates there; its sum has to be exact nevertheless
        most = LARGEST >> neuron.frac_bits if neuron.by_events else room
        if current > most:
            holds = "exact sums reach" if neuron.by_events else "the membrane holds"
            raise ExportError(
                f"layer {self.name}: the currents of one step may add up to {current}, {holds} {most}: use fewer bits "
                "or fewer inputs"
            )
        if neuron.spiking and (neuron.theta.min() < 1 or neuron.theta.max() > room):
            raise ExportError(
                f"layer {self.name}: theta is {neuron.theta.min()}..{neuron.theta.max()} in weight units, expected "
                f"1..{room}: its weights are too small or too large compared with its threshold; use fewer or more bits"
            )


def _sums_by_sign(weight: Array, factor: int) -> tuple[Array, Array]:
    rows = weight.astype(np.int64).reshape(len(weight), -1) * factor
    return rows.clip(min=0).sum(1), rows.clip(max=0).sum(1)


@dataclass(frozen=True, eq=False)
class Dense(Spiking):
    """A fully connected layer."""

    weight: Annotated[Array, ArrayOf("int8", ("O", "I"))]

    kind: ClassVar[str] = "dense"

    @property
    def out_shape(self) -> Shape:
        """`(O,)`."""
        return (self.outputs,)

    def fan_out(self) -> Array:
        """Return O for every input."""
        return np.full(self.in_shape, self.outputs, np.int64)

    def check(self, inputs: Sequence[Signal]) -> None:
        """Check the fields; see `Spiking.check`."""
        super().check(inputs)
        if self.weight.shape != (self.outputs, *self.in_shape):
            raise ExportError(
                f"layer {self.name}: weights {list(self.weight.shape)} do not fit inputs {list(self.in_shape)}"
            )


@dataclass(frozen=True, eq=False)
class Recurrent(Dense):
    """A fully connected layer whose neurons see their own spikes of the step before.

    Attributes:
        recurrent: int8 `[O, O]`, V: from each neuron, along the last axis, to each; of the same width as `weight`.
        factor: what a spike of its own counts as; it brings V to the unit of `weight`.
    """

    recurrent: Annotated[Array, ArrayOf("int8", ("O", "O"))]
    factor: Annotated[int, IntegerRange(1, LARGEST)]

    kind: ClassVar[str] = "recurrent"

    @property
    def weights(self) -> int:
        """Number of weights in memory."""
        return super().weights + self.recurrent.size

    @property
    def synapses(self) -> int:
        """Number of synapses, those among its neurons too."""
        return super().synapses + self.recurrent.size

    def _reach(self, most: int) -> tuple[Array, Array]:
        high, low = super()._reach(most)
        more, less = _sums_by_sign(self.recurrent, self.factor)
        return high + more, low + less

    def check(self, inputs: Sequence[Signal]) -> None:
        """Check the fields; see `Spiking.check`."""
        super().check(inputs)
        largest, limit = int(np.abs(self.recurrent.astype(np.int16)).max()), 2 ** (self.bits - 1) - 1
        if largest > limit:
            raise ExportError(
                f"layer {self.name}: a recurrent weight is {largest}, {self.bits} bits hold {limit} at most"
            )
        if not self.neuron.spiking or self.neuron.arithmetic.spikes != 1:
            raise ExportError(f"layer {self.name}: recurrent neurons spike once in a step at most, and these do not")


@dataclass(frozen=True, eq=False)
class Conv(Spiking):
    """A convolution, cross-correlation as in torch; inputs `(C, H, W)`, zero padding, no dilation."""

    weight: Annotated[Array, ArrayOf("int8", ("O", "channels of a group", "kernel rows", "kernel columns"))]
    stride: Annotated[tuple[int, int], IntegerTuple(2, 1)] = (1, 1)
    padding: Annotated[tuple[int, int], IntegerTuple(2, 0)] = (0, 0)
    groups: Annotated[int, IntegerRange(1)] = 1

    kind: ClassVar[str] = "conv"
    derived: ClassVar[dict[str, Constraint]] = {"kernel": IntegerTuple(2, 1)}

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        height, width = self.weight.shape[2:]
        return height, width

    @property
    def out_shape(self) -> Shape:
        """`(O, H, W)`."""
        return (self.outputs, *_windows(self.in_shape[1:], self.kernel, self.stride, self.padding))

    def fan_out(self) -> Array:
        """Return how many neurons each pixel reaches, fewer at the border."""
        counts = []
        for axis in range(2):
            side, kernel, stride, pad = (
                self.in_shape[1 + axis],
                self.kernel[axis],
                self.stride[axis],
                self.padding[axis],
            )
            starts = np.arange(self.out_shape[1 + axis]) * stride - pad
            places = np.arange(side)[:, None]
            counts.append(((places >= starts) & (places < starts + kernel)).sum(1))
        per_pixel = np.outer(*counts) * (self.outputs // self.groups)
        return np.broadcast_to(per_pixel, self.in_shape).astype(np.int64)

    def check(self, inputs: Sequence[Signal]) -> None:
        """Check the fields; see `Spiking.check`."""
        super().check(inputs)
        if (
            len(self.in_shape) != 3
            or self.in_shape[0] != self.weight.shape[1] * self.groups
            or self.outputs % self.groups
        ):
            raise ExportError(
                f"layer {self.name}: weights {list(self.weight.shape)} in {self.groups} groups do not fit inputs "
                f"{list(self.in_shape)}"
            )
        if min(self.out_shape) < 1:
            raise ExportError(f"layer {self.name}: inputs {list(self.in_shape)} are smaller than the kernel")


def _windows(sides: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Shape:
    """Return how many windows there are along each axis; what fills none is left out."""
    each = zip(sides, kernel, stride, padding, strict=True)
    return tuple((side + 2 * pad - size) // step + 1 for side, size, step, pad in each)


@dataclass(frozen=True)
class MaxPool(Layer):
    """The largest value, of spikes the OR, in square windows without padding; what fills no window is left out."""

    kernel: Annotated[int, IntegerRange(1)]
    stride: Annotated[int, IntegerRange(1)]

    kind: ClassVar[str] = "max_pool"

    @property
    def out_shape(self) -> Shape:
        """`(C, H, W)`."""
        return (self.in_shape[0], *((side - self.kernel) // self.stride + 1 for side in self.in_shape[1:]))

    def check(self, inputs: Sequence[Signal]) -> None:
        """Raise an ExportError if the window does not fit."""
        super().check(inputs)
        if len(self.in_shape) != 3 or min(self.out_shape) < 1:
            raise ExportError(f"layer {self.name}: windows of {self.kernel} do not fit {list(self.in_shape)}")


@dataclass(frozen=True)
class SumPool(Layer):
    """Sums of windows of images padded with zeros; rows and columns that fill no window are left out.

    Attributes:
        divisor: what stands for 1 in a sum of spikes: the size of the window if it is a mean, and 1 if it is a sum.
    """

    kernel: Annotated[tuple[int, int], IntegerTuple(2, 1)]
    stride: Annotated[tuple[int, int], IntegerTuple(2, 1)]
    padding: Annotated[tuple[int, int], IntegerTuple(2, 0)] = (0, 0)
    divisor: Annotated[int, IntegerRange(1)] = 1

    kind: ClassVar[str] = "sum_pool"

    @property
    def out_shape(self) -> Shape:
        """`(C, H, W)`."""
        return (self.in_shape[0], *_windows(self.in_shape[1:], self.kernel, self.stride, self.padding))

    def gives(self, inputs: Sequence[Signal]) -> Signal:
        """Return the range of the sums."""
        given = inputs[0]
        return Signal(given.levels * self.divisor, given.largest * self.kernel[0] * self.kernel[1])

    def check(self, inputs: Sequence[Signal]) -> None:
        """Raise an ExportError if the window does not fit."""
        super().check(inputs)
        if len(self.in_shape) != 3 or min(self.out_shape) < 1:
            raise ExportError(f"layer {self.name}: windows of {list(self.kernel)} do not fit {list(self.in_shape)}")


@dataclass(frozen=True, eq=False)
class Pad(Layer):
    """Images with a border of constant values.

    Attributes:
        padding: rows above and below, columns left and right.
        fill: the value of each channel there.
    """

    padding: Annotated[tuple[int, int], IntegerTuple(2, 0)]
    fill: Annotated[Array, ArrayOf("int32", ("C",))]

    kind: ClassVar[str] = "pad"

    @property
    def out_shape(self) -> Shape:
        """`(C, H, W)`."""
        sides = zip(self.in_shape[1:], self.padding, strict=True)
        return (self.in_shape[0], *(side + 2 * pad for side, pad in sides))

    def check(self, inputs: Sequence[Signal]) -> None:
        """Raise an ExportError if the border does not fit the images."""
        super().check(inputs)
        if len(self.in_shape) != 3 or len(self.fill) != self.in_shape[0]:
            raise ExportError(
                f"layer {self.name}: {len(self.fill)} values of a border do not fit inputs {list(self.in_shape)}"
            )
        if self.fill.min() < 0 or self.fill.max() > inputs[0].largest:
            raise ExportError(
                f"layer {self.name}: a border is {self.fill.min()}..{self.fill.max()}, the inputs are "
                f"0..{inputs[0].largest}"
            )


@dataclass(frozen=True)
class Add(Layer):
    """Sums of what two or more layers hand on, value by value, as in a skip connection."""

    kind: ClassVar[str] = "add"

    @property
    def out_shape(self) -> Shape:
        """That of its inputs."""
        return self.in_shape

    def gives(self, inputs: Sequence[Signal]) -> Signal:
        """Return the range of the sums.

        Raises:
            ExportError: if not the same integer stands for 1 in all of them.
        """
        if len({each.levels for each in inputs}) != 1:
            found = ", ".join(map(str, (each.levels for each in inputs)))
            raise ExportError(
                f"layer {self.name}: adds integers of different units, of which {found} stand for 1: pool both sides "
                "by means of as many values, or neither"
            )
        return Signal(inputs[0].levels, sum(each.largest for each in inputs))


@dataclass(frozen=True)
class Flatten(Layer):
    """Flattens all axes into one, in the order (C, H, W), the last one fastest."""

    kind: ClassVar[str] = "flatten"

    @property
    def out_shape(self) -> Shape:
        """`(features,)`."""
        return (int(np.prod(self.in_shape)),)


# every layer, by its name in files
LAYERS: dict[str, type[Layer]] = {
    layer.kind: layer for layer in (Dense, Recurrent, Conv, MaxPool, Flatten, Add, SumPool, Pad)
}


def as_integers(values: ArrayLike, span: tuple[float, float], levels: int) -> Array:
    """Return real values as integers 0..`levels`, uint8, of which these stand for the two of `span`.

    Raises:
        ExportError: if they hold NaN, or are no numbers.
    """
    try:
        real, (low, high) = np.asarray(values, np.float64), span
    except (TypeError, ValueError, RuntimeError):  # the last of a tensor that has a gradient
        raise ExportError(f"inputs are {type(values).__name__}, expected numbers in an array on the host") from None
    if np.isnan(real).any():
        raise ExportError("inputs hold NaN, expected numbers: clean them")
    found: Array = ((real - low) / (high - low) * levels).round().clip(0, levels).astype(np.uint8)
    return found


class ByLayer(Generic[Result]):
    """A function that dispatches on the type of a layer, and refuses types that none is registered for.

    Args:
        where: the format or simulator that it is of, for the error message.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.known: dict[type[Layer], Callable[..., Result]] = {}

    def register(self, kind: type[Layer]) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
        """Register a function for layers of exactly this type."""

        def register(function: Callable[..., Result]) -> Callable[..., Result]:
            self.known[kind] = function
            return function

        return register

    def __call__(self, layer: Layer, *given: Any) -> Result:
        """Return what the function for the layer's type returns.

        Raises:
            ExportError: with the layer's name and type, if there is none.
        """
        reason = self.unsupported([layer])
        if reason is not None:
            raise ExportError(reason)
        return self.known[type(layer)](layer, *given)

    def unsupported(self, layers: Sequence[Layer]) -> str | None:
        """Return which of the layers is of a type that no function is registered for, or None."""
        for layer in layers:
            if type(layer) not in self.known:
                return f"layer {layer.name}: {type(layer).__name__} is not supported by {self.where}"
        return None


def unsupported_neurons(
    layer: Spiking,
    where: str,
    arithmetic: Arithmetic = DEFAULT,
    kind: type[IntegerNeuron] = IntegerLIF,
    own_decays: bool = False,
) -> str | None:
    """Return why a target with neurons of one kind and arithmetic cannot run the neurons of a layer, or None.

    Args:
        layer: with the neurons.
        where: the target, for the message.
        arithmetic: that it has.
        kind: of the neurons that it has.
        own_decays: whether each output may have a decay of its own.
    """
    neuron = layer.neuron
    if type(neuron) is not kind:
        return f"layer {layer.name}: {type(neuron).__name__} is not supported by {where}, only {kind.__name__} is"
    for name in () if own_decays else neuron.differing_decays:
        values = getattr(neuron, name)
        return (
            f"layer {layer.name}: {name} is {values.min()}..{values.max()}, {where} has one for all neurons of a layer"
        )
    difference = arithmetic.difference(neuron.arithmetic)
    return None if difference is None else f"layer {layer.name}: {difference} as in {where}"


@dataclass(frozen=True, eq=False)
class GoldenRun:
    """Inputs and the outputs they cause in every layer, so that any implementation can check itself.

    Attributes:
        inputs: uint8, `[N, *in_shape]`, the same in every step, or `[T, N, *in_shape]`.
        spikes: uint8 `[T, N, *out_shape]`, how many, of every layer with neurons, by name; int32, membranes, if they do
            not fire.
    """

    inputs: Array
    spikes: dict[str, Array]


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """Layers, a chain or a directed graph without cycles, and the encoding of their inputs.

    Attributes:
        layers: in the order in which they run, each after its sources.
        encoder: "constant": inputs are integers 0..levels, the same in every step; "sequence": such integers of every
            step, `[T, ...]`; "spikes": 0 or 1, `[T, ...]`.
        levels: the largest input value: an intensity of 1 becomes `levels`; 1 for spikes.
        steps: T, time steps of one inference.
        class_names: one for each output, of the readout if there is one.
        golden: None before it is recorded.
        notes: texts by name: how it was trained and quantised.
        readout: computes the prediction on the host; without one it is the output that spikes most, or whose membrane
            adds up to most if the last layer does not fire.
        span: of "sequence", the real values for which the integers 0 and `levels` stand; see `integers`.
    """

    layers: tuple[Layer, ...]
    encoder: Encoding
    levels: int
    steps: int
    class_names: tuple[str, ...]
    golden: GoldenRun | None = None
    notes: dict[str, str] = field(default_factory=dict)
    readout: HostReadout | None = None
    span: tuple[float, float] = (0.0, 1.0)

    def integers(self, values: ArrayLike) -> Array:
        """Return real values as the integers that the network takes, uint8; those beyond its `span` are cut off.

        Args:
            values: of any shape.

        Raises:
            ExportError: if they hold NaN.

        Example:
            >>> network = nn.Sequential(LIF(nn.Linear(4, 8)), LIF(nn.Linear(8, 3)))
            >>> integers = export(network, (torch.randn(9, 10, 4), [0, 1, 2] * 3)).network
            >>> integers.encoder, integers.integers(torch.randn(10, 2, 4)).shape
            ('sequence', (10, 2, 4))
        """
        return as_integers(values, self.span, self.levels)

    def texts(self) -> tuple[str, ...]:
        """Return all names and notes."""
        return (*self.class_names, *self.notes, *self.notes.values(), *(layer.name for layer in self.layers))

    def without_readout(self) -> "IntegerNetwork":
        """Return the network without the readout on the host: the part that runs on a chip."""
        if self.readout is None:
            return self
        names = tuple(f"neuron {number}" for number in range(self.out_shape[0]))
        return replace(self, class_names=names, readout=None)

    @property
    def in_shape(self) -> Shape:
        """The shape of one sample."""
        return self.layers[0].in_shape

    @property
    def out_shape(self) -> Shape:
        """The shape of one sample's output spikes."""
        return self.layers[-1].out_shape

    @property
    def spiking(self) -> tuple[Spiking, ...]:
        """The layers with neurons; all but the last one fire."""
        return tuple(layer for layer in self.layers if isinstance(layer, Spiking))

    def _reads(self, layer: Layer) -> bool:
        """Tell whether predictions are read from the layer itself."""
        return layer is self.layers[-1] and self.readout is None

    def sources(self) -> tuple[tuple[int, ...], ...]:
        """Return for each layer where its inputs come from: 0 is the input of the network, k + 1 layer k.

        Raises:
            ExportError: for a source that is not a layer before.
        """
        numbers, found = {"": 0}, []
        for k, layer in enumerate(self.layers):
            for source in layer.sources:
                if source not in numbers:
                    raise ExportError(f"layer {layer.name}: takes the outputs of {source!r}, no layer before it")
            found.append(tuple(numbers[source] for source in layer.sources) or (k,))
            numbers[layer.name] = k + 1
        return tuple(found)

    def signals(self) -> tuple[Signal, ...]:
        """Return what the layers are given: by the input of the network first, then by each layer."""
        found = [Signal(self.levels, self.levels)]
        for layer, sources in zip(self.layers, self.sources(), strict=True):
            found.append(layer.gives([found[source] for source in sources]))
        return tuple(found)

    def with_inputs(self) -> Iterator[tuple[Layer, tuple[Signal, ...]]]:
        """Yield each layer with what its sources hand on."""
        signals = self.signals()
        for layer, sources in zip(self.layers, self.sources(), strict=True):
            yield layer, tuple(signals[source] for source in sources)

    def check(self) -> "IntegerNetwork":
        """Return the network if it is valid.

        Raises:
            ExportError: with the layer's name and the number that is not.
        """
        if not self.layers or not isinstance(self.layers[-1], Spiking):
            raise ExportError("a network must end in a spiking layer")
        if self.encoder not in ENCODINGS:
            raise ExportError(f"encoder is {self.encoder!r}, expected {', '.join(ENCODINGS)}")
        as_integer(self.levels, f"levels of {self.encoder}", 1, 1 if self.encoder == "spikes" else 255, ExportError)
        low, high = self.span
        if not -math.inf < low < high < math.inf or (self.encoder != "sequence" and self.span != (0.0, 1.0)):
            expected = "two numbers, the lower one first" if self.encoder == "sequence" else "0 to 1"
            raise ExportError(f"inputs of encoder {self.encoder!r} stand for {low:g} to {high:g}, expected {expected}")
        as_integer(self.steps, "steps", 1, error=ExportError)
        for text in self.texts():
            if not isinstance(text, str) or any("\ud800" <= letter <= "\udfff" for letter in text):
                raise ExportError(f"names and notes must be texts that UTF-8 can write, found {text!r}")
        if len({layer.name for layer in self.layers}) != len(self.layers):
            raise ExportError("two layers have the same name")
        shapes, signals, sources = [self.in_shape], [Signal(self.levels, self.levels)], self.sources()
        for layer, numbers in zip(self.layers, sources, strict=True):
            if isinstance(layer, Add) != (len(numbers) > 1):
                expected = "two or more" if isinstance(layer, Add) else "one"
                raise ExportError(f"layer {layer.name}: has {len(numbers)} sources, expected {expected}")
            for shape in (shapes[number] for number in numbers):
                if layer.in_shape != shape or min(shape, default=0) < 1:
                    raise ExportError(f"layer {layer.name}: expects {list(layer.in_shape)}, gets {list(shape)}")
            given = [signals[number] for number in numbers]
            layer.check(given)
            signals.append(layer.gives(given))
            if signals[-1].largest > LARGEST:
                raise ExportError(f"layer {layer.name}: its values reach {signals[-1].largest}, expected 0..{LARGEST}")
            if isinstance(layer, Spiking) and not layer.neuron.spiking and not self._reads(layer):
                raise ExportError(
                    f"layer {layer.name}: {type(layer.neuron).__name__} does not fire, so it has to be the last layer, "
                    "without a readout on the host"
                )
            shapes.append(layer.out_shape)
        taken = {number for numbers in sources for number in numbers}
        for k, layer in enumerate(self.layers[:-1]):
            if k + 1 not in taken:
                raise ExportError(f"layer {layer.name}: no layer takes its outputs")
        outputs = list(self.out_shape)
        if self.readout is not None and len(outputs) == 1:
            self.readout.check(outputs[0], self.steps)
            outputs = [len(self.readout.code)]
        if [len(self.class_names)] != outputs:
            raise ExportError(f"outputs are {outputs}, but there are {len(self.class_names)} class names")
        return self
