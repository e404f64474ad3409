"""lava-nc, Intel's framework for Loihi, with its bit-accurate models of neurons and synapses: reset "zero"."""

from spiking_lfp.deploy.backends.outside import OutsideBackend

LAVA = OutsideBackend(
    title="lava-nc",
    distribution="lava-nc",
    worker="lava_worker.py",
    variable="SPIKING_LFP_LAVA_PYTHON",
    install=(
        "python3 -m venv ENV && ENV/bin/pip install --ignore-requires-python --no-deps lava-nc==0.10.0 "
        "&& ENV/bin/pip install 'numpy<2' scipy 'networkx<=2.8.7' 'asteval<0.10'"
    ),
    saturates=("zero",),
    unrolled=False,
)
BACKENDS = {"lava": LAVA}
