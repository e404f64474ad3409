"""The layers of integer networks. NumPy only.

A spiking layer is a synapse, `Dense`, `Recurrent` or `Conv`, and its neurons, see `integers`. It has O outputs (neurons
of a dense layer, channels of a convolution). In every step the synapse gives the neurons the integers

    acc  = W s_in + bias

to which `Recurrent` adds `factor V s`, with the spikes `s` of its own neurons in the last step, and states start at 0.
There is no delay between layers. Between layers run spikes, how many where neurons spike several times in a step, and
behind `Add` and `SumPool` larger integers; `Signal` says which.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.errors import ExportError
from spiking_lfp.integers import IntegerLIF, IntegerNeuron
from spiking_lfp.integers.arithmetic import DEFAULT, Arithmetic
from spiking_lfp.integers.fields import ArrayOf, Constraint, IntegerRange, IntegerTuple, Sizes, mismatch

Array = NDArray[Any]
Shape = tuple[int, ...]
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
