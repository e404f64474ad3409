"""The neuron: against snnTorch to the bit, the compiled kernels against the reference, and whole against parts."""

import math
from collections.abc import Callable

import pytest
import snntorch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers.oracles import Recursions, one_q
from spiking_lfp import LIF, AlphaBeta, Epsilon, Flat, Gamma, Rule, Zero, ZPlusZMinus, constant
from spiking_lfp.kernels.cpu import lif as cpu_kernels
from spiking_lfp.kernels.cpu.recursions import TILE_VALUES
from spiking_lfp.neurons import RESETS, LIFNeuron, Reset, Trace

lif, cpu = Recursions(), Recursions(cpu_kernels)
FORWARDS = {"reference": lif.forward, "compiled": cpu.forward}
Case = tuple[Tensor, int, LIFNeuron, Tensor | None]
Forward = Callable[[Tensor, int, LIFNeuron, Tensor | None], tuple[Tensor, Tensor, Trace]]


@pytest.fixture(params=FORWARDS)
def forward(request: pytest.FixtureRequest) -> Forward:
    return FORWARDS[request.param]


def neuron(beta: float | Tensor, threshold: float | Tensor, reset: str, dtype: torch.dtype) -> LIFNeuron:
    return LIFNeuron(torch.as_tensor(beta, dtype=dtype), torch.as_tensor(threshold, dtype=dtype), reset)


@torch.no_grad()
def snntorch_run(current: Tensor, beta: Tensor, threshold: Tensor, reset: str) -> tuple[Tensor, Tensor]:
    # one threshold per neuron: snnTorch rounds spikes times a scalar threshold to float32
    leaky = snntorch.Leaky(beta=beta, threshold=threshold.expand(current.shape[1:]), reset_mechanism=reset)
    membrane, pairs = torch.zeros_like(current[0]), []
    for arrived in current:
        spikes, membrane = leaky(arrived, membrane)
        pairs.append((spikes, membrane))
    spikes, membranes = (torch.stack(column) for column in zip(*pairs, strict=True))
    return spikes.to(current.dtype), membranes


# ---------------------------------------------------------------- snnTorch


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize(
    ("beta", "threshold", "steps"), [(0.3, 1.0, 7), (0.9, 0.7, 25), (0.95, 2.5, 100), (1.0, 1, 50)]
)
def test_neurons_equal_snntorch_to_the_bit(
    forward: Forward, dtype: torch.dtype, reset: str, beta: float, threshold: float, steps: int
) -> None:
    current = torch.randn(steps, 4, 33, dtype=dtype) * 0.8 + 0.2
    constants = neuron(beta, threshold, reset, dtype)
    expected_spikes, expected = snntorch_run(current, constants.beta, constants.threshold, reset)

    spikes, final, trace = forward(current.clone(), steps, constants, None)

    assert 0.02 < spikes.mean() < 0.98
    assert torch.equal(spikes, expected_spikes)
    assert trace.states is not None
    assert torch.equal(trace.record, expected)
    assert torch.equal(final, expected[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reset", RESETS)
def test_constants_per_neuron_equal_snntorch_to_the_bit(forward: Forward, dtype: torch.dtype, reset: str) -> None:
    current = torch.randn(30, 3, 2, 4, 5, dtype=dtype) * 0.8 + 0.2
    beta, threshold = torch.rand(2, 4, 5, dtype=dtype), torch.rand(2, 1, 1, dtype=dtype) + 0.2
    expected_spikes, expected = snntorch_run(current, beta, threshold, reset)
    spikes, _, trace = forward(current.clone(), 30, LIFNeuron(beta, threshold, reset), None)
    assert torch.equal(spikes, expected_spikes)
    assert torch.equal(trace.record, expected)


def dyadic(module: nn.Module) -> nn.Module:
    """Round the parameters to multiples of 1/16: sums with inputs on a dyadic grid are exact in any order."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randint(-8, 10, parameter.shape) / 16)
    return module


@pytest.mark.parametrize("constant_input", [False, True])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize(("beta", "steps"), [(0.5, 5), (0.75, 25), (0.9375, 40), (1.0, 25)])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_layers_equal_snntorch_to_the_bit(
    kind: str, beta: float, steps: int, reset: Reset, constant_input: bool
) -> None:
    synapse = dyadic(nn.Linear(40, 30) if kind == "linear" else nn.Conv2d(2, 3, 3, stride=2, padding=1))
    sample = (40,) if kind == "linear" else (2, 7, 6)
    if constant_input:
        x = constant(torch.randint(0, 9, (3, *sample)) / 8, steps)
    else:
        x = torch.randint(0, 2, (steps, 3, *sample)).float()
    with torch.no_grad():
        current = torch.stack([synapse(step) for step in x])
        expected, membranes = snntorch_run(current, torch.tensor(beta), torch.tensor(1.5), reset)
        spikes, final = LIF(synapse, beta, 1.5, reset).run(x)
    assert 0 < expected.sum() < expected.numel()
    assert torch.equal(spikes, expected)
    assert torch.equal(final, membranes[-1])


@pytest.mark.parametrize("reset", RESETS)
def test_layer_with_ordinary_numbers_fires_like_snntorch(reset: Reset) -> None:
    synapse = nn.Linear(50, 40).double()
    x = (torch.rand(100, 3, 50) < 0.3).double()
    with torch.no_grad():
        expected, membranes = snntorch_run(
            synapse(x), torch.tensor(0.9, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64), reset
        )
        spikes, final = LIF(synapse, 0.9, 0.3, reset).run(x)
    assert 0.05 < spikes.mean() < 0.95
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(final, membranes[-1], rtol=1e-13, atol=1e-13)


# ---------------------------------------------------------------- the formula


@pytest.mark.parametrize("reset", RESETS)
def test_a_membrane_at_the_threshold_does_not_fire(forward: Forward, reset: str) -> None:
    at, above = 0.7, torch.nextafter(torch.tensor(0.7), torch.tensor(1.0)).item()
    current = torch.tensor([at, above]).view(1, 1, 2)
    spikes, _, _ = forward(current, 1, neuron(0.9, 0.7, reset, torch.float32), None)
    assert spikes.flatten().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("reset", "expected"),
    # U with beta = 1/2, threshold 1, current 1.5 in each step, from U[-1] = 2 (above the threshold)
    [
        ("subtract", [2 / 2 + 1.5 - 1, 1.5 / 2 + 1.5 - 1, 1.25 / 2 + 1.5 - 1]),
        ("zero", [1.5, 1.5, 1.5]),
        ("none", [2 / 2 + 1.5, 2.5 / 2 + 1.5, 2.75 / 2 + 1.5]),
    ],
)
def test_the_reset_comes_one_step_after_the_spike(forward: Forward, reset: str, expected: list[float]) -> None:
    current = torch.full((3, 1, 1), 1.5)
    _, _, trace = forward(current, 3, neuron(0.5, 1.0, reset, torch.float32), torch.full((1, 1), 2.0))
    assert trace.record.flatten().tolist() == expected


def test_no_threshold_is_subtracted_while_silent(forward: Forward) -> None:
    current = torch.full((4, 1, 1), 0.25)
    spikes, final, _ = forward(current, 4, neuron(1.0, 10.0, "subtract", torch.float32), None)
    assert final.item() == 4 * 0.25
    assert spikes.sum() == 0


# ---------------------------------------------------------------- the kernels against the reference


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A current, its number of steps, neurons and an initial membrane; values near a coarse grid to meet thresholds."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    steps, batch = draw(st.integers(1, 24)), draw(st.integers(1, 4))
    shape = draw(st.sampled_from([(1,), (7,), (65,), (3, 5, 3)]))
    current = rand(1 if draw(st.booleans()) else steps, batch, *shape) * 3 - 1
    if draw(st.booleans()):
        current = (current * 4).round() / 4  # membranes exactly at the threshold, sums exactly 0
    per_neuron = shape if draw(st.booleans()) else ()
    beta = 1 - rand(*per_neuron) if per_neuron else torch.tensor(draw(st.sampled_from([0.05, 0.5, 0.9, 1.0])))
    threshold = rand(*per_neuron) + 0.25 if per_neuron else torch.tensor(draw(st.sampled_from([0.5, 1.0, 1.3])))
    reset: Reset = draw(st.sampled_from(RESETS))
    initial = (rand(batch, *shape) * 3 - 1).to(dtype) if draw(st.booleans()) else None
    return current.to(dtype), steps, LIFNeuron(beta.to(dtype), threshold.to(dtype), reset), initial


def assert_kernels_agree(
    current: Tensor,
    steps: int,
    constants: LIFNeuron,
    initial: Tensor | None,
    final_feedback: bool,
    summed: bool,
    epsilon: float = 1e-6,
) -> None:
    spikes, final, trace = lif.forward(current.clone(), steps, constants, initial)
    found_spikes, found_final, found_trace = cpu.forward(current.clone(), steps, constants, initial)
    assert torch.equal(found_spikes, spikes)
    assert torch.equal(found_final, final)
    assert torch.equal(found_trace.record, trace.record)
    assert (found_trace.states is None) == (trace.states is None) == (len(current) < steps)

    generator = torch.Generator().manual_seed(steps)
    reward = torch.randn(spikes.shape, generator=generator, dtype=spikes.dtype)
    on_final = torch.randn(final.shape, generator=generator, dtype=spikes.dtype) if final_feedback else None
    (q,), on_initial = lif.feedback(trace, reward, on_final, Epsilon(epsilon), summed)
    found_q, found_on_initial = cpu.feedback_epsilon(trace, reward, on_final, epsilon, summed)
    assert found_q.shape == q.shape == ((1 if summed else steps), *final.shape)
    # relative to what the neuron's q is made of, since reward and carried feedback may cancel
    sizes = lif.feedback(trace, reward, on_final, Epsilon(epsilon), False)[0][0].abs()
    scale = sizes.sum(0) if summed else sizes.amax(0)
    tolerance = 1e-6 if spikes.dtype == torch.float32 else 1e-12
    for found, expected in ((found_q, q), (found_on_initial, on_initial)):
        assert ((found - expected).abs() <= tolerance * scale).all()


@settings(max_examples=100)
@given(case=cases(), final_feedback=st.booleans(), summed=st.booleans(), epsilon=st.sampled_from([1e-6, 0.01]))
def test_compiled_equals_reference(case: Case, final_feedback: bool, summed: bool, epsilon: float) -> None:
    assert_kernels_agree(*case, final_feedback, summed, epsilon)


@pytest.mark.parametrize("constant_input", [False, True])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize(("steps", "neurons"), [(200, 700), (1100, 131)])
def test_compiled_equals_reference_across_tiles(steps: int, neurons: int, reset: Reset, constant_input: bool) -> None:
    assert neurons > max(64, TILE_VALUES // (steps + 1))  # more than one tile, the last one not full
    assert neurons % max(64, TILE_VALUES // (steps + 1))
    current = torch.randn(1 if constant_input else steps, 2, neurons, dtype=torch.float64) * 0.5 + 0.2
    beta, threshold = 1 - torch.rand(neurons, dtype=torch.float64) / 2, torch.rand(neurons, dtype=torch.float64) + 0.5
    constants = LIFNeuron(beta, threshold, reset)
    assert_kernels_agree(current, steps, constants, torch.randn(2, neurons).double(), True, summed=False)
    assert_kernels_agree(current, steps, constants, None, False, summed=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("rule", [Zero(), Epsilon(), ZPlusZMinus(), AlphaBeta(), Gamma(), Flat()], ids=repr)
def test_compiled_equals_reference_with_any_rule(rule: Rule, reset: Reset, dtype: torch.dtype) -> None:
    for current in (torch.randn(7, 3, 70), torch.randn(1, 2, 3, 4, 5)):
        current = current.to(dtype)
        initial, on_final = torch.randn_like(current[0]), torch.randn_like(current[0])
        _, _, trace = lif.forward(current, 7, neuron(0.9, 0.5, reset, dtype), initial)
        parts = torch.rand_like(current), torch.rand_like(current)
        reward = torch.randn(7, *current.shape[1:], dtype=dtype)
        for summed in (False, True):
            expected, expected_on_initial = lif.feedback(trace, reward, on_final, rule, summed, parts)
            found, on_initial = cpu.feedback(trace, reward, on_final, rule, summed, parts)
            assert len(found) == len(expected) == (2 if isinstance(rule, AlphaBeta | Gamma) else 1)
            for one, other in zip((*found, on_initial), (*expected, expected_on_initial), strict=True):
                scale = float(other.abs().max())
                torch.testing.assert_close(one, other, rtol=0, atol=scale * (1e-13 if dtype == torch.float64 else 1e-5))


@pytest.mark.parametrize("reset", RESETS)
def test_a_replayed_trace_gives_the_feedback_of_the_recorded_one(reset: Reset) -> None:
    """With constant input the membrane is not kept but computed again: the same neurons, the same feedback."""
    current = torch.randn(1, 3, 9, dtype=torch.float64)
    constants = neuron(0.9, 1.0, reset, torch.float64)
    reward = torch.randn(12, 3, 9, dtype=torch.float64)
    for run, feedback in (
        (lif.forward, lambda trace: one_q(lif.feedback(trace, reward, None, Epsilon(), False))),
        (cpu.forward, lambda trace: cpu.feedback_epsilon(trace, reward, None, 1e-6, False)),
    ):
        _, _, replayed = run(current.clone(), 12, constants, None)
        _, _, recorded = run(current.expand(12, 3, 9).clone(), 12, constants, None)
        assert replayed.states is None
        assert recorded.states is not None
        for found, expected in zip(feedback(replayed), feedback(recorded), strict=True):
            assert torch.equal(found, expected)


def test_summed_is_the_sum_over_time() -> None:
    _, _, trace = cpu.forward(
        torch.randn(1, 2, 5, dtype=torch.float64), 9, neuron(0.9, 1.0, "subtract", torch.float64), None
    )
    reward = torch.randn(9, 2, 5, dtype=torch.float64)
    for feedback in (
        lambda summed: one_q(lif.feedback(trace, reward, None, Epsilon(), summed))[0],
        lambda summed: cpu.feedback_epsilon(trace, reward, None, 1e-6, summed)[0],
    ):
        torch.testing.assert_close(feedback(True)[0], feedback(False).sum(0), rtol=1e-12, atol=1e-12)


def test_feedback_leaves_its_arguments_alone() -> None:
    constants = neuron(0.9, 1.0, "subtract", torch.float64)
    initial, on_final = torch.rand(2, 3, dtype=torch.float64), torch.rand(2, 3, dtype=torch.float64)
    reward = torch.rand(5, 2, 3, dtype=torch.float64)
    before = [tensor.clone() for tensor in (initial, on_final, reward)]
    for run in FORWARDS.values():
        _, _, trace = run(torch.randn(5, 2, 3, dtype=torch.float64), 5, constants, initial)
        record = trace.record.clone()
        lif.feedback(trace, reward, on_final, Epsilon(), False)
        cpu.feedback_epsilon(trace, reward, on_final, 1e-6, False)
        assert torch.equal(trace.record, record)
    for tensor, copy in zip((initial, on_final, reward), before, strict=True):
        assert torch.equal(tensor, copy)


# ---------------------------------------------------------------- memory layout


def in_memory(tensor: Tensor, layout: str) -> Tensor:
    """The same values and shape, laid out in memory in another way."""
    if layout == "reversed axes":
        axes = list(range(tensor.dim()))[::-1]
        return tensor.permute(axes).contiguous().permute(axes)
    if layout == "first of the sample last":
        return tensor.movedim(-len(NEURONS), -1).contiguous().movedim(-1, -len(NEURONS))
    assert layout == "with gaps"
    return torch.stack([tensor, torch.full_like(tensor, math.nan)], -1)[..., 0]


NEURONS = (3, 2, 4)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("layout", ["reversed axes", "first of the sample last", "with gaps"])
@pytest.mark.parametrize("shape", [NEURONS, (1, 2, 4), (3, 1, 1), (1, 1, 1), (3, 1, 4)])
@pytest.mark.parametrize("batch", [1, 2])
def test_kernels_do_not_depend_on_the_layout_of_tensors_in_memory(
    batch: int, shape: tuple[int, ...], layout: str, reset: Reset
) -> None:
    beta, threshold = 1 - torch.rand(shape, dtype=torch.float64) / 2, torch.rand(shape, dtype=torch.float64) + 0.5
    current, reward = (torch.randn(6, batch, *shape, dtype=torch.float64) for _ in range(2))
    initial, on_final = (torch.randn(batch, *shape, dtype=torch.float64) for _ in range(2))
    other_neuron = LIFNeuron(in_memory(beta, layout), in_memory(threshold, layout), reset)

    for steps in (6, 9):  # 9: the first current in all steps
        seen = current[: 6 if steps == 6 else 1]
        on_spikes = torch.cat([reward, reward])[:steps]
        spikes, final, trace = lif.forward(seen.clone(), steps, LIFNeuron(beta, threshold, reset), initial)
        (q,), on_initial = lif.feedback(trace, on_spikes, on_final, Epsilon(), False)

        found_spikes, found_final, found_trace = cpu.forward(
            in_memory(seen, layout), steps, other_neuron, in_memory(initial, layout)
        )
        found_q, found_on_initial = cpu.feedback_epsilon(
            found_trace, in_memory(on_spikes, layout), in_memory(on_final, layout), 1e-6, False
        )
        assert torch.equal(found_spikes, spikes)
        assert torch.equal(found_final, final)
        assert torch.equal(found_trace.record, trace.record)
        torch.testing.assert_close(found_q, q, rtol=1e-12, atol=0)
        torch.testing.assert_close(found_on_initial, on_initial, rtol=1e-12, atol=0)


# ---------------------------------------------------------------- low precision


def test_bfloat16_runs_and_fires_in_ones() -> None:
    layer = LIF(nn.Linear(20, 30), beta=0.9, threshold=0.4).to(torch.bfloat16)
    spikes = layer(torch.rand(10, 4, 20, dtype=torch.bfloat16))
    assert spikes.dtype == torch.bfloat16
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    spikes.backward(torch.ones_like(spikes))
    grad = layer.synapse.weight.grad
    assert grad.dtype == torch.bfloat16
    assert grad.isfinite().all()
    assert grad.any()


# ---------------------------------------------------------------- whole and parts


@pytest.mark.parametrize("constant_input", [False, True])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("cut", [1, 6, 11])
def test_a_sequence_run_in_two_parts_equals_the_whole(cut: int, reset: Reset, constant_input: bool) -> None:
    layer = LIF(nn.Linear(9, 12).double(), beta=0.9, threshold=0.5, reset=reset)
    images = torch.rand(3, 9, dtype=torch.float64)
    x = constant(images, 12) if constant_input else (torch.rand(12, 3, 9) < 0.5).double()
    initial = torch.randn(3, 12, dtype=torch.float64).requires_grad_()
    on_spikes, on_final = torch.randn(12, 3, 12, dtype=torch.float64), torch.randn(3, 12, dtype=torch.float64)

    def run(cuts: list[int]) -> list[Tensor]:
        leaf = x.clone().requires_grad_() if not constant_input else x
        layer.zero_grad()
        initial.grad = None
        spikes, membrane = [], initial
        for part in leaf.tensor_split(cuts):
            fired, membrane = layer.run(part, membrane)
            spikes.append(fired)
        torch.autograd.backward([torch.cat(spikes), membrane], [on_spikes, on_final])
        grads = [layer.synapse.weight.grad, layer.synapse.bias.grad, initial.grad, leaf.grad]
        return [torch.cat(spikes).detach(), membrane.detach(), *(grad.clone() for grad in grads if grad is not None)]

    whole, parts = run([]), run([cut])
    assert whole[0].any()
    assert torch.equal(whole[0], parts[0])
    assert len(whole) == (5 if constant_input else 6)
    for expected, found in zip(whole[1:], parts[1:], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12 * expected.abs().max().item())


def test_a_detached_membrane_stops_the_feedback() -> None:
    layer = LIF(nn.Linear(3, 4).double(), threshold=0.2)
    x = torch.rand(8, 2, 3, dtype=torch.float64)
    first = x[:4].clone().requires_grad_()
    _, membrane = layer.run(first)
    spikes, _ = layer.run(x[4:], membrane.detach())
    spikes.backward(torch.ones_like(spikes))
    assert first.grad is None
