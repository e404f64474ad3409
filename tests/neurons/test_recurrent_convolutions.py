"""Convolutions that see their own spikes, and what recurrence learns."""

import copy

import pytest
import torch
from torch import Tensor, nn

from helpers import oracles
from helpers.recurrent import (
    BATCH,
    INPUTS,
    NEURONS,
    STEPS,
    epsilon_gain,
    grads,
    layer_of,
    spikes_of,
)
from helpers.tensors import random
from spiking_lfp import (
    LIF,
    RecurrentLIF,
    Rule,
    propagate,
    run_in_chunks,
    spike_count_reward,
)
from spiking_lfp.neurons import RESETS, Reset
from spiking_lfp.rules import AlphaBeta, Gamma, ZPlusZMinus

CONVOLUTIONS: dict[str, tuple[nn.Module, nn.Module | None, tuple[int, ...]]] = {
    "signal": (nn.Conv1d(2, 3, 2, stride=2), None, (2, 7)),
    "image": (nn.Conv2d(1, 2, 2), nn.Conv2d(2, 2, (3, 1), padding=(1, 0), bias=False), (1, 3, 4)),
    "groups and gaps": (
        nn.Conv2d(1, 4, 2),
        nn.Conv2d(4, 4, 3, padding="same", dilation=(1, 2), groups=2, bias=False),
        (1, 3, 4),
    ),
    "uneven": (nn.Conv1d(2, 3, 3), nn.Conv1d(3, 3, 4, padding="same", bias=False), (2, 7)),
    "transposed": (nn.ConvTranspose1d(2, 3, 2), None, (2, 4)),
    "volume": (nn.Conv3d(1, 2, 2), None, (1, 2, 3, 3)),
}


def convolutional(kind: str, reset: Reset, rule: Rule | None = None) -> tuple[RecurrentLIF, tuple[int, ...]]:
    synapse, recurrent, shape = copy.deepcopy(CONVOLUTIONS[kind])
    layer = RecurrentLIF(synapse, 0.8, 0.4, reset, rule, recurrent).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 0.1, 0.5)
    return layer, shape


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_recurrent_convolutions_equal_the_oracle(kind: str, reset: Reset) -> None:
    """The oracle sees the recurrent convolution as the matrix that it is."""
    layer, shape = convolutional(kind, reset)
    x = spikes_of(STEPS, 2, *shape).requires_grad_()
    neurons = oracles.wires_of(layer.synapse, shape).outputs
    initial = (0.4 + random(2, *neurons)).requires_grad_()
    spikes, final = layer.run(x, initial)
    on_spikes, on_final = random(*spikes.shape), random(*final.shape)
    torch.autograd.backward([spikes, final], [on_spikes, on_final])

    own = oracles.wires_of(layer.recurrent, neurons)
    matrix = torch.zeros(len(own.biases), len(own.biases), dtype=torch.float64)
    for o, i, index in own.wires:
        matrix[o, i] = layer.recurrent.weight.detach()[index]
    expected = oracles.recurrent_layer(
        layer.synapse, matrix, x, on_spikes.flatten(2), 0.8, 0.4, reset, epsilon_gain(1e-6),
        initial.detach().flatten(1), on_final.flatten(1),
    )  # fmt: skip
    update = torch.zeros_like(layer.recurrent.weight)
    assert expected.recurrent_update is not None
    for o, i, index in own.wires:
        update[index] += expected.recurrent_update[o, i]
    assert torch.equal(spikes, expected.output)
    assert 0 < spikes.sum() < spikes.numel()
    pairs = [
        (final.flatten(1), expected.final),
        (x.grad, expected.on_input),
        (initial.grad.flatten(1), expected.on_initial),
        (-layer.synapse.weight.grad, expected.weight_update),
        (-layer.synapse.bias.grad, expected.bias_update),
        (-layer.recurrent.weight.grad, update),
    ]
    for actual, wanted in pairs:
        torch.testing.assert_close(actual, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rule", [ZPlusZMinus(), AlphaBeta(), Gamma()])
def test_a_convolution_over_single_pixels_follows_rules_as_a_dense_layer_does(rule: Rule) -> None:
    dense = layer_of("zero", rule=rule)
    layer = RecurrentLIF(nn.Conv2d(INPUTS, NEURONS, 1), 0.8, 0.4, "zero", rule).double()
    layer.recurrent = nn.Conv2d(NEURONS, NEURONS, 1, bias=False).double()
    with torch.no_grad():
        for mine, other in zip(layer.parameters(), dense.parameters(), strict=True):
            mine.copy_(other.view_as(mine))
    x = (spikes_of(STEPS, BATCH, INPUTS) - spikes_of(STEPS, BATCH, INPUTS)).requires_grad_()
    image = x.detach()[..., None, None].requires_grad_()
    expected, spikes = dense(x), layer(image)
    assert torch.equal(spikes.flatten(2), expected)
    reward = random(*expected.shape)
    expected.backward(reward)
    spikes.backward(reward.view_as(spikes))
    for actual, wanted in zip(grads(layer, image), grads(dense, x), strict=True):
        torch.testing.assert_close(actual.view_as(wanted), wanted, rtol=1e-9, atol=1e-9)


def test_recurrent_convolutions_run_in_chunks_and_copies() -> None:
    layer, shape = convolutional("image", "subtract")
    x = spikes_of(STEPS, 2, *shape)
    expected = layer(x)
    reward = random(*expected.shape)
    expected.backward(reward)
    wanted = grads(layer)
    for other in (layer, copy.deepcopy(layer)):
        other.zero_grad()
        spikes = run_in_chunks(other, x, 3)
        assert torch.equal(spikes, expected)
        spikes.backward(reward)
        for actual, each in zip(grads(other), wanted, strict=True):
            torch.testing.assert_close(actual, each, rtol=1e-9, atol=1e-9)


def cues(samples: int, delay: int) -> tuple[Tensor, Tensor]:
    """One of two groups of inputs is active for three steps, then noise that tells nothing; what was it?"""
    labels = torch.randint(0, 2, (samples,))
    rates = torch.zeros(3 + delay, samples, 30)
    for label in (0, 1):
        rates[:3, labels == label, 10 * label : 10 * label + 10] = 0.8
    rates[..., 20:] = 0.3
    return (torch.rand(rates.shape) < rates).float(), labels


@pytest.mark.parametrize(("kind", "least", "most"), [(RecurrentLIF, 0.9, 1.0), (LIF, 0.4, 0.6)])
def test_recurrence_learns_to_remember(kind: type[LIF], least: float, most: float) -> None:
    """After 9 steps a membrane alone keeps 0.5^9 of what it was; spikes that feed each other keep the cue."""
    network = nn.Sequential(kind(nn.Linear(30, 60), 0.5, 0.15), LIF(nn.Linear(60, 2), 0.5, 0.15))
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(30):
        x, labels = cues(64, 9)
        optimizer.zero_grad()
        late = network(x)[-3:]
        propagate(late, spike_count_reward(late, labels))
        optimizer.step()
    with torch.no_grad():
        x, labels = cues(500, 9)
        accuracy = (network(x)[-3:].sum(0).argmax(1) == labels).float().mean()
    assert least <= accuracy <= most
