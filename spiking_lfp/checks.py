"""Conditions on values of tensors: checked at once on CPU, and on other devices without making the host wait.

There a failed check leaves a mark on the device, and `raise_deferred` looks at it where the host waits anyway.
"""

from typing import Any

import torch
from torch import Tensor

from spiking_lfp.errors import SpikingLFPError

# what can fail, numbered from 1, and on each device the number of the first check that did, or 0
_failures: dict[tuple[type[SpikingLFPError], str], int] = {}
_first: dict[torch.device, Tensor] = {}


def deferred(device: torch.device) -> bool:
    """Tell whether reading a value on `device` makes the host wait."""
    return device.type != "cpu"


def require(holds: Tensor, error: type[SpikingLFPError], message: str) -> None:
    """Raise `error` if `holds`, one truth value, is false; on other devices than the CPU, at `raise_deferred`."""
    if not deferred(holds.device):
        if not bool(holds):
            raise error(message)
        return
    number = _failures.setdefault((error, message), len(_failures) + 1)
    first = _first.get(holds.device)
    if first is None:
        first = _first[holds.device] = torch.zeros((), dtype=torch.int64, device=holds.device)
    # in place, so that a captured graph marks the same tensor in every replay
    first.masked_fill_(~holds & (first == 0), number)


def all_finite(tensor: Tensor) -> Tensor:
    """Tell, as one truth value, whether `tensor` holds no NaN and no infinity; many times faster than `all`."""
    if tensor.numel() == 0:
        return torch.ones((), dtype=torch.bool, device=tensor.device)
    return torch.stack(torch.aminmax(tensor)).isfinite().all()  # NaN is both the least and the largest


def raise_deferred() -> None:
    """Raise the error of the first check that failed on a device since the last call; waits for the devices.

    The training loop calls it when it logs. In your own loop on a GPU, call it where you print a loss, say: until then
    NaN goes unnoticed.

    Raises:
        SpikingLFPError: as `require` would have raised it.
    """
    for first in _first.values():
        number = int(first)
        if number:
            first.zero_()
            error, message = list(_failures)[number - 1]
            raise error(message)


def number(value: Tensor) -> Any:
    """Return one `value` as a plain number, or where reading it makes the host wait as a tensor that adds up like one.

    A float is a float64 either way, so that sums do not depend on the device.
    """
    if not deferred(value.device):
        return value.item()
    return value.double() if value.is_floating_point() else value
