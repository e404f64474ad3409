"""SynSense's Xylo Audio 2, SYNS61201, and its simulator XyloSim.

[R] https://rockpool.ai/devices/xylo-overview.html
[N] https://open-neuromorphic.org/neuromorphic-computing/hardware/xylo-synsense/
[S] xylosim 0.1.3, `xylosim.v2` and the memories that `xylosim/tools.py` writes.
"""

from spiking_lfp.deploy.chip import Backend, Chip, Environment, Limits, Populations
from spiking_lfp.integers.arithmetic import XYLO
from spiking_lfp.integers.cuba import IntegerCubaLIF

XYLOSIM = Environment("xylosim", "xylosim", ("xylosim==0.1.3",))


def _xylosim() -> Backend:
    """XyloSim, which runs the configuration that `export --to xylo` writes."""
    from spiking_lfp.deploy.backends.xylosim import XyloSim

    return XyloSim(XYLOSIM)


CHIP = Chip(
    title="Xylo Audio 2",
    limits=Limits(
        # events [R]; up to 15 of a channel in a step
        analogue=False,
        resets=XYLO.resets,
        # 4 bits [S]; with 0 nothing is left of a state after a step
        decay=(1, 15),
        current_decay=(1, 15),
        # it has biases, but of the membrane, not of the current, and from the first step on, before the layer below
        # has spiked
        bias=(0, 0),
        weight_bits=(2, 8),
        populations=Populations(
            # [R]
            inputs=16,
            hidden=1000,
            outputs=8,
            # 64 in [R], 63 in [N]: the safe one; a neuron's list of synapses to hidden neurons has a length of its own
            # in memory, input and output weights are full matrices [S]
            fan_out=63,
            # 32 for each neuron on average [R]
            synapses=32_000,
        ),
    ),
    arithmetic=XYLO,
    neuron=IntegerCubaLIF,
    # dash_mem, dash_syn [H] [S]
    own_decays=True,
    backends={"xylosim": _xylosim},
    environments=(XYLOSIM,),
)
