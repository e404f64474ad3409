"""Folds batch normalisation into the layers before it, in networks of this package and in all that can be traced."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from spiking_lfp.errors import UsageError
from spiking_lfp.lfp.synapses import CONVOLUTIONS
from spiking_lfp.nn.layers import SynapticLayer
from spiking_lfp.nn.norm import folded, normalisation_of

# normalisation of torch by the axes that it takes
NORMS: dict[int, type[nn.Module]] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Return a copy of `model`, in evaluation mode, with its batch normalisation folded into the layers before.

    It computes the same, up to rounding, for whatever it takes, or is refused. Networks of this package keep their
    class; a model with normalisation of its own is traced. There a layer may run at several places, if its
    normalisation follows at each.

    Raises:
        UsageError: with the name of what cannot be folded, and for a model that cannot be traced.

    Example:
        >>> model = fold_batch_norm(nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU()))
        >>> [type(module).__name__ for module in model.children()]
        ['Conv2d', 'Folded', 'ReLU']
    """
    copy = deepcopy(model).eval()
    for layer in list(copy.modules()):
        if isinstance(layer, SynapticLayer):
            layer.fold_norm_()
    if not any(isinstance(module, _BatchNorm) for module in copy.modules()):
        return copy
    if any((copy._forward_hooks, copy._forward_pre_hooks, copy._backward_hooks, copy._backward_pre_hooks)):
        raise UsageError(f"{type(model).__name__} has hooks, which its traced copy would not run: remove them")
    try:
        traced = fx.GraphModule(copy, _Tracer().trace(copy))
    except Exception as error:  # the tracer raises whatever the model's code raises for its proxies of tensors
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(f"the batch normalisation of {type(model).__name__} cannot be folded: {reason}") from None
    _Fold(traced).run()
    return traced


class Folded(nn.Module):
    """Stands where a normalisation was: the identity, for tensors whose channels it would have normalised.

    Args:
        name: of the normalisation.
        axes: of the outputs of the layer before, with their batch.
    """

    def __init__(self, name: str, axes: int) -> None:
        super().__init__()
        self.name, self.axes = name, axes

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`."""
        if x.dim() != self.axes:
            raise UsageError(
                f"{self.name} was folded into outputs of {self.axes} axes, found {list(x.shape)}, of which it would "
                "normalise another axis than that of the outputs"
            )
        return x


class _Tracer(fx.Tracer):
    """Looks into modules but those whose `forward` is torch's or ours."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        methods = (getattr(type(m), name, None) for name in ("forward", "_conv_forward"))
        homes = {method.__module__.split(".")[0] for method in methods if method is not None}
        container = isinstance(m, nn.Sequential)
        return not container and (homes <= {"torch", "spiking_lfp"} or super().is_leaf_module(m, module_qualified_name))


class _Fold:
    """Folds the normalisation of a traced model, in place."""

    def __init__(self, model: fx.GraphModule) -> None:
        self.model = model
        # where each module runs
        self.modules: dict[fx.Node, nn.Module] = {}
        self.places: dict[nn.Module, set[fx.Node]] = {}
        for node in model.graph.nodes:
            if node.op == "call_module":
                self.modules[node] = model.get_submodule(node.target)
                self.places.setdefault(self.modules[node], set()).add(node)

    def run(self) -> None:
        """Fold each."""
        for node in self.model.graph.nodes:
            if node.op == "call_function" and "batch_norm" in getattr(node.target, "__name__", ""):
                raise UsageError(f"{node} is batch normalisation by a function, not a module: it cannot be folded")
        for module, places in self.places.items():
            if isinstance(module, _BatchNorm):
                self.fold(module, places)

    def fold(self, norm: nn.Module, places: set[fx.Node]) -> None:
        """Fold a normalisation that runs at these places."""
        name = str(next(iter(places)).target)
        before = {node.all_input_nodes[0] for node in places}
        layers = {self.modules.get(node) for node in before}
        layer: Any = layers.pop()
        if layers or not isinstance(layer, (nn.Linear, *CONVOLUTIONS)):
            raise UsageError(f"{name} does not follow a linear layer or convolution: it cannot be folded")
        of_layer = str(next(iter(before)).target)
        if before != self.places[layer] or any(len(node.users) != 1 for node in before):
            raise UsageError(
                f"{of_layer} is also used where {name} does not follow it, so {name} cannot be folded: give each place "
                "layers of its own"
            )
        axes = 2 if isinstance(layer, nn.Linear) else layer.weight.dim()
        if isinstance(norm, tuple(NORMS.values())) and not isinstance(norm, NORMS[axes]):
            raise UsageError(f"{name} is a {type(norm).__name__}, which does not take what {of_layer} gives")
        for path, module in ((of_layer, layer), (name, norm)):
            self.check(path, module, name)
        try:
            normalisation_of(norm, layer)
        except UsageError as error:
            raise UsageError(f"{name} cannot be folded into {of_layer}: {error}") from None
        new = folded(layer, norm)
        for node in before:
            self.model.set_submodule(str(node.target), new)
        for node in places:
            self.model.set_submodule(str(node.target), Folded(name, axes))

    def check(self, path: str, module: nn.Module, name: str) -> None:
        """Refuse a module that does more than its class says, or whose parameters are used elsewhere."""
        if module._forward_hooks or module._forward_pre_hooks or is_parametrized(module):
            raise UsageError(f"{path} has hooks or a parametrization: {name} cannot be folded; remove them")
        mine = {id(each) for each in (*module.parameters(), *module.buffers())}
        if any(id(value) in mine for value in self.used_outside(module)):
            raise UsageError(f"parameters of {path} are used elsewhere too: {name} cannot be folded")

    def used_outside(self, module: nn.Module) -> Iterator[Any]:
        """Yield the parameters and buffers that other modules and the model's own code use."""
        for other in self.model.modules():
            if other is not module:
                yield from (*other.parameters(recurse=False), *other.buffers(recurse=False))
        for node in self.model.graph.nodes:
            if node.op == "get_attr":
                value: Any = self.model
                for part in str(node.target).split("."):
                    value = getattr(value, part)
                yield value
