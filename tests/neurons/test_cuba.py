"""Neurons with a synaptic current: against snnTorch to the bit, a slow replica of their feedback, and `LIF`."""

from collections.abc import Sequence

import pytest
import snntorch
import torch
from torch import Tensor, nn

from helpers.tensors import random
from spiking_lfp import (
    LIF,
    AlphaBeta,
    CubaLIF,
    Epsilon,
    Rule,
    UsageError,
    ZPlusZMinus,
    propagate,
    run_in_chunks,
    spike_count_reward,
)

ALPHA, BETA, THRESHOLD = 0.7, 0.85, 0.6
RULES: list[Rule] = [Epsilon(1e-3), ZPlusZMinus(epsilon=1e-3), AlphaBeta(epsilon=1e-3)]


def layer(reset: str = "subtract", rule: Rule | None = None, alpha: float = ALPHA) -> CubaLIF:
    return CubaLIF(nn.Linear(6, 5).double(), alpha, BETA, THRESHOLD, reset, rule)


@torch.no_grad()
@pytest.mark.parametrize("reset", ["subtract", "none"])
def test_spikes_and_states_are_those_of_snntorch(reset: str) -> None:
    ours, x = layer(reset), (random(20, 3, 6) * 32).round() / 16
    for parameter in ours.synapse.parameters():  # on a grid, so that sums are exact in any order
        parameter.copy_((parameter * 64).round() / 64)
    theirs = snntorch.Synaptic(
        *(torch.tensor(value, dtype=torch.float64) for value in (ALPHA, BETA, [THRESHOLD] * 5)),
        reset_mechanism=reset,
    )  # fmt: skip
    current, membrane, expected = torch.zeros(3, 5).double(), torch.zeros(3, 5).double(), []
    for step in x:
        spikes, current, membrane = theirs(ours.synapse(step), current, membrane)
        expected.append(spikes)
    found, (final_membrane, final_current) = ours.run(x)
    assert 0.1 < found.mean() < 0.9
    assert torch.equal(found, torch.stack(expected))
    assert torch.equal(final_membrane, membrane)
    assert torch.equal(final_current, current)


def gains(rule: Rule, before: float, arrived: Sequence[float], total: float) -> tuple[float, float]:
    """One over the normaliser for positive and for negative contributions: what was there, and what came."""
    parts = [before, *arrived]
    positive, negative = sum(z for z in parts if z > 0), -sum(z for z in parts if z < 0)
    if isinstance(rule, Epsilon):
        return (1 / (abs(before) + abs(total - before) + rule.epsilon),) * 2
    if isinstance(rule, ZPlusZMinus):
        return (1 / (positive + negative + rule.epsilon),) * 2
    assert isinstance(rule, AlphaBeta)
    return rule.alpha / (positive + rule.epsilon), rule.beta / (negative + rule.epsilon)


def replica(
    x: Tensor, weight: Tensor, bias: Tensor, reset: str, rule: Rule, reward: Tensor, on_final: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Feedback on the inputs and both updates, one neuron, one step and one weight at a time."""
    steps, batch, inputs = x.shape
    on_x, d_weight, d_bias = torch.zeros_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
    for b in range(batch):
        for n in range(len(bias)):
            arrived = [[(weight[n, i] * x[t, b, i]).item() for i in range(inputs)] for t in range(steps)]
            current, membrane, spikes, before_reset = [0.0], [0.0], [0.0], [0.0]
            for t in range(steps):
                current.append(ALPHA * current[-1] + sum(arrived[t]) + bias[n].item())
                kept = 0.0 if reset == "zero" and spikes[-1] else membrane[-1]
                before_reset.append(BETA * membrane[-1] + current[-1])
                membrane.append(BETA * kept + current[-1] - (THRESHOLD * spikes[-1] if reset == "subtract" else 0))
                spikes.append(float(membrane[-1] > THRESHOLD))
            m, carried = on_final[0][b, n].item(), on_final[1][b, n].item()
            for t in reversed(range(1, steps + 1)):
                rho = reward[t - 1, b, n].item() + m
                # by LFP-epsilon a membrane's past is the membrane itself, by the others what is kept of it
                past = membrane[t - 1] if isinstance(rule, Epsilon) else BETA * membrane[t - 1]
                total = current[t] + BETA * membrane[t - 1]
                up, down = gains(rule, past, [current[t]], total)
                survived = 0.0 if reset == "zero" and spikes[t - 1] else membrane[t - 1]
                m = BETA * survived * rho * (up if membrane[t - 1] >= 0 else down)
                r = current[t] * rho * (up if current[t] >= 0 else down) + carried
                sign = (current[t] > 0) - (current[t] < 0)
                kept = ALPHA * current[t - 1]
                up, down = gains(rule, kept, [*arrived[t - 1], bias[n].item()], current[t])
                carried = kept * sign * r * (up if kept >= 0 else down)
                for i in range(inputs):
                    share = sign * r * (up if arrived[t - 1][i] >= 0 else down)
                    on_x[t - 1, b, i] += arrived[t - 1][i] * share
                    d_weight[n, i] += abs(weight[n, i]) * x[t - 1, b, i] * share
                d_bias[n] += abs(bias[n]) * sign * r * (up if bias[n] >= 0 else down)
    return on_x, d_weight, d_bias


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_feedback_equals_a_slow_replica(reset: str, rule: Rule) -> None:
    ours, x, reward = layer(reset, rule), random(7, 2, 6).requires_grad_(), random(7, 2, 5)
    spikes, finals = ours.run(x)
    ends = random(2, 5), random(2, 5)
    torch.autograd.backward([spikes, *finals], [reward, *ends])
    weight, bias = ours.synapse.weight, ours.synapse.bias
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    assert x.grad is not None
    expected = replica(x.detach(), weight.detach(), bias.detach(), reset, rule, reward, ends)
    for found, wanted in zip((x.grad, -weight.grad, -bias.grad), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11 * float(wanted.abs().max()))


def test_parts_of_a_sequence_give_what_the_whole_gives() -> None:
    ours, x, reward = layer(), random(9, 2, 6), random(9, 2, 5)
    outcomes = []
    for run in (ours, lambda part: run_in_chunks(ours, part, 4)):
        ours.zero_grad()
        inputs = x.clone().requires_grad_()
        spikes = run(inputs)
        propagate(spikes, reward)
        outcomes.append([spikes.detach(), inputs.grad, ours.synapse.weight.grad, ours.synapse.bias.grad])
    for whole, parts in zip(*outcomes, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


def test_without_a_memory_of_its_current_it_is_a_lif() -> None:
    ours = layer(rule=Epsilon(1e-12), alpha=0.0)
    plain = LIF(ours.synapse, BETA, THRESHOLD, rule=Epsilon(1e-12))
    x, reward, outcomes = random(12, 3, 6), random(12, 3, 5), []
    for each in (ours, plain):
        each.zero_grad()
        spikes = each(x)
        propagate(spikes, reward)
        assert isinstance(each.synapse.weight, Tensor)
        outcomes.append([spikes.detach(), each.synapse.weight.grad])
    for found, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_it_learns() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(CubaLIF(nn.Linear(20, 30), 0.5), CubaLIF(nn.Linear(30, 2), 0.5))
    prototypes = torch.rand(2, 20)
    labels = torch.arange(64) % 2
    x = (torch.rand(12, 64, 20) < prototypes[labels]).float()
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(40):
        optimizer.zero_grad()
        spikes = net(x)
        propagate(spikes, spike_count_reward(spikes, labels) / 12)
        optimizer.step()
    assert (net(x).sum(0).argmax(1) == labels).float().mean() > 0.95


def test_constants_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match=r"alpha must be at least 0 and at most 1, found 1\.5"):
        CubaLIF(nn.Linear(2, 2), alpha=1.5)
    with pytest.raises(UsageError, match=r"beta must be greater than 0 and at most 1, found 0"):
        CubaLIF(nn.Linear(2, 2), beta=0.0)
