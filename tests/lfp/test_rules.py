"""Rules: the arithmetic of one over the normaliser."""

import dataclasses
import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spiking_lfp import LI, LIF, Affine, CubaLIF, Epsilon, UsageError, propagate
from spiking_lfp.nn.layers import SynapticLayer
from spiking_lfp.rules import Contributions, Rule


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


class Odd(Rule):
    """One of somebody's own, that returns whatever it is told to."""

    def __init__(self, returned: Any) -> None:
        self.returned = returned

    def gain(self, contributions: Contributions) -> Tensor:
        found: Tensor = self.returned(contributions)
        return found


def learn(kind: type[SynapticLayer], rule: Rule) -> None:
    outputs = kind(nn.Linear(3, 4), rule=rule)(torch.rand(5, 2, 3))
    propagate(outputs, torch.ones_like(outputs))


@pytest.mark.parametrize("kind", [LIF, CubaLIF, LI, Affine])
@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (lambda _: 1.0, "1.0"),
        (lambda _: None, "None"),
        (lambda _: torch.ones(4), "[4]"),
        (lambda z: (z.total,) * 3, "[5, 2, 4] and [5, 2, 4] and [5, 2, 4]"),
    ],
)
def test_what_is_no_gain_is_refused_with_the_rules_name(kind: type[SynapticLayer], returned: Any, found: str) -> None:
    message = (
        f"Odd.gain returned {found}, expected 1 / N of every neuron, a tensor [5, 2, 4] as contributions.total is, or "
        "a pair of them"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        learn(kind, Odd(returned))


def test_a_rule_that_does_not_say_that_it_needs_sums_by_sign_is_told_to() -> None:
    with pytest.raises(UsageError, match="set needs_sums_by_sign = True in its class"):
        learn(LIF, Odd(lambda z: z.positive_and_negative()[0]))
