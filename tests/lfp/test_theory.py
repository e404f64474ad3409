"""What LFP has to do with gradients: theorem 1 and its limits, and momentum as the paper has it.

Theorem 1 (LFP app. A.2) argues that updates of LFP-0 with the feedback of eq. 7 have the sign of gradient descent on
the binary cross-entropy with sigmoid, approximately, in ReLU networks with logits that are not negative. More is true,
and nothing of it is approximate: the update of every weight is |w| times minus its gradient.

    last layer    q_c = sign(o_c) r_c / |o_c| = y_c - sigmoid(o_c) = -dL/do_c, as r_c = o_c (y_c - sigmoid(o_c))
    below         r_i = a_i sum_j w_ij q_j = -a_i dL/da_i
    ReLU          a_i = z_i where z_i > 0, so q_i = r_i / z_i = -dL/dz_i; both are 0 where z_i <= 0
    weights       d_ij = |w_ij| a_i q_j = -|w_ij| dL/dw_ij

For any number of outputs and samples, with biases, for logits of both signs. Exceptions: a weight of exactly 0 does not
move, and nothing moves for a logit of exactly 0. Activations have to be piecewise linear through 0; every other
rule, and every feedback without the factor o_c, weighs neurons or classes differently, and then signs may differ.
"""

import copy
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.tensors import random
from spiking_lfp import Affine, Epsilon, Rule, add, logit_reward, propagate
from spiking_lfp.nn.composites import Composite
from spiking_lfp.rules import AlphaBeta, Zero, ZPlusZMinus
from spiking_lfp.training.optimizers import OPTIMIZERS

SEEDS = st.integers(0, 2**32 - 1)


def reward_of(logits: Tensor, targets: Tensor) -> Tensor:
    """LFP eq. 7 for targets of any kind, two classes in one output too."""
    logits = logits.detach()
    return logits * (targets - torch.sigmoid(logits))


def updates(
    model: nn.Module,
    x: Tensor,
    targets: Tensor,
    rule: Rule | None = None,
    reward: Callable[[Tensor, Tensor], Tensor] = reward_of,
) -> list[Tensor]:
    """What LFP adds to each parameter."""
    model.zero_grad()
    with Composite(Zero() if rule is None else rule).applied(model):
        logits = model(x)
    propagate(logits, reward(logits, targets))
    found = [parameter.grad for parameter in model.parameters()]
    assert all(grad is not None for grad in found)
    return [-grad for grad in found if grad is not None]


def descents(model: nn.Module, x: Tensor, targets: Tensor) -> list[Tensor]:
    """Minus the gradient of the binary cross-entropy with sigmoid, summed over classes and samples."""
    loss = F.binary_cross_entropy_with_logits(model(x), targets, reduction="sum")
    return [-each for each in torch.autograd.grad(loss, list(model.parameters()))]


def assert_scaled(model: nn.Module, x: Tensor, targets: Tensor) -> None:
    """Updates are |w| times minus the gradient, and so have its sign."""
    pairs = zip(model.parameters(), updates(model, x, targets), descents(model, x, targets), strict=True)
    for parameter, update, descent in pairs:
        expected = parameter.detach().abs() * descent
        tolerance = 1e-9 * (1 + expected.abs().max().item())
        assert (update - expected).abs().max() <= tolerance
        clear = expected.abs() > tolerance
        assert torch.equal(update.sign()[clear], descent.sign()[clear])


def mlp(sizes: list[int], bias: bool, last_relu: bool, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, bias), activation()]
    model = nn.Sequential(*(layers if last_relu else layers[:-1])).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def targets_of(samples: int, outputs: int) -> Tensor:
    """One-hot for several outputs, either class for one."""
    if outputs == 1:
        return torch.randint(0, 2, (samples, 1)).double()
    return F.one_hot(torch.randint(0, outputs, (samples,)), outputs).double()


def opposed(found: list[Tensor], expected: list[Tensor]) -> bool:
    """Tell whether some coordinate has the opposite sign."""
    return any(bool((one * other < -1e-9).any()) for one, other in zip(found, expected, strict=True))


def columns(*values: float) -> Tensor:
    """One sample of these values."""
    return torch.tensor([values], dtype=torch.float64)


def linear(weight: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
    return layer


# ---------------------------------------------------------------- theorem 1


@settings(max_examples=60)
@given(
    SEEDS,
    st.lists(st.integers(1, 5), min_size=2, max_size=5),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
)
def test_lfp_0_is_the_gradient_times_the_size_of_the_weight(
    seed: int, sizes: list[int], samples: int, bias: bool, last_relu: bool
) -> None:
    """1 to 4 layers, 1 to 5 outputs, logits that are not negative (a last ReLU) or of both signs."""
    torch.manual_seed(seed)
    model = mlp(sizes, bias, last_relu)
    assert_scaled(model, random(samples, sizes[0]), targets_of(samples, sizes[-1]))


@settings(max_examples=20)
@given(SEEDS, st.integers(1, 3), st.booleans())
def test_it_holds_where_the_last_layer_keeps_logits_from_being_negative(seed: int, outputs: int, bias: bool) -> None:
    """The other way in which the paper's condition is met: last weights of 0 or more on what ReLUs give."""
    torch.manual_seed(seed)
    model = mlp([4, 5, outputs], bias, last_relu=False)
    with torch.no_grad():
        model[2].weight.abs_()
        if bias:
            model[2].bias.abs_()
    x = random(3, 4)
    assert (model(x) >= 0).all()
    assert_scaled(model, x, targets_of(3, outputs))


@settings(max_examples=20)
@given(SEEDS, st.sampled_from([nn.ReLU, lambda: nn.LeakyReLU(0.2)]))
def test_it_holds_for_convolutions_pooling_and_sums_too(seed: int, activation: Callable[[], nn.Module]) -> None:
    """Anything linear or piecewise linear through 0; a shared weight adds up over its places."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.last = (
                nn.Conv2d(2, 2, 3, padding=1),
                nn.Conv2d(2, 2, 3, padding=1),
                nn.Linear(8, 3),
            )
            self.act = activation()
            self.double()

        def forward(self, x: Tensor) -> Tensor:
            x = F.max_pool2d(self.act(self.one(x)), 2, 1)
            x = self.act(self.two(x) + x)
            return self.last(F.avg_pool2d(x, 2, 1).flatten(1))

    torch.manual_seed(seed)
    assert_scaled(Residual(), random(2, 2, 4, 4), targets_of(2, 3))


def test_it_holds_for_the_layers_of_this_package() -> None:
    """Without a composite: `Affine`, `add`, LFP-0, and `logit_reward`, which is eq. 7 for class indices."""
    one, two = Affine(nn.Linear(4, 3).double(), Zero()), Affine(nn.Linear(4, 3).double(), Zero())
    x, labels = random(5, 2, 4), torch.tensor([0, 2])
    logits = add(one(x), two(x), Zero())
    reward = logit_reward(logits, labels)
    assert torch.equal(reward, reward_of(logits, F.one_hot(labels, 3).double()))
    propagate(logits, reward)
    plain = [copy.deepcopy(layer.synapse) for layer in (one, two)]
    loss = F.binary_cross_entropy_with_logits(
        plain[0](x) + plain[1](x), F.one_hot(labels, 3).double().expand(5, 2, 3), reduction="sum"
    )
    for layer, other in zip((one, two), plain, strict=True):
        grad = torch.autograd.grad(loss, other.weight, retain_graph=True)[0]
        torch.testing.assert_close(layer.synapse.weight.grad, layer.synapse.weight.abs() * grad, rtol=1e-9, atol=1e-12)


def test_lfp_0_goes_down_the_loss_and_never_across_a_weight_of_zero() -> None:
    """The scalar product of update and descent is the sum of |w| g^2; a small step multiplies weights by 1 +- eta g."""
    torch.manual_seed(4)
    model = mlp([2, 8, 2], bias=True, last_relu=False)
    x = random(64, 2)
    targets = F.one_hot((x[:, 0] * x[:, 1] > 0).long(), 2).double()
    signs = [parameter.detach().sign() for parameter in model.parameters()]

    def loss() -> float:
        return F.binary_cross_entropy_with_logits(model(x), targets).item()

    losses = [loss()]
    optimizer = torch.optim.SGD(model.parameters(), 2e-3)
    for _ in range(60):
        updates(model, x, targets)
        optimizer.step()
        losses.append(loss())
    assert all(later < earlier for earlier, later in pairwise(losses))
    assert losses[-1] < 0.9 * losses[0]
    for parameter, sign in zip(model.parameters(), signs, strict=True):
        assert torch.equal(parameter.detach().sign(), sign)


# ---------------------------------------------------------------- where it ends


def test_a_weight_of_zero_does_not_move_whatever_its_gradient() -> None:
    model = nn.Sequential(linear([[1.0, 0.0]]))
    x, targets = columns(1.0, 1.0), columns(1.0)
    assert updates(model, x, targets)[0].tolist() == [[pytest.approx(1 / (1 + torch.e)), 0]]
    assert descents(model, x, targets)[0][0, 1] > 0


def test_a_logit_of_zero_hands_nothing_on_though_its_gradient_is_largest() -> None:
    """z = 1 - 1; LFP-0 has no feedback for it, and eq. 7 none to give."""
    model = nn.Sequential(linear([[1.0, -1.0]]))
    x, targets = columns(1.0, 1.0), columns(1.0)
    assert not updates(model, x, targets)[0].any()
    assert descents(model, x, targets)[0].tolist() == [[0.5, 0.5]]


def test_with_several_outputs_the_factor_of_the_logit_makes_signs_agree() -> None:
    """One hidden neuron of 1 gives the logits 1, which is right, and 0.3, which is wrong.

    By the gradient, and by eq. 7, it is to rise: 1 * (1 - sigmoid(1)) - 0.3 * sigmoid(0.3) = 0.269 - 0.172. A feedback
    of y - sigmoid(o) without the factor o weighs each class by 1 / |o|: 0.269 - 0.574.
    """

    def without_factor(logits: Tensor, targets: Tensor) -> Tensor:
        return targets - torch.sigmoid(logits.detach())

    model, x, targets = nn.Sequential(linear([[1.0]]), nn.ReLU(), linear([[1.0], [0.3]])), columns(1.0), columns(1.0, 0)
    assert descents(model, x, targets)[0].item() == pytest.approx(0.2689414 - 0.3 * 0.5744425)
    assert updates(model, x, targets)[0].item() == pytest.approx(0.2689414 - 0.3 * 0.5744425)
    found = updates(model, x, targets, reward=without_factor)
    assert found[0].item() == pytest.approx(0.2689414 - 0.5744425)
    # with one output there is nothing to weigh against
    single, target = nn.Sequential(linear([[1.0]]), nn.ReLU(), linear([[0.3]])), columns(0.0)
    assert not opposed(updates(single, x, target, reward=without_factor), descents(single, x, target))


@pytest.mark.parametrize("rule", [ZPlusZMinus(), AlphaBeta()])
def test_rules_that_part_the_signs_may_go_the_other_way(rule: Rule) -> None:
    """The logits are 1, which is right, and 3 - 2.9 = 0.1, which is wrong.

    By the gradient the first hidden neuron is to fall: 0.269 - 3 * 0.525. These rules divide by what the second logit
    is made of, 5.9 or 3 and 2.9, instead of by 0.1: its large weight of 3 counts little.
    """
    model = nn.Sequential(linear([[1.0], [1.0]]), nn.ReLU(), linear([[1.0, 0.0], [3.0, -2.9]]))
    x, targets = columns(1.0), columns(1.0, 0)
    descent = descents(model, x, targets)
    assert descent[0][0].item() == pytest.approx(0.2689414 - 3 * 0.5249792)
    assert not opposed(updates(model, x, targets, Zero()), descent)
    assert not opposed(updates(model, x, targets, Epsilon()), descent)
    assert updates(model, x, targets, rule)[0][0].item() > 0.1


def test_epsilon_may_go_the_other_way_where_it_is_not_small() -> None:
    """It takes |o| / (|o| + epsilon) of each class: 0.2, which is wrong, loses more than 6, which is right.

    The gradient is 6 * 0.0025 - 0.2 * 0.55 < 0.
    """
    model, x, targets = nn.Sequential(linear([[1.0]]), nn.ReLU(), linear([[6.0], [0.2]])), columns(1.0), columns(1.0, 0)
    descent = descents(model, x, targets)
    assert descent[0].item() < -0.09
    assert not opposed(updates(model, x, targets, Epsilon(epsilon=1e-6)), descent)
    assert updates(model, x, targets, Epsilon(epsilon=10.0))[0].item() > 1e-4


def test_activations_that_bend_weigh_neurons_otherwise() -> None:
    """LFP hands tanh its feedback unchanged: q = (a / z) (-dL/da), where the gradient has 1 - a^2 for a / z.

    A saturated neuron, whose gradient is nearly 0, counts: its share is 1 / 3 for z = 3, against 0.0099.
    """
    model = nn.Sequential(linear([[1.0]]), nn.ReLU(), linear([[0.2], [3.0]]), nn.Tanh(), linear([[1.0, -0.3]]))
    x, targets = columns(1.0), columns(1.0)
    descent = descents(model, x, targets)
    assert descent[0].item() > 0  # 0.2 * 0.961 - 3 * 0.3 * 0.0099
    assert updates(model, x, targets)[0].item() < 0  # 0.2 * 0.987 - 3 * 0.3 * 0.332
    straight = nn.Sequential(*(nn.ReLU() if isinstance(each, nn.Tanh) else each for each in model))
    assert not opposed(updates(straight, x, targets), descents(straight, x, targets))


# ---------------------------------------------------------------- momentum


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("rate", [0.1, 1e-3])
def test_sgd_with_dampening_is_the_momentum_of_the_paper(rate: float, momentum: float) -> None:
    """LFP eq. 5: d = a d_old + (1 - a) d_new, w += rate d.

    Torch takes the first update undamped, as if d_old had been d_new; with d_old = 0 it would be 1 - a of it.
    """
    model = mlp([3, 4, 2], bias=True, last_relu=False)
    replica = copy.deepcopy(model)
    optimizer = OPTIMIZERS["sgd"](model.parameters(), rate, momentum, 0.999)
    kept: list[Tensor] | None = None
    for _ in range(6):
        x, targets = random(4, 3), targets_of(4, 2)
        optimizer.zero_grad()
        updates(model, x, targets, Epsilon())
        optimizer.step()
        new = updates(replica, x, targets, Epsilon())
        old = new if kept is None else kept
        kept = [momentum * before + (1 - momentum) * now for before, now in zip(old, new, strict=True)]
        with torch.no_grad():
            for parameter, each in zip(replica.parameters(), kept, strict=True):
                parameter += rate * each
        for one, other in zip(model.parameters(), replica.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
