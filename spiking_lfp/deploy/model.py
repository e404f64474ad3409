"""The integer network: what is exported, simulated and run on hardware. NumPy only.

Analogue inputs are integers 0..levels: images as they are (constant encoding), the same in every step, or those of a
sequence. Input spikes are 0 and 1, and `levels` is 1.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from spiking_lfp.arguments import as_integer
from spiking_lfp.deploy.layers import LARGEST, Add, Array, Layer, Shape, Signal, Spiking
from spiking_lfp.deploy.readout import HostReadout
from spiking_lfp.errors import ExportError

Encoding = Literal["constant", "sequence", "spikes"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)


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

    def __post_init__(self) -> None:
        """Take lists of layers and names, too."""
        for name in ("layers", "class_names"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))

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
            last = f"ends in {self.layers[-1].kind} {self.layers[-1].name}" if self.layers else "has no layers"
            raise ExportError(f"the network {last}, expected neurons at its end: let a dense layer be the last")
        if self.encoder not in ENCODINGS:
            raise ExportError(f"encoder is {self.encoder!r}, expected {', '.join(ENCODINGS)}")
        as_integer(self.levels, f"levels of {self.encoder}", 1, 1 if self.encoder == "spikes" else 255, ExportError)
        low, high = self.span
        if not -math.inf < low < high < math.inf or (self.encoder != "sequence" and self.span != (0.0, 1.0)):
            expected = "two numbers, the lower one first" if self.encoder == "sequence" else "0 to 1"
            raise ExportError(f"inputs of encoder {self.encoder!r} stand for {low:g} to {high:g}, expected {expected}")
        as_integer(self.steps, "steps", 1, error=ExportError)
        for text in self.texts():
            # C and HDF5 end a text with a zero character
            if not isinstance(text, str) or any("\ud800" <= letter <= "\udfff" or letter == "\0" for letter in text):
                raise ExportError(
                    f"names and notes must be texts without zero characters that UTF-8 can write, found {text!r}"
                )
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
