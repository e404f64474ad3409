"""Neurons that see each other: against an oracle, snnTorch, plain layers unrolled by hand, and whole against parts."""

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import snntorch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from helpers import oracles, tensors
from helpers.tensors import random
from spiking_lfp import (
    LIF,
    AdaptiveClip,
    Epsilon,
    NonFiniteError,
    RecurrentLIF,
    Rule,
    UsageError,
    constant,
    name_layers,
    propagate,
    recorded,
    run_in_chunks,
    run_in_integers,
    spike_count_reward,
)
from spiking_lfp.kernels.cpu import recurrent as kernels
from spiking_lfp.neurons import RESETS, RecurrentLIFNeuron, Reset
from spiking_lfp.rules import AlphaBeta, Contributions, Gamma, ZPlusZMinus

lif, kernel = oracles.Recursions(), oracles.Recursions(kernels)

INPUTS, NEURONS, BATCH, STEPS = 6, 5, 3, 8


class Bounded(Rule):
    """A rule that the package does not have, with `N = 1 + z^2 + U^2 / 2`."""

    def gain(self, contributions: Contributions) -> Tensor:
        assert contributions.previous is not None
        return 1 / (1 + contributions.total**2 + contributions.previous**2 / 2)


def epsilon_gain(epsilon: float) -> Callable[[float, float], float]:
    return lambda total, before: 1 / (abs(before) + abs(total - before) + epsilon)


RULES: dict[str, tuple[Rule, Callable[[float, float], float]]] = {
    "epsilon": (Epsilon(), epsilon_gain(1e-6)),
    "large epsilon": (Epsilon(0.3), epsilon_gain(0.3)),
    "another rule": (Bounded(), lambda total, before: 1 / (1 + total**2 + before**2 / 2)),
}


def spikes_of(*shape: int, rate: float = 0.4) -> Tensor:
    return (torch.rand(*shape) < rate).double()


def layer_of(
    reset: Reset = "subtract", beta: float | Tensor = 0.8, threshold: float | Tensor = 0.4, rule: Rule | None = None
) -> RecurrentLIF:
    """A layer in float64 whose spikes matter to each other, to themselves too."""
    layer = RecurrentLIF(nn.Linear(INPUTS, NEURONS), beta, threshold, reset, rule).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 0.1, 0.5)
    return layer


def grads(layer: nn.Module, *others: Tensor) -> list[Tensor]:
    found = [parameter.grad for parameter in layer.parameters()] + [other.grad for other in others]
    assert all(grad is not None for grad in found)
    return [grad.clone() for grad in found if grad is not None]


assert_near = partial(tensors.assert_near, tolerance=1e-12)


# ---------------------------------------------------------------- the formula


@pytest.mark.parametrize("per_neuron", [False, True])
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("reset", RESETS)
def test_layers_equal_the_oracle(reset: Reset, rule: str, started: bool, per_neuron: bool) -> None:
    beta = 1 - torch.rand(NEURONS, dtype=torch.float64) if per_neuron else 0.8
    threshold = torch.rand(NEURONS, dtype=torch.float64) + 0.1 if per_neuron else 0.4
    ours, gain = RULES[rule]
    layer = layer_of(reset, beta, threshold, ours)
    x = (torch.rand(STEPS, BATCH, INPUTS) * 2 - 0.5).double().requires_grad_()
    initial = (0.4 + random(BATCH, NEURONS)).requires_grad_() if started else None  # half of them above the threshold
    on_spikes, on_final = random(STEPS, BATCH, NEURONS), random(BATCH, NEURONS) if started else None

    spikes, final = layer.run(x, initial)
    torch.autograd.backward([spikes, final] if started else [spikes], [on_spikes, on_final] if started else [on_spikes])

    expected = oracles.recurrent_layer(
        layer.synapse, layer.recurrent.weight, x, on_spikes, beta, threshold, reset, gain, initial, on_final
    )
    assert 0.1 < spikes.mean() < 0.9
    assert torch.equal(spikes, expected.output)
    assert_near(final, expected.final)
    assert_near(x.grad, expected.on_input)
    assert_near(-layer.synapse.weight.grad, expected.weight_update)
    assert_near(-layer.synapse.bias.grad, expected.bias_update)
    assert layer.recurrent.weight.grad is not None
    assert_near(-layer.recurrent.weight.grad, expected.recurrent_update)
    if initial is not None:
        assert_near(initial.grad, expected.on_initial)


def test_two_neurons_in_two_steps_by_hand() -> None:
    """The first fires, and makes the second fire in the next step: U_2[1] = 0.75 = V_21, q_2[1] = r / (0.75 + eps)."""
    layer = RecurrentLIF(nn.Linear(1, 2, bias=False), 0.5, 0.5, "none", Epsilon(0.25)).double()
    with torch.no_grad():
        layer.synapse.weight.copy_(torch.tensor([[1.0], [0.0]]))
        layer.recurrent.weight.copy_(torch.tensor([[0.0, 0.0], [0.75, 0.0]]))
    x = torch.tensor([1.0, 0.0], dtype=torch.float64).view(2, 1, 1).requires_grad_()
    spikes, final = layer.run(x)
    assert spikes.squeeze(1).tolist() == [[1, 0], [0, 1]]  # 0.5 is not above the threshold
    assert final.tolist() == [[0.5, 0.75]]
    spikes.backward(torch.tensor([[[0.0, 0.0]], [[0.0, 3.0]]], dtype=torch.float64))
    q_later = 3 / (0.75 + 0.25)
    q_earlier = 0.75 * q_later / (1 + 0.25)  # the share of V_21, all of it on the spike of the first neuron
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [pytest.approx(q_earlier), 0]
    assert layer.recurrent.weight.grad is not None
    assert layer.recurrent.weight.grad.flatten().tolist() == [0, 0, pytest.approx(-0.75 * q_later), 0]
    assert layer.synapse.weight.grad.flatten().tolist() == [pytest.approx(-q_earlier), 0]


# ---------------------------------------------------------------- other networks that do the same


@pytest.mark.parametrize("reset", ["subtract", "none"])
@pytest.mark.parametrize(
    ("beta", "neurons", "steps", "dtype"),
    # on a grid, so that sums are exact in any order: membranes too, as long as their bits suffice
    [(0.5, 20, 30, torch.float64), (0.875, 70, 12, torch.float64), (1.0, 33, 30, torch.float32)],
)
def test_spikes_equal_snntorch_to_the_bit(
    beta: float, neurons: int, steps: int, dtype: torch.dtype, reset: Reset
) -> None:
    """Its reset "zero" is left out: in `RLeaky` it takes what arrived too, unlike in its `Leaky` and in ours."""
    layer = RecurrentLIF(nn.Linear(40, neurons), beta, 1.5, reset).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randint(-8, 10, parameter.shape) / 16)
    x = torch.randint(0, 2, (steps, 4, 40)).to(dtype)
    theirs = snntorch.RLeaky(
        beta=layer.beta.to(dtype),
        linear_features=neurons,
        threshold=torch.full((neurons,), 1.5, dtype=dtype),  # a scalar one is rounded to float32
        reset_mechanism=reset,
    ).to(dtype)
    with torch.no_grad():
        theirs.recurrent.weight.copy_(layer.recurrent.weight)
        theirs.recurrent.bias.zero_()
        fired = membrane = torch.zeros(4, neurons, dtype=dtype)
        expected = []
        for current in layer.synapse(x):
            fired, membrane = theirs(current, fired.to(dtype), membrane)  # its spikes are float32
            expected.append(fired.to(dtype))
        spikes, final = layer.run(x)
    assert 0.02 < spikes.mean() < 0.98
    assert torch.equal(spikes, torch.stack(expected))
    assert torch.equal(final, membrane)


@pytest.mark.parametrize("reset", RESETS)
def test_feedback_equals_that_of_plain_layers_unrolled_by_hand(reset: Reset) -> None:
    """One plain layer for each step, whose inputs are those of the step and the spikes of the layer before."""
    layer = layer_of(reset)
    x, initial = spikes_of(STEPS, BATCH, INPUTS).requires_grad_(), random(BATCH, NEURONS).requires_grad_()
    on_spikes, on_final = random(STEPS, BATCH, NEURONS), random(BATCH, NEURONS)
    outputs = layer.run(x, initial)
    torch.autograd.backward(outputs, [on_spikes, on_final])
    found = [*(output.detach() for output in outputs), *grads(layer, x, initial)]

    plain = LIF(nn.Linear(INPUTS + NEURONS, NEURONS), 0.8, 0.4, reset).double()
    with torch.no_grad():
        plain.synapse.weight.copy_(torch.cat([layer.synapse.weight, layer.recurrent.weight], 1))
        plain.synapse.bias.copy_(layer.synapse.bias)
    x, start = x.detach().requires_grad_(), initial.detach().requires_grad_()
    fired = (start.detach() > 0.4).double()[None].requires_grad_()
    first, membrane, spikes = fired, start, []
    for now in x.split(1):
        fired, membrane = plain.run(torch.cat([now, fired], 2), membrane)
        spikes.append(fired)
    torch.autograd.backward([torch.cat(spikes), membrane], [on_spikes, on_final])
    weight, bias, on_x, on_start, on_first = grads(plain, x, start, first)
    on_initial = on_start + on_first[0]  # a spike and its membrane are one neuron
    expected = [torch.cat(spikes).detach(), membrane.detach(), weight[:, :INPUTS], bias, weight[:, INPUTS:], on_x]
    for one, other in zip(found, [*expected, on_initial], strict=True):
        assert one.any()
        assert_near(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reset", RESETS)
def test_without_recurrent_weights_a_layer_is_the_plain_one_to_the_bit(reset: Reset, dtype: torch.dtype) -> None:
    layer = RecurrentLIF(nn.Linear(30, 70), 0.9, 0.3, reset).to(dtype)
    nn.init.zeros_(layer.recurrent.weight)
    plain = LIF(layer.synapse, 0.9, 0.3, reset)
    x, initial, reward = torch.rand(20, 3, 30).to(dtype), torch.randn(3, 70).to(dtype), torch.randn(20, 3, 70).to(dtype)
    outcomes = []
    for each in (layer, plain):
        each.zero_grad()
        spikes, final = each.run(x, initial)
        spikes.backward(reward)
        outcomes.append([spikes.detach(), final.detach(), *grads(layer.synapse)])
    assert outcomes[0][0].any()
    assert all(torch.equal(found, expected) for found, expected in zip(*outcomes, strict=True))
    assert layer.recurrent.weight.grad is not None
    assert not layer.recurrent.weight.grad.any()  # weights of zero stay


# ---------------------------------------------------------------- the kernels against the reference


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    steps=st.integers(1, 20),
    batch=st.integers(1, 4),
    neurons=st.sampled_from([1, 7, 32, 64, 65, 100]),
    reset=st.sampled_from(RESETS),
    constants_per_neuron=st.booleans(),
    constant_current=st.booleans(),
    started=st.booleans(),
    epsilon=st.sampled_from([1e-3, 0.1]),
)
@example(3, torch.float32, 20, 4, 130, "subtract", True, False, True, 0.1)  # three tiles, the last one not full
def test_compiled_equals_reference(
    seed: int,
    dtype: torch.dtype,
    steps: int,
    batch: int,
    neurons: int,
    reset: Reset,
    constants_per_neuron: bool,
    constant_current: bool,
    started: bool,
    epsilon: float,
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def grid(tensor: Tensor) -> Tensor:  # currents add up exactly, in any order; membranes meet their threshold
        return (tensor * 16).round().to(dtype) / 16

    current = grid(rand(1 if constant_current else steps, batch, neurons) * 3 - 1)
    weight = grid((rand(neurons, neurons) * 2 - 1) * 4 / neurons**0.5)
    beta = 1 - rand(neurons) if constants_per_neuron else torch.tensor(0.75)
    threshold = rand(neurons) + 0.25 if constants_per_neuron else torch.tensor(0.5)
    neuron = RecurrentLIFNeuron(beta.to(dtype), threshold.to(dtype), reset, recurrent=weight)
    initial = grid(rand(batch, neurons) * 3 - 1) if started else None

    spikes, final, trace = lif.forward(current.clone(), steps, neuron, initial)
    found_spikes, found_final, found = kernel.forward(current.clone(), steps, neuron, initial)
    assert torch.equal(found_spikes, spikes)
    assert torch.equal(found_final, final)
    assert torch.equal(found.record, trace.record)
    assert trace.states is not None
    assert found.states is not None

    reward = (rand(steps, batch, neurons) * 2 - 1).to(dtype)
    on_final = (rand(batch, neurons) * 2 - 1).to(dtype) if started else None
    (q,), on_initial = lif.feedback(trace, reward, on_final, Epsilon(epsilon), False)
    found_q, found_on_initial = kernel.feedback_epsilon(trace, reward, on_final, epsilon)
    # relative to what the feedback is made of: the parts of one neuron may cancel
    sizes = replace(trace, neuron=replace(neuron, recurrent=weight.abs()))
    ends = None if on_final is None else on_final.abs()
    (sizes_q,), _ = lif.feedback(sizes, reward.abs(), ends, Epsilon(epsilon), False)
    tolerance = (1e-5 if dtype == torch.float32 else 1e-12) * sizes_q.abs().max()
    assert (found_q - q).abs().max() <= tolerance
    assert (found_on_initial - on_initial).abs().max() <= tolerance * max(1, weight.abs().sum(0).max().item())


def test_kernels_leave_their_arguments_alone_and_take_any_layout() -> None:
    neuron = RecurrentLIFNeuron(
        torch.tensor(0.9).double(), torch.tensor(0.5).double(), "zero", recurrent=random(70, 70).T / 8
    )
    initial, on_final, reward = random(4, 70), random(4, 70), random(9, 4, 70)
    copies = [tensor.clone() for tensor in (initial, on_final, reward, neuron.recurrent)]
    current = random(9, 4, 70)
    _, _, trace = kernel.forward(current.clone(), 9, neuron, initial)
    q, on_initial = kernel.feedback_epsilon(trace, reward, on_final, 1e-3)
    for tensor, before in zip((initial, on_final, reward, neuron.recurrent), copies, strict=True):
        assert torch.equal(tensor, before)

    def turned(tensor: Tensor) -> Tensor:
        return tensor.transpose(0, 1).contiguous().transpose(0, 1)

    other = replace(neuron, recurrent=neuron.recurrent.contiguous())
    _, _, again = kernel.forward(turned(current), 9, other, turned(initial))
    assert torch.equal(again.record, trace.record)
    for found, expected in zip(
        kernel.feedback_epsilon(again, turned(reward), turned(on_final), 1e-3), (q, on_initial), strict=True
    ):
        assert torch.equal(found, expected)


def test_two_threads_give_what_one_gives() -> None:
    outcomes = []
    for threads in (1, 2):
        torch.manual_seed(0)
        layer, x = RecurrentLIF(nn.Linear(20, 70), threshold=0.2), spikes_of(12, 5, 20).float()
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            spikes, final = layer.run(x)
            torch.autograd.backward([spikes, final], [torch.randn(12, 5, 70), torch.randn(5, 70)])
        finally:
            torch.set_num_threads(before)
        outcomes.append([spikes.detach(), final.detach(), *grads(layer)])
    assert all(torch.equal(one, two) for one, two in zip(*outcomes, strict=True))


# ---------------------------------------------------------------- inputs and settings


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


# ---------------------------------------------------------------- whole and parts


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


# ---------------------------------------------------------------- a module like any other


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


# ---------------------------------------------------------------- errors


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


# ---------------------------------------------------------------- convolutions that see their own spikes


CONVOLUTIONS: dict[str, tuple[nn.Module, nn.Module | None, tuple[int, ...]]] = {
    "signal": (nn.Conv1d(2, 3, 2, stride=2), None, (2, 7)),
    "image": (nn.Conv2d(1, 2, 2), nn.Conv2d(2, 2, (3, 1), padding=(1, 0), bias=False), (1, 3, 4)),
    "groups and gaps": (
        nn.Conv2d(1, 4, 2),
        nn.Conv2d(4, 4, 3, padding="same", dilation=(1, 2), groups=2, bias=False),
        (1, 3, 4),
    ),
    "uneven": (nn.Conv1d(2, 3, 3), nn.Conv1d(3, 3, 4, padding="same", bias=False), (2, 7)),
    "transposed": (nn.ConvTranspose1d(2, 3, 2), None, (2, 4)),
    "volume": (nn.Conv3d(1, 2, 2), None, (1, 2, 3, 3)),
}


def convolutional(kind: str, reset: Reset, rule: Rule | None = None) -> tuple[RecurrentLIF, tuple[int, ...]]:
    synapse, recurrent, shape = copy.deepcopy(CONVOLUTIONS[kind])
    layer = RecurrentLIF(synapse, 0.8, 0.4, reset, rule, recurrent).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 0.1, 0.5)
    return layer, shape


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_recurrent_convolutions_equal_the_oracle(kind: str, reset: Reset) -> None:
    """The oracle sees the recurrent convolution as the matrix that it is."""
    layer, shape = convolutional(kind, reset)
    x = spikes_of(STEPS, 2, *shape).requires_grad_()
    neurons = oracles.wires_of(layer.synapse, shape).outputs
    initial = (0.4 + random(2, *neurons)).requires_grad_()
    spikes, final = layer.run(x, initial)
    on_spikes, on_final = random(*spikes.shape), random(*final.shape)
    torch.autograd.backward([spikes, final], [on_spikes, on_final])

    own = oracles.wires_of(layer.recurrent, neurons)
    matrix = torch.zeros(len(own.biases), len(own.biases), dtype=torch.float64)
    for o, i, index in own.wires:
        matrix[o, i] = layer.recurrent.weight.detach()[index]
    expected = oracles.recurrent_layer(
        layer.synapse, matrix, x, on_spikes.flatten(2), 0.8, 0.4, reset, epsilon_gain(1e-6),
        initial.detach().flatten(1), on_final.flatten(1),
    )  # fmt: skip
    update = torch.zeros_like(layer.recurrent.weight)
    assert expected.recurrent_update is not None
    for o, i, index in own.wires:
        update[index] += expected.recurrent_update[o, i]
    assert torch.equal(spikes, expected.output)
    assert 0 < spikes.sum() < spikes.numel()
    pairs = [
        (final.flatten(1), expected.final),
        (x.grad, expected.on_input),
        (initial.grad.flatten(1), expected.on_initial),
        (-layer.synapse.weight.grad, expected.weight_update),
        (-layer.synapse.bias.grad, expected.bias_update),
        (-layer.recurrent.weight.grad, update),
    ]
    for actual, wanted in pairs:
        torch.testing.assert_close(actual, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rule", [ZPlusZMinus(), AlphaBeta(), Gamma()])
def test_a_convolution_over_single_pixels_follows_rules_as_a_dense_layer_does(rule: Rule) -> None:
    dense = layer_of("zero", rule=rule)
    layer = RecurrentLIF(nn.Conv2d(INPUTS, NEURONS, 1), 0.8, 0.4, "zero", rule).double()
    layer.recurrent = nn.Conv2d(NEURONS, NEURONS, 1, bias=False).double()
    with torch.no_grad():
        for mine, other in zip(layer.parameters(), dense.parameters(), strict=True):
            mine.copy_(other.view_as(mine))
    x = (spikes_of(STEPS, BATCH, INPUTS) - spikes_of(STEPS, BATCH, INPUTS)).requires_grad_()
    image = x.detach()[..., None, None].requires_grad_()
    expected, spikes = dense(x), layer(image)
    assert torch.equal(spikes.flatten(2), expected)
    reward = random(*expected.shape)
    expected.backward(reward)
    spikes.backward(reward.view_as(spikes))
    for actual, wanted in zip(grads(layer, image), grads(dense, x), strict=True):
        torch.testing.assert_close(actual.view_as(wanted), wanted, rtol=1e-9, atol=1e-9)


def test_recurrent_convolutions_run_in_chunks_and_copies() -> None:
    layer, shape = convolutional("image", "subtract")
    x = spikes_of(STEPS, 2, *shape)
    expected = layer(x)
    reward = random(*expected.shape)
    expected.backward(reward)
    wanted = grads(layer)
    for other in (layer, copy.deepcopy(layer)):
        other.zero_grad()
        spikes = run_in_chunks(other, x, 3)
        assert torch.equal(spikes, expected)
        spikes.backward(reward)
        for actual, each in zip(grads(other), wanted, strict=True):
            torch.testing.assert_close(actual, each, rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------- learning


def cues(samples: int, delay: int) -> tuple[Tensor, Tensor]:
    """One of two groups of inputs is active for three steps, then noise that tells nothing; what was it?"""
    labels = torch.randint(0, 2, (samples,))
    rates = torch.zeros(3 + delay, samples, 30)
    for label in (0, 1):
        rates[:3, labels == label, 10 * label : 10 * label + 10] = 0.8
    rates[..., 20:] = 0.3
    return (torch.rand(rates.shape) < rates).float(), labels


@pytest.mark.parametrize(("kind", "least", "most"), [(RecurrentLIF, 0.9, 1.0), (LIF, 0.4, 0.6)])
def test_recurrence_learns_to_remember(kind: type[LIF], least: float, most: float) -> None:
    """After 9 steps a membrane alone keeps 0.5^9 of what it was; spikes that feed each other keep the cue."""
    network = nn.Sequential(kind(nn.Linear(30, 60), 0.5, 0.15), LIF(nn.Linear(60, 2), 0.5, 0.15))
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(30):
        x, labels = cues(64, 9)
        optimizer.zero_grad()
        late = network(x)[-3:]
        propagate(late, spike_count_reward(late, labels))
        optimizer.step()
    with torch.no_grad():
        x, labels = cues(500, 9)
        accuracy = (network(x)[-3:].sum(0).argmax(1) == labels).float().mean()
    assert least <= accuracy <= most
