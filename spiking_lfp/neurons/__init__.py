"""Neurons: their constants, and what they do going forward and back, in plain torch; one file each."""

from spiking_lfp.neurons.base import Neuron, State, Trace
from spiking_lfp.neurons.lif import RESETS, LIFNeuron, Reset
from spiking_lfp.neurons.recurrent import RecurrentLIFNeuron

__all__ = ["RESETS", "LIFNeuron", "Neuron", "RecurrentLIFNeuron", "Reset", "State", "Trace"]
