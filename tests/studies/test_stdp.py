"""R-STDP against the equations written out, spike by spike, and a network that it trains."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from spiking_lfp import LIF, UsageError, constant
from spiking_lfp.data import ArraySplit, Samples
from spiking_lfp.nn.networks import stack
from spiking_lfp.studies.surrogate_comparison.stdp import RewardSTDPTrainer, eligibility
from spiking_lfp.training.config import checked_config
from spiking_lfp.training.feeds import MemoryData

T, B = 6, 3


def random_spikes(*shape: int) -> torch.Tensor:
    return (torch.rand(shape) < 0.4).double()


def test_a_dense_layer_gets_every_pair_of_spikes() -> None:
    torch.manual_seed(0)
    layer = LIF(nn.Linear(4, 3), beta=0.8).double()
    inputs, spikes, reward = random_spikes(T, B, 4), random_spikes(T, B, 3), torch.randn(B).double()
    expected = torch.zeros(3, 4, dtype=torch.float64)
    for b in range(B):
        x, y = torch.zeros(4).double(), torch.zeros(3).double()
        for t in range(T):
            x = 0.8 * x + inputs[t, b]
            expected += reward[b] * (torch.outer(spikes[t, b], x) - torch.outer(y, inputs[t, b]))
            y = 0.8 * y + spikes[t, b]
    torch.testing.assert_close(eligibility(layer, inputs, spikes, reward), expected)


def test_a_convolution_gets_what_each_of_its_places_gets() -> None:
    torch.manual_seed(1)
    layer = LIF(nn.Conv2d(2, 3, 2, padding=1), beta=0.8).double()
    inputs, spikes, reward = random_spikes(T, B, 2, 3, 3), random_spikes(T, B, 3, 4, 4), torch.randn(B).double()
    dense = LIF(nn.Linear(8, 3), beta=0.8).double()
    padded = nn.functional.pad(inputs, (1, 1, 1, 1))
    expected = sum(
        eligibility(dense, padded[..., row : row + 2, column : column + 2].flatten(2), spikes[..., row, column], reward)
        for row in range(4)
        for column in range(4)
    )
    assert isinstance(expected, torch.Tensor)
    torch.testing.assert_close(eligibility(layer, inputs, spikes, reward), expected.view(3, 2, 2, 2))


def run(network: nn.Sequential, folder: Path) -> RewardSTDPTrainer:
    torch.manual_seed(2)
    labels = torch.arange(400) % 2
    values = torch.rand(400, 8) * 0.2 + labels[:, None] * torch.tensor([0.8] * 4 + [0.0] * 4)
    values += (1 - labels[:, None]) * torch.tensor([0.0] * 4 + [0.8] * 4)
    split = ArraySplit(values, labels, partial(constant, steps=8))
    samples = Samples("pairs", (8,), ["a", "b"], split, split, "")
    config = checked_config({"network": "mlp", "lr": 1e-2, "epochs": 5, "batch_size": 40, "steps": 8})
    training = RewardSTDPTrainer(config, MemoryData(samples), network, torch.device("cpu"), ())
    training.folder = folder
    training.finish()
    return training


def test_it_learns_to_tell_two_patterns_apart(tmp_path: Path) -> None:
    torch.manual_seed(3)
    assert run(nn.Sequential(LIF(nn.Linear(8, 2), threshold=0.5)), tmp_path).progress.best_accuracy > 0.9


def test_layers_without_a_rule_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="R-STDP baseline has no rule for RecurrentLIF, expected LIF"):
        run(stack((8,), 2, "4R"), tmp_path)
