"""Every layer against its oracle, and what autograd, optimisers and copies make of them."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from helpers import oracles
from helpers.layers import SYNAPSES, assert_parameters_near, build
from helpers.tensors import assert_near, random
from spiking_lfp import (
    LIF,
    Dropout,
    Epsilon,
    Flatten,
    MaxPool2d,
    NormalizeFeedback,
    constant,
    propagate,
)
from spiking_lfp.neurons.lif import RESETS, Reset
from spiking_lfp.rules import Contributions, Rule


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", SYNAPSES)
def test_lif_equals_the_oracle(kind: str, reset: Reset) -> None:
    synapse, shape = build(kind)
    x = (torch.rand(6, 2, *shape) * 2 - 0.5).double().requires_grad_()
    layer = LIF(synapse, 0.8, 0.6, reset, Epsilon(1e-3))
    outputs = layer(x).shape[2:]
    initial = (0.6 + random(2, *outputs)).requires_grad_()  # half of them start above the threshold
    on_spikes, on_final = random(6, 2, *outputs), random(2, *outputs)

    spikes, final = layer.run(x, initial)
    torch.autograd.backward([spikes, final], [on_spikes, on_final])

    expected = oracles.lif_layer(synapse, x, on_spikes, 0.8, 0.6, reset, 1e-3, initial, on_final)
    assert 0 < spikes.sum() < spikes.numel()
    assert torch.equal(spikes, expected.output)
    assert_near(final, expected.final)
    assert_near(x.grad, expected.on_input)
    assert_near(initial.grad, expected.on_initial)
    assert_parameters_near(synapse, expected)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", ["linear", "conv, groups"])
def test_lif_with_constants_per_neuron_equals_the_oracle(kind: str, reset: Reset) -> None:
    synapse, shape = build(kind)
    outputs = oracles.wires_of(synapse, shape).outputs
    beta, threshold = 1 - torch.rand(outputs, dtype=torch.float64), torch.rand(outputs, dtype=torch.float64) + 0.1
    x, on_spikes = torch.rand(5, 3, *shape, dtype=torch.float64), random(5, 3, *outputs)
    spikes = LIF(synapse, beta, threshold, reset)(x)
    spikes.backward(on_spikes)
    expected = oracles.lif_layer(synapse, x, on_spikes, beta, threshold, reset, 1e-6)
    assert torch.equal(spikes, expected.output)
    assert_parameters_near(synapse, expected)


def test_constants_per_channel_broadcast_over_the_plane() -> None:
    synapse, shape = nn.Conv2d(1, 3, 2).double(), (1, 4, 4)
    beta = torch.tensor([0.2, 0.9, 1.0], dtype=torch.float64)
    x = torch.rand(5, 2, *shape, dtype=torch.float64)
    assert torch.equal(
        LIF(synapse, beta.view(3, 1, 1), 0.4)(x),
        LIF(synapse, beta.view(3, 1, 1).expand(3, 3, 3).clone(), 0.4)(x),
    )


def test_one_neuron_in_one_step_by_hand() -> None:
    """LFP eq. 2-4 and 8 by hand: one neuron, one step, U = 0.5 * 2 + 0.25 = 1.25, q = r / (U + eps)."""
    synapse = nn.Linear(1, 1).double()
    nn.init.constant_(synapse.weight, -0.5)
    nn.init.constant_(synapse.bias, 2.25)
    x = torch.full((1, 1, 1), 2.0, dtype=torch.float64, requires_grad=True)
    LIF(synapse, rule=Epsilon(0.25))(x).backward(torch.full((1, 1, 1), 3.0, dtype=torch.float64))
    q = 3 / (1.25 + 0.25)
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(-0.5 * 2 * q)
    assert synapse.weight.grad.item() == pytest.approx(-(0.5 * 2 * q))
    assert synapse.bias.grad.item() == pytest.approx(-(2.25 * q))


def test_the_final_membrane_alone_can_carry_feedback() -> None:
    layer = LIF(nn.Linear(3, 4).double())
    x = torch.rand(5, 2, 3, dtype=torch.float64, requires_grad=True)
    on_final = random(2, 4)
    layer.run(x)[1].backward(on_final)
    expected = oracles.lif_layer(
        layer.synapse, x, torch.zeros(5, 2, 4).double(), 0.9, 1.0, "subtract", 1e-6, None, on_final
    )
    assert_near(x.grad, expected.on_input)
    assert_parameters_near(layer.synapse, expected)


def test_other_rules_go_through_the_reference() -> None:
    """A rule that is not `Epsilon` itself gives what `Epsilon` gives, if its arithmetic is the same."""

    class Same(Epsilon):
        pass

    class Other(Rule):
        def gain(self, contributions: Contributions) -> Tensor:
            return torch.full_like(contributions.total, 2.0)

    x, reward = torch.rand(6, 2, 3, dtype=torch.float64), random(6, 2, 4)
    grads = []
    for rule in (Epsilon(), Same(), Other()):
        torch.manual_seed(1)
        layer = LIF(nn.Linear(3, 4).double(), rule=rule)
        layer(x).backward(reward)
        grads.append(layer.synapse.weight.grad)
    assert_near(grads[1], grads[0], 1e-12)
    assert not torch.allclose(grads[2], grads[0])


@pytest.mark.parametrize("reset", RESETS)
def test_spikes_are_exactly_zero_or_one(reset: Reset) -> None:
    spikes = LIF(nn.Linear(20, 50), 0.9, 0.3, reset)(torch.rand(20, 4, 20))
    assert set(spikes.unique().tolist()) == {0.0, 1.0}


def test_feedback_may_come_in_any_memory_layout() -> None:
    """Autograd hands transposed, expanded and channels-last feedback on as it is."""
    x = torch.rand(6, 2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    layer = LIF(nn.Conv2d(2, 3, 3).double(), threshold=0.2)
    reward = random(6, 2, 3, 3, 3)

    def grads(reward: Tensor) -> tuple[Tensor, Tensor]:
        x.grad = layer.synapse.weight.grad = None
        layer(x).backward(reward)
        assert x.grad is not None
        return x.grad, layer.synapse.weight.grad

    expected = grads(reward)
    transposed = reward.transpose(0, 1).contiguous().transpose(0, 1)
    channels_last = reward.flatten(0, 1).to(memory_format=torch.channels_last).view_as(reward)
    for layout in (transposed, channels_last):
        assert torch.equal(layout, reward)
        for actual, reference in zip(grads(layout), expected, strict=True):
            assert_near(actual, reference, 1e-12)
    ones = torch.ones(1, dtype=torch.float64).expand_as(reward)
    for actual, reference in zip(grads(ones), grads(ones.contiguous()), strict=True):
        assert_near(actual, reference, 1e-12)


def test_a_channels_last_network_learns_the_same() -> None:
    network = nn.Sequential(
        LIF(nn.Conv2d(2, 4, 3), threshold=0.2), MaxPool2d(2), Flatten(), LIF(nn.Linear(16, 3))
    ).double()
    x = torch.rand(5, 2, 2, 6, 6, dtype=torch.float64)
    grads = []
    for layout in (torch.contiguous_format, torch.channels_last):
        other = copy.deepcopy(network).to(memory_format=layout)
        spikes = other(x)
        propagate(spikes, torch.ones_like(spikes))
        grads.append([parameter.grad for parameter in other.parameters()])
    for actual, expected in zip(*grads, strict=True):
        assert_near(actual, expected, 1e-12)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("needs_input_feedback", [False, True])
@pytest.mark.parametrize("kind", ["linear", "conv, same"])
def test_constant_input_equals_the_same_input_materialised(kind: str, needs_input_feedback: bool, reset: Reset) -> None:
    synapse, shape = build(kind)
    with torch.no_grad():
        for parameter in synapse.parameters():  # dyadic, so that the currents are exact in any order
            parameter.copy_((parameter * 16).round() / 16)
    images = torch.randint(0, 9, (3, *shape)).double() / 8
    reward = random(10, 3, *oracles.wires_of(synapse, shape).outputs)

    def run(materialise: bool) -> tuple[Tensor, list[Tensor | None]]:
        synapse.zero_grad()
        leaf = images.clone().requires_grad_(needs_input_feedback)
        x = constant(leaf, 10)
        spikes = LIF(synapse, 0.9, 0.3, reset)(x.clone() if materialise else x)
        spikes.backward(reward)
        return spikes, [synapse.weight.grad, synapse.bias.grad, *([leaf.grad] if needs_input_feedback else [])]

    spikes, grads = run(materialise=False)
    expected_spikes, expected = run(materialise=True)
    assert spikes.any()
    assert torch.equal(spikes, expected_spikes)
    for actual, reference in zip(grads, expected, strict=True):
        assert_near(actual, reference, 1e-12)


def multiplications(layer: LIF, x: Tensor) -> int:
    """Floating point operations of all matrix products and convolutions, forward and back."""
    with FlopCounterMode(display=False) as counter:
        spikes = layer(x)
        spikes.backward(torch.ones_like(spikes))
    return counter.get_total_flops()


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_constant_input_is_multiplied_once_forward_and_once_back(kind: str) -> None:
    synapse, shape = build(kind)
    layer = LIF(synapse)
    x = constant(torch.rand(3, *shape, dtype=torch.float64), 11)
    once = 2 * 3 * len(oracles.wires_of(synapse, shape).wires)  # a product and a sum for each wire and sample
    assert multiplications(layer, x) == 2 * once
    assert multiplications(layer, x.clone()) == 2 * once * 11


def test_the_first_layer_spends_nothing_on_feedback_that_nobody_wants() -> None:
    layer = LIF(nn.Linear(7, 5))
    x = torch.rand(4, 3, 7)
    assert multiplications(layer, x.clone().requires_grad_()) == 3 / 2 * multiplications(layer, x)


def test_frozen_parameters_receive_nothing_and_feedback_passes() -> None:
    layer = LIF(nn.Linear(3, 4).double()).requires_grad_(False)
    x = torch.rand(5, 2, 3, dtype=torch.float64, requires_grad=True)
    on_spikes = random(5, 2, 4)
    layer(x).backward(on_spikes)
    assert_near(x.grad, oracles.lif_layer(layer.synapse, x, on_spikes, 0.9, 1.0, "subtract", 1e-6).on_input)
    assert layer.synapse.weight.grad is layer.synapse.bias.grad is None


def test_dropout_drops_the_same_inputs_in_all_steps_and_scales_the_rest() -> None:
    x = torch.rand(6, 40, 50, dtype=torch.float64) + 0.5
    x.requires_grad_()
    out = Dropout(0.3)(x)
    kept = out != 0
    assert torch.equal(kept, kept[:1].expand_as(kept))
    torch.testing.assert_close(out[kept], x[kept] / 0.7)
    # 2000 independent choices: five standard deviations
    assert abs(kept[0].double().mean().item() - 0.7) < 5 * (0.3 * 0.7 / 2000) ** 0.5
    assert not torch.equal(kept[0, 0], kept[0, 1])  # every sample by itself

    feedback = random(6, 40, 50)
    out.backward(feedback)
    assert x.grad is not None
    assert torch.equal(x.grad, feedback * kept)


@pytest.mark.parametrize("dropout", [Dropout(0.5).eval(), Dropout(0.0)])
def test_dropout_is_nothing_when_evaluating_or_at_zero(dropout: Dropout) -> None:
    x = constant(torch.rand(3, 5), 4)
    out = dropout(x)
    assert torch.equal(out, x)
    assert out.stride(0) == 0  # still noticed as constant


def test_dropout_of_a_constant_input_is_constant_and_the_same() -> None:
    image = torch.rand(3, 5, dtype=torch.float64)
    torch.manual_seed(0)
    once = Dropout(0.5)(constant(image, 4))
    torch.manual_seed(0)
    whole = Dropout(0.5)(constant(image, 4).contiguous())
    assert torch.equal(once, whole)
    assert (once.stride(0), whole.stride(0)) == (0, 15)  # what is behind it computes one step

    # an input that wants feedback gets that of every step
    leaf = constant(image, 4).requires_grad_()
    out, feedback = Dropout(0.5)(leaf), random(4, 3, 5)
    out.backward(feedback)
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, feedback * (out != 0))


def test_dropout_draws_anew_each_time() -> None:
    x = torch.ones(2, 4, 50)
    dropout = Dropout(0.5)
    assert not torch.equal(dropout(x), dropout(x))


@pytest.mark.parametrize("sign", [-1, 1])
def test_normalize_feedback_divides_by_the_largest_magnitude(sign: int) -> None:
    x = random(3, 2, 4).requires_grad_()
    out = NormalizeFeedback()(x)
    assert torch.equal(out, x)
    feedback = random(3, 2, 4)
    feedback[1, 1, 1] = sign * 7
    out.backward(feedback)
    assert x.grad is not None
    assert x.grad[1, 1, 1] == sign
    assert_near(x.grad, feedback / 7, 1e-15)


def test_normalize_feedback_leaves_zero_as_it_is() -> None:
    x = random(3, 2, 4).requires_grad_()
    NormalizeFeedback()(x).backward(torch.zeros(3, 2, 4).double())
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros(3, 2, 4).double())
