"""Trained networks from files, or by name, in one line."""

from pathlib import Path

from torch import nn

from spiking_lfp.deploy.artifact import load_network
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.pretrained import network_path
from spiking_lfp.errors import RunError, UsageError
from spiking_lfp.training import Run, load_run


def load(path: str | Path, device: str = "auto", network: nn.Module | None = None) -> nn.Module | IntegerNetwork:
    """Load a trained network.

    Args:
        path: the folder of a run, or an exported network such as `out/net.h5`; or, if there is no such path, the name
            of a network in the package, see `spiking-lfp networks`.
        device: where the network of a run goes; an integer network runs on the CPU.
        network: one like that of the run, for its weights, if the run does not store its own.

    Returns:
        The network of a run, in evaluation mode; see `load_run` for its history, predictions and evaluation. Of a file,
        the integer network, as of a name; see `simulate`.

    Raises:
        UsageError: for an unknown name, with the nearest, and for what an integer network does not take.
        RunError: if there is neither, or it cannot be read.
        ExportError: if the file is no network, or damaged.

    Example:
        >>> load("mnist-mlp-int8").class_names[:3]
        ('0', '1', '2')
        >>> samples = torch.rand(60, 8), torch.arange(60) % 2
        >>> network = nn.Sequential(LIF(nn.Linear(8, 2), threshold=0.1))
        >>> run = fit(network, samples, samples, out="runs/sides", epochs=1, steps=5, progress=False)
        >>> load("runs/sides")(constant(samples[0], steps=5)).shape
        torch.Size([5, 60, 2])
    """
    found = run_or_network(path, device, network)
    return found.network if isinstance(found, Run) else found


def run_or_network(path: str | Path, device: str = "auto", network: nn.Module | None = None) -> Run | IntegerNetwork:
    """Load the run in a folder, or an integer network; args and errors are those of `load`."""
    path = network_path(path)
    if path.is_file():
        if network is not None or device not in ("auto", "cpu"):
            given = f"device {device}" if network is None else "network"
            raise UsageError(f"{path} is an integer network, which is complete and runs on the CPU: leave out {given}")
        return load_network(path)
    if not path.exists():
        raise RunError(f"there is no {path}: give the folder of a run, or an exported network such as out/net.h5")
    return load_run(path, device, network)
