"""The small data set, by the name `small`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.small_runs import small_config, small_dataset
from spiking_lfp.data import load_dataset, samples
from spiking_lfp.training import train


@pytest.fixture(autouse=True)
def small_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "DATASET_NAMES", (*samples.DATASET_NAMES, "small"))
    monkeypatch.setattr(
        samples, "load_dataset", lambda name, *rest: small_dataset() if name == "small" else load_dataset(name, *rest)
    )


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Train with changed settings in a folder of that name, and return it."""

    def run(name: str = "run", callbacks: tuple[Any, ...] = (), **changes: Any) -> Path:
        return train(small_config(**changes), tmp_path / name, callbacks=callbacks)

    return run
