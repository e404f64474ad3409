"""Frames hold every event in the right place, and bits hold every frame."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spiking_lfp import DataError, UsageError
from spiking_lfp.events import frames as module
from spiking_lfp.events.frames import event_frames, pack_frames, unpack_batch, unpack_frames
from spiking_lfp.events.records import EVENT, EventArray, Sensor

Array = NDArray[Any]
sensors = st.sampled_from([(2, 3, 4), (1, 3, 4), (2, 1, 1), (1, 1, 5)])
seeds = st.integers(0, 2**31)


def made(*rows: tuple[int, int, int, bool]) -> EventArray:
    return np.array(list(rows), EVENT)


def at_times(*times: int) -> EventArray:
    return made(*((0, 0, t, True) for t in times))


def some_events(seed: int, count: int, sensor: Sensor, longest: int = 40, ordered: bool = True) -> EventArray:
    random = np.random.default_rng(seed)
    events = np.zeros(count, EVENT)
    events["x"], events["y"] = random.integers(0, sensor[2], count), random.integers(0, sensor[1], count)
    events["t"], events["p"] = random.integers(-longest, longest, count), random.integers(0, 2, count)
    return np.sort(events, order="t") if ordered else events


def slow_frames(
    events: EventArray, sensor: Sensor, steps: int, by: str, values: str, start: int | None, duration: int | None
) -> Array:
    """Bin by bin, with edges that are fractions."""
    frames = np.zeros((steps, *sensor), np.int64)
    times = [int(t) for t in events["t"]]
    if not times:
        return frames.astype(np.uint8)
    first = min(times) if start is None else start
    lasts = max(times) - first + 1 if duration is None else duration
    seen = [event for event in events if first <= int(event["t"]) < first + lasts]
    for k in range(steps):
        if by == "time":
            left, right = (first + Fraction(edge * lasts, steps) for edge in (k, k + 1))
            found = [event for event in seen if left <= int(event["t"]) < right]
        else:
            found = seen[k * len(seen) // steps : (k + 1) * len(seen) // steps]
        for event in found:
            frames[k, int(event["p"]) if sensor[0] == 2 else 0, event["y"], event["x"]] += 1
    return np.minimum(frames, 1 if values == "binary" else 255).astype(np.uint8)


@given(
    seeds,
    st.integers(0, 60),
    sensors,
    st.integers(1, 90),
    st.sampled_from(["time", "count"]),
    st.sampled_from(["binary", "count"]),
    st.none() | st.integers(-60, 60),
    st.none() | st.integers(1, 90),
)
def test_frames_are_those_of_the_definition(
    seed: int, count: int, sensor: Sensor, steps: int, by: Any, values: Any, start: int | None, duration: int | None
) -> None:
    events = some_events(seed, count, sensor)
    frames = event_frames(events, sensor, steps, by=by, values=values, start=start, duration=duration)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, slow_frames(events, sensor, steps, by, values, start, duration))


@given(seeds, st.integers(0, 60), sensors, st.integers(1, 90), st.none() | st.integers(-60, 60))
def test_order_does_not_matter_for_bins_of_equal_time(
    seed: int, count: int, sensor: Sensor, steps: int, start: int | None
) -> None:
    events = some_events(seed, count, sensor, ordered=False)
    frames = event_frames(events, sensor, steps, values="count", start=start)
    np.testing.assert_array_equal(frames, slow_frames(events, sensor, steps, "time", "count", start, None))


@given(seeds, st.integers(1, 60), st.integers(1, 30))
def test_by_default_no_event_is_lost(seed: int, count: int, steps: int) -> None:
    events = some_events(seed, count, (2, 3, 4))
    by_time = event_frames(events, (2, 3, 4), steps, values="count")
    by_count = event_frames(events, (2, 3, 4), steps, by="count", values="count")
    assert by_time.sum() == by_count.sum() == count
    assert by_time[0].any()
    assert by_time[-1].any() or steps > 1 + events["t"][-1] - events["t"][0]
    counts = by_count.sum((1, 2, 3))
    assert counts.max() - counts.min() <= 1


def test_bins_include_their_left_edge_only() -> None:
    # 10 us in 3 bins: edges at 0, 3.3, 6.7 and 10
    for t, expected in ((0, 0), (3, 0), (4, 1), (6, 1), (7, 2), (9, 2)):
        frames = event_frames(at_times(1000 + t), (1, 1, 1), 3, start=1000, duration=10)
        assert frames[:, 0, 0, 0].tolist() == [int(k == expected) for k in range(3)], t
    # 10 us in 2 bins: the edge is whole
    assert event_frames(at_times(4, 5), (1, 1, 1), 2, values="count", start=0, duration=10).ravel().tolist() == [1, 1]


@pytest.mark.parametrize("by", ["time", "count"])
def test_a_window_leaves_out_what_is_outside(by: Any) -> None:
    events = at_times(99, 100, 101, 109, 110)
    frames = event_frames(events, (1, 1, 1), 1, by=by, values="count", start=100, duration=10)
    assert frames.ravel().tolist() == [3]
    assert not event_frames(events, (1, 1, 1), 4, by=by, start=111).any()
    assert not event_frames(events, (1, 1, 1), 4, by=by, start=0, duration=99).any()


def test_polarities_are_apart_or_together() -> None:
    events = made((1, 0, 0, False), (1, 0, 0, True), (0, 1, 0, True))
    assert event_frames(events, (2, 2, 2), 1, values="count")[0].tolist() == [[[0, 1], [0, 0]], [[0, 1], [1, 0]]]
    assert event_frames(events, (1, 2, 2), 1, values="count")[0].tolist() == [[[0, 2], [1, 0]]]


@pytest.mark.parametrize(("count", "expected"), [(254, 254), (255, 255), (256, 255), (1000, 255)])
def test_counts_end_at_255(count: int, expected: int) -> None:
    events = at_times(*[7] * count)
    assert event_frames(events, (1, 1, 1), 1, values="count").ravel().tolist() == [expected]
    assert event_frames(events, (1, 1, 1), 1).ravel().tolist() == [1]


@pytest.mark.parametrize("by", ["time", "count"])
def test_no_events_make_frames_of_zeros(by: Any) -> None:
    frames = event_frames(np.zeros(0, EVENT), (2, 3, 4), 5, by=by)
    assert frames.shape == (5, 2, 3, 4)
    assert not frames.any()


@pytest.mark.parametrize("bins", ["time", "count"])
def test_tonic_makes_the_same_frames_where_its_bins_are_the_same(bins: Any) -> None:
    # its bins are rounded down to whole microseconds and events, and exclude the last event's time
    transforms = pytest.importorskip("tonic.transforms")
    events = some_events(5, 4000, (2, 6, 9), longest=5000)
    events["t"][0], events["t"][-1] = -5000, 5000
    frames = event_frames(events, (2, 6, 9), 20, by=bins, values="count", start=-5000, duration=10_000)
    if bins == "count":
        frames = event_frames(events, (2, 6, 9), 20, by=bins, values="count")
    theirs = transforms.ToFrame((9, 6, 2), **{f"n_{'time' if bins == 'time' else 'event'}_bins": 20})(events)
    np.testing.assert_array_equal(frames, theirs)


@pytest.mark.parametrize("steps", [0, -3])
def test_frames_need_a_step(steps: int) -> None:
    with pytest.raises(UsageError, match=f"steps must be at least 1, found {steps}"):
        event_frames(at_times(1), (1, 1, 1), steps)


@pytest.mark.parametrize("duration", [0, -3])
def test_a_window_lasts(duration: int) -> None:
    with pytest.raises(UsageError, match=f"duration must be at least 1 us, found {duration}"):
        event_frames(at_times(1), (1, 1, 1), 5, duration=duration)


@pytest.mark.parametrize(("x", "y"), [(4, 0), (-1, 0), (0, 3), (0, -1)])
@pytest.mark.parametrize("by", ["time", "count"])
def test_addresses_outside_are_refused(by: Any, x: int, y: int) -> None:
    events = made((0, 0, 1, True), (x, y, 2, True), (0, 0, 3, True))
    with pytest.raises(DataError, match=f"event 1 is at x = {x}, y = {y}, outside"):
        event_frames(events, (2, 3, 4), 5, by=by)
    with pytest.raises(DataError, match="event 1 is at"):  # outside of the window, too
        event_frames(events, (2, 3, 4), 5, by=by, start=3)


def test_other_dtypes_and_sensors_are_refused() -> None:
    with pytest.raises(DataError, match="expected one axis"):
        event_frames(np.zeros(3, [("t", "<i8")]), (2, 3, 4), 5)
    with pytest.raises(DataError, match="1 or 2 polarities"):
        event_frames(at_times(1), (3, 3, 4), 5)


def test_bins_of_equal_count_need_times_in_order() -> None:
    with pytest.raises(DataError, match="event 2 is earlier than the one before it"):
        event_frames(at_times(1, 5, 4, 3), (1, 1, 1), 2, by="count")


def test_times_and_windows_beyond_64_bits_are_refused() -> None:
    far = at_times(-(2**62), 2**62)
    with pytest.raises(DataError, match="repair their times"):
        event_frames(far, (1, 1, 1), 2)
    for start, duration in ((-(2**63) - 1, 5), (2**63 - 3, 5), (0, 2**62)):
        with pytest.raises(UsageError, match="64 bits do not hold a window"):
            event_frames(far, (1, 1, 1), 2, start=start, duration=duration)
    # the largest times themselves are no reason
    end = 2**63 - 1
    assert event_frames(at_times(end - 1, end), (1, 1, 1), 2).ravel().tolist() == [1, 1]


@given(seeds, st.integers(1, 6), st.lists(st.integers(1, 7), min_size=1, max_size=3))
def test_packing_is_undone(seed: int, steps: int, shape: list[int]) -> None:
    frames = np.random.default_rng(seed).integers(0, 2, (steps, *shape), dtype=np.uint8)
    packed = pack_frames(frames)
    features = int(np.prod(shape))
    assert packed.shape == (steps, -(-features // 8))
    for step, stored in zip(frames.reshape(steps, -1), packed, strict=True):
        bits = [int(stored[i // 8]) >> i % 8 & 1 for i in range(8 * len(stored))]
        assert bits == step.tolist() + [0] * (len(bits) - features)
    np.testing.assert_array_equal(unpack_frames(packed, tuple(shape)), frames)


def test_counts_do_not_fit_into_bits() -> None:
    with pytest.raises(UsageError, match="bits hold 0 and 1, found 3"):
        pack_frames(np.array([[0, 3]], np.uint8))


@given(seeds, st.integers(1, 5), st.integers(1, 6), st.sampled_from([(7,), (8,), (2, 3, 4), (2, 5, 5), (1,)]))
def test_a_batch_of_bits_becomes_a_sequence(seed: int, batch: int, steps: int, shape: tuple[int, ...]) -> None:
    frames = np.random.default_rng(seed).integers(0, 2, (batch, steps, *shape), dtype=np.uint8)
    packed = torch.from_numpy(np.stack([pack_frames(sample) for sample in frames]))
    sequence = unpack_batch(packed, shape)
    assert sequence.dtype == torch.float32
    assert sequence.is_contiguous()
    assert torch.equal(sequence, torch.from_numpy(frames).transpose(0, 1).float())
    # what other devices do
    plain = module._unpack(packed, int(np.prod(shape)))
    assert plain.is_contiguous()
    assert torch.equal(plain, sequence.flatten(2))


def test_a_batch_need_not_be_contiguous() -> None:
    packed = torch.randint(0, 256, (6, 4, 5), dtype=torch.uint8).transpose(0, 1)
    assert torch.equal(unpack_batch(packed, (2, 20)), unpack_batch(packed.contiguous(), (2, 20)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_unpacks_as_the_cpu_does() -> None:
    packed = torch.randint(0, 256, (4, 6, 5), dtype=torch.uint8)
    found = unpack_batch(packed.cuda(), (3, 13))
    assert found.is_cuda
    assert torch.equal(found.cpu(), unpack_batch(packed, (3, 13)))


@pytest.mark.parametrize("shape", [(2, 4), (17,), (4, 6)])
def test_shapes_of_other_sizes_are_refused(shape: tuple[int, ...]) -> None:
    size = -(-int(np.prod(shape)) // 8)
    with pytest.raises(UsageError, match=f"take {size} bytes, found 2"):
        unpack_frames(np.zeros((5, 2), np.uint8), shape)
    with pytest.raises(UsageError, match=f"take {size} bytes, found 2"):
        unpack_batch(torch.zeros(3, 5, 2, dtype=torch.uint8), shape)


def test_words_and_kinds_that_are_not_known_are_refused(unchecked: None) -> None:
    events = np.zeros(0, EVENT)
    with pytest.raises(UsageError, match=r"^unknown values 'counts': did you mean 'count'\? known are binary, count$"):
        event_frames(events, (2, 4, 4), 3, values="counts")
    with pytest.raises(UsageError, match=r"^unknown by 'events': known are count, time$"):
        event_frames(events, (2, 4, 4), 3, by="events")
    with pytest.raises(UsageError, match=r"^steps must be an integer, at least 1, found 2\.5$"):
        event_frames(events, (2, 4, 4), 2.5)
    with pytest.raises(DataError, match=r"^events are list, expected an array of .* as read_events returns$"):
        event_frames(events.tolist(), (2, 4, 4), 3)
