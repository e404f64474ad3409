"""Neurons in integers: what chips, simulators and training in the loop all compute. Without torch and without NumPy."""

from spiking_lfp.integers.lif import IntegerLIF
from spiking_lfp.integers.neuron import IntegerNeuron

__all__ = ["NEURONS", "IntegerLIF", "IntegerNeuron"]

# every integer neuron, by the word for it in files
NEURONS: dict[str, type[IntegerNeuron]] = {neuron.kind: neuron for neuron in (IntegerLIF,)}
