"""All chips: every file in this folder is one, which has its name, and defines `CHIP`; see `chip.Chip`."""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules

from spiking_lfp.deploy.chip import Backend, Chip
from spiking_lfp.errors import unknown_name


def chips() -> dict[str, Chip]:
    """Return all chips by name, in alphabetical order."""
    names = sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))
    return {name.replace("_", "-"): import_module(f"{__name__}.{name}").CHIP for name in names}


def targets() -> dict[str, Chip]:
    """Return the chips whose limits are known."""
    return {name: chip for name, chip in chips().items() if chip.limits is not None}


def backends() -> dict[str, Callable[[], Backend]]:
    """Return the factory of each backend, by name."""
    return {name: make for chip in chips().values() for name, make in chip.backends.items()}


def backend(name: str) -> Backend:
    """Return the backend called `name`.

    Raises:
        UsageError: for an unknown name.
    """
    made = backends()
    if name not in made:
        raise unknown_name("backend", name, made)
    return made[name]()
