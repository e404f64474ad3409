"""Integer hardware on the training side: real layers brought to integers, and their neurons in plain torch.

The neurons are those of `integers`, as files and simulators have them. Between layers integers are kept in
floating-point tensors, which hold all of them exactly, so that every product and kernel works with them.

Shapes: O outputs of a layer (neurons of a dense one, channels of a convolution), `*n` neurons of one sample.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from spiking_lfp.arguments import describe, integer_of
from spiking_lfp.errors import UsageError
from spiking_lfp.integers import IntegerNeuron
from spiking_lfp.integers.arithmetic import DEFAULT, Arithmetic, IntegerReset
from spiking_lfp.integers.neuron import along_outputs
from spiking_lfp.neurons.base import REAL_FORMS, Neuron, State, Trace
from spiking_lfp.neurons.lif import LIFNeuron, Reset

ScaleMethod = Literal["max", "mean"]
# so many times the largest current of a step a membrane that does not fire has room for, if there is as much
ROOM_STEPS = 16


@dataclass(frozen=True)
class IntegerLayer:
    """What a layer is on integer hardware.

    Attributes:
        weight: integers in the shape of the real weights.
        bias: integers `[O]`, or None.
        scale: the real weight is `scale * weight`, `[O]`.
        neuron: constants of its neurons.
        recurrent: integers `[O, O]`, if the neurons see their own spikes, each of which counts as `factor`.
        factor: of recurrent weights, in the unit of the others.
    """

    weight: Tensor
    bias: Tensor | None
    scale: Tensor
    neuron: IntegerNeuron
    recurrent: Tensor | None = None
    factor: int = 1


@dataclass(frozen=True)
class FixedPoint:
    """How a layer is brought to integers.

    Attributes:
        bits: of a weight, 2..8; 2 bits are -1, 0, 1.
        levels: the integer that stands for an input of 1: 1 where the inputs are spikes, 255 for images.
        per_channel: give each output a scale of its own.
        scale: "max": the largest weight becomes the largest integer; "mean": smaller, by the mean weight, where few
            weights are much larger than the others, which are cut off then (the step size of Esser et al. 2020,
            Learned Step Size Quantization, sec. 2.1, at initialisation).
        arithmetic: of the chip.
        largest: of the inputs, in integers; `levels` if None.
    """

    bits: int = 8
    levels: int = 1
    per_channel: bool = False
    scale: ScaleMethod = "max"
    arithmetic: Arithmetic = DEFAULT
    largest: int | None = None

    def __post_init__(self) -> None:
        most = self.arithmetic.weight_bits
        # sums and means, whose largest value is told, have more levels than the inputs of a network
        bits, levels = integer_of(self.bits), integer_of(self.levels)
        if (
            not (bits is not None and 2 <= bits <= most)
            or not (levels is not None and (1 <= levels <= 255 or self.largest is not None))
            or self.scale not in ("max", "mean")
        ):
            raise UsageError(
                f"weights need 2..{most} bits, inputs 1..255 levels, both integers, scale max or mean; found "
                f"{describe(self.bits)}, {describe(self.levels)}, {self.scale!r}"
            )
        # those of NumPy are no numbers to JSON
        for name, value in (("bits", bits), ("levels", levels)):
            object.__setattr__(self, name, value)

    @torch.no_grad()
    def scales(self, weight: Tensor) -> Tensor:
        """Return the real value of one unit of each output's weights, `[O]`."""
        most = 2 ** (self.bits - 1) - 1
        rows = weight.flatten(1) if self.per_channel else weight.flatten().unsqueeze(0)
        size = rows.abs()
        scale = size.amax(1) / most
        if self.scale == "mean":
            scale = torch.minimum(scale, 2 * size.mean(1) / math.sqrt(most))
        # an output whose weights are all 0 may have a bias and a threshold: it has the unit of the coarsest
        units: Tensor = torch.where(scale > 0, scale, scale.amax())
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
        recurrent: Tensor | None = None,
    ) -> IntegerLayer:
        """Bring a layer to integers.

        Args:
            weight: real weights, `[O, ...]`.
            bias: real bias `[O]`, or None.
            neuron: real constants; one of each for the layer, or one for each output.
            name: of the layer, for errors.
            scale: one unit of each output's weights `[O]`; by the rule if None.
            reset: of the integer neurons; that of the real ones if None.
            recurrent: real weights `[O, O]` through which the neurons see their own spikes, if they do.

        Raises:
            UsageError: with the layer's name and the number, if that cannot be represented.
        """
        form, decays = neuron.counterparts.integer, neuron.counterparts.decays
        if form is None:
            raise UsageError(f"layer {name}: {type(neuron).__name__} has no integer form")
        if scale is None:
            scale = self.scales(weight)
        if not bool((scale > 0).all() & scale.isfinite().all()):
            raise UsageError(f"layer {name}: all weights are zero, or some are not finite: nothing to quantise")
        arithmetic, own, thresholds = self.arithmetic, dict[str, Any](), []
        if isinstance(neuron, LIFNeuron):
            own["reset"] = self._reset(reset or neuron.reset, name)
            thresholds = [_of_outputs("threshold", neuron, weight, name)]
            own["theta"] = None  # below, since it depends on the decays
        most = 2 ** (self.bits - 1) - 1
        columns = scale.view(-1, *[1] * (weight.dim() - 1))
        integers = (weight / columns).round_().clamp_(-most, most)
        if not bool(integers.any()):
            raise UsageError(f"layer {name}: all weights are zero after rounding to {self.bits} bits")
        whole = None if bias is None else (bias * self.levels / scale).round_()
        rows = integers.flatten(1)
        largest = torch.maximum(rows.clamp(min=0).sum(1), -rows.clamp(max=0).sum(1)) * (self.largest or self.levels)
        if whole is not None:
            largest += whole.abs()
        factor, seen = 1, None
        if recurrent is not None:
            factor, seen = self._recurrent(recurrent, scale)
            largest += seen.abs().sum(1) * factor
        for constant, lost in decays.items():
            kept = _of_outputs(constant, neuron, weight, name).tolist()
            own[lost] = torch.tensor([arithmetic.decay(each) for each in kept], dtype=torch.int32, device=weight.device)
        make: Any = form
        integer: IntegerNeuron = make(frac_bits=0, arithmetic=arithmetic, **own)
        self._check_inputs(integer, bias, name)
        # infinite where even real numbers hold them no more
        reach = 0.0 if integer.by_events else float(largest.max())
        for threshold in thresholds:
            theta = (threshold * self.levels / scale * integer.kept_of_inputs).round_()
            reach = max(reach, float(theta.max()))
            if theta.min() < 1:
                raise UsageError(
                    f"layer {name}: its threshold is less than half a weight unit, and would be 0: use more bits, a "
                    "larger threshold, or smaller weights"
                )
            integer = replace(integer, theta=theta.int())  # type: ignore[type-var]
        if not reach <= arithmetic.largest:
            raise UsageError(
                f"layer {name}: currents or threshold reach {reach:.0f} in weight units, the membrane holds "
                f"1..{arithmetic.largest}: use fewer bits, or a smaller threshold"
            )
        if not thresholds or integer.by_events:
            # nothing bounds a membrane that does not fire, or events: leave room for several of the largest
            reach = min(arithmetic.largest, ROOM_STEPS * reach)
        # as many bits of fraction as leave room for the largest current and threshold
        frac_bits = min(arithmetic.frac_bits, int(math.log2(arithmetic.largest / max(reach, 1))))
        while int(reach) << frac_bits > arithmetic.largest:
            frac_bits -= 1
        integer = replace(integer, frac_bits=frac_bits)  # type: ignore[type-var]
        return IntegerLayer(integers, whole, scale, integer, seen, factor)

    def _recurrent(self, weight: Tensor, scale: Tensor) -> tuple[int, Tensor]:
        """Return the factor of recurrent weights `[O, O]`, and these in integers.

        A spike of a neuron counts as `factor` in place of an input of up to `largest`, so that small recurrent weights
        keep their bits beside large ones of the inputs, and no recurrent weight is cut off.
        """
        most = 2 ** (self.bits - 1) - 1
        units = weight * self.levels / scale[:, None]
        # the layer refuses what is beyond numbers that are exact
        factor = max(1, math.ceil(min(float(units.abs().max()) / most, 2.0**53)))
        return factor, (units / factor).round_()

    def _check_inputs(self, integer: IntegerNeuron, bias: Tensor | None, name: str) -> None:
        """Refuse neurons that the arithmetic gives no way in."""
        arithmetic = self.arithmetic
        if arithmetic.accumulation == "events" and not integer.by_events:
            raise UsageError(
                f"layer {name}: the arithmetic {arithmetic.name} is for neurons with a synaptic current: use CubaLIF"
            )
        if integer.by_events and bias is not None:
            raise UsageError(
                f"layer {name}: the arithmetic {arithmetic.name} has no bias of the synaptic current: make its synapse "
                "with bias=False"
            )
        if not torch.as_tensor(integer.kept_of_inputs).all():
            raise UsageError(
                f"layer {name}: alpha becomes a shift of 0 in the arithmetic {arithmetic.name}, so that what arrives "
                "leaks in the same step: use alpha greater than 0.25"
            )

    def _reset(self, wanted: Reset | IntegerReset, name: str) -> IntegerReset:
        """Return a reset if the arithmetic has it."""
        if wanted == "none":
            raise UsageError(f"layer {name}: integer neurons reset to zero or subtract, found reset 'none'")
        if wanted == "subtract" and wanted not in self.arithmetic.resets:
            wanted = "subtract_decayed"  # before the leak of the next step, not after it
        if wanted not in self.arithmetic.resets:
            known = ", ".join(self.arithmetic.resets)
            raise UsageError(
                f"layer {name}: the arithmetic {self.arithmetic.name} has the reset {known}, found {wanted!r}"
            )
        return wanted


def _of_outputs(constant: str, neuron: Neuron, weight: Tensor, name: str) -> Tensor:
    """Return a constant of neurons, one `[1]` or one for each output `[O]`.

    Raises:
        UsageError: if neurons of an output differ in it.
    """
    value: Tensor = getattr(neuron, constant)
    wanted = [len(weight), *[1] * (weight.dim() - 2)]
    found = [*[1] * (len(wanted) - value.dim()), *value.shape]
    if found not in (wanted, [1] * len(wanted)):
        raise UsageError(
            f"layer {name}: integer neurons of an output share one {constant}, found {list(value.shape)}: use one for "
            f"all, or one for each output, {wanted}"
        )
    return value.flatten()


@dataclass(frozen=True)
class Arrivals:
    """What arrives at neurons whose currents saturate after every spike.

    Attributes:
        inputs: integers `[T, B, *i]`, or `[1, B, *i]` for the same in all steps.
        synapse: returns `W x` for a weight.
        weight: in integers.
    """

    inputs: Tensor
    synapse: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    weight: Tensor

    def gained(self, neuron: IntegerNeuron, current: Tensor) -> Callable[[int, Tensor], Tensor]:
        """Return the function from a step and the synaptic currents `[B, *n]` before it to what they gain.

        Args:
            neuron: constants.
            current: the sum of what arrives, in membrane units, `[time, B, *n]`.
        """
        scale = 2**neuron.frac_bits
        parts = (self.weight.clamp(min=0), self.weight.clamp(max=0))
        reach = [(self.synapse(self.inputs, part, None) * scale).int() for part in parts]

        def events(t: int) -> Iterator[Tensor]:
            columns = self.inputs[t].flatten(1).T
            one_each = torch.eye(len(columns), device=columns.device, dtype=columns.dtype)
            rows = self.synapse(one_each.view(1, -1, *self.inputs.shape[2:]), self.weight, None)[0] * scale
            for column, row in zip(columns, rows, strict=True):
                yield (column.view(-1, *[1] * (rows.dim() - 1)) * row).int()

        def gained(t: int, before: Tensor) -> Tensor:
            t %= len(current)
            found: Tensor = neuron.arithmetic.gained(before, current[t], [each[t] for each in reach], lambda: events(t))
            return found

        return gained


def forward(
    neuron: IntegerNeuron,
    current: Float[Tensor, "time batch *n"],
    steps: int,
    initial: State | None,
    arrivals: Arrivals | None = None,
) -> tuple[Float[Tensor, "steps batch *n"], State, Trace]:
    """Run integer neurons: `Neuron.forward` in integers.

    Args:
        neuron: constants.
        current: `W x + b`, integers `[T, B, *n]`, or `[1, B, *n]` for the same current in all steps.
        steps: T.
        initial: the states before, or None for zero.
        arrivals: of which the current is the sum, if it matters: see `IntegerNeuron.by_events`.

    Returns:
        spikes, 0 or 1, or how many if there may be several in a step, or membranes of neurons that do not fire; the
        final states; and the trace, states in integers before any reset of the same step, with constants in the same
        unit.
    """
    arrived = current.int() << neuron.frac_bits
    zeros = tuple(torch.zeros_like(arrived[0]) for _ in neuron.states)
    state = zeros if initial is None else tuple(values.int() for values in initial)
    fired = torch.zeros_like(state[0], dtype=torch.bool)
    if neuron.spiking:
        fired = neuron.arithmetic.fires(state[0], neuron.threshold(arrived[0]))
    states = tuple(current.new_empty((steps, *current.shape[1:])) for _ in state)
    spikes = torch.empty_like(states[0])
    gained = None if arrivals is None else arrivals.gained(neuron, arrived)
    for t in range(steps):
        arriving = arrived[t % len(arrived)] if gained is None else gained(t, state[1])
        state, fired = neuron.step(state, fired, arriving)
        spikes[t] = fired
        for values, now in zip(states, state, strict=True):
            values[t] = now
    final = tuple(values[-1].clone() for values in states)
    outputs = spikes if neuron.spiking else states[0]
    return outputs, final, trace_of(neuron, steps, initial, states, spikes)


def trace_of(neuron: IntegerNeuron, steps: int, initial: State | None, states: State, spikes: Tensor) -> Trace:
    """Return the trace of integer states and spikes, each `[T, B, *n]`, with constants in their unit."""
    arithmetic, own = neuron.arithmetic, dict[str, Any]()
    if neuron.spiking:
        own = {"threshold": neuron.threshold(states[0][0]).to(states[0].dtype), "reset": neuron.reset}
    kind = next(REAL_FORMS[form] for form in type(neuron).__mro__ if form in REAL_FORMS)
    decays = kind.counterparts.decays.items()
    like = states[0]
    for constant, lost in decays:
        kept = torch.as_tensor(arithmetic.beta(getattr(neuron, lost)), dtype=like.dtype, device=like.device)
        own[constant] = along_outputs(kept, like[0])
    real = kind(**own)
    # the spikes of real neurons follow from their states
    follow = arithmetic.comparison == ">" or not neuron.spiking
    return Trace(real, steps, initial, states, spikes=None if follow else spikes)
