"""Where the sources of the hardware side lie: C runtime, Verilog core, limits of targets."""

from pathlib import Path

import spiking_lfp


def hardware_folder(name: str) -> Path:
    """Return the folder `hardware/NAME`: in an installed package inside it, in a checkout beside it."""
    package = Path(spiking_lfp.__file__).parent
    inside = package / "hardware" / name
    return inside if inside.is_dir() else package.parent / "hardware" / name
