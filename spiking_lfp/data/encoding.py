"""How values and signals become sequences, as the settings say."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spiking_lfp.checks import check_real
from spiking_lfp.errors import UsageError
from spiking_lfp.nn import encoders
from spiking_lfp.nn.execution import LEVELS

# of images and other values, and of signals, which have an axis of time already
ENCODERS = {"constant": encoders.constant, "rate": encoders.rate, "latency": encoders.latency}
IN_TIME = ("sequence", "delta")


@dataclass(frozen=True)
class Encoder:
    """Turns values `[B, ...]` or signals `[B, L, ...]` into sequences `[T, B, ...]`.

    Attributes:
        name: of `ENCODERS` for values, of which uint8 are pixels and stand for 0 to 1; "sequence" for signals that are
            sequences, and "delta" for those whose changes become spikes.
        steps: T. A longer signal is brought to so many bins: means of a sequence, spikes or counts of delta. 0 leaves
            signals as they are.
        threshold: of delta, in units of the signal.
        neurons: encode each value in so many neurons before, see `spiking_lfp.population`; 0 for none.
        counts: whether the bins of delta count spikes.
        mean: is subtracted from each channel, the axis after the batch and, of signals, time; empty for nothing.
        deviation: divides it then.
        dtype: of real numbers.
        pixels: whether the network was trained on pixels, uint8, so that other values must mean the same.
    """

    name: str
    steps: int
    threshold: float = 0.1
    neurons: int = 0
    counts: bool = False
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    dtype: torch.dtype = torch.float32
    pixels: bool = False

    @property
    def is_in_time(self) -> bool:
        """Whether it takes signals."""
        return self.name in IN_TIME

    @property
    def levels(self) -> int:
        """The integer that stands for an input of 1, see `DataSpec`: 1 for spikes, not so of `neurons` after delta."""
        spikes = self.name in ("rate", "latency") or (self.name == "delta" and not self.neurons)
        return 1 if spikes else LEVELS

    def __call__(self, values: Tensor) -> Tensor:
        """Return the sequences.

        Raises:
            UsageError: if a signal has fewer samples than there are to be bins, or values are complex, or no pixels
                that should be.
        """
        check_real(values, "the values")
        if self.is_in_time:
            return self._signals(values.to(self.dtype).transpose(0, 1))
        if self.pixels:
            values = as_pixels(values)
        if values.dtype == torch.uint8:
            values = values.to(self.dtype) / 255
        values = self._scaled(values.to(self.dtype), 1)
        if self.neurons:
            values = encoders.population(values, self.neurons)
        return ENCODERS[self.name](values, steps=self.steps)

    def _scaled(self, values: Tensor, axis: int) -> Tensor:
        """Subtract the mean of each channel, and divide by its deviation."""
        if not self.mean:
            return values
        mean, deviation = (
            torch.tensor(numbers, dtype=self.dtype, device=values.device).view(-1, *[1] * (values.dim() - 1 - axis))
            for numbers in (self.mean, self.deviation)
        )
        return (values - mean) / deviation

    def _signals(self, signal: Tensor) -> Tensor:
        signal = self._scaled(signal, 2)
        length = len(signal)
        if length < self.steps:
            raise UsageError(
                f"a signal has {length} samples, which do not make steps = {self.steps} bins: lower steps, or "
                "give longer signals"
            )
        if self.name == "delta":
            signal = encoders.delta(signal, self.threshold, "count" if self.counts else "binary")
        if self.neurons:
            signal = encoders.population(signal, self.neurons)
        if not self.steps or length == self.steps:
            return signal
        bins = signal.tensor_split(self.steps)
        if self.name == "sequence":
            return torch.stack([each.mean(0) for each in bins])
        sums = torch.stack([each.sum(0) for each in bins])
        return sums if self.counts else sums.clamp(max=1)


def as_pixels(values: Tensor) -> Tensor:
    """Return values as a network takes them that was trained on pixels: integers as uint8, real numbers as they are.

    Raises:
        UsageError: for numbers beyond.
    """
    if values.dtype == torch.uint8:
        return values
    whole = not values.is_floating_point() and values.dtype != torch.bool
    most = 255 if whole else 1
    if values.numel() and not bool(((values >= 0) & (values <= most)).all()):
        raise UsageError(
            f"values are {values.dtype} from {float(values.min()):g} to {float(values.max()):g}, the network was "
            "trained on pixels: give integers 0 to 255, or real numbers 0 to 1"
        )
    return values.to(torch.uint8) if whole else values
