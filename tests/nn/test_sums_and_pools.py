"""Affine, pooling and sums against their oracles and torch."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import oracles
from helpers.layers import SYNAPSES, assert_parameters_near, build
from helpers.tensors import assert_near, random
from spiking_lfp import (
    LIF,
    Affine,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    Epsilon,
    Flatten,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    SumPool1d,
    SumPool2d,
    SumPool3d,
    add,
    propagate,
)
from spiking_lfp.kernels import registry


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
