"""Composites: which layer follows which rule, on networks of this package and on any other torch model.

Expected feedback comes from the replicas of `helpers.rule_replicas`, layer by layer, and from torch's own derivative of
single layers; whole models are compared in float64.
"""

import copy
import importlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import spiking_lfp as lfp
from helpers.forks import Forks
from helpers.rule_replicas import affine, assert_near, inverse_normalisers, sign
from spiking_lfp.data._torchvision import torchvision_models
from spiking_lfp.errors import UsageError
from spiking_lfp.lfp.rewards import logit_reward, propagate
from spiking_lfp.nn.composites import COMPOSITES, Composite, composite
from spiking_lfp.nn.folding import fold_batch_norm
from spiking_lfp.rules import AlphaBeta, Epsilon, Flat, Gamma, Rule, Zero, ZPlusZMinus

RULES: dict[str, Rule] = {
    "zero": Zero(),
    "epsilon": Epsilon(epsilon=1e-3),
    "z+z-": ZPlusZMinus(),
    "alpha-beta": AlphaBeta(),
    "gamma": Gamma(),
    "flat": Flat(),
}


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def double(*layers: nn.Module) -> nn.Sequential:
    network = nn.Sequential(*layers).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.05, 0.4)
    return network


def run(model: nn.Module, x: Tensor, how: Composite, reward: Tensor | None = None) -> Tensor:
    """Outputs; afterwards `x` and parameters hold feedback and minus updates."""
    model.zero_grad()
    x.grad = None
    with how.applied(model):
        out = model(x)
    propagate(out, torch.ones_like(out) if reward is None else reward)
    return out.detach()


class Model(nn.Module):
    """Two dense layers and a forward pass that the test brings along."""

    def __init__(self, run: Callable[["Model", Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.offset, self.scale = nn.Parameter(random(3, 4)), nn.Parameter(random(4))
        self.run = run
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


# ---------------------------------------------------------------- priorities


def some_network() -> nn.Sequential:
    return double(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Conv2d(2, 2, 2), nn.Flatten(), nn.Linear(8, 3), nn.Linear(3, 2))


def test_a_layer_follows_its_name_else_its_place_else_its_type_else_the_default() -> None:
    how = Composite(
        Epsilon(),
        types={nn.Linear: Gamma(), nn.Conv2d: Zero()},
        positions={1: AlphaBeta(), -1: ZPlusZMinus(), 0: Flat()},
        names={"0": Epsilon(epsilon=0.5)},
    )
    actual = how.rules(some_network())
    assert actual == {"0": Epsilon(epsilon=0.5), "2": AlphaBeta(), "4": Gamma(), "5": ZPlusZMinus()}
    assert Composite(Zero()).rules(some_network()) == dict.fromkeys("0245", Zero())


def test_names_may_have_wildcards_and_the_first_that_fits_counts() -> None:
    model = nn.ModuleDict({"stem": nn.Linear(2, 2), "body": double(nn.Linear(2, 2), nn.Linear(2, 2))})
    actual = Composite(names={"body.1": Zero(), "body.*": Flat(), "*": Gamma()}).rules(model)
    assert actual == {"stem": Gamma(), "body.0": Flat(), "body.1": Zero()}


def test_the_first_type_that_fits_counts_subclasses_too() -> None:
    class Mine(nn.Linear):
        pass

    types: dict[type[nn.Module], Rule] = {Mine: Zero(), nn.Linear: Flat()}
    assert Composite(types=types).rules(nn.Sequential(Mine(2, 2), nn.Linear(2, 2))) == {"0": Zero(), "1": Flat()}
    backwards: dict[type[nn.Module], Rule] = {nn.Linear: Flat(), Mine: Zero()}
    assert Composite(types=backwards).rules(nn.Sequential(Mine(2, 2))) == {"0": Flat()}


def test_layers_of_this_package_go_by_their_own_path_and_the_type_of_their_synapse() -> None:
    network = nn.Sequential(lfp.LIF(nn.Conv2d(1, 2, 2)), lfp.Flatten(), lfp.RecurrentLIF(nn.Linear(8, 3)))
    types: dict[type[nn.Module], Rule] = {nn.Conv2d: Zero()}
    assert Composite(Gamma(), types=types).rules(network) == {"0": Zero(), "2": Gamma()}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (Composite(positions={4: Zero()}), "there is no layer at position 4: the model has 4 with weights"),
        (Composite(positions={-5: Zero()}), "there is no layer at position -5: the model has 4 with weights"),
        (Composite(names={"7": Zero()}), "no layer is called '7': the model has 0, 2, 4, 5"),
        (Composite(names={"1": Zero()}), "no layer is called '1': the model has 0, 2, 4, 5"),  # the ReLU
    ],
)
def test_what_the_model_does_not_have_is_refused_in_one_sentence(how: Composite, message: str) -> None:
    model = some_network()
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        how.rules(model)
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"), how.applied(model):
        raise AssertionError("not reached")
    assert "forward" not in vars(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"default": "epsilon"}, "a rule of the composite is 'epsilon', expected one such as Epsilon()"),
        ({"default": Epsilon}, "a rule of the composite is the class Epsilon, expected one such as Epsilon()"),
        ({"types": {nn.Linear: "flat"}}, "a rule of the composite is 'flat', expected one such as Epsilon()"),
        ({"types": {"Linear": Flat()}}, "types must be classes of modules, such as nn.Linear, found 'Linear'"),
        ({"names": ["0"]}, "names must be a dict with a rule for each, found list"),
    ],
)
def test_what_is_no_rule_is_refused_in_one_sentence(unchecked: None, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        Composite(**arguments)


@pytest.mark.parametrize("rule", [Epsilon(), ZPlusZMinus()])
def test_autocast_changes_nothing(rule: Rule) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    x, outcomes = torch.rand(2, 1, 8, 8), []
    for enabled in (False, True):
        model.zero_grad()
        with Composite(rule).applied(model), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = model(x)
        propagate(logits, logit_reward(logits, [0, 2]))
        outcomes.append([logits, *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


def test_composites_have_names() -> None:
    assert composite("epsilon") == Composite(Epsilon())
    mixed = composite("epsilon-zplus-zminus").rules(some_network())
    assert mixed == {"0": ZPlusZMinus(), "2": ZPlusZMinus(), "4": Epsilon(), "5": Epsilon()}
    assert composite("epsilon-alpha2-beta1").rules(some_network())["0"] == AlphaBeta()
    message = r"^unknown composite 'epsilo': did you mean 'epsilon'\? known are alpha2-beta1, epsilon, .*$"
    with pytest.raises(UsageError, match=message):
        composite("epsilo")


# ---------------------------------------------------------------- nothing is left behind


def snapshot(model: nn.Module) -> list[Any]:
    """All that a context might leave behind."""
    actual: list[Any] = []
    for name, module in model.named_modules():
        hooks = [module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks]
        actual += [name, sorted(vars(module)), [len(each) for each in hooks], getattr(module, "rule", None)]
        actual += [module.training]
    return [*actual, list(model.state_dict()), [id(parameter) for parameter in model.parameters()]]


def both_kinds() -> list[tuple[nn.Module, Tensor]]:
    spiking = nn.Sequential(lfp.LIF(nn.Linear(4, 3), rule=Gamma()), lfp.Affine(nn.Linear(3, 2))).double()
    return [(double(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2)), random(3, 4)), (spiking, random(5, 3, 4))]


@pytest.mark.parametrize("kind", [0, 1])
def test_the_context_leaves_nothing_behind(kind: int) -> None:
    model, x = both_kinds()[kind]
    before, weights = snapshot(model), copy.deepcopy(model.state_dict())
    expected = model(x)
    run(model, x, Composite(ZPlusZMinus()))
    assert snapshot(model) == before
    assert all(torch.equal(one, two) for one, two in zip(model.state_dict().values(), weights.values(), strict=True))
    again = model(x)
    assert torch.equal(again, expected)
    assert "AffineFunction" not in again.grad_fn.name() or kind == 1


@pytest.mark.parametrize("kind", [0, 1])
def test_nothing_is_left_behind_after_an_exception(kind: int) -> None:
    model, x = both_kinds()[kind]
    before = snapshot(model)

    def fails() -> None:
        with Composite(ZPlusZMinus()).applied(model):
            model(x)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert snapshot(model) == before

    broken = nn.Sequential(model, nn.Linear(7, 7))
    before = snapshot(broken)
    with pytest.raises((RuntimeError, UsageError)), Composite(Flat()).applied(broken):
        broken(x)
    assert snapshot(broken) == before
    gradients = torch.autograd.grad(nn.functional.relu(x.requires_grad_()).sum(), x)[0]
    assert torch.equal(gradients, (x > 0).double())  # no mode is left active


def test_a_forward_of_the_model_s_own_is_put_back() -> None:
    model = double(nn.Linear(4, 3))
    own = model.forward
    model.forward = own
    with Composite().applied(model):
        assert model.forward is not own
    assert model.forward is own


def test_a_context_can_be_entered_again_and_used_for_many_passes() -> None:
    model, x = double(nn.Linear(4, 3)), random(3, 4).requires_grad_()
    run(model, x, Composite(ZPlusZMinus()))
    assert x.grad is not None
    expected = x.grad.clone()
    with Composite(ZPlusZMinus()).applied(model):
        for _ in range(2):
            x.grad = None
            model(x).sum().backward()
            assert x.grad is not None
            assert torch.equal(x.grad, expected)


def test_a_second_composite_inside_is_refused_and_the_first_stays() -> None:
    model, x = double(nn.Linear(4, 3)), random(3, 4)
    with Composite(Flat()).applied(model):
        before = model.forward
        again = Composite(AlphaBeta()).applied(model)
        with pytest.raises(UsageError, match="a composite is applied to this model already"), again:
            pass
        assert model.forward is before
        model(x)
    assert "forward" not in vars(model)


def test_evaluation_without_a_tape_is_what_it_always_is() -> None:
    model, x = some_network(), random(2, 1, 4, 4)
    with torch.no_grad(), Composite(ZPlusZMinus()).applied(model):
        out = model(x)
    assert torch.equal(out, model(x))
    assert not out.requires_grad


# ---------------------------------------------------------------- outputs


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_are_those_of_the_model_up_to_rounding(dtype: torch.dtype, inplace: bool) -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(inplace),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.LeakyReLU(0.1, inplace),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 80),
        nn.ReLU(inplace),
        nn.Dropout(0.5, inplace),
        nn.Linear(80, 70),
        nn.ELU(inplace=inplace),
        nn.Linear(70, 5),
    ).to(dtype)
    x = torch.randn(6, 2, 8, 8, dtype=dtype)
    for training in (True, False):
        model.train(training)
        torch.manual_seed(3)
        expected = model(x)
        torch.manual_seed(3)
        actual = run(model, x, Composite(ZPlusZMinus()))
        torch.testing.assert_close(actual, expected.detach(), rtol=0, atol=8 * torch.finfo(dtype).eps)
        assert all(bool(parameter.grad.any()) for parameter in model.parameters())


def test_dropout_behind_a_convolution_draws_what_torch_draws() -> None:
    model, x = double(nn.Conv2d(2, 3, 2), nn.Dropout(0.5)), random(2, 2, 4, 4)
    torch.manual_seed(3)
    expected = model(x)
    torch.manual_seed(3)
    assert_near(run(model, x, Composite()), expected.detach(), 1e-12)


@pytest.mark.parametrize("inplace", [False, True])
def test_working_in_place_changes_no_feedback(inplace: bool) -> None:
    torch.manual_seed(1)
    model = double(nn.Linear(4, 5), nn.ReLU(inplace), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2))
    x = random(3, 4).requires_grad_()
    run(model, x, Composite(ZPlusZMinus()))
    model[1] = nn.ReLU()
    assert x.grad is not None
    actual = x.grad.clone()
    run(model, x, Composite(ZPlusZMinus()))
    assert torch.equal(actual, x.grad)


# ---------------------------------------------------------------- plain models against the replicas


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


# ---------------------------------------------------------------- models of the user's own


class Residual(nn.Module):
    """relu(conv(relu(conv(x))) + x), with functional calls, and the sum in place."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.one(x))
        out = self.two(out)
        out += x
        return torch.relu_(out)


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


# ---------------------------------------------------------------- torchvision


def with_random_weights(model: nn.Module) -> nn.Module:
    """Fill a model that was built on the meta device, so that building costs nothing."""
    model.to_empty(device="cpu")
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0.0, 0.05)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
            nn.init.normal_(module.running_mean, 0.0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            module.num_batches_tracked.zero_()
    return model


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    with torch.device("meta"):
        model = torchvision_models().resnet18(num_classes=5)
    return with_random_weights(model)


def test_vgg_16_of_torchvision_learns_in_every_layer() -> None:
    with torch.device("meta"):
        model = torchvision_models().vgg16(num_classes=5)
        model.classifier[0], model.classifier[3] = nn.Linear(512, 20), nn.Linear(20, 16)
        model.classifier[6] = nn.Linear(16, 5)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    with_random_weights(model)
    x, labels = torch.rand(1, 3, 32, 32).requires_grad_(), torch.tensor([4])
    with composite("epsilon").applied(model):
        logits = model(x)
    assert logits.shape == (1, 5)
    propagate(logits, logit_reward(logits, labels))
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert len(list(model.named_parameters())) == 2 * 16
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


def test_resnet_18_of_torchvision_is_refused_for_its_batch_normalisation(resnet: nn.Module) -> None:
    message = (
        "LFP does not define batch normalisation: fold it into the layers before with fold_batch_norm(model), "
        "or use a model without it"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"), Composite().applied(resnet):
        resnet(torch.rand(2, 3, 32, 32))


def test_resnet_18_of_torchvision_folds_and_learns_in_every_layer(resnet: nn.Module) -> None:
    folded = fold_batch_norm(resnet)
    x, labels = torch.rand(1, 3, 32, 32).requires_grad_(), torch.tensor([4])
    with torch.no_grad():
        expected = copy.deepcopy(resnet).eval()(x)
        assert (folded(x) - expected).abs().max() <= 1e-5 * expected.abs().max()
    with composite("epsilon").applied(folded):
        logits = folded(x)
    torch.testing.assert_close(logits.detach(), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    propagate(logits, logit_reward(logits, labels))
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert len(list(folded.parameters())) == 2 * 20 + 2
    for parameter in learning(folded):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


def test_the_blocks_of_resnet_split_their_feedback_by_the_rule() -> None:
    """torchvision's own block, folded, against the hand-made one."""
    with torch.device("meta"):
        block = sys.modules[torchvision_models().resnet18.__module__].BasicBlock(2, 2)
    folded = fold_batch_norm(with_random_weights(block)).double().requires_grad_()
    plain = Residual()
    plain.one.load_state_dict(folded.conv1.state_dict())
    plain.two.load_state_dict(folded.conv2.state_dict())
    x, reward = random(2, 2, 4, 4).requires_grad_(), random(2, 2, 4, 4)
    for rule in RULES.values():
        out = run(folded, x, Composite(rule), reward)
        assert x.grad is not None
        actual = [out, x.grad.clone(), folded.conv1.weight.grad, folded.conv2.bias.grad]
        expected = [run(plain, x, Composite(rule), reward), x.grad, plain.one.weight.grad, plain.two.bias.grad]
        for each, reference in zip(actual, expected, strict=True):
            assert_near(each, reference, 1e-12)


# ---------------------------------------------------------------- batch normalisation


@pytest.fixture(scope="module", autouse=True)
def tracing() -> None:
    """Import what folds; torch warns of itself while it does, see the test of that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("torch.fx.experimental.optimization")


def test_folding_gives_no_warnings(forks: Forks) -> None:
    code = (
        "import torch; from torch import nn; from spiking_lfp.nn.folding import fold_batch_norm;"
        "fold_batch_norm(nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2)))"
    )
    done = forks.run(code)
    assert done.returncode == 0, done.stderr


def normalised() -> nn.Sequential:
    """A model whose batch normalisation has seen data."""
    model = double(
        nn.Conv2d(1, 3, 2, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 6),
        nn.BatchNorm1d(6),
        nn.Tanh(),
        nn.Linear(6, 2),
    )
    for _ in range(3):
        model(random(8, 1, 3, 3) + 0.5)
    return model


def learning(model: nn.Module) -> list[nn.Parameter]:
    """Those that learn: all weights, see the next test for biases."""
    actual = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter in set(actual) for name, parameter in model.named_parameters() if name.endswith("weight"))
    return actual


def test_folded_biases_learn_as_those_of_the_normalisation_did() -> None:
    assert all(parameter.requires_grad for parameter in normalised().parameters())
    assert all(parameter.requires_grad for parameter in fold_batch_norm(normalised()).parameters())


@pytest.mark.parametrize("training", [True, False])
def test_batch_normalisation_is_refused_in_one_sentence(training: bool) -> None:
    message = (
        "LFP does not define batch normalisation: fold it into the layers before with fold_batch_norm(model), "
        "or use a model without it"
    )
    model = normalised().train(training)
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"), Composite().applied(model):
        model(random(4, 1, 3, 3))


@pytest.mark.parametrize("name", COMPOSITES)
def test_folded_models_give_the_same_and_work_under_every_composite(name: str) -> None:
    model = normalised()
    before = copy.deepcopy(model.state_dict())
    x = random(4, 1, 3, 3)
    folded = fold_batch_norm(model)
    expected = copy.deepcopy(model).eval()(x)
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    actual = run(folded, x, composite(name))
    torch.testing.assert_close(actual, expected.detach(), rtol=0, atol=1e-5)
    for parameter in learning(folded):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(one, two) for one, two in zip(model.state_dict().values(), before.values(), strict=True))


def test_folding_leaves_the_given_model_in_the_mode_it_was_in() -> None:
    model = normalised()
    assert model.training
    folded = fold_batch_norm(model)
    assert not folded.training
    assert all(module.training for module in model.modules())


def test_batch_normalisation_that_follows_something_else_cannot_be_folded() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4))
    with pytest.raises(UsageError, match=r"^2 does not follow a linear layer or convolution: it cannot be folded$"):
        fold_batch_norm(model)


def test_models_that_cannot_be_traced_cannot_be_folded() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), Model(lambda m, x: m.a(x) if x.sum() > 0 else m.b(x)))
    with pytest.raises(UsageError, match=r"^the batch normalisation of Sequential cannot be folded: .+$"):
        fold_batch_norm(model)


# ---------------------------------------------------------------- what LFP does not know


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


# ---------------------------------------------------------------- networks of this package


def spiking() -> nn.Sequential:
    network = nn.Sequential(
        lfp.LIF(nn.Conv2d(1, 3, 2), 0.9, 0.3, rule=Gamma()),
        lfp.AvgPool2d(2),
        lfp.Flatten(),
        lfp.LIF(nn.Linear(12, 6), 0.9, 0.2, "zero"),
        lfp.RecurrentLIF(nn.Linear(6, 4), 0.9, 0.2, rule=AlphaBeta()),
        lfp.Affine(nn.Linear(4, 2)),
    ).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.1, 0.4)
    return network


MIXED = Composite(AlphaBeta(), types={nn.Conv2d: Epsilon()}, positions={-1: Gamma()}, names={"4": ZPlusZMinus()})


def updates_of(network: nn.Module, x: Tensor) -> list[Tensor]:
    network.zero_grad()
    out = network(x)
    propagate(out, torch.ones_like(out))
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


def test_spiking_networks_follow_a_composite_and_go_back_to_their_own_rules() -> None:
    network, x = spiking(), (torch.rand(6, 2, 1, 5, 5) < 0.4).double()
    own = updates_of(network, x)
    by_hand = copy.deepcopy(network)
    for place, rule in {0: Epsilon(), 1: AlphaBeta(), 3: AlphaBeta(), 4: ZPlusZMinus(), 5: Gamma()}.items():
        by_hand[place].rule = rule
    expected = updates_of(by_hand, x)
    with MIXED.applied(network):
        actual = updates_of(network, x)
        assert network[0].rule == Epsilon()
    assert len(actual) == len(list(network.parameters()))
    for one, two, three in zip(actual, expected, own, strict=True):
        assert torch.equal(one, two)
        assert one.any()
        assert not torch.equal(one, three) or not one.any()
    assert all(torch.equal(one, two) for one, two in zip(updates_of(network, x), own, strict=True))


def test_assign_gives_rules_to_keep() -> None:
    network, x = spiking(), (torch.rand(6, 2, 1, 5, 5) < 0.4).double()
    with MIXED.applied(network):
        expected = updates_of(network, x)
    MIXED.assign(network)
    actual = [network[place].rule for place in (0, 1, 3, 4, 5)]
    assert actual == [Epsilon(), AlphaBeta(), AlphaBeta(), ZPlusZMinus(), Gamma()]
    assert all(torch.equal(one, two) for one, two in zip(updates_of(network, x), expected, strict=True))


@pytest.mark.parametrize("kind", [lfp.LIF, lfp.RecurrentLIF, lfp.Affine])
def test_a_layer_alone_is_a_network_too(kind: type[lfp.LIF]) -> None:
    layer, x = kind(nn.Linear(4, 3)).double(), random(5, 2, 4)
    with Composite(ZPlusZMinus()).applied(layer):
        actual = updates_of(layer, x)
    assert layer.rule == Epsilon()
    Composite(ZPlusZMinus()).assign(layer)
    assert layer.rule == ZPlusZMinus()
    assert all(torch.equal(one, two) for one, two in zip(updates_of(layer, x), actual, strict=True))


@pytest.mark.parametrize("inside", [True, False])
def test_sequences_in_chunks_follow_a_composite(inside: bool) -> None:
    """Chunks are computed once more when feedback comes back, inside of the context or after it."""
    network, x = spiking(), (torch.rand(6, 2, 1, 5, 5) < 0.4).double()
    with MIXED.applied(network):
        expected = updates_of(network, x)
    network.zero_grad()
    with MIXED.applied(network):
        out = lfp.run_in_chunks(network, x, 2)
        if inside:
            propagate(out, torch.ones_like(out))
    if not inside:
        propagate(out, torch.ones_like(out))
    for parameter, reference in zip(network.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert_near(parameter.grad, reference)


def test_spiking_layers_and_those_of_torch_stand_in_one_model() -> None:
    """A readout of torch on the spike counts; the reward comes from its logits."""

    class Readout(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.last = lfp.LIF(nn.Linear(4, 6), 0.9, 0.2), nn.Linear(6, 3)
            self.double()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.layer(x).mean(0))

    model, x = Readout(), torch.rand(7, 2, 4, dtype=torch.float64)
    with Composite(ZPlusZMinus(), names={"last": Epsilon()}).applied(model):
        logits = model(x)
    reward = logit_reward(logits, torch.tensor([0, 2]))
    propagate(logits, reward)
    with torch.no_grad():
        spikes = model.layer(x)
    last = affine(Epsilon(), model.last, spikes.mean(0)[None], reward[None])
    assert_near(-model.last.weight.grad, last.weight_update)
    on_spikes = spikes * (last.on_input[0] / (spikes.sum(0) + 7e-6))  # z+z- of a mean over 7 steps
    other = copy.deepcopy(model.layer)
    other.rule = ZPlusZMinus()
    other.zero_grad()
    other(x).backward(on_spikes)
    assert_near(model.layer.synapse.weight.grad, other.synapse.weight.grad)


@pytest.fixture(autouse=True)
def no_mode_is_left() -> Iterator[None]:
    yield
    assert torch.overrides._get_current_function_mode() is None
