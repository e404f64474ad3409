"""From a recording to another recording: cropping, denoising, coarser pixels, and random changes to learn from.

What tonic has is taken from there; shifts, rotations and zooms of whole recordings it does not have.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from spiking_lfp.errors import UsageError, unknown_name
from spiking_lfp.events.records import EventArray, Recording, Sensor

Change = Callable[[EventArray, np.random.Generator], EventArray]


def tonic(module: str = "tonic.transforms") -> Any:
    """Return a module of tonic, which is an extra.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UsageError("tonic is not installed: pip install 'spiking-lfp[events]'") from None


def crop(recording: Recording, side: int) -> Recording:
    """Keep the `side` x `side` pixels in the middle of the sensor."""
    polarities, height, width = recording.sensor
    if not 1 <= side <= min(height, width):
        raise UsageError(f"crop must be 1..{min(height, width)} pixels for this sensor, found {side}")
    if not len(recording.events):
        return Recording(recording.events, (polarities, side, side), recording.partial)
    events = tonic().CenterCrop((width, height, polarities), side)(recording.events)
    return Recording(events, (polarities, side, side), recording.partial)


def downsample(recording: Recording, factor: int) -> Recording:
    """Merge `factor` x `factor` pixels into one; what is left over at the edges makes pixels of its own.

    tonic multiplies by 1 / factor, which puts some pixels into the one before; this divides integers.
    """
    polarities, height, width = recording.sensor
    if factor < 1:
        raise UsageError(f"downsample must be at least 1, found {factor}")
    events = recording.events.copy()
    for axis in ("x", "y"):
        events[axis] //= factor
    return Recording(events, (polarities, -(-height // factor), -(-width // factor)), recording.partial)


def centre(recording: Recording) -> Recording:
    """Move all events so that the median column and row are those in the middle; what leaves the sensor is lost."""
    events, (_, height, width) = recording.events, recording.sensor
    if not len(events):
        return recording
    x = events["x"] - int(np.median(events["x"])) + width // 2
    y = events["y"] - int(np.median(events["y"])) + height // 2
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    moved: EventArray = events[inside].copy()
    moved["x"], moved["y"] = x[inside], y[inside]
    return Recording(moved, recording.sensor, recording.partial)


def denoise(recording: Recording, time_us: int) -> Recording:
    """Drop events without another one in a neighbouring pixel within `time_us` before (tonic's `Denoise`)."""
    if time_us < 1:
        raise UsageError(f"the time of denoising must be at least 1 us, found {time_us}")
    if not len(recording.events):
        return recording
    return Recording(tonic().Denoise(time_us)(recording.events), recording.sensor, recording.partial)


@dataclass(frozen=True)
class Augmentation:
    """A kind of random change: what it does, for `help`, the largest sensible strength, and how to make it."""

    help: str
    largest: float
    make: Callable[[float, Sensor], Change]


def _affine(by: Callable[[float, np.random.Generator], Any]) -> Callable[[float, Sensor], Change]:
    """Move addresses by a random matrix about the middle of the sensor and a random shift; what leaves is lost."""

    def make(strength: float, sensor: Sensor) -> Change:
        _, height, width = sensor
        middle = np.array([[(width - 1) / 2], [(height - 1) / 2]])

        def change(events: EventArray, random: np.random.Generator) -> EventArray:
            matrix, shift = by(strength, random)
            moved = matrix @ (np.stack([events["x"], events["y"]]) - middle) + middle + shift
            x, y = np.rint(moved).astype(np.int64)
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            changed: EventArray = events[inside].copy()
            changed["x"], changed["y"] = x[inside], y[inside]
            return changed

        return change

    return make


def _shift(pixels: float, random: np.random.Generator) -> Any:
    return np.eye(2), random.integers(-int(pixels), int(pixels), size=(2, 1), endpoint=True)


def _rotation(degrees: float, random: np.random.Generator) -> Any:
    angle = np.deg2rad(random.uniform(-degrees, degrees))
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), 0


def _zoom(share: float, random: np.random.Generator) -> Any:
    return np.diag(random.uniform(1 - share, 1 + share, 2)), 0


def _through_tonic(make: Callable[[Any, float, tuple[int, int, int]], Any]) -> Callable[[float, Sensor], Change]:
    """Use a transform of tonic, which draws from NumPy's global generator."""

    def made(strength: float, sensor: Sensor) -> Change:
        polarities, height, width = sensor
        transform = make(tonic(), strength, (width, height, polarities))

        def change(events: EventArray, random: np.random.Generator) -> EventArray:
            with _global_seed(int(random.integers(2**32))):
                changed: EventArray = transform(events)
            return changed

        return change

    return made


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


AUGMENTATIONS: dict[str, Augmentation] = {
    "shift": Augmentation("by up to so many pixels", 64.0, _affine(_shift)),
    "rotate": Augmentation("by up to so many degrees", 180.0, _affine(_rotation)),
    "zoom": Augmentation("width and height by up to this share", 0.9, _affine(_zoom)),
    "flip": Augmentation(
        "left and right with this probability", 1.0, _through_tonic(lambda t, p, size: t.RandomFlipLR(size, p))
    ),
    "flip_polarity": Augmentation(
        "on and off of single events, with this probability",
        1.0,
        _through_tonic(lambda t, p, _: t.RandomFlipPolarity(p)),
    ),
    "drop": Augmentation("up to this share of the events", 0.99, _through_tonic(lambda t, p, _: t.DropEvent((0.0, p)))),
    "drop_area": Augmentation(
        "a box of this share of the sensor", 0.99, _through_tonic(lambda t, p, size: t.DropEventByArea(size, p))
    ),
    "drop_time": Augmentation(
        "a stretch of this share of the time", 0.99, _through_tonic(lambda t, p, _: t.DropEventByTime(p))
    ),
    "jitter": Augmentation(
        "addresses by this variance in pixels",
        64.0,
        _through_tonic(lambda t, var, size: t.SpatialJitter(size, var, var, clip_outliers=True)),
    ),
    "time_jitter": Augmentation(
        "times by this deviation in us",
        1e6,
        _through_tonic(lambda t, std, _: t.TimeJitter(std, clip_negative=True, sort_timestamps=True)),
    ),
    "time_skew": Augmentation(
        "the speed by up to this share", 0.9, _through_tonic(lambda t, c, _: t.TimeSkew((1 - c, 1 + c)))
    ),
    "noise": Augmentation(
        "so many random events", 1e6, _through_tonic(lambda t, n, size: t.UniformNoise(size, int(n)))
    ),
}


def augmentation(text: str) -> tuple[str, float]:
    """Read `name=strength`.

    Raises:
        UsageError: for unknown names and strengths out of range.
    """
    name, _, strength = (part.strip() for part in text.partition("="))
    if name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, AUGMENTATIONS)
    largest = AUGMENTATIONS[name].largest
    try:
        value = float(strength)
    except ValueError:
        value = float("nan")
    if not 0 < value <= largest:
        help_text = AUGMENTATIONS[name].help
        raise UsageError(f"augmentation {name} ({help_text}) needs {name}=NUMBER in 0..{largest:g}, found {text!r}")
    return name, value


def augment(recording: Recording, changes: tuple[str, ...], seed: tuple[int, ...]) -> Recording:
    """Change a recording at random, by the same seed always in the same way.

    Args:
        changes: `name=strength` of `AUGMENTATIONS`, in this order.
        seed: any number of numbers.
    """
    random = np.random.default_rng(seed)
    events = recording.events
    for text in changes:
        name, strength = augmentation(text)
        if len(events):
            events = AUGMENTATIONS[name].make(strength, recording.sensor)(events, random)
    order = np.argsort(events["t"], kind="stable")
    return Recording(events[order], recording.sensor, recording.partial)
