"""LFP rules: how a neuron divides its feedback among its contributions (LFP eq. 2-13).

A neuron with feedback `r` hands `z_i * q` to the contribution `z_i`, with `q = sign(z) * r * gain` and `z = sum_i z_i`.
A rule is nothing but the arithmetic of that gain, one over the rule's normaliser; it knows neither synapses nor time.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from spiking_lfp.errors import UsageError


@dataclass(frozen=True)
class Contributions:
    """What a neuron added up, the same shape everywhere: `[B, *neurons]` of one step, or any other.

    Attributes:
        total: `z`, the sum of all contributions; for a LIF neuron the membrane before the reset, `V[t]`.
        previous: what the membrane was one step earlier, `U[t-1]`; None for a neuron without memory.
    """

    total: Tensor
    previous: Tensor | None = None


class Rule(ABC):
    """One way to normalise feedback; subclasses are small frozen dataclasses."""

    @abstractmethod
    def gain(self, contributions: Contributions) -> Float[Tensor, "..."]:
        """Return `1 / N`, elementwise, in the shape of `contributions.total`."""


@dataclass(frozen=True)
class Epsilon(Rule):
    """LFP-epsilon (LFP eq. 8, 9): `N = |z| + epsilon`, the rule of the paper's spiking networks.

    The parts of a LIF neuron are what its membrane was and what came: `N = |U[t-1]| + |V[t] - U[t-1]| + epsilon`,
    as in the authors' package.
    """

    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise UsageError(f"epsilon must be greater than 0, found {self.epsilon}")

    def gain(self, contributions: Contributions) -> Float[Tensor, "..."]:
        """Return `1 / (|z| + epsilon)`, with `|z|` split into old and new where the neuron has a memory."""
        total, previous = contributions.total, contributions.previous
        size = total.abs() if previous is None else previous.abs() + (total - previous).abs()
        return (size + self.epsilon).reciprocal()
