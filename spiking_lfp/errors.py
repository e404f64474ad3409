"""The errors of this package, each with one sentence: what was found, what was expected, what to do.

The command line prints the sentence and exits with 2 for `UsageError`, 75 ("try again") for `RunStopped`, and 1 for
every other `SpikingLFPError`.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

# how alike names are that may be meant, from 0 to 1: below, words that have nothing to do with each other are found
NEAR = 0.7


class SpikingLFPError(Exception):
    """Base of all errors this package raises on purpose.

    Example:
        >>> try:
        ...     load_run("nowhere")
        ... except SpikingLFPError as error:  # whatever may be wrong
        ...     print(type(error).__name__)
        RunError
    """


class UsageError(SpikingLFPError, ValueError):
    """An argument, setting, shape or name that cannot be used.

    Example:
        >>> LIF(nn.Linear(4, 3), beta=2.0)
        Traceback (most recent call last):
        spiking_lfp.errors.UsageError: beta must be greater than 0 and at most 1, found 2.0
    """


class DataError(SpikingLFPError):
    """A data set that is missing, damaged or empty.

    Example:
        >>> try:
        ...     digits = load_dataset("mnist", root="nowhere", download=False)
        ... except DataError:
        ...     digits = load_dataset("mnist-subset")  # which is in the package
        >>> digits.name
        'mnist-subset'
    """


class NonFiniteError(SpikingLFPError, FloatingPointError):
    """NaN or infinity where inputs, membranes, feedback and updates must be finite.

    Example:
        >>> constant([[0.5, float("nan")]], steps=5)
        Traceback (most recent call last):
        spiking_lfp.errors.NonFiniteError: the images hold NaN or infinity: clean the data first
    """


class RunError(SpikingLFPError):
    """A run folder or checkpoint that cannot be read, written or resumed.

    Example:
        >>> try:
        ...     load_run("nowhere")
        ... except RunError as error:
        ...     print(str(error).partition(";")[0])
        nowhere is not a run: expected nowhere/config.toml
    """


class ExportError(SpikingLFPError):
    """A network that the hardware or file format asked for cannot represent, or an exported file or tool that fails.

    Example:
        >>> network = nn.Sequential(AdaptiveLIF(nn.Linear(4, 3)))
        >>> try:
        ...     export(network, (torch.rand(9, 4), [0, 1, 2] * 3), steps=5)
        ... except ExportError as error:
        ...     print(str(error)[:40])
        layer 0: AdaptiveLIF has no integer form
    """


class WriteError(ExportError):
    """A file of an export that cannot be written: at fault is the place, not the network."""


class RunStopped(SpikingLFPError):
    """A run that wrote a checkpoint and ended because the process was told to (SIGTERM); resume it to go on."""


class FeedbackWarning(UserWarning):
    """The gradient of a loss where layers take a reward, so that they learn the opposite.

    Example:
        >>> import warnings
        >>> spikes = LIF(nn.Linear(4, 3))(torch.rand(10, 2, 4))
        >>> loss = nn.functional.cross_entropy(spikes.sum(0), torch.tensor([0, 2]))
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", FeedbackWarning)
        ...     loss.backward()  # teaches the opposite of propagate(-loss)
    """


class OtherProcessError(SpikingLFPError):
    """Another process of the same run failed first and reported why, so this one ends too."""


def some(paths: Sequence[Path | str]) -> str:
    """Return the first names, and whether there are more."""
    names = [path if isinstance(path, str) else path.name for path in paths]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def one_line(error: BaseException) -> str:
    """Return what another package says, in one line."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UsageError:
    """Return the error for a `name` that is not among the `known` ones, with the nearest if that is a typo away."""
    options = sorted(known)
    lower = {option.casefold(): option for option in options}
    near = get_close_matches(name.casefold(), lower, n=1, cutoff=NEAR) if isinstance(name, str) else []
    hint = f"did you mean {lower[near[0]]!r}? " if near else ""
    return UsageError(f"unknown {kind} {name!r}: {hint}known are {', '.join(options)}")
