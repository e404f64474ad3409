"""What each kind of target teaches: small networks on the digits that come with the package, a few hundred updates."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spiking_lfp import (
    LI,
    LIF,
    AdaptiveClip,
    Flatten,
    PopulationReadout,
    constant,
    logit_reward,
    propagate,
    softmax_reward,
    spike_count_reward,
    spike_rate_reward,
    squared_error_reward,
)
from spiking_lfp.data import load_dataset

STEPS = 6
Digits = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def digits() -> tuple[Digits, Digits]:
    """Images [N, 1, 28, 28] in 0..1 and labels, 4,000 for training and 500 for testing."""
    data = load_dataset("mnist-subset")
    return (data.train_images[:4000].float() / 255, data.train_labels[:4000]), (
        data.test_images[:500].float() / 255,
        data.test_labels[:500],
    )


def shown(x: Tensor) -> Tensor:
    """Images [N, C, H, W] in every step; sequences [T, N, C, H, W] as they are."""
    return constant(x, STEPS) if x.dim() == 4 else x


def mlp(inputs: int, *last: nn.Module) -> nn.Sequential:
    return nn.Sequential(Flatten(), LIF(nn.Linear(inputs, 60)), *last)


def learn(
    network: nn.Module,
    samples: int,
    batch: Callable[[Tensor], tuple[Tensor, Tensor]],
    reward: Callable[[Tensor, Tensor], Tensor],
    epochs: int = 1,
    size: int = 64,
) -> None:
    """Train on `batch(indices)`, inputs and targets, as the package does."""
    optimizer, clip = torch.optim.Adam(network.parameters(), 3e-3), AdaptiveClip(network.parameters(), 0.01)
    updates = epochs * (samples // size)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.05, updates)
    for _ in range(epochs):
        for indices in torch.randperm(samples)[: samples // size * size].split(size):
            x, targets = batch(indices)
            outputs = network(shown(x))
            optimizer.zero_grad()
            propagate(outputs, reward(outputs, targets) / len(outputs))
            clip()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def answers(network: nn.Module, x: Tensor) -> Tensor:
    """The mean output over time."""
    mean: Tensor = network(shown(x)).mean(0)
    return mean


@pytest.mark.parametrize("reward", [spike_count_reward, logit_reward])
def test_several_labels(digits: tuple[Digits, Digits], reward: Any) -> None:
    """Two digits in one image, side by side and overlapping; which two?"""

    def pairs(x: Tensor, y: Tensor, others: Tensor) -> Digits:
        images = torch.zeros(len(x), 1, 28, 40)
        images[..., :28] = x
        images[..., 12:] = torch.maximum(images[..., 12:], x[others])
        labels = torch.zeros(len(x), 10)
        labels.scatter_(1, torch.stack([y, y[others]], 1), 1)
        return images, labels

    (train, test), random = digits, torch.Generator().manual_seed(0)
    (x, y), (test_x, test_y) = (pairs(*each, torch.randperm(len(each[0]), generator=random)) for each in (train, test))
    analogue = reward is logit_reward
    network = mlp(28 * 40, LI(nn.Linear(60, 10)) if analogue else LIF(nn.Linear(60, 10)))
    learn(network, len(x), lambda rows: (x[rows], y[rows]), reward, epochs=2)
    found = answers(network, test_x) > (0 if analogue else 0.5)
    right = (found * test_y).sum()
    f1 = 2 * right / (found.sum() + test_y.sum())
    assert f1 > 0.5  # all labels of every image: 0.31


def test_populations_learn_with_every_neuron(digits: tuple[Digits, Digits]) -> None:
    (x, y), (test_x, test_y) = digits
    network = mlp(784, LIF(nn.Linear(60, 50)), PopulationReadout(5))
    before = network[-2].synapse.weight.detach().clone()
    learn(network, 4000, lambda rows: (x[rows], y[rows]), spike_count_reward)
    assert (answers(network, test_x).argmax(1) == test_y).float().mean() > 0.75
    assert (network[-2].synapse.weight != before).any(1).all()


def test_class_weights_make_rare_classes_count(digits: tuple[Digits, Digits]) -> None:
    """A twelfth of the digits 5 to 9 is kept."""
    (x, y), (test_x, test_y) = digits
    kept = ((y < 5) | (torch.arange(len(y)) % 12 == 0)).nonzero()[:, 0]
    counts = y[kept].bincount(minlength=10)
    recalls = []
    for weights in (None, len(kept) / (10 * counts)):
        torch.manual_seed(0)
        network = mlp(784, LIF(nn.Linear(60, 10)))
        reward = partial(spike_count_reward, class_weights=weights)
        learn(network, len(kept), lambda rows: (x[kept[rows]], y[kept[rows]]), reward, epochs=2)
        found = answers(network, test_x).argmax(1)
        recalls.append([(found[test_y == label] == label).float().mean().item() for label in range(10)])
    rare = [sum(each[5:]) / 5 for each in recalls]
    assert rare[1] > rare[0] + 0.1
    assert sum(recalls[1]) > sum(recalls[0])


def test_a_label_for_every_pixel(digits: tuple[Digits, Digits]) -> None:
    """Which pixels of ink belong to a 0, and which to a 1? Paper earns nothing."""

    def scenes(x: Tensor, y: Tensor, count: int) -> Digits:
        (few,) = ((y == 0) | (y == 1)).nonzero(as_tuple=True)
        pairs = few[torch.randint(len(few), (2, count))]
        images = torch.cat([*x[pairs]], 3)[:, :, ::2, ::2]
        labels = y[pairs].T[:, None].repeat_interleave(14, 2).expand(-1, 14, -1)
        return images, torch.where(images[:, 0] > 0.3, labels, 255)

    (x, y), (test_x, test_y) = (scenes(*each, count) for each, count in zip(digits, (800, 100), strict=True))
    network = nn.Sequential(
        LIF(nn.Conv2d(1, 12, 5, padding=2), threshold=0.3),
        LIF(nn.Conv2d(12, 12, 5, padding=2), threshold=0.3),
        LI(nn.Conv2d(12, 2, 1)),
    )
    learn(network, len(x), lambda rows: (x[rows], y[rows]), partial(softmax_reward, ignore=255), size=16)
    found, ink = answers(network, test_x).argmax(1), test_y != 255
    most = test_y[ink].bincount().max() / ink.sum()
    assert most < 0.7
    assert (found == test_y)[ink].float().mean() > most + 0.08


@pytest.mark.parametrize("kind", ["windows of spikes", "membranes in every step"])
def test_labels_that_change_with_time(digits: tuple[Digits, Digits], kind: str) -> None:
    """One digit for six steps, then another; which is it now? After a change two steps earn nothing."""
    (train, test), half = digits, 6

    def sequences(x: Tensor, y: Tensor, rows: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        images = torch.stack([x[rows], x[others]]).repeat_interleave(half, 0)
        return images, torch.stack([y[rows], y[others]])

    by_step = kind == "membranes in every step"
    network = mlp(784, LI(nn.Linear(60, 10), 0.6) if by_step else LIF(nn.Linear(60, 10)))

    def reward(outputs: Tensor, labels: Tensor) -> Tensor:
        if not by_step:
            return spike_rate_reward(outputs, labels, window=half)
        every = labels.repeat_interleave(half, 0)
        every[[0, 1, half, half + 1]] = -1
        return softmax_reward(outputs, every, ignore=-1, window=1)

    learn(network, 4000, lambda rows: sequences(*train, rows, torch.randint(4000, rows.shape)), reward)
    images, labels = sequences(*test, torch.arange(500), torch.randperm(500))
    with torch.no_grad():
        outputs = network(images)
    found = outputs[[half - 1, 2 * half - 1]] if by_step else outputs.unflatten(0, (2, half)).sum(1)
    assert ((found.argmax(2) == labels).float().mean(1) > 0.6).all()


@pytest.mark.parametrize("kind", ["membrane", "rate"])
def test_regression(digits: tuple[Digits, Digits], kind: str) -> None:
    """By how many pixels, -6 to 6, is the digit moved sideways?"""

    def moved(x: Tensor, count: int) -> Digits:
        by = torch.randint(-6, 7, (count,))
        return torch.stack([image.roll(int(shift), 2) for image, shift in zip(x, by, strict=False)]), by[:, None] / 6

    (x, y), (test_x, test_y) = moved(digits[0][0], 4000), moved(digits[1][0], 500)
    if kind == "membrane":
        network = mlp(784, LI(nn.Linear(60, 1)))
        learn(network, 4000, lambda rows: (x[rows], y[rows]), squared_error_reward, epochs=2)
        found = answers(network, test_x)
    else:
        network = mlp(784, LIF(nn.Linear(60, 1)))
        learn(network, 4000, lambda rows: (x[rows], (y[rows] + 1) / 2), spike_rate_reward, epochs=2)
        found = 2 * answers(network, test_x) - 1
    assert 1 - (found - test_y).square().mean() / test_y.var() > 0.9  # R squared
