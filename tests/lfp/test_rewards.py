"""Rewards against their formulas, and what the door into the network turns away."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers import oracles
from spiking_lfp import (
    LIF,
    NonFiniteError,
    SpikingLFPError,
    UsageError,
    correctness_reward,
    logit_reward,
    propagate,
    spike_count_reward,
    spike_rate_reward,
)

Reward = Callable[[Tensor, Tensor], Tensor]
REWARDS: list[Reward] = [spike_count_reward, spike_rate_reward, logit_reward, correctness_reward]


@given(
    steps=st.integers(1, 12),
    batch=st.integers(1, 4),
    classes=st.integers(1, 5),
    rate=st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_spike_count_reward_equals_the_triple_loop(
    steps: int, batch: int, classes: int, rate: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    spikes = (torch.rand(steps, batch, classes, generator=generator) < rate).double()
    labels = torch.randint(0, classes, (batch,), generator=generator)
    expected = oracles.spike_count_reward(spikes, labels)
    torch.testing.assert_close(spike_count_reward(spikes, labels), expected, rtol=1e-12, atol=1e-12)


def test_spike_count_reward_of_a_silent_network_wakes_the_true_class_only() -> None:
    reward = spike_count_reward(torch.zeros(10, 2, 3, dtype=torch.float64), torch.tensor([0, 2]))
    asleep = 1 - oracles.sigmoid(0 - 10 / 2)
    for t in range(10):
        assert reward[t].flatten().tolist() == pytest.approx([asleep, 0, 0, 0, 0, asleep], rel=1e-12)


def test_half_a_step_counts_where_the_number_of_steps_is_odd() -> None:
    reward = spike_count_reward(torch.zeros(5, 1, 1, dtype=torch.float64), torch.tensor([0]))
    assert reward[0].item() == pytest.approx(1 - oracles.sigmoid(-2.5), rel=1e-12)


@given(steps=st.integers(1, 9), batch=st.integers(1, 4), classes=st.integers(1, 5), seed=st.integers(0, 2**31))
def test_spike_rate_reward_equals_the_triple_loop(steps: int, batch: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    spikes = (torch.rand(steps, batch, classes, generator=generator) < 0.4).double()
    labels = torch.randint(0, classes, (batch,), generator=generator)
    reward = spike_rate_reward(spikes, labels)
    for t in range(steps):
        for b in range(batch):
            for c in range(classes):
                rate = sum(spikes[:, b, c].tolist()) / steps
                expected = 1 - rate if c == labels[b] else -spikes[t, b, c].item() * rate
                assert reward[t, b, c].item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_spike_rate_reward_ends_with_a_spike_in_every_step_of_the_true_class_alone() -> None:
    spikes = torch.zeros(6, 1, 3)
    assert spike_rate_reward(spikes, torch.tensor([1])).sum() == 6
    spikes[:, :, 1] = 1
    assert not spike_rate_reward(spikes, torch.tensor([1])).any()


@pytest.mark.parametrize("shape", [(4, 3), (5, 4, 3)])
def test_logit_reward_is_equation_7(shape: tuple[int, ...]) -> None:
    logits, labels = torch.randn(shape, dtype=torch.float64) * 3, torch.tensor([0, 2, 1, 2])
    reward = logit_reward(logits, labels)
    assert reward.shape == logits.shape
    for index in torch.cartesian_prod(*(torch.arange(size) for size in shape)).tolist():
        o, y = logits[tuple(index)].item(), float(labels[index[-2]] == index[-1])
        assert reward[tuple(index)].item() == pytest.approx(o * (y - oracles.sigmoid(o)), rel=1e-12)


@pytest.mark.parametrize("shape", [(4, 3), (5, 4, 3)])
def test_correctness_reward_is_appendix_a1(shape: tuple[int, ...]) -> None:
    logits, labels = torch.randn(shape), torch.tensor([0, 2, 1, 2])
    reward = correctness_reward(logits, labels)
    assert reward.dtype == logits.dtype
    signs = set()
    for *step, b in torch.cartesian_prod(*(torch.arange(size) for size in (*shape[:-1], 1)))[:, :-1].tolist():
        row, label = logits[(*step, b)].tolist(), int(labels[b])
        sign = 1.0 if row.index(max(row)) == label else -1.0
        assert reward[(*step, b)].tolist() == [sign if c == label else 0.0 for c in range(3)]
        signs.add(sign)
    assert len(signs) == 2


@pytest.mark.parametrize("reward", REWARDS)
def test_rewards_carry_no_graph(reward: Reward) -> None:
    outputs = torch.rand(4, 2, 3, requires_grad=True)
    assert not reward(outputs.round(), torch.tensor([0, 1])).requires_grad


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64])
@pytest.mark.parametrize("reward", REWARDS)
def test_labels_of_any_integer_type_will_do(reward: Reward, dtype: torch.dtype) -> None:
    outputs = torch.rand(4, 2, 3).round()
    labels = torch.tensor([2, 1])
    assert torch.equal(reward(outputs, labels.to(dtype)), reward(outputs, labels))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3], r"labels must lie in 0\.\.2 for 3 classes, found 0\.\.3"),
        ([-1, 1], r"labels must lie in 0\.\.2 for 3 classes, found -1\.\.1"),
        ([0, 1, 2], "found 3 labels for 2 samples"),
        ([0], "found 1 labels for 2 samples"),
    ],
)
@pytest.mark.parametrize("reward", REWARDS)
def test_labels_that_do_not_fit(unchecked: None, reward: Reward, labels: list[int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        reward(torch.zeros(4, 2, 3), torch.tensor(labels))


@pytest.mark.parametrize("labels", [[0.0, 1.7], [[1, 0, 0], [0, 0, 1]]])
@pytest.mark.parametrize("reward", REWARDS)
def test_labels_that_are_no_class_indices(unchecked: None, reward: Reward, labels: list[Any]) -> None:
    with pytest.raises(UsageError, match="labels"):
        reward(torch.zeros(4, 2, 3), torch.tensor(labels))


@pytest.mark.parametrize("reward", REWARDS)
def test_an_empty_batch_has_an_empty_reward(reward: Reward) -> None:
    outputs = torch.zeros(4, 0, 3)
    assert reward(outputs, torch.zeros(0, dtype=torch.int64)).shape == (4, 0, 3)


# ---------------------------------------------------------------- propagate


@pytest.fixture
def spikes() -> Tensor:
    return LIF(nn.Linear(4, 3), threshold=0.2)(torch.rand(5, 2, 4))


def test_propagate_refuses_a_reward_of_another_shape(spikes: Tensor, unchecked: None) -> None:
    with pytest.raises(UsageError, match=r"outputs are \[5, 2, 3\] but the reward is \[2, 3\]"):
        propagate(spikes, torch.zeros(2, 3))


def test_propagate_refuses_outputs_without_a_past(unchecked: None) -> None:
    layer = LIF(nn.Linear(4, 3))
    with torch.no_grad():
        spikes = layer(torch.rand(5, 2, 4))
    with pytest.raises(UsageError, match=r"torch\.no_grad"):
        propagate(spikes, torch.zeros(5, 2, 3))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_propagate_refuses_a_reward_that_is_not_finite(spikes: Tensor, value: float) -> None:
    reward = torch.zeros(5, 2, 3)
    reward[2, 1, 0] = value
    with pytest.raises(NonFiniteError, match="the reward holds NaN or infinity"):
        propagate(spikes, reward)


def test_propagate_refuses_to_go_through_twice(spikes: Tensor) -> None:
    propagate(spikes, torch.ones(5, 2, 3))
    with pytest.raises(UsageError, match="run the network again") as caught:
        propagate(spikes, torch.ones(5, 2, 3))
    assert caught.value.__cause__ is None


def test_propagate_passes_foreign_errors_on() -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else") as caught:
        propagate(Broken.apply(torch.ones(2, requires_grad=True)), torch.ones(2))
    assert not isinstance(caught.value, SpikingLFPError)


def test_feedback_is_linear_in_the_reward() -> None:
    """Twice the reward, twice the update; minus the reward, minus the update (LFP eq. 2-4)."""
    layer = LIF(nn.Linear(4, 3).double(), threshold=0.2)
    x, reward = torch.rand(5, 2, 4, dtype=torch.float64), torch.randn(5, 2, 3, dtype=torch.float64)
    grads = []
    for factor in (1.0, -2.0):
        layer.zero_grad()
        propagate(layer(x), factor * reward)
        grads.append(layer.synapse.weight.grad.clone())
    torch.testing.assert_close(grads[1], -2 * grads[0], rtol=1e-12, atol=0)
