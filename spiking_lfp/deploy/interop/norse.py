"""Converts networks from and to norse where every spike stays the same, up to rounding.

norse's `LIFBoxCell` has another equation, `v += a (v_leak + I - v)` with a = dt * tau_mem_inv, and resets to `v_reset`
in the same step. With v_reset = v_leak that is our "zero" with beta = 1 - a, threshold v_th - v_leak and weights times
a; `IAFCell` is our "zero" with beta = 1. The spikes are the same up to rounding, since the two equations round
differently. Its `reset_subtract` subtracts (1 - a) * threshold and is refused.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spiking_lfp.arguments import check_time_step
from spiking_lfp.deploy.interop.chains import (
    check_chain,
    check_unchanged,
    children,
    constant_of,
    import_package,
    join,
    our_layer,
    our_layers,
    scale_synapse,
    synapse_copy,
    their_plain,
    weight_of,
)
from spiking_lfp.errors import ExportError
from spiking_lfp.neurons import LIFNeuron
from spiking_lfp.nn.norm import folded
from spiking_lfp.nn.spiking import LIF, SpikingLayer


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
        threshold = constant_of(name, "v_th", constants.v_th, synapse).double() - rest
        if not leaky:
            beta = torch.ones((), dtype=torch.float64)
            return our_layer(name, LIFNeuron, synapse, "zero", beta=beta, threshold=threshold)
        # the same product as in norse, with its rounding
        gain = (found.dt * constant_of(name, "tau_mem_inv", constants.tau_mem_inv, synapse)).double()
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

    return join([(name, found) for name, found, _ in lifted], is_neuron, neuron, "LIFBoxCell or IAFCell")


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
    check_time_step(dt)
    modules: list[nn.Module] = []
    for name, layer in our_layers(network, "norse"):
        if not isinstance(layer, LIF):
            modules.append(their_plain(layer))
            continue
        if layer.reset != "zero":
            raise ExportError(
                f"layer {name}: reset is {layer.reset!r}; norse sets the membrane to v_reset in the step of the spike, "
                "which is our reset 'zero' only"
            )
        synapse = synapse_copy(name, layer)
        dtype = weight_of(name, synapse).dtype
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


def _norse_chain(norse: Any, module: Any, name: str, lifted: bool) -> Iterator[tuple[str, nn.Module, bool]]:
    """Yield name, module, and whether a `Lift` around it repeats it for every step."""
    check_unchanged(name, module)
    if type(module) is norse.Lift:
        if lifted:
            raise ExportError(f"layer {name}: is in two nested Lifts, expected one")
        yield from _norse_chain(norse, module.lifted_module, name, True)
    elif type(module).forward in (nn.Sequential.forward, norse.SequentialState.forward):
        plain = type(module).forward is nn.Sequential.forward
        for child, found in children(module):
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


def _check_time(listed: Sequence[tuple[str, nn.Module, bool]]) -> None:
    """Refuse chains of norse in which some modules get steps, and others would take the sequence for a batch."""
    if not listed:
        raise ExportError("the network is empty, expected a norse SequentialState of layers")
    check_chain([(name, module) for name, module, _ in listed])
    if not any(lifted for _, _, lifted in listed):
        return
    for name, module, lifted in listed:
        if not lifted and type(module) is not nn.Linear:
            kind = type(module).__name__
            raise ExportError(
                f"layer {name}: {kind} is outside Lift while other layers are lifted over time, so it would take "
                "the steps for a batch; put the whole SequentialState into one Lift"
            )


def _show(value: Tensor) -> str:
    return f"{value.item():g}" if value.numel() == 1 else f"{value.min().item():g}..{value.max().item():g}"
