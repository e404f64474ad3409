"""Checks of tensor values: immediate on the CPU, deferred on other devices, so that the host need not wait for them.

On such a device a failed check stores its number, and `raise_deferred` reads it at a point where the host waits anyway.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.errors import SpikingLFPError, UsageError

# tensors, and what becomes one
Values = Tensor | NDArray[Any] | Sequence[Any]

# the checks made so far, numbered from 1, and for each device the number of the first one that failed, or 0
_check_numbers: dict[tuple[type[SpikingLFPError], str], int] = {}
_first_failures: dict[torch.device, Tensor] = {}


def is_deferred(device: torch.device) -> bool:
    """Tell whether checks on `device` are deferred, because reading a value there makes the host wait."""
    return device.type != "cpu"


def require(condition: Tensor, error: type[SpikingLFPError], message: str) -> None:
    """Raise `error` if `condition`, one truth value, is false; on other devices than the CPU, at `raise_deferred`."""
    if not is_deferred(condition.device):
        if not bool(condition):
            raise error(message)
        return
    number = _check_numbers.setdefault((error, message), len(_check_numbers) + 1)
    first_failure = _first_failures.get(condition.device)
    if first_failure is None:
        first_failure = torch.zeros((), dtype=torch.int64, device=condition.device)
        _first_failures[condition.device] = first_failure
    # in place, so that a captured graph writes to the same tensor in every replay
    first_failure.masked_fill_(~condition & (first_failure == 0), number)


def as_tensor(values: Any, what: str, error: type[SpikingLFPError] = UsageError, real: bool = True) -> Tensor:
    """Return a tensor as it is, and an array or a list of numbers as one on the host.

    Numbers of an array keep their type, those of lists are of torch's default types.

    Args:
        values: a tensor, an array or a list.
        what: they are, a plural, for errors.
        error: which to raise.
        real: whether complex numbers and sparse tensors are refused.

    Raises:
        SpikingLFPError: of the class `error`, if they are no numbers, or complex or sparse ones.
    """
    if isinstance(values, Tensor):
        if real:
            check_real(values, what, error)
        return values
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biufc" or (array.dtype.kind == "f" and array.dtype.itemsize > 8):
            raise TypeError
        wanted = array.dtype.newbyteorder("=")
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:
            wanted = np.dtype(np.int64)  # torch has no arithmetic for these
        whole = np.ascontiguousarray(array, wanted).reshape(array.shape)
        tensor = torch.from_numpy(whole if whole.flags.writeable else whole.copy())
    except (TypeError, ValueError, RuntimeError):
        found = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
        raise error(f"{what} are {found}, expected numbers in an array, a list or a tensor") from None
    if real:
        check_real(tensor, what, error)
    listed = not isinstance(values, np.ndarray | np.generic) and tensor.dtype == torch.float64
    return tensor.to(torch.get_default_dtype()) if listed else tensor


def expect_tensor(x: object, what: object, shape: str = "[T, B, ...]") -> None:
    """Refuse inputs that are no tensor, and sparse ones."""
    if not isinstance(x, Tensor):
        raise UsageError(f"{what}: expected a tensor {shape}, found {type(x).__name__}: use torch.as_tensor(x)")
    if x.layout is not torch.strided:
        raise UsageError(f"{what}: expected a dense tensor {shape}, found one of {x.layout}: use x.to_dense()")


def lengths_within(lengths: Values, sequences: Tensor) -> Tensor:
    """Return how many steps of each of `sequences` `[T, B, ...]` count, int64 `[B]`.

    Raises:
        UsageError: if there is not one of 1..T for each.
    """
    steps, batch = sequences.shape[:2]
    found = as_tensor(lengths, "the lengths")
    whole = found.shape == (batch,) and not (found.is_floating_point() or found.dtype == torch.bool)
    if not whole or not bool(((found >= 1) & (found <= steps)).all()):
        raise UsageError(f"expected a length in 1..{steps} for each of {batch} samples, found {found.tolist()}")
    return found.to(sequences.device, torch.int64)


def check_real(tensor: Tensor, what: str, error: type[SpikingLFPError] = UsageError) -> None:
    """Refuse complex numbers, of which torch would drop the imaginary part, and sparse tensors.

    Raises:
        SpikingLFPError: of the class `error`.
    """
    if tensor.is_complex():
        raise error(f"{what} are {tensor.dtype}, expected real numbers: give real and imaginary part as two channels")
    if tensor.layout is not torch.strided:
        raise error(f"{what} are a tensor of {tensor.layout}, expected a dense one: give them by .to_dense()")


def all_finite(tensor: Tensor) -> Tensor:
    """Tell, as one truth value, whether `tensor` holds no NaN and no infinity; many times faster than `all`."""
    if tensor.numel() == 0:
        return torch.ones((), dtype=torch.bool, device=tensor.device)
    return torch.stack(torch.aminmax(tensor)).isfinite().all()  # NaN is both the least and the largest


def raise_deferred() -> None:
    """Raise the error of the first check that failed on a device since the last call; waits for the devices.

    The training loop calls it when it logs. In your own loop on a GPU, call it now and then, for example where you
    print the loss: until then NaN goes unnoticed.

    Raises:
        SpikingLFPError: as `require` would have raised it.

    Example:
        >>> layer = LIF(nn.Linear(4, 3))
        >>> spikes = layer(torch.rand(10, 2, 4))
        >>> raise_deferred()  # silent: nothing has failed
    """
    for first_failure in _first_failures.values():
        number = int(first_failure)
        if number:
            first_failure.zero_()
            error, message = list(_check_numbers)[number - 1]
            raise error(message)


def to_number(value: Tensor) -> Any:
    """Return one `value` as a Python number, or, where reading it makes the host wait, as a tensor that adds like one.

    A float is a float64 in both cases, so that sums do not depend on the device.
    """
    if not is_deferred(value.device):
        return value.item()
    return value.double() if value.is_floating_point() else value
