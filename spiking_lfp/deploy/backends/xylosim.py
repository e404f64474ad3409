"""SynSense's simulator of Xylo, in an environment of its own: it runs the configuration that is exported."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from spiking_lfp.deploy.backends.external import run_worker
from spiking_lfp.deploy.check import check
from spiking_lfp.deploy.chip import Environment
from spiking_lfp.deploy.formats.xylo import TARGET, configuration
from spiking_lfp.deploy.layers import Array
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import check_inputs
from spiking_lfp.errors import ExportError

TITLE = "XyloSim"


class XyloSim:
    """See `chip.Backend`. Layer k spikes k steps later there, and its spikes are shifted back.

    Args:
        environment: in which xylosim is installed.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    def missing(self) -> str | None:
        """Return how to install it, or None."""
        try:
            self.environment.python(TITLE)
        except ExportError as error:
            return str(error)
        return None

    def unsupported(self, network: IntegerNetwork) -> str | None:
        """Return the first reason why the network does not fit the chip, or None."""
        return next(iter(check(network, TARGET)), None)

    def run(self, network: IntegerNetwork, inputs: Array) -> dict[str, Array]:
        """Run samples; see `chip.Backend.run`."""
        inputs = check_inputs(network, inputs)
        steps, samples = inputs.shape[:2]
        late = len(network.spiking) - 1
        flat = np.zeros((samples, steps + late, int(np.prod(network.in_shape))), np.int64)
        flat[:, :steps] = inputs.swapaxes(0, 1).reshape(samples, steps, -1)
        with TemporaryDirectory(prefix="spiking_lfp_") as folder:
            path, result = Path(folder) / "network.json", Path(folder) / "spikes.json"
            path.write_text(json.dumps({"configuration": configuration(network), "inputs": flat.tolist()}))
            run_worker(TITLE, self.environment, "xylosim_worker.py", path, result)
            found = json.loads(result.read_text())
        hidden, outputs = (np.array(found[name], np.uint8).swapaxes(0, 1) for name in ("hidden", "outputs"))
        spikes, low = {}, 0
        for delay, layer in enumerate(network.spiking):
            part = outputs if delay == late else hidden[:, :, low : low + layer.neurons]
            low += layer.neurons
            spikes[layer.name] = part[delay : delay + steps].reshape(steps, samples, *layer.out_shape)
        return spikes
