"""Rules: the arithmetic of one over the normaliser."""

import dataclasses
import math

import pytest
import torch

from spiking_lfp import Epsilon, UsageError
from spiking_lfp.rules import Contributions


def test_epsilon_of_an_ordinary_neuron() -> None:
    """LFP eq. 8, 9: N = |z| + eps."""
    z = torch.tensor([-2.0, -0.5, 0.0, 0.25, 3.0], dtype=torch.float64)
    found = Epsilon(0.5).gain(Contributions(z))
    assert found.tolist() == pytest.approx([1 / (abs(value) + 0.5) for value in z.tolist()], rel=1e-15)


def test_epsilon_of_a_neuron_with_memory() -> None:
    """N = |U[t-1]| + |V[t] - U[t-1]| + eps, for all combinations of signs."""
    values = torch.tensor([-1.5, -0.25, 0.0, 0.25, 1.5], dtype=torch.float64)
    v, u = torch.meshgrid(values, values, indexing="ij")
    found = Epsilon(0.01).gain(Contributions(v, u))
    for i, j in torch.cartesian_prod(torch.arange(5), torch.arange(5)).tolist():
        new, old = values[i].item(), values[j].item()
        assert found[i, j].item() == pytest.approx(1 / (abs(old) + abs(new - old) + 0.01), rel=1e-15)


def test_epsilon_defaults_to_that_of_the_paper() -> None:
    assert Epsilon().gain(Contributions(torch.zeros(1, dtype=torch.float64))).item() == pytest.approx(1e6, rel=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_gain_has_dtype_and_shape_of_the_membrane(dtype: torch.dtype) -> None:
    z = torch.randn(2, 3, 4).to(dtype)
    for contributions in (Contributions(z), Contributions(z, z)):
        gain = Epsilon().gain(contributions)
        assert gain.dtype == dtype
        assert gain.shape == z.shape


def test_rules_leave_the_contributions_alone() -> None:
    total, previous = torch.randn(5), torch.randn(5)
    copies = total.clone(), previous.clone()
    Epsilon().gain(Contributions(total, previous))
    assert torch.equal(total, copies[0])
    assert torch.equal(previous, copies[1])


def test_rules_are_values() -> None:
    assert Epsilon(1e-3) == Epsilon(1e-3) != Epsilon(1e-4)
    assert repr(Epsilon(1e-3)) == "Epsilon(epsilon=0.001)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        Epsilon().epsilon = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("epsilon", [0.0, -1e-6, math.nan])
def test_epsilon_must_be_positive(epsilon: float) -> None:
    with pytest.raises(UsageError, match="epsilon must be greater than 0"):
        Epsilon(epsilon)
