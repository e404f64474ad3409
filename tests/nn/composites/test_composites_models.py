"""Composites on plain models of torch, and on those of a user's own: feedback by every rule, against replicas."""

import copy
import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.composites import RULES, Model, Residual, double, run
from helpers.rule_replicas import affine, inverse_normalisers, sign
from helpers.tensors import assert_near, random
from spiking_lfp.nn.composites import Composite
from spiking_lfp.rules import AlphaBeta, Epsilon, Flat, Gamma, Rule, ZPlusZMinus


def replica(
    layers: list[nn.Module], x: Tensor, reward: Tensor, rules: dict[str, Rule], default: Rule, normalize: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """Feedback on `x` and the updates of an `nn.Sequential`, layer by layer; randomness is drawn as by the model."""
    values = [x.detach()]
    with torch.no_grad():
        for layer in layers:
            values.append(layer(values[-1].clone()))
    r, updates = reward, {}
    for index in reversed(range(len(layers))):
        layer, a, out = layers[index], values[index], values[index + 1]
        if isinstance(layer, nn.Linear | nn.Conv2d):
            done = affine(rules[str(index)], layer, a[None], r[None])
            r = done.on_input.view_as(a)
            updates[f"{index}.weight"] = done.weight_update
            if done.bias_update is not None:
                updates[f"{index}.bias"] = done.bias_update
            if normalize:
                r = r / r.abs().max()
        elif isinstance(layer, nn.AvgPool2d):
            mean = nn.Conv2d(a.shape[1], a.shape[1], 2, 2, groups=a.shape[1], bias=False).double()
            nn.init.constant_(mean.weight, 1 / 4)
            r = affine(default, mean, a[None], r[None], flat=1 / 4).on_input.view_as(a)
        elif isinstance(layer, nn.MaxPool2d):
            leaf = a.clone().requires_grad_()
            (r,) = torch.autograd.grad(layer(leaf), leaf, r)
        elif isinstance(layer, nn.Dropout):
            r = r * (out != 0) if layer.training else r
        elif isinstance(layer, nn.Flatten):
            r = r.view_as(a)
    return r, updates


def image_network(inplace: bool = False) -> nn.Sequential:
    return double(
        nn.Conv2d(1, 2, 2),
        nn.ReLU(inplace),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(2, 2, 2, padding=1, bias=False),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(8, 6),
        nn.ReLU(inplace),
        nn.Linear(6, 3),
    )


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_plain_models_follow_the_rules(rule: str, normalize: bool) -> None:
    model = image_network(inplace=True)
    with torch.no_grad():  # enough that is not silenced
        model[0].bias.add_(0.5)
    x, reward = random(2, 1, 5, 5).requires_grad_(), random(2, 3)
    how = Composite(RULES[rule], normalize=normalize)
    twin = image_network()  # nothing in place
    twin.load_state_dict(model.state_dict())
    torch.manual_seed(11)
    run(model, x, how, reward)
    torch.manual_seed(11)
    on_input, updates = replica(list(twin), x, reward, how.rules(model), RULES[rule], normalize)
    assert_near(x.grad, on_input)
    assert len(updates) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.any()
        assert_near(-parameter.grad, updates[name])


def test_every_layer_follows_its_own_rule() -> None:
    model, x, reward = image_network().eval(), random(2, 1, 5, 5).requires_grad_(), random(2, 3)
    how = Composite(Gamma(), types={nn.Conv2d: ZPlusZMinus()}, positions={-1: AlphaBeta()}, names={"3": Epsilon()})
    rules = how.rules(model)
    assert rules == {"0": ZPlusZMinus(), "3": Epsilon(), "8": Gamma(), "10": AlphaBeta()}
    run(model, x, how, reward)
    on_input, updates = replica(list(model), x, reward, rules, Gamma())
    assert_near(x.grad, on_input)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert_near(-parameter.grad, updates[name])


def test_normalised_feedback_has_magnitude_1_below_each_layer() -> None:
    model, x = image_network().eval(), random(2, 1, 5, 5).requires_grad_()
    run(model, x, Composite(Epsilon(), normalize=True), 1e3 * random(2, 3))
    assert x.grad is not None
    assert x.grad.abs().max().item() == pytest.approx(1)
    run(model, x, Composite(Epsilon(), normalize=True), torch.zeros(2, 3, dtype=torch.float64))
    assert not x.grad.any()


def test_frozen_layers_receive_nothing_and_hand_feedback_on() -> None:
    model, x = double(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), random(3, 4).requires_grad_()
    run(model, x, Composite())
    assert x.grad is not None
    expected = x.grad.clone()
    model.requires_grad_(False)
    run(model, x, Composite())
    assert torch.equal(x.grad, expected)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), (4, 9)),
        (nn.Conv1d(2, 3, 3, padding="same"), (2, 5)),
        (nn.Conv2d(2, 3, (3, 5), padding="same", dilation=(2, 1)), (2, 5, 6)),
        (nn.Conv2d(2, 3, 3, padding="valid", bias=False), (2, 4, 5)),
        (nn.Conv2d(4, 4, 3, stride=(1, 2), padding=(2, 1), groups=4), (4, 4, 5)),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 4, 4)),  # the sum over all copies
        (nn.Conv3d(2, 2, 2, stride=2, padding=1), (2, 4, 3, 4)),
        (nn.ConvTranspose1d(2, 4, 3, stride=2, groups=2), (2, 4)),
        (nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1), (3, 3, 4)),
        (nn.ConvTranspose2d(2, 2, 2, dilation=2, bias=False), (2, 3, 3)),
        (nn.ConvTranspose3d(2, 2, 2), (2, 2, 3, 2)),
        (nn.Linear(4, 3), (2, 5, 4)),
    ],
    ids=lambda value: re.sub(r"[^\w]+", "_", str(value))[:60] if isinstance(value, nn.Module) else "",
)
def test_layers_of_any_kind_hand_on_inputs_times_the_transposed_weights(
    layer: nn.Module, shape: tuple[int, ...]
) -> None:
    """r_x = x * (W^T q), d_W = |W| * sum q x^T, d_b = |b| * sum q, by torch's own derivative of the layer."""
    layer = copy.deepcopy(layer).double()
    x = random(2, *shape).requires_grad_()
    z = layer(x)
    reward = random(*z.shape)
    q = z.sign() * reward / (z.abs() + 0.1)
    parameters = list(layer.parameters())
    on_input, *on_parameters = torch.autograd.grad(z, [x, *parameters], q)
    actual = run(nn.Sequential(layer), x, Composite(Epsilon(epsilon=0.1)), reward)
    assert_near(actual, z.detach(), 1e-12)
    assert_near(x.grad, x.detach() * on_input)
    for parameter, expected in zip(parameters, on_parameters, strict=True):
        assert parameter.grad is not None
        assert_near(-parameter.grad, parameter.detach().abs() * expected)


@pytest.mark.parametrize("rule", ["z+z-", "alpha-beta", "gamma"])
def test_convolutions_of_other_kinds_follow_rules_with_parts(rule: str) -> None:
    """A transposed convolution as a dense layer: its matrix is the derivative of its outputs."""
    layer = nn.ConvTranspose1d(2, 3, 2, stride=2).double()
    x = random(2, 2, 3).requires_grad_()
    z = layer(x)
    reward = random(*z.shape)
    run(nn.Sequential(layer), x, Composite(RULES[rule]), reward)
    matrix = torch.autograd.functional.jacobian(lambda row: layer(row[None])[0].flatten(), x[0].detach()).flatten(1)
    expected = torch.zeros_like(x)
    for b in range(2):
        for j in range(len(matrix)):
            parts = [w * a for w, a in zip(matrix[j].tolist(), x[b].flatten().tolist(), strict=True)]
            parts.append(layer.bias[j // z.shape[2]].item())
            total = sum(parts)
            inverse = inverse_normalisers(RULES[rule], parts, abs(total))
            q = sign(total) * reward[b].flatten()[j].item()
            for i, (part, each) in enumerate(zip(parts[:-1], inverse[:-1], strict=True)):
                expected.view(2, -1).data[b, i] += part * q * each
    assert_near(x.grad, expected.detach())


def shares(rule: Rule, a: Tensor, b: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """What the two terms of a sum receive."""
    actual = torch.zeros_like(a), torch.zeros_like(a)
    for place in torch.cartesian_prod(*(torch.arange(size) for size in a.shape)).tolist():
        terms = [a[tuple(place)].item(), b[tuple(place)].item()]
        seen = [1.0, 1.0] if isinstance(rule, Flat) else terms
        inverse = inverse_normalisers(rule, seen, abs(sum(terms)))
        for each, term, one in zip(actual, seen, inverse, strict=True):
            each[tuple(place)] = term * one * sign(sum(terms)) * r[tuple(place)].item()
    return actual


@pytest.mark.parametrize("rule", RULES)
def test_a_residual_block_splits_its_feedback_by_the_rule(rule: str) -> None:
    block, x, reward = Residual(), random(2, 2, 3, 3).requires_grad_(), random(2, 2, 3, 3)
    actual = run(block, x, Composite(RULES[rule]), reward)
    assert_near(actual, block(x).detach(), 1e-12)
    with torch.no_grad():
        hidden = block.one(x).relu()
        out = block.two(hidden)
    on_out, on_identity = shares(RULES[rule], out, x.detach(), reward)
    second = affine(RULES[rule], block.two, hidden[None], on_out[None])
    first = affine(RULES[rule], block.one, x.detach()[None], second.on_input.view_as(hidden)[None])
    assert_near(x.grad, on_identity + first.on_input.view_as(x))
    assert_near(-block.one.weight.grad, first.weight_update)
    assert_near(-block.two.weight.grad, second.weight_update)
    assert_near(-block.two.bias.grad, second.bias_update)


def test_joined_tensors_receive_what_their_part_receives_and_shared_ones_the_sum() -> None:
    model = Model(lambda m, x: F.linear(torch.cat([m.a(x), torch.tanh(m.b(x))], 1), m.last.weight, m.last.bias))
    model.last = nn.Linear(8, 2).double()
    x, reward = random(3, 4).requires_grad_(), random(3, 2)
    how = Composite(ZPlusZMinus(), names={"last": AlphaBeta(), "b": Gamma()})
    run(model, x, how, reward)
    with torch.no_grad():
        joined = torch.cat([model.a(x), torch.tanh(model.b(x))], 1)
    last = affine(AlphaBeta(), model.last, joined[None], reward[None])
    on_a, on_b = last.on_input[0].split(4, 1)
    a = affine(ZPlusZMinus(), model.a, x.detach()[None], on_a[None])
    b = affine(Gamma(), model.b, x.detach()[None], on_b[None])
    assert_near(x.grad, (a.on_input + b.on_input)[0])
    assert_near(-model.last.weight.grad, last.weight_update)
    assert_near(-model.a.weight.grad, a.weight_update)
    assert_near(-model.b.bias.grad, b.bias_update)


def test_a_step_hands_feedback_on_unchanged() -> None:
    model = Model(lambda m, x: m.b(torch.heaviside(m.a(x), torch.zeros((), dtype=x.dtype))))
    x, reward = random(3, 4).requires_grad_(), random(3, 4)
    run(model, x, Composite(), reward)
    with torch.no_grad():
        fired = (model.a(x) > 0).double()
    assert 0 < fired.mean() < 1
    b = affine(Epsilon(), model.b, fired[None], reward[None])
    a = affine(Epsilon(), model.a, x.detach()[None], b.on_input)
    assert_near(x.grad, a.on_input[0])
    assert_near(-model.a.weight.grad, a.weight_update)


def test_a_product_with_a_number_hands_feedback_on_unchanged() -> None:
    x, reward = random(3, 4).requires_grad_(), random(3, 4)
    plain = Model(lambda m, x: m.a(x))
    scaled = Model(lambda m, x: 3.0 * m.a(x) / 2)
    scaled.load_state_dict(plain.state_dict())
    run(plain, x, Composite(), reward)
    assert x.grad is not None
    expected = x.grad.clone()
    assert_near(run(scaled, x, Composite(), reward), 1.5 * plain.a(x).detach(), 1e-12)
    assert_near(x.grad, expected, 1e-12)


def test_a_layer_that_runs_twice_adds_its_updates_up() -> None:
    model = Model(lambda m, x: m.a(torch.relu(m.a(x))))
    x, reward = random(3, 4).requires_grad_(), random(3, 4)
    run(model, x, Composite(ZPlusZMinus()), reward)
    with torch.no_grad():
        hidden = model.a(x).relu()
    second = affine(ZPlusZMinus(), model.a, hidden[None], reward[None])
    first = affine(ZPlusZMinus(), model.a, x.detach()[None], second.on_input)
    assert_near(-model.a.weight.grad, first.weight_update + second.weight_update)
    assert model.b.weight.grad is None  # it did not run


def test_a_mean_over_the_plane_follows_the_default() -> None:
    model, x = double(nn.Conv2d(1, 2, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()), random(2, 1, 3, 4).requires_grad_()
    how = Composite(AlphaBeta(), types={nn.Conv2d: Epsilon()})
    reward = random(2, 2)
    run(model, x, how, reward)
    with torch.no_grad():
        z = model[0](x)
    r = torch.zeros_like(z)
    for b in range(2):
        for c in range(2):
            parts = (z[b, c].flatten() / 6).tolist()
            inverse = inverse_normalisers(AlphaBeta(), parts, abs(sum(parts)))
            for i, (part, one) in enumerate(zip(parts, inverse, strict=True)):
                r[b, c].view(-1)[i] = part * one * sign(sum(parts)) * reward[b, c].item()
    assert_near(x.grad, affine(Epsilon(), model[0], x.detach()[None], r[None]).on_input.view_as(x))
