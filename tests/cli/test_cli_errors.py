"""Errors: one sentence, exit code 2 for wrong usage and 1 for failure, and nothing half-done left behind."""

import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spiking_lfp.data._files import IDX_FILES
from spiking_lfp.training import preset_names
from spiking_lfp.training.checkpoint import Checkpoint

Call = Callable[..., Any]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], f"give a preset, one of {', '.join(preset_names())}; or --network, --data, --config or --resume"),
        (["mnist-mpl"], f"unknown preset 'mnist-mpl': did you mean 'mnist-mlp'? known are {', '.join(preset_names())}"),
        (["mnist-mlp", "--data", "mnits"], "unknown data set 'mnits': did you mean 'mnist'?"),
        (["mnist-mlp", "--set", "stepz=3"], "unknown setting 'stepz': did you mean 'steps'?"),
        (["mnist-mlp", "--set", "steps"], "--set expects KEY=VALUE, found 'steps'"),
        (["mnist-mlp", "--set", "=3"], "--set expects KEY=VALUE, found '=3'"),
        (["mnist-mlp", "--set", "steps="], "setting steps = '': "),
        (["mnist-mlp", "--set", "hidden=10,x"], "setting hidden.1 = 'x': "),
        (["mnist-mlp", "--set", "beta=1.5"], "setting beta = '1.5': "),
        (["mnist-mlp", "--set", "reset=soft"], "setting reset = 'soft': "),
        (["mnist-mlp", "--set", "patience=2"], "patience needs validation greater than 0"),
        (["mnist-mlp", "--set", "hidden=0"], "setting hidden.0 = '0': Input should be greater than or equal to 1"),
        (["mnist-mlp", "--set", "preset=../x"], "preset is not a setting to change"),
        (
            ["--data", "mnist-subset", "--set", "preset=mnist-lenet"],
            "preset is only a name: give the preset itself, spiking-lfp train mnist-lenet",
        ),
        (["mnist-lenet", "--set", "channels=2,2,2"], "samples of (1, 28, 28) are too small for 3 convolutions"),
        (["mnist-mlp", "--epochs", "0"], "setting epochs = 0: "),
        (["mnist-mlp", "--lr", "nan"], "setting lr = nan: "),
        (["mnist-mlp", "--seed", "-1"], "setting seed = -1: "),
        (["mnist-mlp", "--device", "frog"], "device 'frog' is not usable here"),
    ],
)
def test_wrong_usage_is_one_sentence_and_2(words: list[str], says: str, call: Call) -> None:
    answer = call("train", *words, "--out", "run")
    assert answer.code == 2
    assert answer.error.startswith(says)
    assert list(Path().iterdir()) == []


def test_names_between_colons_are_shown_as_they_are(call: Call) -> None:
    answer = call("train", "mnist-mlp", "--network", "a:boom:.py:build", "--out", "run")
    assert answer.code == 2
    assert ":boom:" in answer.error


@pytest.mark.parametrize(
    "words", [["nonsense"], ["train", "mnist-mlp", "--nonsense"], ["train", "--epochs", "many"], ["evaluate"], []]
)
def test_words_that_are_not_understood_give_2(words: list[str], call: Call) -> None:
    answer = call(*words)
    assert answer.code == 2
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--epochs", "3"], "--resume uses the run's own settings"),
        (["--set", "lr=1"], "--resume uses the run's own settings"),
        (["--out", "elsewhere"], "--resume uses the run's own settings"),
        (["mnist-lenet"], "is a run of mnist-mlp, not of mnist-lenet"),
    ],
)
def test_resume_takes_no_other_settings(words: list[str], says: str, call: Call, finished: Path) -> None:
    before = {each.name: each.read_bytes() for each in finished.iterdir()}
    answer = call("train", "--resume", finished, *words)
    assert answer.code == 2
    assert says in answer.error
    assert {each.name: each.read_bytes() for each in finished.iterdir()} == before
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("words", [["train", "--resume"], ["evaluate"], ["info"]])
def test_what_is_no_run_gives_1(words: list[str], call: Call, finished: Path) -> None:
    assert "nowhere is not a run: expected nowhere/config.toml" in call(*words, "nowhere").error
    (finished / "checkpoint.pt").write_bytes(b"not a checkpoint")
    answer = call(*words, finished)
    assert answer.code == 1
    assert f"{finished / 'checkpoint.pt'} is damaged or not a checkpoint" in answer.error
    (finished / "checkpoint.pt").unlink()
    answer = call(*words, finished)
    assert answer.code == 1
    assert f"no checkpoint in {finished}" in answer.error
    assert list(Path().iterdir()) == []


def test_an_unwritable_folder_gives_1(call: Call, settings: list[str]) -> None:
    Path("file").touch()
    answer = call("train", *settings, "--out", "file/run")
    assert answer.code == 1
    assert answer.error.startswith("cannot create file/run: Not a directory")
    assert [each.name for each in Path().iterdir()] == ["file"]


def test_a_used_folder_gives_1(call: Call, settings: list[str], finished: Path) -> None:
    before = {each.name: each.read_bytes() for each in finished.iterdir()}
    answer = call("train", *settings, "--out", finished)
    assert answer.code == 1
    assert f"go on with --resume {finished}" in answer.error
    assert {each.name: each.read_bytes() for each in finished.iterdir()} == before


@pytest.mark.parametrize("limit", [100, 2000], ids=["settings", "checkpoint"])
def test_a_full_disk_gives_1_and_no_torn_file(limit: int, call: Call, settings: list[str]) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        answer = call("train", *settings, "--out", "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert answer.code == 1
    file = "config.toml" if limit == 100 else "checkpoint.pt"
    assert answer.error.startswith(f"cannot write run/{file}: File too large; ")
    assert list(Path().iterdir()) == []


@pytest.mark.usefixtures("no_network")
def test_missing_data_give_1_without_a_network(call: Call, settings: list[str]) -> None:
    answer = call("train", *settings, "--data-root", "data", "--out", "run")
    assert answer.code == 1
    assert "data set 'mnist' is not in data/MNIST/raw and could not be downloaded" in answer.error
    assert not Path("run").exists()
    assert [each for each in Path().rglob("*") if each.is_file()] == []


@pytest.mark.parametrize("command", ["train", "evaluate", "resume"])
def test_damaged_data_are_named(command: str, call: Call, settings: list[str], finished: Path, data_root: Path) -> None:
    shutil.copytree(data_root, "data")
    file = Path("data/MNIST/raw") / IDX_FILES[2]
    file.write_bytes(file.read_bytes()[:1000])
    words = {
        "train": ["train", *settings, "--out", "run"],
        "evaluate": ["evaluate", finished],
        "resume": ["train", "--resume", finished],
    }
    answer = call(*words[command], "--data-root", "data")
    assert answer.code == 1
    assert f"{file} is damaged: " in answer.error
    assert [each.name for each in Path().iterdir()] == ["data"]


def test_overflow_gives_1_and_the_layer(call: Call, settings: list[str]) -> None:
    answer = call("train", *settings, "--lr", "1e36", "--out", "run")
    assert answer.code == 1
    assert answer.error.startswith("layer 1: its membrane holds NaN or infinity")
    assert Checkpoint.load(Path("run")).progress.batch == 0


def test_too_little_memory_gives_1(call: Call, settings: list[str]) -> None:
    # 3 exabytes, more than any address space
    answer = call("train", *settings, "--set", f"hidden={10**15}", "--out", "run")
    assert (answer.code, answer.error) == (1, "out of memory: lower batch_size or steps, or take a smaller network")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "word", [f"batch_size={2**70}", f"steps={2**70}", f"hidden={10**18}", f"hidden={10**20}", "lr=1e38"]
)
def test_absurd_numbers_are_one_sentence(word: str, call: Call, settings: list[str]) -> None:
    answer = call("train", *settings, "--set", word, "--out", "run")
    assert answer.code in (1, 2)
    assert answer.error


def test_other_errors_are_not_hidden(call: Call, settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("spiking_lfp.training.loop.training_step", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        call("train", *settings)


def test_tensorboard_may_be_missing(call: Call, settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    answer = call("train", *settings, "--tensorboard", "--out", "run")
    assert (answer.code, answer.error) == (
        2, "TensorBoard is not installed: pip install 'spiking-lfp[tensorboard]'"
    )  # fmt: skip
    assert list(Path().iterdir()) == []


def test_evaluate_refuses_data_of_another_shape(
    call: Call, finished: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from spiking_lfp import data

    images, labels = torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.arange(4)
    other = data.ImageDataset("photos", images, labels, images, labels, tuple("abcd"))
    monkeypatch.setattr(data.samples, "load_dataset", lambda *_: other)
    answer = call("evaluate", finished)
    assert answer.code == 2
    assert "the samples of photos are [3, 32, 32], the network was trained on [1, 28, 28]" in answer.error
