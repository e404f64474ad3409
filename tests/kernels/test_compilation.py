"""Compiled kernels on disk, or without it where it cannot be used; and kernels in forked processes."""

import os
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest
from numba import njit
from numba.core.caching import CacheImpl

from helpers.processes import ENVIRONMENT
from spiking_lfp.kernels import compilation
from spiking_lfp.kernels.compilation import kernel


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which kernels are kept."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def doubling() -> Any:
    """Return a kernel as a new process has it: not compiled yet."""

    @kernel
    def double(number):  # type: ignore[no-untyped-def]
        return 2 * number

    return double


def compiles(call: Callable[[], object]) -> bool:
    """Call `call`, and return whether something was compiled."""
    heard: list[None] = []
    compilation.before_compiling(lambda: heard.append(None))
    try:
        call()
    finally:
        compilation.before_compiling(lambda: None)
    return bool(heard)


def test_compiling_is_told_once() -> None:
    told = []
    compilation.before_compiling(lambda: told.append(None))

    @njit  # not kept on disk
    def fresh(number):  # type: ignore[no-untyped-def]
        return number

    fresh(1)
    fresh(1.5)
    assert len(told) == 1


def test_what_is_on_disk_is_not_compiled(folder: Path) -> None:
    assert compiles(lambda: doubling()(2))
    assert not compiles(lambda: doubling()(2))
    assert compiles(lambda: doubling()(2.5))  # another kind of arguments


def test_kernels_are_compiled_anew_when_what_they_are_made_of_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compiles(lambda: doubling()(2))
    monkeypatch.setattr(compilation, "_parts", lambda: "other files")
    assert compiles(lambda: doubling()(2))
    assert not compiles(lambda: doubling()(2))


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:40], lambda content: bytes(200)])
def test_damaged_files_are_replaced(folder: Path, suffix: str, damage: Callable[[bytes], bytes]) -> None:
    doubling()(2)
    (path,) = folder.rglob(f"*{suffix}")
    path.write_bytes(damage(path.read_bytes()))
    again = doubling()
    assert compiles(lambda: again(2))
    assert again(3) == 6
    assert not compiles(lambda: doubling()(2))


def test_without_a_folder_that_can_be_written_kernels_run_and_one_warning_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    monkeypatch.setattr(compilation, "_unkept", [])
    first = doubling()
    with pytest.warns(UserWarning, match="compiled kernels are not kept, neither .* NUMBA_CACHE_DIR"):
        assert first(2) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert doubling()(2.5) == 5


def test_a_full_disk_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "_unkept", [])
    double, limits = doubling(), resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.warns(UserWarning, match="compiled kernels are not kept, .* cannot be written"):
            assert double(2) == 4
        assert double(2.5) == 5
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not list(folder.rglob("*.nbc"))


# Forked processes, of a parent that has run layers with several threads. pytest itself would be such a parent.

FORKS = """
import multiprocessing, os, torch
import spiking_lfp as lfp
from torch import nn

torch.set_num_threads(1)
lfp.LIF(nn.Linear(2, 2))(torch.ones(1, 1, 2))
assert torch.get_num_threads() == 1  # loading kernels starts threads of numba, and leaves torch's as they are
torch.set_num_threads(2)
layers = nn.Linear(70, 80), nn.Linear(80, 5)
network = nn.Sequential(lfp.LIF(layers[0]), lfp.RecurrentLIF(nn.Linear(80, 80)), lfp.CubaLIF(layers[1]))
integers = nn.Sequential(lfp.LIF(nn.Linear(70, 80)), lfp.LIF(nn.Linear(80, 5)))
lfp.run_in_integers(integers, 8, 1)

def outcome(index):
    torch.manual_seed(index)
    x = (torch.rand(4, 64, 70) < 0.3).float()
    network.zero_grad()
    spikes = network(x)
    lfp.propagate(spikes, lfp.spike_count_reward(spikes, torch.arange(64) % 5))
    return [float(p.grad.double().abs().sum()) for p in network.parameters()], int(integers(x).sum())

class Outcomes(torch.utils.data.Dataset):
    def __len__(self):
        return 3
    def __getitem__(self, index):
        return outcome(index)[1]

here = [outcome(index) for index in range(3)]
with multiprocessing.get_context("fork").Pool(2) as pool:
    there = pool.map(outcome, range(3))
assert [torch.tensor(a[0]).allclose(torch.tensor(b[0]), rtol=1e-4) for a, b in zip(here, there)] == [True] * 3
assert [a[1] for a in here] == [b[1] for b in there]
loader = torch.utils.data.DataLoader(Outcomes(), batch_size=None, num_workers=2, multiprocessing_context="fork")
assert list(loader) == [a[1] for a in here]
child = os.fork()
if child == 0:
    outcome(0)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert torch.get_num_threads() == 2
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_layers_run_in_forked_processes() -> None:
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", FORKS], env=environment, timeout=120, check=True)
