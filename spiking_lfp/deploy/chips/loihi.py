"""Intel's first Loihi, one chip; two of its simulators: brian2-loihi, and Intel's own framework Lava.

[D] M. Davies et al., Loihi: a neuromorphic manycore processor with on-chip learning, IEEE Micro 38(1), 2018.
[N] https://github.com/nengo/nengo-loihi, which maps networks to the chip: names in nengo_loihi/block.py and
    nengo_loihi/builder/discretize.py.
"""

from spiking_lfp.deploy.chip import Backend, Chip, Cores, Environment, Limits, SynapseMemory

BRIAN2_LOIHI = Environment("brian2-loihi", "brian2-loihi", ("brian2-loihi==0.5.2", "numpy<2.4"))
# its metadata ask for Python below 3.11
LAVA = Environment("lava", "lava-nc", ("numpy<2", "scipy", "networkx<=2.8.7", "asteval<0.10"), ("lava-nc==0.10.0",))


def _brian2_loihi() -> Backend:
    """An emulator on Brian 2: reset "zero"; its membranes do not saturate.

    Weights of mixed sign have an even mantissa there: weight `2 w` with exponent -1 is our `w`. It has no bias, so
    generators that spike in every step replace it.
    """
    from spiking_lfp.deploy.backends.external import ExternalBackend

    return ExternalBackend("brian2-loihi", BRIAN2_LOIHI, "brian2_loihi_worker.py", bytes_per_synapse=200)


def _lava() -> Backend:
    """lava-nc with its bit-accurate models of neurons and synapses: reset "zero"."""
    from spiking_lfp.deploy.backends.external import ExternalBackend

    return ExternalBackend("lava-nc", LAVA, "lava_worker.py", saturating_resets=("zero",), unrolled=False)


CHIP = Chip(
    title="Loihi, one chip",
    limits=Limits(
        # axons carry spikes, nothing else [D]
        analogue=False,
        # a neuron that spikes returns to 0 [D]; subtracting the threshold takes a synapse from each neuron to
        # itself, whose weight of 8 bits and an exponent represents few thresholds exactly
        resets=("zero",),
        # 12 bits: decay_int [N]
        decay=(0, 4095),
        # a mantissa of 17 bits, shifted by 6: VTH_MAN_MAX, VTH_EXP [N]
        theta=(1, 131071),
        # a mantissa of 12 bits and sign, with exponent 6 in units of the weights: BIAS_MAN_MAX [N]
        bias=(-4095, 4095),
        # weights reach the membrane shifted by 6, as thresholds do: VTH_EXP [N]
        frac_bits=(6, 6),
        # up to 8 bits: WEIGHT_BITS_MAP [N]; weights w of either sign are stored as 2 w with exponent -1, as mixed signs
        # make them even
        weight_bits=(2, 8),
        # a maximum is a neuron with threshold below one weight and reset to zero, so that it spikes if any of its
        # inputs does; it takes a compartment, and adds a delay of one step
        pooling_neurons=True,
        # [D]
        cores=Cores(
            count=128,
            neurons=1024,
            # 128 kB for synapses: MAX_SYNAPSE_BITS [D, N]; of weights alone, so a lower bound: indices and list headers
            # come on top
            synapse_memory=SynapseMemory(bits=1048576, bits_per_synapse=8),
            # input axons of a core: MAX_IN_AXONS [D, N]
            input_axons=4096,
        ),
    ),
    backends={"brian2-loihi": _brian2_loihi, "lava": _lava},
    environments=(BRIAN2_LOIHI, LAVA),
)
