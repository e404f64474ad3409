"""SANA-FE, a simulator of neuromorphic chips that also estimates energy and latency: all resets, on its model of Loihi.

Its membrane has 6 fraction bits and a leak that truncates towards zero, like ours; weights, biases and thresholds are
doubles that hold our integers. Reset "subtract" is a synapse from each neuron to itself, which acts one step later.
"""

from spiking_lfp.deploy.backends.outside import OutsideBackend
from spiking_lfp.deploy.model import INTEGER_RESETS

SANAFE = OutsideBackend(
    title="SANA-FE",
    distribution="sanafe",
    worker="sanafe_worker.py",
    variable="SPIKING_LFP_SANAFE_PYTHON",
    install="python3 -m venv ENV && ENV/bin/pip install sanafe==2.2.9 numpy",
    resets=INTEGER_RESETS,
    theta_per_neuron=True,
    # a spike with reset "zero" forgets by how much, and the worker cuts off below
    saturates=("zero",),
    bytes_per_synapse=800,
    bytes_per_neuron=30_000,
)
BACKENDS = {"sanafe": SANAFE}
