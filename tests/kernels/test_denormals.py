"""Numbers next to zero are taken for zero in every thread, and only while that is asked for."""

from pathlib import Path

import pytest
import torch
from torch import nn

from spiking_lfp import LIF, fit, flush_denormals
from spiking_lfp.kernels.cpu.denormals import X86
from spiking_lfp.training.loop import Callback

TINY = torch.full((1 << 20,), 1e-40)


def kept() -> float:
    """Return how much of a tensor that all threads multiply is not taken for zero."""
    return float((TINY * 0.5 != 0).float().mean())


@pytest.fixture(autouse=True)
def _restored() -> None:
    assert kept() == 1


needs_all_threads = pytest.mark.skipif(not X86, reason="torch's own switch, taken here, concerns one thread")


@needs_all_threads
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_all_threads_flush_and_stop_to(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert kept() == 1  # which starts them
        assert not flush_denormals()
        assert kept() == 0
        assert flush_denormals()
        assert flush_denormals(False)
        assert kept() == 1
    finally:
        flush_denormals(False)
        torch.set_num_threads(before)


def test_numbers_above_stay_as_they_are() -> None:
    smallest = torch.finfo(torch.float32).tiny
    flush_denormals()
    found = [float(torch.tensor(value) * 1.0) for value in (smallest, -smallest, smallest / 2, 1 + 2**-23)]
    flush_denormals(False)
    assert found == [smallest, -smallest, 0, 1 + 2**-23]


@needs_all_threads
def test_training_flushes_and_leaves_things_as_they_were(tmp_path: Path) -> None:
    found: list[float] = []

    class Watch(Callback):
        def epoch(self, metrics: object) -> None:
            found.append(kept())

    samples = torch.rand(20, 6), torch.arange(20) % 2
    layer = LIF(nn.Linear(6, 2), threshold=0.2)
    nn.init.constant_(layer.synapse.weight, 0.2)  # type: ignore[arg-type]
    settings = {"epochs": 2, "steps": 3, "out": tmp_path / "run", "progress": False, "device": "cpu"}
    fit(nn.Sequential(layer), samples, samples, callbacks=[Watch()], **settings)
    assert found == [0, 0]
    assert kept() == 1
