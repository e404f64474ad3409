"""Training with hardware in the loop: LFP needs no derivative, so the forward pass may be that of integer hardware.

Rewards are distributed over what the hardware really did, and its real-valued master weights learn; there is no
straight-through estimator.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor, nn

from spiking_lfp.errors import UsageError
from spiking_lfp.lfp.execution import Integer, Real, Recorded
from spiking_lfp.neurons import State
from spiking_lfp.neurons.integer import ScaleRule
from spiking_lfp.nn.spiking import spiking_layers

LEVELS = 255


def run_in_integers(
    network: nn.Module, bits: int, levels: int = LEVELS, per_channel: bool = False, scale: ScaleRule | None = None
) -> None:
    """Let the spiking layers of `network` run as integer hardware does from now on, while their real weights learn.

    Every forward pass rounds the weights anew. What `deploy.quantize` exports of the network does the same, to the bit.
    Rounding reads the largest weights back, so on a GPU every step waits for the device.

    Args:
        network: its first spiking layer sees the inputs, the others spikes.
        bits: of a weight, 2..8; 0 goes back to real numbers.
        levels: the integer that stands for an input of 1, 1 if the inputs are spikes.
        per_channel: give each output a scale of its own.
        scale: see `FixedPoint`; "mean" up to 4 bits and "max" above if None.

    Raises:
        UsageError: if the network has no spiking layer, or a number is out of range.
    """
    layers = list(spiking_layers(network).values())
    if not layers:
        raise UsageError("the network has no spiking layer to run in integers")
    rule: ScaleRule = scale or ("mean" if bits <= 4 else "max")
    for index, layer in enumerate(layers):
        layer.execution = Integer(bits, levels if index == 0 else 1, per_channel, rule) if bits else Real()


@contextmanager
def recorded(network: nn.Module, states: Mapping[str, Float[Tensor, "steps batch *n"] | State]) -> Iterator[None]:
    """Let layers return what a simulator or chip recorded instead of running, inside the context.

        with recorded(network, {"1": membrane_1, "2": membrane_2}):
            spikes = network(x)
        propagate(spikes, spike_count_reward(spikes, labels))

    Args:
        network: its layers' weights, constants and rules say how feedback is divided.
        states: by the path of spiking layers in `network`: the membrane of every step before any reset of that step,
            `[T, B, *n]`, or all states of neurons that have several. In the unit of the threshold, or in integers for
            layers that run in integers. Neurons spike where their state says so: where the membrane is greater than the
            threshold.

    Raises:
        UsageError: for names that are no spiking layers; when the network runs, for shapes that do not fit.
    """
    layers = spiking_layers(network)
    for name in states:
        if name not in layers:
            raise UsageError(f"{name!r} is no spiking layer of the network: it has {', '.join(layers) or 'none'}")
    before = {name: layers[name].execution for name in states}
    try:
        for name, values in states.items():
            of = before[name]
            if isinstance(of, Recorded):
                raise UsageError(f"layer {name} returns what was recorded already: leave that context first")
            assert isinstance(of, Real | Integer)
            layers[name].execution = Recorded((values,) if isinstance(values, Tensor) else tuple(values), of)
        yield
    finally:
        for name, execution in before.items():
            layers[name].execution = execution
