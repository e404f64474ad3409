"""Recurrent layers as modules: inputs and settings, whole against parts, names and copies, errors."""

import copy
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from helpers.recurrent import (
    BATCH,
    INPUTS,
    NEURONS,
    RULES,
    STEPS,
    assert_near,
    grads,
    layer_of,
    spikes_of,
)
from helpers.tensors import random
from spiking_lfp import (
    LIF,
    AdaptiveClip,
    NonFiniteError,
    RecurrentLIF,
    UsageError,
    constant,
    name_layers,
    propagate,
    recorded,
    run_in_chunks,
    run_in_integers,
    spike_count_reward,
)
from spiking_lfp.neurons import RESETS, Reset


@pytest.mark.parametrize("rule", ["epsilon", "another rule"])
@pytest.mark.parametrize("needs_input_feedback", [False, True])
@pytest.mark.parametrize("reset", RESETS)
def test_constant_input_equals_the_same_input_materialised(reset: Reset, needs_input_feedback: bool, rule: str) -> None:
    layer, reward = layer_of(reset, rule=RULES[rule][0]), random(STEPS, BATCH, NEURONS)
    images = torch.rand(BATCH, INPUTS, dtype=torch.float64)

    def run(materialise: bool) -> list[Tensor]:
        layer.zero_grad()
        leaf = images.clone().requires_grad_(needs_input_feedback)
        x = constant(leaf, STEPS)
        spikes = layer(x.clone() if materialise else x)
        spikes.backward(reward)
        return [spikes.detach(), *grads(layer, *([leaf] if needs_input_feedback else []))]

    for found, expected in zip(run(materialise=False), run(materialise=True), strict=True):
        assert found.any()
        assert_near(found, expected)


def test_constant_input_is_multiplied_once_forward_and_once_back() -> None:
    layer = layer_of()
    layer.recurrent.requires_grad_(False)  # its products are not those of the input
    with FlopCounterMode(display=False) as counter:
        spikes = layer(constant(torch.rand(BATCH, INPUTS, dtype=torch.float64), STEPS))
        spikes.backward(torch.ones_like(spikes))
    assert counter.get_total_flops() == 2 * 2 * BATCH * INPUTS * NEURONS  # a product and a sum for each wire


@pytest.mark.parametrize("rule", RULES)
def test_recorded_membranes_give_the_feedback_of_the_layer_that_made_them(rule: str) -> None:
    layer, x, reward = layer_of(rule=RULES[rule][0]), spikes_of(STEPS, BATCH, INPUTS), random(STEPS, BATCH, NEURONS)
    spikes = layer(x)
    spikes.backward(reward)
    expected = grads(layer)
    membrane = torch.cat([layer.run(x[: t + 1])[1].detach()[None] for t in range(STEPS)])
    layer.zero_grad()
    with recorded(nn.Sequential(layer), {"0": membrane}):
        again = layer(torch.zeros_like(x) + x)
    assert torch.equal(again, spikes)
    again.backward(reward)
    for found, wanted in zip(grads(layer), expected, strict=True):
        assert_near(found, wanted)


def test_bfloat16_runs_and_learns() -> None:
    layer = RecurrentLIF(nn.Linear(20, 30), threshold=0.4).to(torch.bfloat16)
    spikes = layer(torch.rand(10, 4, 20, dtype=torch.bfloat16))
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    spikes.backward(torch.ones_like(spikes))
    grad = layer.recurrent.weight.grad
    assert grad is not None
    assert grad.isfinite().all()
    assert grad.any()


def test_a_frozen_recurrence_receives_nothing_and_hands_feedback_on() -> None:
    layer, x, reward = layer_of(), spikes_of(STEPS, BATCH, INPUTS), random(STEPS, BATCH, NEURONS)
    layer(x).backward(reward)
    expected = layer.synapse.weight.grad.clone()
    layer.zero_grad()
    layer.recurrent.requires_grad_(False)
    layer(x).backward(reward)
    assert layer.recurrent.weight.grad is None
    assert torch.equal(layer.synapse.weight.grad, expected)


@pytest.mark.parametrize("cut", [1, 4, 7])
@pytest.mark.parametrize("reset", RESETS)
def test_a_sequence_run_in_two_parts_equals_the_whole(reset: Reset, cut: int) -> None:
    layer = layer_of(reset)
    on_spikes, on_final = random(STEPS, BATCH, NEURONS), random(BATCH, NEURONS)
    x, initial = spikes_of(STEPS, BATCH, INPUTS), random(BATCH, NEURONS)

    def run(cuts: list[int], detached: bool = False) -> list[Tensor]:
        leaf, start = x.clone().requires_grad_(), initial.clone().requires_grad_()
        layer.zero_grad()
        spikes, membrane = [], start
        for part in leaf.tensor_split(cuts):
            fired, membrane = layer.run(part, membrane.detach() if detached and spikes else membrane)
            spikes.append(fired)
        torch.autograd.backward([torch.cat(spikes), membrane], [on_spikes, on_final])
        return [torch.cat(spikes).detach(), membrane.detach(), *grads(layer, leaf, start)]

    whole, parts = run([]), run([cut])
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])
    for expected, found in zip(whole[2:], parts[2:], strict=True):
        assert_near(found, expected)
    truncated = run([cut], detached=True)
    assert torch.equal(truncated[0], whole[0])
    assert not torch.allclose(truncated[-2][:cut], whole[-2][:cut])


class Twice(nn.Module):
    """Runs one recurrent layer twice: two states in a carry."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = RecurrentLIF(nn.Linear(NEURONS, NEURONS), threshold=0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


@pytest.mark.parametrize("kind", ["events", "constant"])
@pytest.mark.parametrize("reset", RESETS)
def test_chunks_change_nothing(reset: Reset, kind: str) -> None:
    steps, labels = 11, torch.tensor([0, 1, 2])
    network = nn.Sequential(layer_of(reset), Twice(), LIF(nn.Linear(NEURONS, 3), threshold=0.2)).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.15, 0.5)
    if kind == "constant":
        x = constant(torch.rand(BATCH, INPUTS, dtype=torch.float64), steps)
    else:
        x = spikes_of(steps, BATCH, INPUTS)

    def outcome(run: Callable[[Tensor], Tensor]) -> list[Tensor]:
        network.zero_grad()
        leaf = x if kind == "constant" else x.clone().requires_grad_()
        spikes = run(leaf)
        propagate(spikes, spike_count_reward(spikes, labels))
        return [spikes.detach(), *grads(network, *([] if kind == "constant" else [leaf]))]

    whole = outcome(network)
    assert all(each.any() for each in whole)
    for chunk in range(1, steps + 2):
        parts = outcome(lambda x, chunk=chunk: run_in_chunks(network, x, chunk))
        assert torch.equal(parts[0], whole[0])
        for found, expected in zip(parts[1:], whole[1:], strict=True):
            assert_near(found, expected)


def test_recurrent_weights_start_as_those_of_torch_and_are_a_parameter() -> None:
    torch.manual_seed(3)
    layer = RecurrentLIF(nn.Linear(4, 6, dtype=torch.float64))
    torch.manual_seed(3)
    expected = nn.Linear(4, 6, dtype=torch.float64), nn.Linear(6, 6, bias=False, dtype=torch.float64)
    assert torch.equal(layer.recurrent.weight, expected[1].weight)
    assert [name for name, _ in layer.named_parameters()] == ["synapse.weight", "synapse.bias", "recurrent.weight"]
    assert set(layer.state_dict()) == {"synapse.weight", "synapse.bias", "recurrent.weight", "beta", "threshold"}
    given = nn.Linear(6, 6, bias=False)
    assert RecurrentLIF(nn.Linear(4, 6), recurrent=given).recurrent is given
    assert "(recurrent): Linear(in_features=6, out_features=6, bias=False)" in repr(layer)


def test_names_clipping_and_copies_include_the_recurrent_weights() -> None:
    network = nn.Sequential(layer_of(), LIF(nn.Linear(NEURONS, 3).double(), threshold=0.2))
    assert list(name_layers(network)) == ["0", "1"]
    other = copy.deepcopy(network)
    x, labels = spikes_of(STEPS, BATCH, INPUTS), torch.tensor([0, 1, 2])
    for each in (network, other):
        spikes = each(x)
        propagate(spikes, spike_count_reward(spikes, labels))
    assert all(torch.equal(one, two) for one, two in zip(grads(network), grads(other), strict=True))
    AdaptiveClip(network.parameters(), 1e-6)()
    weight = network[0].recurrent.weight
    assert weight.grad.any()
    ratio = weight.grad.norm(dim=1) / weight.norm(dim=1)
    assert ratio.max() <= 1e-6 * (1 + 1e-12)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_reported_with_the_layers_name(value: float, reset: Reset) -> None:
    network = nn.Sequential(LIF(nn.Linear(INPUTS, INPUTS).double(), threshold=0.1), layer_of(reset))
    name_layers(network)
    with torch.no_grad():
        network[1].recurrent.weight[2] = value
    with pytest.raises(NonFiniteError, match="layer 1: its membrane holds NaN or infinity"):
        network(spikes_of(STEPS, BATCH, INPUTS))


def test_infinite_weights_are_reported_even_where_a_reset_to_zero_forgets_them() -> None:
    """The first neuron fires once and lifts the second to infinity, which is zero again when the sequence ends."""
    layer = RecurrentLIF(nn.Linear(1, 2, bias=False), 0.5, 0.5, "zero")
    with torch.no_grad():
        layer.synapse.weight.copy_(torch.tensor([[1.0], [0.0]]))
        layer.recurrent.weight.copy_(torch.tensor([[0.0, 0.0], [torch.inf, 0.0]]))
    with pytest.raises(NonFiniteError, match="its membrane holds NaN or infinity"):
        layer(torch.tensor([1.0, 0.0, 0.0, 0.0]).view(4, 1, 1))


def test_feedback_that_is_not_finite_is_reported_with_the_layers_name() -> None:
    layer = layer_of().requires_grad_(False)
    layer.recurrent.requires_grad_()
    layer.name = "memory"
    spikes = layer(spikes_of(STEPS, BATCH, INPUTS))
    with pytest.raises(NonFiniteError, match="layer memory: its feedback holds NaN or infinity"):
        spikes.backward(torch.full_like(spikes, float("nan")))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: RecurrentLIF(nn.Conv2d(1, 2, 3), recurrent=nn.Conv2d(2, 2, 3, bias=False)),
            "recurrent must be an nn.Conv2d from 2 to 2 channels that keeps their sides, without bias, found "
            f"{nn.Conv2d(2, 2, 3, bias=False)}",
        ),
        *(
            (
                lambda recurrent=recurrent: RecurrentLIF(nn.Conv1d(1, 2, 3), recurrent=recurrent),
                "recurrent must be an nn.Conv1d from 2 to 2 channels that keeps their sides, without bias, found "
                f"{recurrent}",
            )
            for recurrent in (
                nn.Linear(2, 2, bias=False),
                nn.Conv2d(2, 2, 3, padding=1, bias=False),
                nn.Conv1d(2, 1, 3, padding=1, bias=False),
                nn.Conv1d(2, 2, 3, padding=1),
                nn.Conv1d(2, 2, 3, stride=2, padding=1, bias=False),
                nn.Conv1d(2, 2, 3, padding=1, padding_mode="circular", dilation=2, bias=False),
                nn.ConvTranspose1d(2, 2, 3, padding=1, bias=False),
            )
        ),
        (
            lambda: RecurrentLIF(nn.Linear(3, 4), recurrent=nn.Conv1d(4, 4, 1, bias=False)),
            f"recurrent must be nn.Linear(4, 4, bias=False), found {nn.Conv1d(4, 4, 1, bias=False)}",
        ),
        (
            lambda: RecurrentLIF(nn.Linear(3, 4), recurrent=nn.Linear(4, 3, bias=False)),
            "recurrent must be nn.Linear(4, 4, bias=False), found Linear(in_features=4, out_features=3, bias=False)",
        ),
        (
            lambda: RecurrentLIF(nn.Linear(3, 4), recurrent=nn.Linear(4, 4)),
            "recurrent must be nn.Linear(4, 4, bias=False), found Linear(in_features=4, out_features=4, bias=True)",
        ),
        (lambda: RecurrentLIF(nn.Linear(3, 4), beta=2.0), "beta must be greater than 0 and at most 1, found 2.0"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(build: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        build()


def test_a_membrane_of_another_shape_is_refused() -> None:
    layer = layer_of()
    layer.name = "1"
    message = "layer 1: expected a membrane [3, 5] of torch.float64, found [3, 4] of torch.float64"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        layer.run(spikes_of(STEPS, BATCH, INPUTS), random(BATCH, NEURONS - 1))


def test_recurrent_weights_of_another_type_are_refused() -> None:
    layer = layer_of()
    layer.name = "1"
    layer.recurrent.float()
    message = (
        "layer 1: weights are torch.float64 on cpu, its recurrent ones are torch.float32 on cpu; move one of them with "
        ".to()"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        layer(spikes_of(STEPS, BATCH, INPUTS))


def test_recurrent_layers_do_not_run_in_integers() -> None:
    network = nn.Sequential(RecurrentLIF(nn.Linear(INPUTS, NEURONS)))
    name_layers(network)
    run_in_integers(network, 8)
    with pytest.raises(UsageError, match=r"^layer 0: recurrent layers do not run in integers$"):
        network(torch.rand(STEPS, BATCH, INPUTS))
