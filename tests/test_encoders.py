"""Encoders."""

import math

import pytest
import torch

from spiking_lfp import NonFiniteError, UsageError, constant
from spiking_lfp.encoders import is_constant


@pytest.mark.parametrize("shape", [(3, 4), (2, 1, 5, 5), (1, 1)])
@pytest.mark.parametrize("steps", [1, 7])
def test_constant_repeats_the_images_without_a_copy(shape: tuple[int, ...], steps: int) -> None:
    images = torch.rand(shape)
    x = constant(images, steps)
    assert x.shape == (steps, *shape)
    assert all(torch.equal(step, images) for step in x)
    assert x.untyped_storage().data_ptr() == images.untyped_storage().data_ptr()


def test_constant_hands_back_the_sum_of_all_steps() -> None:
    images = torch.rand(3, 4, requires_grad=True)
    feedback = torch.rand(6, 3, 4)
    constant(images, 6).backward(feedback)
    assert images.grad is not None
    torch.testing.assert_close(images.grad, feedback.sum(0))


def test_only_one_tensor_seen_in_several_steps_is_constant() -> None:
    images = torch.rand(3, 4)
    assert is_constant(constant(images, 2))
    assert is_constant(constant(images, 5).flatten(2))
    assert not is_constant(constant(images, 5).clone())
    assert not is_constant(constant(images, 1))  # nothing to save
    # one value for all samples, but not for all steps
    assert not is_constant(torch.rand(5, 1, 1).expand(5, 3, 4))


@pytest.mark.parametrize("steps", [0, -3])
def test_constant_needs_a_step(steps: int) -> None:
    with pytest.raises(UsageError, match=f"steps must be at least 1, found {steps}"):
        constant(torch.rand(3, 4), steps)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_constant_refuses_images_that_are_not_finite(value: float) -> None:
    images = torch.rand(3, 4)
    images[1, 2] = value
    with pytest.raises(NonFiniteError, match="the images hold NaN or infinity"):
        constant(images, 5)
