"""Runs whose checks and counts wait until they are looked at, as on a GPU, and settings of the process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from helpers.small_runs import outcome
from spiking_lfp import checks
from spiking_lfp.errors import NonFiniteError
from spiking_lfp.kernels import registry
from spiking_lfp.training import Meter, loop
from spiking_lfp.training.watch import ProgressBar

Run = Callable[..., Path]


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_first_failures", {})
    monkeypatch.setattr(checks, "_check_numbers", {})
    monkeypatch.setattr(registry, "device_of", lambda tensor: None)


def as_on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "is_deferred", lambda device: True)


@pytest.mark.parametrize("network", ["mlp", "lenet"])
def test_a_run_comes_to_the_same(network: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"network": network, "checkpoint_every": 1, "log_every": 2}
    plain = outcome(run("plain", **settings))
    as_on_gpu(monkeypatch)
    assert outcome(run("later", **settings)) == plain


@pytest.mark.parametrize(("log_every", "last"), [(1, 2), (3, 3), (100, 3)])
def test_nan_stops_a_run_where_it_is_looked_at(
    log_every: int, last: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_on_gpu(monkeypatch)
    original, taken = loop.training_step, []

    def poisoned(network: Any, *arguments: Any) -> None:
        taken.append(1)
        if len(taken) == 2:
            with torch.no_grad():
                network[1].synapse.weight[0] = torch.nan
        original(network, *arguments)

    monkeypatch.setattr(loop, "training_step", poisoned)
    with pytest.raises(NonFiniteError, match=r"^layer 1: its membrane"):
        run(log_every=log_every)
    assert len(taken) == last


def test_the_bar_reads_the_meter_now_and_then() -> None:
    read = []

    class Counted(Meter):
        def summary(self) -> dict[str, object]:
            read.append(self.samples)
            return super().summary()

    with ProgressBar(Console(quiet=True)) as bar:
        for batch in range(1, 1001):
            bar.batch(1, batch, 1000, Counted(samples=batch))
    assert read[-1] == 1000
    assert len(read) < 100


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_products_of_a_run_are_as_exact_as_its_settings_say(
    precision: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = loop.training_step, set()

    def look(*arguments: Any) -> None:
        seen.add(torch.backends.mkldnn.matmul.fp32_precision)
        original(*arguments)

    monkeypatch.setattr(loop, "training_step", look)
    before = torch.backends.mkldnn.matmul.fp32_precision
    run(precision=precision)
    assert seen == {"ieee" if precision == "highest" else "bf16"}
    assert torch.backends.mkldnn.matmul.fp32_precision == before
