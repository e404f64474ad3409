"""Choice of the device to train on."""

import torch

from spiking_lfp.errors import UsageError


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; "auto" means CUDA if it is available, else the CPU.

    Raises:
        UsageError: if torch does not know the name, or the device is not available.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not usable here: try cpu, or cuda on a machine with a GPU")
    return device
