"""Training with hardware in the loop: LFP needs no derivative, so the forward pass can be that of integer hardware.

Rewards are distributed over the spikes and membranes of the hardware, and real-valued master weights learn; there is no
straight-through estimator.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from torch import Tensor, nn

from spiking_lfp.checks import Values, as_tensor
from spiking_lfp.errors import UsageError
from spiking_lfp.integers.arithmetic import DEFAULT, Arithmetic
from spiking_lfp.lfp.execution import Integer, Real, Recorded
from spiking_lfp.neurons.integer import ScaleMethod
from spiking_lfp.nn.spiking import spiking_layers

LEVELS = 255


def run_in_integers(
    network: nn.Module,
    bits: int,
    levels: int = LEVELS,
    per_channel: bool = False,
    scale: ScaleMethod | None = None,
    arithmetic: Arithmetic = DEFAULT,
) -> None:
    """Let the spiking layers of `network` run like integer hardware from now on, while their real-valued weights learn.

    Every forward pass rounds the weights anew. The network that `deploy.quantize` exports computes the same, to the
    bit. Rounding reads the largest weights back, so on a GPU every step waits for the device.

    Args:
        network: its first spiking layer receives the inputs, the others receive spikes: those behind `add` or mean
            pooling refuse other numbers when they run.
        bits: bits of a weight, 2..8; 0 returns to real numbers.
        levels: the integer that represents an input of 1; 1 if the inputs are spikes.
        per_channel: give each output channel a scale of its own, but for layers that do not fire.
        scale: see `FixedPoint`; "mean" up to 4 bits and "max" above if None.
        arithmetic: of the chip, such as `XYLO` of `spiking_lfp.integers.arithmetic`, whose hidden neurons spike several
            times in a step, and whose layers are `CubaLIF` without biases.

    Raises:
        UsageError: if the network has no spiking layer, or a number is out of range.

    Example:
        >>> network = nn.Sequential(LIF(nn.Linear(4, 8)), LIF(nn.Linear(8, 3)))
        >>> run_in_integers(network, bits=4)
        >>> spikes = network(constant(torch.rand(2, 4), steps=10))  # of weights from -8 to 7
        >>> propagate(spikes, spike_count_reward(spikes, [0, 2]))  # updates of the real ones
    """
    layers = list(spiking_layers(network).values())
    if not layers:
        raise UsageError("the network has no spiking layer to run in integers: add an LIF layer")
    rule: ScaleMethod = scale or ("mean" if bits <= 4 else "max")
    for index, layer in enumerate(layers):
        # membranes are compared with each other, so they have one unit
        apart = per_channel and layer.kind.spiking
        own = arithmetic.of_outputs() if index == len(layers) - 1 else arithmetic
        given = {"levels": levels} if index == 0 else {"largest": arithmetic.spikes if arithmetic.spikes > 1 else None}
        layer.execution = Integer(bits, **given, per_channel=apart, scale=rule, arithmetic=own) if bits else Real()


@contextmanager
def recorded(network: nn.Module, states: Mapping[str, Values]) -> Iterator[None]:
    """Let layers return the recordings of a simulator or chip in place of running, inside the context.

        with recorded(network, {"1": membrane_1, "2": membrane_2}):
            spikes = network(x)
        propagate(spikes, spike_count_reward(spikes, labels))

    Args:
        network: the weights, constants and rules of its layers determine how feedback is divided.
        states: recordings by the path of spiking layers in `network`: the membrane in every step before the reset of
            that step, `[T, B, *n]`, or all states of neurons with several. In units of the threshold, in the network's
            type, or integers for layers that run in integers. The spikes follow from the states: where the membrane
            exceeds the threshold.

    Raises:
        UsageError: for names that are not spiking layers; when the network runs, for shapes that do not fit.

    Example:
        >>> network = nn.Sequential(LIF(nn.Linear(4, 8)), LIF(nn.Linear(8, 3)))
        >>> membranes = {"0": torch.rand(10, 2, 8) + 0.5, "1": torch.rand(10, 2, 3) + 0.5}  # what a chip has measured
        >>> with recorded(network, membranes):
        ...     spikes = network(torch.rand(10, 2, 4))
        >>> torch.equal(spikes, (membranes["1"] > 1).float())
        True
    """
    layers = spiking_layers(network)
    for name in states:
        if name not in layers:
            raise UsageError(f"{name!r} is not a spiking layer of the network: it has {', '.join(layers) or 'none'}")
    before = {name: layers[name].execution for name in states}
    try:
        for name, values in states.items():
            execution = before[name]
            if isinstance(execution, Recorded):
                raise UsageError(f"layer {name} already returns a recording: leave that context first")
            assert isinstance(execution, Real | Integer)
            several = (values,) if isinstance(values, Tensor | np.ndarray) else values
            layers[name].execution = Recorded(tuple(as_tensor(each, "the states") for each in several), execution)
        yield
    finally:
        for name, execution in before.items():
            layers[name].execution = execution
