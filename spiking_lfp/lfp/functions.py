"""The autograd Functions of the layers: forward passes that are exact, backward passes that hand on LFP feedback.

Autograd is only the tape that walks the graph: tensors receive feedback, parameters minus their LFP update, because
optimisers descend and LFP ascends.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from spiking_lfp import kernels
from spiking_lfp.checks import require
from spiking_lfp.errors import NonFiniteError, UsageError
from spiking_lfp.kernels.product import full_precision
from spiking_lfp.kernels.spikes import Events
from spiking_lfp.lfp.propagation import Q, by_sign, distribute, parts, signed
from spiking_lfp.lfp.synapses import Dense, Synapse, is_constant
from spiking_lfp.neurons.integer import FixedPoint, IntegerLayer, trace_of
from spiking_lfp.neurons.lif import Neuron, Trace
from spiking_lfp.rules import Contributions, Rule


@dataclass(frozen=True)
class Spec:
    """What the Functions of a layer with a synapse need beside tensors; `name` is for errors.

    Attributes:
        fixed: how the layer is brought to integers, where its forward pass is that of integer hardware.
        recorded: its membranes `[T, B, *n]`, where its forward pass was run elsewhere.
    """

    synapse: Synapse
    rule: Rule
    neuron: Neuron | None
    name: str
    fixed: FixedPoint | None = None
    recorded: Tensor | None = None


def _recurrent_descent(spec: Spec, trace: Trace, q: Q, recurrent: Tensor) -> Tensor:
    """Return minus the update of `V` for `q` `[T, B, n]`: its inputs are the spikes of the step before."""
    own = Dense(len(recurrent))
    before = own.inputs(trace.spikes_before(), None)
    _, outer, _ = distribute(spec.rule, own, q, before, (recurrent, None), (False, True, False), spec.name)
    assert outer is not None
    return outer


def _check_neurons(spec: Spec, current: Tensor, initial: Tensor | None) -> None:
    """Check constants and initial membrane against the neurons of `current` `[time, B, *n]`."""
    assert spec.neuron is not None
    shape = current.shape[2:]
    for what, value in (("beta", spec.neuron.beta), ("threshold", spec.neuron.threshold)):
        sizes = zip(reversed(value.shape), reversed(shape), strict=False)
        if value.dim() > len(shape) or any(size not in (1, neurons) for size, neurons in sizes):
            raise UsageError(
                f"layer {spec.name}: {what} of shape {list(value.shape)} does not fit neurons of shape {list(shape)}"
            )
    if initial is not None and (initial.shape, initial.dtype) != (current.shape[1:], current.dtype):
        raise UsageError(
            f"layer {spec.name}: expected a membrane {list(current.shape[1:])} of {current.dtype}, "
            f"found {list(initial.shape)} of {initial.dtype}"
        )


class LIFFunction(torch.autograd.Function):
    """A synapse and its LIF neurons, which may see their own spikes through `recurrent`, over all time steps."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        initial: Tensor | None,
        recurrent: Tensor | None,
        spec: Spec,
    ) -> tuple[Tensor, Tensor]:
        assert spec.neuron is not None
        constant = is_constant(x)
        shown = x[:1] if constant else x
        inputs: Tensor | Events
        fixed = None if spec.fixed is None else spec.fixed.layer(weight, bias, spec.neuron, spec.name)
        if spec.fixed is not None and spec.fixed.levels > 1:
            inputs = (shown * spec.fixed.levels).round_()
        else:
            inputs = shown if constant else spec.synapse.inputs(x, _packed(x))
        current = spec.synapse.current(inputs, *((weight, bias) if fixed is None else (fixed.weight, fixed.bias)))
        _check_neurons(spec, current, initial)
        # NaN never leaves a membrane again, so its last value tells of every step; a reset to zero forgets infinity
        lost = f"layer {spec.name}: its membrane holds NaN or infinity; check inputs and weights"
        if spec.neuron.reset == "zero":
            arrived = current.sum() if recurrent is None else current.sum() + recurrent.sum()
            require(arrived.isfinite(), NonFiniteError, lost)
        if spec.recorded is not None:
            spikes, final, trace = _recorded(spec, fixed, len(x), current.shape[1:])
        elif fixed is not None:
            spikes, final, trace = kernels.integer_forward(current, len(x), fixed.neuron, initial)
        else:
            neuron = replace(spec.neuron, recurrent=recurrent)
            spikes, final, trace = kernels.lif_forward(current, len(x), neuron, initial)
        require(final.sum().isfinite(), NonFiniteError, lost)
        ctx.spec = spec
        ctx.set_materialize_grads(False)
        ctx.steps, ctx.constant = len(x), constant
        ctx.events = None if isinstance(inputs, Tensor) else inputs.shape
        kept = (x, None) if isinstance(inputs, Tensor) else (inputs.bits, inputs.counts)
        acting = _acting(spec, fixed)
        ctx.save_for_backward(*kept, weight, bias, initial, recurrent, trace.membrane, trace.current, *acting)
        ctx.integer = None if fixed is None else trace.neuron
        ctx.packed = None if trace.packed is None else Events(*trace.packed, spikes.shape)
        return spikes, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, spike_feedback: Tensor | None, final_feedback: Tensor | None) -> tuple[Tensor | None, ...]:
        first, counts, weight, bias, initial, recurrent, membrane, current, acting, unit = ctx.saved_tensors
        neuron = ctx.integer or replace(ctx.spec.neuron, recurrent=recurrent)
        trace = Trace(neuron, ctx.steps, initial, membrane, current)
        if spike_feedback is None:
            spike_feedback = trace.record.new_zeros((ctx.steps, *trace.record.shape[1:]))
        with full_precision(first):
            # a constant input meets the same weights in every step: sum q over time before the product
            summed = ctx.constant and not ctx.needs_input_grad[0]
            at_once = summed and unit is None and recurrent is None
            x = first if ctx.events is None else Events(first, counts, ctx.events)
            shown = first[:1] if ctx.constant else x
            found = _parts(ctx.spec, shown, weight if acting is None else acting, bias, unit)
            q, carried = kernels.lif_feedback(trace, spike_feedback, final_feedback, ctx.spec.rule, at_once, found)
            if unit is not None:
                q = _in_real_units(q, trace, unit)
            grad_recurrent = _recurrent_descent(ctx.spec, trace, q, recurrent) if ctx.needs_input_grad[4] else None
            q = tuple(each.sum(0, keepdim=True) for each in q) if summed and not at_once else q
            x, needs = shown if summed else x, ctx.needs_input_grad[:3]
            return (
                *distribute(ctx.spec.rule, ctx.spec.synapse, q, x, (weight, bias), needs, ctx.spec.name, acting),
                carried if ctx.needs_input_grad[3] else None,
                grad_recurrent,
                None,
            )


def _recorded(spec: Spec, fixed: IntegerLayer | None, steps: int, neurons: torch.Size) -> tuple[Tensor, Tensor, Trace]:
    """Return spikes, final membrane and trace of a layer that ran elsewhere."""
    assert spec.neuron is not None
    membrane = spec.recorded
    assert membrane is not None
    if membrane.shape != (steps, *neurons):
        raise UsageError(
            f"layer {spec.name}: expected a recorded membrane {[steps, *neurons]}, found {list(membrane.shape)}"
        )
    trace = Trace(spec.neuron, steps, None, membrane)
    if fixed is not None:
        trace = trace_of(fixed.neuron, steps, None, membrane)
    return (membrane > trace.neuron.threshold).to(membrane.dtype), membrane[-1].clone(), trace


def _acting(spec: Spec, fixed: IntegerLayer | None) -> tuple[Tensor | None, Tensor | None]:
    """Return the real weights that integers stand for, and how many units of a membrane make one of the threshold's."""
    if fixed is None:
        return None, None
    assert spec.fixed is not None
    columns = fixed.scale.view(-1, *[1] * (fixed.weight.dim() - 1))
    return fixed.weight * columns, spec.fixed.levels / fixed.scale * 2**fixed.neuron.frac_bits


def _parts(
    spec: Spec, x: Tensor | Events, weight: Tensor, bias: Tensor | None, unit: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """Return the parts of `W x + b` that a rule asks for, in the unit of the membrane."""
    found = parts(spec.rule, spec.synapse, x, weight, bias)
    if found is None or unit is None:
        return found
    positive, negative = (part * _per_neuron(unit, part) for part in found)
    return positive, negative


def _in_real_units(q: Q, trace: Trace, unit: Tensor) -> Q:
    """Turn `q` `[T, B, *n]` of integer membranes into that of real ones, which are `unit` `[O]` times smaller.

    Integer membranes are often exactly 0: then nothing contributed, and there is nothing to distribute.
    """
    membrane = trace.record
    quiet = membrane == 0
    quiet[1:] &= membrane[:-1] == 0
    if trace.initial is not None:
        quiet[0] &= trace.initial == 0
    return tuple(each.mul_(_per_neuron(unit, each)).masked_fill_(quiet, 0) for each in q)


def _per_neuron(unit: Tensor, like: Tensor) -> Tensor:
    """Shape a value of each output `[O]` like those of neurons `[time, B, O, ...]`."""
    return unit.view(-1, *[1] * (like.dim() - 3))


def _packed(x: Tensor) -> Events | None:
    """Return the spikes of `x` if it is what a LIF layer returned, and nobody wrote to it since."""
    made: Any = None if x.is_inference() or x._version or x.output_nr else x.grad_fn
    return getattr(made, "packed", None) if isinstance(made, LIFFunction._backward_cls) else None


class AffineFunction(torch.autograd.Function):
    """A synapse without neurons: LFP on ordinary layers (LFP eq. 2-4)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, spec: Spec) -> Tensor:
        z = spec.synapse.current(x, weight, bias)
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
            found = Contributions(z, None, _parts(spec, x, weight, bias, None))
            q = signed(spec.rule, found, feedback)
            return *distribute(spec.rule, spec.synapse, q, x, (weight, bias), needs, spec.name), None


class MaxPool2dFunction(torch.autograd.Function):
    """Largest value of windows, by the CPU kernels; feedback goes to the winner."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int, stride: int) -> Tensor:
        from spiking_lfp.kernels.cpu import pool

        out, winner = pool.max_pool(x, kernel, stride)
        ctx.window = kernel, stride, x.shape
        ctx.save_for_backward(winner)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, feedback: Tensor) -> tuple[Tensor, None, None]:
        from spiking_lfp.kernels.cpu import pool

        (winner,) = ctx.saved_tensors
        return pool.max_pool_feedback(feedback, winner, *ctx.window), None, None


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
        if ctx.rule.alike:
            a, b = torch.ones_like(a), torch.ones_like(b)
        if ctx.rule.needs_parts:
            shares = a.clamp(min=0) + b.clamp(min=0), -a.clamp(max=0) - b.clamp(max=0)
        q = signed(ctx.rule, Contributions(total, None, shares), feedback)
        on_a, on_b = (
            each * by_sign(q, each) if need else None for each, need in zip((a, b), ctx.needs_input_grad, strict=False)
        )
        return on_a, on_b, None, None


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
        largest = feedback.abs().max()
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(largest, dist.ReduceOp.MAX)
        return torch.where(largest > 0, feedback / largest, feedback)
