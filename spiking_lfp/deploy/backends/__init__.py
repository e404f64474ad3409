"""Everything outside this package that can run an integer network, each behind the same three questions."""

from importlib import import_module
from typing import Protocol, runtime_checkable

from spiking_lfp.deploy.model import Array, IntegerNetwork
from spiking_lfp.errors import unknown_name

# the module of each backend; a module is imported only when it is asked for
MODULES = {
    "c": "c",
    "icarus": "verilog",
    "verilator": "verilog",
    "sanafe": "sanafe",
    "brian2-loihi": "brian2_loihi",
    "lava": "lava",
}


@runtime_checkable
class Backend(Protocol):
    """Runs integer networks somewhere else."""

    def missing(self) -> str | None:
        """Say what has to be installed before this can run, or return None."""

    def refusal(self, network: IntegerNetwork) -> str | None:
        """Say what in `network` cannot be represented there, or return None."""

    def run(self, network: IntegerNetwork, inputs: Array) -> dict[str, Array]:
        """Run samples from rest and return the spikes of every spiking layer that ran there.

        Args:
            network: that `refusal` did not refuse.
            inputs: as `simulator.simulate` takes them.

        Returns:
            uint8 `[T, N, *out_shape]` by layer name. A backend without analogue inputs leaves out the first layer of a
            network with constant encoding, and takes that layer's spikes from the simulator.

        Raises:
            ExportError: if the tool fails, with its own last words.
        """


def backend(name: str) -> Backend:
    """Return the backend called `name`.

    Raises:
        UsageError: for an unknown name.
    """
    if name not in MODULES:
        raise unknown_name("backend", name, MODULES)
    found: Backend = import_module(f"spiking_lfp.deploy.backends.{MODULES[name]}").BACKENDS[name]
    return found
