"""Integer hardware on the training side: real layers brought to integers, and their neurons in plain torch.

The neurons are those of `integers`, as files and simulators have them. Between layers integers are kept in
floating-point tensors, which hold all of them exactly, so that every product and kernel works with them.

Shapes: O outputs of a layer (neurons of a dense one, channels of a convolution), `*n` neurons of one sample.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from spiking_lfp.errors import UsageError
from spiking_lfp.integers import IntegerNeuron
from spiking_lfp.integers.arithmetic import DEFAULT, Arithmetic, IntegerReset
from spiking_lfp.neurons.base import REAL_FORMS, Neuron, State, Trace
from spiking_lfp.neurons.lif import LIFNeuron

ScaleMethod = Literal["max", "mean"]


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
        arithmetic: of the chip.
    """

    bits: int = 8
    levels: int = 1
    per_channel: bool = False
    scale: ScaleMethod = "max"
    arithmetic: Arithmetic = DEFAULT

    def __post_init__(self) -> None:
        most = self.arithmetic.weight_bits
        if not (2 <= self.bits <= most and 1 <= self.levels <= 255 and self.scale in ("max", "mean")):
            raise UsageError(
                f"weights need 2..{most} bits, inputs 1..255 levels, scale max or mean; found {self.bits}, "
                f"{self.levels}, {self.scale!r}"
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
        self,
        weight: Tensor,
        bias: Tensor | None,
        neuron: Neuron,
        name: str,
        scale: Tensor | None = None,
        reset: IntegerReset | None = None,
    ) -> IntegerLayer:
        """Bring a layer to integers.

        Args:
            weight: real weights, `[O, ...]`.
            bias: real bias `[O]`, or None.
            neuron: real constants; one of each decay for the layer, one threshold for it or for each output.
            name: of the layer, for errors.
            scale: one unit of each output's weights `[O]`; by the rule if None.
            reset: of the integer neurons; that of the real ones if None.

        Raises:
            UsageError: with the layer's name and the number, if that cannot be represented.
        """
        form, decays = neuron.counterparts.integer, neuron.counterparts.decays
        if form is None:
            raise UsageError(f"layer {name}: {type(neuron).__name__} has no integer form")
        assert isinstance(neuron, LIFNeuron)  # as all that have one
        if scale is None:
            scale = self.scales(weight)
        if not bool((scale > 0).all() & scale.isfinite().all()):
            raise UsageError(f"layer {name}: all weights of an output are zero, or not finite: nothing to quantise")
        arithmetic, wanted = self.arithmetic, reset or neuron.reset
        if wanted == "none":
            raise UsageError(f"layer {name}: integer neurons reset to zero or subtract, found reset 'none'")
        if wanted not in arithmetic.resets:
            known = ", ".join(arithmetic.resets)
            raise UsageError(f"layer {name}: the arithmetic {arithmetic.name} has the reset {known}, found {wanted!r}")
        most = 2 ** (self.bits - 1) - 1
        columns = scale.view(-1, *[1] * (weight.dim() - 1))
        integers = (weight / columns).round_().clamp_(-most, most)
        if not bool(integers.any()):
            raise UsageError(f"layer {name}: all weights are zero after rounding to {self.bits} bits")
        whole = None if bias is None else (bias * self.levels / scale).round_()
        threshold = neuron.threshold.flatten()
        kept: dict[str, Tensor] = {constant: getattr(neuron, constant) for constant in decays}
        counts = [value.numel() for value in kept.values()]
        if max(counts) != 1 or threshold.numel() not in (1, len(weight)):
            raise UsageError(
                f"layer {name}: integer neurons share one {' and one '.join(kept)} a layer and one threshold an "
                f"output, found {', '.join(map(str, counts))} and {threshold.numel()} for {len(weight)} outputs"
            )
        theta = (threshold * self.levels / scale).round_()
        rows = integers.flatten(1)
        largest = torch.maximum(rows.clamp(min=0).sum(1), -rows.clamp(max=0).sum(1)) * self.levels
        if whole is not None:
            largest += whole.abs()
        reach = int(torch.maximum(largest, theta).max())
        if reach > arithmetic.largest or int(theta.min()) < 1:
            raise UsageError(
                f"layer {name}: currents or threshold reach {reach} in weight units (threshold {int(theta.min())} at "
                f"least), the membrane holds 1..{arithmetic.largest}: use fewer bits, or another threshold"
            )
        # as many bits of fraction as leave room for the largest current and threshold
        frac_bits = min(arithmetic.frac_bits, int(math.log2(arithmetic.largest / max(reach, 1))))
        while reach << frac_bits > arithmetic.largest:
            frac_bits -= 1
        lost = {decays[constant]: arithmetic.decay(float(value)) for constant, value in kept.items()}
        found = form(theta=theta.int(), frac_bits=frac_bits, reset=wanted, arithmetic=arithmetic, **lost)
        return IntegerLayer(integers, whole, scale, found)


def forward(
    neuron: IntegerNeuron, current: Float[Tensor, "time batch *n"], steps: int, initial: State | None
) -> tuple[Float[Tensor, "steps batch *n"], State, Trace]:
    """Run integer neurons: `Neuron.forward` in integers.

    Args:
        neuron: constants.
        current: `W x + b`, integers `[T, B, *n]`, or `[1, B, *n]` for the same current in all steps.
        steps: T.
        initial: the states before, or None for zero.

    Returns:
        spikes, exactly 0 or 1; the final states; and the trace, states in integers before any reset of the same step,
        with constants in the same unit.
    """
    arrived = current.int() << neuron.frac_bits
    zeros = tuple(torch.zeros_like(arrived[0]) for _ in neuron.states)
    state = zeros if initial is None else tuple(values.int() for values in initial)
    fired = neuron.arithmetic.fires(state[0], neuron.threshold(arrived[0]))
    states = tuple(current.new_empty((steps, *current.shape[1:])) for _ in state)
    spikes = torch.empty_like(states[0])
    for t in range(steps):
        state, fired = neuron.step(state, fired, arrived[t % len(arrived)])
        spikes[t] = fired
        for values, now in zip(states, state, strict=True):
            values[t] = now
    final = tuple(values[-1].clone() for values in states)
    return spikes, final, trace_of(neuron, steps, initial, states, spikes)


def trace_of(neuron: IntegerNeuron, steps: int, initial: State | None, states: State, spikes: Tensor) -> Trace:
    """Return the trace of integer states and spikes, each `[T, B, *n]`, with constants in their unit."""
    arithmetic, threshold = neuron.arithmetic, neuron.threshold(states[0][0]).to(states[0].dtype)
    assert neuron.reset != "subtract_decayed"  # no real neuron has it
    kind = next(REAL_FORMS[form] for form in type(neuron).__mro__ if form in REAL_FORMS)
    decays = kind.counterparts.decays.items()
    kept = {constant: states[0].new_tensor(arithmetic.beta(getattr(neuron, field))) for constant, field in decays}
    real = kind(threshold=threshold, reset=neuron.reset, **kept)  # type: ignore[call-arg]
    # the spikes of real neurons follow from their states
    return Trace(real, steps, initial, states, spikes=None if arithmetic.comparison == ">" else spikes)
