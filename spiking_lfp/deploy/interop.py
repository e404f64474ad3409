"""Converts networks from and to other packages where every spike stays the same, and refuses all others.

Converted are chains, `nn.Sequential` or norse's `SequentialState`, of `nn.Linear` or convolutions of torch with
neurons directly after each, pooling, dropout and flattening. Parameters are copied, not shared. All states start at 0
on both sides. Weights are float32 or float64.

`nn.Dropout` becomes ours, which drops the same inputs in every step, and goes back; both must be in `eval()`.

A batch normalisation between synapse and neurons becomes the `norm` of our layer, from snnTorch, where it learns on, or
is folded, from norse and to both. Spikes are then those of the other side in `eval()`, up to rounding.

snnTorch's neurons that are `Counterparts` of ours, `Leaky` of `LIF`, compute the same as ours, to the bit:

    reset_mechanism   reset_delay   ours
    "subtract"        True          "subtract"
    "zero"            True, False   "zero"       cleared at the end of a step or the start of the next
    "none"            True, False   "none"
    "subtract"        False         refused      before the leak: subtracts beta * threshold

With reset "zero" neurons of several states may clear more than the membrane at the start of a step, also the current
that arrives; then `Counterparts.zero_delays` does not have True, and it is refused.

norse's `LIFBoxCell` has another equation, `v += a (v_leak + I - v)` with a = dt * tau_mem_inv, and resets to `v_reset`
in the same step. With v_reset = v_leak that is our "zero" with beta = 1 - a, threshold v_th - v_leak and weights times
a; `IAFCell` is our "zero" with beta = 1. The spikes are the same up to rounding, since the two equations round
differently. Its `reset_subtract` subtracts (1 - a) * threshold and is refused.
"""

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
from spiking_lfp.neurons import LIFNeuron, Neuron, Reset
from spiking_lfp.nn.layers import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    Dropout,
    Flatten,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    NormalizeFeedback,
    Pool,
    SumPool2d,
    SumPool3d,
    SynapticLayer,
    name_layers,
)
from spiking_lfp.nn.norm import folded, normalisation_of
from spiking_lfp.nn.spiking import LAYERS, LIF, SpikingLayer

NamedModule = tuple[str, nn.Module]
# pooling layers of torch, which take one step, and ours
MAX_POOLS: dict[type, type[nn.Module]] = {nn.MaxPool1d: MaxPool1d, nn.MaxPool2d: MaxPool2d, nn.MaxPool3d: MaxPool3d}
AVG_POOLS: dict[type, type[nn.Module]] = {nn.AvgPool1d: AvgPool1d, nn.AvgPool2d: AvgPool2d, nn.AvgPool3d: AvgPool3d}
SUM_POOLS: dict[type, type[nn.Module]] = {nn.AvgPool2d: SumPool2d, nn.AvgPool3d: SumPool3d}  # with a divisor of 1
PLAIN = (*MAX_POOLS.values(), *AVG_POOLS.values(), *SUM_POOLS.values(), Flatten, Dropout)


def from_snntorch(module: nn.Module) -> nn.Sequential:
    """Convert an snnTorch network, with the same spikes, to the bit.

    Args:
        module: an `nn.Sequential` that takes one step `[B, ...]` at a time, with `snn.Leaky(init_hidden=True)` or
            other neurons that are counterparts of ours.

    Returns:
        A network from `[T, B, ...]` to the last layer's spikes `[T, B, *n]`.

    Raises:
        ExportError: with the layer's name and what differs in snnTorch, or if snnTorch is missing.

    Example:
        >>> import snntorch
        >>> theirs = nn.Sequential(nn.Linear(4, 3), snntorch.Leaky(0.9, init_hidden=True))
        >>> from_snntorch(theirs)(torch.rand(10, 2, 4)).shape
        torch.Size([10, 2, 3])
    """
    snn = import_package("snntorch")
    listed = chain(module)
    kinds = {getattr(snn, kind.counterparts.snntorch): kind for kind in LAYERS if kind.counterparts.snntorch}
    known = " or ".join(f"snn.{each.__name__}" for each in kinds)

    def neuron(name: str, found: Any, synapse: nn.Module, norm: _BatchNorm | None) -> SpikingLayer:
        if name != listed[-1][0] and (not found.init_hidden or found.output):
            raise ExportError(
                f"layer {name}: returns its membrane with its spikes, which the next layer of an nn.Sequential cannot "
                "take; make it with init_hidden=True and output=False"
            )
        kind = kinds[type(found)]
        reset = _their_reset(name, found, kind.counterparts.zero_delays)
        _check_firing(name, found, _weight(name, synapse).dtype)
        constants = {what: _constant(name, what, getattr(found, what), synapse) for what in kind.limits()}
        layer = our_layer(name, kind, synapse, reset, **constants)
        layer.norm = norm
        return layer

    def is_neuron(name: str, found: nn.Module) -> bool:
        if isinstance(found, snn.SpikingNeuron) and type(found) not in kinds:
            raise ExportError(
                f"layer {name}: snn.{type(found).__name__} has other states and dynamics than the neurons of snnTorch "
                f"that are converted, expected {known}"
            )
        return type(found) in kinds

    return _join(listed, is_neuron, neuron, known)


def to_snntorch(network: nn.Module) -> nn.Sequential:
    """Convert a network to snnTorch, with the same spikes, to the bit.

    Args:
        network: an `nn.Sequential` of layers of this package.

    Returns:
        An `nn.Sequential` that takes one step `[B, ...]` at a time. Its neurons keep their states between calls: call
        `snntorch.utils.reset` on it before every sequence.

    Raises:
        ExportError: with the layer's name and what has no counterpart in snnTorch, or if snnTorch is missing.

    Example:
        >>> theirs = to_snntorch(nn.Sequential(LIF(nn.Linear(4, 3))))
        >>> torch.stack([theirs(x) for x in torch.rand(10, 2, 4)]).shape
        torch.Size([10, 2, 3])
    """
    snn = import_package("snntorch")
    modules: list[nn.Module] = []
    for name, layer in our_layers(network, "snntorch"):
        if isinstance(layer, SpikingLayer):
            synapse, theirs = synapse_copy(name, layer), layer.counterparts
            dtype = _weight(name, synapse).dtype
            constants = {what: getattr(layer, what).to(dtype).clone() for what in layer.kind.limits()}
            assert theirs.snntorch is not None
            neuron = getattr(snn, theirs.snntorch)(
                **constants,
                spike_grad=_keeping_dtype(snn.surrogate.atan()),
                init_hidden=True,
                reset_mechanism=layer.reset,
                reset_delay=theirs.zero_delays[0] if layer.reset == "zero" else True,
            )
            modules += [synapse, neuron]
        else:
            modules.append(_their_plain(layer))
    return nn.Sequential(*modules)


def from_norse(module: nn.Module) -> nn.Sequential:
    """Convert a norse network, with the same spikes up to rounding.

    Args:
        module: a `SequentialState` that takes one step `[B, ...]`, the same in a `Lift`, or one of `Lift`s that takes
            `[T, B, ...]`; its neurons are `LIFBoxCell` and `IAFCell`.

    Returns:
        A network from `[T, B, ...]` to the last layer's spikes `[T, B, *n]`. Weights and biases include
        norse's input gain dt * tau_mem_inv.

    Raises:
        ExportError: with the layer's name and what differs in norse, or if norse is missing.
    """
    norse = import_package("norse.torch")
    neurons = (norse.LIFBoxCell, norse.IAFCell)
    lifted = list(_norse_chain(norse, module, "", False))
    _check_time(lifted)

    def neuron(name: str, found: Any, synapse: nn.Module, norm: _BatchNorm | None) -> SpikingLayer:
        if norm is not None:  # the input gain belongs behind it
            synapse = folded(synapse, norm)
        constants = found.p
        leaky = type(found) is norse.LIFBoxCell
        reset = torch.as_tensor(constants.v_reset).detach().double()
        rest = torch.as_tensor(constants.v_leak).detach().double() if leaky else reset
        if leaky and constants.reset_method is not norse.LIFBoxParameters().reset_method:
            method = getattr(constants.reset_method, "__name__", "a function of its own")
            raise ExportError(
                f"layer {name}: resets by {method}, at once and before the leak, as none of our resets; only "
                "reset_value to v_leak is converted, to our reset 'zero'"
            )
        if not bool((reset == rest).all()):
            raise ExportError(
                f"layer {name}: v_reset is {_show(reset)} and v_leak {_show(rest)}; our membranes rest at the value "
                "that a spike sets them to: make the two equal"
            )
        threshold = _constant(name, "v_th", constants.v_th, synapse).double() - rest
        if not leaky:
            beta = torch.ones((), dtype=torch.float64)
            return our_layer(name, LIFNeuron, synapse, "zero", beta=beta, threshold=threshold)
        # the same product as in norse, with its rounding
        gain = (found.dt * _constant(name, "tau_mem_inv", constants.tau_mem_inv, synapse)).double()
        if not bool(((gain > 0) & (gain < 1)).all()):
            raise ExportError(
                f"layer {name}: dt * tau_mem_inv is {_show(gain)}, expected more than 0 and less than 1: with dt = "
                f"{found.dt:g} beta is not between 0 and 1; use a dt smaller than tau"
            )
        scale_synapse(name, synapse, gain)
        return our_layer(name, LIFNeuron, synapse, "zero", beta=1 - gain, threshold=threshold)

    def is_neuron(name: str, found: nn.Module) -> bool:
        if type(found) in neurons:
            return True
        if type(found).__module__.startswith("norse."):
            raise ExportError(
                f"layer {name}: norse's {type(found).__name__} has other states and dynamics than LIFBoxCell and "
                "IAFCell, the only neurons of norse that are converted"
            )
        return False

    return _join([(name, found) for name, found, _ in lifted], is_neuron, neuron, "LIFBoxCell or IAFCell")


def to_norse(network: nn.Module, dt: float = 0.001) -> nn.Module:
    """Convert a network to norse, with the same spikes up to rounding.

    Args:
        network: an `nn.Sequential` of layers of this package, all with reset "zero".
        dt: norse's time step in seconds; tau is dt / (1 - beta).

    Returns:
        `Lift(SequentialState(...))`: from `[T, B, ...]` to spikes `[T, B, *n]` and the final states. Weights and biases
        are divided by norse's input gain 1 - beta.

    Raises:
        ExportError: with the layer's name and what has no counterpart in norse, or if norse is missing.
    """
    norse = import_package("norse.torch")
    if not 0 < dt < float("inf"):
        raise ExportError(f"dt is {dt}, expected a time step in seconds, finite and greater than 0")
    modules: list[nn.Module] = []
    for name, layer in our_layers(network, "norse"):
        if not isinstance(layer, LIF):
            modules.append(_their_plain(layer))
            continue
        if layer.reset != "zero":
            raise ExportError(
                f"layer {name}: reset is {layer.reset!r}; norse sets the membrane to v_reset in the step of the spike, "
                "which is our reset 'zero' only"
            )
        synapse = synapse_copy(name, layer)
        dtype = _weight(name, synapse).dtype
        threshold = layer.threshold.to(dtype).clone()
        rest = torch.zeros((), dtype=dtype, device=threshold.device)
        beta = layer.beta.to(dtype)
        if bool((beta == 1).all()):
            neuron = norse.IAFCell(norse.IAFParameters(v_th=threshold, v_reset=rest), dt=dt)
        elif bool((beta == 1).any()):
            raise ExportError(
                f"layer {name}: beta is 1 for some neurons only; norse has no LIFBoxCell with an infinite time constant"
            )
        else:
            inverse = (1 - beta) / dt
            constants = norse.LIFBoxParameters(tau_mem_inv=inverse, v_leak=rest, v_th=threshold, v_reset=rest)
            neuron = norse.LIFBoxCell(constants, dt=dt)
            scale_synapse(name, synapse, 1 / (dt * inverse).double())
        modules += [synapse, neuron]
    lifted: nn.Module = norse.Lift(norse.SequentialState(*modules))
    return lifted


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
    _check_chain(listed)
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
    weight, bias = _weight(name, synapse), synapse.bias
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


def _join(
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
    _check_unchanged(name, module)
    if type(module).forward is nn.Sequential.forward:
        for child, found in _children(module):
            yield from _walk(found, f"{name}.{child}" if name else child)
    elif not name:
        raise ExportError(
            f"the network is a {type(module).__name__}, whose order of layers is in its code only; expected an "
            "nn.Sequential"
        )
    else:
        yield name, module


def _children(module: nn.Module) -> Iterator[NamedModule]:
    """Yield the modules of a container, also those that it holds twice."""
    yield from ((name, found) for name, found in module._modules.items() if found is not None)


def _norse_chain(norse: Any, module: Any, name: str, lifted: bool) -> Iterator[tuple[str, nn.Module, bool]]:
    """Yield name, module, and whether a `Lift` around it repeats it for every step."""
    _check_unchanged(name, module)
    if type(module) is norse.Lift:
        if lifted:
            raise ExportError(f"layer {name}: is in two nested Lifts, expected one")
        yield from _norse_chain(norse, module.lifted_module, name, True)
    elif type(module).forward in (nn.Sequential.forward, norse.SequentialState.forward):
        plain = type(module).forward is nn.Sequential.forward
        for child, found in _children(module):
            path = f"{name}.{child}" if name else child
            if plain and (type(found).__module__.startswith("norse.")):
                raise ExportError(
                    f"layer {path}: norse's {type(found).__name__} returns its state with its spikes, which the next "
                    "layer of an nn.Sequential cannot take; expected a norse SequentialState"
                )
            yield from _norse_chain(norse, found, path, lifted)
    elif not name and not lifted:
        raise ExportError(
            f"the network is a {type(module).__name__}, expected norse's SequentialState, alone or in a Lift"
        )
    else:
        yield name or "0", module, lifted


def _check_unchanged(name: str, module: nn.Module) -> None:
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


def _check_chain(listed: Sequence[NamedModule]) -> None:
    seen: dict[int, str] = {}
    for name, module in listed:
        if id(module) in seen:
            raise ExportError(
                f"layer {name}: is the same module as layer {seen[id(module)]}; a module can be in a chain once"
            )
        seen[id(module)] = name


def _check_time(listed: Sequence[tuple[str, nn.Module, bool]]) -> None:
    """Refuse chains of norse in which some modules get steps, and others would take the sequence for a batch."""
    if not listed:
        raise ExportError("the network is empty, expected a norse SequentialState of layers")
    _check_chain([(name, module) for name, module, _ in listed])
    if not any(lifted for _, _, lifted in listed):
        return
    for name, module, lifted in listed:
        if not lifted and type(module) is not nn.Linear:
            kind = type(module).__name__
            raise ExportError(
                f"layer {name}: {kind} is outside Lift while other layers are lifted over time, so it would take "
                "the steps for a batch; put the whole SequentialState into one Lift"
            )


def _their_reset(name: str, neuron: Any, zero_delays: tuple[bool, ...]) -> Reset:
    """Return the reset that a neuron of snnTorch has, if it has a counterpart."""
    runs: dict[str, Reset] = {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}
    reset = runs.get(neuron.state_function.__name__)
    if reset is None or reset != neuron.reset_mechanism:
        raise ExportError(
            f"layer {name}: reset_mechanism is {neuron.reset_mechanism!r}, but {neuron.state_function.__name__} "
            "runs, which was chosen when the layer was made; make a new one"
        )
    if reset == "zero" and neuron.reset_delay not in zero_delays:
        raise ExportError(
            f"layer {name}: reset_delay=True with reset 'zero' clears what arrives in the step after a spike too, ours "
            "clears the membrane before it arrives: use reset_delay=False"
        )
    if reset == "subtract" and not neuron.reset_delay:
        raise ExportError(
            f"layer {name}: reset_delay=False with reset 'subtract' subtracts the threshold before the leak, ours "
            "after it: use reset_delay=True"
        )
    return reset


def _check_firing(name: str, neuron: Any, dtype: torch.dtype) -> None:
    """Refuse a neuron of snnTorch whose spike function is not an exact step at the threshold."""
    if neuron.inhibition:
        raise ExportError(f"layer {name}: inhibition lets only one neuron spike in a step, ours have no inhibition")
    if neuron.state_quant:
        raise ExportError(f"layer {name}: state_quant rounds the membrane, ours is not rounded: use state_quant=False")
    if isinstance(neuron.graded_spikes_factor, nn.Parameter):
        raise ExportError(f"layer {name}: learns its graded_spikes_factor, our spikes are 0 or 1")
    if not bool((neuron.graded_spikes_factor == 1).all()):
        raise ExportError(f"layer {name}: graded_spikes_factor is not 1, our spikes are 0 or 1")
    near = torch.tensor([0.0, torch.finfo(dtype).tiny, 1e-3, 0.1, 0.5, 1.0, 10.0], dtype=dtype)
    distance = torch.cat([-near, near]).repeat(50)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        fired = neuron.spike_grad(distance)
    if fired.dtype != dtype:
        raise ExportError(
            f"layer {name}: its spike_grad gives {fired.dtype} for {dtype} membranes, which rounds the threshold, and "
            "which the next layer cannot take; use float32, or a spike_grad that keeps the dtype"
        )
    if not torch.equal(fired, (distance > 0).to(dtype)):
        raise ExportError(
            f"layer {name}: its spike_grad returns other values than 1 above the threshold and 0 elsewhere, use one "
            "with exact spikes, like snntorch.surrogate.atan()"
        )


def _keeping_dtype(spikes: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a spike function of snnTorch, which always returns float32, changed to the dtype of the membrane."""
    return lambda membrane: spikes(membrane).to(membrane.dtype)


def _constant(name: str, what: str, value: Any, synapse: nn.Module) -> Tensor:
    """Return a constant of another package, detached, in its own dtype, if our layer can have it."""
    weight = _weight(name, synapse)
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


def _weight(name: str, synapse: nn.Module) -> Tensor:
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


def _their_plain(layer: nn.Module) -> nn.Module:
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


def _show(value: Tensor) -> str:
    return f"{value.item():g}" if value.numel() == 1 else f"{value.min().item():g}..{value.max().item():g}"
