"""Checks of arguments that are no arrays: integers, names, paths and choices; needs the standard library only."""

from collections.abc import Collection, Iterable
from numbers import Real
from operator import index
from pathlib import Path
from typing import Any

from spiking_lfp.errors import ExportError, SpikingLFPError, UsageError, unknown_name


def integer_of(value: Any) -> int | None:
    """Return an integer, of NumPy or torch too, as an int; None of all else, such as 2.0, True and "2"."""
    try:
        return None if isinstance(value, bool) else index(value)
    except TypeError:
        return None


def as_integer(
    value: Any, what: str, least: int, most: int | None = None, error: type[SpikingLFPError] = UsageError
) -> int:
    """Return an integer of at least `least` and at most `most`, None for no limit; `what` it is called in errors.

    Raises:
        SpikingLFPError: of the class `error`, for all else.
    """
    found = integer_of(value)
    if found is None or found < least or (most is not None and found > most):
        limits = f"at least {least}" if most is None else f"{least}..{most}" if least < most else str(least)
        raise error(f"{what} must be {'an integer, ' if found is None else ''}{limits}, found {describe(value)}")
    return found


def as_names(given: Any, what: str) -> tuple[str, ...]:
    """Return names in a list or the like as texts; a text alone is one name.

    Raises:
        UsageError: if there is nothing to go through.
    """
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, Iterable):
        raise UsageError(f"{what} must be a name or a list of names, found {describe(given)}")
    return tuple(map(str, given))


def as_path(given: Any, what: str) -> Path:
    """Return a path.

    Raises:
        UsageError: if it is none.
    """
    try:
        return Path(given)
    except TypeError:
        raise UsageError(f"{what} must be a path, found {describe(given)}") from None


def check_time_step(dt: Any) -> None:
    """Raise an ExportError for what is no time step in seconds."""
    if not isinstance(dt, Real) or isinstance(dt, bool) or not 0 < float(dt) < float("inf"):
        raise ExportError(f"dt is {describe(dt)}, expected a time step in seconds, finite and greater than 0")


def check_choice(what: str, value: Any, known: Collection[str]) -> None:
    """Raise a UsageError, with the nearest, if `value` is not one of the `known` ones."""
    if not isinstance(value, str) or value not in known:
        raise unknown_name(what, value, known)


def describe(value: Any) -> str:
    """Return how errors show what was found: numbers and texts as they are, of all else the type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    plain = value is None or isinstance(value, int | float | str)
    return repr(value) if plain else type(value).__name__
