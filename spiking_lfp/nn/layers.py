"""Layers whose forward pass is exact and whose backward pass carries LFP feedback instead of gradients.

After `propagate`, tensors have feedback in `.grad` and parameters minus their update. All layers take and give whole
sequences `[T, B, ...]`.
"""

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from spiking_lfp import kernels
from spiking_lfp.errors import UsageError
from spiking_lfp.kernels.product import full_precision
from spiking_lfp.lfp.functions import (
    AddFunction,
    AffineFunction,
    LIFFunction,
    MaxPool2dFunction,
    NormalizeFeedbackFunction,
    ScaleFunction,
    Spec,
)
from spiking_lfp.lfp.synapses import LinearMap, sequence, synapse_of
from spiking_lfp.neurons.integer import FixedPoint
from spiking_lfp.neurons.lif import RESETS, Neuron, Reset
from spiking_lfp.rules import Epsilon, Rule

Inputs = Float[Tensor, "steps batch *i"]
Spikes = Float[Tensor, "steps batch *n"]
Membrane = Float[Tensor, "batch *n"]
P = ParamSpec("P")
R = TypeVar("R")


def opaque(method: Callable[P, R]) -> Callable[P, R]:
    """Keep `torch.compile` out of `method`: there is nothing in our kernels that it could make faster.

    Like `torch.compiler.disable`, which takes a second to import, but only when something is compiled.
    """

    hidden: Callable[P, R] | None = None

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal hidden
        if hidden is None and "torch._dynamo" in sys.modules:
            hidden = torch.compiler.disable(method)
        return (hidden or method)(*args, **kwargs)

    return call


class Carry:
    """What the layers of a network hand from one part of a sequence to the next, in the order in which they run.

    Args:
        states: what they left behind in the part before; none in the first part.
        share: this part's share of the steps of the sequence.
        again: whether this part is computed once more, for its feedback.
    """

    def __init__(self, states: Sequence[Tensor], share: float, again: bool) -> None:
        self.taken = iter(states)
        self.given: list[Tensor] = []
        self.share, self.again = share, again

    def take(self) -> Tensor | None:
        """Return the state that the next layer left behind, or None in the first part."""
        return next(self.taken, None)

    def give(self, state: Tensor) -> None:
        """Leave a state behind for the next part."""
        self.given.append(state)


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
    carry: Carry | None = None
    fixed: FixedPoint | None = None
    recorded: Tensor | None = None

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
        if self.carry is None:
            return self.run(x)[0]
        spikes, membrane = self.run(x, self.carry.take())
        self.carry.give(membrane)
        return spikes

    @opaque
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
        spec = Spec(self._map, self.rule, neuron, self.name, self.fixed, self.recorded)
        with full_precision(x):
            spikes, final = LIFFunction.apply(x, weight, bias, membrane, self._recurrent_weight(), spec)
        return spikes, final

    def _recurrent_weight(self) -> Tensor | None:
        """Return the weights through which the neurons see their own spikes, if they do."""
        return None

    def extra_repr(self) -> str:
        """Show the constants."""

        def show(value: Tensor) -> str:
            return f"{value.item():g}" if value.dim() == 0 else f"per neuron {list(value.shape)}"

        shown = f"beta={show(self.beta)}, threshold={show(self.threshold)}, reset={self.reset!r}, rule={self.rule}"
        return shown if self.fixed is None else f"{shown}, {self.fixed}"


class RecurrentLIF(LIF):
    """LIF neurons that see the spikes of their own layer, one step later.

        U[t] = beta * U[t-1] + W x[t] + b + V S[t-1] - threshold * S[t-1]

    `S[t-1]` is one more input: it receives feedback, `S[t-1] * (V^T q[t])`, which joins that of the layers above, and
    `V` is updated as `W` is. The state is the membrane alone, as in `LIF`, since it tells the spikes too: what the next
    part of a sequence owes them comes back through it.

    Args:
        synapse: `nn.Linear` to `n` neurons.
        beta: as in `LIF`, and so are threshold, reset and rule.
        recurrent: `V`, an `nn.Linear(n, n, bias=False)`; one with torch's initial weights if None.

    Raises:
        UsageError: as `LIF`, for a synapse or `recurrent` of another kind or shape, and when it is to run in integers.
    """

    recurrent: nn.Linear

    def __init__(
        self,
        synapse: nn.Module,
        beta: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        reset: Reset = "subtract",
        rule: Rule | None = None,
        recurrent: nn.Linear | None = None,
    ) -> None:
        super().__init__(synapse, beta, threshold, reset, rule)
        if not isinstance(synapse, nn.Linear):
            raise UsageError(f"the synapse of a recurrent layer must be an nn.Linear, found {synapse}")
        n, weight = synapse.out_features, synapse.weight
        if recurrent is None:
            recurrent = nn.Linear(n, n, bias=False, device=weight.device, dtype=weight.dtype)
        if tuple(recurrent.weight.shape) != (n, n) or recurrent.bias is not None:
            raise UsageError(f"recurrent must be nn.Linear({n}, {n}, bias=False), found {recurrent}")
        self.recurrent = recurrent

    def _recurrent_weight(self) -> Tensor:
        if self.fixed is not None:
            raise UsageError(f"layer {self.name}: recurrent layers do not run in integers")
        if self.rule.alike:
            raise UsageError(f"layer {self.name}: recurrent layers do not take {self.rule}")
        return self.recurrent.weight


class Affine(SynapticLayer):
    """A synapse without neurons, `z = W x + b`, for analogue outputs: LFP on ordinary layers (LFP eq. 2-4).

    Args:
        synapse: `nn.Linear` or `nn.Conv2d`.
        rule: LFP rule, `Epsilon()` if None.
    """

    @opaque
    def forward(self, x: Inputs) -> Spikes:
        """Return `W x + b`, `[T, B, *o]`, for `x` `[T, B, *i]`."""
        weight, bias = self._parameters_for(x)
        with full_precision(x):
            out: Tensor = AffineFunction.apply(x, weight, bias, Spec(self._map, self.rule, None, self.name))
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

    @opaque
    def forward(self, x: Float[Tensor, "steps batch c h w"]) -> Float[Tensor, "steps batch c p q"]:
        """Return the largest value of each window."""
        images = _images(x, self)
        if kernels.compiled(x) and self.kernel_size <= 16:  # the winner's place is kept in one byte
            out: Tensor = MaxPool2dFunction.apply(images, self.kernel_size, self.stride)
        else:
            out = F.max_pool2d(images, self.kernel_size, self.stride)
        return sequence(out, x)

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

        def pool(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            merged = F.avg_pool2d(images.flatten(0, 1), self.kernel_size, self.stride, self.padding)
            return sequence(merged, images) * weight

        _images(x, self)
        out: Tensor = AffineFunction.apply(x, x.new_ones(()), None, Spec(LinearMap(pool), self.rule, None, str(self)))
        return out

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

    carry: Carry | None = None

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UsageError(f"p must be at least 0 and less than 1, found {p}")
        self.p = p

    def forward(self, x: Inputs) -> Inputs:
        """Return `x` `[T, B, ...]` with some inputs silenced."""
        if not self.training or self.p == 0:
            return x
        kept = None if self.carry is None else self.carry.take()
        if kept is None:
            kept = torch.rand(x.shape[1:], dtype=x.dtype, device=x.device) >= self.p
        if self.carry is not None:
            self.carry.give(kept)
        out: Tensor = ScaleFunction.apply(x, kept / (1 - self.p), False)
        return out

    def extra_repr(self) -> str:
        """Show the probability."""
        return f"p={self.p}"


class NormalizeFeedback(nn.Module):
    """Passes its input on, and divides the feedback by its largest magnitude (LFP app. A.6.3), between layers."""

    def forward(self, x: Inputs) -> Inputs:
        """Return `x`."""
        out: Tensor = NormalizeFeedbackFunction.apply(x)
        return out


def add(a: Inputs, b: Inputs, rule: Rule | None = None) -> Inputs:
    """Add two tensors of one shape, as a skip connection does; the rule divides the feedback between them."""
    if a.shape != b.shape:
        raise UsageError(f"add needs two tensors of one shape, found {list(a.shape)} and {list(b.shape)}")
    out: Tensor = AddFunction.apply(a, b, Epsilon() if rule is None else rule, False)
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
