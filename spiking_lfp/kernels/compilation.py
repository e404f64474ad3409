"""Tells whoever asks that kernels are about to be compiled: the first time on a machine that takes seconds."""

from collections.abc import Callable

_tell: list[Callable[[], None]] = []


def before_compiling(tell: Callable[[], None]) -> None:
    """Call `tell` once, when the first kernel is about to be compiled; never if all are on disk already."""
    _tell[:] = [tell]


def compiling() -> None:
    """Say that a kernel is about to be compiled."""
    while _tell:
        _tell.pop()()
