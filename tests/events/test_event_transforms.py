"""Changes of recordings against lines of plain arithmetic and tonic's transforms."""

import numpy as np
import pytest
import tonic.transforms
from hypothesis import given
from hypothesis import strategies as st

from spiking_lfp.errors import UsageError
from spiking_lfp.events import transforms
from spiking_lfp.events.records import EVENT, EventArray, Recording
from spiking_lfp.events.transforms import AUGMENTATIONS, augment, augmentation, centre, crop, denoise, downsample


def recording(seed: int = 0, count: int = 300, width: int = 21, height: int = 13) -> Recording:
    random = np.random.default_rng(seed)
    events = np.zeros(count, EVENT)
    events["x"], events["y"] = random.integers(0, width, count), random.integers(0, height, count)
    events["t"], events["p"] = np.sort(random.integers(0, 100_000, count)), random.integers(0, 2, count)
    return Recording(events, (2, height, width))


def tuples(events: EventArray) -> list[tuple[int, ...]]:
    return [tuple(int(value) for value in event) for event in events]


def test_the_middle_is_kept() -> None:
    whole = recording()
    cut = crop(whole, 8)
    # of 21 columns 6 go on the left and 7 on the right, of 13 rows 2 and 3
    kept = [(x - 6, y - 2, t, p) for x, y, t, p in tuples(whole.events) if 6 <= x < 14 and 2 <= y < 10]
    assert cut.sensor == (2, 8, 8)
    assert tuples(cut.events) == kept
    assert 0 < len(kept) < 300


@pytest.mark.parametrize("side", [0, 14])
def test_a_crop_must_fit(side: int) -> None:
    with pytest.raises(UsageError, match=rf"crop must be 1..13 pixels for this sensor, found {side}"):
        crop(recording(), side)


@given(factor=st.integers(1, 60))
def test_pixels_become_squares(factor: int) -> None:
    whole = recording()
    coarse = downsample(whole, factor)
    assert coarse.sensor == (2, -(-13 // factor), -(-21 // factor))
    assert tuples(coarse.events) == [(x // factor, y // factor, t, p) for x, y, t, p in tuples(whole.events)]


SENSORS = [(13, 21), (1, 21), (13, 1), (1, 1)]


def with_neighbours(events: EventArray, time_us: int) -> list[tuple[int, ...]]:
    """Events with an earlier one at one of the four pixels around, less than `time_us` before."""
    kept, last = [], dict[tuple[int, int], int]()
    for x, y, t, p in tuples(events):
        around = [last.get(place, t - time_us) for place in ((x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1))]
        if max(around) > t - time_us:
            kept.append((x, y, t, p))
        last[x, y] = t
    return kept


@pytest.mark.parametrize(("height", "width"), SENSORS)
@pytest.mark.parametrize("begins", [0, 10**7, -(10**6)])
def test_lonely_events_go_whatever_the_clock_says(height: int, width: int, begins: int) -> None:
    whole = recording(width=width, height=height)
    whole.events["t"] += begins
    clean = denoise(whole, 1_500)
    assert tuples(clean.events) == with_neighbours(whole.events, 1_500)
    assert (0 < len(clean.events) < 300) == (height * width > 1)


def test_noise_goes_as_in_tonic() -> None:
    whole = recording()
    # to tonic, all pixels have had an event at time 0
    theirs = tonic.transforms.Denoise(5_000)(whole.events)
    assert tuples(denoise(whole, 5_000).events) == [
        event for event in tuples(theirs) if event in with_neighbours(whole.events, 5_000)
    ]
    later = theirs["t"] >= 5_000
    assert tuples(theirs[later]) == [event for event in with_neighbours(whole.events, 5_000) if event[2] >= 5_000]
    assert later.any()


@pytest.mark.parametrize(("height", "width"), [(1, 21), (21, 1)])
def test_the_middle_of_a_line_is_kept(height: int, width: int) -> None:
    cut = crop(recording(width=width, height=height), 8)
    assert cut.sensor == (2, min(height, 8), min(width, 8))
    whole = recording(width=width, height=height).events
    places = whole["x"].astype(int) + whole["y"]
    assert (cut.events["x"].astype(int) + cut.events["y"]).tolist() == [n - 6 for n in places if 6 <= n < 14]
    with pytest.raises(UsageError, match=r"crop must be 1..21 pixels for this sensor, found 22"):
        crop(recording(width=width, height=height), 22)
    assert crop(recording(width=1, height=1), 1).sensor == (2, 1, 1)


@given(seed=st.integers(0, 1000), sensor=st.sampled_from(SENSORS))
def test_a_recording_is_centred_on_its_median(seed: int, sensor: tuple[int, int]) -> None:
    height, width = sensor
    whole = recording(seed, 41, width, height)
    middle = (sorted(whole.events["x"].tolist())[20], sorted(whole.events["y"].tolist())[20])
    moved = [(x - middle[0] + width // 2, y - middle[1] + height // 2, t, p) for x, y, t, p in tuples(whole.events)]
    assert tuples(centre(whole).events) == [
        event for event in moved if 0 <= event[0] < width and 0 <= event[1] < height
    ]


def test_nothing_stays_nothing() -> None:
    nothing = Recording(np.empty(0, EVENT), (2, 13, 21))
    every = tuple(
        f"{name}={min(0.5 if kind.max_strength == 1 else 3, kind.max_strength)}" for name, kind in AUGMENTATIONS.items()
    )
    for changed in (crop(nothing, 4), downsample(nothing, 2), denoise(nothing, 10), augment(nothing, every, (1,))):
        assert len(changed.events) == 0


# what the others keep of the events, at least, on any sensor
ALL_EVENTS = ("flip", "flip_polarity", "time_jitter", "time_skew", "noise")


@given(
    name=st.sampled_from(list(AUGMENTATIONS)),
    part=st.floats(0.01, 1),
    seed=st.integers(0, 2**32),
    sides=st.one_of(st.sampled_from(SENSORS), st.tuples(st.integers(1, 9), st.integers(1, 9))),
    count=st.integers(1, 60),
    begins=st.sampled_from([0, 10**9, -(10**9)]),
)
def test_every_augmentation_works_on_every_sensor(
    name: str, part: float, seed: int, sides: tuple[int, int], count: int, begins: int
) -> None:
    kind, (height, width) = AUGMENTATIONS[name], sides
    strength = kind.min_strength + part * (min(kind.max_strength, 1e4) - kind.min_strength)
    whole = recording(seed, count, width, height)
    whole.events["t"] += begins
    changed = augment(whole, (f"{name}={strength}",), (seed,))  # a recording checks its addresses and times
    assert changed.sensor == whole.sensor
    assert name not in ALL_EVENTS or len(changed.events) == count + (int(strength) if name == "noise" else 0)
    if height == width == 1 and name not in ("drop", "drop_time"):
        assert len(changed.events) >= count
    if name not in ("time_jitter", "time_skew", "noise"):
        assert set(changed.events["t"].tolist()) <= set(whole.events["t"].tolist())
    if name == "rotate" and min(sides) == 1:
        assert np.array_equal(changed.events, whole.events)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("name", ["shift=2", "zoom=0.2", "jitter=2", "rotate=30", "drop_area=0.2", "flip=1"])
def test_a_line_keeps_what_is_far_from_its_ends(name: str, transpose: bool) -> None:
    # as the channels of an ear: 700 in a row
    whole = recording(count=5_000, width=1 if transpose else 700, height=700 if transpose else 1)
    axis = "y" if transpose else "x"
    for seed in range(8):
        changed = augment(whole, (name,), (seed,)).events
        assert not changed["x" if transpose else "y"].any()
        lost = 5_000 - len(changed)
        if name.startswith("drop_area"):
            assert lost == pytest.approx(1_000, abs=150)
            assert 700 - len(set(changed[axis].tolist())) == 140
        else:
            assert lost <= 5_000 * (0.17 if name.startswith("zoom") else 0.01)
    unchanged = name == "rotate=30" or (transpose and name == "flip=1")
    assert all(np.array_equal(augment(whole, (name,), (seed,)).events, whole.events) for seed in range(8)) == unchanged


@given(
    share=st.floats(0.01, 0.99),
    sides=st.one_of(st.sampled_from(SENSORS), st.tuples(st.integers(1, 40), st.integers(1, 40))),
    seed=st.integers(0, 2**32),
)
def test_a_box_is_of_the_share_of_the_area(share: float, sides: tuple[int, int], seed: int) -> None:
    height, width = sides
    events = np.zeros(height * width, EVENT)  # one at each pixel
    events["x"], events["y"] = np.arange(height * width) % width, np.arange(height * width) // width
    kept = augment(Recording(events, (2, height, width)), (f"drop_area={share}",), (seed,)).events
    gone = np.ones((height, width), bool)
    gone[kept["y"], kept["x"]] = False
    rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
    if height * width == 1:
        assert not gone.any()
        return
    assert gone.sum() == len(rows) * len(columns) > 0  # a box
    assert len(rows) == np.ptp(rows) + 1
    assert len(columns) == np.ptp(columns) + 1
    assert len(kept) > 0
    # half a row of the box, or the box is a pixel, or all but a line
    assert abs(gone.sum() - share * height * width) <= max(len(columns) / 2, 1, width, height) + 1e-6
    if min(sides) > 1 and share <= 0.81:
        # of the sensor's proportions, as nearly as pixels allow
        assert abs(len(columns) - max(np.sqrt(share) * width, 1)) <= 0.5 + 1e-9


@pytest.mark.parametrize(("height", "width"), [(34, 34), (128, 128), (480, 640), (1, 700)])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_a_fifth_is_a_fifth_of_the_events(height: int, width: int, share: float) -> None:
    # spread evenly, of cameras and ears as they are
    whole = recording(count=20_000, width=width, height=height)
    lost = [1 - len(augment(whole, (f"drop_area={share}",), (seed,)).events) / 20_000 for seed in range(5)]
    assert np.mean(lost) == pytest.approx(share, rel=0.08)


def test_jitter_moves_each_event_to_the_nearest_pixel() -> None:
    whole = recording()
    jittered = augment(whole, ("jitter=4",), (6,)).events
    across, down = np.random.default_rng((6,)).normal(0, 2, (2, 300))
    moved = [
        (round(x + dx), round(y + dy), t, p)
        for (x, y, t, p), dx, dy in zip(tuples(whole.events), across, down, strict=True)
    ]
    assert tuples(jittered) == [event for event in moved if 0 <= event[0] < 21 and 0 <= event[1] < 13]


@pytest.mark.parametrize("begins", [0, 10**9])
def test_times_are_counted_from_the_first_event(begins: int) -> None:
    whole = recording(count=20_000)
    whole.events["t"] += begins
    elapsed = whole.events["t"] - whole.events["t"][0]
    for seed in range(20):
        kept = augment(whole, ("drop_time=0.25",), (seed,)).events
        assert 1 - len(kept) / 20_000 == pytest.approx(0.25, abs=0.02)
        skewed = augment(whole, ("time_skew=0.5",), (seed,)).events
        factor = 1 + np.random.default_rng((seed,)).uniform(-0.5, 0.5)
        assert skewed["t"][0] == whole.events["t"][0]
        assert np.abs(skewed["t"] - skewed["t"][0] - elapsed * factor).max() <= 0.5 + 1e-6
        late = augment(whole, ("time_jitter=100",), (seed,)).events
        assert len(late) == 20_000
        assert (np.sort(late["t"]) == late["t"]).all()


def test_polarities_turn_one_by_one() -> None:
    whole = recording(count=20_000)
    turned = augment(whole, ("flip_polarity=0.3",), (1,)).events
    assert np.array_equal(turned[["x", "y", "t"]], whole.events[["x", "y", "t"]])
    assert np.mean(turned["p"] != whole.events["p"]) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("polarities", [1, 2])
def test_noise_has_all_polarities_and_pixels_of_the_sensor(polarities: int) -> None:
    whole = recording()
    whole.events["p"] = 1
    noisy = augment(Recording(whole.events, (polarities, 13, 21)), ("noise=9000",), (1,)).events
    assert set(tuples(whole.events)) <= set(tuples(noisy))
    assert np.mean(noisy["p"][noisy["x"] >= 0]) == pytest.approx(1 if polarities == 1 else 0.516, abs=0.03)
    assert len({(x, y) for x, y, _, _ in tuples(noisy)}) == 13 * 21
    assert (noisy["t"].min(), noisy["t"].max()) == (whole.events["t"][0], whole.events["t"][-1])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_seed_always_makes_the_same_change(name: str) -> None:
    whole = recording()
    before = whole.events.copy()
    change = f"{name}={min(3, AUGMENTATIONS[name].max_strength / 2)}"
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (augment(whole, (change,), seed) for seed in ((1, 2), (1, 2), (1, 3)))
    assert np.array_equal(first.events, again.events)
    assert not np.array_equal(first.events, other.events) or name == "flip"
    assert np.array_equal(whole.events, before)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_a_shift_moves_all_events_by_whole_pixels() -> None:
    whole = recording()
    seen = set()
    for seed in range(60):
        moved = augment(whole, ("shift=2",), (seed,)).events
        ways = [
            (dx, dy)
            for dx in range(-2, 3)
            for dy in range(-2, 3)
            if tuples(moved)
            == [(x + dx, y + dy, t, p) for x, y, t, p in tuples(whole.events) if 0 <= x + dx < 21 and 0 <= y + dy < 13]
        ]
        assert len(ways) == 1
        seen |= set(ways)
    assert len(seen) > 15


@given(seed=st.integers(0, 1000))
def test_a_rotation_turns_about_the_middle(seed: int) -> None:
    whole = recording(seed)
    turned = augment(whole, ("rotate=180",), (seed,)).events
    turn = np.exp(1j * np.deg2rad(np.random.default_rng((seed,)).uniform(-180, 180)))
    expected = []
    for x, y, t, p in tuples(whole.events):
        place = (complex(x, y) - complex(10, 6)) * turn + complex(10, 6)
        column, row = round(place.real), round(place.imag)
        if 0 <= column < 21 and 0 <= row < 13:
            expected.append((column, row, t, p))
    assert tuples(turned) == expected


def test_a_zoom_stretches_both_axes() -> None:
    whole = recording()
    zoomed = augment(whole, ("zoom=0.5",), (3,)).events
    across, along = np.random.default_rng((3,)).uniform(0.5, 1.5, 2)
    moved = [(round(10 + across * (x - 10)), round(6 + along * (y - 6)), t, p) for x, y, t, p in tuples(whole.events)]
    assert tuples(zoomed) == [event for event in moved if 0 <= event[0] < 21 and 0 <= event[1] < 13]


def test_changes_are_made_in_their_order() -> None:
    whole = recording()
    both = augment(whole, ("flip=1", "drop=0.5"), (4,))
    flipped = {(20 - x, y, t, p) for x, y, t, p in tuples(whole.events)}
    assert set(tuples(both.events)) < flipped


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shove=1", "unknown augmentation 'shove'"),
        ("shift", r"augmentation shift \(by up to this many pixels\) needs shift=NUMBER in 1..64, found 'shift'"),
        ("shift=0.5", "needs shift=NUMBER in 1..64, found 'shift=0.5'"),
        ("noise=0.9", "needs noise=NUMBER in 1..1e"),
        ("drop=1.5", "needs drop=NUMBER in 0..0.99"),
        ("drop=0", "needs drop=NUMBER"),
        ("drop=nan", "needs drop=NUMBER"),
        ("rotate=far", "needs rotate=NUMBER"),
    ],
)
def test_augmentations_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        augmentation(text)


def test_without_tonic_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(transforms.importlib, "import_module", missing)
    with pytest.raises(UsageError, match=r"tonic is not installed: pip install 'spiking-lfp\[events\]'"):
        denoise(recording(), 10)
    # shifts do not need it
    assert len(augment(recording(), ("shift=1",), (0,)).events)
