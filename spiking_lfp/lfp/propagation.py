"""How feedback crosses a synapse by a rule: `q` of its neurons becomes feedback on its inputs, and updates.

`q` comes alone, or as a pair, the first for positive contributions and the second for the others.
Shapes are those of `synapses`.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from spiking_lfp import kernels
from spiking_lfp.checks import require
from spiking_lfp.errors import NonFiniteError
from spiking_lfp.kernels.spikes import PackedSpikes
from spiking_lfp.lfp.synapses import Synapse
from spiking_lfp.lfp.tape import expect_reward
from spiking_lfp.neurons.base import Q, by_sign
from spiking_lfp.rules import Contributions, Rule

Inputs = Tensor | PackedSpikes


def signed(rule: Rule, contributions: Contributions, feedback: Tensor) -> Q:
    """Return `q` of ordinary neurons: `sign(z) * r / N`."""
    signed_feedback = contributions.total.sign() * feedback
    return tuple(signed_feedback * gain for gain in rule.gains(contributions))


def sums_by_sign(
    rule: Rule, synapse: Synapse, x: Inputs, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """Return `z+` and `|z-|` of `W x + b`, if the rule asks for them."""
    if not rule.needs_sums_by_sign:
        return None
    x, weight, bias = _seen(rule, x, weight, bias)
    biases = (None, None) if bias is None else (bias.clamp(min=0), -bias.clamp(max=0))
    weights = weight.clamp(min=0), -weight.clamp(max=0)
    (_, some), *others = _by_sign(x)
    positive, negative = (synapse.current(some, *each) for each in zip(weights, biases, strict=True))
    for _, below in others:
        positive = positive - synapse.current(below, weights[1], None)
        negative = negative - synapse.current(below, weights[0], None)
    return positive, negative


def distribute(
    rule: Rule,
    synapse: Synapse,
    q: Q,
    x: Inputs,
    weights: tuple[Tensor, Tensor | None],
    needs: tuple[bool, bool, bool],
    name: str,
    forward_weight: Tensor | None = None,
    folded: bool = False,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Hand `q` `[time, B, *o]` through a synapse: feedback on `x`, and minus the updates of weight and bias.

    LFP eq. 2-4: `r_x = x * (W^T q)`, `d_W = |W| * sum q x^T`, `d_b = |b| * sum q`. `time` is that of `x`.

    Args:
        weights: weight and bias.
        needs: which of the three results are needed.
        name: of the layer, for errors.
        forward_weight: the weight that took part, where it is not the one that learns: a rounded one.
        folded: return minus `sum q` for a bias, which something else knows the size of.

    Raises:
        NonFiniteError: if one of the results holds NaN or infinity.
    """
    if needs[1] or needs[2]:
        expect_reward(name)
    weight, bias = weights
    x, forward_weight, seen_bias = _seen(rule, x, weight if forward_weight is None else forward_weight, bias)
    if len(q) == 1:
        down, outer = synapse.adjoints(q[0], x, forward_weight, *needs[:2])
    else:
        down, outer = _apart(synapse, q, x, forward_weight, *needs[:2])
    # the one place where an update turns into a descent direction
    finite = []
    if outer is not None:
        finite.append(kernels.descent_(outer, forward_weight if rule.uniform else weight))
    grad_bias = None
    if needs[2] and bias is not None and seen_bias is not None:
        axes = set(range(q[0].dim())) - {synapse.axis % q[0].dim()}
        sums = tuple(each.sum(tuple(axes)) if axes else each for each in q)
        grad_bias = by_sign(sums, seen_bias).clone()
        finite.append(kernels.descent_(grad_bias, torch.ones_like(seen_bias) if folded else seen_bias))
    if outer is None and down is not None:
        finite.append(down.sum().isfinite())
    for holds in finite:
        require_finite(holds, name)
    return down, outer, grad_bias


def require_finite(holds: Tensor, name: str) -> None:
    """Stop with the layer's name if the truth value is false."""
    require(
        holds,
        NonFiniteError,
        f"layer {name}: its feedback holds NaN or infinity; lower the learning rate, clip the updates "
        "(AdaptiveClip) or normalise the feedback (NormalizeFeedback)",
    )


def _apart(
    synapse: Synapse, q: Q, x: Inputs, weight: Tensor, need_input: bool, need_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Do what `Synapse.adjoints` does with a `q` of its own for positive and for negative contributions."""
    down: Tensor | None = None
    outers: dict[bool, Tensor] = {}
    for sign, some in _by_sign(x):
        for grows, mine in ((True, weight.clamp(min=0)), (False, weight.clamp(max=0))):
            share = q[0] if grows == (sign > 0) else q[1]
            handed, outer = synapse.adjoints(share, some, mine, need_input, need_weight)
            if handed is not None:
                down = handed if down is None else down + handed
            if outer is not None:
                outers[grows] = outer if grows not in outers else outers[grows] + outer
    return down, torch.where(weight >= 0, outers[True], outers[False]) if need_weight else None


def _by_sign(x: Inputs) -> Iterator[tuple[int, Inputs]]:
    """Yield the non-negative part of the inputs with 1, and the other, if there is one, with -1 (it stays negative)."""
    if isinstance(x, PackedSpikes) or not bool((x < 0).any()):
        yield 1, x
    else:
        yield 1, x.clamp(min=0)
        yield -1, x.clamp(max=0)


def _seen(rule: Rule, x: Inputs, weight: Tensor, bias: Tensor | None) -> tuple[Inputs, Tensor, Tensor | None]:
    """Return the inputs and weights that contribute by the rule."""
    if not rule.uniform:
        return x, weight, bias
    ones = torch.ones(x.shape, dtype=weight.dtype, device=weight.device)
    return ones, torch.ones_like(weight), None if bias is None else torch.ones_like(bias)
