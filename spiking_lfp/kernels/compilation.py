"""Compilation of CPU kernels by numba: kept on disk where that is possible, and announced where it takes seconds."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, no_type_check

from numba import njit
from numba.core import event
from numba.core.caching import FunctionCache

_tell: list[Callable[[], None]] = []
# why kernels are not kept on disk; said once
_unkept: list[str] = []
# what kernels are made of besides their own file: numba sees only that
_PACKAGE = Path(__file__).parents[1]
_PARTS = ("kernels/cpu", "neurons", "integers")


def before_compiling(tell: Callable[[], None]) -> None:
    """Call `tell` once, when the first kernel is about to be compiled; never if all are on disk already."""
    _tell[:] = [tell]


@no_type_check
def kernel(function: Any = None, signature: Any = None, **options: Any) -> Any:
    """Compile a function for each kind of arguments when it is first called, and keep that on disk.

    Without a folder that can be written, or space in it, it is compiled anew in each process, and a warning says so.

    Args:
        function: the function; None in a decorator with arguments.
        signature: the kind of arguments, if it is compiled at once and only for those.
        options: of numba's `njit`.
    """
    if function is None:
        return lambda function: kernel(function, signature, **options)
    compiled = njit(function, **({"error_model": "numpy", "no_cfunc_wrapper": True} | options))
    try:
        compiled._cache = _Cache(function)
    except RuntimeError:  # numba found no folder
        if not _unkept:
            _unkept.append("neither the package's folder nor one in the user's cache can be written")
    if signature is not None:
        compiled.compile(signature)
        compiled.disable_compile()
    return compiled


class _Cache(FunctionCache):
    """numba's files of compiled functions; without them, or with damaged ones, functions are compiled."""

    @no_type_check
    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return what is on disk for a signature, None if there is nothing that can be used."""
        try:
            return super().load_overload(signature, target)
        except Exception:  # a full disk or a power failure may leave anything behind
            with suppress(OSError):
                self.flush()
            return None

    @no_type_check
    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a compiled function on disk."""
        try:
            super().save_overload(signature, result)
        except OSError as error:
            self.disable()
            if not _unkept:
                _unkept.append(f"{self.cache_path} cannot be written ({error.strerror or error})")
            _say_unkept()

    @no_type_check
    def _index_key(self, signature: Any, codegen: Any) -> Any:
        return *super()._index_key(signature, codegen), _parts()


@cache
def _parts() -> str:
    """Return a hash of the files that kernels are made of."""
    content = sha256()
    for part in _PARTS:
        for path in sorted((_PACKAGE / part).glob("*.py")):
            content.update(path.read_bytes())
    return content.hexdigest()


def _say_unkept() -> None:
    if len(_unkept) == 1:
        warnings.warn(
            f"compiled kernels are not kept, {_unkept[0]}: each process compiles them anew, some ten seconds; name a "
            "folder that can be written in NUMBA_CACHE_DIR",
            stacklevel=2,
        )
        _unkept.append("said")


class _Listener(event.Listener):
    """Hears of functions that numba does not find on disk."""

    @no_type_check
    def on_start(self, event: Any) -> None:
        """Tell whoever asked."""
        while _tell:
            _tell.pop()()
        _say_unkept()

    @no_type_check
    def on_end(self, event: Any) -> None:
        """Do nothing."""


event.register("numba:compile", _Listener())
