"""What is shown of a training."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from helpers.small_recordings import write_nmnist
from helpers.small_runs import small_config
from spiking_lfp.data import ImageDataset, Samples
from spiking_lfp.data.encoding import Encoder
from spiking_lfp.data.values import image_samples
from spiking_lfp.nn.spiking import LIF
from spiking_lfp.training import Callback, fit, preset_config, resume, train
from spiking_lfp.training.feeds import class_sizes
from spiking_lfp.training.watch import ProgressBar


def samples_of(train: list[int], test: list[int]) -> Samples:
    """Return samples of which each class has as many as the lists say."""
    labels = [
        torch.tensor([label for label, count in enumerate(counts) for _ in range(count)]) for counts in (train, test)
    ]
    images = [torch.zeros(len(each), 1, 2, 2, dtype=torch.uint8) for each in labels]
    names = tuple(f"c{label}" for label in range(len(train)))
    return image_samples(
        ImageDataset("some", images[0], labels[0], images[1], labels[1], names), Encoder("constant", 3)
    )


@pytest.mark.parametrize(
    ("train", "test", "text"),
    [
        ([4000, 4000], [6, 6], "some: 8,000 + 12 samples for training and testing, 2 classes of 4,000 + 6"),
        ([3, 5, 3], [0, 1, 1], "some: 11 + 2 samples for training and testing, 3 classes of 3 + 0 (c0) to 5 + 1 (c1)"),
    ],
)  # fmt: skip
def test_how_many_samples_a_class_has_is_shown(train: list[int], test: list[int], text: str) -> None:
    samples = samples_of(train, test)
    assert samples.class_sizes() == [(f"c{k}", *both) for k, both in enumerate(zip(train, test, strict=True))]
    assert class_sizes(samples) == text


def test_a_run_begins_with_three_lines_and_epochs_fit_80_columns(tmp_path: Path) -> None:
    values, labels = torch.rand(20, 8), torch.arange(20) % 2
    layers = [LIF(nn.Linear(8, 8), threshold=0.1) for _ in range(6)]
    out = StringIO()
    with ProgressBar(Console(file=out, width=80)) as bar:
        network = nn.Sequential(*layers, LIF(nn.Linear(8, 2), threshold=0.1))
        fit(
            network, (values, labels), (values, labels), epochs=2, out=tmp_path / "run", progress=False, callbacks=[bar]
        )
    lines = out.getvalue().splitlines()
    assert lines[0] == "data     own: 20 + 20 samples for training and testing, 2 classes of 10 + 10"
    assert lines[1] == "network  own, 450 parameters, spike-count reward"
    assert lines[2] == f"run      {tmp_path / 'run'}, on cpu"
    assert [line.split()[:2] for line in lines[3:] if line.strip()] == [["epoch", "1"], ["epoch", "2"]]
    assert max(map(len, lines[3:])) < 80


def test_train_and_resume_show_what_happens_unless_told_not_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train(small_config(), tmp_path / "shown")
    assert "\nepoch 1 " in capsys.readouterr().out
    resume(folder)
    assert "run " in capsys.readouterr().out
    resume(train(small_config(), tmp_path / "silent", progress=False), progress=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("way", ["train", "fit"])
def test_callbacks_hear_of_recordings_that_are_read(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nmnist(tmp_path / "data")
    monkeypatch.setenv("SPIKING_LFP_CACHE", str(tmp_path / "cache"))
    heard: list[tuple[int, int]] = []

    class Listener(Callback):
        def preparing(self, done: int, total: int) -> None:
            heard.append((done, total))

    settings = {"hidden": (4,), "steps": 2, "epochs": 1, "threshold": 0.01, "copies": 1, "augment": ()}
    kept: dict[str, Any] = {"out": tmp_path / "run", "data_root": tmp_path / "data", "progress": False}
    if way == "train":
        train(preset_config("nmnist-mlp", settings), callbacks=[Listener()], **kept)
    else:
        fit("mlp", "n-mnist", callbacks=[Listener()], **kept, **settings)
    assert heard[-1] == (40, 40)
