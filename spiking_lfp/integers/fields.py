"""What the fields of a dataclass hold, said once, where they are declared: checks, files and formats go by it."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

Sides = dict[str, int]
# what was found, and what was expected
Wrong = tuple[str, str]


@dataclass(frozen=True)
class Number:
    """An integer from `least` on; `most` may depend on the other fields, None is no limit."""

    least: int
    most: int | Callable[[Any], int] | None = None

    def wrong(self, value: Any, owner: Any, sides: Sides) -> Wrong | None:
        """Say what was found and expected if `value` does not fit."""
        most = self.most(owner) if callable(self.most) else self.most
        if self.least <= value and (most is None or value <= most):
            return None
        return str(value), f"at least {self.least}" if most is None else f"{self.least}..{most}"


@dataclass(frozen=True)
class Numbers:
    """As many integers, each from `least` on."""

    count: int
    least: int

    def wrong(self, value: Any, owner: Any, sides: Sides) -> Wrong | None:
        """Say what was found and expected if `value` does not fit."""
        if len(value) == self.count and min(value) >= self.least:
            return None
        return str(list(value)), f"{self.count} integers, at least {self.least}"


@dataclass(frozen=True)
class Word:
    """A text; one of `choices` if there are any."""

    choices: tuple[str, ...] = ()

    def wrong(self, value: Any, owner: Any, sides: Sides) -> Wrong | None:
        """Say what was found and expected if `value` does not fit."""
        if not self.choices or value in self.choices:
            return None
        return repr(value), ", ".join(self.choices)


@dataclass(frozen=True)
class Words:
    """Texts, each one of `choices`."""

    choices: tuple[str, ...]

    def wrong(self, value: Any, owner: Any, sides: Sides) -> Wrong | None:
        """Say what was found and expected if `value` does not fit."""
        if value and set(value) <= set(self.choices):
            return None
        return ", ".join(value) or "none", f"some of {', '.join(self.choices)}"


@dataclass(frozen=True)
class Values:
    """An array of NumPy's `dtype`; equal names of sides are equally long, in all fields of one layer."""

    dtype: str
    shape: tuple[str, ...]

    def sides(self, known: Sides) -> tuple[int | None, ...]:
        """Return the shape, None for sides that are not known yet."""
        return tuple(known.get(name) for name in self.shape)

    def wrong(self, value: Any, owner: Any, sides: Sides) -> Wrong | None:
        """Say what was found and expected if `value` does not fit; add the sides that it makes known."""
        wanted = self.sides(sides)
        fits = value.dtype == self.dtype and value.ndim == len(wanted)
        if fits and all(side > 0 and want in (None, side) for side, want in zip(value.shape, wanted, strict=True)):
            sides |= dict(zip(self.shape, value.shape, strict=True))
            return None
        expected = ", ".join(name if side is None else str(side) for name, side in zip(self.shape, wanted, strict=True))
        return f"{value.dtype} {list(value.shape)}", f"{self.dtype} [{expected}]"


Holds = Number | Numbers | Word | Words | Values


def described(kind: Any) -> dict[str, Holds]:
    """Return what fields of a dataclass hold: those that are declared as `Annotated[TYPE, HOLDS]`."""
    found = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        for note in getattr(hint, "__metadata__", ()):
            if isinstance(note, Holds):
                found[name] = note
    return {each.name: found[each.name] for each in fields(kind) if each.name in found}


def wrong(owner: Any, sides: Sides) -> str | None:
    """Say which field of a dataclass does not hold what it should, or return None.

    Args:
        owner: instance of a dataclass.
        sides: how long named sides of arrays are; what its arrays make known is added.
    """
    for name, holds in described(type(owner)).items():
        found = holds.wrong(getattr(owner, name), owner, sides)
        if found is not None:
            return f"{name} is {found[0]}, expected {found[1]}"
    return None
