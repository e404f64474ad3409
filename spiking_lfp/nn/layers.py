"""Layers whose forward pass is exact and whose backward pass carries LFP feedback instead of gradients.

After `propagate`, the `.grad` of tensors is their feedback, and that of parameters is minus their update. All layers
take and return whole sequences `[T, B, ...]`.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from traceback import walk_tb
from typing import ParamSpec, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.lazy import LazyModuleMixin

from spiking_lfp.checks import require
from spiking_lfp.errors import SpikingLFPError, UsageError
from spiking_lfp.kernels.product import full_precision
from spiking_lfp.lfp.functions import (
    AddFunction,
    AffineFunction,
    NormalizeFeedbackFunction,
    PopulationFunction,
    ScaleFunction,
    Spec,
    max_pool2d,
)
from spiking_lfp.lfp.reading import materialize, read_synapse
from spiking_lfp.lfp.synapses import LinearMap, Synapse, sequence
from spiking_lfp.lfp.tape import check_below
from spiking_lfp.nn.carry import current_carry
from spiking_lfp.nn.noise import uniform
from spiking_lfp.rules import Rule, checked_rule

Inputs = Float[Tensor, "steps batch *i"]
Spikes = Float[Tensor, "steps batch *n"]
P = ParamSpec("P")
R = TypeVar("R")


def opaque(method: Callable[P, R]) -> Callable[P, R]:
    """Exclude `method` from `torch.compile`, which cannot speed up our kernels.

    Like `torch.compiler.disable`, whose import takes a second, but only when something is compiled.
    """

    disabled: Callable[P, R] | None = None

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal disabled
        if disabled is None and "torch._dynamo" in sys.modules:
            disabled = torch.compiler.disable(method)
        return (disabled or method)(*args, **kwargs)

    return call


class SynapticLayer(nn.Module):
    """Base class of the layers with a synapse, an `nn.Linear` or `nn.Conv2d` with its parameters, and a rule.

    The synapse is read, not called, in every pass anew: it may be exchanged, changed, pruned by `torch.nn.utils.prune`,
    and lazy. What would happen in a call is refused: a forward pass of its own, hooks, parametrizations.

    Attributes:
        synapse: the module that holds weight and bias; initialise, save and optimise it as usual.
        rule: how feedback is divided among the contributions.
        name: name of the layer in errors and reports; `name_layers` sets it to the layer's path in a network.
    """

    name: str

    def __init__(self, synapse: nn.Module, rule: Rule | None = None) -> None:
        super().__init__()
        if not isinstance(synapse, LazyModuleMixin):
            read_synapse(synapse)
        self.synapse = synapse
        self.rule = checked_rule(rule)
        self.name = f"{type(self).__name__}({synapse})"

    def _synapse_for(self, x: Tensor) -> tuple[Synapse, Tensor, Tensor | None]:
        """Check `x` against the synapse and return its map, weight and bias."""
        expect_tensor(x, f"layer {self.name}")
        if x.dim() < 3 or len(x) == 0 or x.shape[1] == 0:
            raise UsageError(
                f"layer {self.name}: expected a sequence [T, B, ...] with at least one step and one sample, "
                f"found shape {list(x.shape)}"
            )
        module = self.synapse
        if isinstance(module, LazyModuleMixin):
            materialize(module, x[0])
        synapse, weight, bias = read_synapse(module, self.name)
        expected = synapse.check(x.shape[2:])
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
        return synapse, weight, bias


class Affine(SynapticLayer):
    """A synapse without neurons, `z = W x + b`, for analogue outputs: LFP on non-spiking layers (LFP eq. 2-4).

    Args:
        synapse: `nn.Linear` or `nn.Conv2d`.
        rule: LFP rule, `Epsilon()` if None.
    """

    @opaque
    def forward(self, x: Inputs) -> Spikes:
        """Return `W x + b`, `[T, B, *o]`, for `x` `[T, B, *i]`."""
        synapse, weight, bias = self._synapse_for(x)
        check_below(self.name, (x,))
        with full_precision(x):
            out: Tensor = AffineFunction.apply(x, weight, bias, Spec(synapse, self.rule, self.name))
        return out


class MaxPool2d(nn.Module):
    """Max pooling of sequences `[T, B, C, H, W]`; feedback goes to the largest value, to the first of equal ones.

    Args:
        kernel_size: side length of the window.
        stride: distance between windows; the kernel size if None.
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
        return sequence(max_pool2d(_images(x, self), self.kernel_size, self.stride), x)

    def extra_repr(self) -> str:
        """Show the window."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


class AvgPool2d(nn.Module):
    """Mean pooling of sequences `[T, B, C, H, W]`; feedback is divided by the rule, as for any fixed weights.

    Args:
        kernel_size: side length of the window.
        stride: distance between windows; the kernel size if None.
        padding: zeros around the image, included in the mean.
        rule: LFP rule, `Epsilon()` if None.
    """

    def __init__(self, kernel_size: int, stride: int | None = None, padding: int = 0, rule: Rule | None = None) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        if min(self.kernel_size, self.stride) < 1:
            raise UsageError(f"kernel size and stride must be at least 1, found {self.kernel_size} and {self.stride}")
        self.padding = padding
        self.rule = checked_rule(rule)

    @opaque
    def forward(self, x: Float[Tensor, "steps batch c h w"]) -> Float[Tensor, "steps batch c p q"]:
        """Return the mean of each window."""

        def pool(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            merged = F.avg_pool2d(images.flatten(0, 1), self.kernel_size, self.stride, self.padding)
            return sequence(merged, images) * weight

        _images(x, self)
        check_below(str(self), (x,))
        out: Tensor = AffineFunction.apply(x, x.new_ones(()), None, Spec(LinearMap(pool), self.rule, str(self)))
        return out

    def extra_repr(self) -> str:
        """Show the window."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class Flatten(nn.Flatten):
    """Flatten all axes after time and batch: `[T, B, ...]` to `[T, B, features]`."""

    def __init__(self) -> None:
        super().__init__(start_dim=2)


class Dropout(nn.Module):
    """Dropout: in training, drop inputs with probability `p`, the same ones in all steps, and scale up the others.

    Feedback goes back unscaled to the inputs that were kept. In a run, what is dropped depends on seed, epoch and
    sample, not on the batch, the device or the number of processes; elsewhere it comes from torch's own generator.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UsageError(f"p must be at least 0 and less than 1, found {p}")
        self.p = p

    def forward(self, x: Inputs) -> Inputs:
        """Return `x` `[T, B, ...]` with some inputs set to 0."""
        if not self.training or self.p == 0:
            return x
        carry = current_carry()
        carried = None if carry is None else carry.take(1)
        kept = uniform((1, *x.shape[1:]), x.dtype, x.device)[0] >= self.p if carried is None else carried[0]
        if carry is not None:
            carry.give(kept)
        out: Tensor = ScaleFunction.apply(x, kept / (1 - self.p), False)
        return out

    def extra_repr(self) -> str:
        """Show the probability."""
        return f"p={self.p}"


class PopulationReadout(nn.Module):
    """Several output neurons for each class, `size` of them in a row: returns the mean of their spikes in every step.

    The mean lies between 0 and 1, so that rewards and predictions are those of one neuron a class. What a class is
    rewarded by every member of its population hears, silent ones too; what it is punished by each hears for its own
    spikes. So every neuron learns as one of `size` networks would that share what lies below and vote.

    Args:
        size: neurons of each class.

    Raises:
        UsageError: if neurons are not a multiple of `size`, or their outputs are no spikes.

    Example:
        >>> network = nn.Sequential(LIF(nn.Linear(4, 30)), PopulationReadout(10))
        >>> outputs = network(torch.rand(5, 2, 4))  # [T, B, 3]
        >>> propagate(outputs, spike_count_reward(outputs, [0, 2]))
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 1:
            raise UsageError(f"a population has at least 1 neuron, found {size}")
        self.size = size

    @opaque
    def forward(self, spikes: Spikes) -> Float[Tensor, "steps batch *classes"]:
        """Return the mean of each population, `[T, B, C, ...]`, for spikes `[T, B, C * size, ...]`."""
        if spikes.dim() < 3 or spikes.shape[2] % self.size:
            raise UsageError(
                f"{self}: expected spikes [T, B, N, ...] with N a multiple of {self.size}, found {list(spikes.shape)}"
            )
        require(((spikes == 0) | (spikes == 1)).all(), UsageError, f"{self}: its inputs are no spikes, 0 or 1")
        out: Tensor = PopulationFunction.apply(spikes, self.size)
        return out

    def extra_repr(self) -> str:
        """Show the size."""
        return f"size={self.size}"


class NormalizeFeedback(nn.Module):
    """Identity that divides the feedback by its largest magnitude (LFP app. A.6.3); for use between layers."""

    def forward(self, x: Inputs) -> Inputs:
        """Return `x`."""
        out: Tensor = NormalizeFeedbackFunction.apply(x)
        return out


def add(a: Inputs, b: Inputs, rule: Rule | None = None) -> Inputs:
    """Add two tensors of the same shape, as in a skip connection; the rule divides the feedback between them."""
    if a.shape != b.shape:
        raise UsageError(f"add expects two tensors of the same shape, found {list(a.shape)} and {list(b.shape)}")
    out: Tensor = AddFunction.apply(a, b, checked_rule(rule), False)
    return out


def name_layers(network: nn.Module) -> dict[str, SynapticLayer]:
    """Name all layers of `network` with a synapse after their path in it, and return them by name."""
    layers = {name: module for name, module in network.named_modules() if isinstance(module, SynapticLayer)}
    for name, layer in layers.items():
        layer.name = name or layer.name
    return layers


def expect_tensor(x: object, what: str) -> None:
    """Refuse inputs that are no tensor."""
    if not isinstance(x, Tensor):
        raise UsageError(f"{what}: expected a tensor [T, B, ...], found {type(x).__name__}: use torch.as_tensor(x)")


@contextmanager
def failures_named(network: nn.Module) -> Iterator[None]:
    """Let layers of torch that fail inside the context say which they are, and that they are given sequences.

    Raises:
        UsageError: with the layer's path in `network`.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if isinstance(error, SpikingLFPError) or "memory" in str(error):
            raise
        paths = {module: name for name, module in network.named_modules()}
        callers = (frame.f_locals.get("self") for frame, _ in walk_tb(error.__traceback__))
        modules = [each for each in callers if isinstance(each, nn.Module) and each in paths]
        theirs = bool(modules) and type(modules[-1]).__module__.startswith("torch.nn.modules.")
        if not theirs or isinstance(modules[-1], nn.Sequential):
            raise
        if not any(isinstance(each, SynapticLayer) for each in paths):
            raise  # a model without sequences
        name, kind = paths[modules[-1]], type(modules[-1]).__name__
        reason = str(error).strip().partition("\n")[0]
        ours = f"spiking_lfp has {kind} of its own for them" if kind in globals() else "use layers of this package"
        raise UsageError(
            f"layer {name}: {kind} of torch failed ({reason}); between layers with neurons there are sequences "
            f"[T, B, ...], time first: {ours}, or merge time and batch around it"
        ) from error


def _images(x: Tensor, pool: "MaxPool2d | AvgPool2d") -> Tensor:
    """Merge time and batch of `x` for a pooling layer, after checking that a window fits."""
    expect_tensor(x, str(pool))
    if x.dim() != 5 or min(x.shape[3:]) < pool.kernel_size:
        raise UsageError(
            f"{pool}: expected [T, B, C, height, width] with sides of at least {pool.kernel_size}, "
            f"found {list(x.shape)}"
        )
    return x.flatten(0, 1)
