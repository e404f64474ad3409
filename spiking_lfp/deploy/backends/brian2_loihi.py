"""brian2-loihi, an emulator of Intel's first Loihi on Brian 2: reset "zero"; its membranes do not saturate.

Its weights have an even mantissa where signs are mixed: weight `2 w` with exponent -1 is our `w`. It knows no bias, so
generators that spike in every step stand in.
"""

from spiking_lfp.deploy.backends.outside import OutsideBackend

BRIAN2_LOIHI = OutsideBackend(
    title="brian2-loihi",
    distribution="brian2-loihi",
    worker="brian2_loihi_worker.py",
    variable="SPIKING_LFP_BRIAN2_LOIHI_PYTHON",
    install="python3 -m venv ENV && ENV/bin/pip install brian2-loihi==0.5.2 'numpy<2.4'",
    bytes_per_synapse=200,
)
BACKENDS = {"brian2-loihi": BRIAN2_LOIHI}
