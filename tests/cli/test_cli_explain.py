"""The commands explain and animate on runs of images and recordings, and what feedback of inputs adds up to."""

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from spiking_lfp import LIF, constant, plots
from spiking_lfp.nn.explain import input_feedback
from spiking_lfp.rules import Epsilon
from spiking_lfp.training import load_run, preset_config, samples_for, train

Call = Callable[..., Any]
# what the pictures of these commands were drawn from
Drawn = list[dict[str, Any]]


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with two recordings of 60 events for each digit, in the columns 3 times the digit and the next."""
    root, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(3)
    for part in ("Train", "Test"):
        for digit in range(10):
            folder = root / "NMNIST" / part / str(digit)
            folder.mkdir(parents=True)
            for number in range(2):
                records, t = np.zeros((60, 5), np.uint8), np.sort(rng.integers(0, 50_000, 60))
                records[:, 0], records[:, 1] = 3 * digit + rng.integers(0, 2, 60), rng.integers(0, 34, 60)
                records[:, 2] = (rng.integers(0, 2, 60) << 7) | (t >> 16)
                records[:, 3], records[:, 4] = (t >> 8) & 255, t & 255
                (folder / f"{number:05}.bin").write_bytes(records.tobytes())
    return root


# a hidden layer that spikes, so that there is something to hand back
LIVELY = {"hidden": "20", "steps": 4, "threshold": 0.05, "epochs": 1, "batch_size": 5}


@pytest.fixture(scope="session")
def image_run(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"data": "mnist", **LIVELY}
    return train(preset_config("mnist-mlp", settings), tmp_path_factory.mktemp("images") / "run", data_root)


@pytest.fixture(scope="session")
def event_run(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"data": "n-mnist", **LIVELY}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPIKING_LFP_CACHE", str(recordings / "cache"))
        return train(preset_config("mnist-mlp", settings), tmp_path_factory.mktemp("events") / "run", recordings)


@pytest.fixture(params=["images", "events"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, recordings: Path) -> Path:
    if request.param == "images":
        return request.getfixturevalue("image_run")
    request.getfixturevalue("call")  # which names another data root
    monkeypatch.setenv("SPIKING_LFP_DATA", str(recordings))
    monkeypatch.setenv("SPIKING_LFP_CACHE", str(recordings / "cache"))
    return request.getfixturevalue("event_run")


@pytest.fixture
def subset_run(tmp_path: Path) -> Path:
    """A run of the digits in the package."""
    settings = {"hidden": "8", "steps": 2, "batch_size": 2000, "threshold": 0.2, "epochs": 1}
    return train(preset_config("mnist-mlp", settings), tmp_path / "subset")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    calls: Drawn = []
    for name in ("explanation", "animation", "frame_strip"):
        draw = getattr(plots, name)
        monkeypatch.setattr(plots, name, lambda *args, draw=draw, name=name: (
            calls.append({"name": name, "args": args}), draw(*args)
        ))  # fmt: skip
    return calls


def is_png(path: str) -> bool:
    with Image.open(path) as image:
        image.load()
        return image.format == "PNG"


def expected(run: Path, indices: list[int], classes: list[int] | None) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, feedback and answers of test samples."""
    loaded = load_run(run, "cpu")
    network, config = loaded.network, loaded.config
    x, _ = samples_for(config).test.batch(torch.tensor(indices))
    answers = network(x).sum(0).argmax(-1).detach()
    return x, input_feedback(network, x, answers if classes is None else torch.tensor(classes)), answers


def test_explain_draws_the_feedback_of_a_sample(call: Call, run: Path, drawn: Drawn) -> None:
    answer = call("explain", run, "--sample", 3)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines()[-1].startswith("feedback for the prediction, sample 3 of ")
    assert answer.out.endswith(": explain.png\n")
    assert is_png("explain.png")
    x, feedback, _ = expected(run, [3], None)
    sequences, found, titles, _, about = drawn[0]["args"]
    assert torch.equal(sequences, x)
    assert torch.equal(found, feedback)
    assert found.any()
    assert about == "the prediction"
    assert len(titles) == 1


def test_explain_takes_another_class(call: Call, run: Path, drawn: Drawn) -> None:
    answer = call("explain", run, "--class", "7", "-o", "seven.png")
    assert answer.code == 0
    assert "feedback for class 7, sample 0 of " in answer.out
    assert is_png("seven.png")
    assert torch.equal(drawn[0]["args"][1], expected(run, [0], [7])[1])
    assert drawn[0]["args"][4] == "class 7"


def test_a_grid_has_samples_of_each_class_in_turn(call: Call, run: Path, drawn: Drawn) -> None:
    assert call("explain", run, "--grid", 12).code == 0
    # images: digits 0..9 in turn; recordings: two of each digit
    images = samples_for(load_run(run).config).test.labels[:3].tolist() == [0, 1, 2]
    indices = list(range(12)) if images else [*range(0, 20, 2), 1, 3]
    x, feedback, answers = expected(run, indices, None)
    sequences, found, titles, *_ = drawn[0]["args"]
    assert torch.equal(sequences, x)
    assert torch.equal(found, feedback)
    for title, label, answer in zip(titles, [*range(10), 0, 1], answers.tolist(), strict=True):
        assert title == (str(label) if label == answer else f"{label}\npredicted {answer}")


def test_animate_has_a_picture_for_each_step(call: Call, run: Path, drawn: Drawn) -> None:
    answer = call("animate", run, "--sample", 3, "--fps", 20)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.endswith(": sample.gif\n")
    loaded = load_run(run)
    network, config = loaded.network, loaded.config
    x, labels = samples_for(config).test.batch(torch.tensor([3]))
    sequence, spikes, names, label, _, fps = drawn[0]["args"]
    assert torch.equal(sequence, x[:, 0])
    assert torch.equal(spikes, network(x)[:, 0])
    assert (names[label], fps) == (str(labels.item()), 20)
    with Image.open("sample.gif") as image:
        assert (image.format, image.n_frames) == ("GIF", config.steps)
        assert image.info["duration"] == 50


def test_animate_can_lay_frames_side_by_side(call: Call, run: Path, drawn: Drawn) -> None:
    answer = call("animate", run, "--frames", 2)
    assert answer.code == 0
    assert is_png("frames.png")
    assert [each["name"] for each in drawn] == ["frame_strip"]
    assert drawn[0]["args"][3] == 2
    assert drawn[0]["args"][1] in answer.out


def test_the_digits_in_the_package_are_explained_and_animated(call: Call, subset_run: Path) -> None:
    assert call("explain", subset_run, "--grid", 10, "--out", "a.PNG").code == 0
    assert call("animate", subset_run, "--sample", 1999).code == 0
    assert is_png("a.PNG")
    with Image.open("sample.gif") as image:
        assert image.n_frames == 2


def test_where_no_output_spikes_there_is_no_answer(call: Call, image_run: Path, tmp_path: Path, drawn: Drawn) -> None:
    silent = Path(shutil.copytree(image_run, tmp_path / "silent"))
    state = torch.load(silent / "checkpoint.pt", weights_only=True)
    for name, values in state["network"].items():
        if name.startswith("2.synapse"):
            values.fill_(-1.0 if name.endswith("bias") else 1e-3)
    torch.save(state, silent / "checkpoint.pt")
    assert call("explain", silent).code == 0
    _, feedback, titles, *_ = drawn[0]["args"]
    assert titles == ["0\nno prediction"]
    assert not feedback.any()
    assert call("explain", silent, "--class", "4").code == 0
    assert drawn[1]["args"][1].any()
    assert call("animate", silent).out.endswith(", 0, no prediction: sample.gif\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["explain", "--sample", "30"], "sample must be 0..29, the test samples of mnist, found 30"),
        (["explain", "--sample", "-1"], "sample must be 0..29, "),
        (["explain", "--grid", "0"], "grid must be 1..30, as many as mnist has test samples, found 0"),
        (["explain", "--grid", "31"], "grid must be 1..30, "),
        (["explain", "--grid", "3", "--sample", "0"], "--sample draws one sample, --grid several: choose one"),
        (["explain", "--class", "nine"], "unknown class 'nine': "),
        (["explain", "--out", "a.gif"], "cannot write a.gif: its name must end in .png, .pdf, "),
        (["explain", "--out", "nowhere/a.png"], "cannot write nowhere/a.png, nowhere is not a folder; "),
        (["explain", "--out", "folder.png"], "cannot write folder.png, it is a folder; choose another --out"),
        (["animate", "--sample", "30"], "sample must be 0..29, "),
        (["animate", "--fps", "0"], "fps must be 0.1..50, found 0"),
        (["animate", "--fps", "50.1"], "fps must be 0.1..50, found 50.1"),
        (["animate", "--fps", "nan"], "fps must be 0.1..50, found nan"),
        (["animate", "--frames", "0"], "frames must be at least 1, found 0"),
        (["animate", "--out", "a.png"], "cannot write a.png: its name must end in .gif"),
        (["animate", "--frames", "2", "--out", "a.gif"], "cannot write a.gif: its name must end in .png, .pdf, "),
    ],
)
def test_wrong_usage_is_one_sentence_and_2(words: list[str], says: str, call: Call, finished_run: Path) -> None:
    Path("folder.png").mkdir()
    answer = call(words[0], finished_run, *words[1:])
    assert answer.code == 2
    assert answer.error.startswith(says)
    assert [each.name for each in Path().iterdir()] == ["folder.png"]


@pytest.mark.parametrize("command", ["explain", "animate"])
def test_what_is_no_run_gives_1(command: str, call: Call, finished: Path) -> None:
    assert call(command, "nowhere").error.startswith("nowhere is not a run: ")
    (finished / "checkpoint.pt").write_bytes(b"not a checkpoint")
    answer = call(command, finished)
    assert answer.code == 1
    assert "is damaged or not a checkpoint" in answer.error
    assert list(Path().iterdir()) == []


def rising(*sizes: int) -> nn.Sequential:
    """Layers of positive weights without biases and leaks, whose membranes only rise."""
    layers = []
    for inputs, outputs in pairwise(sizes):
        synapse = nn.Linear(inputs, outputs, bias=False)
        nn.init.uniform_(synapse.weight, 0.5, 1.0)
        layers.append(LIF(synapse, beta=1.0, threshold=0.4, reset="none", rule=Epsilon(1e-12)))
    return nn.Sequential(*layers).double()


def test_feedback_is_conserved_where_membranes_rise() -> None:
    x = (torch.rand(6, 3, 12) < 0.5).double()
    x[:, :, 0] = 1  # nobody may be silent: what reaches an empty membrane is lost
    found = input_feedback(rising(12, 7, 4), x, torch.tensor([0, 3, 1]))
    torch.testing.assert_close(found.sum((0, 2)), torch.ones(3).double(), rtol=1e-9, atol=0)
    assert (found >= 0).all()


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_a_layer_hands_on_no_more_than_it_got(reset: Any) -> None:
    layer = LIF(nn.Linear(9, 5, bias=False), beta=0.7, threshold=0.1, reset=reset).double()
    x = (torch.rand(8, 20, 9) < 0.5).double()
    found = input_feedback(layer, x, torch.randint(0, 5, (20,))).sum((0, 2))
    assert (found.abs() <= 1).all()
    assert (found.abs() < 0.9).any()  # membranes leak, and inputs cancel out


def test_inputs_that_never_change_get_what_they_would_step_by_step() -> None:
    network = nn.Sequential(LIF(nn.Linear(6, 9), threshold=0.2), LIF(nn.Linear(9, 3), threshold=0.2)).double()
    x, classes = constant(torch.rand(4, 6).double(), 5), torch.tensor([0, 1, 2, 0])
    found = input_feedback(network, x, classes)
    assert found.any()
    torch.testing.assert_close(found, input_feedback(network, x.clone(), classes), rtol=1e-12, atol=1e-15)


def test_feedback_of_inputs_does_not_need_gradients_to_be_on() -> None:
    network, x = rising(4, 3), torch.ones(2, 1, 4).double()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        found = input_feedback(network, x, torch.tensor([1]))
    assert found.any()
    assert not found.requires_grad


@pytest.mark.parametrize("kind", ["rows", "images"])
def test_targets_that_are_no_classes_are_measured_and_explained(kind: str, call: Call, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 3, 4), dtype=np.uint8)
    pixels[:, 0, 0] = 255
    bright = (pixels[:, 1, :3] > 100).astype(np.int64)
    np.savez(tmp_path / "my.npz", x=pixels / 255 if kind == "rows" else pixels, y=bright)
    settings = [f"--set={key}={value}" for key, value in LIVELY.items()]
    assert call("train", "--network", "mlp", "--data", tmp_path / "my.npz", *settings, "--out", "run").code == 0
    answer = call("evaluate", "run")
    assert (answer.code, answer.err) == (0, "")
    assert "spikes per neuron and step" in answer.out
    assert "confusion" not in answer.out
    assert "of which there is no confusion matrix" in call("evaluate", "run", "--picture", "a.png").error
    for words in (["explain", "run"], ["explain", "run", "--grid", "3"], ["animate", "run", "--frames", "2"]):
        answer = call(*words, "--out", "a.png")
        assert (answer.code, answer.err) == (0, "")
    assert "but my has values for each output: use --frames" in call("animate", "run").error


def test_samples_without_height_and_width_are_drawn(call: Call, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 2
    np.savez(tmp_path / "rows.npz", x=(rng.random((40, 6)) + labels[:, None]).astype(np.float32) / 2, y=labels)
    settings = [f"--set={key}={value}" for key, value in LIVELY.items()]
    assert call("train", "--network", "mlp", "--data", tmp_path / "rows.npz", *settings, "--out", "rows").code == 0
    for words in (["explain", "rows", "--out", "a.png"], ["animate", "rows", "--out", "a.gif"]):
        answer = call(*words)
        assert (answer.code, answer.err) == (0, "")
        assert Path(words[-1]).stat().st_size > 1000
