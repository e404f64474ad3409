"""Chains of layers and what is behind them: what converters from and to other packages have in common."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spiking_lfp.errors import ExportError, UsageError
from spiking_lfp.lfp.execution import Real
from spiking_lfp.lfp.reading import plain_synapse, read_synapse
from spiking_lfp.lfp.synapses import CONVOLUTIONS, TRANSPOSED, Convolution, Dense
from spiking_lfp.neurons import Neuron, Reset
from spiking_lfp.nn.layers import Dropout, Flatten, NormalizeFeedback, SynapticLayer, name_layers
from spiking_lfp.nn.norm import normalisation_of
from spiking_lfp.nn.pooling import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    Pool,
    SumPool2d,
    SumPool3d,
)
from spiking_lfp.nn.spiking import LAYERS, SpikingLayer

NamedModule = tuple[str, nn.Module]
# pooling layers of torch, which take one step, and ours
MAX_POOLS: dict[type, type[nn.Module]] = {nn.MaxPool1d: MaxPool1d, nn.MaxPool2d: MaxPool2d, nn.MaxPool3d: MaxPool3d}
AVG_POOLS: dict[type, type[nn.Module]] = {nn.AvgPool1d: AvgPool1d, nn.AvgPool2d: AvgPool2d, nn.AvgPool3d: AvgPool3d}
SUM_POOLS: dict[type, type[nn.Module]] = {nn.AvgPool2d: SumPool2d, nn.AvgPool3d: SumPool3d}  # with a divisor of 1
PLAIN = (*MAX_POOLS.values(), *AVG_POOLS.values(), *SUM_POOLS.values(), Flatten, Dropout)


def import_package(name: str) -> Any:
    """Import the optional package or module called `name`.

    Raises:
        ExportError: if it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ExportError(f"{package} cannot be imported ({error}): pip install {package}") from None


def chain(network: nn.Module) -> list[NamedModule]:
    """Return the modules of an `nn.Sequential`, those of nested ones too, in the order in which they run.

    Raises:
        ExportError: if it is not a chain, or a module has hooks.
    """
    listed = list(_walk(network, ""))
    if not listed:
        raise ExportError("the network is empty, expected an nn.Sequential of layers")
    check_chain(listed)
    return listed


def our_layers(network: nn.Module, where: Literal["snntorch", "norse", "nir"]) -> list[NamedModule]:
    """Return the layers of a network of this package, in the order in which they run, if all have counterparts.

    Args:
        network: a chain.
        where: the other package or format, a field of `Counterparts`.

    Raises:
        ExportError: with the name of a layer that has no counterpart.
    """
    found = []
    known = [layer.__name__ for kind, layer in LAYERS.items() if getattr(kind.counterparts, where)]
    listed = chain(network)
    if where != "nir":
        _check_parameters(listed)
    for name, layer in listed:
        if isinstance(layer, SpikingLayer) and not isinstance(layer.execution, Real):
            raise ExportError(
                f"layer {name}: computes in integers, which floating-point neurons cannot reproduce; "
                "export the integer network instead"
            )
        if type(layer) is Dropout:
            _check_dropout(name, layer)
        if type(layer) in (NormalizeFeedback, nn.Identity) or (type(layer) is Dropout and where == "nir"):
            continue  # the identity in the forward pass
        spiking = isinstance(layer, SpikingLayer) and getattr(layer.counterparts, where)
        if isinstance(layer, SpikingLayer) and layer.norm is not None:
            layer = deepcopy(layer)
            layer.synapse = synapse_copy(name, layer)
            layer.fold_norm_()
        plain = (MaxPool2d, AvgPool2d, Flatten) if where == "nir" else PLAIN
        if not spiking and type(layer) not in plain:
            raise ExportError(
                f"layer {name}: {type(layer).__name__} has no counterpart that runs the same in {where}; expected "
                f"{', '.join([*known, *(each.__name__ for each in plain)])}"
            )
        if where == "nir":
            _check_nir_layer(name, layer)
        found.append((name, layer))
    if not any(isinstance(layer, SpikingLayer) for _, layer in found):
        raise ExportError("the network has no spiking layer, so it has no spikes")
    return found


def _check_nir_layer(name: str, layer: nn.Module) -> None:
    """Refuse what NIR has no node for."""
    if isinstance(layer, SpikingLayer):
        found = read_synapse(synapse_copy(name, layer))[0]
        if not isinstance(found, Dense) and not (
            isinstance(layer.synapse, nn.Conv1d | nn.Conv2d) and isinstance(found, Convolution)
        ):
            raise ExportError(
                f"layer {name}: {layer.synapse} is not written to NIR, expected nn.Linear, nn.Conv1d, or nn.Conv2d "
                "padded evenly with zeros"
            )
    if isinstance(layer, Pool):
        square = all(isinstance(side, int) for side in (layer.kernel_size, layer.stride, layer.padding))
        if not square or (isinstance(layer, MaxPool2d) and layer.padding):
            raise ExportError(
                f"layer {name}: {layer} is not written to NIR, expected a square window, and no padding of a maximum"
            )


def our_layer(name: str, kind: type[Neuron], synapse: nn.Module, reset: Reset, **given: Any) -> SpikingLayer:
    """Return the layer of this package with such neurons, given their constants and recurrent weights.

    Raises:
        ExportError: with the layer's name, if constants are out of range.
    """
    try:
        return LAYERS[kind](synapse, **(given | {"reset": reset} if kind.spiking else given))
    except UsageError as error:
        raise ExportError(f"layer {name}: {error}") from None


def synapse_copy(name: str, layer: SynapticLayer, which: str = "synapse") -> nn.Module:
    """Return a copy of a layer's synapse, or of its `recurrent` one, pruned for good where it is masked.

    Raises:
        ExportError: with the layer's name, for a synapse or constants with which the layer would not run.
    """
    try:
        if isinstance(layer, SpikingLayer):
            layer.neuron(torch.float64)
        return plain_synapse(layer.get_submodule(which), name)
    except UsageError as error:
        raise ExportError(str(error)) from None


def scale_synapse(name: str, synapse: nn.Module, gain: Tensor) -> None:
    """Multiply weight and bias by a gain for each output.

    Args:
        name: of the layer, for errors.
        synapse: changed in place.
        gain: float64, one number, or one for each output, broadcastable to one sample's neurons.

    Raises:
        ExportError: if neurons of one channel have different gains.
    """
    weight, bias = weight_of(name, synapse), synapse.bias
    column = gain.reshape(-1)
    # what broadcasts to [O, ...] with one number per channel; dense layers have [O]
    per_output = gain.dim() <= 1 if weight.dim() == 2 else gain.dim() == weight.dim() - 1 and len(gain) == len(column)
    rows_are_outputs = len(column) == len(weight) and not isinstance(synapse, TRANSPOSED)
    if len(column) > 1 and not (per_output and rows_are_outputs):
        raise ExportError(
            f"layer {name}: betas of shape {list(gain.shape)} give neurons of one output channel different input "
            "gains, which shared weights cannot include; use one beta, or one per channel"
        )
    with torch.no_grad():
        weight.copy_(weight.double() * column.view(-1, *[1] * (weight.dim() - 1)))
        if isinstance(bias, Tensor):
            bias.copy_(bias.double() * column)


def join(
    listed: Sequence[NamedModule],
    is_neuron: Callable[[str, nn.Module], bool],
    neuron: Callable[[str, Any, nn.Module, _BatchNorm | None], SpikingLayer],
    expected: str,
) -> nn.Sequential:
    """Join each synapse of a chain of another package with the neurons after it."""
    _check_parameters(listed)
    layers: list[nn.Module] = []
    pending: tuple[str, nn.Module] | None = None
    norm: _BatchNorm | None = None
    for name, found in listed:
        if is_neuron(name, found):
            if pending is None:
                raise ExportError(
                    f"layer {name}: {type(found).__name__} has no nn.Linear and no convolution directly before it; "
                    "our neurons belong to a synapse"
                )
            layers.append(neuron(name, found, deepcopy(pending[1]), deepcopy(norm)))
            pending = norm = None
            continue
        if pending is not None and norm is None and isinstance(found, _BatchNorm):
            norm = _checked_norm(name, found, pending[1])
            continue
        if pending is not None:
            raise ExportError(
                f"layer {pending[0]}: {type(pending[1]).__name__} is followed by {type(found).__name__}, expected "
                f"{expected} directly after it"
            )
        if type(found) in (nn.Linear, *CONVOLUTIONS):
            pending = name, found
        elif type(found) is not nn.Identity:
            layers.append(_our_plain(name, found))
    if pending is not None:
        raise ExportError(
            f"layer {pending[0]}: {type(pending[1]).__name__} has no neurons after it, expected {expected}"
        )
    if not any(isinstance(layer, SpikingLayer) for layer in layers):
        raise ExportError(f"the network has no neurons, expected {expected}")
    network = nn.Sequential(*layers)
    name_layers(network)
    return network


def _checked_norm(name: str, norm: nn.Module, synapse: nn.Module) -> _BatchNorm:
    try:
        return normalisation_of(norm, synapse)
    except UsageError as error:
        raise ExportError(f"layer {name}: {error}") from None


def _walk(module: nn.Module, name: str) -> Iterator[NamedModule]:
    check_unchanged(name, module)
    if type(module).forward is nn.Sequential.forward:
        for child, found in children(module):
            yield from _walk(found, f"{name}.{child}" if name else child)
    elif not name:
        raise ExportError(
            f"the network is a {type(module).__name__}, whose order of layers is in its code only; expected an "
            "nn.Sequential"
        )
    else:
        yield name, module


def children(module: nn.Module) -> Iterator[NamedModule]:
    """Yield the modules of a container, also those that it holds twice."""
    yield from ((name, found) for name, found in module._modules.items() if found is not None)


def check_unchanged(name: str, module: nn.Module) -> None:
    """Refuse a module, a container too, that does more or less than the code of its class."""
    where = f"layer {name}" if name else "the network"
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    if any(getattr(module, kind) for kind in kinds):
        raise ExportError(f"{where}: has hooks, which what it is converted to would not run; remove them")
    replaced = [each for each in vars(module) if callable(getattr(type(module), each, None))]
    if type(module).__call__ is not nn.Module.__call__:
        replaced.append("__call__")
    if replaced:
        raise ExportError(f"{where}: has a {replaced[0]} of its own, which cannot be converted; remove it")


def _check_parameters(listed: Sequence[NamedModule]) -> None:
    """Refuse parameters that layers share."""
    seen: dict[int, str] = {}
    for name, module in listed:
        for what, parameter in module.named_parameters():
            before = seen.setdefault(id(parameter), name)
            if before != name:
                raise ExportError(
                    f"layer {name}: shares its {what} with layer {before}; converted, each would learn its own: give "
                    "it a parameter of its own"
                )


def check_chain(listed: Sequence[NamedModule]) -> None:
    """Refuse a chain that holds a module twice.

    Raises:
        ExportError: with the names of both places.
    """
    seen: dict[int, str] = {}
    for name, module in listed:
        if id(module) in seen:
            raise ExportError(
                f"layer {name}: is the same module as layer {seen[id(module)]}; a module can be in a chain once"
            )
        seen[id(module)] = name


def constant_of(name: str, what: str, value: Any, synapse: nn.Module) -> Tensor:
    """Return a constant of another package, detached, in its own dtype, if our layer can have it."""
    weight = weight_of(name, synapse)
    tensor = torch.as_tensor(value)
    if tensor.requires_grad:
        raise ExportError(
            f"layer {name}: {what} is learned, ours is a constant; fix it with requires_grad_(False) if it is final"
        )
    if tensor.dim() > weight.dim() - 1:
        raise ExportError(f"layer {name}: {what} has shape {list(tensor.shape)}, which is not that of one sample")
    if tensor.dim() > 0 and tensor.dtype != weight.dtype:
        raise ExportError(
            f"layer {name}: {what} is {tensor.dtype} but weights are {weight.dtype}, so membranes would be neither; "
            "convert the network to one dtype with .to()"
        )
    return tensor.detach().clone()


def weight_of(name: str, synapse: nn.Module) -> Tensor:
    """Return the weight of a synapse.

    Raises:
        ExportError: with the layer's name, if it is neither float32 nor float64.
    """
    weight = synapse.weight
    assert isinstance(weight, Tensor)
    if weight.dtype not in (torch.float32, torch.float64):
        raise ExportError(f"layer {name}: weights are {weight.dtype}, expected torch.float32 or torch.float64")
    return weight


def _our_plain(name: str, found: nn.Module) -> nn.Module:
    """Return our layer for one without parameters of another package."""
    if type(found) is nn.Flatten:
        if (found.start_dim, found.end_dim) != (1, -1):
            raise ExportError(
                f"layer {name}: flattens axes {found.start_dim} to {found.end_dim} of a step [B, ...], expected 1 to -1"
            )
        return Flatten()
    if type(found) is nn.Dropout:
        _check_dropout(name, found)
        if found.p == 1:
            raise ExportError(f"layer {name}: {found} drops everything in training, expected p below 1")
        return Dropout(found.p).eval()
    if type(found) in MAX_POOLS:
        window: Any = found
        if set(_tuple(window.dilation)) != {1} or window.ceil_mode or window.return_indices:
            raise ExportError(f"layer {name}: {found} has dilation, ceil_mode or indices, ours has none")
        return MAX_POOLS[type(found)](window.kernel_size, window.stride, window.padding)
    if type(found) in AVG_POOLS:
        window = found
        divisor, sums = getattr(window, "divisor_override", None), type(found) in SUM_POOLS
        if window.ceil_mode or not window.count_include_pad or divisor not in ((None, 1) if sums else (None,)):
            raise ExportError(f"layer {name}: {found} divides by something else than the window's size, or rounds up")
        kind = AVG_POOLS[type(found)] if divisor is None else SUM_POOLS[type(found)]
        return kind(window.kernel_size, window.stride, window.padding)
    raise ExportError(
        f"layer {name}: {type(found).__name__} is not converted, expected nn.Linear, convolutions, nn.MaxPool2d, "
        "nn.AvgPool2d, nn.Flatten, nn.Dropout and neurons"
    )


def _check_dropout(name: str, dropout: nn.Module) -> None:
    if dropout.training:
        raise ExportError(
            f"layer {name}: {dropout} is in training mode, in which no two passes are the same; call eval() on the "
            "network first"
        )


def their_plain(layer: nn.Module) -> nn.Module:
    """Return the layer of torch, for one step, for one of ours without parameters."""
    if isinstance(layer, Dropout):
        return nn.Dropout(layer.p).eval()
    for pools, divisor in ((MAX_POOLS, {}), (AVG_POOLS, {}), (SUM_POOLS, {"divisor_override": 1})):
        for theirs, ours in pools.items():
            if type(layer) is ours:
                pool: nn.Module = theirs(layer.kernel_size, layer.stride, layer.padding, **divisor)
                return pool
    return nn.Flatten()


def _tuple(sides: Any) -> tuple[int, ...]:
    return sides if isinstance(sides, tuple) else (sides,)
