"""Neurons that see each other: against an oracle, snnTorch, plain layers unrolled by hand, and kernels."""

from dataclasses import replace

import pytest
import snntorch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers import oracles
from helpers.recurrent import BATCH, INPUTS, NEURONS, RULES, STEPS, assert_near, grads, kernel, layer_of, lif, spikes_of
from helpers.tensors import random
from spiking_lfp import (
    LIF,
    Epsilon,
    RecurrentLIF,
)
from spiking_lfp.neurons import RESETS, RecurrentLIFNeuron, Reset


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
