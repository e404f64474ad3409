"""The folder of the sources for hardware: C runtime and Verilog core."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def hardware_folder(name: str) -> Path:
    """Return the folder `hardware/NAME`: inside an installed package, beside the package in a checkout."""
    inside = _PACKAGE / "hardware" / name
    return inside if inside.is_dir() else _PACKAGE.parent / "hardware" / name
