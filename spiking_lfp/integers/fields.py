"""Constraints on the fields of a dataclass, declared once, at the field: checks, files and formats go by them."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from spiking_lfp.arguments import describe, integer_of

# lengths of named axes
Sizes = dict[str, int]
# what was found, and what was expected
Mismatch = tuple[str, str]


@dataclass(frozen=True)
class IntegerRange:
    """An integer of at least `least`, and at most `most`, which may depend on the other fields; None is no limit."""

    least: int
    most: int | Callable[[Any], int] | None = None

    def mismatch(self, value: Any, owner: Any, sizes: Sizes) -> Mismatch | None:
        """Return what was found and expected if `value` is no integer or out of range, else None."""
        most = self.most(owner) if callable(self.most) else self.most
        limits = f"at least {self.least}" if most is None else f"{self.least}..{most}"
        found = integer_of(value)
        if found is None:
            return describe(value), f"an integer, {limits}"
        return None if self.least <= found and (most is None or found <= most) else (str(found), limits)


@dataclass(frozen=True)
class IntegerTuple:
    """A tuple of `count` integers, each of at least `least`."""

    count: int
    least: int

    def mismatch(self, value: Any, owner: Any, sizes: Sizes) -> Mismatch | None:
        """Return what was found and expected if there are more or fewer, or one is none or too small, else None."""
        found = [integer_of(each) for each in value]
        if len(found) == self.count and all(each is not None and each >= self.least for each in found):
            return None
        return str(list(value)), f"{self.count} integers, at least {self.least}"


@dataclass(frozen=True)
class Text:
    """A text; one of `choices` if there are any."""

    choices: tuple[str, ...] = ()

    def mismatch(self, value: Any, owner: Any, sizes: Sizes) -> Mismatch | None:
        """Return what was found and expected if `value` is not a choice, else None."""
        if not self.choices or value in self.choices:
            return None
        return repr(value), ", ".join(self.choices)


@dataclass(frozen=True)
class Texts:
    """One or more texts, each one of `choices`."""

    choices: tuple[str, ...]

    def mismatch(self, value: Any, owner: Any, sizes: Sizes) -> Mismatch | None:
        """Return what was found and expected if `value` is empty or has a text that is not a choice, else None."""
        if value and set(value) <= set(self.choices):
            return None
        return ", ".join(value) or "none", f"some of {', '.join(self.choices)}"


@dataclass(frozen=True)
class ArrayOf:
    """An array of NumPy's `dtype`; axes of the same name have the same length, in all fields of one layer."""

    dtype: str
    axes: tuple[str, ...]

    def shape(self, known: Sizes) -> tuple[int | None, ...]:
        """Return the shape, None for axes whose length is not known yet."""
        return tuple(known.get(name) for name in self.axes)

    def mismatch(self, value: Any, owner: Any, sizes: Sizes) -> Mismatch | None:
        """Return what was found and expected if dtype or shape differ, else None; add the lengths of new axes."""
        wanted = self.shape(sizes)
        fits = value.dtype == self.dtype and value.ndim == len(wanted)
        if fits and all(size > 0 and want in (None, size) for size, want in zip(value.shape, wanted, strict=True)):
            sizes |= dict(zip(self.axes, value.shape, strict=True))
            return None
        expected = ", ".join(name if size is None else str(size) for name, size in zip(self.axes, wanted, strict=True))
        return f"{value.dtype} {list(value.shape)}", f"{self.dtype} [{expected}]"


@dataclass(frozen=True)
class OneOrEach:
    """One integer for all, or an array with one for each; `one` holds for every integer, `each` for the array."""

    one: IntegerRange
    each: ArrayOf

    def of(self, value: Any) -> IntegerRange | ArrayOf:
        """Return which of the two forms a value has."""
        return self.each if getattr(value, "ndim", 0) else self.one

    def mismatch(self, value: Any, owner: Any, sizes: Sizes) -> Mismatch | None:
        """Return what was found and expected if the array or an integer does not fit, else None."""
        if self.of(value) is self.one:
            return self.one.mismatch(value, owner, sizes)
        found = self.each.mismatch(value, owner, sizes)
        ends = () if found else (int(value.min()), int(value.max()))
        return found or next(filter(None, (self.one.mismatch(end, owner, sizes) for end in ends)), None)


Constraint = IntegerRange | IntegerTuple | Text | Texts | ArrayOf | OneOrEach


def constraints(kind: Any) -> dict[str, Constraint]:
    """Return the constraints of a dataclass by field: of those declared as `Annotated[TYPE, CONSTRAINT]`."""
    found = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        for note in getattr(hint, "__metadata__", ()):
            if isinstance(note, Constraint):
                found[name] = note
    return {each.name: found[each.name] for each in fields(kind) if each.name in found}


def mismatch(owner: Any, sizes: Sizes) -> str | None:
    """Return what is wrong with the first field that violates its constraint, or None.

    Args:
        owner: instance of a dataclass.
        sizes: lengths of named axes; those of its arrays are added.
    """
    for name, constraint in constraints(type(owner)).items():
        found = constraint.mismatch(getattr(owner, name), owner, sizes)
        if found is not None:
            return f"{name} is {found[0]}, expected {found[1]}"
    return None
