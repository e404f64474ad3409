"""SANA-FE 2.2.9, a simulator that also estimates energy and latency, with its model of Loihi.

That is arch/loihi.yaml in https://github.com/SLAM-Lab/SANA-FE. The chip's layout and energies are Loihi's; neurons
compute in float64, so that weights, biases and thresholds are free.
"""

from spiking_lfp.deploy.chip import Backend, Chip, Cores, Environment, Limits
from spiking_lfp.integers.arithmetic import INTEGER_RESETS

SANAFE = Environment("sanafe", "sanafe", ("sanafe==2.2.9", "numpy==2.4.6", "pyyaml==6.0.3"))


def _sanafe() -> Backend:
    """All resets; "subtract" is a synapse from each neuron to itself, which acts one step later.

    Its membrane has 6 fraction bits and a leak that truncates towards zero, like ours; weights, biases and thresholds
    are doubles that hold our integers.
    """
    from spiking_lfp.deploy.backends.outside import OutsideBackend

    return OutsideBackend(
        title="SANA-FE",
        environment=SANAFE,
        worker="sanafe_worker.py",
        resets=INTEGER_RESETS,
        theta_per_neuron=True,
        # a spike with reset "zero" forgets by how much, and the worker cuts off below
        saturates=("zero",),
        bytes_per_synapse=800,
        bytes_per_neuron=30_000,
    )


CHIP = Chip(
    title="SANA-FE's model of Loihi",
    limits=Limits(
        analogue=False,
        # hard_reset and soft_reset of the architecture's soma
        resets=INTEGER_RESETS,
        decay=(0, 4095),
        # weights reach the membrane shifted by 6
        frac_bits=(6, 6),
        bits=(2, 8),
        pooling_neurons=True,
        # compartments of the chip, by Davies et al. 2018
        cores=Cores(count=128, compartments=1024),
        # the simulator takes about 7 kB of memory for each synapse: this is 3.5 GB
        synapses=500_000,
    ),
    backends={"sanafe": _sanafe},
    environments=(SANAFE,),
)
