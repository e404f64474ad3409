"""Compares the spikes of every layer in the integer simulator, bit for bit, with other simulators, C and Verilog."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import ArrayLike

from spiking_lfp.arguments import as_names
from spiking_lfp.deploy.artifact import as_network
from spiking_lfp.deploy.chips import backend, backends
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import check_inputs, simulate
from spiking_lfp.errors import ExportError, UsageError


@dataclass(frozen=True)
class Agreement:
    """Comparison of one layer in one backend with the integer simulator.

    Attributes:
        backend: by name.
        layer: by name; None where the backend did not run.
        spikes: number of spikes in the simulator, or of membranes that are not 0 where neurons do not fire.
        different: how many of them differ.
        compared: values compared, neurons times steps times samples.
        seconds: run time of the backend for the whole network.
        reason: why it did not run, or empty.
        failed: whether it ended in an error.
    """

    backend: str
    layer: str | None
    spikes: int = 0
    different: int = 0
    compared: int = 0
    seconds: float = 0.0
    reason: str = ""
    failed: bool = False

    @property
    def agrees(self) -> bool:
        """Whether there are spikes, and all that were compared are equal."""
        return self.layer is not None and self.different == 0 and self.spikes > 0


def verify(
    network: IntegerNetwork | str | Path, inputs: ArrayLike | None, names: str | Sequence[str]
) -> list[Agreement]:
    """Run `inputs` in the simulator and in backends, and compare every layer.

    A readout on the host is left out. A backend that is not installed, does not support the network, or fails, has one
    entry with the reason.

    Args:
        network: to run; or its file, or the name of one in the package.
        inputs: as `simulate` takes them; None for those of its golden run.
        names: of backends, or of one, as `spiking-lfp verify --with` has them.

    Returns:
        For each backend a line for every layer, or one with the reason why there is none.

    Raises:
        UsageError: for unknown names or none, and without inputs if there is no golden run.
        ExportError: if the file cannot be read, inputs do not fit, or a backend returns no spikes, or spikes of
            another shape.

    Example:
        >>> found = verify("mnist-mlp-int8", None, ["c"])
        >>> all(each.agrees for each in found)  # each.reason says why a backend did not run
        True
    """
    network = as_network(network).without_readout()
    others = [(name, backend(name)) for name in as_names(names, "names")]
    if not others:
        raise UsageError(f"names is empty: name a backend to compare with, of {', '.join(backends())}")
    if inputs is None:
        if network.golden is None:
            raise UsageError("the network has no golden run: give inputs")
        inputs = network.golden.inputs
    inputs = check_inputs(network, inputs)
    expected = simulate(network, inputs, record=True).spikes
    lines = []
    for name, other in others:
        reason = other.missing() or other.unsupported(network)
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
            lines.append(Agreement(name, layer, int(np.count_nonzero(mine)), different, mine.size, seconds))
    return lines
