"""The errors of this package, each with one sentence: what was found, what was expected, what to do.

The command line prints the sentence and exits with 2 for `UsageError`, 75 ("try again") for `RunStopped`, and 1 for
every other `SpikingLFPError`.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class SpikingLFPError(Exception):
    """Base of all errors this package raises on purpose."""


class UsageError(SpikingLFPError, ValueError):
    """An argument, setting, shape or name that cannot be used."""


class DataError(SpikingLFPError):
    """A data set that is missing, damaged or empty."""


class NonFiniteError(SpikingLFPError, FloatingPointError):
    """NaN or infinity where inputs, membranes, feedback and updates must be finite."""


class RunError(SpikingLFPError):
    """A run folder or checkpoint that cannot be read, written or resumed."""


class ExportError(SpikingLFPError):
    """A network that the hardware or file format asked for cannot represent, or an exported file or tool that fails."""


class RunStopped(SpikingLFPError):
    """A run that wrote a checkpoint and ended because the process was told to (SIGTERM); resume it to go on."""


class FeedbackWarning(UserWarning):
    """The gradient of a loss where layers take a reward, so that they learn the opposite."""


class OtherProcessError(SpikingLFPError):
    """Another process of the same run failed first and reported why, so this one ends too."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a `name` that is not among the `known` ones, with the nearest match."""
    options = sorted(known)
    near = get_close_matches(name, options, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UsageError(f"unknown {kind} {name!r}: {hint}known are {', '.join(options)}")
