"""Own networks and own data: arrays, data sets, loaders; resumed to the bit, loaded, asked."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import spiking_lfp as lfp
from helpers.small_runs import Sigterm, outcome
from spiking_lfp.errors import DataError, RunError, RunStopped, SpikingLFPError, UsageError
from spiking_lfp.training import fit, load_run
from spiking_lfp.training.results import Run

VALUES = torch.rand(23, 6, generator=torch.Generator().manual_seed(1))
LABELS = (VALUES[:, 0] > VALUES[:, 1]).long()
PAIR = (VALUES, LABELS)
SMALL: dict[str, Any] = {"steps": 4, "epochs": 2, "batch_size": 5, "progress": False, "log_every": 1}

# with an encoder of one's own, which says how many steps there are
ENCODED = {name: value for name, value in SMALL.items() if name != "steps"}


class Skip(nn.Module):
    """A network of one's own, with a path around a layer."""

    def __init__(self, inputs: int = 6, width: int = 8) -> None:
        super().__init__()
        self.entry = lfp.LIF(nn.Linear(inputs, width), threshold=0.2)
        self.block = lfp.LIF(nn.Linear(width, width), threshold=0.2)
        self.head = lfp.LIF(nn.Linear(width, 2), threshold=0.2)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.entry(x.flatten(2))
        out: Tensor = self.head(lfp.add(spikes, self.block(spikes)))
        return out


class Noisy(Dataset[tuple[Tensor, int]]):
    """Draws from every global generator, as augmentations do."""

    def __len__(self) -> int:
        return len(LABELS)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = torch.rand(6) + random.random() + np.random.rand()  # noqa: NPY002
        return (VALUES[index] + 0.05 * noise).clamp(0, 1), int(LABELS[index])


def network(seed: int = 0) -> Skip:
    torch.manual_seed(seed)
    return Skip()


def weights(module: nn.Module) -> list[bytes]:
    return [parameter.detach().numpy().tobytes() for parameter in module.parameters()]


GIVEN: dict[str, Callable[[], Any]] = {
    "tensors": lambda: PAIR,
    "arrays": lambda: (VALUES.double().numpy(), LABELS.numpy().astype(np.int32)),
    "decimals": lambda: (VALUES, LABELS.double()),
    "truth values": lambda: (VALUES, LABELS == 1),
    "lists": lambda: (VALUES.tolist(), LABELS.tolist()),
    "tensor data set": lambda: TensorDataset(*PAIR),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_the_same_samples_in_any_form_give_the_same_run(kind: str, tmp_path: Path) -> None:
    expected = fit(network(), PAIR, PAIR, out=tmp_path / "expected", **SMALL)
    given = GIVEN[kind]()
    found = fit(network(), given, given, out=tmp_path / "found", **SMALL)
    assert weights(found.network) == weights(expected.network)
    assert found.history[-1]["test"] == expected.history[-1]["test"]


def test_it_is_the_loop_of_the_command(tmp_path: Path) -> None:
    """By hand: the batches of the loop, the reward of the paper over T, clipped updates by Adam with a linear rate."""
    found = fit(network(), PAIR, PAIR, out=tmp_path / "run", **SMALL)
    module = network()
    optimizer = torch.optim.Adam(module.parameters(), 1e-3, fused=True)
    clip = lfp.AdaptiveClip(module.parameters(), 0.01)
    updates = 2 * 5
    for update in range(updates):
        epoch, batch = divmod(update, 5)
        order = torch.randperm(23, generator=torch.Generator().manual_seed(1_000_003 * (epoch + 1)))
        rows = order[5 * batch : 5 * batch + 5]
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - update / updates)
        optimizer.zero_grad()
        spikes = module(lfp.constant(VALUES[rows], 4))
        lfp.propagate(spikes, lfp.spike_count_reward(spikes, LABELS[rows]) / 4)
        clip()
        optimizer.step()
    for ours, theirs in zip(found.network.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def reading(kind: str) -> tuple[nn.Module, Tensor, dict[str, Any]]:
    """A network and targets of a kind, and the setting that names its reward."""
    torch.manual_seed(0)
    hidden = lfp.LIF(nn.Linear(6, 20), threshold=0.2)
    two = torch.stack([VALUES[:, 0] > 0.5, VALUES[:, 1] > 0.5], 1)
    if kind == "several labels":
        return nn.Sequential(hidden, lfp.LIF(nn.Linear(20, 2), threshold=0.2)), two.float(), {}
    if kind == "several labels by membranes":
        return nn.Sequential(hidden, lfp.LI(nn.Linear(20, 2))), two.long(), {"reward": "logit"}
    if kind == "values":
        return nn.Sequential(hidden, lfp.LI(nn.Linear(20, 1))), 4 * VALUES[:, :1], {"reward": "squared-error"}
    images = nn.Sequential(nn.Unflatten(2, (1, 2, 3)), lfp.LI(nn.Conv2d(1, 2, 1)))
    return images, (VALUES > 0.5).long().view(-1, 2, 3), {}


@pytest.mark.usefixtures("unchecked")  # with annotations checked it takes three times as long
@pytest.mark.parametrize("kind", ["several labels", "several labels by membranes", "values", "places"])
def test_other_targets_are_learned_resumed_and_asked(kind: str, tmp_path: Path) -> None:
    settings = {**SMALL, "epochs": 30, "lr": 0.03, "clip": 0.1, "steps": 8}
    module, targets, named = reading(kind)
    pair, folder = (VALUES, targets), tmp_path / "run"
    whole = fit(module, pair, pair, out=tmp_path / "whole", **settings, **named)
    with pytest.raises(RunStopped):
        fit(reading(kind)[0], pair, pair, out=folder, callbacks=[Sigterm(7, 2)], **settings, **named)
    again = fit(reading(kind)[0], pair, pair, out=folder, resume=True, **settings, **named)
    assert weights(again.network) == weights(whole.network)
    accuracies = [line["test"]["accuracy"] for line in whole.history]
    assert accuracies[-1] > max(0.8, accuracies[0])
    found = load_run(folder).evaluate(pair)
    assert found.accuracy == accuracies[-1]
    assert found.predictions.shape == found.labels.shape == targets.shape
    with pytest.raises(UsageError, match="a confusion matrix takes one class a sample"):
        _ = found.confusion


def test_rare_classes_of_a_loader_cannot_be_counted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="class_weights balanced counts class indices before it begins"):
        fit(network(), *loaders(), out=tmp_path / "run", class_weights="balanced", **SMALL)
    fit(network(), *loaders(), out=tmp_path / "run", class_weights=[1, 2], **SMALL)


def loaders(workers: int = 0, generator: bool = False) -> tuple[DataLoader[Any], DataLoader[Any]]:
    own = torch.Generator() if generator else None
    train = DataLoader(Noisy(), 5, shuffle=True, num_workers=workers, generator=own)
    return train, DataLoader(TensorDataset(*PAIR), 8)


@pytest.mark.parametrize(("workers", "generator"), [(0, False), (0, True), (2, False)])
@pytest.mark.parametrize("at", [(1, 2), (2, 2)])
def test_a_run_on_a_loader_is_resumed_to_the_bit(
    workers: int, generator: bool, at: tuple[int, int], tmp_path: Path
) -> None:
    settings = {**SMALL, "checkpoint_every": 3}
    whole = fit(network(), *loaders(workers, generator), out=tmp_path / "whole", **settings)
    torch.rand(3)
    folder = tmp_path / "run"
    with pytest.raises(RunStopped):
        fit(network(), *loaders(workers, generator), out=folder, callbacks=[Sigterm(*at)], **settings)
    torch.rand(7)
    random.random()
    resumed = fit(network(3), *loaders(workers, generator), out=folder, resume=True, **settings)
    assert weights(resumed.network) == weights(whole.network)
    assert outcome(folder) == outcome(tmp_path / "whole")


def test_the_random_numbers_of_the_user_go_on_as_if_there_were_no_loader(tmp_path: Path) -> None:
    fit(network(), PAIR, PAIR, out=tmp_path / "a", **SMALL)
    states = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002 - annotations' checks use random
    fit(network(), PAIR, PAIR, out=tmp_path / "b", **SMALL)
    expected = torch.rand(1)
    torch.set_rng_state(states[1])
    fit(network(), *loaders(), out=tmp_path / "c", **SMALL)
    assert np.array_equal(np.random.get_state()[1], states[0])  # noqa: NPY002
    assert torch.equal(torch.rand(1), expected)


def test_mixed_lengths_are_trained_as_if_each_sequence_ran_alone(tmp_path: Path) -> None:
    """One update by hand, sequence by sequence, whose updates are summed."""
    generator = torch.Generator().manual_seed(2)
    sequences = [(torch.rand(length, 6, generator=generator) < 0.5).float() for length in (3, 7, 5, 3)]
    labels = [0, 1, 1, 0]
    settings = {**SMALL, "epochs": 1, "batch_size": 4, "clip": 0, "optimizer": "sgd", "momentum": 0, "lr": 0.1}
    del settings["steps"]
    module = network().double()
    found = fit(module, (sequences, labels), (sequences, labels), out=tmp_path / "run", encoding="sequence", **settings)
    alone = network().double()
    total = [torch.zeros_like(parameter) for parameter in alone.parameters()]
    rates, correct = [], 0
    for sequence, label in zip(sequences, labels, strict=True):
        alone.zero_grad()
        spikes = alone(sequence[:, None].double())
        rates.append(float(alone.entry(sequence[:, None].double()).detach().mean()))
        correct += int(spikes.sum(0).argmax(-1)) == label
        lfp.propagate(spikes, lfp.spike_count_reward(spikes, torch.tensor([label])) / len(sequence))
        for sums, parameter in zip(total, alone.parameters(), strict=True):
            assert parameter.grad is not None
            sums += parameter.grad
    for parameter, sums, trained in zip(alone.parameters(), total, found.network.parameters(), strict=True):
        torch.testing.assert_close(trained, parameter.detach() - 0.1 * sums, rtol=1e-12, atol=1e-12)
    [line] = found.history
    assert line["train"]["spike_rates"]["entry"] == pytest.approx(sum(rates) / 4)
    assert line["train"]["accuracy"] == correct / 4
    together = found.predict([sequence.numpy() for sequence in sequences]).scores
    each = torch.cat([found.predict(sequence[None]).scores for sequence in sequences])
    assert torch.equal(together, each)


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


class Counted(IterableDataset[tuple[Tensor, int]]):
    """Says another length than it has."""

    def __init__(self, says: int) -> None:
        self.says = says

    def __len__(self) -> int:
        return self.says

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return iter(zip(VALUES, LABELS.tolist(), strict=True))


@pytest.mark.filterwarnings("ignore:Length of IterableDataset:UserWarning")
@pytest.mark.parametrize(("says", "batches"), [(15, 3), (30, 6)])
def test_a_loader_of_another_length_than_it_says_is_told_of(says: int, batches: int, tmp_path: Path) -> None:
    given = DataLoader(Counted(says), 5), DataLoader(TensorDataset(*PAIR), 5)
    sentence = f"the data loader yields 5 batches in an epoch, its length says {batches}; give its data set"
    with pytest.warns(UserWarning, match=sentence):
        found = fit(network(), *given, out=tmp_path / "run", schedule="constant", **SMALL)
    assert found.history[-1]["train"]["samples"] == 23
    if batches < 5:
        with pytest.raises(DataError, match="schedule one-cycle ends before the epoch: the data loader yields more"):
            fit(network(), *given, out=tmp_path / "cycle", schedule="one-cycle", **SMALL)


@pytest.mark.parametrize(
    ("third", "settings", "sentence"),
    [
        (torch.arange(23), {}, "encoding 'constant' makes 4 steps of every sample; leave it out"),
        (
            torch.full((23,), 1.5),
            {"encoding": "sequence"},
            r"one integer from 1 to 3 a sample, found torch.float32 \[5\]",
        ),
        (
            torch.arange(23),
            {"encoding": "sequence"},
            r"one integer from 1 to 3 a sample, found torch.int64 \[5\], 0 to 4",
        ),
        (torch.ones(23, 2).long(), {"encoding": "sequence"}, r"found torch.int64 \[5, 2\], 1 to 1"),
    ],
)
def test_a_third_tensor_that_is_no_lengths_is_refused(
    third: Tensor, settings: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    values = torch.stack([VALUES] * 3, 1) if settings else VALUES
    loader = DataLoader(TensorDataset(values, LABELS, third), 5)
    with pytest.raises(DataError, match=f"a third tensor in the batches of data is the lengths.*{sentence}"):
        fit(
            network(),
            loader,
            loader,
            out=tmp_path / "run",
            **{**SMALL, **({"steps": 0} if settings else {})},
            **settings,
        )
    assert not (tmp_path / "run").exists()


class Annealing(lfp.training.Callback):
    """Changes constants while the network learns, and stops once."""

    def start(self, run: Any) -> None:
        self.network = run.network

    def epoch(self, metrics: dict[str, Any]) -> None:
        self.network.entry.threshold.mul_(0.9)
        self.network.head.requires_grad_(False)


def test_constants_that_a_callback_changes_do_not_stand_in_the_way_of_going_on(tmp_path: Path) -> None:
    with pytest.raises(RunStopped):
        fit(network(), PAIR, PAIR, out=tmp_path / "run", callbacks=[Annealing(), Sigterm(2, 2)], **SMALL)
    found = fit(network(), PAIR, PAIR, out=tmp_path / "run", callbacks=[Annealing()], resume=True, **SMALL)
    assert found.network.entry.threshold.item() == pytest.approx(0.2 * 0.9)


class Writing(lfp.training.Callback):
    """Writes into the folder of the run when it starts."""

    def start(self, run: Any) -> None:
        (run.folder / "more").mkdir()
        (run.folder / "more" / "events.txt").touch()


class Strange(nn.Module):
    """Runs once, for the shape of its outputs, and then returns another."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = lfp.LIF(nn.Linear(6, 2), threshold=0.2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out[:, :, :1] if self.training else out


def test_what_fails_in_the_first_batch_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SpikingLFPError):
        fit(Strange(), PAIR, PAIR, out=tmp_path / "run", callbacks=[Writing()], **SMALL)
    assert not (tmp_path / "run").exists()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpikingLFPError):
        fit(Strange(), PAIR, PAIR, out=tmp_path / "link", callbacks=[Writing()], **SMALL)
    assert list((tmp_path / "link").iterdir()) == []


def mono() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(lfp.LIF(nn.Linear(6, 8), threshold=0.2), lfp.MonoReadout(8, 2, hidden=(8,)))


def test_mono_readouts_train_by_name_and_in_networks_of_ones_own(tmp_path: Path) -> None:
    by_name = fit("mlp", PAIR, PAIR, out=tmp_path / "name", readout="mono", hidden=(8,), readout_hidden=(5,), **SMALL)
    inside = fit(mono(), PAIR, PAIR, out=tmp_path / "inside", **SMALL)
    replaced = nn.Sequential(lfp.LIF(nn.Linear(6, 8), threshold=0.2), lfp.LIF(nn.Linear(8, 2)))
    instead = fit(replaced, PAIR, PAIR, out=tmp_path / "instead", readout="mono", readout_hidden=(5,), **SMALL)
    for run in (by_name, inside, instead):
        assert torch.equal(load_run(run.folder).predict(VALUES).scores, run.predict(VALUES).scores)
    with pytest.raises(UsageError, match="a mono readout learns by cross-entropy, found reward spike-rate"):
        fit(mono(), PAIR, PAIR, out=tmp_path / "reward", reward="spike-rate", **SMALL)


class Endless(IterableDataset[tuple[Tensor, int]]):
    """Has no length."""

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        yield VALUES[0], 0


REFUSED: list[tuple[dict[str, Any], type[SpikingLFPError], str]] = [
    ({"train": VALUES}, DataError, "train is Tensor|values"),
    ({"train": 3}, DataError, r"train is int, expected a pair \(values, labels\)"),
    ({"train": (VALUES, LABELS[:-1])}, DataError, r"train has values \[23, 6\] and labels \[22\]"),
    ({"train": (VALUES[:0], LABELS[:0])}, DataError, "train has no samples"),
    ({"train": (VALUES, LABELS + 1)}, DataError, r"labels of train go from 1 to 2, the network has 2 outputs"),
    ({"train": (VALUES, LABELS + 0.5)}, DataError, r"labels of train hold ..5, expected class indices: number classes"),
    ({"test": (VALUES, LABELS - 1)}, DataError, "labels of test go from -1 to 0"),
    ({"train": (VALUES / 0, LABELS)}, DataError, "values of train hold NaN or infinity"),
    ({"train": (VALUES + 1j, LABELS)}, DataError, "values of train are torch.complex64, expected real numbers: give"),
    ({"test": (VALUES.numpy() * 1j, LABELS)}, DataError, "values of test are torch.complex64, expected real numbers"),
    ({"train": (VALUES, LABELS + 0j)}, DataError, "labels of train are torch.complex64, expected real numbers"),
    (
        {"train": DataLoader(TensorDataset(VALUES + 1j, LABELS)), "batch_size": None},
        UsageError,
        "the values are torch.complex64",
    ),
    ({"train": (["a", "b"], [0, 1])}, DataError, "are list, expected numbers"),
    ({"train": ([[1.0], [1.0, 2.0]], [0, 1])}, DataError, "have different shapes: give encoding='sequence'"),
    ({"train": DataLoader(Endless()), "batch_size": None}, DataError, "without a length"),
    (
        {"train": DataLoader(TensorDataset(VALUES), 4), "batch_size": None},
        DataError,
        r"is \(Tensor\), expected tensors \(values, labels\)",
    ),
    ({"test": None}, UsageError, "test is None: give samples for evaluation, or hold out some"),
    ({"class_names": ["a"]}, UsageError, "1 class_names, the network has 2 outputs"),
    ({"callbacks": [print]}, UsageError, "a callback is builtin_function_or_method, without a method start"),
    ({"network": network().requires_grad_(False)}, UsageError, "nothing in the network learns: it has no parameters"),
    (
        {"network": nn.DataParallel(network())},
        UsageError,
        "is wrapped by DataParallel, .*: give network.module, the one",
    ),
    ({"network": nn.Sequential(nn.Identity())}, UsageError, "nothing in the network learns: it has no parameters"),
    ({"class_names": "ab"}, UsageError, "1 class_names, the network has 2 outputs"),
    ({"hidden": (3,)}, UsageError, "setting hidden is for networks by name"),
    ({"network": nn.Sequential(nn.Flatten(0, 1), nn.Linear(6, 2))}, UsageError, r"returned \[4, 2\] for a sequence"),
    ({"network": "perceptron"}, UsageError, "network = 'perceptron'"),
    ({"data": "mnist"}, UsageError, "setting data is given by an argument of fit"),
    ({"epoch": 3}, UsageError, "unknown setting 'epoch': did you mean 'epochs'"),
    ({"readout": "mono"}, UsageError, "readout mono replaces the last layer of an nn.Sequential"),
    ({"class_names": ["a", "a"]}, UsageError, "class_names has 'a' more than once"),
    ({"callbacks": lfp.Callback()}, UsageError, "callbacks must be a list of objects .*, found Callback"),
    ({"callbacks": [lfp.Callback]}, UsageError, r"a callback is the class Callback, expected an object: Callback\(\)"),
    ({"optimizer": torch.optim.Adam}, UsageError, "setting optimizer = the class Adam: expected its name, a text"),
    ({"rule": lfp.Flat()}, UsageError, "setting rule = Flat: expected its name, a text"),
    (
        {"train": DataLoader(TensorDataset(*PAIR), 4)},
        UsageError,
        "setting batch_size = 5 changes nothing: .* batches of 4",
    ),
    ({"encoder": lambda values: values}, UsageError, "setting steps is given by an argument of fit: leave it out"),
    ({"reward": lfp.spike_count_reward}, UsageError, "setting reward is a function, expected a name, spike-count, .*"),
    (
        {"encoder": lambda values: values, "steps": None},
        UsageError,
        r"encoder returned \[1, 6\] for values \[1, 6\], expected a tensor",
    ),
    ({"encoder": lambda values: values.numpy(), "steps": None}, UsageError, "encoder returned ndarray for values"),
]


@pytest.mark.parametrize(("change", "error", "sentence"), REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    unchecked: None, change: dict[str, Any], error: type[Exception], sentence: str, tmp_path: Path
) -> None:
    given = {"network": network(), "train": PAIR, "test": PAIR, "out": tmp_path / "run", **SMALL, **change}
    given = {name: value for name, value in given.items() if value is not None or name == "test"}
    with pytest.raises(error, match=sentence):
        fit(given.pop("network"), given.pop("train"), given.pop("test"), **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its compiler
def test_a_compiled_network_is_refused(unchecked: None, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is wrapped by OptimizedModule, .*: give network\._orig_mod, the one inside"):
        fit(torch.compile(network()), PAIR, PAIR, out=tmp_path / "run", **SMALL)


def test_classes_without_samples_are_told_where_labels_say_how_many_there_are(tmp_path: Path) -> None:
    settings = {**SMALL, "hidden": (8,), "epochs": 1, "gain": 9.0}
    with pytest.warns(UserWarning, match=r"has 3 outputs, one for each class .* but train has no samples of class 0:"):
        fit("mlp", (VALUES, LABELS + 1), (VALUES, LABELS + 1), out=tmp_path / "gap", **settings)
    fit("mlp", (VALUES, LABELS), (VALUES, LABELS), out=tmp_path / "none", **settings)


def test_samples_are_held_out_without_a_test_set(tmp_path: Path) -> None:
    found = fit(network(), PAIR, out=tmp_path / "run", validation=0.2, patience=1, **SMALL)
    assert found.history[-1]["validation"]["samples"] == 5
    assert found.history[-1]["train"]["samples"] == 18


def test_an_encoder_of_ones_own_is_asked_for_again(tmp_path: Path) -> None:
    def encoder(values: Tensor) -> Tensor:
        return torch.stack([values, 1 - values, values])

    found = fit(network(), PAIR, PAIR, encoder=encoder, out=tmp_path / "run", **ENCODED)
    scores = found.predict(VALUES).scores
    assert torch.equal(scores, found.network(encoder(VALUES)).detach().mean(0))
    loaded = load_run(tmp_path / "run")
    with pytest.raises(UsageError, match="an encoder given in Python: give it again"):
        loaded.predict(VALUES)
    loaded.encoder = encoder
    assert torch.equal(loaded.predict(VALUES).scores, scores)


@pytest.mark.parametrize("given", [PAIR, DataLoader(TensorDataset(*PAIR), 4)], ids=["tensors", "loader"])
def test_an_encoder_with_the_batch_axis_first_is_refused_where_there_are_as_many_steps_as_samples(
    given: Any, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"encoder returned \[1, 4, 6\] for values \[1, 6\], expected .* time first"):
        fit(
            network(), given, given, encoder=lambda values: values.unsqueeze(1).repeat(1, 4, 1), out=tmp_path / "run",
            **ENCODED | {"batch_size": 4},
        )  # fmt: skip


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


NET = """
from torch import nn
import spiking_lfp as lfp
from beside import THRESHOLD

def build(in_shape, classes, width=8):
    (inputs,) = in_shape
    layers = [lfp.LIF(nn.Linear(inputs, width), threshold=THRESHOLD), lfp.LIF(nn.Linear(width, classes), threshold=0.2)]
    return nn.Sequential(*layers)

def broken():
    return 1 / 0

number = 3
def wrong():
    return number
"""


def test_a_network_is_made_by_a_function_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "beside.py").write_text("THRESHOLD = 0.2\n")
    monkeypatch.chdir(tmp_path)
    found = fit("net.py:build(width=5)", PAIR, PAIR, out="run", **SMALL)
    assert found.network[0].synapse.out_features == 5  # type: ignore[index, union-attr]
    monkeypatch.chdir("/")
    again = load_run(tmp_path / "run")
    assert weights(again.network) == weights(found.network)
    for source, sentence in {
        f"{tmp_path}/net.py:broken": r"ZeroDivisionError: division by zero \(net.py, line",
        f"{tmp_path}/net.py:wrong": "returned int, expected a torch.nn.Module",
        f"{tmp_path}/net.py:missing": "has no function or class missing",
        f"{tmp_path}/none.py:build": "there is no file",
        f"{tmp_path}/net.py:build(widt=5)": "unexpected keyword argument 'widt'",
        f"{tmp_path}/net.py:build(width=open('x'))": "must be literals",
        "no_such_module:build": "No module named 'no_such_module'",
    }.items():
        with pytest.raises(UsageError, match=sentence):
            fit(source, PAIR, PAIR, out=tmp_path / "other", **SMALL)
    assert not (tmp_path / "other").exists()


COUNTED = """
from torch import nn
import spiking_lfp as lfp

with open("executions", "a") as file:
    file.write("x")
shared = nn.Linear(6, 8)

def build(in_shape, classes, hidden):
    return nn.Sequential(lfp.LIF(shared, threshold=0.2), lfp.LIF(nn.Linear(8, classes), threshold=0.2))
"""


def test_the_file_of_a_network_is_executed_once_for_each_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(COUNTED)

    def executions() -> int:
        return len(Path("executions").read_text())

    plain = fit("net.py:build", PAIR, PAIR, **SMALL)
    assert executions() == 2  # for the network that is trained, and for that of the run which is returned
    named = fit("net.py:build", PAIR, PAIR, hidden=(8,), **SMALL)
    assert executions() == 4
    # what the file makes at random is the same whether it was asked for its arguments before or not, and not shared
    assert weights(named.network) == weights(plain.network)
    assert named.network[0].synapse is not plain.network[0].synapse  # type: ignore[index, union-attr]
    assert weights(fit("net.py:build", PAIR, PAIR, seed=1, **SMALL).network) != weights(plain.network)
    # another content is another file
    Path("net.py").write_text(COUNTED.replace(", hidden", ""))
    with pytest.raises(UsageError, match="hidden changes nothing of network"):
        fit("net.py:build", PAIR, PAIR, hidden=(8,), **SMALL)


SCRIPT = """
import sys
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import spiking_lfp as lfp

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = lfp.LIF(nn.Linear(6, 8), threshold=0.2), lfp.LIF(nn.Linear(8, 2), threshold=0.2)

    def forward(self, x):
        return self.b(self.a(x))

torch.manual_seed(0)
values = torch.rand(60, 6)
labels = (values[:, 0] > values[:, 1]).long()
train = DataLoader(TensorDataset(values, labels), 5, shuffle=True)
run = lfp.fit(Net(), train, DataLoader(TensorDataset(values, labels), 60), out=sys.argv[1], resume=True,
              steps=4, epochs=3, checkpoint_every=2, progress=False)
assert torch.equal(lfp.load(sys.argv[1]).a.synapse.weight, run.network.a.synapse.weight)
"""


def test_a_script_that_is_killed_goes_on_when_it_is_started_again(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment)
    process = subprocess.Popen([*command, str(tmp_path / "killed")], env=environment)
    try:
        while not (tmp_path / "killed" / "checkpoint.pt").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finally:
        process.wait()
    subprocess.run([*command, str(tmp_path / "killed")], check=True, env=environment)
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
