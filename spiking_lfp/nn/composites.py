"""Composites: which rule each layer of a model follows, for networks of this package and for any other torch model.

Inside `Composite.applied(model)` the model computes the same outputs, but its backward pass carries LFP feedback in
place of gradients (LFP sec. 2.5, app. A.6.2). Operations are intercepted where torch executes them, so that functional
calls and additions of skip connections are covered, whatever module they are in.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten

from spiking_lfp.arguments import describe
from spiking_lfp.errors import UsageError, unknown_name
from spiking_lfp.kernels.product import full_precision
from spiking_lfp.lfp.functions import (
    ActivationFunction,
    AddFunction,
    AffineFunction,
    FoldFunction,
    NormalizeFeedbackFunction,
    ScaleFunction,
    Spec,
)
from spiking_lfp.lfp.reading import check_precision, masks_of
from spiking_lfp.lfp.synapses import CONVOLUTIONS, Convolution, Dense, LinearMap, Synapse, convolution, sides_of
from spiking_lfp.lfp.tape import hands_on, in_composite, is_layer, nodes_of, operation
from spiking_lfp.mono import FeedforwardNet
from spiking_lfp.nn.layers import SynapticLayer, failures_named
from spiking_lfp.nn.pooling import AvgPool
from spiking_lfp.rules import AlphaBeta, Epsilon, Rule, Zero, ZPlusZMinus


@dataclass(frozen=True)
class Composite:
    """A rule for each layer with weights: by its name if there is one, else by its position, else by its type.

    Attributes:
        default: for layers that match nothing else, and for torch's sums and means, which have no weights
            (`spiking_lfp.add` has a rule of its own).
        types: by the module's class, such as `nn.Linear` or `nn.Conv2d`; the first match counts.
        positions: by the index among the layers with weights in the order of `named_modules`, -1 for the last.
        names: by path in the model, with `*` as a wildcard; the first match counts.
        normalize: divide feedback by its largest magnitude after each layer (LFP app. A.6.3); networks of this package
            use `NormalizeFeedback` for this.

    Raises:
        UsageError: for what is no rule, and `types` that are no classes.

    Example:
        >>> rules = Composite(Epsilon(), types={nn.Conv2d: ZPlusZMinus()}, positions={0: Flat()})
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))  # any torch model
        >>> with rules.applied(model):
        ...     logits = model(torch.rand(2, 4))
        >>> propagate(logits, logit_reward(logits, [0, 2]))
    """

    default: Rule = field(default_factory=Epsilon)
    types: Mapping[type[nn.Module], Rule] = field(default_factory=dict)
    positions: Mapping[int, Rule] = field(default_factory=dict)
    names: Mapping[str, Rule] = field(default_factory=dict)
    normalize: bool = False

    def __post_init__(self) -> None:
        rules: list[object] = [self.default]
        for what in ("types", "positions", "names"):
            given: object = getattr(self, what)
            if not isinstance(given, Mapping):
                raise UsageError(f"{what} must be a dict with a rule for each, found {describe(given)}")
            rules += given.values()
        other = next((rule for rule in rules if not isinstance(rule, Rule)), self.default)
        if not isinstance(other, Rule):
            raise UsageError(f"a rule of the composite is {describe(other)}, expected one such as Epsilon()")
        for kind in self.types:
            if not isinstance(kind, type):
                raise UsageError(f"types must be classes of modules, such as nn.Linear, found {describe(kind)}")

    def rules(self, model: nn.Module) -> dict[str, Rule]:
        """Return the rule of each layer with weights by its path in `model`.

        Raises:
            UsageError: if the model has no layer at a position or of a name.
        """
        layers = _layers(model)
        names = list(layers)
        for position in self.positions:
            if not -len(names) <= position < len(names):
                raise UsageError(f"there is no layer at position {position}: the model has {len(names)} with weights")
        by_position = {names[position]: rule for position, rule in self.positions.items()}
        for pattern in self.names:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UsageError(f"no layer is called {pattern!r}: the model has {', '.join(names) or 'none'}")

        def rule_of(name: str, module: nn.Module) -> Rule:
            by_name = (rule for pattern, rule in self.names.items() if fnmatchcase(name, pattern))
            by_type = (rule for kind, rule in self.types.items() if isinstance(module, kind))
            return next(by_name, None) or by_position.get(name) or next(by_type, self.default)

        return {name: rule_of(name, module) for name, module in layers.items()}

    def assign(self, network: nn.Module) -> None:
        """Set the rules of the layers of this package in `network` permanently."""
        rules = self.rules(network)
        for name, module in network.named_modules():
            if isinstance(module, SynapticLayer):
                module.rule = rules[name or module.name]
            elif isinstance(module, AvgPool):
                module.rule = self.default

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Propagate feedback through `model` by these rules inside the context; the model is unchanged afterwards.

            with composite.applied(model):
                logits = model(x)
            propagate(logits, logit_reward(logits, labels))

        Linear layers, convolutions, mean pooling, means and sums of tensors follow a rule; activation functions pass
        feedback on unchanged; in max pooling, dropout, reshaping and joining it follows the forward path.

        Raises:
            UsageError: when the model runs, for an operation that LFP does not define, and for batch normalisation,
                which `fold_batch_norm` removes.
        """
        rules = self.rules(model)
        layers = _layers(model)
        if isinstance(model.forward, _Forward):
            raise UsageError("a composite is applied to this model already: leave that context first")
        rules_before = {
            module: module.rule for module in model.modules() if isinstance(module, SynapticLayer | AvgPool)
        }
        own_forward = vars(model).get("forward")
        model.forward = _Forward(self, rules, layers, model)
        try:
            self.assign(model)
            yield
        finally:
            if own_forward is None:
                del model.forward
            else:
                model.forward = own_forward
            for module, rule in rules_before.items():
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
    """Return one of the paper's composites (LFP app. A.6.2); the mixed ones use epsilon except on convolutions.

    Raises:
        UsageError: for an unknown name.

    Args:
        name: one of `COMPOSITES`, such as "epsilon" and "epsilon-zplus-zminus".

    Example:
        >>> rules = composite("epsilon-zplus-zminus").rules(lenet(channels=(4, 8)))
        >>> {name: type(rule).__name__ for name, rule in rules.items()}
        {'0': 'ZPlusZMinus', '2': 'ZPlusZMinus', '5': 'Epsilon', '6': 'Epsilon'}
    """
    if name not in COMPOSITES:
        raise unknown_name("composite", name, COMPOSITES)
    return COMPOSITES[name]


def _layers(model: nn.Module) -> dict[str, Any]:
    """Return the modules that hold the weights of each layer, by the layer's path."""
    layers: dict[str, Any] = {}
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if isinstance(module, FeedforwardNet):  # learns by feedback alignment, not by LFP
            inside.update(module.modules())
        elif isinstance(module, SynapticLayer):
            layers[name or module.name] = module.synapse
            inside.update(module.children())
        elif isinstance(module, (nn.Linear, *CONVOLUTIONS)) and module not in inside:
            layers[name or type(module).__name__] = module
    return layers


# elementwise functions of one input
ACTIVATIONS = (
    "relu relu6 leaky_relu elu selu celu gelu silu mish tanh sigmoid hardtanh hardswish hardsigmoid softplus softsign "
    "logsigmoid threshold _threshold clamp clip heaviside sign sgn"
)
MEANS = "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d mean sum"


class _Forward:
    """The forward pass of a model, run so that its backward pass follows a composite's rules."""

    def __init__(self, composite: Composite, rules: dict[str, Rule], layers: dict[str, Any], model: nn.Module) -> None:
        self.composite, self.rules, self.model, self.forward = composite, rules, model, model.forward
        self.owners = {
            id(layer._parameters["weight"]): n for n, layer in layers.items() if "weight" in layer._parameters
        }
        # pruned ones are masked anew in every pass
        self.pruned: set[int] = set()
        for name, layer in layers.items():
            for mask in masks_of(layer):
                original = id(layer._parameters[f"{mask._tensor_name}_orig"])
                self.pruned.add(original)
                if mask._tensor_name == "weight":
                    self.owners[original] = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model."""
        token = in_composite.set(True)
        try:
            with failures_named(self.model), _LFPMode(self.composite, self.rules, self.owners) as run:
                outputs = self.forward(*args, **kwargs)
        finally:
            in_composite.reset(token)
        _check_path(outputs, run.called, self.pruned)
        return outputs


class _LFPMode(TorchFunctionMode):
    """Runs the operations of a model so that their backward pass follows the rules.

    Args:
        composite: gives the rule for sums, and whether to normalise.
        rules: rule of each layer, by path.
        owners: path of the layer that holds a weight, by the weight's `id`.

    Attributes:
        called: the paths of the layers that ran.
    """

    def __init__(self, composite: Composite, rules: dict[str, Rule], owners: dict[int, str]) -> None:
        super().__init__()
        self.composite, self.rules, self.owners = composite, rules, owners
        self.called: set[str] = set()
        self.handlers: dict[str, Callable[..., Any]] = {
            "linear": self.linear,
            "batch_norm": self.batch_norm,
            "add": self.add,
            **{f"conv{n}d": self.convolution for n in (1, 2, 3)},
            **{f"conv_transpose{n}d": self.transposed_convolution for n in (1, 2, 3)},
            **dict.fromkeys(["dropout", "dropout1d", "dropout2d", "dropout3d"], self.dropout),
            **dict.fromkeys(["mul", "div"], self.scale),
            **dict.fromkeys(ACTIVATIONS.split(), self.activation),
            **dict.fromkeys(MEANS.split(), self.mean),
        }

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, with LFP feedback in place of its gradient where they differ."""
        kwargs = dict(kwargs or {})
        tensors = (each for each in (*args, *kwargs.values()) if isinstance(each, Tensor))
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            # the names of torch's in-place operations end with an underscore
            handler = self.handlers.get(func.__name__.removesuffix("_"))
            if handler is not None:
                if "input" in kwargs:
                    args = (kwargs.pop("input"), *args)
                return handler(func, *args, **kwargs)
        return func(*args, **kwargs)

    def linear(self, func: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Apply a rule to a dense layer, for inputs with any axes before their features."""
        return self.affine(x, weight, bias, Dense(weight.shape[1]), "linear")

    def convolution(
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
        """Apply a rule to a convolution."""
        self.check_batch(x, weight)
        kernel, channels = tuple(weight.shape[2:]), groups * weight.shape[1]
        stride, dilation = sides_of(stride, kernel), sides_of(dilation, kernel)
        padding = padding if isinstance(padding, str) else sides_of(padding, kernel)
        synapse = convolution(channels, kernel, stride, padding, dilation, groups)
        return self.affine(x, weight, bias, synapse, "convolution")

    def transposed_convolution(
        self,
        func: Callable[..., Tensor],
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Tensor:
        """Apply a rule to a transposed convolution."""
        self.check_batch(x, weight)
        kernel = tuple(weight.shape[2:])
        stride, padding, added, dilation = (
            sides_of(each, kernel) for each in (stride, padding, output_padding, dilation)
        )
        synapse = Convolution(len(weight), kernel, stride, padding, dilation, groups, True, added)
        return self.affine(x, weight, bias, synapse, "convolution")

    @staticmethod
    def check_batch(x: Tensor, weight: Tensor) -> None:
        """Refuse a sample without a batch axis."""
        if x.dim() != weight.dim():
            raise UsageError(f"a convolution expects a batch of {weight.dim()} axes, found {list(x.shape)}")

    def affine(self, x: Tensor, weight: Tensor, bias: Tensor | None, synapse: Synapse, kind: str) -> Tensor:
        """Apply the rule of the layer that holds `weight`, or the default if no layer of the model does."""
        name = self.owners.get(id(_masked_parameter(weight.grad_fn) if weight.grad_fn is not None else weight))
        if self.composite.normalize and x.requires_grad:
            x = NormalizeFeedbackFunction.apply(x)
        if name is not None:
            self.called.add(name)
        rule = self.composite.default if name is None else self.rules[name]
        check_precision(name or kind, (x, weight))
        with full_precision(x):
            out: Tensor = AffineFunction.apply(x, weight, bias, Spec(synapse, rule, name or kind))
        return out

    def activation(self, func: Callable[..., Tensor], x: Tensor, *rest: Any, **more: Any) -> Tensor:
        """Pass feedback on unchanged."""
        out: Tensor = ActivationFunction.apply(x, lambda z: func(z, *rest, **more))
        return out

    def scale(self, func: Callable[..., Tensor], x: Any, by: Any, **more: Any) -> Tensor:
        """Pass feedback on through a product with constants, which do not learn."""
        requires_grad = [isinstance(each, Tensor) and each.requires_grad for each in (x, by)]
        if func.__name__ == "mul" and requires_grad == [False, True]:
            x, by, requires_grad = by, x, [True, False]
        fits = not isinstance(by, Tensor) or torch.broadcast_shapes(x.shape, by.shape) == x.shape
        if requires_grad != [True, False] or more or not fits:
            return func(x, by, **more)
        factor = torch.as_tensor(by, dtype=x.dtype, device=x.device)
        out: Tensor = ScaleFunction.apply(x, 1 / factor if "div" in func.__name__ else factor, _in_place(func))
        return out

    def mean(self, func: Callable[..., Tensor], x: Tensor, *rest: Any, **more: Any) -> Tensor:
        """Divide feedback among the terms of a mean or sum by the default rule."""
        synapse = LinearMap(lambda z, weight, bias: func(z, *rest, **more) * weight)
        out: Tensor = AffineFunction.apply(
            x, x.new_ones(()), None, Spec(synapse, self.composite.default, func.__name__)
        )
        return out

    def add(self, func: Callable[..., Tensor], a: Any, other: Any, **more: Any) -> Tensor:
        """Divide feedback between two tensors of the same shape, or a tensor and constants, by the default rule."""
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
        """Pass feedback on to the elements that are kept, which torch selects as always."""
        if not training or p == 0:
            return x
        scale = func(torch.ones(x.shape, dtype=x.dtype, device=x.device), p, True)
        out: Tensor = ScaleFunction.apply(x, scale, inplace)
        return out

    def batch_norm(self, func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Refuse batch normalisation."""
        raise UsageError(
            "LFP does not define batch normalisation: fold it into the layers before with fold_batch_norm(model), "
            "or use a model without it"
        )


def _in_place(func: Callable[..., Any]) -> bool:
    """Whether an operation works in place: the names of torch's in-place operations end with an underscore."""
    return func.__name__.endswith("_")


def _check_path(outputs: Any, called: set[str], pruned: set[int]) -> None:
    """Check that feedback passes all operations from the outputs to the layers, and reaches all layers that ran.

    Parameters that are `pruned`, by their `id`, take part by way of a product with their mask.
    """
    tensors, _ = tree_flatten(outputs)
    nodes: list[Any] = list(nodes_of(each for each in tensors if isinstance(each, Tensor)))
    if not nodes:
        return  # run without autograd, for its outputs only
    reached: set[str] = set()
    masks = {
        before
        for node in nodes
        if is_layer(node) or _is_fold(node)
        for before, _ in node.next_functions[0 if _is_fold(node) else 1 :]
        if before is not None and id(_masked_parameter(before)) in pruned
    }
    for node in nodes:
        if node in masks:
            continue
        _check_node(node, masks)
        if _is_affine(node):
            reached.add(node.spec.name)
    if called - reached:
        raise UsageError(
            f"no feedback would reach {', '.join(sorted(called - reached))}: an operation after it stops feedback, "
            "such as a comparison or detach; use torch.heaviside for a step function"
        )


def _masked_parameter(node: Any) -> Any:
    """Return the parameter of which an operation makes a pruned one: `mask * parameter`."""
    scales = isinstance(node, ScaleFunction._backward_cls)
    function: Any = node
    return getattr(function.next_functions[0][0], "variable", None) if scales else None


def _is_affine(node: Any) -> bool:
    return isinstance(node, AffineFunction._backward_cls)


def _is_fold(node: Any) -> bool:
    return isinstance(node, FoldFunction._backward_cls)


def _check_node(node: Any, masks: set[Any]) -> None:
    """Check that an operation in autograd's graph passes feedback on, and that only layers use parameters."""
    if not hands_on(node):
        if isinstance(node, BackwardCFunction):
            raise UsageError(
                f"the model runs {operation(node)}, an autograd function for which LFP has no rule: replace it, or set "
                "carries_feedback = True in its class if its backward hands on feedback"
            )
        raise UsageError(f"LFP does not define the operation {operation(node)} (torch's name) of the model: replace it")
    for index, (before, _) in enumerate(node.next_functions):
        leaf = getattr(before, "variable", None)
        # the input comes first; the rest belongs to the layer
        of_layer = _is_fold(node) or (is_layer(node) and index > 0)
        computed = before not in {None, *masks} and leaf is None and not _is_fold(before)
        if _is_affine(node) and of_layer and computed:
            raise UsageError(
                f"layer {node.spec.name} computes its weight or bias from other parameters, which LFP does not "
                "update: remove the parametrization"
            )
        if isinstance(leaf, nn.Parameter) and not of_layer:
            raise UsageError(
                f"a parameter of shape {list(leaf.shape)} is used outside of linear layers and convolutions, where LFP "
                "has no update for it: make it a buffer, or remove it"
            )
