"""Bit for bit: the spikes of every layer in the integer simulator against those of other simulators, C and Verilog."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from spiking_lfp.deploy.chips import backend
from spiking_lfp.deploy.model import Array, IntegerNetwork
from spiking_lfp.deploy.simulator import simulate
from spiking_lfp.errors import ExportError


@dataclass(frozen=True)
class Agreement:
    """How one layer in one backend compares with the integer simulator.

    Attributes:
        backend: by name.
        layer: by name; None where the backend did not run.
        spikes: how many there are in the simulator.
        different: bits that differ, of `bits`.
        bits: neurons times steps times samples.
        seconds: that the backend took for the whole network.
        reason: why it did not run, or empty.
        failed: whether it should have run, and did not.
    """

    backend: str
    layer: str | None
    spikes: int = 0
    different: int = 0
    bits: int = 0
    seconds: float = 0.0
    reason: str = ""
    failed: bool = False

    @property
    def agrees(self) -> bool:
        """Whether spikes were compared, there were some, and all are equal."""
        return self.layer is not None and self.different == 0 and self.spikes > 0


def verify(network: IntegerNetwork, inputs: Array, names: Sequence[str]) -> list[Agreement]:
    """Run `inputs` everywhere and compare every layer.

    A readout on the host is left out. A backend that is not installed, cannot represent the network, or fails, gets a
    line that says why.

    Args:
        network: what to run.
        inputs: as `simulate` takes them.
        names: of backends.

    Raises:
        UsageError: for unknown names.
        ExportError: if a backend returns something else than the network's spikes.
    """
    network = network.chip()
    expected = simulate(network, inputs, record=True).spikes
    lines = []
    for name in names:
        other = backend(name)
        reason = other.missing() or other.refusal(network)
        if reason is not None:
            lines.append(Agreement(name, None, reason=reason))
            continue
        started = perf_counter()
        try:
            found = other.run(network, inputs)
        except ExportError as error:
            lines.append(Agreement(name, None, reason=str(error), failed=True))
            continue
        seconds = perf_counter() - started
        if not found:
            raise ExportError(f"{name} returned no spikes at all")
        for layer, spikes in found.items():
            mine = expected[layer]
            if spikes.shape != mine.shape:
                raise ExportError(f"{name}: layer {layer} has {list(spikes.shape)} spikes, expected {list(mine.shape)}")
            different = int(np.count_nonzero(spikes != mine))
            lines.append(Agreement(name, layer, int(mine.sum()), different, mine.size, seconds))
    return lines
