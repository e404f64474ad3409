"""SANA-FE 2.2.9, a simulator that also estimates energy and latency, with its model of Loihi.

That is arch/loihi.yaml in https://github.com/SLAM-Lab/SANA-FE. The chip's layout and energies are Loihi's; neurons
compute in float64, so weights, biases and thresholds have no limits.
"""

from spiking_lfp.deploy.chip import Backend, Chip, Cores, Environment, Limits
from spiking_lfp.integers.arithmetic import INTEGER_RESETS

SANAFE = Environment("sanafe", "sanafe", ("sanafe==2.2.9", "numpy==2.4.6", "pyyaml==6.0.3"))


def _sanafe() -> Backend:
    """All resets; "subtract" is a synapse from each neuron to itself, with a delay of one step.

    Its membrane has 6 fraction bits and a leak that truncates towards zero, like ours; weights, biases and thresholds
    are doubles that hold our integers.
    """
    from spiking_lfp.deploy.backends.external import ExternalBackend

    return ExternalBackend(
        title="SANA-FE",
        environment=SANAFE,
        worker="sanafe_worker.py",
        resets=INTEGER_RESETS,
        threshold_per_neuron=True,
        # reset "zero" discards what is above the threshold, and the worker saturates below
        saturating_resets=("zero",),
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
        weight_bits=(2, 8),
        pooling_neurons=True,
        # as on the chip, Davies et al. 2018
        cores=Cores(count=128, neurons=1024),
        # the simulator takes about 7 kB of memory for each synapse: this is 3.5 GB
        synapses=500_000,
    ),
    backends={"sanafe": _sanafe},
    environments=(SANAFE,),
)
