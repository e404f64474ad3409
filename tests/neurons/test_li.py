"""Leaky integrators: membranes of snnTorch and norse, a slow replica of their feedback, linear layers and gradients."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import snntorch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.tensors import random
from spiking_lfp import (
    LI,
    LIF,
    Affine,
    AlphaBeta,
    Epsilon,
    Rule,
    UsageError,
    Zero,
    ZPlusZMinus,
    propagate,
    recorded,
    run_in_chunks,
    softmax_reward,
    squared_error_reward,
)
from spiking_lfp.training.step import Meter, training_step, watch_spikes

BETA = 0.8
RULES: list[Rule] = [Zero(), Epsilon(1e-3), ZPlusZMinus(epsilon=1e-3), AlphaBeta(epsilon=1e-3)]


def layer(rule: Rule | None = None, beta: float | Tensor = BETA) -> LI:
    return LI(nn.Linear(6, 5).double(), beta, rule)


@torch.no_grad()
@pytest.mark.parametrize("beta", [0.8, 1.0, [0.1, 0.5, 0.9, 0.99, 1.0]])
def test_outputs_are_the_membranes_of_snntorch(beta: Any) -> None:
    ours, x = layer(beta=torch.tensor(beta, dtype=torch.float64)), (random(20, 3, 6) * 32).round() / 16
    for parameter in ours.synapse.parameters():  # on a grid, so that sums are exact in any order
        parameter.copy_((parameter * 64).round() / 64)
    theirs = snntorch.Leaky(torch.tensor(beta, dtype=torch.float64), reset_mechanism="none")
    membrane, expected = torch.zeros(3, 5).double(), []
    for step in x:
        _, membrane = theirs(ours.synapse(step), membrane)
        expected.append(membrane)
    found, (final,) = ours.run(x)
    assert torch.equal(found, torch.stack(expected))
    assert torch.equal(final, membrane)


@torch.no_grad()
def test_outputs_are_the_membranes_of_norse() -> None:
    """Norse multiplies what comes in by dt / tau, which is 1 - beta."""
    with warnings.catch_warnings(action="ignore"):  # it uses a part of torch that is to go
        import norse.torch
    ours, x = layer(), random(20, 3, 6)
    parameters = norse.torch.LIBoxParameters(tau_mem_inv=torch.tensor((1 - BETA) * 1000, dtype=torch.float64))
    theirs, state, expected = norse.torch.LIBoxCell(p=parameters, dt=0.001), None, []
    for step in x:
        out, state = theirs(ours.synapse(step) / (1 - BETA), state)
        expected.append(out)
    torch.testing.assert_close(ours(x), torch.stack(expected), rtol=1e-9, atol=1e-12)


def gains(rule: Rule, parts: list[float]) -> tuple[float, float]:
    """One over the normaliser for positive and for negative contributions (LFP eq. 2, 8-13)."""
    positive, negative, total = sum(z for z in parts if z > 0), -sum(z for z in parts if z < 0), abs(sum(parts))
    if isinstance(rule, Zero):
        return (1 / total,) * 2
    if isinstance(rule, Epsilon):
        return (1 / (total + rule.epsilon),) * 2
    if isinstance(rule, ZPlusZMinus):
        return (1 / (positive + negative + rule.epsilon),) * 2
    assert isinstance(rule, AlphaBeta)
    return rule.alpha / (positive + rule.epsilon), rule.beta / (negative + rule.epsilon)


def replica(
    x: Tensor, weight: Tensor, bias: Tensor, rule: Rule, reward: Tensor, on_final: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Membranes, feedback on the inputs and both updates, one neuron, one step and one weight at a time."""
    steps, batch, inputs = x.shape
    on_x, d_weight, d_bias = torch.zeros_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
    membranes = torch.zeros_like(reward)
    for b in range(batch):
        for n in range(len(bias)):
            arrived = [[(weight[n, i] * x[t, b, i]).item() for i in range(inputs)] for t in range(steps)]
            membrane = [0.0]
            for t in range(steps):
                membrane.append(BETA * membrane[-1] + sum(arrived[t]) + bias[n].item())
                membranes[t, b, n] = membrane[-1]
            m = on_final[b, n].item()
            for t in reversed(range(steps)):
                kept = BETA * membrane[t]
                up, down = gains(rule, [kept, *arrived[t], bias[n].item()])
                signed = (reward[t, b, n].item() + m) * (1 if membrane[t + 1] > 0 else -1)
                m = kept * signed * (up if kept >= 0 else down)
                for i in range(inputs):
                    share = signed * (up if arrived[t][i] >= 0 else down)
                    on_x[t, b, i] += arrived[t][i] * share
                    d_weight[n, i] += abs(weight[n, i]) * x[t, b, i] * share
                d_bias[n] += abs(bias[n]) * signed * (up if bias[n] >= 0 else down)
    return membranes, on_x, d_weight, d_bias


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_feedback_equals_a_slow_replica(rule: Rule) -> None:
    ours, x, reward, end = layer(rule), random(7, 2, 6).requires_grad_(), random(7, 2, 5), random(2, 5)
    out, (final,) = ours.run(x)
    torch.autograd.backward([out, final], [reward, end])
    weight, bias = ours.synapse.weight, ours.synapse.bias
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    expected = replica(x.detach(), weight.detach(), bias.detach(), rule, reward, end)
    for found, wanted in zip((out, x.grad, -weight.grad, -bias.grad), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11 * float(wanted.abs().max()))


def filtered(x: Tensor) -> Tensor:
    """The sums over `s <= t` of `BETA^(t-s) * x[s]`."""
    steps = torch.arange(len(x), dtype=torch.float64)
    kernel = (BETA ** (steps[:, None] - steps)).tril()
    return torch.einsum("ts,s...->t...", kernel, x)


@pytest.mark.parametrize("kind", ["dense", "convolution"])
def test_feedback_is_that_of_a_linear_layer_on_all_inputs_so_far(kind: str) -> None:
    """LFP-0 through the recursion hands on what it hands on through the sum that it stands for."""
    dense = kind == "dense"
    synapse = nn.Linear(6, 5, bias=False) if dense else nn.Conv2d(2, 3, 3, padding=1, bias=False)
    ours = LI(synapse.double(), BETA, Zero())
    plain = Affine(ours.synapse, Zero())
    x = random(8, 2, 6) if dense else random(8, 2, 2, 4, 5)
    reward, outcomes = torch.randn_like(ours(x).detach()), []
    for run in (ours, lambda inputs: plain(filtered(inputs))):
        ours.zero_grad()
        inputs = x.clone().requires_grad_()
        out = run(inputs)
        propagate(out, reward)
        outcomes.append([out.detach(), ours.synapse.weight.grad])
    for found, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("reward", "loss"),
    [
        (
            lambda o: softmax_reward(o, [4, 0]),
            lambda o: F.cross_entropy(o.mean(0), torch.tensor([4, 0]), reduction="sum"),
        ),
        (
            lambda o: squared_error_reward(o, o.new_ones(9, 2, 5), window=1),
            lambda o: ((o - 1) ** 2).sum() / 2 / len(o),
        ),
    ],
)
def test_feedback_of_an_output_times_its_error_is_the_gradient_of_the_loss(
    reward: Callable[[Tensor], Tensor], loss: Callable[[Tensor], Tensor]
) -> None:
    """Times what LFP multiplies it by: the input, and for an update the size of the weight."""
    ours, x = layer(Epsilon(1e-12)), random(9, 2, 6).requires_grad_()
    out = ours(x)
    propagate(out, reward(out) / len(out))
    weight, inputs = ours.synapse.weight.detach().requires_grad_(), x.detach().requires_grad_()
    current = F.linear(inputs, weight, ours.synapse.bias.detach())
    on_weight, on_x = torch.autograd.grad(loss(filtered(current)), (weight, inputs))
    torch.testing.assert_close(x.grad, -x.detach() * on_x, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(ours.synapse.weight.grad, weight.detach().abs() * on_weight, rtol=1e-6, atol=1e-9)


def test_constant_inputs_and_parts_of_a_sequence_give_what_the_whole_gives() -> None:
    ours, x, reward, outcomes = layer(), random(1, 2, 6), random(9, 2, 5), []
    whole = x.expand(9, 2, 6)
    for run in (lambda: ours(whole.clone()), lambda: ours(whole), lambda: run_in_chunks(ours, whole.clone(), 4)):
        ours.zero_grad()
        out = run()
        propagate(out, reward)
        outcomes.append([out.detach(), ours.synapse.weight.grad, ours.synapse.bias.grad])
    for other in outcomes[1:]:
        for found, expected in zip(other, outcomes[0], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_recorded_membrane_is_the_output() -> None:
    ours, x = nn.Sequential(layer()), random(9, 2, 6)
    membrane = ours(x).detach() * 1.5
    with recorded(ours, {"0": membrane}):
        assert torch.equal(ours(x), membrane)


def test_a_layer_that_does_not_fire_has_no_spike_rate_and_is_not_called_silent() -> None:
    network = nn.Sequential(LIF(nn.Linear(4, 30), threshold=0.1), LI(nn.Linear(30, 2)))
    meter, optimizer = Meter(), torch.optim.Adam(network.parameters())
    with watch_spikes(network, meter):
        training_step(network, torch.rand(5, 6, 4), torch.arange(6) % 2, optimizer, None, meter, reward=softmax_reward)
    assert meter.rates.keys() == {"0"}
    assert meter.silent_layers() == []


def test_constants_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="beta must be greater than 0 and at most 1, found 0"):
        LI(nn.Linear(2, 2), beta=0.0)
    assert repr(LI(nn.Linear(2, 2), beta=0.5)).count("(beta=0.5, rule=") == 0
    assert "beta=0.5, rule=Epsilon" in repr(LI(nn.Linear(2, 2), beta=0.5))
