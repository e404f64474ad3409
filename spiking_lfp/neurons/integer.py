"""The arithmetic of integer hardware on the training side: weights, and LIF neurons on integers, in plain torch.

`deploy.model` defines the same arithmetic for files and simulators. Integers are kept in floating-point tensors, which
hold all of them exactly, so that every product and kernel works with them.

Shapes: O outputs of a layer (neurons of a dense one, channels of a convolution), `*n` neurons of one sample.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from spiking_lfp.errors import UsageError
from spiking_lfp.neurons.base import State, Trace
from spiking_lfp.neurons.lif import LIFNeuron, Reset

MEMBRANE_MAX = 2**23 - 1
DECAY_ONE = 4096
FRAC_BITS = 6
ScaleRule = Literal["max", "mean"]


@dataclass(frozen=True)
class IntegerNeuron:
    """Constants of integer LIF neurons.

    Attributes:
        theta: threshold in units of weight times input, `[O]`.
        decay: the membrane loses `decay / 4096` a step, truncated towards zero.
        frac_bits: bits of the membrane below one unit.
        reset: "subtract" or "zero".
    """

    theta: Tensor
    decay: int
    frac_bits: int
    reset: Reset

    def bound(self, neurons: torch.Size) -> Tensor:
        """Return the threshold of the membrane, broadcastable to `neurons`."""
        bound: Tensor = self.theta * float(2**self.frac_bits)
        return bound.view(-1, *[1] * (len(neurons) - 1))

    def forward(
        self, current: Float[Tensor, "time batch *n"], steps: int, initial: State | None
    ) -> tuple[Float[Tensor, "steps batch *n"], State, Trace]:
        """Run the neurons: `Neuron.forward` in integers.

        Args:
            current: `W x + b`, integers `[T, B, *n]`, or `[1, B, *n]` for the same current in all steps.
            steps: T.
            initial: the membrane before, or None for zero.

        Returns:
            spikes, exactly 0 or 1; the final membrane; and the trace, both in integers `V` before any reset of the same
            step, with constants in the same unit.
        """
        bound = self.bound(current.shape[2:])
        membrane = current.new_empty((steps, *current.shape[1:]))
        before = torch.zeros_like(current[0]) if initial is None else initial[0]
        for t in range(steps):
            fired = before > bound
            kept = before.masked_fill(fired, 0) if self.reset == "zero" else before
            after = leak(kept, self.decay) + current[t % len(current)] * 2**self.frac_bits
            if self.reset == "subtract":
                after = after - fired * bound
            before = after.clamp_(-MEMBRANE_MAX, MEMBRANE_MAX)
            membrane[t] = before
        return (membrane > bound).to(current.dtype), (before.clone(),), trace_of(self, steps, initial, membrane)


@dataclass(frozen=True)
class IntegerLayer:
    """What a layer is on integer hardware.

    Attributes:
        weight: integers in the shape of the real weights.
        bias: integers `[O]`, or None.
        scale: the real weight is `scale * weight`, `[O]`.
        neuron: constants of its neurons.
    """

    weight: Tensor
    bias: Tensor | None
    scale: Tensor
    neuron: IntegerNeuron


@dataclass(frozen=True)
class FixedPoint:
    """How a layer is brought to integers.

    Attributes:
        bits: of a weight, 2..8; 2 bits are -1, 0, 1.
        levels: the integer that stands for an input of 1: 1 where the inputs are spikes, up to 255 for images.
        per_channel: give each output a scale of its own.
        scale: "max": the largest weight becomes the largest integer; "mean": smaller, by the mean weight, where few
            weights are much larger than the others, which are cut off then (the step size of Esser et al. 2020,
            Learned Step Size Quantization, sec. 2.1, at initialisation).
    """

    bits: int = 8
    levels: int = 1
    per_channel: bool = False
    scale: ScaleRule = "max"

    def __post_init__(self) -> None:
        if not (2 <= self.bits <= 8 and 1 <= self.levels <= 255 and self.scale in ("max", "mean")):
            raise UsageError(
                f"weights need 2..8 bits, inputs 1..255 levels, scale max or mean; found {self.bits}, {self.levels}, "
                f"{self.scale!r}"
            )

    @torch.no_grad()
    def scales(self, weight: Tensor) -> Tensor:
        """Return the real value of one unit of each output's weights, `[O]`."""
        most = 2 ** (self.bits - 1) - 1
        rows = weight.flatten(1) if self.per_channel else weight.flatten().unsqueeze(0)
        size = rows.abs()
        scale = size.amax(1) / most
        if self.scale == "mean":
            scale = torch.minimum(scale, 2 * size.mean(1) / math.sqrt(most))
        units: Tensor = scale
        return units.expand(len(weight))

    @torch.no_grad()
    def layer(
        self, weight: Tensor, bias: Tensor | None, neuron: LIFNeuron, name: str, scale: Tensor | None = None
    ) -> IntegerLayer:
        """Bring a layer to integers.

        Args:
            weight: real weights, `[O, ...]`.
            bias: real bias `[O]`, or None.
            neuron: real constants; one beta for the layer, one threshold for it or for each output.
            name: of the layer, for errors.
            scale: one unit of each output's weights `[O]`; by the rule if None.

        Raises:
            UsageError: with the layer's name and the number, if that cannot be represented.
        """
        if scale is None:
            scale = self.scales(weight)
        if not bool((scale > 0).all() & scale.isfinite().all()):
            raise UsageError(f"layer {name}: all weights of an output are zero, or not finite: nothing to quantise")
        if neuron.reset == "none":
            raise UsageError(f"layer {name}: integer neurons reset to zero or subtract, found reset 'none'")
        most = 2 ** (self.bits - 1) - 1
        columns = scale.view(-1, *[1] * (weight.dim() - 1))
        integers = (weight / columns).round_().clamp_(-most, most)
        if not bool(integers.any()):
            raise UsageError(f"layer {name}: all weights are zero after rounding to {self.bits} bits")
        whole = None if bias is None else (bias * self.levels / scale).round_()
        threshold = neuron.threshold.flatten()
        if neuron.beta.numel() != 1 or threshold.numel() not in (1, len(weight)):
            raise UsageError(
                f"layer {name}: integer neurons share one beta a layer and one threshold an output, found "
                f"{neuron.beta.numel()} and {threshold.numel()} for {len(weight)} outputs"
            )
        theta = (threshold * self.levels / scale).round_()
        rows = integers.flatten(1)
        largest = torch.maximum(rows.clamp(min=0).sum(1), -rows.clamp(max=0).sum(1)) * self.levels
        if whole is not None:
            largest += whole.abs()
        reach = int(torch.maximum(largest, theta).max())
        if reach > MEMBRANE_MAX or int(theta.min()) < 1:
            raise UsageError(
                f"layer {name}: currents or threshold reach {reach} in weight units (threshold {int(theta.min())} at "
                f"least), the membrane holds 1..{MEMBRANE_MAX}: use fewer bits, or another threshold"
            )
        # as many bits of fraction as leave room for the largest current and threshold
        frac_bits = min(FRAC_BITS, int(math.log2(MEMBRANE_MAX / max(reach, 1))))
        while reach << frac_bits > MEMBRANE_MAX:
            frac_bits -= 1
        decay = min(round((1 - float(neuron.beta)) * DECAY_ONE), DECAY_ONE - 1)
        return IntegerLayer(integers, whole, scale, IntegerNeuron(theta, decay, frac_bits, neuron.reset))


def leak(membrane: Tensor, decay: int) -> Tensor:
    """Return the membranes after a step's leak, truncated towards zero."""
    # up to 2^35, which float64 holds
    return (membrane.double() * ((DECAY_ONE - decay) / DECAY_ONE)).trunc().to(membrane.dtype)


def trace_of(neuron: IntegerNeuron, steps: int, initial: State | None, membrane: Tensor) -> Trace:
    """Return the trace of integer membranes `[T, B, *n]`, with constants in their unit."""
    beta = membrane.new_tensor((DECAY_ONE - neuron.decay) / DECAY_ONE)
    return Trace(LIFNeuron(beta, neuron.bound(membrane.shape[2:]), neuron.reset), steps, initial, (membrane,))
