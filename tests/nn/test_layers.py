"""Every layer against its oracle, and what autograd, optimisers and copies make of them."""

import copy
import gc
import io
import math
import pickle
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from helpers import oracles
from spiking_lfp import (
    LI,
    LIF,
    Affine,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    Dropout,
    Epsilon,
    Flatten,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    NormalizeFeedback,
    SumPool1d,
    SumPool2d,
    SumPool3d,
    UsageError,
    add,
    constant,
    lenet,
    mlp,
    name_layers,
    propagate,
    spike_count_reward,
)
from spiking_lfp.kernels import registry
from spiking_lfp.neurons.lif import RESETS, Reset
from spiking_lfp.rules import Contributions, Rule

SYNAPSES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(7, 5), (7,)),
    "linear without bias": (nn.Linear(6, 4, bias=False), (6,)),
    "conv": (nn.Conv2d(2, 3, 3), (2, 5, 4)),
    "conv without bias": (nn.Conv2d(1, 2, 2, bias=False), (1, 3, 4)),
    "conv, stride and padding": (nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2)), (2, 6, 3)),
    "conv, same": (nn.Conv2d(2, 2, (3, 5), padding="same", dilation=(3, 1)), (2, 4, 5)),
    "conv, valid": (nn.Conv2d(2, 2, 3, padding="valid"), (2, 4, 3)),
    "conv, dilation": (nn.Conv2d(1, 2, 2, dilation=(2, 3)), (1, 4, 5)),
    "conv, groups": (nn.Conv2d(4, 6, 2, groups=2, stride=2, padding=1), (4, 3, 3)),
    "conv, same, uneven": (nn.Conv2d(2, 2, (2, 4), padding="same", dilation=(1, 3)), (2, 3, 4)),
    "conv, circular": (nn.Conv2d(2, 3, 3, stride=2, padding=(1, 2), padding_mode="circular"), (2, 4, 3)),
    "signal": (nn.Conv1d(3, 4, 3), (3, 6)),
    "signal, all arguments": (nn.Conv1d(4, 6, 3, 2, 3, 2, groups=2, bias=False), (4, 7)),
    "signal, same": (nn.Conv1d(2, 2, 4, padding="same"), (2, 5)),
    "signal, reflect": (nn.Conv1d(2, 3, 3, padding=2, padding_mode="reflect"), (2, 4)),
    "volume": (nn.Conv3d(2, 3, 2), (2, 3, 2, 4)),
    "volume, all arguments": (nn.Conv3d(2, 4, (2, 3, 1), (1, 2, 3), (1, 2, 0), (2, 1, 1), groups=2), (2, 3, 3, 4)),
    "volume, replicate": (nn.Conv3d(1, 2, 2, padding=(1, 0, 2), padding_mode="replicate"), (1, 2, 3, 2)),
    "transposed signal": (nn.ConvTranspose1d(2, 4, 3, 2, 1, output_padding=1, groups=2), (2, 4)),
    "transposed": (nn.ConvTranspose2d(3, 2, (3, 2), (2, 1), (1, 0), (1, 0), dilation=(1, 2), bias=False), (3, 3, 2)),
    "transposed volume": (nn.ConvTranspose3d(2, 2, 2), (2, 2, 1, 2)),
}


def build(kind: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A synapse in float64, and the shape of its samples."""
    synapse, shape = copy.deepcopy(SYNAPSES[kind])
    for parameter in synapse.double().parameters():
        nn.init.normal_(parameter, 0.1, 0.5)
    return synapse, shape


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def assert_near(actual: Tensor | None, expected: Tensor | None, tolerance: float = 1e-10) -> None:
    assert actual is not None
    assert expected is not None
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())


def assert_parameters_near(synapse: nn.Module, expected: oracles.Result) -> None:
    """Parameters receive minus their update."""
    assert_near(-synapse.weight.grad, expected.weight_update)
    if synapse.bias is not None:
        assert_near(-synapse.bias.grad, expected.bias_update)


# ---------------------------------------------------------------- LIF


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


# ---------------------------------------------------------------- constant input


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


# ---------------------------------------------------------------- Affine, pooling, sum


@pytest.mark.parametrize("kind", SYNAPSES)
def test_affine_equals_the_oracle(kind: str) -> None:
    synapse, shape = build(kind)
    x = random(3, 2, *shape).requires_grad_()
    z = Affine(synapse, Epsilon(1e-3))(x)
    feedback = random(*z.shape)
    z.backward(feedback)
    expected = oracles.affine_layer(synapse, x, feedback, 1e-3)
    assert_near(z.detach(), expected.output, 1e-12)
    assert_near(x.grad, expected.on_input)
    assert_parameters_near(synapse, expected)


def test_affine_feedback_is_kept_but_for_epsilon_and_the_bias() -> None:
    """What a neuron hands to its inputs and its bias adds up to |z| / (|z| + eps) of what it received (LFP eq. 2)."""
    layer = Affine(nn.Linear(6, 1, bias=False).double(), Epsilon(1e-9))
    x = random(1, 1, 6).requires_grad_()
    z = layer(x)
    z.backward(torch.full_like(z, 5.0))
    assert x.grad is not None
    assert x.grad.sum().item() == pytest.approx(5 * z.sign().item(), rel=1e-6)


POOLS = [(2, None, 6, 8), (2, None, 7, 5), (3, 2, 7, 8), (3, 1, 5, 5), (2, 3, 8, 6), (1, None, 3, 3), (4, 4, 4, 4)]


@pytest.mark.parametrize(("kernel", "stride", "height", "width"), [*POOLS, (17, None, 17, 18), (20, 3, 23, 20)])
@pytest.mark.parametrize("levels", [2, 4, 10_000])
def test_max_pool_equals_torch(kernel: int, stride: int | None, height: int, width: int, levels: int) -> None:
    """Values and winners, the first of several where few levels make ties; windows may overlap or leave gaps."""
    x = torch.randint(-1, levels, (3, 2, 2, height, width)).double().requires_grad_()
    expected_leaf = x.detach().clone().requires_grad_()
    expected = F.max_pool2d(expected_leaf.flatten(0, 1), kernel, stride)
    out = MaxPool2d(kernel, stride)(x)
    assert torch.equal(out.flatten(0, 1), expected)
    feedback = torch.randint(-5, 6, out.shape).double()
    out.backward(feedback)
    expected.backward(feedback.flatten(0, 1))
    assert x.grad is not None
    assert expected_leaf.grad is not None
    assert torch.equal(x.grad, expected_leaf.grad)


@pytest.mark.parametrize(("kernel", "stride", "height", "width"), POOLS)
def test_max_pool_gives_the_same_compiled_and_by_torch(
    kernel: int, stride: int | None, height: int, width: int
) -> None:
    x = torch.randint(0, 3, (2, 2, 3, height, width))
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        leaf = x.to(dtype).detach().requires_grad_()
        assert (registry.device_of(leaf) == "cpu") == (dtype == torch.float32)
        out = MaxPool2d(kernel, stride)(leaf)
        torch.manual_seed(3)
        out.backward(torch.randint(-3, 4, out.shape).to(dtype))
        assert leaf.grad is not None
        results.append((out.float(), leaf.grad.float()))
    for compiled, by_torch in zip(*results, strict=True):
        assert torch.equal(compiled, by_torch)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("axes", [(0, 1, 2, 4, 3), (0, 1, 3, 4, 2), (1, 0, 2, 3, 4)])
def test_max_pool_takes_any_memory_layout(axes: tuple[int, ...], channels: int) -> None:
    def in_memory(tensor: Tensor) -> Tensor:
        return tensor.permute(axes).contiguous().permute([axes.index(axis) for axis in range(5)])

    x, feedback = random(2, 3, channels, 6, 7), random(2, 3, channels, 3, 3)
    results = []
    for layout in (torch.clone, in_memory):
        leaf = layout(x).requires_grad_()
        out = MaxPool2d(2)(leaf)
        out.backward(layout(feedback))
        assert leaf.grad is not None
        results.append((out, leaf.grad))
    for actual, expected in zip(*results, strict=True):
        assert torch.equal(actual, expected)


def test_max_pool_of_spikes_is_the_or_of_the_window() -> None:
    spikes = (torch.rand(4, 2, 3, 6, 6) < 0.3).float()
    windows = spikes.unfold(3, 2, 2).unfold(4, 2, 2).flatten(-2)
    assert torch.equal(MaxPool2d(2)(spikes), windows.any(-1).float())


WINDOWS: list[tuple[Any, Any, Any, tuple[int, ...]]] = [  # kernel, stride, padding, sides
    (3, None, 0, (8,)),
    (3, 2, 1, (7,)),
    (2, 3, 1, (9,)),
    ((1, 2), None, 0, (3, 7)),
    ((3, 1), (2, 1), 0, (6, 4)),
    ((3, 2), (1, 3), (1, 0), (4, 6)),
    (3, 2, 1, (6, 7)),
    ((17, 16), 1, 0, (18, 17)),
    (2, None, 0, (4, 5, 4)),
    ((1, 3, 2), (2, 1, 2), (0, 1, 1), (3, 4, 5)),
]
MAX_POOLS = {1: (MaxPool1d, F.max_pool1d), 2: (MaxPool2d, F.max_pool2d), 3: (MaxPool3d, F.max_pool3d)}
LINEAR_POOLS = {1: (AvgPool1d, SumPool1d), 2: (AvgPool2d, SumPool2d), 3: (AvgPool3d, SumPool3d)}


@pytest.mark.parametrize(("kernel", "stride", "padding", "sides"), WINDOWS)
@pytest.mark.parametrize("levels", [2, 10_000])
def test_max_pool_of_any_window_equals_torch(
    kernel: Any, stride: Any, padding: Any, sides: tuple[int, ...], levels: int
) -> None:
    ours, theirs = MAX_POOLS[len(sides)]
    x = torch.randint(-1, levels, (3, 2, 2, *sides)).double().requires_grad_()
    leaf = x.detach().clone().requires_grad_()
    expected = theirs(leaf.flatten(0, 1), kernel, stride, padding)
    out = ours(kernel, stride, padding)(x)
    assert torch.equal(out.flatten(0, 1), expected)
    feedback = torch.randint(-5, 6, out.shape).double()
    out.backward(feedback)
    expected.backward(feedback.flatten(0, 1))
    assert x.grad is not None
    assert leaf.grad is not None
    assert torch.equal(x.grad, leaf.grad)


@pytest.mark.parametrize(("kernel", "stride", "padding", "sides"), WINDOWS)
@pytest.mark.parametrize("sums", [False, True])
def test_mean_and_sum_pool_equal_the_oracle(
    kernel: Any, stride: Any, padding: Any, sides: tuple[int, ...], sums: bool
) -> None:
    def of(value: Any) -> tuple[int, ...]:
        return (value,) * len(sides) if isinstance(value, int) else value

    x = random(2, 3, 2, *sides).requires_grad_()
    out = LINEAR_POOLS[len(sides)][sums](kernel, stride, padding, Epsilon(1e-3))(x)
    feedback = random(*out.shape)
    out.backward(feedback)
    weight = 1 if sums else 1 / math.prod(of(kernel))
    window = of(kernel), of(kernel if stride is None else stride), of(padding)
    expected, on_input = oracles.avg_pool(x, feedback, *window, 1e-3, weight)
    assert_near(out.detach(), expected, 1e-12)
    assert_near(x.grad, on_input)


def test_sums_of_spikes_are_their_counts() -> None:
    spikes = (torch.rand(4, 2, 3, 6, 6) < 0.3).float()
    assert torch.equal(SumPool2d(3)(spikes), spikes.unfold(3, 3, 3).unfold(4, 3, 3).sum((-1, -2)))


def test_a_window_says_one_number_where_its_sides_are_equal() -> None:
    """What knows square windows only can ask for an int."""
    pool = MaxPool2d((3, 3), stride=(2, 1))
    assert (pool.kernel_size, pool.stride, pool.padding) == (3, (2, 1), 0)
    assert repr(pool) == "MaxPool2d(kernel_size=3, stride=(2, 1))"


def test_flatten_keeps_time_and_batch() -> None:
    x = torch.rand(4, 3, 2, 5, 6, requires_grad=True)
    out = Flatten()(x)
    assert torch.equal(out, x.reshape(4, 3, 60))
    feedback = torch.rand(4, 3, 60)
    out.backward(feedback)
    assert x.grad is not None
    assert torch.equal(x.grad, feedback.view_as(x))


def test_add_equals_the_oracle() -> None:
    a, b = random(4, 3, 5).requires_grad_(), random(4, 3, 5).requires_grad_()
    out = add(a, b, Epsilon(1e-3))
    feedback = random(4, 3, 5)
    out.backward(feedback)
    assert torch.equal(out, a + b)
    for leaf, expected in zip((a, b), oracles.add(a.detach(), b.detach(), feedback, 1e-3), strict=True):
        assert_near(leaf.grad, expected)


def test_add_of_two_silent_tensors_hands_on_nothing() -> None:
    a, b = torch.zeros(2, 1, 3, requires_grad=True), torch.zeros(2, 1, 3, requires_grad=True)
    add(a, b).backward(torch.ones(2, 1, 3))
    for leaf in (a, b):
        assert leaf.grad is not None
        assert not leaf.grad.any()


def test_a_tensor_used_twice_adds_up_its_feedback() -> None:
    first, second = LIF(nn.Linear(4, 3).double()), LIF(nn.Linear(4, 2).double())
    x = torch.rand(6, 2, 4, dtype=torch.float64)
    parts = []
    for layer in (first, second):
        leaf = x.clone().requires_grad_()
        layer(leaf).backward(torch.ones(6, 2, layer.synapse.out_features, dtype=torch.float64))
        assert leaf.grad is not None
        parts.append(leaf.grad)
    both = x.clone().requires_grad_()
    propagate(torch.cat([first(both), second(both)], 2), torch.ones(6, 2, 5, dtype=torch.float64))
    assert_near(both.grad, parts[0] + parts[1], 1e-12)


def test_a_skip_connection_equals_its_oracles_one_after_the_other() -> None:
    below, above = LIF(nn.Linear(4, 4).double(), threshold=0.2), LIF(nn.Linear(4, 3).double(), threshold=0.2)
    x = torch.rand(5, 2, 4, dtype=torch.float64).round().requires_grad_()
    reward = random(5, 2, 3)
    propagate(above(add(below(x), x)), reward)

    hidden = below(x).detach()
    on_sum = oracles.lif_layer(above.synapse, hidden + x.detach(), reward, 0.9, 0.2, "subtract", 1e-6).on_input
    on_hidden, on_x = oracles.add(hidden, x.detach(), on_sum, 1e-6)
    expected = oracles.lif_layer(below.synapse, x, on_hidden, 0.9, 0.2, "subtract", 1e-6)
    assert hidden.any()
    assert_near(x.grad, on_x + expected.on_input)
    assert_parameters_near(below.synapse, expected)


# ---------------------------------------------------------------- Dropout, NormalizeFeedback


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


# ---------------------------------------------------------------- networks as standard torch modules


def small_network() -> nn.Sequential:
    return nn.Sequential(
        LIF(nn.Conv2d(1, 3, 3), threshold=0.2),
        MaxPool2d(2),
        Flatten(),
        NormalizeFeedback(),
        LIF(nn.Linear(12, 8), beta=torch.linspace(0.5, 1, 8), threshold=0.2),
        LIF(nn.Linear(8, 3), threshold=0.1, reset="zero", rule=Epsilon(1e-5)),
    )


def train_step(network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    spikes = network(x)
    propagate(spikes, spike_count_reward(spikes, labels))
    return spikes.detach()


def test_nothing_is_kept_after_the_backward_pass() -> None:
    network = small_network()
    kept: list[weakref.ref[Any]] = []

    class Box:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    def pack(tensor: Tensor) -> Box:
        box = Box(tensor)
        kept.append(weakref.ref(box))
        return box

    def boxes() -> int:
        return sum(box() is not None for box in kept)

    gc.disable()  # what is only freed by the garbage collector counts as kept
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.tensor):
            spikes = network(torch.rand(5, 2, 1, 6, 6))
            assert boxes() > 5
            propagate(spikes, torch.ones_like(spikes))
            assert boxes() == 0
            spikes = network(torch.rand(5, 2, 1, 6, 6))
            assert boxes() > 5
            del spikes  # without a backward pass
            assert boxes() == 0
    finally:
        gc.enable()


def test_layers_hold_no_state_between_calls() -> None:
    network, x, labels = small_network(), torch.rand(5, 2, 1, 6, 6), torch.tensor([0, 2])
    before = [dict(vars(module)) for module in network.modules()]
    first = train_step(network, x, labels)
    assert torch.equal(train_step(network, x, labels), first)
    assert [dict(vars(module)) for module in network.modules()] == before


def test_evaluation_without_grad_gives_the_same_spikes() -> None:
    network, x = small_network(), torch.rand(5, 2, 1, 6, 6)
    with torch.no_grad():
        spikes = network(x)
    assert not spikes.requires_grad
    assert torch.equal(spikes, network(x))
    with torch.inference_mode():
        assert torch.equal(network(x), spikes)


def copies(network: nn.Sequential) -> list[nn.Module]:
    loaded = small_network()
    loaded.load_state_dict(network.state_dict())
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    return [
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
        loaded,
        torch.load(file, weights_only=False),
    ]


def test_copies_behave_the_same_and_share_nothing() -> None:
    network, x, labels = small_network(), torch.rand(6, 4, 1, 6, 6), torch.tensor([0, 1, 2, 0])
    originals = [parameter.clone() for parameter in network.parameters()]
    others = copies(network)
    spikes = train_step(network, x, labels)
    assert spikes.any()
    for other in others:
        assert torch.equal(train_step(other, x, labels), spikes)
        for mine, its in zip(network.parameters(), other.parameters(), strict=True):
            assert mine.grad is not None
            assert its.grad is not None
            assert torch.equal(mine.grad, its.grad)
        torch.optim.SGD(other.parameters(), lr=1.0).step()
    for parameter, original in zip(network.parameters(), originals, strict=True):
        assert torch.equal(parameter, original)


def test_the_state_holds_weights_and_constants() -> None:
    layer = LIF(nn.Linear(3, 2), beta=0.7, threshold=torch.tensor([1.0, 2.0]))
    assert set(layer.state_dict()) == {"synapse.weight", "synapse.bias", "beta", "threshold"}
    assert [name for name, _ in layer.named_parameters()] == ["synapse.weight", "synapse.bias"]


def test_a_network_turned_to_float64_meets_the_beta_that_was_meant() -> None:
    layer = LIF(nn.Linear(1, 1), beta=0.9, threshold=0.3).double()
    nn.init.constant_(layer.synapse.weight, 0.25)
    nn.init.zeros_(layer.synapse.bias)
    _, membrane = layer.run(torch.ones(2, 1, 1, dtype=torch.float64))
    assert membrane.item() == 0.9 * 0.25 + 0.25
    assert LIF(nn.Linear(1, 1), threshold=0.1).double().threshold.item() == 0.1


def test_names_follow_the_path_in_the_network() -> None:
    network = nn.Sequential(nn.Sequential(LIF(nn.Linear(2, 3))), Flatten(), Affine(nn.Linear(3, 4)))
    layers = name_layers(network)
    assert list(layers) == ["0.0", "2"]
    assert [layer.name for layer in layers.values()] == ["0.0", "2"]
    alone = LIF(nn.Linear(2, 3))
    name_layers(alone)
    assert alone.name == f"LIF({alone.synapse})"


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (LIF(nn.Linear(2, 3), 0.7, torch.ones(3), "none"), ["beta=0.7", "per neuron [3]", "'none'", "Epsilon"]),
        (MaxPool2d(3, 2), ["kernel_size=3", "stride=2"]),
        (AvgPool2d(3, 2, 1), ["kernel_size=3", "stride=2", "padding=1"]),
        (Dropout(0.25), ["p=0.25"]),
    ],
)
def test_printing_a_layer_shows_its_settings(module: nn.Module, words: list[str]) -> None:
    assert [word for word in words if word not in repr(module)] == []


# ---------------------------------------------------------------- learning with torch.optim


def updates(network: nn.Module, x: Tensor, labels: Tensor) -> list[Tensor]:
    """The updates of LFP, to be added to the parameters."""
    network.zero_grad()
    train_step(network, x, labels)
    return [-parameter.grad.clone() for parameter in network.parameters()]


def test_sgd_adds_the_update() -> None:
    network = mlp((6,), 3, (8,), threshold=0.3).double()
    x, labels = torch.rand(10, 4, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    before = [parameter.detach().clone() for parameter in network.parameters()]
    steps = updates(network, x, labels)
    assert all(step.any() for step in steps)
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    for parameter, start, step in zip(network.parameters(), before, steps, strict=True):
        assert_near(parameter.detach(), start + 0.1 * step, 1e-12)


def test_sgd_with_dampening_is_the_momentum_of_the_paper() -> None:
    """LFP eq. 5, d = a * d_old + (1 - a) * d_new; torch starts with d = d_new."""
    a, rate = 0.8, 0.05
    network = mlp((6,), 3, (8,), threshold=0.3).double()
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=a, dampening=a)
    x, labels = torch.rand(10, 4, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    expected, d = [parameter.detach().clone() for parameter in network.parameters()], None
    for _ in range(3):
        new = updates(network, x, labels)
        d = new if d is None else [a * old + (1 - a) * step for old, step in zip(d, new, strict=True)]
        expected = [value + rate * step for value, step in zip(expected, d, strict=True)]
        optimizer.step()
        for parameter, value in zip(network.parameters(), expected, strict=True):
            assert_near(parameter.detach(), value, 1e-12)


def test_adams_first_step_has_the_sign_of_the_update() -> None:
    network = mlp((6,), 3, (8,), threshold=0.3).double()
    x, labels = torch.rand(10, 4, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    before = [parameter.detach().clone() for parameter in network.parameters()]
    steps = updates(network, x, labels)
    torch.optim.Adam(network.parameters(), lr=1e-3, eps=1e-8).step()
    for parameter, start, step in zip(network.parameters(), before, steps, strict=True):
        assert_near(parameter.detach(), start + 1e-3 * step / (step.abs() + 1e-8), 1e-9)


def test_two_half_batches_accumulate_to_the_whole() -> None:
    network = nn.Sequential(LIF(nn.Linear(6, 8), threshold=0.3), LIF(nn.Linear(8, 3), threshold=0.3)).double()
    x, labels = torch.rand(10, 6, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0, 2])
    whole = updates(network, x, labels)
    network.zero_grad()
    for half in (slice(0, 3), slice(3, 6)):
        train_step(network, x[:, half], labels[half])
    for parameter, expected in zip(network.parameters(), whole, strict=True):
        assert parameter.grad is not None
        assert_near(-parameter.grad, expected, 1e-12)


def test_a_weight_of_zero_stays_zero() -> None:
    layer = LIF(nn.Linear(6, 4), threshold=0.2)
    with torch.no_grad():
        layer.synapse.weight[:, 2] = 0
    spikes = layer(torch.rand(8, 3, 6))
    propagate(spikes, torch.ones_like(spikes))
    assert not layer.synapse.weight.grad[:, 2].any()
    assert layer.synapse.weight.grad[:, 1].any()


@pytest.mark.parametrize("kind", ["mlp", "lenet"])
def test_a_small_network_learns_to_tell_patterns_apart(kind: str) -> None:
    labels = torch.arange(2)
    x = constant(torch.rand(2, 1, 8, 8).round(), 15)
    network = mlp((1, 8, 8), 2, (30,)) if kind == "mlp" else lenet((1, 8, 8), 2, (6,), (), kernel=3)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        spikes = train_step(network, x, labels)
        optimizer.step()
    counts = spikes.sum(0)
    assert torch.equal(counts.argmax(1), labels)
    assert (counts.amax(1) - counts.amin(1) >= 3).all()


@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_autocast_changes_nothing(name: str) -> None:
    network = {"mlp": mlp, "lenet": lenet}[name](hidden=(20,), threshold=0.2)
    x, labels = constant(torch.rand(3, 1, 28, 28), 5), torch.tensor([0, 1, 4])
    outcomes = []
    for enabled in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            spikes = network(x)
            propagate(spikes, spike_count_reward(spikes, labels))
        outcomes.append([spikes, *(parameter.grad for parameter in network.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


@pytest.mark.parametrize("kind", [LIF, LI, Affine])
def test_float16_runs_and_does_not_learn(kind: Any) -> None:
    """One over epsilon is infinite in it: what is silent would get NaN for its feedback."""
    layer, x = kind(nn.Linear(3, 2, bias=False)).half(), torch.zeros(4, 1, 3, dtype=torch.float16)
    with torch.no_grad():
        assert layer(x).dtype == torch.float16
    with pytest.raises(
        UsageError, match=r"^layer .*: float16 holds no feedback.*: learn in bfloat16, float32 or float64"
    ):
        layer(x)


def transforms(network: nn.Module, x: Tensor) -> dict[str, Any]:
    def of_weights(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(network, weights, (x,)).sum()

    return {
        "vmap": lambda: torch.func.vmap(network)(torch.stack([x, x])),
        "grad": lambda: torch.func.grad(of_weights)(dict(network.named_parameters())),
        "jvp": lambda: torch.func.jvp(network, (x,), (x,)),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of jvp
@pytest.mark.parametrize("name", ["vmap", "grad", "jvp"])
@pytest.mark.parametrize("kind", [LIF, Affine])
def test_transforms_of_torch_func_are_refused_in_one_sentence(unchecked: None, kind: Any, name: str) -> None:
    run = transforms(nn.Sequential(kind(nn.Linear(3, 2))), torch.rand(4, 1, 3))[name]
    with pytest.raises(
        UsageError, match=r"^transforms of torch.func .* run the network outside of them, and propagate"
    ):
        run()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tracing_is_refused_in_one_sentence(unchecked: None) -> None:
    network, x = nn.Sequential(LIF(nn.Linear(3, 2))), torch.rand(4, 1, 3)
    with pytest.raises(UsageError, match=r"^torch.jit.trace, .* cannot follow layers with neurons: bring the network"):
        torch.jit.trace(network, x)
    with pytest.raises(UsageError, match=r"torch.export and .* cannot follow layers with neurons: bring the network"):
        torch.export.export(network, (x,))
    with pytest.raises(UsageError, match=r"^torch.jit.script cannot follow layers with neurons: bring the network"):
        torch.jit.script(network)


@pytest.mark.parametrize("kind", [LIF, Affine])
def test_tensors_of_inference_mode_take_no_feedback_and_are_refused_in_one_sentence(kind: Any) -> None:
    with torch.inference_mode():
        x = torch.rand(4, 1, 1, 4, 4)
    layer = kind(nn.Conv2d(1, 2, 3))
    with torch.no_grad():
        layer(x)
    with pytest.raises(UsageError, match=r"^inputs, weights or states were made inside torch.inference_mode\(\)"):
        layer(x)
