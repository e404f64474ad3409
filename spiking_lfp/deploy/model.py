"""The integer network: what is exported, simulated and built in hardware. NumPy only.

A spiking layer holds, for O outputs (neurons of a dense layer, channels of a convolution), integers:

    acc  = W s_in + bias
    V    = sign(V) * ((|V| * (4096 - decay)) >> 12) + (acc << frac_bits)        the leak truncates towards zero
    V    = V - (theta << frac_bits) * S_before                                  reset "subtract", one step delayed
    V    = saturate(V) at +-(2^23 - 1)
    S    = V > (theta << frac_bits)                                             strictly greater
    V    = 0 where S                                                            reset "zero"
    V    = V - (theta << frac_bits) * S                                         reset "subtract_decayed"

from V = S = 0, without delay between layers. Images that are shown as they are (constant encoding) enter as integers
0..levels, the same in every step; spikes as 0 and 1, then `levels` is 1.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.deploy.readout import HostReadout
from spiking_lfp.errors import ExportError

Array = NDArray[Any]
Shape = tuple[int, ...]
IntegerReset = Literal["zero", "subtract", "subtract_decayed"]
INTEGER_RESETS: tuple[IntegerReset, ...] = ("zero", "subtract", "subtract_decayed")

MEMBRANE_MAX = 2**23 - 1
DECAY_BITS = 12
FRAC_BITS = 6
WEIGHT_BITS = range(2, 9)


@dataclass(frozen=True, eq=False)
class Spiking(ABC):
    """A synapse and its integer LIF neurons; see the head of this module.

    Attributes:
        name: its path in the network it came from.
        in_shape: of one sample's input.
        weight: int8, `[O, I]` dense, `[O, C / groups, kH, kW]` convolution.
        bias: int32 `[O]`, in units of the weights times the input.
        scale: float64 `[O]`: the real weight is `scale * weight`.
        theta: int32 `[O]`, threshold in the same units as `bias`.
        decay: 0..4095, the membrane loses `decay / 4096` each step.
        frac_bits: bits of the membrane below one unit.
        reset: what a spike does.
        bits: of the weights; they lie in `-(2^(bits-1) - 1) .. 2^(bits-1) - 1`.
    """

    name: str
    in_shape: Shape
    weight: Array
    bias: Array
    scale: Array
    theta: Array
    decay: int
    frac_bits: int
    reset: IntegerReset
    bits: int

    @property
    def outputs(self) -> int:
        """O: neurons of a dense layer, channels of a convolution."""
        return len(self.weight)

    @property
    @abstractmethod
    def kind(self) -> str:
        """The word for it in files."""

    @property
    @abstractmethod
    def out_shape(self) -> Shape:
        """The shape of one sample's spikes."""

    @property
    def neurons(self) -> int:
        """How many neurons there are."""
        return int(np.prod(self.out_shape))

    @abstractmethod
    def fan_out(self) -> Array:
        """Return how many synapses each input has, int64 of shape `in_shape`."""

    def largest_current(self, levels: int) -> Array:
        """Return the largest `|acc|` of each output that inputs 0..`levels` can cause, int64 `[O]`."""
        weights = self.weight.astype(np.int64).reshape(self.outputs, -1)
        # inputs are not negative: only weights of one sign add up
        high, low = (np.clip(weights, *limits).sum(1) * levels + self.bias for limits in ((0, None), (None, 0)))
        largest: Array = np.maximum(high, -low)
        return largest

    def check(self, levels: int) -> None:
        """Raise an ExportError, with layer and number, if a field is out of range for inputs up to `levels`."""
        found = {
            "weight": self.weight.dtype == np.int8 and self.weight.ndim in (2, 4) and self.weight.size > 0,
            "bias": self.bias.dtype == np.int32 and self.bias.shape == (self.outputs,),
            "scale": self.scale.dtype == np.float64 and self.scale.shape == (self.outputs,),
            "theta": self.theta.dtype == np.int32 and self.theta.shape == (self.outputs,),
        }
        for what, holds in found.items():
            if not holds:
                value = getattr(self, what)
                raise ExportError(f"layer {self.name}: {what} is {value.dtype} {list(value.shape)}, which does not fit")
        if self.reset not in INTEGER_RESETS:
            raise ExportError(f"layer {self.name}: reset is {self.reset!r}, expected {', '.join(INTEGER_RESETS)}")
        if not 0 <= self.decay < 2**DECAY_BITS:
            raise ExportError(f"layer {self.name}: decay is {self.decay}, expected 0..{2**DECAY_BITS - 1}")
        if self.bits not in WEIGHT_BITS or not 0 <= self.frac_bits <= FRAC_BITS:
            raise ExportError(f"layer {self.name}: {self.bits} bits and {self.frac_bits} fraction bits do not fit")
        if not (np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise ExportError(f"layer {self.name}: its weight scale must be finite and greater than 0")
        largest, limit = int(np.abs(self.weight.astype(np.int16)).max()), 2 ** (self.bits - 1) - 1
        if largest > limit:
            raise ExportError(f"layer {self.name}: a weight is {largest}, {self.bits} bits hold {limit} at most")
        if largest == 0:
            raise ExportError(f"layer {self.name}: all weights are zero")
        room = MEMBRANE_MAX >> self.frac_bits
        current, theta = int(self.largest_current(levels).max()), self.theta
        if current > room:
            raise ExportError(
                f"layer {self.name}: the currents of one step may add up to {current}, the membrane holds {room}: "
                "use fewer bits or fewer inputs"
            )
        if theta.min() < 1 or theta.max() > room:
            raise ExportError(
                f"layer {self.name}: theta is {theta.min()}..{theta.max()} in weight units, expected 1..{room}: "
                "its weights are too small or too large beside its threshold; use fewer or more bits"
            )


@dataclass(frozen=True, eq=False)
class Dense(Spiking):
    """Every neuron sees every input."""

    @property
    def kind(self) -> str:
        """The word for it in files."""
        return "dense"

    @property
    def out_shape(self) -> Shape:
        """`(O,)`."""
        return (self.outputs,)

    def fan_out(self) -> Array:
        """Return O for every input."""
        return np.full(self.in_shape, self.outputs, np.int64)

    def check(self, levels: int) -> None:
        """Check the fields; see `Spiking.check`."""
        super().check(levels)
        if self.weight.shape != (self.outputs, *self.in_shape):
            raise ExportError(
                f"layer {self.name}: weights {list(self.weight.shape)} do not fit inputs {list(self.in_shape)}"
            )


@dataclass(frozen=True, eq=False)
class Conv(Spiking):
    """A convolution, cross-correlation as in torch; inputs `(C, H, W)`, zero padding, no dilation."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1

    @property
    def kind(self) -> str:
        """The word for it in files."""
        return "conv"

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        height, width = self.weight.shape[2:]
        return height, width

    @property
    def out_shape(self) -> Shape:
        """`(O, H, W)`."""
        sides = zip(self.in_shape[1:], self.kernel, self.stride, self.padding, strict=True)
        return (self.outputs, *((side + 2 * pad - kernel) // stride + 1 for side, kernel, stride, pad in sides))

    def fan_out(self) -> Array:
        """Return to how many neurons each pixel leads, fewer at the border."""
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

    def check(self, levels: int) -> None:
        """Check the fields; see `Spiking.check`."""
        super().check(levels)
        if (
            self.weight.ndim != 4
            or len(self.in_shape) != 3
            or min(*self.stride, self.groups) < 1
            or min(self.padding) < 0
        ):
            raise ExportError(f"layer {self.name}: shape, stride, padding or groups of the convolution do not fit")
        if self.in_shape[0] != self.weight.shape[1] * self.groups or self.outputs % self.groups:
            raise ExportError(
                f"layer {self.name}: weights {list(self.weight.shape)} in {self.groups} groups do not fit inputs "
                f"{list(self.in_shape)}"
            )
        if min(self.out_shape) < 1:
            raise ExportError(f"layer {self.name}: inputs {list(self.in_shape)} are smaller than the kernel")


@dataclass(frozen=True)
class MaxPool:
    """OR of the spikes in square windows; no padding, the rest of a side that fills no window is left out."""

    name: str
    in_shape: Shape
    kernel: int
    stride: int

    kind = "max_pool"

    @property
    def out_shape(self) -> Shape:
        """`(C, H, W)`."""
        return (self.in_shape[0], *((side - self.kernel) // self.stride + 1 for side in self.in_shape[1:]))

    def check(self, levels: int) -> None:
        """Raise an ExportError if the window does not fit, or the inputs are no spikes."""
        if levels != 1:
            raise ExportError(f"layer {self.name}: max pooling of analogue inputs is not supported")
        if len(self.in_shape) != 3 or min(self.kernel, self.stride) < 1 or min(self.out_shape) < 1:
            raise ExportError(f"layer {self.name}: windows of {self.kernel} do not fit {list(self.in_shape)}")


@dataclass(frozen=True)
class Flatten:
    """One axis of all axes, in the order (C, H, W), the last one fastest."""

    name: str
    in_shape: Shape

    kind = "flatten"

    @property
    def out_shape(self) -> Shape:
        """`(features,)`."""
        return (int(np.prod(self.in_shape)),)

    def check(self, levels: int) -> None:
        """Accept everything."""


Layer = Spiking | MaxPool | Flatten


@dataclass(frozen=True, eq=False)
class GoldenRun:
    """An input and what every layer did with it, so that any receiver can check itself.

    Attributes:
        inputs: uint8, `[N, *in_shape]` shown in every step, or spikes `[T, N, *in_shape]`.
        spikes: uint8 `[T, N, *out_shape]` of every spiking layer, by name.
    """

    inputs: Array
    spikes: dict[str, Array]


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """A chain of layers, and what goes in.

    Attributes:
        layers: in the order in which they run.
        encoder: "constant": inputs are integers 0..levels, the same in every step; "spikes": 0 or 1, `[T, ...]`.
        levels: the largest input value, 1 for spikes; an image's real value 1 is `levels`.
        steps: T.
        class_names: one for each output, of the readout if there is one.
        golden: None before it is recorded.
        notes: what is worth knowing of its making, by name.
        readout: what answers in place of the output that spikes most.
    """

    layers: tuple[Layer, ...]
    encoder: Literal["constant", "spikes"]
    levels: int
    steps: int
    class_names: tuple[str, ...]
    golden: GoldenRun | None = None
    notes: dict[str, str] = field(default_factory=dict)
    readout: HostReadout | None = None

    def chip(self) -> "IntegerNetwork":
        """Return the integer part, without the readout on the host."""
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
        """The layers with neurons."""
        return tuple(layer for layer in self.layers if isinstance(layer, Spiking))

    def with_levels(self) -> Iterator[tuple[Layer, int]]:
        """Yield each layer with the largest value of its inputs."""
        levels = self.levels
        for layer in self.layers:
            yield layer, levels
            if isinstance(layer, Spiking):
                levels = 1

    def check(self) -> "IntegerNetwork":
        """Return the network if everything in it fits together.

        Raises:
            ExportError: with the layer's name and the number that does not.
        """
        if not self.layers or not isinstance(self.layers[-1], Spiking):
            raise ExportError("a network must end in a spiking layer")
        if self.encoder not in ("constant", "spikes") or not 1 <= self.levels <= (
            255 if self.encoder == "constant" else 1
        ):
            raise ExportError(f"inputs 0..{self.levels} of encoder {self.encoder!r} are not supported")
        if self.steps < 1:
            raise ExportError(f"steps must be at least 1, found {self.steps}")
        if len({layer.name for layer in self.layers}) != len(self.layers):
            raise ExportError("two layers have the same name")
        shape = self.in_shape
        for layer, levels in self.with_levels():
            if layer.in_shape != shape or min(shape, default=0) < 1:
                raise ExportError(f"layer {layer.name}: expects {list(layer.in_shape)}, gets {list(shape)}")
            layer.check(levels)
            shape = layer.out_shape
        outputs = list(shape)
        if self.readout is not None and len(shape) == 1:
            self.readout.check(shape[0], self.steps)
            outputs = [len(self.readout.code)]
        if [len(self.class_names)] != outputs:
            raise ExportError(f"outputs are {outputs}, but there are {len(self.class_names)} class names")
        return self
