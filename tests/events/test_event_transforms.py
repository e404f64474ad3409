"""Changes of recordings against lines of plain arithmetic and tonic's transforms."""

import numpy as np
import pytest
import tonic.transforms
from hypothesis import given
from hypothesis import strategies as st

from spiking_lfp.errors import UsageError
from spiking_lfp.events import transforms
from spiking_lfp.events.records import EVENT, EventArray, Recording
from spiking_lfp.events.transforms import AUGMENTATIONS, augment, augmentation, crop, denoise, downsample


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


def test_noise_goes_as_in_tonic() -> None:
    whole = recording()
    clean = denoise(whole, 5_000)
    assert tuples(clean.events) == tuples(tonic.transforms.Denoise(5_000)(whole.events))
    assert 0 < len(clean.events) < 300


def test_nothing_stays_nothing() -> None:
    nothing = Recording(np.empty(0, EVENT), (2, 13, 21))
    every = tuple(
        f"{name}={min(0.5 if kind.max_strength == 1 else 3, kind.max_strength)}" for name, kind in AUGMENTATIONS.items()
    )
    for changed in (crop(nothing, 4), downsample(nothing, 2), denoise(nothing, 10), augment(nothing, every, (1,))):
        assert len(changed.events) == 0


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
        ("shift", r"augmentation shift \(by up to this many pixels\) needs shift=NUMBER in 0..64, found 'shift'"),
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
