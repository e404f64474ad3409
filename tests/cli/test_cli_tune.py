"""What the search for settings says at its end."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spiking_lfp.errors import NonFiniteError
from spiking_lfp.training.loop import Trainer

Call = Callable[..., Any]


@pytest.fixture
def words(call: Call) -> list[str]:
    folder = Path("my data")
    folder.mkdir()
    np.savez(folder / "some.npz", x=np.random.default_rng(0).random((60, 6)), y=np.arange(60) % 2)
    fixed = ["data=my data/some.npz", "hidden=9", "steps=3", "epochs=1", "threshold=0.2"]
    return ["tune", "mnist-mlp", *(f"--set={each}" for each in fixed), "--search=lr=0.001..0.1", "--out=found"]


def test_the_best_settings_are_a_command(words: list[str], call: Call) -> None:
    answer = call(*words, "--trials=2")
    assert answer.code == 0
    found = shlex.split(answer.out.splitlines()[-1].partition(": spiking-lfp ")[2])
    again = call(*found, "--out", "run")
    assert (again.code, Path("run/checkpoint.pt").is_file()) == (0, True)


def test_settings_that_did_not_learn_are_not_the_best(
    words: list[str], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(run: Trainer) -> None:
        raise NonFiniteError("layer 1: its feedback holds NaN")

    monkeypatch.setattr(Trainer, "finish", breaks)
    answer = call(*words, "--trials=1")
    assert answer.code == 0
    assert "train with the best settings" not in answer.out
    assert "no trial came to an accuracy, feedback became NaN or infinite in all: search a lower lr, or" in answer.out
