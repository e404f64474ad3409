"""What a run of `fit` answers, and how it is loaded and goes on."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset

import spiking_lfp as lfp
from helpers.own_networks import ENCODED, LABELS, PAIR, SMALL, VALUES, Skip, network, weights
from helpers.small_runs import Sigterm
from spiking_lfp.errors import RunError, RunStopped, UsageError
from spiking_lfp.training import fit, load_run
from spiking_lfp.training.results import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(network(), PAIR, PAIR, out=tmp_path_factory.mktemp("fit") / "run", class_names=["less", "more"], **SMALL)


def test_a_run_answers_for_itself(run: Run) -> None:
    assert [line["epoch"] for line in run.history] == [1, 2]
    evaluated, predicted = run.evaluate(PAIR), run.predict(VALUES)
    assert evaluated.accuracy == run.history[-1]["test"]["accuracy"]
    assert torch.equal(evaluated.predictions, predicted.labels)
    expected = torch.zeros(2, 2, dtype=torch.int64)
    for label, answer in zip(LABELS.tolist(), predicted.labels.tolist(), strict=True):
        expected[label, answer] += 1
    assert torch.equal(evaluated.confusion, expected)
    assert evaluated.class_accuracy.tolist() == [float(expected[k, k] / expected[k].sum()) for k in range(2)]
    assert predicted.names == [("less", "more")[label] for label in predicted.labels.tolist()]
    spikes = run.network(lfp.constant(VALUES, 4))
    assert torch.equal(predicted.scores, spikes.detach().mean(0))


@pytest.mark.parametrize("kind", [np.int64, np.int16, np.uint16, np.float32, np.float64, np.bool_])
def test_values_mean_what_those_of_the_training_meant(kind: Any, tmp_path: Path) -> None:
    """A network that was trained on uint8 takes integers as pixels and real numbers as 0 to 1, or refuses them."""
    pixels = (VALUES * 255).byte()
    found = fit(network(), (pixels, LABELS), (pixels, LABELS), out=tmp_path / "run", **SMALL)
    expected = found.predict(pixels).scores
    assert found.data.pixels
    if kind is np.bool_:
        binary = (pixels > 99).numpy()
        assert torch.equal(found.predict(binary).scores, found.predict(binary.astype(np.uint8) * 255).scores)
        return
    given = pixels.numpy().astype(kind)
    if np.issubdtype(kind, np.integer):
        assert torch.equal(found.predict(given).scores, expected)
        assert found.evaluate((given, LABELS)).accuracy == found.evaluate((pixels, LABELS)).accuracy
        too_much = given * 2
    else:
        torch.testing.assert_close(found.predict(given / 255).scores, expected)
        too_much = given
    for ask in (found.predict, lambda values: found.evaluate((values, LABELS))):
        with pytest.raises(UsageError, match="the network was trained on pixels: give integers 0 to 255, or real"):
            ask(too_much)
    with pytest.raises(UsageError, match="the network was trained on pixels"):
        fit(network(), (pixels, LABELS), (too_much, LABELS), out=tmp_path / "other", **SMALL)
    assert not (tmp_path / "other").exists()


def test_pixels_of_images_and_loaders_are_known_too(tmp_path: Path) -> None:
    pixels = (VALUES * 255).byte()
    images = pixels.view(23, 1, 2, 3)
    np.savez(tmp_path / "images.npz", x=np.repeat(images.numpy(), 2, 0), y=np.repeat(LABELS.numpy(), 2))
    small = {**SMALL, "hidden": (8,), "threshold": 0.2}
    loader = DataLoader(TensorDataset(pixels, LABELS), 5)
    for found, values in (
        (fit("mlp", str(tmp_path / "images.npz"), out=tmp_path / "a", **small), images),
        (fit(network(), loader, loader, out=tmp_path / "b", **SMALL), pixels),
    ):
        assert found.data.pixels
        assert torch.equal(found.predict(values.long()).scores, found.predict(values).scores)
        with pytest.raises(UsageError, match="the network was trained on pixels"):
            found.predict(values.float())


def test_counts_of_sequences_are_no_pixels(tmp_path: Path) -> None:
    counts = torch.randint(0, 5, (23, 4, 6), dtype=torch.uint8)
    settings = {**SMALL, "steps": 0, "encoding": "sequence"}
    assert not fit(network(), (counts, LABELS), (counts.float(), LABELS), out=tmp_path / "run", **settings).data.pixels


def test_no_values_have_no_answers(run: Run) -> None:
    assert run.predict(VALUES[:0]).scores.shape == (0, 2)


def test_a_run_is_loaded_in_one_line(run: Run, tmp_path: Path) -> None:
    for path in (run.folder, str(run.folder)):
        loaded = load_run(path)
        assert weights(loaded.network) == weights(run.network)
        assert loaded.class_names == ("less", "more")
        assert torch.equal(loaded.predict(VALUES.numpy()).scores, run.predict(VALUES).scores)
        assert weights(lfp.load(path)) == weights(run.network)
    assert not any(module.training for module in loaded.network.modules())
    given = Skip()
    assert weights(load_run(run.folder, network=given).network) == weights(run.network)
    with pytest.raises(RunError, match=r"there is no .*: give the folder of a run"):
        lfp.load(tmp_path / "nowhere")


def test_a_network_that_cannot_be_stored_is_told_of_and_given_again(tmp_path: Path) -> None:
    module = network()
    module.helper = lambda x: x
    with pytest.warns(UserWarning, match="the network itself cannot be stored"):
        fit(module, PAIR, PAIR, out=tmp_path / "run", **SMALL)
    with pytest.raises(RunError, match="stores no network of its own: give load_run"):
        load_run(tmp_path / "run")
    assert weights(load_run(tmp_path / "run", network=network(5)).network) == weights(module)


def test_a_network_that_differs_from_that_of_the_run_is_told_how(tmp_path: Path) -> None:
    def pruned() -> Skip:
        module = network()
        prune.l1_unstructured(module.entry.synapse, "weight", 0.5)
        return module

    with pytest.warns(UserWarning, match="the network itself cannot be stored"):
        fit(pruned(), PAIR, PAIR, out=tmp_path / "pruned", **SMALL)
    fit(network(), PAIR, PAIR, out=tmp_path / "whole", **SMALL)
    assert load_run(tmp_path / "pruned", network=pruned()).history
    weight, others = "entry.synapse.weight", "and 1 more"
    like = "in the same layers as that of the run"
    less = network()
    del less.block
    for folder, given, sentence in (
        ("pruned", network(), f"has {weight}_orig {others} and lacks {weight}: give a network pruned {like}"),
        ("whole", pruned(), f"has {weight} and lacks {weight}_orig {others}: give a network pruned {like}"),
        ("whole", less, "has block.beta and 3 more: give a network like that of the run"),
        ("whole", Skip(width=9), "entry.synapse.weight is [8, 6], expected [9, 6]"),
    ):
        with pytest.raises(RunError, match=r"^the checkpoint in .* does not fit its settings: ") as caught:
            load_run(tmp_path / folder, network=given)
        assert str(caught.value).endswith(sentence)


class Bad:
    """Would print if it were made."""

    def __reduce__(self) -> Any:
        return print, ("executed",)


@pytest.mark.parametrize("inside", ["function", "other class"])
def test_nothing_but_modules_is_made_from_a_stored_network(
    inside: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for path in run.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    module = network()
    module.extra = Bad() if inside == "function" else subprocess.CompletedProcess([], 0)  # type: ignore[assignment]
    torch.save(module, folder / "network.pt")
    with pytest.raises(RunError, match=r"cannot load .*network\.pt"):
        load_run(folder)
    assert "executed" not in capsys.readouterr().out


def test_resuming_needs_the_same_settings_data_and_network(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(RunStopped):
        fit(network(), PAIR, PAIR, out=folder, callbacks=[Sigterm(1, 2)], **SMALL)
    message = f"the checkpoint in {folder} was trained with lr = 0.001, but config.toml or the call says 0.5: put "
    with pytest.raises(RunError, match=f"^{message}the old value back, or train again$"):
        fit(network(), PAIR, PAIR, out=folder, resume=True, lr=0.5, **SMALL)
    other = (VALUES.flip(0), LABELS)
    with pytest.raises(RunError, match="other samples or labels"):
        fit(network(), other, other, out=folder, resume=True, **SMALL)
    with pytest.raises(
        RunError, match=r"trained with Linear\(.*out_features=8.*\) as layer entry.synapse, which is Linear"
    ):
        fit(Skip(width=9), PAIR, PAIR, out=folder, resume=True, **SMALL)
    with pytest.raises(RunError, match=r"trained on classes named 0, 1, they are named less, more now"):
        fit(network(), PAIR, PAIR, out=folder, resume=True, class_names=["less", "more"], **SMALL)
    with pytest.raises(RunError, match="exists already"):
        fit(network(), PAIR, PAIR, out=folder, **SMALL)
    with pytest.raises(UsageError, match=r"network = own stands for what is given in Python: call spiking_lfp\.fit"):
        lfp.training.resume(folder)
    assert fit(network(), PAIR, PAIR, out=folder, resume=True, **SMALL).history


class Plain(lfp.Rule):
    """A rule of one's own that is no dataclass: its text is its address."""

    def gain(self, contributions: Any) -> Tensor:
        gain: Tensor = 1 / (contributions.total.abs() + 1)
        return gain


def test_a_rule_of_ones_own_is_stored_and_goes_on(tmp_path: Path) -> None:
    def module() -> Skip:
        return changed(lambda made: setattr(made.head, "rule", Plain()))

    with pytest.raises(RunStopped):
        fit(module(), PAIR, PAIR, out=tmp_path / "run", callbacks=[Sigterm(1, 2)], **SMALL)
    found = fit(module(), PAIR, PAIR, out=tmp_path / "run", resume=True, **SMALL)
    assert torch.equal(load_run(found.folder).predict(VALUES).scores, found.predict(VALUES).scores)


def changed(change: Callable[[Skip], None]) -> Skip:
    module = network()
    change(module)
    return module


CHANGES: dict[str, tuple[Callable[[Skip], Any], str]] = {
    "reset": (
        lambda module: setattr(module, "entry", lfp.LIF(module.entry.synapse, threshold=0.2, reset="zero")),
        "reset='subtract'.* as layer entry, which is .*reset='zero'",
    ),
    "rule": (lambda module: setattr(module.head, "rule", lfp.ZPlusZMinus()), "rule=Epsilon.* as layer head, which is"),
    "threshold": (
        lambda module: setattr(module, "head", lfp.LIF(module.head.synapse, threshold=0.3)),
        "threshold=0.2.*layer head",
    ),
    "frozen": (lambda module: module.entry.requires_grad_(False), "layer entry.synapse, .* weight and bias frozen now"),
    "another module": (lambda module: setattr(module, "block", nn.Sequential(module.block)), "as layer block"),
    "its mode": (lambda module: module.block.eval(), "layer block, which is .* in evaluation mode now"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_network_does_not_go_on(kind: str, tmp_path: Path) -> None:
    with pytest.raises(RunStopped):
        fit(network(), PAIR, PAIR, out=tmp_path / "run", callbacks=[Sigterm(1, 2)], **SMALL)
    change, sentence = CHANGES[kind]
    with pytest.raises(RunError, match=sentence):
        fit(changed(change), PAIR, PAIR, out=tmp_path / "run", resume=True, **SMALL)


def test_frozen_normalisation_stays_frozen(tmp_path: Path) -> None:
    def module() -> nn.Module:
        torch.manual_seed(1)
        made = nn.Sequential(
            lfp.LIF(nn.Linear(6, 8), threshold=0.2, norm=lfp.ThresholdBatchNorm(8)),
            lfp.LIF(nn.Linear(8, 2), threshold=0.2, norm=lfp.ThresholdBatchNorm(2)),
        )
        made[0].norm.eval()
        return made

    found = fit(module(), PAIR, PAIR, out=tmp_path / "run", **SMALL).network
    assert torch.equal(found[0].norm.running_mean, module()[0].norm.running_mean)
    assert not torch.equal(found[1].norm.running_mean, module()[1].norm.running_mean)


def test_only_an_encoder_of_ones_own_takes_complex_numbers(run: Run, tmp_path: Path) -> None:
    def encoder(values: Tensor) -> Tensor:
        return values.abs().expand(3, *values.shape)

    found = fit(
        network(), (VALUES + 0j, LABELS), (VALUES + 0j, LABELS), encoder=encoder, out=tmp_path / "run", **ENCODED
    )
    assert torch.equal(found.predict(VALUES * 1j).scores, found.predict(VALUES + 0j).scores)
    for values in (VALUES * 1j, (VALUES * 1j).numpy(), [VALUES[0] * 1j]):
        with pytest.raises(UsageError, match=r"the values are torch.complex64, expected real numbers: give real and"):
            run.predict(values)
