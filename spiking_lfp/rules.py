"""LFP rules: how a neuron divides its feedback among its contributions (LFP eq. 2-13).

A neuron with feedback `r` hands `z_i * q` to the contribution `z_i`, with `q = sign(z) * r * gain` and `z = sum_i z_i`.
A rule is nothing but the arithmetic of that gain, one over the rule's normaliser; it knows neither synapses nor time.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from spiking_lfp.arguments import describe
from spiking_lfp.errors import UsageError

Gain = Float[Tensor, "..."]
EPSILON = 1e-6


@dataclass(frozen=True)
class Contributions:
    """What a neuron added up, the same shape everywhere: `[B, *neurons]` of one step, or any other.

    Attributes:
        total: `z`, the sum of all contributions; for a LIF neuron the membrane before the reset, `V[t]`.
        previous: what the membrane was one step earlier, `U[t-1]`; None for a neuron without memory.
        sums_by_sign: `z+` and `|z-|`, the sizes of the sums of positive and of negative contributions, of which the
            decayed membrane is one; for rules with `needs_sums_by_sign`.

    Example:
        >>> contributions = Contributions(total=torch.tensor([3.0]), previous=torch.tensor([-1.0]))
        >>> contributions.size()  # |-1| + |3 - -1|
        tensor([5.])
    """

    total: Tensor
    previous: Tensor | None = None
    sums_by_sign: tuple[Tensor, Tensor] | None = None

    def size(self) -> Tensor:
        """Return `|z|`, where a neuron has a memory that of its two parts: what was there and what came."""
        if self.previous is None:
            return self.total.abs()
        return self.previous.abs() + (self.total - self.previous).abs()

    def positive_and_negative(self) -> tuple[Tensor, Tensor]:
        """Return `z+` and `|z-|`; raises a UsageError for rules without `needs_sums_by_sign`."""
        if self.sums_by_sign is None:
            raise UsageError(
                "the rule asks for positive_and_negative(), which are computed only for rules that say so: set "
                "needs_sums_by_sign = True in its class"
            )
        return self.sums_by_sign


class Rule(ABC):
    """One way to normalise feedback; subclasses are small frozen dataclasses.

    Attributes:
        needs_sums_by_sign: whether the gain depends on the sums of positive and of negative contributions, which cost
            two more products.
        uniform: whether all connections count alike, as if inputs and weights were 1.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Square(Rule):  # one of your own, for any layer
        ...     def gain(self, contributions):
        ...         return 1 / (contributions.total.square() + 1)
        >>> layer = LIF(nn.Linear(4, 3), rule=Square())
    """

    needs_sums_by_sign: ClassVar[bool] = False
    uniform: ClassVar[bool] = False

    @abstractmethod
    def gain(self, contributions: Contributions) -> Gain | tuple[Gain, Gain]:
        """Return `1 / N`, elementwise, in the shape of `contributions.total`.

        Or a pair of them, the first for the contributions that are positive, the second for the others.
        """

    def gains(self, contributions: Contributions) -> tuple[Gain, ...]:
        """Return the one gain, or both.

        Raises:
            UsageError: if `gain` returned something else.
        """
        found: object = self.gain(contributions)
        gains, total = found if isinstance(found, tuple) else (found,), contributions.total
        if len(gains) > 2 or any(not isinstance(each, Tensor) or each.shape != total.shape for each in gains):
            shown = [list(each.shape) if isinstance(each, Tensor) else describe(each) for each in gains]
            raise UsageError(
                f"{type(self).__name__}.gain returned {' and '.join(map(str, shown))}, expected 1 / N of every neuron, "
                f"a tensor {list(total.shape)} as contributions.total is, or a pair of them"
            )
        return gains


@dataclass(frozen=True)
class Zero(Rule):
    """LFP-0 (LFP eq. 2-4): `N = |z|`, and no feedback for anything where `z = 0`. For theory; it may explode.

    Example:
        >>> Zero().gain(Contributions(torch.tensor([2.0, 0.0])))
        tensor([0.5000, 0.0000])
    """

    def gain(self, contributions: Contributions) -> Gain:
        """Return `1 / |z|`."""
        size = contributions.size()
        return torch.where(size > 0, size.reciprocal(), 0.0)


@dataclass(frozen=True)
class _Stabilised(Rule):
    """Base of the rules whose normaliser is kept from 0 by `epsilon`."""

    epsilon: float = field(default=EPSILON, kw_only=True)

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise UsageError(f"epsilon must be greater than 0, found {self.epsilon}")


@dataclass(frozen=True)
class Epsilon(_Stabilised):
    """LFP-epsilon (LFP eq. 8, 9): `N = |z| + epsilon`, the rule of the paper's spiking networks.

    The parts of a LIF neuron are what its membrane was and what came: `N = |U[t-1]| + |V[t] - U[t-1]| + epsilon`,
    as in the authors' package.

    Example:
        >>> Epsilon().gain(Contributions(torch.tensor([2.0, -4.0])))
        tensor([0.5000, 0.2500])
        >>> layer = LIF(nn.Linear(4, 3), rule=Epsilon(1e-3))
    """

    epsilon: float = EPSILON

    def gain(self, contributions: Contributions) -> Gain:
        """Return `1 / (|z| + epsilon)`, with `|z|` split into old and new where the neuron has a memory."""
        return (contributions.size() + self.epsilon).reciprocal()


@dataclass(frozen=True)
class ZPlusZMinus(_Stabilised):
    """LFP-z+z- (LFP eq. 12, 13, A.13): `N = z+ + |z-| + epsilon`, so that feedback never grows from layer to layer.

    Example:
        >>> sums = torch.tensor([3.0]), torch.tensor([1.0])  # z+ and |z-|
        >>> ZPlusZMinus().gain(Contributions(torch.tensor([2.0]), sums_by_sign=sums))
        tensor([0.2500])
    """

    needs_sums_by_sign: ClassVar[bool] = True

    def gain(self, contributions: Contributions) -> Gain:
        """Return `1 / (z+ + |z-| + epsilon)`."""
        positive, negative = contributions.positive_and_negative()
        return (positive + negative + self.epsilon).reciprocal()


@dataclass(frozen=True)
class AlphaBeta(_Stabilised):
    """LFP-alpha-beta (LFP eq. 10, 11): positive and negative contributions share feedback by themselves.

    At most `alpha` times the feedback goes to the positive ones and `beta` times to the negative ones, with opposite
    signs: as `alpha - beta = 1`, the sum is kept where `z > 0` and there are both.

    Raises:
        UsageError: unless `alpha - beta = 1` and `beta >= 0`.

    Example:
        >>> sums = torch.tensor([4.0]), torch.tensor([2.0])  # z+ and |z-|
        >>> AlphaBeta(alpha=2.0, beta=1.0).gain(Contributions(torch.tensor([2.0]), sums_by_sign=sums))
        (tensor([0.5000]), tensor([0.5000]))
    """

    alpha: float = 2.0
    beta: float = 1.0
    needs_sums_by_sign: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.beta >= 0 and abs(self.alpha - self.beta - 1) < 1e-9):
            raise UsageError(f"alpha - beta must be 1 and beta at least 0, found {self.alpha} and {self.beta}")

    def gain(self, contributions: Contributions) -> tuple[Gain, Gain]:
        """Return `alpha / (z+ + epsilon)` and `beta / (|z-| + epsilon)`."""
        positive, negative = contributions.positive_and_negative()
        return self.alpha / (positive + self.epsilon), self.beta / (negative + self.epsilon)


@dataclass(frozen=True)
class Gamma(_Stabilised):
    """LFP-gamma: contributions with the sign of `z` count `1 + gamma` times; with 0 it is LFP-epsilon without a memory.

    LRP-gamma (Montavon et al. 2019) in its form for both signs (Andeol et al. 2021); not in the LFP paper. It keeps
    the sum of feedback but for epsilon.

    Example:
        >>> sums = torch.tensor([4.0]), torch.tensor([2.0])  # z+ and |z-|
        >>> positive, negative = Gamma(gamma=1.0).gain(Contributions(torch.tensor([2.0]), sums_by_sign=sums))
        >>> 4 * positive - 2 * negative  # of the feedback, in all
        tensor([1.0000])
    """

    gamma: float = 0.25
    needs_sums_by_sign: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.gamma >= 0:
            raise UsageError(f"gamma must be at least 0, found {self.gamma}")

    def gain(self, contributions: Contributions) -> tuple[Gain, Gain]:
        """Return the gains of both signs; their normaliser is `|z + gamma * (z+ or z-)| + epsilon`."""
        positive, negative = contributions.positive_and_negative()
        rises = positive >= negative
        agreeing = torch.where(rises, positive, negative)
        gain = ((positive - negative).abs() + self.gamma * agreeing + self.epsilon).reciprocal()
        more = gain * (1 + self.gamma)
        return torch.where(rises, more, gain), torch.where(rises, gain, more)


@dataclass(frozen=True)
class Flat(_Stabilised):
    """LFP-flat: all connections get the same, whatever they contributed (LRP-flat, Bach et al. 2016; not in LFP).

    Meant for the first layer. The past of a LIF neuron counts as what it is.

    Example:
        >>> first = LIF(nn.Linear(784, 100), rule=Flat())  # feedback on its inputs is blind to their weights
        >>> rules = Composite(Epsilon(), positions={0: Flat()})  # the same, for any network
    """

    needs_sums_by_sign: ClassVar[bool] = True
    uniform: ClassVar[bool] = True

    def gain(self, contributions: Contributions) -> Gain:
        """Return one over how many there are."""
        positive, negative = contributions.positive_and_negative()
        return (positive + negative + self.epsilon).reciprocal()


def checked_rule(rule: Rule | None) -> Rule:
    """Return the rule of a layer, `Epsilon()` if None.

    Raises:
        UsageError: if it is no rule.
    """
    if rule is None:
        return Epsilon()
    if not isinstance(rule, Rule):
        raise UsageError(f"rule is {rule!r}, expected a rule such as Epsilon(), or None for that one")
    return rule
