"""Training with hardware in the loop: LFP needs no derivative, so the forward pass may be that of integer hardware.

Rewards are distributed over what the hardware really did, and its real-valued master weights learn; there is no
straight-through estimator.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor, nn

from spiking_lfp.errors import UsageError
from spiking_lfp.neurons.integer import FixedPoint, ScaleRule
from spiking_lfp.nn.layers import LIF

LEVELS = 255


def run_in_integers(
    network: nn.Module, bits: int, levels: int = LEVELS, per_channel: bool = False, scale: ScaleRule | None = None
) -> None:
    """Let the LIF layers of `network` run as integer hardware does from now on, while their real weights learn.

    Every forward pass rounds the weights anew. What `deploy.quantize` exports of the network does the same, to the bit.
    Rounding reads the largest weights back, so on a GPU every step waits for the device.

    Args:
        network: its first LIF layer sees the inputs, the others spikes.
        bits: of a weight, 2..8; 0 goes back to real numbers.
        levels: the integer that stands for an input of 1, 1 if the inputs are spikes.
        per_channel: give each output a scale of its own.
        scale: see `FixedPoint`; "mean" up to 4 bits and "max" above if None.

    Raises:
        UsageError: if the network has no LIF layer, or a number is out of range.
    """
    layers = [module for module in network.modules() if isinstance(module, LIF)]
    if not layers:
        raise UsageError("the network has no LIF layer to run in integers")
    for index, layer in enumerate(layers):
        rule: ScaleRule = scale or ("mean" if bits <= 4 else "max")
        layer.fixed = FixedPoint(bits, levels if index == 0 else 1, per_channel, rule) if bits else None


@contextmanager
def recorded(network: nn.Module, membranes: Mapping[str, Float[Tensor, "steps batch *n"]]) -> Iterator[None]:
    """Let layers return what a simulator or chip recorded instead of running, inside the context.

        with recorded(network, {"1": membrane_1, "2": membrane_2}):
            spikes = network(x)
        propagate(spikes, spike_count_reward(spikes, labels))

    Args:
        network: its layers' weights, constants and rules say how feedback is divided.
        membranes: by the path of LIF layers in `network`: the membrane of every step before any reset of that step,
            `[T, B, *n]`; a neuron spiked where it is greater than the threshold. In the unit of the threshold, or in
            integers for layers that run in integers.

    Raises:
        UsageError: for names that are no LIF layers; when the network runs, for shapes that do not fit.
    """
    layers = {name: module for name, module in network.named_modules() if isinstance(module, LIF)}
    for name in membranes:
        if name not in layers:
            raise UsageError(f"{name!r} is no LIF layer of the network: it has {', '.join(layers) or 'none'}")
    try:
        for name, membrane in membranes.items():
            layers[name].recorded = membrane
        yield
    finally:
        for name in membranes:
            layers[name].recorded = None
