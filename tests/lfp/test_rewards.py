"""Rewards against their formulas, and what the door into the network turns away."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import oracles
from spiking_lfp import (
    LIF,
    Affine,
    Epsilon,
    NonFiniteError,
    SpikingLFPError,
    UsageError,
    correctness_reward,
    cross_entropy_reward,
    logit_reward,
    propagate,
    softmax_reward,
    spike_count_reward,
    spike_rate_reward,
    squared_error_reward,
)
from spiking_lfp.lfp import rewards
from spiking_lfp.lfp.rewards import FullReward, Reward

NAMED: dict[str, FullReward] = {
    **rewards.REWARDS,
    "cross-entropy": cross_entropy_reward,
    "correctness": correctness_reward,
}
REWARDS: list[FullReward] = list(NAMED.values())


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


@given(
    steps=st.integers(1, 6),
    batch=st.integers(1, 3),
    classes=st.integers(1, 4),
    places=st.sampled_from([(), (2,), (2, 3)]),
    window=st.sampled_from([None, 1, "all"]),
    given_as=st.sampled_from(["indices", "values"]),
    weighted=st.booleans(),
    ignore=st.booleans(),
    name=st.sampled_from(sorted(oracles.REWARDS)),
    seed=st.integers(0, 2**31),
)
def test_every_reward_equals_its_slow_replica(
    steps: int, batch: int, classes: int, places: tuple[int, ...], window: Any, given_as: str, weighted: bool,
    ignore: bool, name: str, seed: int,
) -> None:  # fmt: skip
    """Labels and values, for samples, places and windows of steps, weighted and with some that earn nothing."""
    random = torch.Generator().manual_seed(seed)
    window = steps if window == "all" else window
    lead = [] if window is None else [steps // window]
    outputs = torch.randn(steps, batch, classes, *places, generator=random, dtype=torch.float64)
    if name.startswith("spike"):
        outputs = (outputs > 0.3).double()
    if given_as == "indices":
        targets = torch.randint(0, classes, (*lead, batch, *places), generator=random)
        missing: float = -1
    else:
        targets = torch.rand(*lead, batch, classes, *places, generator=random, dtype=torch.float64)
        if name in ("softmax", "cross-entropy"):
            targets = targets / targets.sum(len(lead) + 1, keepdim=True)
        missing = math.nan
        weighted &= name != "squared-error"
    targets = torch.where(torch.rand(targets.shape, generator=random) < 0.3, missing, targets) if ignore else targets
    weights = torch.rand(classes, generator=random, dtype=torch.float64) * 3 if weighted else None
    found = NAMED[name](
        outputs, targets, class_weights=weights, ignore=missing if ignore else None, window=window
    )  # fmt: skip
    expected = oracles.reward(name, outputs, targets, weights, window)
    assert found.dtype == outputs.dtype
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reward", REWARDS)
def test_rewards_carry_no_graph(reward: Reward) -> None:
    outputs = torch.rand(4, 2, 3, requires_grad=True)
    assert not reward(outputs.round(), torch.tensor([0, 1])).requires_grad


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("reward", REWARDS)
def test_labels_of_any_integer_type_will_do(reward: Reward, kind: torch.dtype) -> None:
    outputs = torch.rand(4, 2, 3).round()
    labels = torch.tensor([2, 1])
    assert torch.equal(reward(outputs, labels.to(kind)), reward(outputs, labels))


@pytest.mark.parametrize("reward", REWARDS)
def test_arrays_and_lists_are_taken_as_tensors_are(reward: FullReward) -> None:
    outputs = torch.rand(4, 2, 3).round()
    expected = reward(outputs, torch.tensor([2, 1]), class_weights=torch.tensor([0.5, 1.0, 2.0]))
    for labels in ([2, 1], (2, 1), np.array([2, 1]), np.array([2, 1], np.uint8)):
        assert torch.equal(reward(outputs, labels, class_weights=[0.5, 1.0, 2.0]), expected)
    assert torch.equal(reward(outputs.numpy(), [2, 1], class_weights=np.array([0.5, 1.0, 2.0])), expected)
    assert torch.equal(reward(outputs.bool(), [2, 1], class_weights=[0.5, 1.0, 2.0]), expected)


@pytest.mark.parametrize("reward", REWARDS)
def test_one_label_a_sample_may_be_written_as_ones_among_zeros(reward: FullReward) -> None:
    outputs, weights = torch.rand(4, 2, 3).round(), [1.0, 2.0, 2.0]
    for dtype in (torch.bool, torch.int64, torch.float32):
        several = torch.tensor([[0, 0, 1], [0, 1, 0]]).to(dtype)
        assert torch.equal(reward(outputs, several), reward(outputs, [2, 1]))
    if reward not in (squared_error_reward,):
        weighted = reward(outputs, [[0, 0, 1], [0, 1, 0]], class_weights=weights)
        true = several.bool().expand(4, 2, 3)
        # the weight of a label counts for its own output where there may be several, for the sample where it is one
        assert torch.equal(weighted[true], reward(outputs, [2, 1], class_weights=weights)[true])
        assert torch.equal(weighted[~true], reward(outputs, [2, 1])[~true])


@pytest.mark.parametrize("reward", [logit_reward, softmax_reward, squared_error_reward, cross_entropy_reward])
def test_outputs_without_time_are_one_step(reward: FullReward) -> None:
    outputs = torch.randn(2, 3)
    assert torch.equal(reward(outputs, [2, 0]), reward(outputs[None], [2, 0])[0])
    assert torch.equal(reward(outputs, [2, 0], ignore=0), reward(outputs[None], [[2, 0]], ignore=0, window=1)[0])


@pytest.mark.parametrize(
    ("reward", "loss"),
    [
        (softmax_reward, lambda o, y: (F.cross_entropy(o.mean(0), y, reduction="none") * (y + 1.0)).sum()),
        (
            logit_reward,
            lambda o, y: sum(
                (F.binary_cross_entropy_with_logits(each, F.one_hot(y, 3).double(), reduction="none").sum(1)
                * (y + 1.0)).sum() for each in o
            ) / len(o),
        ),
        (squared_error_reward, lambda o, y: ((o.mean(0) - F.one_hot(y, 3)) ** 2 * (y + 1.0)[:, None]).sum() / 2),
    ],
)  # fmt: skip
def test_analogue_rewards_are_outputs_times_minus_the_gradient_of_a_loss(reward: FullReward, loss: Any) -> None:
    outputs = torch.randn(5, 4, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 2, 1, 2])
    (gradient,) = torch.autograd.grad(loss(outputs, labels), outputs)
    found = reward(outputs, labels, class_weights=[1, 2, 3]) / len(outputs)
    torch.testing.assert_close(found, -outputs.detach() * gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reward", [logit_reward, softmax_reward, squared_error_reward])
def test_analogue_rewards_reach_a_linear_readout_as_the_gradient_of_the_loss(reward: FullReward) -> None:
    """LFP eq. 2-4 with eq. 8 divides by `|z|` what these rewards multiply by `z`: `q` is the error."""
    layer = Affine(nn.Linear(6, 3).double(), rule=Epsilon(1e-12))
    x, labels = torch.rand(4, 2, 6, dtype=torch.float64, requires_grad=True), torch.tensor([2, 0])
    outputs = layer(x)
    error = reward(outputs, labels) / outputs.detach()
    propagate(outputs, reward(outputs, labels))
    expected = x.detach() * (error @ layer.synapse.weight.detach())
    torch.testing.assert_close(x.grad, expected, rtol=1e-6, atol=1e-9)
    outer = layer.synapse.weight.detach().abs() * torch.einsum("tbo,tbi->oi", error, x.detach())
    torch.testing.assert_close(layer.synapse.weight.grad, -outer, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3], r"labels must lie in 0\.\.2 for 3 classes, found 0\.\.3"),
        ([-1, 1], r"labels must lie in 0\.\.2 for 3 classes, found -1\.\.1"),
        ([0, 1, 2], r"targets are \[3\] of torch.int64, expected class indices \[2\]"),
        ([0], r"targets are \[1\]"),
        ([0.0, 1.7], r"targets are \[2\] of torch.float32, expected class indices"),
        ([[[0]]], r"targets are \[1, 1, 1\]"),
        ([[0, 1]] * 4, "targets in every step give window=1"),
        ([[1, 0], [0]], "targets must be a tensor, an array or a list of numbers"),
        (["cat", "dog"], "targets must be a tensor, an array or a list of numbers"),
        (np.array(["cat", "dog"]), "targets must be a tensor, an array or a list of numbers"),
        (None, "targets must be a tensor, an array or a list of numbers"),
    ],
)
@pytest.mark.parametrize("reward", REWARDS)
def test_labels_that_do_not_fit(unchecked: None, reward: Reward, labels: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        reward(torch.zeros(4, 2, 3), labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reward", [each for each in REWARDS if each is not squared_error_reward])
@pytest.mark.parametrize("value", [-0.5, 1.5, math.nan])
def test_values_of_classes_lie_between_0_and_1(reward: Reward, value: float) -> None:
    with pytest.raises(UsageError, match="targets must be from 0 to 1, found"):
        reward(torch.zeros(4, 1, 2), torch.tensor([[0.5, value]]))


def test_values_of_a_regression_are_finite() -> None:
    with pytest.raises(UsageError, match="targets must be finite, found nan"):
        squared_error_reward(torch.zeros(4, 1, 2), [[0.5, math.nan]])
    assert squared_error_reward(torch.ones(1, 1, 2), [[3.0, math.nan]], ignore=math.nan).tolist() == [[[2.0, 0.0]]]


@pytest.mark.parametrize("reward", [softmax_reward, cross_entropy_reward])
def test_several_labels_are_no_distribution(reward: FullReward) -> None:
    with pytest.raises(UsageError, match="add up to 1 over classes: for several labels take logit_reward"):
        reward(torch.zeros(4, 2, 3), [[1, 1, 0], [1, 0, 0]])
    # a sample with a target that is ignored has none
    found = reward(torch.ones(4, 2, 3), [[1, 1, -1], [1, 0, 0]], ignore=-1)
    assert not found[:, 0].any()
    assert found[:, 1].any()


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 2, 3)])
@pytest.mark.parametrize("reward", [spike_count_reward, spike_rate_reward])
def test_spikes_have_three_axes(unchecked: None, reward: Reward, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=rf"outputs are {re.escape(str(list(shape)))}, expected \[T, B, C\]"):
        reward(torch.zeros(shape), torch.tensor([0, 1]))


@pytest.mark.parametrize("shape", [(), (3,), (0, 2, 3)])
@pytest.mark.parametrize("reward", [each for each in REWARDS if each not in (spike_count_reward, spike_rate_reward)])
def test_analogue_outputs_have_two_axes_or_more(unchecked: None, reward: Reward, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"expected \[T, B, C\] or \[B, C\]"):
        reward(torch.zeros(shape), torch.tensor([0, 1]))


@pytest.mark.parametrize("reward", [spike_count_reward, spike_rate_reward])
@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan])
def test_membranes_are_no_spikes(reward: Reward, value: float) -> None:
    with pytest.raises(UsageError, match=r"outputs of this reward are spikes, 0 or 1, found .*: for membranes take"):
        reward(torch.full((4, 2, 3), value), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("window", "targets", "message"),
    [
        (3, [[0, 1]], "window must be a divisor of the 4 steps, found 3"),
        (0, [[0, 1]], "window must be a divisor of the 4 steps, found 0"),
        (2, [0, 1], r"targets are \[2\], expected \[2, 2, ...\]: those of 2 windows of 2 steps and 2 samples"),
        (1, [[0, 1]] * 3, r"targets are \[3, 2\], expected \[4, 2, ...\]"),
    ],
)
@pytest.mark.parametrize("reward", REWARDS)
def test_windows_that_do_not_fit(reward: FullReward, window: int, targets: list[Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        reward(torch.zeros(4, 2, 3), targets, window=window)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], r"class weights are \[2\], expected one for each of 3 classes"),
        ([1.0, 2.0, -1.0], "class weights must be finite and at least 0"),
        ([1.0, 2.0, math.inf], "class weights must be finite and at least 0"),
    ],
)
@pytest.mark.parametrize("reward", REWARDS)
def test_class_weights_that_do_not_fit(reward: FullReward, weights: list[float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        reward(torch.zeros(4, 2, 3), [0, 1], class_weights=weights)


def test_class_weights_are_not_for_values() -> None:
    with pytest.raises(UsageError, match="class weights are for labels"):
        squared_error_reward(torch.zeros(4, 2, 3), torch.zeros(2, 3), class_weights=[1, 2, 3])


@pytest.mark.parametrize("reward", REWARDS)
def test_an_empty_batch_has_an_empty_reward(reward: Reward) -> None:
    outputs = torch.zeros(4, 0, 3)
    assert reward(outputs, torch.zeros(0, dtype=torch.int64)).shape == (4, 0, 3)
    assert reward(outputs, torch.zeros(0, 3)).shape == (4, 0, 3)


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


def test_outputs_that_are_no_tensor_are_refused(unchecked: None) -> None:
    layer = LIF(nn.Linear(4, 3))
    for outputs, found in ((layer.run(torch.rand(5, 2, 4)), "tuple"), ([1.0], "list"), (1.0, "1.0")):
        with pytest.raises(UsageError, match=f"^outputs are {found}, expected one tensor that a network returned"):
            propagate(outputs, torch.ones(5, 2, 3))
