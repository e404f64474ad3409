"""Runs NIR graphs in the packages that read them, each with its defaults, in a process of its own.

This module needs the standard library only, as `chip` does: `hardware/install.sh` reads what the packages need.
"""

import subprocess
from pathlib import Path

from spiking_lfp.deploy.chip import Environment
from spiking_lfp.errors import ExportError

WORKER = Path(__file__).parent / "backends" / "workers" / "nir_reader.py"
# their pins, of nir and torch among them, do not fit beside this package
# and a torch of their own would bring gigabytes of CUDA where this one does not
SINABS = Environment("sinabs", "sinabs", ("sinabs==3.1.3", "torch==2.13.0"))
SPYX = Environment("spyx", "spyx", ("spyx==1.0.0",))
SPIKINGJELLY = Environment(
    "spikingjelly", "spikingjelly", ("spikingjelly==2.0.0", "nir==1.0.8", "nirtorch==2.6", "torch==2.13.0")
)
ENVIRONMENTS = (SINABS, SPYX, SPIKINGJELLY)
# these are in the extra `interop`
PACKAGES = {
    "norse": Environment("norse", "norse", ("norse==1.1.0", "nir==1.0.8", "nirtorch==2.6")),
    "snntorch": Environment("snntorch", "snntorch", ("snntorch==1.0.0", "nir==1.0.8", "nirtorch==2.6")),
    **{each.name: each for each in (SPIKINGJELLY, SPYX, SINABS)},
}


def run_in(package: str, folder: Path) -> None:
    """Run every graph of a folder in a package; see `backends/workers/nir_reader.py` for the files.

    Args:
        package: a name in `PACKAGES`.
        folder: with NAME.nir and NAME.npy for each graph; NAME.out.npy or NAME.error is added.

    Raises:
        ExportError: if the package is not installed, or its process fails.
    """
    python = PACKAGES[package].python(package)
    done = subprocess.run([python, str(WORKER), package, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        message = " ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise ExportError(f"{package} ended with {done.returncode}: {message}")
