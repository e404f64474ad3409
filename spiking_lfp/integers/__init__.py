"""Neurons in integers, as chips, simulators and training in the loop compute them. Without torch and without NumPy."""

from importlib import import_module
from pkgutil import iter_modules

from spiking_lfp.integers.lif import IntegerLIF
from spiking_lfp.integers.neuron import IntegerNeuron

__all__ = ["NEURONS", "IntegerLIF", "IntegerNeuron"]

# every integer neuron of this folder, by its name in files
NEURONS: dict[str, type[IntegerNeuron]] = {
    found.kind: found
    for module in sorted(module.name for module in iter_modules(__path__))
    for found in vars(import_module(f"{__name__}.{module}")).values()
    if isinstance(found, type) and issubclass(found, IntegerNeuron) and "kind" in vars(found)
}
