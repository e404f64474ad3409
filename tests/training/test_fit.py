"""Own networks and own data: arrays, data sets and loaders give the same run, resumed to the bit."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import spiking_lfp as lfp
from helpers.own_networks import LABELS, PAIR, SMALL, VALUES, network, weights
from helpers.small_runs import Sigterm, outcome
from spiking_lfp.errors import RunStopped, UsageError
from spiking_lfp.training import fit, load_run


class Noisy(Dataset[tuple[Tensor, int]]):
    """Draws from every global generator, as augmentations do."""

    def __len__(self) -> int:
        return len(LABELS)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = torch.rand(6) + random.random() + np.random.rand()  # noqa: NPY002
        return (VALUES[index] + 0.05 * noise).clamp(0, 1), int(LABELS[index])


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
