"""The autograd Functions of the layers: forward passes that are exact, backward passes that hand on LFP feedback.

Autograd is only the tape that walks the graph: tensors receive feedback, parameters minus their LFP update, because
optimisers descend and LFP ascends.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from spiking_lfp import kernels
from spiking_lfp.checks import require
from spiking_lfp.errors import NonFiniteError, UsageError
from spiking_lfp.integers import IntegerNeuron
from spiking_lfp.kernels.product import full_precision
from spiking_lfp.kernels.spikes import PackedSpikes, hand_on, handed_on
from spiking_lfp.lfp.execution import Execution
from spiking_lfp.lfp.propagation import distribute, signed, sums_by_sign
from spiking_lfp.lfp.synapses import Convolution, Synapse, is_constant
from spiking_lfp.neurons import Neuron, State, Trace
from spiking_lfp.neurons.base import Q, by_sign
from spiking_lfp.neurons.integer import Arrivals
from spiking_lfp.rules import Contributions, Rule


@dataclass(frozen=True)
class Spec:
    """What the Functions of a layer with a synapse need beside tensors.

    Attributes:
        synapse: the map.
        rule: divides the feedback.
        name: for errors.
        folded: whether weight and bias come from a `FoldFunction`.
        watch: is shown the currents, and how many units make one where they are integers, `[O]`.
    """

    synapse: Synapse
    rule: Rule
    name: str
    folded: bool = field(default=False, kw_only=True)
    watch: Callable[[Tensor, Tensor | None], None] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class SpikingSpec(Spec):
    """The same of a layer with neurons.

    Attributes:
        neuron: its constants.
        execution: how its forward pass is carried out.
        recurrent: through which neurons see the spikes of their layer, if they do.
    """

    neuron: Neuron
    execution: Execution
    recurrent: Synapse | None = None


def _recurrent_descent(spec: SpikingSpec, trace: Trace, q: Q, recurrent: Tensor) -> Tensor:
    """Return minus the update of `V` for `q` `[T, B, *n]`: its inputs are the spikes of the step before."""
    own = spec.recurrent
    assert own is not None
    before = own.inputs(trace.spikes_before(), None)
    _, outer, _ = distribute(spec.rule, own, q, before, (recurrent, None), (False, True, False), spec.name)
    assert outer is not None
    return outer


def _check_neurons(spec: SpikingSpec, current: Tensor, initial: State | None) -> None:
    """Check constants and initial states against the neurons of `current` `[time, B, *n]`."""
    shape = current.shape[2:]
    for what in spec.neuron.limits():
        value: Tensor = getattr(spec.neuron, what)
        sizes = zip(reversed(value.shape), reversed(shape), strict=False)
        if value.dim() > len(shape) or any(size not in (1, neurons) for size, neurons in sizes):
            raise UsageError(
                f"layer {spec.name}: {what} of shape {list(value.shape)} does not fit neurons of shape {list(shape)}"
            )
    for what, state in zip(spec.neuron.states, initial or (), strict=False):
        if (state.shape, state.dtype) != (current.shape[1:], current.dtype):
            raise UsageError(
                f"layer {spec.name}: expected a {what} {list(current.shape[1:])} of {current.dtype}, "
                f"found {list(state.shape)} of {state.dtype}"
            )


class SpikingFunction(torch.autograd.Function):
    """A synapse and its neurons, which may see their own spikes through `recurrent`, over all time steps.

    The initial states come last, all of them or none; spikes and the final states are returned.
    """

    is_layer = True

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        recurrent: Tensor | None,
        spec: SpikingSpec,
        *initial: Tensor,
    ) -> tuple[Tensor, ...]:
        constant, start, execution = is_constant(x), initial or None, spec.execution
        neuron = _with_recurrent(spec.neuron, recurrent)
        shown = x[:1] if constant else x
        if execution.in_integers and isinstance(spec.synapse, Convolution) and spec.synapse.transposed:
            raise UsageError(f"layer {spec.name}: transposed convolutions do not run in integers")
        prepared = execution.prepare(weight, bias, neuron, spec.name)
        inputs: Tensor | PackedSpikes
        if execution.levels > 1:
            inputs = (shown * execution.levels).round_()
        else:
            inputs = shown if constant else spec.synapse.inputs(x, handed_on(x))
            if execution.in_integers and isinstance(inputs, Tensor):
                # the room in a membrane is that for spikes, and fractions would be cut off
                most = execution.largest or 1
                spikes_of = "0 or 1" if most == 1 else f"0 to {most} in a step"
                refusal = (
                    f"layer {spec.name}: trained in integers it takes spikes, {spikes_of}, not sums, means or others: "
                    "train in real numbers, and quantise when it is exported"
                )
                taken = (shown == 0) | (shown == 1)
                if most > 1:
                    taken |= (shown == shown.round()) & (shown > 0) & (shown <= most)
                require(taken.all(), UsageError, refusal)
        current = spec.synapse.current(inputs, prepared.weight, prepared.bias)
        _check_neurons(spec, current, start)
        if spec.watch is not None:
            spec.watch(current, prepared.current_unit())
        # NaN never leaves a state again, so the last one tells of every step; some neurons forget infinity
        lost = f"layer {spec.name}: its membrane holds NaN or infinity; check inputs and weights"
        if neuron.forgets:
            arrived = current.sum() if recurrent is None else current.sum() + recurrent.sum()
            require(arrived.isfinite(), NonFiniteError, lost)
        arrivals = None
        if isinstance(prepared.neuron, IntegerNeuron) and prepared.neuron.by_events:
            arriving = inputs if isinstance(inputs, Tensor) else shown
            arrivals = Arrivals(arriving, spec.synapse.current, prepared.weight)
        spikes, final, trace = execution.run(prepared, current, len(x), start, spec.name, arrivals)
        for state in final:
            require(state.sum().isfinite(), NonFiniteError, lost)
        if trace.packed is not None:
            hand_on(spikes, PackedSpikes(*trace.packed, spikes.shape))
        ctx.spec, ctx.neuron = spec, trace.neuron
        ctx.set_materialize_grads(False)
        ctx.steps, ctx.constant = len(x), constant
        ctx.packed_shape = None if isinstance(inputs, Tensor) else inputs.shape
        kept = (x, None) if isinstance(inputs, Tensor) else (inputs.bits, inputs.counts)
        ctx.save_for_backward(
            *kept, weight, bias, recurrent, prepared.forward_weight, prepared.unit, trace.current, trace.spikes,
            *initial, *(trace.states or ()),
        )  # fmt: skip
        return spikes, *final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, spike_feedback: Tensor | None, *final_feedback: Tensor | None) -> tuple[Tensor | None, ...]:
        first, counts, weight, bias, recurrent, forward_weight, unit, current, spikes, *states = ctx.saved_tensors
        spec, need_state = ctx.spec, ctx.needs_input_grad[5:]
        initial, states = tuple(states[: len(need_state)]) or None, tuple(states[len(need_state) :]) or None
        trace = Trace(_with_recurrent(ctx.neuron, recurrent), ctx.steps, initial, states, current, spikes)
        if spike_feedback is None:
            spike_feedback = trace.record.new_zeros((ctx.steps, *trace.record.shape[1:]))
        ends: State | None = None
        if any(each is not None for each in final_feedback):
            ends = tuple(torch.zeros_like(trace.record[0]) if each is None else each for each in final_feedback)
        with full_precision(first):
            # a constant input meets the same weights in every step: sum q over time before the product
            summed = ctx.constant and not ctx.needs_input_grad[0]
            at_once = summed and unit is None and recurrent is None
            x = first if ctx.packed_shape is None else PackedSpikes(first, counts, ctx.packed_shape)
            shown = first[:1] if ctx.constant else x
            found = _sums_by_sign(spec, shown, weight if forward_weight is None else forward_weight, bias, unit)
            q, carried = kernels.feedback(trace, spike_feedback, ends, spec.rule, at_once, found)
            if unit is not None:
                q = _in_real_units(q, trace, unit)
            grad_recurrent = _recurrent_descent(spec, trace, q, recurrent) if ctx.needs_input_grad[3] else None
            q = tuple(each.sum(0, keepdim=True) for each in q) if summed and not at_once else q
            x, needs = shown if summed else x, ctx.needs_input_grad[:3]
            return (
                *distribute(
                    spec.rule, spec.synapse, q, x, (weight, bias), needs, spec.name, forward_weight, spec.folded
                ),
                grad_recurrent,
                None,
                *(each if need else None for each, need in zip(carried, need_state, strict=False)),
            )


def _with_recurrent(neuron: Neuron, recurrent: Tensor | None) -> Neuron:
    """Return the neuron with `V` as the tape knows it."""
    return neuron if recurrent is None else replace(neuron, recurrent=recurrent)  # type: ignore[call-arg]


def _sums_by_sign(
    spec: Spec, x: Tensor | PackedSpikes, weight: Tensor, bias: Tensor | None, unit: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """Return the parts of `W x + b` that a rule asks for, in the unit of the membrane."""
    found = sums_by_sign(spec.rule, spec.synapse, x, weight, bias)
    if found is None or unit is None:
        return found
    positive, negative = (part * _per_neuron(unit, part) for part in found)
    return positive, negative


def _in_real_units(q: Q, trace: Trace, unit: Tensor) -> Q:
    """Turn `q` `[T, B, *n]` of integer membranes into that of real ones, which are `unit` `[O]` times smaller.

    Integer membranes are often exactly 0: then nothing contributed, and there is nothing to distribute.
    """
    quiet = trace.record == 0
    quiet[1:] &= trace.record[:-1] == 0
    if trace.initial is not None:
        quiet[0] &= trace.initial[0] == 0
    return tuple(each.mul_(_per_neuron(unit, each)).masked_fill_(quiet, 0) for each in q)


def _per_neuron(unit: Tensor, like: Tensor) -> Tensor:
    """Shape a value of each output `[O]` like those of neurons `[time, B, O, ...]`."""
    return unit.view(-1, *[1] * (like.dim() - 3))


class AffineFunction(torch.autograd.Function):
    """A synapse without neurons: LFP on ordinary layers (LFP eq. 2-4)."""

    is_layer = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, spec: Spec) -> Tensor:
        z = spec.synapse.current(x, weight, bias)
        if spec.watch is not None:
            spec.watch(z, None)
        ctx.spec = spec
        ctx.save_for_backward(x, weight, bias, z)
        return z.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, feedback: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, z = ctx.saved_tensors
        spec: Spec = ctx.spec
        needs = ctx.needs_input_grad[:3]
        with full_precision(x):
            found = Contributions(z, None, _sums_by_sign(spec, x, weight, bias, None))
            q = signed(spec.rule, found, feedback)
            grads = distribute(spec.rule, spec.synapse, q, x, (weight, bias), needs, spec.name, folded=spec.folded)
            return *grads, None


class FoldFunction(torch.autograd.Function):
    """Weight and bias of a synapse with its batch normalisation, `W' = a W`, `b' = beta + a (b - mean)`; see `nn.norm`.

    The layer that uses them hands back minus the update of `W'`, and minus `sum q` for `b'` (`distribute`, folded).
    """

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        bias: Tensor | None,
        gamma: Tensor | None,
        beta: Tensor | None,
        mean: Tensor,
        inverse: Tensor,
        groups: int,
    ) -> tuple[Tensor, Tensor]:
        """Fold; `inverse` is one over the deviation `[O]`, `groups` those of a transposed convolution, else 0."""
        scale = inverse if gamma is None else gamma * inverse
        shift = -scale * mean if bias is None else scale * (bias - mean)
        each = _of_outputs(scale, weight, groups)
        folded = weight * each
        ctx.groups = groups
        ctx.save_for_backward(folded, each, scale, shift, bias, gamma, beta)
        return folded, shift.clone() if beta is None else shift + beta

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, on_weight: Tensor, on_shift: Tensor) -> tuple[Tensor | None, ...]:
        folded, each, scale, shift, bias, gamma, beta = ctx.saved_tensors
        need_weight, need_bias, need_gamma, need_beta, *_ = ctx.needs_input_grad
        found: list[Tensor | None] = [None] * 7
        if need_weight:
            found[0] = torch.where(each != 0, on_weight / each, 0)
        if need_bias:
            found[1] = scale.sign() * bias.abs() * on_shift
        if need_gamma:
            # of gamma times the normalised input: what the weights gave, and what the mean took
            given = _sums_of_outputs(folded.sign() * on_weight, ctx.groups)
            found[2] = gamma.sign() * (given + shift * on_shift)
        if need_beta:
            found[3] = beta.abs() * on_shift
        return tuple(found)


def _of_outputs(values: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Shape values of the outputs `[O]` like a weight, whose outputs come first, or second if it is transposed."""
    if not groups:
        return values.view(-1, *[1] * (weight.dim() - 1))
    rows = values.view(groups, 1, -1).expand(groups, len(weight) // groups, -1).flatten(0, 1)
    return rows.reshape(*rows.shape, *[1] * (weight.dim() - 2))


def _sums_of_outputs(values: Tensor, groups: int) -> Tensor:
    """Sum values shaped like a weight over all of an output, `[O]`."""
    if not groups:
        return values.flatten(1).sum(1)
    sums: Tensor = values.unflatten(0, (groups, -1)).flatten(3).sum((1, 3)).flatten()
    return sums


Window = tuple[int, ...]


def max_pool(x: Tensor, kernel: Window, stride: Window, padding: Window) -> Tensor:
    """Return the largest value of windows of `[N, C, *sides]`; feedback goes to the winner, the first of several."""
    if any(padding) or not kernels.pools(x, kernel):
        return (F.max_pool2d if len(kernel) == 2 else F.max_pool3d)(x, kernel, stride, padding)
    out: Tensor = MaxPoolFunction.apply(x, kernel, stride)
    return out


class MaxPoolFunction(torch.autograd.Function):
    """Largest value of windows, by a kernel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Window, stride: Window) -> Tensor:
        out, winner = kernels.max_pool(x, kernel, stride)
        ctx.window = kernel, stride, x.shape
        ctx.save_for_backward(winner)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, feedback: Tensor) -> tuple[Tensor, None, None]:
        (winner,) = ctx.saved_tensors
        return kernels.max_pool_feedback(feedback, winner, *ctx.window), None, None


class ActivationFunction(torch.autograd.Function):
    """An activation, which hands its feedback on unchanged: that of a neuron's output is that of the neuron."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        out = run(x)
        if out is x or (out.shape == x.shape and out.data_ptr() == x.data_ptr()):
            ctx.mark_dirty(x)  # it works in place
            return x
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, feedback: Tensor) -> tuple[Tensor, None]:
        return feedback, None


class ScaleFunction(torch.autograd.Function):
    """Multiply by constants; feedback goes on unscaled where they are not 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, by: Tensor, inplace: bool) -> Tensor:
        ctx.save_for_backward(by != 0)
        if not inplace:
            return x * by
        ctx.mark_dirty(x)
        return x.mul_(by)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, feedback: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return feedback * kept, None, None


class AddFunction(torch.autograd.Function):
    """A sum of two tensors, which divides its feedback between them by the rule."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, rule: Rule, inplace: bool) -> Tensor:
        ctx.rule = rule
        ctx.save_for_backward(a.clone() if inplace else a, b)
        if not inplace:
            return a + b
        ctx.mark_dirty(a)
        return a.add_(b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, feedback: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        a, b = ctx.saved_tensors
        total, shares = a + b, None
        if ctx.rule.uniform:
            a, b = torch.ones_like(a), torch.ones_like(b)
        if ctx.rule.needs_sums_by_sign:
            shares = a.clamp(min=0) + b.clamp(min=0), -a.clamp(max=0) - b.clamp(max=0)
        q = signed(ctx.rule, Contributions(total, None, shares), feedback)
        on_a, on_b = (
            each * by_sign(q, each) if need else None for each, need in zip((a, b), ctx.needs_input_grad, strict=False)
        )
        return on_a, on_b, None, None


class PopulationFunction(torch.autograd.Function):
    """The mean over groups of neurons; every member hears what the group hears, but is punished for its own spikes.

    Where the feedback is positive each member gets it, silent ones too, and where it is negative each gets it times its
    own output over the mean.
    """

    @staticmethod
    def forward(ctx: Any, spikes: Tensor, size: int) -> Tensor:
        members = spikes.unflatten(2, (-1, size))
        mean: Tensor = members.mean(3)
        ctx.save_for_backward(members, mean)
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, feedback: Tensor) -> tuple[Tensor, None]:
        members, mean = ctx.saved_tensors
        # in groups that are silent there is nobody to punish
        punishment = feedback.clamp(max=0) / mean.masked_fill(mean == 0, 1)
        return (feedback.clamp(min=0).unsqueeze(3) + punishment.unsqueeze(3) * members).flatten(2, 3), None


class NormalizeFeedbackFunction(torch.autograd.Function):
    """The identity, which divides its feedback by the largest magnitude, that of all processes where they train one.

    Then they have to meet here: all run the same layers in every step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, feedback: Tensor) -> Tensor:
        lowest, highest = feedback.aminmax()
        largest = torch.maximum(-lowest, highest)
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(largest, dist.ReduceOp.MAX)
        return feedback / torch.where(largest > 0, largest, 1)
