"""The folder of the sources for hardware: C runtime and Verilog core."""

from pathlib import Path

from spiking_lfp.errors import ExportError

_PACKAGE = Path(__file__).parents[1]


def hardware_folder(name: str) -> Path:
    """Return the folder `hardware/NAME`: inside an installed package, beside the package in a checkout."""
    inside = _PACKAGE / "hardware" / name
    return inside if inside.is_dir() else _PACKAGE.parent / "hardware" / name


def hardware_file(folder: str, name: str) -> bytes:
    """Return the content of the file `hardware/FOLDER/NAME`.

    Raises:
        ExportError: if it cannot be read.
    """
    path = hardware_folder(folder) / name
    try:
        return path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror or error}; install the package again") from None
