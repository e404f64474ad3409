"""Small data sets for every test, and a network that is never there."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.processes import quick_start
from helpers.small_sets import Arrays, SmallCifar, idx_bytes
from spiking_lfp.data import cache
from spiking_lfp.data._files import IDX_FILES


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def only_here(host: str, *args: Any, **kwargs: Any) -> Any:
        if host != "127.0.0.1":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", only_here)


@pytest.fixture
def quick_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of the cache that start at once."""
    monkeypatch.setattr(cache, "WORKERS", quick_start())


@pytest.fixture(scope="session")
def full_mnist() -> Path:
    """The folder of the four files of the whole of MNIST."""
    root = os.environ.get("SPIKING_LFP_DATA")
    if not root:
        pytest.skip("SPIKING_LFP_DATA names no data root with the whole of MNIST")
    folder = Path(root) / "MNIST" / "raw"
    if not all((folder / name).is_file() for name in IDX_FILES):
        pytest.skip(f"the whole of MNIST is not in {folder}")
    return folder


@pytest.fixture(scope="session")
def digits() -> Arrays:
    """20 train and 10 test images of random pixels, by file name."""
    rng = np.random.default_rng(7)
    arrays = []
    for count in (20, 10):
        arrays += [rng.integers(0, 256, (count, 28, 28)), rng.permutation(count) % 10]
    return dict(zip(IDX_FILES, arrays, strict=True))


@pytest.fixture(scope="session")
def write_idx(digits: Arrays) -> Callable[[Path], Path]:
    """Write the four idx files into a folder, and return it."""

    def write(folder: Path) -> Path:
        folder.mkdir(parents=True)
        for name, array in digits.items():
            (folder / name).write_bytes(idx_bytes(array))
        return folder

    return write


@pytest.fixture
def mnist_root(tmp_path: Path, write_idx: Callable[[Path], Path]) -> Path:
    """A data root that has a small `mnist`."""
    write_idx(tmp_path / "MNIST" / "raw")
    return tmp_path


@pytest.fixture(params=["cifar10", "cifar100"])
def cifar(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallCifar:
    return SmallCifar(request.param, tmp_path, monkeypatch)
