"""Events of moved images are those of an ideal sensor."""

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spiking_lfp import UsageError
from spiking_lfp.events.records import EVENT
from spiking_lfp.events.saccades import STEPS_PER_PIXEL, saccade_events, saccade_path

Array = NDArray[Any]
Found = dict[tuple[int, int], list[tuple[float, bool]]]


def some_image(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def edge(axis: int) -> Array:
    """Dark on the left (axis 1) or at the top (axis 0), bright beyond."""
    image = np.zeros((16, 16), np.uint8)
    image[(slice(None), slice(8, None)) if axis else slice(8, None)] = 200
    return image


def slow_events(
    image: Array, duration: int, amplitude: float, threshold: float, black: float, refractory: int, border: int
) -> Found:
    """Pixel by pixel: the times at which each level is crossed, and whether upwards."""
    height, width = image.shape

    def pixel(x: int, y: int) -> float:
        x, y = min(max(x - border, 0), width - 1), min(max(y - border, 0), height - 1)
        return black + (1 - black) * float(image[y, x]) / 255

    def seen(x: float, y: float) -> float:
        left, top = math.floor(x), math.floor(y)
        total = 0.0
        for i in (left, left + 1):
            for j in (top, top + 1):
                total += (1 - abs(x - i)) * (1 - abs(y - j)) * pixel(i, j)
        return math.log(total)

    def place(moment: int, moments: int) -> tuple[float, float]:
        corners = [(-0.5, -0.5), (0.0, 0.5), (0.5, -0.5), (-0.5, -0.5)]
        leg, within = divmod(moment, moments)
        if leg == 3:
            leg, within = 2, moments
        made = 0.5 - 0.5 * math.cos(math.pi * within / moments)
        (x, y), (to_x, to_y) = corners[leg], corners[leg + 1]
        return amplitude * (x + made * (to_x - x)), amplitude * (y + made * (to_y - y))

    moments = max(1, round(STEPS_PER_PIXEL * amplitude))
    places = [place(m, moments) for m in range(3 * moments + 1)]
    found: Found = {}
    for y in range(height + 2 * border):
        for x in range(width + 2 * border):
            signal = [seen(x - dx, y - dy) for dx, dy in places]
            level, last, events = 0, -math.inf, []
            for m in range(1, len(signal)):
                # the levels strictly beyond the last event's, up to where the signal is now
                moved = (signal[m] - signal[0]) / threshold - level
                for _ in range(int(abs(moved) + 1e-9)):
                    level += 1 if moved > 0 else -1
                    share = (signal[0] + level * threshold - signal[m - 1]) / (signal[m] - signal[m - 1])
                    t = duration * (m - 1 + min(share, 1)) / (3 * moments)
                    if t - last >= refractory:
                        events.append((t, moved > 0))
                        last = t
            if events:
                found[x, y] = events
    return found


@given(
    st.integers(0, 2**31),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.floats(0.5, 4),
    st.floats(0.15, 0.8),
    st.floats(0.02, 0.5),
    st.sampled_from([0, 4999, 39_989]),
    st.integers(0, 2),
)
@settings(max_examples=25)
# pixels get back to their level, or all but for rounding
@example(0, (3, 3), 2.5, 0.5, 0.125, 4999, 0)
@example(0, (3, 3), 3.0, 0.5, 0.25, 0, 0)
def test_events_are_those_of_a_slow_sensor(
    seed: int, shape: tuple[int, int], amplitude: float, threshold: float, black: float, refractory: int, border: int
) -> None:
    image = some_image(seed, *shape)
    recording = saccade_events(
        image,
        duration_us=120_000,
        amplitude=amplitude,
        threshold=threshold,
        black=black,
        refractory_us=refractory,
        border=border,
    )
    assert recording.sensor == (2, shape[0] + 2 * border, shape[1] + 2 * border)
    expected = slow_events(image, 120_000, amplitude, threshold, black, refractory, border)
    found: Found = defaultdict(list)
    for x, y, t, p in recording.events.tolist():
        found[x, y].append((t, p))
    assert found.keys() == expected.keys()
    for pixel, events in expected.items():
        assert [p for _, p in found[pixel]] == [p for _, p in events]
        for (t, _), (exact, _) in zip(found[pixel], events, strict=True):
            assert -1e-3 < exact - t < 1 + 1e-3  # rounded down


def test_the_image_moves_along_a_triangle_and_back() -> None:
    path = saccade_path(7.0, 56)
    assert path.shape == (169, 2)
    np.testing.assert_allclose(path[::56], [[-3.5, -3.5], [0, 3.5], [3.5, -3.5], [-3.5, -3.5]])
    np.testing.assert_array_equal(path[0], path[-1])
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    for saccade, length in zip(steps.reshape(3, 56), (7 * 1.25**0.5, 7 * 1.25**0.5, 7), strict=True):
        assert saccade.sum() == pytest.approx(length)  # straight
        assert saccade.argmax() in (27, 28)
        assert saccade[[0, -1]].max() < 0.1 * saccade.max()
    np.testing.assert_allclose(saccade_path(1.0, 3)[1], [-0.5 + 0.25 * 0.5, -0.5 + 0.25])  # (1 - cos(pi / 3)) / 2


def test_edges_make_events_of_the_right_polarity() -> None:
    # right in the first two saccades, left in the third: a bright right half leaves and comes back
    events = saccade_events(edge(1)).events
    assert len(events)
    leaving = events["t"] < 200_000
    assert leaving.any()
    assert not events["p"][leaving].any()
    assert events["p"][~leaving].all()
    assert (np.abs(events["x"] - 10.5) <= 4.5).all()  # 8 plus a border of 3, and 3.5 pixels of way
    # down, up, and not at all
    events = saccade_events(edge(0)).events
    leaving = events["t"] < 100_000
    assert leaving.any()
    assert not events["p"][leaving].any()
    assert events["p"][~leaving].all()
    assert events["t"].max() <= 200_000
    # the brightness of what moves decides, not that it moves
    events = saccade_events(200 - edge(0)).events
    assert events["p"][events["t"] < 100_000].all()


@pytest.mark.parametrize("value", [0, 1, 77, 255])
def test_a_constant_image_makes_no_events(value: int) -> None:
    recording = saccade_events(np.full((9, 7), value, np.uint8), threshold=1e-4)
    assert recording.events.dtype == EVENT
    assert len(recording.events) == 0


def test_an_image_at_rest_makes_no_events() -> None:
    assert len(saccade_events(some_image(0, 9, 7), amplitude=0.0).events) == 0


def test_every_pixel_gets_back_to_where_it_started() -> None:
    events = saccade_events(some_image(1, 20, 20)).events
    assert len(events) > 20 * 20
    balance = np.zeros((26, 26), int)
    np.add.at(balance, (events["y"], events["x"]), np.where(events["p"], 1, -1))
    assert not balance.any()


def test_events_are_in_order_and_within_the_time() -> None:
    events = saccade_events(some_image(2, 28, 28), duration_us=1000).events
    assert (np.diff(events["t"]) >= 0).all()
    assert events["t"].min() >= 0
    assert 900 < events["t"].max() <= 1000


def test_lower_thresholds_make_more_events() -> None:
    image = some_image(3, 28, 28)
    counts = [len(saccade_events(image, threshold=threshold).events) for threshold in (0.8, 0.4, 0.2, 0.1, 0.02)]
    assert counts == sorted(counts)
    # far below all contrasts, they are in inverse proportion
    finest = len(saccade_events(image, threshold=0.01).events)
    assert finest == pytest.approx(2 * counts[-1], rel=0.05)


def test_a_refractory_time_keeps_events_apart() -> None:
    image = some_image(4, 12, 12)
    events = saccade_events(image, threshold=0.1, refractory_us=20_000).events
    assert 0 < len(events) < len(saccade_events(image, threshold=0.1).events)
    for x, y in {(x, y) for x, y, _, _ in events.tolist()}:
        own = events["t"][(events["x"] == x) & (events["y"] == y)]
        assert (np.diff(own) >= 20_000 - 1).all()


def test_channels_are_averaged_and_events_repeat() -> None:
    image = some_image(5, 10, 10)
    np.testing.assert_array_equal(saccade_events(image).events, saccade_events(image).events)
    np.testing.assert_array_equal(saccade_events(np.stack([image] * 3)).events, saccade_events(image).events)
    dark = np.stack([image // 2 * 2, np.zeros_like(image)])
    np.testing.assert_array_equal(saccade_events(dark).events, saccade_events(image // 2).events)


@pytest.mark.parametrize("shape", [(5,), (0, 4), (1, 1, 4, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...], unchecked: None) -> None:
    with pytest.raises(UsageError, match=r"an image is \[H, W\] or \[C, H, W\]"):
        saccade_events(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("duration_us", 0),
        ("threshold", 0.0),
        ("threshold", math.nan),
        ("black", 0.0),
        ("black", 1.0),
        ("amplitude", -1.0),
        ("amplitude", math.inf),
        ("refractory_us", -1),
        ("border", -1),
    ],
)
def test_arguments_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{name} must be"):
        saccade_events(np.zeros((4, 4), np.uint8), **{name: value})
