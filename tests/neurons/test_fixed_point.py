"""Layers that run as integer hardware does: their neurons, their rounding, and what LFP learns from them."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import spiking_lfp as lfp
from spiking_lfp.integers import IntegerLIF
from spiking_lfp.integers.arithmetic import DEFAULT, Arithmetic
from spiking_lfp.kernels.cpu import integer
from spiking_lfp.lfp.execution import Real
from spiking_lfp.neurons import LIFNeuron
from spiking_lfp.neurons import integer as fixed_point
from spiking_lfp.neurons.integer import FixedPoint
from spiking_lfp.nn.execution import recorded, run_in_integers
from spiking_lfp.nn.spiking import spiking_layers


def by_hand(current: list[int], theta: int, decay: int, frac_bits: int, reset: str) -> tuple[list[int], list[int]]:
    """The specification for one neuron, in Python integers: membranes before any reset of their step, and spikes."""
    value, spike, membranes, spikes = 0, 0, [], []
    bound = theta << frac_bits
    for arrived in current:
        if reset == "zero" and spike:
            value = 0
        left = (abs(value) * (4096 - decay)) >> 12
        value = (left if value >= 0 else -left) + (arrived << frac_bits)
        if reset == "subtract" and spike:
            value -= bound
        value = max(-(2**23 - 1), min(2**23 - 1, value))
        spike = int(value > bound)
        membranes.append(value)
        spikes.append(spike)
    return membranes, spikes


@settings(deadline=None)
@given(
    st.lists(st.integers(-131_071, 131_071), min_size=1, max_size=12), st.integers(1, 131_071), st.integers(0, 4095),
    st.integers(0, 6), st.sampled_from(["subtract", "zero"]), st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_neurons(current: list[int], theta: int, decay: int, frac_bits: int, reset: Any, dtype: Any) -> None:
    membranes, spikes = by_hand(current, theta, decay, frac_bits, reset)
    neuron = IntegerLIF(torch.tensor([theta], dtype=torch.int32), decay, frac_bits, reset)
    arrived = torch.tensor(current, dtype=dtype).view(-1, 1, 1)
    for forward in (fixed_point.forward, integer.forward):
        found, (final,), trace = forward(neuron, arrived.clone(), len(current), None)
        assert trace.record.flatten().tolist() == membranes
        assert found.flatten().tolist() == spikes
        assert final.item() == membranes[-1]


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("shape", [(5,), (4, 3, 6)])
@pytest.mark.parametrize("own", [False, True])
def test_the_compiled_neurons_equal_the_reference(reset: Any, shape: tuple[int, ...], own: bool) -> None:
    decay = torch.linspace(0, 4095, shape[0]).int() if own else 410
    neuron = IntegerLIF(torch.randint(20, 300, (shape[0],)).int(), decay, 6, reset)
    for time, initial in ((9, None), (1, torch.randint(-9000, 20_000, (3, *shape)).float())):
        current = torch.randint(-100, 250, (time, 3, *shape)).float()
        found, expected = (
            forward(neuron, current.clone(), 9, None if initial is None else (initial,))
            for forward in (integer.forward, fixed_point.forward)
        )
        assert expected[0].any()
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1][0], expected[1][0])
        assert torch.equal(found[2].record, expected[2].record)
        assert torch.equal(found[2].neuron.beta, expected[2].neuron.beta)
        if own:
            kept = 1 - torch.linspace(0, 4095, shape[0]).int() / 4096
            assert torch.equal(found[2].neuron.beta, kept.view(-1, *[1] * (len(shape) - 1)))


def neuron(beta: float = 0.9, threshold: float = 1.0, reset: Any = "subtract") -> LIFNeuron:
    return LIFNeuron(torch.tensor(beta), torch.tensor(threshold), reset)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("per_channel", [False, True])
def test_weights_are_rounded_to_units(bits: int, per_channel: bool) -> None:
    weight, bias = torch.randn(6, 20) * torch.logspace(-2, -0.5, 6)[:, None], torch.randn(6)
    layer = FixedPoint(bits, 1, per_channel).layer(weight, bias, neuron(), "a")
    most = 2 ** (bits - 1) - 1
    assert layer.weight.abs().max() == most
    assert torch.equal(layer.weight, layer.weight.round())
    assert ((layer.weight * layer.scale[:, None] - weight).abs() <= layer.scale[:, None] * 0.5001).all()
    assert layer.bias is not None
    assert ((layer.bias * layer.scale - bias).abs() <= layer.scale * 0.5001).all()
    assert torch.equal(layer.neuron.theta, (1 / layer.scale).round())
    assert layer.neuron.decay == 410
    assert (len(set(layer.scale.tolist())) > 1) == per_channel
    if per_channel:
        assert (layer.weight.abs().amax(1) == most).all()


def test_analogue_inputs_fold_their_levels_into_the_threshold() -> None:
    weight = torch.tensor([[0.5, -1.0]])
    layer = FixedPoint(8, 255).layer(weight, torch.tensor([0.2]), neuron(), "a")
    assert layer.weight.tolist() == [[64, -127]]
    assert layer.neuron.theta.item() == 255 * 127
    assert layer.bias is not None
    assert layer.bias.item() == round(0.2 * 127 * 255)
    # -127 * 255 is the largest current, the threshold as large: as many bits of fraction as 2^23 - 1 leaves
    assert layer.neuron.frac_bits == 6
    wide = FixedPoint(8, 255).layer(torch.ones(1, 200), None, neuron(threshold=0.1), "a")
    assert wide.neuron.frac_bits == 0


def test_the_mean_unit_cuts_off_the_few_largest() -> None:
    weight = torch.full((1, 100), 0.1)
    weight[0, 0] = 5.0
    layer = FixedPoint(2, 1, scale="mean").layer(weight, None, neuron(), "a")
    mean = weight.mean().item()
    assert layer.scale.item() == pytest.approx(2 * mean)
    assert layer.weight[0, 0] == 1


@pytest.mark.parametrize(
    ("weight", "constants", "bits", "levels", "message"),
    [
        (torch.zeros(2, 3), neuron(), 8, 1, "layer a: all weights are zero"),
        (torch.full((2, 3), torch.nan), neuron(), 8, 1, "layer a: all weights are zero, or some are not finite"),
        (torch.ones(2, 3), neuron(reset="none"), 8, 1, "layer a: integer neurons reset to zero or subtract"),
        (torch.ones(2, 300), neuron(), 8, 255, "layer a: currents or threshold reach 9715500 in weight units"),
        (torch.ones(2, 3), neuron(threshold=1e-4), 8, 1, "layer a: its threshold is less than half a weight unit"),
        (torch.ones(2, 3), neuron(threshold=1e5), 8, 1, "layer a: currents or threshold reach 12700000"),
    ],
)
def test_what_integers_cannot_represent_is_refused(
    weight: Tensor, constants: LIFNeuron, bits: int, levels: int, message: str
) -> None:
    with pytest.raises(lfp.UsageError, match=message):
        FixedPoint(bits, levels).layer(weight, None, constants, "a")


@pytest.mark.parametrize("arithmetic", [DEFAULT, replace(DEFAULT, leak="shift")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_output_may_have_a_beta_of_its_own(arithmetic: Arithmetic, dtype: torch.dtype) -> None:
    betas = torch.linspace(0.05, 1, 7, dtype=dtype)
    weight, threshold = torch.randn(7, 2, 3, 3, dtype=dtype), torch.tensor(1.0, dtype=dtype)
    of_channels = LIFNeuron(betas.view(7, 1, 1), threshold, "subtract")
    layer = FixedPoint(arithmetic=arithmetic).layer(weight, None, of_channels, "a")
    expected = [arithmetic.decay(beta) for beta in betas.tolist()]
    assert layer.neuron.decay.dtype == torch.int32
    assert layer.neuron.decay.tolist() == expected
    # what rounds to the same is one for all
    same = LIFNeuron(torch.full((7, 1, 1), 0.9, dtype=dtype), threshold, "subtract")
    assert FixedPoint(arithmetic=arithmetic).layer(weight, None, same, "a").neuron.decay == arithmetic.decay(0.9)


@pytest.mark.parametrize(
    ("shape", "constant", "message"),
    [
        ((2, 3, 3, 3), "beta", r"one beta, found \[3\]: use one for all, or one for each output, \[2, 1, 1\]"),
        (
            (3, 2, 3, 3),
            "threshold",
            r"one threshold, found \[3\]: use one for all, or one for each output, \[3, 1, 1\]",
        ),
        ((2, 3), "beta", r"one beta, found \[3\]: use one for all, or one for each output, \[2\]"),
        ((2, 3), "threshold", r"one threshold, found \[3\]"),
    ],
)
def test_constants_that_differ_within_an_output_are_refused(shape: Any, constant: str, message: str) -> None:
    """Of a convolution three in a row are those of columns, even if there are as many channels."""
    differing = replace(neuron(), **{constant: torch.tensor([0.9, 0.8, 0.7])})
    with pytest.raises(lfp.UsageError, match=f"layer a: integer neurons of an output share {message}"):
        FixedPoint().layer(torch.ones(shape), None, differing, "a")


@pytest.mark.parametrize(("bits", "levels", "scale"), [(1, 1, "max"), (9, 1, "max"), (8, 0, "max"), (8, 256, "max")])
def test_settings_out_of_range_are_refused(bits: int, levels: int, scale: Any) -> None:
    with pytest.raises(lfp.UsageError, match=r"weights need 2\.\.8 bits"):
        FixedPoint(bits, levels, scale=scale)


def spiking_network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(3)
    network = lfp.lenet((1, 12, 12), 4, (3, 4), (20,), kernel=3, threshold=0.3)
    return network.to(dtype)


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    values = torch.randint(0, 256, (5, 1, 12, 12)) * (torch.rand(5, 1, 12, 12) < 0.6)
    return values.to(dtype) / 255


def updates(network: nn.Module, spikes: Tensor) -> list[Tensor]:
    network.zero_grad()
    lfp.propagate(spikes, lfp.spike_count_reward(spikes, torch.arange(5) % 4))
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


def test_eight_bits_learn_almost_what_real_numbers_learn() -> None:
    network, x = spiking_network(), lfp.constant(images(), 10)
    real = network(x)
    expected = updates(network, real)
    run_in_integers(network, 8)
    integers = network(x)
    assert integers.any()
    assert ((integers == 0) | (integers == 1)).all()
    assert not torch.equal(integers, real)
    assert (integers != real).float().mean() < 0.1
    found, mine = (torch.cat([each.flatten() for each in every]) for every in (updates(network, integers), expected))
    assert torch.nn.functional.cosine_similarity(found, mine, 0) > 0.9
    run_in_integers(network, 0)
    assert torch.equal(network(x), real)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_feedback_is_that_of_a_real_layer_with_rounded_weights(bits: int) -> None:
    """Integer arithmetic and real arithmetic on the same rounded weights divide rewards alike, but for truncation."""
    torch.manual_seed(0)
    layer = lfp.LIF(nn.Linear(40, 12, dtype=torch.float64), beta=0.5, threshold=1.0)
    run_in_integers(layer, bits, levels=1, scale="max")
    x = (torch.rand(8, 6, 40) < 0.4).double()
    with (
        torch.no_grad()
    ):  # weights, bias and threshold on the grid; 0.5 is 2048 / 4096: nothing is rounded but the leak
        unit = {2: 1 / 4, 4: 1 / 16, 8: 1 / 64}[bits]
        layer.synapse.weight.copy_(torch.randint(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1), (12, 40)) * unit)
        layer.synapse.weight[0, 0] = (2 ** (bits - 1) - 1) * unit
        layer.synapse.bias.copy_(torch.randint(1, 4, (12,)) * unit)
    reward = torch.rand(8, 6, 12, dtype=torch.float64)
    # where contributions cancel to exactly nothing, real layers divide by epsilon and integer ones hand on nothing
    state = None
    for t in range(8):
        before, (_, state) = state, layer.run(x[t : t + 1], state)
        reward[t].masked_fill_((state == 0) & (True if before is None else before == 0), 0)
    outcomes = []
    for execution in (layer.execution, Real()):
        layer.execution = execution
        layer.zero_grad()
        inputs = x.clone().requires_grad_()
        spikes = layer(inputs)
        assert spikes.any()
        lfp.propagate(spikes, reward)
        assert inputs.grad is not None
        outcomes.append((spikes.detach(), inputs.grad, layer.synapse.weight.grad, layer.synapse.bias.grad))
    (spikes, *found), (same, *expected) = outcomes
    assert torch.equal(spikes, same)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=2e-2, atol=2e-3)


def test_silent_integer_neurons_learn_nothing() -> None:
    layer = lfp.LIF(nn.Linear(4, 3))
    run_in_integers(layer, 2, levels=1)
    with torch.no_grad():
        layer.synapse.bias.fill_(1e-3)  # rounds to 0
    spikes = layer(torch.zeros(5, 2, 4))
    lfp.propagate(spikes, torch.ones_like(spikes))
    assert layer.synapse.bias.grad is not None
    assert not layer.synapse.bias.grad.any()


def test_parts_of_a_sequence_give_the_same() -> None:
    network, x = spiking_network(), lfp.constant(images(), 9)
    run_in_integers(network, 4)
    whole = network(x)
    expected = updates(network, whole)
    parts = lfp.run_in_chunks(network, x, 4)
    assert torch.equal(parts, whole)
    for found, mine in zip(updates(network, parts), expected, strict=True):
        torch.testing.assert_close(found, mine, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bits", [0, 4])
def test_membranes_recorded_elsewhere_give_the_updates_of_the_layer_itself(bits: int) -> None:
    network, x = spiking_network(torch.float64), lfp.constant(images(torch.float64), 7)
    run_in_integers(network, bits)
    spikes = network(x)
    assert spikes.any()
    expected = updates(network, spikes)
    membranes, seen = {}, x
    for name, module in network.named_children():
        if isinstance(module, lfp.LIF):  # one step at a time, as a chip would show them
            steps, state = [], None
            for t in range(7):
                _, state = module.run(seen[t : t + 1], state)
                steps.append(state.detach())
            membranes[name] = torch.stack(steps)
        seen = module(seen)
    with recorded(network, membranes):
        again = network(x)
        assert torch.equal(again, spikes)
        for found, mine in zip(updates(network, again), expected, strict=True):
            torch.testing.assert_close(found, mine, rtol=1e-9, atol=1e-12)
    with recorded(network, {name: torch.zeros_like(value) for name, value in membranes.items()}):
        assert not network(x).any()
    assert torch.equal(network(x), spikes)


def test_recordings_must_fit() -> None:
    network, x = spiking_network(), lfp.constant(images(), 7)
    with (
        pytest.raises(lfp.UsageError, match=r"'9' is not a spiking layer of the network: it has 0, 2, 5, 6"),
        recorded(network, {"9": torch.zeros(7, 5, 3)}),
    ):
        pass
    with (
        recorded(network, {"5": torch.zeros(7, 5, 21)}),
        pytest.raises(lfp.UsageError, match=r"layer 5: expected a recorded membrane \[7, 5, 20\], found \[7, 5, 21\]"),
    ):
        network(x)
    assert all(layer.execution == Real() for layer in spiking_layers(network).values())


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bool])
def test_recordings_of_another_type_are_refused(dtype: torch.dtype) -> None:
    network, x = spiking_network(), lfp.constant(images(), 7)
    message = f"layer 6: expected a recorded membrane of torch.float32 on cpu, found {dtype} on cpu: convert it"
    shape = network(x).shape
    with recorded(network, {"6": torch.ones(shape, dtype=dtype)}), pytest.raises(lfp.UsageError, match=f"^{message}$"):
        network(x)


def test_integers_that_hardware_recorded_are_taken_as_they_are() -> None:
    network, x = spiking_network(), lfp.constant(images(), 7)
    run_in_integers(network, 4)
    membranes = torch.randint(-200, 200, network(x).shape, dtype=torch.int32)
    found = []
    for recording in (membranes, membranes.float()):
        with recorded(network, {"6": recording}):
            found.append(updates(network, network(x)))
    for whole, real in zip(*found, strict=True):
        assert torch.equal(whole, real)


def test_a_network_without_neurons_has_nothing_to_run_in_integers() -> None:
    with pytest.raises(lfp.UsageError, match="no spiking layer"):
        run_in_integers(nn.Linear(2, 2), 8)
