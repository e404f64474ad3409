"""A small FPGA with the core of hardware/rtl: a Lattice ECP5 LFE5U-25F.

It is the smallest FPGA on boards such as the ULX3S and the Colorlight i5. An iCE40UP5K has about as much block RAM: 30
blocks of 4 kbit and 4 of 256 kbit.

[L] Lattice, ECP5 and ECP5-5G Family Data Sheet, FPGA-DS-02012: LFE5U-25F has 56 blocks of 18 kbit.

Assumed: everything is in block RAM, packed without gaps. So this is a lower bound: the layer table, words that are not
full, and memories that do not fill their last block come on top. Logic is not estimated; that of the core grows with
its lanes, not with the network.
"""

from spiking_lfp.deploy.chip import Chip, Limits, Memory

CHIP = Chip(
    title="small FPGA, ECP5 LFE5U-25F, with this project's core",
    limits=Limits(
        # 8 bits, a multiplier for each lane
        analogue=True,
        resets=("zero", "subtract", "subtract_decayed"),
        decay=(0, 4095),
        theta=(1, 8388607),
        bias=(-8388607, 8388607),
        frac_bits=(0, 6),
        # one word width for all layers: that of the widest weights
        weight_bits=(2, 8),
        # done in logic
        pooling_neurons=False,
        memory=Memory(
            # [L]
            bits=56 * 18 * 1024,
            bits_per_membrane=24,
            bits_per_accumulator=24,
            bits_per_output=48,
            bits_per_spike=1,
            bits_per_pixel=8,
        ),
    ),
)
