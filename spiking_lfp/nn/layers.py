"""Layers whose forward pass is exact and whose backward pass carries LFP feedback instead of gradients.

After `propagate`, the `.grad` of tensors is their feedback, and that of parameters is minus their update. All layers
take and return whole sequences `[T, B, ...]`.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from traceback import walk_tb
from typing import Any, ParamSpec, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

import spiking_lfp
from spiking_lfp.arguments import as_integer, describe
from spiking_lfp.checks import expect_tensor, require
from spiking_lfp.errors import SpikingLFPError, UsageError
from spiking_lfp.kernels.product import full_precision
from spiking_lfp.lfp.functions import (
    AddFunction,
    AffineFunction,
    NormalizeFeedbackFunction,
    PopulationFunction,
    ScaleFunction,
    Spec,
)
from spiking_lfp.lfp.reading import check_precision, materialize, plain_synapse, read_synapse, refused
from spiking_lfp.lfp.synapses import Synapse, is_constant
from spiking_lfp.lfp.tape import check_below, misuse
from spiking_lfp.nn.carry import current_carry
from spiking_lfp.nn.noise import uniform
from spiking_lfp.nn.norm import Statistics, folded, folded_weights, in_backward, measure, normalisation_of
from spiking_lfp.rules import Rule, checked_rule

Inputs = Float[Tensor, "steps batch *i"]
Spikes = Float[Tensor, "steps batch *n"]
_told: ContextVar[Callable[[Tensor, Tensor, Tensor], None] | None] = ContextVar("spiking_lfp_sums", default=None)
_UNFOLLOWED = (
    "cannot follow layers with neurons: bring the network elsewhere by spiking_lfp.export, or to snnTorch by "
    "to_snntorch"
)
P = ParamSpec("P")
R = TypeVar("R")


def opaque(method: Callable[P, R]) -> Callable[P, R]:
    """Exclude `method` from `torch.compile`, which cannot speed up our kernels, and refuse what else would trace it.

    Like `torch.compiler.disable`, whose import takes a second, but only when something is compiled.
    """

    disabled: Callable[P, R] | None = None

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal disabled
        if disabled is None and "torch._dynamo" in sys.modules:
            disabled = torch.compiler.disable(method)
        if torch.jit.is_tracing():  # type: ignore[attr-defined]
            raise UsageError(f"torch.jit.trace, and torch.onnx.export by way of it, {_UNFOLLOWED}")
        try:
            return (disabled or method)(*args, **kwargs)
        except RuntimeError as error:
            sentence = misuse(error)
            if sentence is None:
                raise
            raise UsageError(sentence) from None

    return call


class SynapticLayer(nn.Module):
    """Base class of the layers with a synapse, an `nn.Linear` or a convolution of torch, and a rule.

    The synapse is read, not called, in every pass anew: it may be exchanged, changed, pruned by `torch.nn.utils.prune`,
    and lazy. What would happen in a call, of it or of its norm, is refused: a forward pass of its own, hooks,
    parametrizations.

    Attributes:
        synapse: the module that holds weight and bias; initialise, save and optimise it as usual.
        rule: how feedback is divided among the contributions.
        norm: batch normalisation of what the synapse gives, or None; see `nn.norm`.
        name: name of the layer in errors and reports; `name_layers` sets it to the layer's path in a network.
    """

    name: str

    def __init__(self, synapse: nn.Module, rule: Rule | None = None, norm: nn.Module | None = None) -> None:
        super().__init__()
        if not isinstance(synapse, LazyModuleMixin):
            read_synapse(synapse)
        self.synapse = synapse
        self.norm = None if norm is None else normalisation_of(norm, synapse)
        self._measured = False
        self.rule = checked_rule(rule)
        self.name = f"{type(self).__name__}({synapse})"

    def __prepare_scriptable__(self) -> nn.Module:
        # torch.jit.script asks every module of a network for what it can compile
        raise UsageError(f"torch.jit.script {_UNFOLLOWED}")

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

    def _weights_for(self, x: Tensor) -> tuple[Synapse, Tensor, Tensor | None, dict[str, Any]]:
        """Check `x`; return map, weight and bias with the normalisation in them, and what `Spec` has to know of it."""
        synapse, weight, bias = self._synapse_for(x)
        if self.norm is None:
            return synapse, weight, bias, {}
        if self.rule.uniform:
            raise UsageError(f"layer {self.name}: layers with a norm do not take {self.rule}")
        norm: Any = self.norm
        try:
            normalisation_of(norm, self.synapse)
        except UsageError as error:
            raise refused(self.name, str(error)) from None
        if norm.running_mean.dtype != weight.dtype:
            raise UsageError(
                f"layer {self.name}: weights are {weight.dtype}, its norm is {norm.running_mean.dtype}; move one of "
                "them with .to()"
            )
        watch = None
        if norm.training:
            if current_carry() is not None or in_backward():
                raise UsageError(
                    f"layer {self.name}: its norm learns its statistics, so that running a part again, as in chunks "
                    "or a checkpoint, gives other spikes: freeze it with norm.eval(), or use fold_batch_norm"
                )
            if not self._measured:
                self._measured = True
                if int(norm.num_batches_tracked) == 0:
                    measure(norm, *self._first_currents(synapse, x, weight, bias))
            watch = Statistics(norm, synapse.axis)
        return synapse, *folded_weights(synapse, weight, bias, norm), {"folded": True, "watch": watch}

    @staticmethod
    @torch.no_grad()
    def _first_currents(synapse: Synapse, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, int]:
        """Return what a synapse gives for `x`, and the axis of its outputs."""
        inputs = synapse.inputs(x[:1] if is_constant(x) else x, None)
        return synapse.current(inputs, weight, bias), synapse.axis

    def fold_norm_(self) -> None:
        """Fold the normalisation into the synapse, a new one, in place; see `fold_batch_norm`."""
        if self.norm is not None:
            self.synapse, self.norm = folded(plain_synapse(self.synapse, self.name), self.norm), None


class Affine(SynapticLayer):
    """A synapse without neurons, `z = W x + b`, for analogue outputs: LFP on non-spiking layers (LFP eq. 2-4).

    Args:
        synapse: `nn.Linear`, or a convolution of torch.
        rule: LFP rule, `Epsilon()` if None.
        norm: batch normalisation of `z`; see `nn.norm`.

    Example:
        >>> network = nn.Sequential(LIF(nn.Linear(4, 20)), Affine(nn.Linear(20, 3)))
        >>> logits = network(torch.rand(10, 2, 4))  # [T, B, 3]
        >>> propagate(logits, logit_reward(logits, [0, 2]))
    """

    @opaque
    def forward(self, x: Inputs) -> Spikes:
        """Return `W x + b`, `[T, B, *o]`, for `x` `[T, B, *i]`."""
        synapse, weight, bias, normalised = self._weights_for(x)
        check_below(self.name, (x,))
        check_precision(self.name, (x, weight))
        with full_precision(x):
            out: Tensor = AffineFunction.apply(x, weight, bias, Spec(synapse, self.rule, self.name, **normalised))
        return out


class Flatten(nn.Flatten):
    """Flatten all axes after time and batch: `[T, B, ...]` to `[T, B, features]`.

    Example:
        >>> Flatten()(torch.ones(25, 32, 1, 28, 28)).shape
        torch.Size([25, 32, 784])
    """

    def __init__(self) -> None:
        super().__init__(start_dim=2)


class Dropout(nn.Module):
    """Dropout: in training, drop inputs with probability `p`, the same ones in all steps, and scale up the others.

    Feedback goes back unscaled to the inputs that were kept. In a run, what is dropped depends on seed, epoch and
    sample, not on the batch, the device or the number of processes; elsewhere it comes from torch's own generator.

    Args:
        p: probability, 0 <= p < 1.

    Raises:
        UsageError: for a probability out of range.

    Example:
        >>> dropped = Dropout(0.5)(torch.ones(3, 2, 8))  # [T, B, 8]
        >>> dropped.unique().tolist(), torch.equal(dropped[0], dropped[2])
        ([0.0, 2.0], True)
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not isinstance(p, float | int) or not 0 <= p < 1:
            raise UsageError(f"p must be at least 0 and less than 1, found {describe(p)}")
        self.p = p

    def forward(self, x: Inputs) -> Inputs:
        """Return `x` `[T, B, ...]` with some inputs set to 0."""
        expect_tensor(x, self)
        if not self.training or self.p == 0:
            return x
        carry = current_carry()
        carried = None if carry is None else carry.take(1)
        kept = uniform((1, *x.shape[1:]), x.dtype, x.device)[0] >= self.p if carried is None else carried[0]
        if carry is not None:
            carry.give(kept)
        # what is one tensor in every step stays it: the layer behind computes one step, too
        once = is_constant(x) and not x.requires_grad
        out: Tensor = ScaleFunction.apply(x[:1] if once else x, kept / (1 - self.p), False)
        return out.expand_as(x) if once else out

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
        UsageError: if `size` is less than 1, neurons are not a multiple of it, or their outputs are no spikes.

    Example:
        >>> network = nn.Sequential(LIF(nn.Linear(4, 30)), PopulationReadout(10))
        >>> outputs = network(torch.rand(5, 2, 4))  # [T, B, 3]
        >>> propagate(outputs, spike_count_reward(outputs, [0, 2]))
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = as_integer(size, "size", 1)

    @opaque
    def forward(self, spikes: Spikes) -> Float[Tensor, "steps batch *classes"]:
        """Return the mean of each population, `[T, B, C, ...]`, for spikes `[T, B, C * size, ...]`."""
        expect_tensor(spikes, self)
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
    """Identity that divides the feedback by its largest magnitude (LFP app. A.6.3); for use between layers.

    Example:
        >>> x = torch.ones(1, 1, 3, requires_grad=True)
        >>> propagate(NormalizeFeedback()(x), [[[1.0, 2.0, -4.0]]])
        >>> x.grad
        tensor([[[ 0.2500,  0.5000, -1.0000]]])
    """

    def forward(self, x: Inputs) -> Inputs:
        """Return `x`."""
        expect_tensor(x, self)
        out: Tensor = NormalizeFeedbackFunction.apply(x)
        return out


def add(a: Inputs, b: Inputs, rule: Rule | None = None) -> Inputs:
    """Add two tensors of the same shape, as in a skip connection; the rule divides the feedback between them.

    Args:
        a: `[T, B, ...]`.
        b: likewise.
        rule: LFP rule, `Epsilon()` if None.

    Raises:
        UsageError: if the shapes differ.

    Example:
        >>> first, second = LIF(nn.Linear(4, 8)), LIF(nn.Linear(8, 8))
        >>> hidden = first(torch.rand(10, 2, 4))
        >>> add(hidden, second(hidden)).shape
        torch.Size([10, 2, 8])
    """
    for each in (a, b):
        expect_tensor(each, "add")
    if a.shape != b.shape:
        raise UsageError(f"add expects two tensors of the same shape, found {list(a.shape)} and {list(b.shape)}")
    out: Tensor = AddFunction.apply(a, b, checked_rule(rule), False)
    tell = _told.get()
    if tell is not None:
        tell(a, b, out)
    return out


@contextmanager
def sums_told(tell: Callable[[Tensor, Tensor, Tensor], None]) -> Iterator[None]:
    """Let `add` call `tell` with both summands and their sum, inside the context."""
    token = _told.set(tell)
    try:
        yield
    finally:
        _told.reset(token)


def name_layers(network: nn.Module) -> dict[str, SynapticLayer]:
    """Name all layers of `network` with a synapse after their path in it, and return them by name.

    Example:
        >>> list(name_layers(lenet()))
        ['0', '2', '5', '6']
    """
    layers = {name: module for name, module in network.named_modules() if isinstance(module, SynapticLayer)}
    for name, layer in layers.items():
        layer.name = name or layer.name
    return layers


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put all modules into evaluation mode inside the context."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


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
        known = kind in dir(spiking_lfp)
        ours = f"spiking_lfp has {kind} of its own for them" if known else "use layers of this package"
        raise UsageError(
            f"layer {name}: {kind} of torch failed ({reason}); between layers with neurons there are sequences "
            f"[T, B, ...], time first: {ours}, or merge time and batch around it"
        ) from error
