"""Adaptive clipping against a loop over units."""

import math

import pytest
import torch
from torch import Tensor, nn

from spiking_lfp import LIF, AdaptiveClip, UsageError, propagate


def clipped(parameter: Tensor, grad: Tensor, clip: float, minimum: float) -> Tensor:
    """Brock et al. 2021, sec. 4: G_i * clip * max(|W_i|, minimum) / |G_i| where that is less than G_i; unit by unit."""
    result = grad.clone()
    for unit in range(len(parameter)):
        weight_norm = math.sqrt(sum(value**2 for value in parameter[unit].flatten().tolist()))
        grad_norm = math.sqrt(sum(value**2 for value in grad[unit].flatten().tolist()))
        bound = clip * max(weight_norm, minimum)
        if grad_norm > bound:
            result[unit] = grad[unit] * bound / grad_norm
    return result


@pytest.mark.parametrize("shape", [(5,), (5, 7), (4, 3, 2, 2), (6, 1)])
@pytest.mark.parametrize(("clip", "minimum"), [(0.01, 1e-3), (0.5, 0.8), (3.0, 1e-3)])
def test_clipping_equals_the_loop_over_units(shape: tuple[int, ...], clip: float, minimum: float) -> None:
    parameter = nn.Parameter(torch.randn(shape, dtype=torch.float64))
    grad = torch.randn(shape, dtype=torch.float64) * torch.logspace(-4, 2, len(parameter)).view(
        -1, *[1] * (len(shape) - 1)
    )
    parameter.grad = grad.clone()
    expected = clipped(parameter.detach(), grad, clip, minimum)
    assert not torch.equal(expected, grad)
    assert any(torch.equal(mine, its) for mine, its in zip(expected, grad, strict=True))  # some units are not clipped
    AdaptiveClip([parameter], clip, minimum)()
    torch.testing.assert_close(parameter.grad, expected, rtol=1e-12, atol=0)


def test_weights_of_zero_can_move_by_the_minimum() -> None:
    parameter = nn.Parameter(torch.zeros(2, 3, dtype=torch.float64))
    parameter.grad = torch.tensor([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    AdaptiveClip([parameter], clip=0.01, minimum=1e-3)()
    torch.testing.assert_close(parameter.grad[0], torch.tensor([3.0, 0.0, 4.0], dtype=torch.float64) / 5 * 1e-5)
    assert torch.equal(parameter.grad[1], torch.zeros(3, dtype=torch.float64))


def test_parameters_without_update_are_passed_over() -> None:
    with_grad, without = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    with_grad.grad = torch.ones(2, 2)
    AdaptiveClip(iter([without, with_grad]))()  # a generator, as `parameters()` is
    assert without.grad is None
    assert with_grad.grad.max() < 0.1


def test_weights_stay_and_grads_keep_their_place() -> None:
    layer = LIF(nn.Conv2d(1, 3, 2), threshold=0.2)
    clip = AdaptiveClip(layer.parameters(), clip=1e-4)
    for _ in range(2):  # a parameter list is not used up
        layer.zero_grad()
        spikes = layer(torch.rand(6, 2, 1, 4, 4))
        propagate(spikes, torch.ones_like(spikes))
        weights = [parameter.detach().clone() for parameter in layer.parameters()]
        grads = [parameter.grad for parameter in layer.parameters()]
        before = [grad.clone() for grad in grads]
        clip()
        for parameter, weight, grad, old in zip(layer.parameters(), weights, grads, before, strict=True):
            assert torch.equal(parameter, weight)
            assert parameter.grad is grad
            torch.testing.assert_close(grad, clipped(weight, old, 1e-4, 1e-3))
            assert not torch.equal(grad, old)


def test_clipping_twice_is_clipping_once() -> None:
    parameter = nn.Parameter(torch.randn(4, 5))
    parameter.grad = torch.randn(4, 5)
    clip = AdaptiveClip([parameter])
    clip()
    once = parameter.grad.clone()
    clip()
    torch.testing.assert_close(parameter.grad, once)


@pytest.mark.parametrize(("clip", "minimum"), [(0.0, 1e-3), (-0.1, 1e-3), (math.nan, 1e-3), (0.01, 0.0), (0.01, -1.0)])
def test_bounds_must_be_positive(clip: float, minimum: float) -> None:
    with pytest.raises(UsageError, match="clip and minimum must be greater than 0"):
        AdaptiveClip([], clip, minimum)


def test_what_is_no_list_of_parameters_is_refused(unchecked: None) -> None:
    layer = LIF(nn.Linear(2, 3))
    given = {
        "Parameter": layer.synapse.weight,
        "LIF": layer,
        "tuple": layer.named_parameters(),
        "Linear": nn.Sequential(layer.synapse),
    }
    for kind, parameters in given.items():
        with pytest.raises(UsageError, match=rf"parameters must be those of network.parameters\(\), found {kind}$"):
            AdaptiveClip(parameters)
    used = layer.parameters()
    AdaptiveClip(used)
    with pytest.raises(UsageError, match=r"^parameters is empty: give network.parameters\(\) anew"):
        AdaptiveClip(used)
