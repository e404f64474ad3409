"""What composites do not know, and refuse by name."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from helpers.composites import Model, run
from helpers.tensors import assert_near, random
from spiking_lfp.errors import UsageError
from spiking_lfp.lfp.rewards import propagate
from spiking_lfp.nn.composites import Composite
from spiking_lfp.rules import Epsilon, ZPlusZMinus


class Doubled(torch.autograd.Function):
    """A Function of the user's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * grad


REFUSED: dict[str, tuple[Callable[[Model, Tensor], Tensor], str]] = {
    "layer norm": (lambda m, x: m.b(F.layer_norm(m.a(x), (4,))), "NativeLayerNorm"),
    "group norm": (lambda m, x: m.b(F.group_norm(m.a(x), 2)), "NativeGroupNorm"),
    "attention": (lambda m, x: torch.softmax(m.a(x) @ m.b(x).T, -1) @ x, "Mm"),
    "product of tensors": (lambda m, x: m.a(x) * m.b(x), "Mul"),
    "gate": (lambda m, x: m.b(torch.sigmoid(m.a(x)) * m.a(x)), "Mul"),
    "scale that learns": (lambda m, x: m.b(m.a(x) * m.scale), "Mul"),
    "difference": (lambda m, x: m.a(x) - m.b(x), "Sub"),
    "quotient of a constant": (lambda m, x: m.b(torch.div(torch.ones(4), 3 + m.a(x).relu())), "Div"),
    "sum of two shapes": (lambda m, x: m.a(x) + m.scale, "Add"),
    "softmax": (lambda m, x: m.b(m.a(x).softmax(1)), "Softmax"),
    "power": (lambda m, x: m.b(m.a(x) ** 2), "Pow"),
    "einsum": (lambda m, x: torch.einsum("bi,oi->bo", m.a(x), m.b.weight), "Bmm"),
    "circular padding": (lambda m, x: m.b(F.pad(m.a(x)[:, None], (1, 1), "circular")[:, 0, :4]), "CopySlices"),
    "embedding": (lambda m, x: m.b(F.embedding(torch.tensor([0, 1, 2]), m.a.weight)), "Embedding"),
}


@pytest.mark.parametrize(
    "layer", [nn.Conv1d(2, 3, 2), nn.ConvTranspose2d(2, 3, 2), nn.Conv2d(2, 3, 2), nn.Linear(4, 3)]
)
def test_a_bias_learns_beside_frozen_weights_under_what_receives_nothing(layer: nn.Module) -> None:
    """The first layer of a model whose inputs need no feedback, with only its bias to learn."""
    model = layer.double()
    model.weight.requires_grad_(False)
    axes = {nn.Conv1d: 1, nn.Linear: 0}.get(type(layer), 2)
    x = random(3, 2, *[4] * axes) if axes else random(3, 4)
    with Composite(ZPlusZMinus()).applied(model):
        out = model(x)
    reward = random(*out.shape)
    propagate(out, reward)
    assert model.weight.grad is None
    assert model.bias.grad is not None
    assert model.bias.grad.abs().min() > 0


def test_constants_take_their_share_of_a_sum_and_none_of_a_product() -> None:
    """A product with constants has one contribution, all of the feedback, or none where the constant is 0."""
    x, reward, offset = random(3, 4), random(3, 4), random(4)

    class Both(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2.0 + (x * offset.clamp(min=0) / 3 + offset)

    leaf = x.clone().requires_grad_()
    with Composite(Epsilon(0.1)).applied(model := Both()):
        actual = model(leaf)
    assert_near(actual.detach(), Both()(x), 1e-12)
    actual.backward(reward)
    scaled = x * offset.clamp(min=0) / 3
    inner, outer = scaled + offset, scaled + offset + 2
    handed = inner * outer.sign() * reward / (outer.abs() + 0.1)
    expected = scaled * inner.sign() * handed / (inner.abs() + 0.1)
    assert_near(leaf.grad, torch.where(offset > 0, expected, 0.0), 1e-12)


@pytest.mark.parametrize("kind", REFUSED)
def test_unknown_operations_are_refused_in_one_sentence(kind: str) -> None:
    forward, operation = REFUSED[kind]
    model = Model(forward)
    message = f"LFP does not define the operation {operation} (torch's name) of the model: replace it"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"), Composite().applied(model):
        model(random(3, 4))
    assert "forward" not in vars(model)
    assert model(random(3, 4)).requires_grad  # outside it is a model like any other


def test_a_function_of_the_user_s_own_is_refused_in_one_sentence() -> None:
    model = Model(lambda m, x: m.b(Doubled.apply(m.a(x))))
    message = (
        "the model runs Doubled, an autograd function for which LFP has no rule: replace it, or set "
        "carries_feedback = True in its class if its backward hands on feedback"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"), Composite().applied(model):
        model(random(3, 4))


def test_a_parametrised_weight_is_refused_in_one_sentence() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)))
    with pytest.raises(UsageError, match=r"^layer linear computes its weight or bias from .* parametrization$"):
        run(model, torch.rand(3, 4), Composite())
    convolution = nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(1, 2, 2)))
    with pytest.raises(UsageError, match=r"^layer convolution computes its weight or bias from .*$"):
        run(convolution, torch.rand(3, 1, 4, 4), Composite())


@pytest.mark.parametrize(
    ("forward", "layers"),
    [
        (lambda m, x: m.b((m.a(x) > 0).to(x.dtype)), "a"),
        (lambda m, x: m.b(m.a(x).detach()), "a"),
        (lambda m, x: m.a(x).detach() + m.b(m.b(x)), "a"),
        (lambda m, x: m.b(m.a(x).round().detach()), "a"),
    ],
    ids=["comparison", "detach", "detached branch", "round"],
)
def test_layers_that_no_feedback_would_reach_are_named(forward: Callable[[Model, Tensor], Tensor], layers: str) -> None:
    model = Model(forward)
    message = (
        f"no feedback would reach {layers}: an operation after it stops feedback, such as a comparison or detach; "
        "use torch.heaviside for a step function"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"), Composite().applied(model):
        model(random(3, 4))


ADDED: dict[str, Callable[[Model, Tensor], Tensor]] = {
    "of the same shape": lambda m, x: m.b(m.a(x) + m.offset),
    "expanded": lambda m, x: m.b(m.a(x) + m.scale.expand(3, 4)),
    "joined": lambda m, x: m.b(torch.cat([m.a(x), m.scale[None]])),
    "as an input": lambda m, x: m.b(m.a(m.offset) + x),
}


@pytest.mark.parametrize("kind", ADDED)
def test_parameters_that_stand_beside_the_layers_are_refused(kind: str) -> None:
    """They would receive feedback where layers receive minus an update: an optimiser would go the wrong way."""
    model = Model(ADDED[kind])
    with pytest.raises(UsageError), Composite().applied(model):
        model(random(3, 4))


def test_a_bias_that_is_computed_from_other_parameters_is_refused() -> None:
    model = Model(lambda m, x: F.linear(m.a(x), m.b.weight, 2 * m.scale))
    with pytest.raises(UsageError), Composite().applied(model):
        model(random(3, 4))


IN_PLACE: dict[str, Callable[[Model, Tensor], Tensor]] = {
    "add_": lambda m, x: (lambda h: (h.add_(x), h)[1])(m.a(x)),
    "+= beside another name": lambda m, x: (lambda h: (h.__iadd__(x), h)[1])(m.a(x)),
    "mul_": lambda m, x: (lambda h: (h.mul_(3.0), h)[1])(m.a(x)),
    "relu_": lambda m, x: (lambda h: (torch.relu_(h), h)[1])(m.a(x)),
    "clamp_": lambda m, x: (lambda h: (h.clamp_(min=0.1), h)[1])(m.a(x)),
    "relu": lambda m, x: (lambda h: (F.relu(h, inplace=True), h)[1])(m.a(x)),
    "dropout": lambda m, x: (lambda h: (F.dropout(h, 0.5, True, True), h)[1])(m.a(x)),
}


@pytest.mark.parametrize("kind", IN_PLACE)
def test_operations_in_place_change_what_they_work_on(kind: str) -> None:
    """Outputs are those of the model, or it is refused; never others."""
    model, x = Model(IN_PLACE[kind]), random(3, 4)
    torch.manual_seed(2)
    expected = model(x).detach()
    torch.manual_seed(2)
    try:
        actual = run(model, x, Composite())
    except UsageError:
        return
    assert_near(actual, expected, 1e-12)


BY_NAME: dict[str, Callable[[Model, Tensor], Tensor]] = {
    "linear": lambda m, x: F.linear(input=x, weight=m.a.weight, bias=m.a.bias),
    "relu": lambda m, x: F.relu(input=m.a(x)),
    "add": lambda m, x: torch.add(input=m.a(x), other=m.b(x)),
    "mean": lambda m, x: torch.mean(input=m.a(x), dim=1),
    "conv1d without a bias": lambda m, x: F.conv1d(m.a(x)[:, None], m.scale.detach().view(2, 1, 2)),
    "conv2d": lambda m, x: F.conv2d(input=m.a(x).view(3, 1, 2, 2), weight=m.scale.view(1, 1, 2, 2).detach()),
    "dropout": lambda m, x: F.dropout(input=m.a(x), p=0.0),
}


@pytest.mark.parametrize("kind", BY_NAME)
def test_functions_may_be_called_by_the_names_of_their_arguments(kind: str) -> None:
    model, x = Model(BY_NAME[kind]), random(3, 4)
    assert_near(run(model, x, Composite()), model(x).detach(), 1e-12)


def test_parts_that_are_computed_again_are_refused() -> None:
    """Checkpoints compute a part once more when feedback comes back, by then outside of the context."""
    model = Model(lambda m, x: m.b(checkpoint(lambda h: torch.relu(m.a(h)), x, use_reentrant=False)))
    with pytest.raises(UsageError, match=r"^torch\.utils\.checkpoint ran a part .*: leave the checkpoints out$"):
        run(model, random(3, 4).requires_grad_(), Composite(ZPlusZMinus()))
