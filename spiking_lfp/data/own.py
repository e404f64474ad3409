"""Samples given in Python: arrays, tensors, and lists of sequences."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from spiking_lfp import checks
from spiking_lfp.data.encoding import Encoder
from spiking_lfp.data.splits import ArraySplit
from spiking_lfp.errors import DataError


def array_split(given: Any, encoder: Callable[[Tensor], Tensor], name: str, others: str = "") -> ArraySplit:
    """Return the samples of a pair (values, labels).

    Args:
        given: values as an array or tensor `[N, ...]`, or a list of sequences `[T, ...]` of any lengths; labels `[N]`.
        encoder: from values to sequences.
        name: of the pair, for errors.
        others: what else is taken in its place, for errors.

    Raises:
        DataError: if it is something else, or the numbers of samples differ.
    """
    try:
        values, labels = given
    except (TypeError, ValueError):
        raise DataError(f"{name} is {type(given).__name__}, expected a pair (values, labels){others}") from None
    targets = _class_indices(as_tensor(labels, f"the labels of {name}"))
    lengths = None
    if isinstance(values, list | tuple) and values and len({np.shape(each) for each in values}) > 1:
        if not isinstance(encoder, Encoder) or not encoder.is_in_time:
            raise DataError(
                f"the values of {name} have different shapes: give encoding='sequence' if these are sequences"
            )
        if encoder.steps:
            raise DataError(
                f"the values of {name} have different lengths, which steps = {encoder.steps} bins would take with "
                "their padding: leave steps out, or give sequences of one length"
            )
        values, lengths = padded(values, name)
    else:
        # an encoder given in Python may take complex numbers
        values = as_tensor(values, f"the values of {name}", real=isinstance(encoder, Encoder))
    if values.dim() < 2 or targets.dim() < 1 or len(values) != len(targets):
        raise DataError(
            f"{name} has values {list(values.shape)} and labels {list(targets.shape)}, expected [N, ...] and [N]"
        )
    if not len(targets):
        raise DataError(f"{name} has no samples: give at least one")
    if values.is_floating_point() and not bool(values.isfinite().all()):
        raise DataError(f"the values of {name} hold NaN or infinity: remove or replace them")
    return ArraySplit(values, targets, encoder, lengths)


def _class_indices(labels: Tensor) -> Tensor:
    """Return truth values `[N]`, and whole numbers `[N]` of a real type, as integers; other targets as they are."""
    if labels.dim() != 1 or not (labels.dtype == torch.bool or labels.is_floating_point()):
        return labels
    return labels if len(no_class_indices(labels)) else labels.long()


def no_class_indices(labels: Tensor) -> Tensor:
    """Return those of labels `[N]` that cannot be numbers of classes: decimals, and what is not finite."""
    numbers = labels.double()
    return labels[(numbers != numbers.round()) | ~(numbers.abs() < 2**31)]


def first_without(labels: Tensor, classes: int) -> int | None:
    """Return the first of so many classes of which labels `[N]` have none, or None."""
    found = set(labels.unique().tolist())
    return next((label for label in range(classes) if label not in found), None)


def padded(sequences: Sequence[ArrayLike], name: str) -> tuple[Tensor, Tensor]:
    """Return sequences `[T, ...]` of different lengths as one tensor `[N, T, ...]`, padded with zeros, and the lengths.

    Raises:
        DataError: if a sequence is empty, or steps have different shapes.
    """
    tensors = [as_tensor(each, f"a sequence of {name}") for each in sequences]
    shapes = {tuple(each.shape[1:]) for each in tensors}
    if len(shapes) > 1 or any(each.dim() == 0 or not len(each) for each in tensors):
        found = ", ".join(sorted({str(list(each.shape)) for each in tensors})[:3])
        raise DataError(f"sequences of {name} have the shapes {found}, expected [T, ...] with T from 1 and equal steps")
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True), torch.tensor([len(each) for each in tensors])


def as_tensor(values: Any, what: str, real: bool = True) -> Tensor:
    """Return an array, list or tensor as a tensor on the host.

    Raises:
        DataError: if it is none of numbers, or, if they have to be real, of complex ones.
    """
    return checks.as_tensor(values, what, DataError, real).detach().cpu()
