"""Composites: which rule each layer of a model follows, for networks of this package and for any other torch model.

Inside `Composite.applied(model)` the model computes what it always does, while what goes back from its outputs is LFP
feedback instead of a gradient (LFP sec. 2.5, app. A.6.2). Operations are met where torch carries them out, so that
functional calls and additions of skip connections are met too, whatever module they stand in.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.fx import symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten

from spiking_lfp.errors import UsageError, unknown_name
from spiking_lfp.lfp.functions import (
    ActivationFunction,
    AddFunction,
    AffineFunction,
    NormalizeFeedbackFunction,
    ScaleFunction,
    Spec,
    SpikingFunction,
)
from spiking_lfp.lfp.synapses import Convolution, Dense, LinearMap, Synapse
from spiking_lfp.mono import FeedforwardNet
from spiking_lfp.nn.layers import AvgPool2d, SynapticLayer
from spiking_lfp.rules import AlphaBeta, Epsilon, Rule, Zero, ZPlusZMinus

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Composite:
    """A rule for each layer with weights: by its name if there is one, else by its place, else by its type.

    Attributes:
        default: for layers that nothing else names, and for torch's sums and means, which have no weights
            (`spiking_lfp.add` has a rule of its own).
        types: by the module's class, `nn.Linear` or `nn.Conv2d`; the first that fits counts.
        positions: by the place among the layers with weights in the order of `named_modules`, -1 for the last.
        names: by path in the model, `*` for any part of it; the first that fits counts.
        normalize: divide feedback by its largest magnitude after each layer (LFP app. A.6.3); networks of this package
            have `NormalizeFeedback` for that.
    """

    default: Rule = field(default_factory=Epsilon)
    types: Mapping[type[nn.Module], Rule] = field(default_factory=dict)
    positions: Mapping[int, Rule] = field(default_factory=dict)
    names: Mapping[str, Rule] = field(default_factory=dict)
    normalize: bool = False

    def rules(self, model: nn.Module) -> dict[str, Rule]:
        """Return the rule of each layer with weights by its path in `model`.

        Raises:
            UsageError: if a position or a name is none of the model's.
        """
        layers = _layers(model)
        names = list(layers)
        for position in self.positions:
            if not -len(names) <= position < len(names):
                raise UsageError(f"there is no layer at position {position}: the model has {len(names)} with weights")
        placed = {names[position]: rule for position, rule in self.positions.items()}
        for pattern in self.names:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UsageError(f"no layer is called {pattern!r}: the model has {', '.join(names) or 'none'}")

        def rule_of(name: str, module: nn.Module) -> Rule:
            named = (rule for pattern, rule in self.names.items() if fnmatchcase(name, pattern))
            typed = (rule for kind, rule in self.types.items() if isinstance(module, kind))
            return next(named, None) or placed.get(name) or next(typed, self.default)

        return {name: rule_of(name, module) for name, module in layers.items()}

    def assign(self, network: nn.Module) -> None:
        """Give the layers of this package in `network` their rules, to keep."""
        rules = self.rules(network)
        for name, module in network.named_modules():
            if isinstance(module, SynapticLayer):
                module.rule = rules[name or module.name]
            elif isinstance(module, AvgPool2d):
                module.rule = self.default

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Let feedback go back from the outputs of `model` by these rules inside the context; nothing is left behind.

            with composite.applied(model):
                logits = model(x)
            propagate(logits, logit_reward(logits, labels))

        Linear layers, convolutions, mean pooling, means and sums of tensors follow a rule; activations hand feedback on
        unchanged; max pooling, dropout, reshaping and joining follow the forward path.

        Raises:
            UsageError: when the model runs, for an operation that LFP says nothing about, and for batch normalisation,
                which `fold_batch_norm` removes.
        """
        rules = self.rules(model)
        layers = _layers(model)
        if isinstance(model.forward, _Forward):
            raise UsageError("a composite is applied to this model already: leave that context first")
        kept = {module: module.rule for module in model.modules() if isinstance(module, SynapticLayer | AvgPool2d)}
        replaced = vars(model).get("forward")
        model.forward = _Forward(self, rules, layers, model.forward)
        try:
            self.assign(model)
            yield
        finally:
            if replaced is None:
                del model.forward
            else:
                model.forward = replaced
            for module, rule in kept.items():
                module.rule = rule


COMPOSITES: dict[str, Composite] = {
    "zero": Composite(Zero()),
    "epsilon": Composite(Epsilon()),
    "zplus-zminus": Composite(ZPlusZMinus()),
    "alpha2-beta1": Composite(AlphaBeta()),
    "epsilon-zplus-zminus": Composite(Epsilon(), {kind: ZPlusZMinus() for kind in CONVOLUTIONS}),
    "epsilon-alpha2-beta1": Composite(Epsilon(), {kind: AlphaBeta() for kind in CONVOLUTIONS}),
}


def composite(name: str) -> Composite:
    """Return one of the paper's composites (LFP app. A.6.2); the mixed ones have epsilon on all but convolutions.

    Raises:
        UsageError: for an unknown name.
    """
    if name not in COMPOSITES:
        raise unknown_name("composite", name, COMPOSITES)
    return COMPOSITES[name]


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Return a copy of `model`, in evaluation mode, with its batch normalisation folded into the layers before.

    Raises:
        UsageError: if the model cannot be traced, or some batch normalisation follows no linear layer or convolution.
    """
    try:
        folded = symbolic_trace(deepcopy(model).eval())
    except Exception as error:  # the tracer raises whatever the model's code does with its stand-ins for tensors
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(f"the batch normalisation of {type(model).__name__} cannot be folded: {reason}") from None
    modules: dict[Any, nn.Module] = dict(folded.named_modules())
    for node in folded.graph.nodes:
        norm = modules.get(node.target) if node.op == "call_module" else None
        if not isinstance(norm, NORMS):
            continue
        (before,) = node.all_input_nodes
        layer = modules.get(before.target) if before.op == "call_module" and len(before.users) == 1 else None
        if isinstance(layer, CONVOLUTIONS):
            whole: nn.Module = fuse_conv_bn_eval(layer, norm, "Transpose" in type(layer).__name__)
        elif isinstance(layer, nn.Linear):
            whole = fuse_linear_bn_eval(layer, norm)
        else:
            raise UsageError(f"{node.target} does not follow a linear layer or convolution: it cannot be folded")
        for parameter in whole.parameters():
            parameter.requires_grad_()
        folded.set_submodule(before.target, whole)
        folded.set_submodule(node.target, nn.Identity())
    return folded


def _layers(model: nn.Module) -> dict[str, Any]:
    """Return the modules that own the weights of a layer, by the layer's path."""
    layers: dict[str, Any] = {}
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if isinstance(module, FeedforwardNet):  # has a way to learn of its own
            inside.update(module.modules())
        elif isinstance(module, SynapticLayer):
            layers[name or module.name] = module.synapse
            inside.update(module.children())
        elif isinstance(module, (nn.Linear, *CONVOLUTIONS)) and module not in inside:
            layers[name or type(module).__name__] = module
    return layers


# elementwise, one input each
ACTIVATIONS = (
    "relu relu6 leaky_relu elu selu celu gelu silu mish tanh sigmoid hardtanh hardswish hardsigmoid softplus softsign "
    "logsigmoid threshold _threshold clamp clip heaviside sign sgn"
)
MEANS = "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d mean sum"
# how torch names, in its tape, what only moves, repeats, picks or joins values: there feedback follows its path
PATHS = re.compile(
    r"(View|UnsafeView|ReshapeAlias|Squeeze|Unsqueeze|Transpose|Permute|T|Expand|Repeat|Cat|Stack|Split|SplitWithSizes"
    r"|Chunk|Slice|Select|Index|IndexSelect|Gather|Narrow|Unbind|Flip|Roll|Clone|Alias|ToCopy|ConstantPadNd"
    r"|ReflectionPad[123]D|ReplicationPad[123]D|PixelShuffle|PixelUnshuffle|UpsampleNearest[123]D|AsStrided"
    r"|MaxPool[23]DWithIndices|AdaptiveMaxPool[23]D|Maximum|Amax|Max)Backward\d+|torch::autograd::AccumulateGrad"
)


class _Forward:
    """The forward pass of a model, carried out so that feedback goes back by a composite's rules."""

    def __init__(
        self, composite: Composite, rules: dict[str, Rule], layers: dict[str, Any], forward: Callable[..., Any]
    ) -> None:
        self.composite, self.rules, self.forward = composite, rules, forward
        self.owners = {id(layer.weight): name for name, layer in layers.items()}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model."""
        with _LFPMode(self.composite, self.rules, self.owners) as run:
            outputs = self.forward(*args, **kwargs)
        _check_path(outputs, run.called)
        return outputs


class _LFPMode(TorchFunctionMode):
    """Carries out the operations of a model so that feedback goes back by its rules.

    Args:
        composite: its rule for sums, and whether to normalise.
        rules: by path.
        owners: the path of the layer that owns a weight, by the weight's `id`.

    Attributes:
        called: the layers that ran, by path.
    """

    def __init__(self, composite: Composite, rules: dict[str, Rule], owners: dict[int, str]) -> None:
        super().__init__()
        self.composite, self.rules, self.owners = composite, rules, owners
        self.called: set[str] = set()
        self.handlers: dict[str, Callable[..., Any]] = {
            "linear": self.linear,
            "batch_norm": self.batch_norm,
            "add": self.add,
            **{f"{kind}{n}d": self.convolution for kind in ("conv", "conv_transpose") for n in (1, 2, 3)},
            "conv2d": self.conv2d,
            **dict.fromkeys(["dropout", "dropout1d", "dropout2d", "dropout3d"], self.dropout),
            **dict.fromkeys(["mul", "div"], self.scale),
            **dict.fromkeys(ACTIVATIONS.split(), self.activation),
            **dict.fromkeys(MEANS.split(), self.mean),
        }

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Carry out `func`, with feedback in place of its gradient where LFP means something else."""
        kwargs = dict(kwargs or {})
        given = (each for each in (*args, *kwargs.values()) if isinstance(each, Tensor))
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
            # torch ends the names of operations that work in place with an underscore
            handler = self.handlers.get(func.__name__.removesuffix("_"))
            if handler is not None:
                if "input" in kwargs:
                    args = (kwargs.pop("input"), *args)
                return handler(func, *args, **kwargs)
        return func(*args, **kwargs)

    def linear(self, func: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Follow a rule through a dense layer, for inputs with any axes before their features."""
        return self.affine(x, weight, bias, Dense(weight.shape[1]), "linear")

    def conv2d(
        self,
        func: Callable[..., Tensor],
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        """Follow a rule through a convolution of images."""
        if isinstance(padding, str):
            return self.convolution(func, x, weight, bias, stride, padding, dilation, groups)
        self.check_batch(x, weight)
        synapse = Convolution(
            groups * weight.shape[1], _pair(weight.shape[2:]), _pair(stride), _pair(padding), _pair(dilation), groups
        )
        return self.affine(x, weight, bias, synapse, "convolution")

    def convolution(
        self,
        func: Callable[..., Tensor],
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *rest: Any,
        **more: Any,
    ) -> Tensor:
        """Follow a rule through a convolution of any kind."""
        self.check_batch(x, weight)
        return self.affine(x, weight, bias, LinearMap(lambda *given: func(*given, *rest, **more)), "convolution")

    @staticmethod
    def check_batch(x: Tensor, weight: Tensor) -> None:
        """Refuse a sample without a batch around it."""
        if x.dim() != weight.dim():
            raise UsageError(f"a convolution expects a batch of {weight.dim()} axes, found {list(x.shape)}")

    def affine(self, x: Tensor, weight: Tensor, bias: Tensor | None, synapse: Synapse, kind: str) -> Tensor:
        """Follow the rule of the layer that owns `weight`, if a layer of the model does."""
        name = self.owners.get(id(weight))
        if self.composite.normalize and x.requires_grad:
            x = NormalizeFeedbackFunction.apply(x)
        if name is not None:
            self.called.add(name)
        rule = self.composite.default if name is None else self.rules[name]
        out: Tensor = AffineFunction.apply(x, weight, bias, Spec(synapse, rule, name or kind))
        return out

    def activation(self, func: Callable[..., Tensor], x: Tensor, *rest: Any, **more: Any) -> Tensor:
        """Hand feedback on unchanged."""
        out: Tensor = ActivationFunction.apply(x, lambda z: func(z, *rest, **more))
        return out

    def scale(self, func: Callable[..., Tensor], x: Any, by: Any, **more: Any) -> Tensor:
        """Hand feedback on through a product with constants, which have nothing to learn."""
        learns = [isinstance(each, Tensor) and each.requires_grad for each in (x, by)]
        if func.__name__ == "mul" and learns == [False, True]:
            x, by, learns = by, x, [True, False]
        fits = not isinstance(by, Tensor) or torch.broadcast_shapes(x.shape, by.shape) == x.shape
        if learns != [True, False] or more or not fits:
            return func(x, by, **more)
        factor = torch.as_tensor(by, dtype=x.dtype, device=x.device)
        out: Tensor = ScaleFunction.apply(x, 1 / factor if "div" in func.__name__ else factor, _in_place(func))
        return out

    def mean(self, func: Callable[..., Tensor], x: Tensor, *rest: Any, **more: Any) -> Tensor:
        """Divide feedback by the rule for sums among what a mean or sum is of."""
        synapse = LinearMap(lambda z, weight, bias: func(z, *rest, **more) * weight)
        out: Tensor = AffineFunction.apply(
            x, x.new_ones(()), None, Spec(synapse, self.composite.default, func.__name__)
        )
        return out

    def add(self, func: Callable[..., Tensor], a: Any, other: Any, **more: Any) -> Tensor:
        """Divide feedback by the rule for sums between two tensors of one shape, or a tensor and constants."""
        if not isinstance(a, Tensor):
            a, other = other, a
        if not isinstance(other, Tensor):
            other = torch.full_like(a, other, requires_grad=False)
        elif not other.requires_grad and torch.broadcast_shapes(a.shape, other.shape) == a.shape:
            other = other.to(a.dtype).expand_as(a)
        if more or a.shape != other.shape:
            return func(a, other, **more)
        out: Tensor = AddFunction.apply(a, other, self.composite.default, _in_place(func))
        return out

    def dropout(
        self, func: Callable[..., Tensor], x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        """Hand feedback on to what is kept, which is drawn as torch draws it."""
        if not training or p == 0:
            return x
        scale = func(torch.ones(x.shape, dtype=x.dtype, device=x.device), p, True)
        out: Tensor = ScaleFunction.apply(x, scale, inplace)
        return out

    def batch_norm(self, func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Refuse."""
        raise UsageError(
            "LFP says nothing about batch normalisation: fold it into the layers before with fold_batch_norm(model), "
            "or take a model without"
        )


def _pair(size: Any) -> tuple[int, int]:
    """Return a size that may have been given once for height and width."""
    height, width = (size, size) if isinstance(size, int) else tuple(size) * (2 // len(size))
    return height, width


def _operation(node: str) -> str:
    """Return the name of an operation from that of its node on torch's tape."""
    return node.rpartition(":")[2].rstrip("0123456789").removesuffix("Backward")


def _in_place(func: Callable[..., Any]) -> bool:
    """Tell whether an operation writes to its first argument: torch ends the names of those with an underscore."""
    return func.__name__.endswith("_")


def _check_path(outputs: Any, called: set[str]) -> None:
    """Check that everything between outputs and layers hands feedback on, and that all layers that ran are reached."""
    tensors, _ = tree_flatten(outputs)
    stack = [each.grad_fn for each in tensors if isinstance(each, Tensor) and each.grad_fn is not None]
    if not stack:
        return  # run without a tape, for its outputs only
    seen: set[Any] = set(stack)
    reached: set[str] = set()
    while stack:
        node = stack.pop()
        _check_node(node)
        if isinstance(node, AffineFunction._backward_cls):
            made: Any = node
            reached.add(made.spec.name)
        for before, _ in node.next_functions:
            if before is not None and before not in seen:
                seen.add(before)
                stack.append(before)
    if called - reached:
        raise UsageError(
            f"no feedback would reach {', '.join(sorted(called - reached))}: what comes after ends it, such as a "
            "comparison or detach; use torch.heaviside for a step"
        )


def _check_node(node: Any) -> None:
    """Check that an operation on torch's tape hands feedback on, and parameters to layers only."""
    made: Any = node
    own = isinstance(node, BackwardCFunction)
    if own and type(node)._forward_cls.__module__ != AffineFunction.__module__:
        raise UsageError(f"the model runs {node.name().removesuffix('Backward')}, which LFP does not know")
    if not own and not PATHS.fullmatch(node.name()):
        raise UsageError(
            f"LFP says nothing about an operation of the model, in torch's words {_operation(node.name())}: replace it"
        )
    affine, spiking = (isinstance(node, kind._backward_cls) for kind in (AffineFunction, SpikingFunction))
    for place, (before, _) in enumerate(node.next_functions):
        leaf = getattr(before, "variable", None)
        # inputs come first; what follows belongs to the layer
        learns = (affine or spiking) and place > 0
        if affine and learns and before is not None and leaf is None:
            raise UsageError(
                f"layer {made.spec.name} computes its weight or bias from other parameters, which LFP does not update: "
                "remove the parametrization"
            )
        if isinstance(leaf, nn.Parameter) and not learns:
            raise UsageError(
                f"a parameter of shape {list(leaf.shape)} takes part outside of linear layers and convolutions, where "
                "LFP has no update for it: make it a buffer, or leave it out"
            )
