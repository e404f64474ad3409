"""Converts networks from and to snnTorch where every spike stays the same, to the bit.

snnTorch's neurons that are `Counterparts` of ours, `Leaky` of `LIF`, compute the same as ours, to the bit:

    reset_mechanism   reset_delay   ours
    "subtract"        True          "subtract"
    "zero"            True, False   "zero"       cleared at the end of a step or the start of the next
    "none"            True, False   "none"
    "subtract"        False         refused      before the leak: subtracts beta * threshold

With reset "zero" neurons of several states may clear more than the membrane at the start of a step, also the current
that arrives; then `Counterparts.zero_delays` does not have True, and it is refused.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spiking_lfp.deploy.interop.chains import (
    chain,
    constant_of,
    import_package,
    join,
    our_layer,
    our_layers,
    synapse_copy,
    their_plain,
    weight_of,
)
from spiking_lfp.errors import ExportError
from spiking_lfp.neurons import Reset
from spiking_lfp.nn.spiking import LAYERS, SpikingLayer


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
        _check_firing(name, found, weight_of(name, synapse).dtype)
        constants = {what: constant_of(name, what, getattr(found, what), synapse) for what in kind.limits()}
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

    return join(listed, is_neuron, neuron, known)


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
            dtype = weight_of(name, synapse).dtype
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
            modules.append(their_plain(layer))
    return nn.Sequential(*modules)


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
