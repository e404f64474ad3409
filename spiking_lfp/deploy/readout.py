"""The mono readout of an exported network: it runs on the host, in floating point, on the spikes of the last layer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.arguments import integer_of
from spiking_lfp.errors import ExportError

Array = NDArray[Any]
Affine = tuple[Array, Array]
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "hard-tanh": lambda z: np.clip(z, -1, 1),
    "relu": lambda z: np.maximum(z, 0),
}


@dataclass(frozen=True, eq=False)
class HostReadout:
    """Scores from spike counts: the mono-nets of `mono.MonoReadout`, in float64 from float32 weights.

    Populations that vote, `nn.PopulationReadout`, are mono-nets of one layer whose weights are 1; scores are means.

    Attributes:
        windows: number of windows of equal length in which the spikes of a sequence are counted, as
            `numpy.array_split` makes them.
        beta: factor per step, up to the end of the window, by which the weight of a spike decreases, 0 < beta <= 1.
        activation: of hidden units, "tanh", "hard-tanh" or "relu".
        polarity: int8 `[n]`, 1 or -1 for each neuron of the last layer.
        code: float64 `[C, K]`, the weight of each of K decisions in the score of each of C classes.
        nets: of each decision, weight float32 `[O, I]` and bias float32 `[O]` of each layer. The neurons are
            split among the decisions in order, as by `numpy.array_split`; the inputs of a net are window by window.
    """

    windows: int
    beta: float
    activation: str
    polarity: Array
    code: Array
    nets: tuple[tuple[Affine, ...], ...]

    def kernel(self, steps: int) -> Array:
        """Return the weight of a spike by step, float64 `[windows, T]`; the weights of a window sum to 1."""
        weights = np.zeros((self.windows, steps))
        for window, part in zip(weights, np.array_split(np.arange(steps), self.windows), strict=True):
            aged = self.beta ** (part[-1] - part).astype(np.float64)
            window[part] = aged / aged.sum()
        return weights

    def scores(self, rates: Array) -> Array:
        """Return the scores `[N, C]` for the rates `[N, windows, n]`: spikes weighted by `kernel`."""
        logits = []
        for net, part in zip(self.nets, np.array_split(rates * self.polarity, len(self.nets), 2), strict=True):
            h = part.reshape(len(part), -1)
            for index, (weight, bias) in enumerate(net):
                z = h @ weight.astype(np.float64).T + bias
                h = z if index == len(net) - 1 else ACTIVATIONS[self.activation](z)
            logits.append(h[:, 0])
        scores: Array = np.stack(logits, 1) @ self.code.T
        return scores

    def check(self, neurons: int, steps: int) -> None:
        """Raise an ExportError if the fields do not fit each other, the neurons of the last layer, or the steps."""
        windows = integer_of(self.windows)
        if not (
            windows is not None and 1 <= windows <= steps and 0 < self.beta <= 1 and self.activation in ACTIVATIONS
        ):
            raise ExportError(
                f"readout: {self.windows} windows, beta {self.beta} and activation {self.activation!r} do not fit "
                f"{steps} steps"
            )
        if self.polarity.shape != (neurons,) or not np.isin(self.polarity, (-1, 1)).all():
            raise ExportError(f"readout: expected a polarity of 1 or -1 for each of {neurons} neurons")
        if self.code.ndim != 2 or self.code.shape[1] != len(self.nets) or not np.isfinite(self.code).all():
            raise ExportError(f"readout: a code of {list(self.code.shape)} does not fit {len(self.nets)} decisions")
        for k, (net, part) in enumerate(zip(self.nets, np.array_split(self.polarity, len(self.nets)), strict=True)):
            width = self.windows * len(part)
            for weight, bias in net:
                if weight.ndim != 2 or weight.shape[1] != width or bias.shape != (len(weight),):
                    raise ExportError(f"readout: a layer of decision {k} does not fit its {width} inputs")
                if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                    raise ExportError(f"readout: a weight of decision {k} is NaN or infinite")
                width = len(weight)
            if width != 1:
                raise ExportError(f"readout: decision {k} has {width} outputs, expected 1")
