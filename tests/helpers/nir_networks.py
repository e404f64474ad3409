"""Networks and graphs for the tests of NIR."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spiking_lfp.deploy.formats.nir import write_nir
from spiking_lfp.deploy.formats.nir_graphs import CHECKSUM, GraphReader
from spiking_lfp.deploy.formats.nir_reading import read_nir
from spiking_lfp.deploy.hdf5 import digest
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.neurons.lif import Reset
from spiking_lfp.nn.layers import Flatten
from spiking_lfp.nn.spiking import LIF

nir = pytest.importorskip("nir", reason="nir is not installed")

SHAPE = (2, 8, 8)


def network(
    reset: Reset = "zero",
    beta: float | Tensor = 0.875,
    pool: nn.Module | None = None,
    dtype: torch.dtype = torch.float64,
) -> nn.Sequential:
    """Weights are multiples of 1/1024."""
    modules: list[nn.Module] = [LIF(nn.Conv2d(2, 4, 3, padding="same", bias=False), beta, 0.25, reset)]
    if pool is not None:
        modules.append(pool)
    modules.append(Flatten())
    modules.append(LIF(nn.Linear(256 if pool is None else 64, 20), 0.75, 0.125, reset))
    modules.append(LIF(nn.Linear(20, 10, bias=False), 0.5, 0.125, reset))
    net = nn.Sequential(*modules).to(dtype)
    with torch.no_grad():
        for values in net.parameters():
            values.copy_((values * 1024).round() / 1024)
    return net


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    return ((torch.rand(30, 3, *SHAPE) * 128).round() / 64).to(dtype)


def assert_equal(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert 0.02 < expected.detach().mean() < 0.9
    assert int((found != expected).sum()) == 0


def again(net: nn.Module | IntegerNetwork, path: Path, **arguments: Any) -> Any:
    write_nir(net, path, **arguments)
    return read_nir(path)


def simple(beta: float = 0.875) -> nn.Sequential:
    return nn.Sequential(LIF(nn.Linear(8, 6), beta, 0.25, "zero")).double()


def lif(size: int = 6, **changed: Any) -> Any:
    fields = {"tau": np.full(size, 0.01), "r": np.ones(size), "v_leak": np.zeros(size), "v_threshold": np.ones(size)}
    return nir.LIF(**{**fields, **changed})


def resealed(path: Path) -> Path:
    """Give a file that was edited the checksum that it has now."""
    with h5py.File(path, "r+") as file:
        records = GraphReader(path, file).everything(file["node"], attributes=False)
        file[CHECKSUM][()] = digest((where, value) for where, value in records if where != CHECKSUM)
    return path
