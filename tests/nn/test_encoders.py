"""Encoders."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spiking_lfp import NonFiniteError, UsageError, constant
from spiking_lfp.lfp.synapses import is_constant
from spiking_lfp.nn.encoders import delta, latency, population, rate

seeds = st.integers(0, 2**31)
dtypes = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("shape", [(3, 4), (2, 1, 5, 5), (1, 1)])
@pytest.mark.parametrize("steps", [1, 7])
def test_constant_repeats_the_images_without_a_copy(shape: tuple[int, ...], steps: int) -> None:
    images = torch.rand(shape)
    x = constant(images, steps)
    assert x.shape == (steps, *shape)
    assert all(torch.equal(step, images) for step in x)
    assert x.untyped_storage().data_ptr() == images.untyped_storage().data_ptr()


def test_constant_hands_back_the_sum_of_all_steps() -> None:
    images = torch.rand(3, 4, requires_grad=True)
    feedback = torch.rand(6, 3, 4)
    constant(images, 6).backward(feedback)
    assert images.grad is not None
    torch.testing.assert_close(images.grad, feedback.sum(0))


def test_only_one_tensor_seen_in_several_steps_is_constant() -> None:
    images = torch.rand(3, 4)
    assert is_constant(constant(images, 2))
    assert is_constant(constant(images, 5).flatten(2))
    assert not is_constant(constant(images, 5).clone())
    assert not is_constant(constant(images, 1))  # nothing to save
    # one value for all samples, but not for all steps
    assert not is_constant(torch.rand(5, 1, 1).expand(5, 3, 4))


def test_steps_and_neurons_are_integers(unchecked: None) -> None:
    for encode in (constant, rate, latency):
        with pytest.raises(UsageError, match=r"^steps must be an integer, at least 1, found 2\.5$"):
            encode(torch.rand(3, 4), 2.5)
    with pytest.raises(UsageError, match=r"^neurons must be an integer, at least 2, found '3'$"):
        population(torch.rand(3), "3")
    assert constant(torch.rand(3, 4), np.int64(2)).shape == (2, 3, 4)


def test_delta_knows_two_values(unchecked: None) -> None:
    with pytest.raises(UsageError, match=r"^unknown values 'counts': did you mean 'count'\? known are binary, count$"):
        delta(torch.rand(3, 4), 0.1, "counts")


@pytest.mark.parametrize("steps", [0, -3])
def test_constant_needs_a_step(steps: int) -> None:
    with pytest.raises(UsageError, match=f"steps must be at least 1, found {steps}"):
        constant(torch.rand(3, 4), steps)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_constant_refuses_images_that_are_not_finite(value: float) -> None:
    images = torch.rand(3, 4)
    images[1, 2] = value
    with pytest.raises(NonFiniteError, match="the images hold NaN or infinity"):
        constant(images, 5)


def drawn_by(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_values(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=drawn_by(seed), dtype=torch.float64)


@pytest.mark.parametrize("dtype", dtypes)
def test_rate_spikes_with_the_probability_of_the_value(dtype: torch.dtype) -> None:
    images = torch.tensor([[0, 0.001, 0.1], [0.5, 0.97, 1]], dtype=dtype)
    steps = 40_000
    spikes = rate(images, steps, drawn_by(1))
    assert spikes.dtype == dtype
    assert spikes.shape == (steps, 2, 3)
    assert ((spikes == 0) | (spikes == 1)).all()
    spikes, expected = spikes.double(), images.double()
    deviation = (expected * (1 - expected) / steps).sqrt()
    assert ((spikes.mean(0) - expected).abs() <= 5 * deviation).all()  # 0 and 1 exactly
    # independent of the step before and of each other
    pairs = spikes.flatten(1)[:, [2, 3]] - expected.flatten()[[2, 3]]
    scale = deviation.flatten()[[2, 3]] * steps**0.5
    assert ((pairs[1:] * pairs[:-1]).mean(0).abs() <= 5 * scale**2 / steps**0.5).all()
    assert abs(float(pairs.prod(1).mean())) <= 5 * float(scale.prod()) / steps**0.5


def test_rate_repeats_with_its_generator_only() -> None:
    images = torch.rand(4, 30)
    first, again, other = (rate(images, 9, drawn_by(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(5)
    default = rate(images, 9)
    torch.manual_seed(5)
    assert torch.equal(default, rate(images, 9))


def test_rate_of_0_never_spikes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape))  # the least that is drawn
    assert rate(torch.tensor([[0.0, 1e-30]]), 5).sum(0).tolist() == [[0, 5]]


@given(seeds, st.integers(1, 20))
def test_norse_draws_the_same_rates(seed: int, steps: int) -> None:
    encode = pytest.importorskip("norse.torch.functional.encode")
    images = random_values(seed, 3, 2, 5).float()
    theirs = encode.poisson_encode(images, steps, f_max=1000, dt=0.001, generator=drawn_by(seed))
    assert torch.equal(rate(images, steps, drawn_by(seed)), theirs)


def test_snntorch_has_the_same_rates() -> None:
    spikegen = pytest.importorskip("snntorch.spikegen")
    images = torch.linspace(0, 1, 11).view(1, 11)
    ours, theirs = rate(images, 40_000).mean(0), spikegen.rate(images, num_steps=40_000).mean(0)
    assert ((ours - theirs).abs() <= 5 * (2 * images * (1 - images) / 40_000).sqrt()).all()


@given(seeds, st.integers(1, 40), st.sampled_from([0.0, 0.2, 0.5]))
def test_latency_is_one_spike_in_the_step_of_the_definition(seed: int, steps: int, threshold: float) -> None:
    # sixteenths are exact, and meet halves of steps and the threshold
    images = (random_values(seed, 2, 3, 5) * 17).floor() / 16
    spikes = latency(images, steps, threshold)
    assert spikes.shape == (steps, 2, 3, 5)
    assert torch.equal(spikes.sum(0), (images > threshold).double())
    for place in np.ndindex(2, 3, 5):
        value = Fraction(float(images[place]))
        expected = [0.0] * steps
        if value > threshold:
            expected[round((1 - value) * (steps - 1))] = 1.0  # halves to even, as Python rounds
        assert spikes[(slice(None), *place)].tolist() == expected


def test_latency_is_shorter_for_greater_values() -> None:
    spikes = latency(torch.tensor([[1.0, 0.75, 0.5, 0.25, 1e-6, 0.0]]), 5)
    assert spikes[:, 0].argmax(0)[:5].tolist() == [0, 1, 2, 3, 4]
    assert spikes[:, 0].sum(0).tolist() == [1, 1, 1, 1, 1, 0]
    # halves to the even step
    assert latency(torch.tensor([[0.5]]), 2)[:, 0, 0].tolist() == [1, 0]
    assert latency(torch.tensor([[0.5]]), 4)[:, 0, 0].tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("dtype", dtypes)
def test_latency_is_that_of_the_value_in_any_precision(dtype: torch.dtype) -> None:
    images = torch.rand(4, 50).to(dtype)
    spikes = latency(images, 1000)
    assert spikes.dtype == dtype
    assert torch.equal(spikes.double(), latency(images.to(torch.promote_types(dtype, torch.float32)), 1000).double())


@given(seeds, st.integers(2, 40))
def test_snntorch_has_the_same_latencies(seed: int, steps: int) -> None:
    spikegen = pytest.importorskip("snntorch.spikegen")
    images = random_values(seed, 3, 20).float()
    theirs = spikegen.latency(images, num_steps=steps, threshold=0.1, normalize=True, linear=True, clip=True)
    assert torch.equal(latency(images, steps, 0.1), theirs)  # at the threshold itself, theirs spike


def slow_delta(signal: list[float], threshold: float) -> list[int]:
    """One input, level by level."""
    level, counts = 0, []
    for value in signal:
        moved = 0
        while value - signal[0] >= (level + 1) * threshold:
            level, moved = level + 1, moved + 1
        while value - signal[0] <= (level - 1) * threshold:
            level, moved = level - 1, moved - 1
        counts.append(moved)
    return counts


@given(seeds, st.integers(1, 30), st.sampled_from([0.125, 0.5, 1.0]))
def test_delta_follows_the_signal_level_by_level(seed: int, steps: int, threshold: float) -> None:
    # eighths are exact, and meet the levels
    signal = (random_values(seed, steps, 2, 3) * 32 - 16).round() / 8
    counts, spikes = delta(signal, threshold, "count"), delta(signal, threshold)
    assert counts.shape == (steps, 2, 2, 3)
    assert torch.equal(spikes, (counts > 0).double())
    for place in np.ndindex(2, 3):
        expected = slow_delta(signal[(slice(None), *place)].tolist(), threshold)
        assert counts[(slice(None), place[0], 0, place[1])].tolist() == [max(move, 0) for move in expected]
        assert counts[(slice(None), place[0], 1, place[1])].tolist() == [max(-move, 0) for move in expected]


@given(seeds, st.integers(1, 200), st.floats(0.01, 3))
def test_counts_of_delta_hold_the_signal_to_within_a_threshold(seed: int, steps: int, threshold: float) -> None:
    signal = (random_values(seed, steps, 2, 4) - 0.5).cumsum(0)
    counts = delta(signal, threshold, "count")
    assert torch.equal(counts, counts.round())
    assert not counts[0].any()
    assert not (counts[:, :, 0] * counts[:, :, 1]).any()  # on or off
    level = signal[0] + threshold * (counts[:, :, 0] - counts[:, :, 1]).cumsum(0)
    assert float((signal - level).abs().max()) < threshold * (1 + 1e-9)


def test_delta_counts_the_threshold_itself_and_is_slow_to_turn() -> None:
    signal = torch.tensor([5.0, 5.9, 6.0, 5.1, 5.0, 8.5, 8.0, 7.5, 7.0]).view(9, 1, 1)
    counts = delta(signal, 1.0, "count")[:, 0, :, 0]
    assert counts[:, 0].tolist() == [0, 0, 1, 0, 0, 3, 0, 0, 0]
    assert counts[:, 1].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert delta(signal, 1.0)[:, 0, 0, 0].tolist() == [0, 0, 1, 0, 0, 1, 0, 0, 0]


def test_delta_does_not_drift() -> None:
    signal = torch.arange(3001).view(-1, 1, 1).float() * 0.25
    assert delta(signal, 0.25, "count")[:, 0, 0, 0].sum() == 3000


@pytest.mark.parametrize("dtype", dtypes)
def test_delta_keeps_the_dtype(dtype: torch.dtype) -> None:
    signal = torch.randn(20, 3, 4).to(dtype)
    spikes = delta(signal, 0.3, "count")
    assert spikes.dtype == dtype
    assert torch.equal(
        spikes.double(), delta(signal.to(torch.promote_types(dtype, torch.float32)), 0.3, "count").double()
    )


@given(seeds, st.integers(1, 30))
def test_snntorch_has_the_same_deltas_of_whole_thresholds(seed: int, steps: int) -> None:
    # it compares with the sample before, which is the level only if all changes are whole
    spikegen = pytest.importorskip("snntorch.spikegen")
    signal = (random_values(seed, steps, 2, 3) * 6).floor().float()
    spikes = delta(signal, 1.0)
    theirs = spikegen.delta(signal, threshold=1.0, padding=True, off_spike=True)
    assert torch.equal(spikes[:, :, 0] - spikes[:, :, 1], theirs)


@given(seeds, st.integers(2, 12), st.floats(-3, 0), st.floats(0.1, 4), st.floats(0.1, 2))
def test_population_answers_are_gaussian(seed: int, neurons: int, low: float, size: float, width: float) -> None:
    values = random_values(seed, 4, 2, 3) * 8 - 4
    answers = population(values, neurons, low, low + size, width)
    assert answers.shape == (4, 2, 3, neurons)
    spacing = size / (neurons - 1)
    for n in range(neurons):
        for place in np.ndindex(4, 2, 3):
            away = float(values[place]) - (low + n * spacing)
            expected = math.exp(-(away**2) / (2 * (width * spacing) ** 2))
            assert float(answers[(*place, n)]) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_population_is_that_of_bohte() -> None:
    # m neurons, centres at low + (2i - 3) / 2 * spacing, i from 1, spacing (high - low) / (m - 2), sigma spacing / 1.5
    neurons, low, high = 8, -1.0, 2.0
    spacing = (high - low) / (neurons - 2)
    values = torch.linspace(-1, 2, 31, dtype=torch.float64)
    centres = torch.tensor([low + (2 * i - 3) / 2 * spacing for i in range(1, neurons + 1)], dtype=torch.float64)
    expected = torch.exp(-((values[:, None] - centres) ** 2) / (2 * (spacing / 1.5) ** 2))
    torch.testing.assert_close(population(values, neurons, low - spacing / 2, high + spacing / 2), expected)


@given(seeds, st.integers(2, 12))
def test_norse_has_the_same_population(seed: int, neurons: int) -> None:
    # its sigma is 1 where the largest value is
    encode = pytest.importorskip("norse.torch.functional.encode")
    values = random_values(seed, 5, 3).float()
    values[0, 0] = 1.0
    torch.testing.assert_close(
        population(values, neurons, width=float(neurons - 1)), encode.population_encode(values, neurons)
    )


def test_population_answers_become_spikes() -> None:
    values = torch.tensor([[0.0, 0.5], [1.0, 7.0]])
    answers = population(values, 3)
    assert answers[0, 0, 0] == answers[0, 1, 1] == answers[1, 0, 2] == 1
    assert rate(answers, 4).shape == (4, 2, 2, 3)
    assert latency(answers, 4)[0].nonzero().tolist() == [[0, 0, 0], [0, 1, 1], [1, 0, 2]]


@pytest.mark.parametrize("dtype", dtypes)
def test_population_keeps_the_dtype(dtype: torch.dtype) -> None:
    answers = population(torch.rand(3, 4).to(dtype), 5)
    assert answers.dtype == dtype
    assert answers.min() >= 0
    assert answers.max() <= 1


ENCODERS: dict[str, Callable[[Tensor], Tensor]] = {
    "rate": lambda x: rate(x, 5),
    "latency": lambda x: latency(x, 5),
    "delta": lambda x: delta(x.unsqueeze(0), 1.0),
    "population": lambda x: population(x, 5),
}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_encoders_refuse_values_that_are_not_finite(name: str, value: float) -> None:
    images = torch.rand(3, 4)
    images[1, 2] = value
    with pytest.raises(NonFiniteError, match="hold NaN or infinity"):
        ENCODERS[name](images)


INTEGERS = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
EVERY = {"constant": lambda x: constant(x, 5), **ENCODERS}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_encoded_as_the_numbers_they_are(name: str, dtype: torch.dtype) -> None:
    values = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)
    encode = EVERY[name] if name != "delta" else lambda x: delta(x.view(3, 2), 1.0, "count")
    torch.manual_seed(3)
    found = encode(values)
    torch.manual_seed(3)
    expected = encode(values.float())
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert found.any()


@pytest.mark.parametrize("dtype", INTEGERS[1:])
def test_integers_other_than_0_and_1_are_encoded(dtype: torch.dtype) -> None:
    values = torch.tensor([[3, 100, 7], [120, 0, 50]]).to(dtype)
    assert torch.equal(constant(values, 2), values.float().expand(2, 2, 3))
    answers = population(values, 5, 0.0, 120.0, 0.5)
    assert torch.equal(answers, population(values.float(), 5, 0.0, 120.0, 0.5))
    assert answers[1, 0].tolist() == pytest.approx([math.exp(-2 * n**2) for n in (4, 3, 2, 1, 0)], abs=1e-6)
    # differences of unsigned integers wrap
    counts = delta(values, 10.0, "count")
    assert counts[1].tolist() == [[11, 0], [0, 10], [4, 0]]
    for encode in (rate, latency):
        with pytest.raises(UsageError, match=r"outside of \[0, 1\]"):
            encode(values, 5)


@pytest.mark.parametrize("name", EVERY)
def test_values_that_no_number_holds_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"are torch.complex64, expected real numbers: give real and imaginary part"):
        EVERY[name](torch.zeros(2, 3, dtype=torch.complex64))
    with pytest.raises(UsageError, match=r"are integers too large for torch.float32: scale them first, or convert"):
        EVERY[name](torch.tensor([[2**24 + 1, 0]]))
    assert constant(torch.tensor([[2**24]]), 1).item() == 2**24


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [*dtypes, *INTEGERS])
@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0), (2, 0, 5)])
def test_nothing_is_encoded_as_nothing(name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    nothing = EVERY[name](torch.zeros(shape, dtype=dtype))
    expected = {"delta": (1, shape[0], 2, *shape[1:]), "population": (*shape, 5)}.get(name, (5, *shape))
    assert tuple(nothing.shape) == expected
    assert nothing.dtype == (dtype if dtype.is_floating_point else torch.float32)


@pytest.mark.parametrize("name", ["rate", "latency"])
@pytest.mark.parametrize("value", [-1e-6, 1 + 1e-6, 255])
def test_probabilities_and_latencies_need_values_from_0_to_1(name: str, value: float) -> None:
    images = torch.rand(3, 4)
    images[1, 2] = value
    with pytest.raises(UsageError, match=r"outside of \[0, 1\]"):
        ENCODERS[name](images)


@pytest.mark.parametrize("steps", [0, -3])
def test_encoders_need_a_step(steps: int) -> None:
    for encode in (rate, latency):
        with pytest.raises(UsageError, match=f"steps must be at least 1, found {steps}"):
            encode(torch.rand(3, 4), steps)
    with pytest.raises(UsageError, match="steps must be at least 1, found 0"):
        delta(torch.rand(0, 3, 4), 0.1)


@pytest.mark.parametrize(
    "encode",
    [
        lambda x: latency(x, 5, -0.1),
        lambda x: latency(x, 5, 1.0),
        lambda x: latency(x, 5, math.nan),
        lambda x: delta(x, 0.0),
        lambda x: delta(x, -1.0),
        lambda x: delta(x, math.inf),
        lambda x: population(x, 1),
        lambda x: population(x, 3, 1.0, 1.0),
        lambda x: population(x, 3, 0.0, math.inf),
        lambda x: population(x, 3, width=0.0),
        lambda x: population(x, 3, width=math.nan),
    ],
)
def test_encoders_refuse_arguments_out_of_range(encode: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(UsageError, match="must be"):
        encode(torch.rand(3, 4))


def test_encoders_look_at_values_later_where_reading_them_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    from spiking_lfp import checks, raise_deferred

    monkeypatch.setattr(checks, "is_deferred", lambda device: True)
    images = torch.rand(3, 4)
    for value, error in ((2.0, UsageError), (-3.0, UsageError), (math.nan, NonFiniteError), (math.inf, NonFiniteError)):
        images[1, 2] = value
        for encode in (rate, latency):
            encode(images, 5)
            with pytest.raises(error):
                raise_deferred()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", ["latency", "delta", "population"])
def test_encoders_do_the_same_on_a_gpu(name: str) -> None:
    images = torch.rand(3, 4, dtype=torch.float64)
    torch.testing.assert_close(ENCODERS[name](images.cuda()).cpu(), ENCODERS[name](images))
