"""The command line in this process, a small MNIST, and a run that is finished."""

import shutil
import socket
import struct
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from spiking_lfp.cli import deploy, main
from spiking_lfp.data._files import IDX_FILES
from spiking_lfp.training import preset_config, train


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The sentence of an error, if that is all there is of it."""
        assert "Traceback" not in self.err
        assert self.err.startswith("error: ")
        assert self.err.count("\n") == 1
        return self.err.removeprefix("error: ").strip()


def write_small_mnist(folder: Path) -> None:
    """60 training and 30 test images: digit d has row 2 d lit, among noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    for (images, labels), count in zip((IDX_FILES[:2], IDX_FILES[2:]), (60, 30), strict=True):
        digits = np.arange(count) % 10
        pixels = rng.integers(0, 100, (count, 28, 28))
        pixels[np.arange(count), 2 * digits + 4] = 255
        for name, array in ((images, pixels), (labels, digits)):
            header = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
            (folder / name).write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with a small `mnist`, and the same as `fashion-mnist`."""
    root = tmp_path_factory.mktemp("data")
    for name in ("MNIST", "FashionMNIST"):
        write_small_mnist(root / name / "raw")
    return root


SMALL = {"data": "mnist", "hidden": "8", "steps": 3, "batch_size": 10, "threshold": 0.2, "epochs": 2, "log_every": 2}


@pytest.fixture(scope="session")
def settings() -> list[str]:
    """Words that make a run take a moment."""
    return ["mnist-mlp", *(f"--set={key}={value}" for key, value in SMALL.items())]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    return train(preset_config("mnist-mlp", SMALL), tmp_path_factory.mktemp("finished") / "run", data_root)


@pytest.fixture
def finished(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to do anything with."""
    return Path(shutil.copytree(finished_run, tmp_path / "finished"))


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, data_root: Path
) -> Callable[..., Answer]:
    """Call the command `spiking-lfp` with these words, in a folder of its own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("SPIKING_LFP_DATA", str(data_root))
    for module in (main, deploy):
        monkeypatch.setattr(module, "out", Console(width=400, markup=False, emoji=False))
    # this process has other tests to run
    monkeypatch.setattr("spiking_lfp.kernels.memory.reuse_freed_memory", lambda: True)

    def call(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["spiking-lfp", *map(str, words)])
        # each command is a process of its own, and what one announces is not of the next
        monkeypatch.setattr("spiking_lfp.kernels.compilation._tell", [])
        code: Any = 0
        with warnings.catch_warnings():
            try:
                main.main()
            except SystemExit as end:
                code = end.code
        shown = capsys.readouterr()
        return Answer(code, shown.out, shown.err)

    return call


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
