"""Layers whose forward pass is exact and whose backward pass carries LFP feedback instead of gradients.

Autograd is only the tape that walks the graph: tensors receive feedback in `.grad`, parameters receive minus their
LFP update, because optimisers descend and LFP ascends. All layers take and give whole sequences `[T, B, ...]`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from spiking_lfp import kernels
from spiking_lfp.encoders import is_constant
from spiking_lfp.errors import NonFiniteError, UsageError
from spiking_lfp.lif import RESETS, Neuron, Reset, Trace
from spiking_lfp.rules import Contributions, Epsilon, Rule
from spiking_lfp.synapses import Synapse, synapse_of

Inputs = Float[Tensor, "steps batch *i"]
Spikes = Float[Tensor, "steps batch *n"]
Membrane = Float[Tensor, "batch *n"]


@dataclass(frozen=True)
class _Spec:
    """What the autograd Functions need beside tensors."""

    synapse: Synapse
    rule: Rule
    neuron: Neuron | None
    name: str


def _distribute(
    ctx: Any, spec: _Spec, q: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Hand `q` `[time, B, *o]` through a synapse: feedback on `x`, and minus the updates of `weight` and `bias`.

    LFP eq. 2-4: `r_x = x * (W^T q)`, `d_W = |W| * sum q x^T`, `d_b = |b| * sum q`. `time` is 1 where `q` is summed.
    """
    need_input, need_weight, need_bias = ctx.needs_input_grad[:3]
    x = x[: len(q)]
    down, outer = spec.synapse.adjoints(q.flatten(0, 1), x.flatten(0, 1), weight, need_input, need_weight)
    grad_input = _sequence(down, x).mul_(x) if down is not None else None
    # the one place where an update turns into a descent direction
    grad_weight = outer.mul_(weight.abs()).neg_() if outer is not None else None
    grad_bias = None
    if need_bias and bias is not None:
        grad_bias = q.sum([dim for dim in range(q.dim()) if dim != 2]).mul_(bias.abs()).neg_()
    for grad in (grad_weight, grad_bias, grad_input if grad_weight is None else None):
        if grad is not None and not grad.sum().isfinite():
            raise NonFiniteError(
                f"layer {spec.name}: its feedback holds NaN or infinity; lower the learning rate, clip the updates "
                "(AdaptiveClip) or normalise the feedback (NormalizeFeedback)"
            )
    return grad_input, grad_weight, grad_bias


def _check_neurons(spec: _Spec, current: Tensor, initial: Tensor | None) -> None:
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


class _LIF(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, initial: Tensor | None, spec: _Spec
    ) -> tuple[Tensor, Tensor]:
        assert spec.neuron is not None
        seen = x[:1] if is_constant(x) else x
        current = _sequence(spec.synapse.current(seen.flatten(0, 1), weight, bias), seen)
        _check_neurons(spec, current, initial)
        # NaN never leaves a membrane again, so its last value tells of every step; a reset to zero forgets infinity
        lost = spec.neuron.reset == "zero" and not current.sum().isfinite()
        spikes, final, trace = kernels.lif_forward(current, len(x), spec.neuron, initial)
        if lost or not final.sum().isfinite():
            raise NonFiniteError(f"layer {spec.name}: its membrane holds NaN or infinity; check inputs and weights")
        ctx.spec = spec
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, bias, initial, trace.membrane, trace.current)
        return spikes, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, spike_feedback: Tensor | None, final_feedback: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, bias, initial, membrane, current = ctx.saved_tensors
        trace = Trace(ctx.spec.neuron, len(x), initial, membrane, current)
        if spike_feedback is None:
            spike_feedback = trace.record.new_zeros((len(x), *trace.record.shape[1:]))
        # a constant input meets the same weights in every step: sum q over time before the product
        summed = is_constant(x) and not ctx.needs_input_grad[0]
        q, carried = kernels.lif_feedback(trace, spike_feedback, final_feedback, ctx.spec.rule, summed)
        return (
            *_distribute(ctx, ctx.spec, q, x, weight, bias),
            carried if ctx.needs_input_grad[3] else None,
            None,
        )


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, spec: _Spec) -> Tensor:
        z = _sequence(spec.synapse.current(x.flatten(0, 1), weight, bias), x)
        ctx.spec = spec
        ctx.save_for_backward(x, weight, bias, z)
        return z.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, feedback: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, z = ctx.saved_tensors
        q = _signed(ctx.spec.rule, z, feedback)
        return *_distribute(ctx, ctx.spec, q, x, weight, bias), None


class _MaxPool2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int, stride: int) -> Tensor:
        from spiking_lfp.kernels import cpu

        out, winner = cpu.max_pool(x, kernel, stride)
        ctx.window = kernel, stride, x.shape
        ctx.save_for_backward(winner)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, feedback: Tensor) -> tuple[Tensor, None, None]:
        from spiking_lfp.kernels import cpu

        (winner,) = ctx.saved_tensors
        return cpu.max_pool_feedback(feedback, winner, *ctx.window), None, None


class _AvgPool2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pool: "AvgPool2d") -> Tensor:
        z = F.avg_pool2d(x, pool.kernel_size, pool.stride, pool.padding)
        ctx.pool = pool
        ctx.save_for_backward(x, z)
        return z.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, feedback: Tensor) -> tuple[Tensor, None]:
        x, z = ctx.saved_tensors
        pool: AvgPool2d = ctx.pool
        q = _signed(pool.rule, z, feedback)
        spread: Tensor = torch.ops.aten.avg_pool2d_backward(
            q, x, _two(pool.kernel_size), _two(pool.stride), _two(pool.padding), False, True, None
        )
        return spread * x, None


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        return x * kept * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, feedback: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return feedback * kept, None, None


class _Add(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, rule: Rule) -> Tensor:
        ctx.rule = rule
        ctx.save_for_backward(a, b)
        return a + b

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, feedback: Tensor) -> tuple[Tensor, Tensor, None]:
        a, b = ctx.saved_tensors
        q = _signed(ctx.rule, a + b, feedback)
        return a * q, b * q, None


class _NormalizeFeedback(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, feedback: Tensor) -> Tensor:
        largest = feedback.abs().max()
        return torch.where(largest > 0, feedback / largest, feedback)


def _signed(rule: Rule, z: Tensor, feedback: Tensor) -> Tensor:
    """Return `q` of ordinary neurons with pre-activation `z`: `sign(z) * r / N`."""
    return z.sign() * feedback * rule.gain(Contributions(z))


class SynapticLayer(nn.Module):
    """Base of the layers that own a synapse: an `nn.Linear` or `nn.Conv2d` with its parameters, and a rule.

    Attributes:
        synapse: the module that holds weight and bias; initialise, save and optimise it as usual.
        rule: how feedback is divided among the contributions.
        name: how errors and reports call the layer; `name_layers` sets it to the layer's path in a network.
    """

    name: str

    def __init__(self, synapse: nn.Module, rule: Rule | None = None) -> None:
        super().__init__()
        self._map = synapse_of(synapse)
        self.synapse = synapse
        self.rule = Epsilon() if rule is None else rule
        self.name = f"{type(self).__name__}({synapse})"

    def _parameters_for(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Check `x` against the synapse and return weight and bias."""
        weight, bias = self.synapse.weight, self.synapse.bias
        assert isinstance(weight, Tensor)
        assert bias is None or isinstance(bias, Tensor)
        if x.dim() < 3 or len(x) == 0 or x.shape[1] == 0:
            raise UsageError(
                f"layer {self.name}: expected a sequence [T, B, ...] with at least one step and one sample, "
                f"found shape {list(x.shape)}"
            )
        expected = self._map.check(x.shape[2:])
        if expected is not None:
            raise UsageError(
                f"layer {self.name}: expected samples of {expected}, found {list(x.shape[2:])} in {list(x.shape)}; "
                "the layout is [T, B, ...], time first"
            )
        if x.dtype != weight.dtype or x.device != weight.device:
            raise UsageError(
                f"layer {self.name}: input is {x.dtype} on {x.device}, weights are {weight.dtype} on {weight.device}; "
                "move one of them with .to()"
            )
        return weight, bias


class LIF(SynapticLayer):
    """A synapse and its leaky integrate-and-fire neurons: exact spikes forward, LFP feedback backward.

        U[t] = beta * U[t-1] + W x[t] + b - threshold * S[t-1]        S[t] = 1 if U[t] > threshold else 0

    (LFP eq. A.14, A.15; snnTorch's `Leaky`.) Feedback on the spikes becomes feedback on `x` and updates of `W` and `b`
    (LFP eq. 2-4, 8, 9; the membrane's past is one of the contributions).

    Args:
        synapse: `nn.Linear` or `nn.Conv2d`.
        beta: membrane decay per step, 0 < beta <= 1; a number, or a tensor broadcastable to one sample's neurons.
        threshold: firing threshold, greater than 0; likewise.
        reset: "subtract" the threshold one step after a spike, set the membrane to "zero", or "none".
        rule: LFP rule, `Epsilon()` if None.

    Raises:
        UsageError: for constants out of range, and inputs that do not fit.
        NonFiniteError: if the membrane or the feedback holds NaN or infinity.
    """

    beta: Tensor
    threshold: Tensor

    def __init__(
        self,
        synapse: nn.Module,
        beta: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        reset: Reset = "subtract",
        rule: Rule | None = None,
    ) -> None:
        super().__init__(synapse, rule)
        if reset not in RESETS:
            raise UsageError(f"reset must be one of {', '.join(RESETS)}, found {reset!r}")
        # float64, so that a network turned to any dtype meets the number that was meant
        self.register_buffer("beta", torch.as_tensor(beta, dtype=torch.float64).clone())
        self.register_buffer("threshold", torch.as_tensor(threshold, dtype=torch.float64).clone())
        self.reset: Reset = reset
        if not bool(((self.beta > 0) & (self.beta <= 1)).all()):
            raise UsageError(f"beta must be greater than 0 and at most 1, found {beta}")
        if not bool(((self.threshold > 0) & self.threshold.isfinite()).all()):
            raise UsageError(f"threshold must be finite and greater than 0, found {threshold}")

    def forward(self, x: Inputs) -> Spikes:
        """Return the spikes `[T, B, *n]` of the sequence `x` `[T, B, *i]`, starting from a membrane at rest."""
        return self.run(x)[0]

    def run(self, x: Inputs, membrane: Membrane | None = None) -> tuple[Spikes, Membrane]:
        """Run a part of a longer sequence.

        Args:
            x: the inputs of the next steps, `[T, B, *i]`.
            membrane: the final membrane `[B, *n]` of the part before, or None to start at rest. Feedback flows through
                it to that part; detach it to stop the feedback there.

        Returns:
            spikes `[T, B, *n]` and the final membrane, which is the whole state.
        """
        weight, bias = self._parameters_for(x)
        neuron = Neuron(self.beta.to(weight.dtype), self.threshold.to(weight.dtype), self.reset)
        spec = _Spec(self._map, self.rule, neuron, self.name)
        spikes, final = _LIF.apply(x, weight, bias, membrane, spec)
        return spikes, final

    def extra_repr(self) -> str:
        """Show the constants."""

        def show(value: Tensor) -> str:
            return f"{value.item():g}" if value.dim() == 0 else f"per neuron {list(value.shape)}"

        return f"beta={show(self.beta)}, threshold={show(self.threshold)}, reset={self.reset!r}, rule={self.rule}"


class Affine(SynapticLayer):
    """A synapse without neurons, `z = W x + b`, for analogue outputs: LFP on ordinary layers (LFP eq. 2-4).

    Args:
        synapse: `nn.Linear` or `nn.Conv2d`.
        rule: LFP rule, `Epsilon()` if None.
    """

    def forward(self, x: Inputs) -> Spikes:
        """Return `W x + b`, `[T, B, *o]`, for `x` `[T, B, *i]`."""
        weight, bias = self._parameters_for(x)
        out: Tensor = _Affine.apply(x, weight, bias, _Spec(self._map, self.rule, None, self.name))
        return out


class MaxPool2d(nn.Module):
    """Largest value over windows of sequences `[T, B, C, H, W]`; feedback goes to the winner, the first of several.

    Args:
        kernel_size: side of the window.
        stride: distance of the windows; the kernel size if None.
    """

    def __init__(self, kernel_size: int, stride: int | None = None) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        if min(self.kernel_size, self.stride) < 1:
            raise UsageError(f"kernel size and stride must be at least 1, found {self.kernel_size} and {self.stride}")

    def forward(self, x: Float[Tensor, "steps batch c h w"]) -> Float[Tensor, "steps batch c p q"]:
        """Return the largest value of each window."""
        images = _images(x, self)
        if kernels.compiled(x) and self.kernel_size <= 16:  # the winner's place is kept in one byte
            out: Tensor = _MaxPool2d.apply(images, self.kernel_size, self.stride)
        else:
            out = F.max_pool2d(images, self.kernel_size, self.stride)
        return _sequence(out, x)

    def extra_repr(self) -> str:
        """Show the window."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


class AvgPool2d(nn.Module):
    """Mean over windows of sequences `[T, B, C, H, W]`; feedback is divided by the rule, as for any fixed weights.

    Args:
        kernel_size: side of the window.
        stride: distance of the windows; the kernel size if None.
        padding: zeros around the image, counted in the mean.
        rule: LFP rule, `Epsilon()` if None.
    """

    def __init__(self, kernel_size: int, stride: int | None = None, padding: int = 0, rule: Rule | None = None) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        if min(self.kernel_size, self.stride) < 1:
            raise UsageError(f"kernel size and stride must be at least 1, found {self.kernel_size} and {self.stride}")
        self.padding = padding
        self.rule = Epsilon() if rule is None else rule

    def forward(self, x: Float[Tensor, "steps batch c h w"]) -> Float[Tensor, "steps batch c p q"]:
        """Return the mean of each window."""
        out: Tensor = _AvgPool2d.apply(_images(x, self), self)
        return _sequence(out, x)

    def extra_repr(self) -> str:
        """Show the window."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class Flatten(nn.Flatten):
    """Make one axis of all axes after time and batch: `[T, B, ...]` to `[T, B, features]`."""

    def __init__(self) -> None:
        super().__init__(start_dim=2)


class Dropout(nn.Module):
    """Drop inputs with probability `p` while training, the same ones in all steps of a sample, and scale up the rest.

    Feedback goes back unscaled to what was kept.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UsageError(f"p must be at least 0 and less than 1, found {p}")
        self.p = p

    def forward(self, x: Inputs) -> Inputs:
        """Return `x` `[T, B, ...]` with some inputs silenced."""
        if not self.training or self.p == 0:
            return x
        kept = torch.rand(x.shape[1:], dtype=x.dtype, device=x.device) >= self.p
        out: Tensor = _Dropout.apply(x, kept, 1 / (1 - self.p))
        return out

    def extra_repr(self) -> str:
        """Show the probability."""
        return f"p={self.p}"


class NormalizeFeedback(nn.Module):
    """Passes its input on, and divides the feedback by its largest magnitude (LFP app. A.6.3), between layers."""

    def forward(self, x: Inputs) -> Inputs:
        """Return `x`."""
        out: Tensor = _NormalizeFeedback.apply(x)
        return out


def add(a: Inputs, b: Inputs, rule: Rule | None = None) -> Inputs:
    """Add two tensors of one shape, as a skip connection does; the rule divides the feedback between them."""
    if a.shape != b.shape:
        raise UsageError(f"add needs two tensors of one shape, found {list(a.shape)} and {list(b.shape)}")
    out: Tensor = _Add.apply(a, b, Epsilon() if rule is None else rule)
    return out


def name_layers(network: nn.Module) -> dict[str, SynapticLayer]:
    """Name all layers of `network` that own a synapse after their path in it, and return them by that name."""
    layers = {name: module for name, module in network.named_modules() if isinstance(module, SynapticLayer)}
    for name, layer in layers.items():
        layer.name = name or layer.name
    return layers


def _images(x: Tensor, pool: "MaxPool2d | AvgPool2d") -> Tensor:
    """Merge time and batch of `x` for a pooling layer, if a window fits."""
    if x.dim() != 5 or min(x.shape[3:]) < pool.kernel_size:
        raise UsageError(
            f"{pool}: expected [T, B, C, height, width] with sides of at least {pool.kernel_size}, "
            f"found {list(x.shape)}"
        )
    return x.flatten(0, 1)


def _sequence(merged: Tensor, like: Tensor) -> Tensor:
    """Split the merged first axis into time and batch again, those of `like`."""
    return merged.view(*like.shape[:2], *merged.shape[1:])


def _two(value: int) -> list[int]:
    return [value, value]
