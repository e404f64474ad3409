"""Composites: which layer follows which rule, on networks of this package and on any other torch model.

Expected feedback comes from the replicas of `helpers.rule_replicas`, layer by layer, and from torch's own derivative of
single layers; whole models are compared in float64.
"""

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spiking_lfp as lfp
from helpers.composites import double, run
from helpers.rule_replicas import affine
from helpers.tensors import assert_near, random
from spiking_lfp.errors import UsageError
from spiking_lfp.lfp.rewards import logit_reward, propagate
from spiking_lfp.nn.composites import Composite, composite
from spiking_lfp.rules import AlphaBeta, Epsilon, Flat, Gamma, Rule, Zero, ZPlusZMinus


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
