"""Where the sources of the hardware side lie: C runtime and Verilog core."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def hardware_folder(name: str) -> Path:
    """Return the folder `hardware/NAME`: in an installed package inside it, in a checkout beside it."""
    inside = _PACKAGE / "hardware" / name
    return inside if inside.is_dir() else _PACKAGE.parent / "hardware" / name
