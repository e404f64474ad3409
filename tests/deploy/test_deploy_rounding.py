"""Weights whose rounding errors make up for each other."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from spiking_lfp.deploy import rounding
from spiking_lfp.deploy.rounding import Rounding, second_moments


def slowly(row: Tensor, scale: float, most: int, moments: Tensor, size: int) -> Tensor:
    """One weight after the other, and least squares for those that are left."""
    damped = moments.clone()
    damped += 0.01 * moments.diagonal()[:size].mean() * torch.eye(len(moments), dtype=torch.float64)
    order = [*moments.diagonal()[:size].argsort(descending=True, stable=True).tolist(), *range(size, len(moments))]
    row = row.clone()
    for place, k in enumerate(order[:size]):
        rest, near = order[place + 1 :], float((row[k] / scale).round().clamp(-most, most) * scale)
        if rest:
            # the change of the rest that makes the change of the sum smallest
            wanted = damped[rest, k] * (row[k] - near)
            row[rest] += torch.linalg.solve(damped[rest][:, rest], wanted)
        row[k] = near
    return row


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 9), st.sampled_from([1, 7, 127]), st.booleans())
def test_it_is_least_squares_one_weight_after_the_other(seed: int, size: int, most: int, has_bias: bool) -> None:
    torch.manual_seed(seed)
    inputs = torch.randn(50, size) @ torch.randn(size, size) + 1
    synapse = nn.Linear(size, 3, bias=has_bias).double()
    moments = second_moments(synapse, inputs, 1)
    assert moments is not None
    ones = torch.cat([inputs, torch.ones(50, 1)], 1).double()
    torch.testing.assert_close(moments[0], ones.T @ ones / 50, rtol=1e-5, atol=1e-5)
    scale = torch.tensor([0.1, 0.02, 0.3], dtype=torch.float64)
    bias = synapse.bias.detach() if has_bias else None
    weight, new = Rounding.of(moments, has_bias)(synapse.weight.detach(), bias, scale, most)
    for k in range(3):
        row = synapse.weight[k].detach() if bias is None else torch.cat([synapse.weight[k].detach(), bias[k : k + 1]])
        used = moments[0] if has_bias else moments[0, :size, :size]
        found = weight[k] if new is None else torch.cat([weight[k], new[k : k + 1]])
        torch.testing.assert_close(found, slowly(row, float(scale[k]), most, used, size))
    whole = weight / scale[:, None]
    assert (whole - whole.round()).abs().max() < 1e-9
    assert whole.abs().max() <= most + 1e-9


@pytest.mark.parametrize(
    "synapse",
    [
        nn.Conv2d(2, 4, 3, padding=1),
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), groups=2, bias=False),
        nn.Conv2d(1, 3, 3, padding="same"),
    ],
)
def test_moments_of_convolutions_are_those_of_what_each_output_sees(synapse: nn.Conv2d) -> None:
    torch.manual_seed(0)
    inputs = torch.randint(0, 256, (5, 7, synapse.in_channels, 6, 5), dtype=torch.uint8)
    found = second_moments(synapse, inputs, 255)
    assert found is not None
    sides = synapse.padding if isinstance(synapse.padding, tuple) else (1, 1)
    x = functional.pad(inputs.flatten(0, 1).double() / 255, (sides[1], sides[1], sides[0], sides[0]))
    (rows, columns), (down, right) = synapse.kernel_size, synapse.stride
    per = synapse.weight.shape[1]
    for group in range(synapse.groups):
        mine = x[:, group * per : (group + 1) * per]
        seen = [
            torch.cat([mine[:, :, i : i + rows, j : j + columns].flatten(1), x.new_ones(35, 1)], 1)
            for i in range(0, x.shape[2] - rows + 1, down)
            for j in range(0, x.shape[3] - columns + 1, right)
        ]
        every = torch.cat(seen)
        torch.testing.assert_close(found[group], every.T @ every / len(every), rtol=1e-5, atol=1e-5)


def test_sums_of_correlated_inputs_keep_closer_and_many_weights_are_rounded_in_blocks() -> None:
    torch.manual_seed(0)
    inputs = (torch.randn(400, 1) + 0.2 * torch.randn(400, 300)).abs()
    synapse = nn.Linear(300, 20).double()
    weight, bias = synapse.weight.detach(), synapse.bias.detach()
    scale = (weight.abs().max() / 3).expand(20)
    moments = second_moments(synapse, inputs, 1)
    assert moments is not None
    better, shifted = Rounding.of(moments, has_bias=True)(weight, bias, scale, 3)
    assert shifted is not None
    nearest = (weight / scale[:, None]).round() * scale[:, None]
    x = inputs.double()
    wanted = x @ weight.T + bias
    errors = [(x @ each.T + other - wanted).norm() for each, other in ((better, shifted), (nearest, bias))]
    assert errors[0] < 0.2 * errors[1]
    rows = [slowly(torch.cat([weight[k], bias[k : k + 1]]), float(scale[k]), 3, moments[0], 300) for k in (0, 19)]
    torch.testing.assert_close(torch.cat([better, shifted[:, None]], 1)[[0, 19]], torch.stack(rows))


def test_inputs_that_never_come_leave_their_weights_and_too_many_are_rounded_one_by_one() -> None:
    synapse = nn.Linear(4, 2, bias=False)
    moments = second_moments(synapse, torch.zeros(3, 4), 1)
    assert moments is not None
    weight, _ = Rounding.of(moments, has_bias=False)(synapse.weight.detach(), None, torch.full((2,), 0.1), 127)
    np.testing.assert_allclose(weight, (synapse.weight.detach() / 0.1).round() * 0.1, rtol=1e-6)
    assert second_moments(nn.Linear(rounding.MOST_INPUTS + 1, 1), torch.zeros(1, rounding.MOST_INPUTS + 1), 1) is None
