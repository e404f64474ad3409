"""Transforms of recordings: cropping, denoising, downsampling, and random augmentations for training.

tonic's transforms are used where it has them; it lacks shifts, rotations and zooms of whole recordings.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from spiking_lfp.errors import UsageError, unknown_name
from spiking_lfp.events.records import EventArray, Recording, Sensor

Transform = Callable[[EventArray, np.random.Generator], EventArray]


def tonic(module: str = "tonic.transforms") -> Any:
    """Import a module of tonic, which is an optional dependency.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UsageError("tonic is not installed: pip install 'spiking-lfp[events]'") from None


def crop(recording: Recording, side: int) -> Recording:
    """Keep the `side` x `side` pixels at the centre of the sensor."""
    polarities, height, width = recording.sensor
    if not 1 <= side <= min(height, width):
        raise UsageError(f"crop must be 1..{min(height, width)} pixels for this sensor, found {side}")
    if not len(recording.events):
        return Recording(recording.events, (polarities, side, side), recording.partial)
    events = tonic().CenterCrop((width, height, polarities), side)(recording.events)
    return Recording(events, (polarities, side, side), recording.partial)


def downsample(recording: Recording, factor: int) -> Recording:
    """Merge `factor` x `factor` pixels into one; incomplete squares at the edges become pixels, too.

    tonic multiplies by 1 / factor, which puts some pixels into the wrong square; this divides integers.
    """
    polarities, height, width = recording.sensor
    if factor < 1:
        raise UsageError(f"downsample must be at least 1, found {factor}")
    events = recording.events.copy()
    for axis in ("x", "y"):
        events[axis] //= factor
    return Recording(events, (polarities, -(-height // factor), -(-width // factor)), recording.partial)


def centre(recording: Recording) -> Recording:
    """Shift all events so that their median is at the centre of the sensor; events that leave it are dropped."""
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
    """Drop events without an event at a neighbouring pixel in the `time_us` before (tonic's `Denoise`)."""
    if time_us < 1:
        raise UsageError(f"denoise_us must be at least 1 us, found {time_us}")
    if not len(recording.events):
        return recording
    return Recording(tonic().Denoise(time_us)(recording.events), recording.sensor, recording.partial)


@dataclass(frozen=True)
class Augmentation:
    """A random transform: its description, largest sensible strength, and maker, given strength and sensor."""

    help: str
    max_strength: float
    make: Callable[[float, Sensor], Transform]


def _affine(draw: Callable[[float, np.random.Generator], Any]) -> Callable[[float, Sensor], Transform]:
    """Apply a random matrix about the centre of the sensor and a random shift; events that leave it are dropped."""

    def make(strength: float, sensor: Sensor) -> Transform:
        _, height, width = sensor
        centre = np.array([[(width - 1) / 2], [(height - 1) / 2]])

        def transform(events: EventArray, random: np.random.Generator) -> EventArray:
            matrix, shift = draw(strength, random)
            moved = matrix @ (np.stack([events["x"], events["y"]]) - centre) + centre + shift
            x, y = np.rint(moved).astype(np.int64)
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            changed: EventArray = events[inside].copy()
            changed["x"], changed["y"] = x[inside], y[inside]
            return changed

        return transform

    return make


def _shift(pixels: float, random: np.random.Generator) -> Any:
    return np.eye(2), random.integers(-int(pixels), int(pixels), size=(2, 1), endpoint=True)


def _rotation(degrees: float, random: np.random.Generator) -> Any:
    angle = np.deg2rad(random.uniform(-degrees, degrees))
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), 0


def _zoom(fraction: float, random: np.random.Generator) -> Any:
    return np.diag(random.uniform(1 - fraction, 1 + fraction, 2)), 0


def _through_tonic(make: Callable[[Any, float, tuple[int, int, int]], Any]) -> Callable[[float, Sensor], Transform]:
    """Use a transform of tonic, which draws from NumPy's global random generator."""

    def make_transform(strength: float, sensor: Sensor) -> Transform:
        polarities, height, width = sensor
        tonic_transform = make(tonic(), strength, (width, height, polarities))

        def transform(events: EventArray, random: np.random.Generator) -> EventArray:
            with _global_seed(int(random.integers(2**32))):
                changed: EventArray = tonic_transform(events)
            return changed

        return transform

    return make_transform


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


AUGMENTATIONS: dict[str, Augmentation] = {
    "shift": Augmentation("by up to this many pixels", 64.0, _affine(_shift)),
    "rotate": Augmentation("by up to this many degrees", 180.0, _affine(_rotation)),
    "zoom": Augmentation("width and height by up to this fraction", 0.9, _affine(_zoom)),
    "flip": Augmentation(
        "left and right with this probability", 1.0, _through_tonic(lambda t, p, size: t.RandomFlipLR(size, p))
    ),
    "flip_polarity": Augmentation(
        "the polarity of single events, with this probability",
        1.0,
        _through_tonic(lambda t, p, _: t.RandomFlipPolarity(p)),
    ),
    "drop": Augmentation(
        "up to this fraction of the events", 0.99, _through_tonic(lambda t, p, _: t.DropEvent((0.0, p)))
    ),
    "drop_area": Augmentation(
        "a box of this fraction of the sensor", 0.99, _through_tonic(lambda t, p, size: t.DropEventByArea(size, p))
    ),
    "drop_time": Augmentation(
        "an interval of this fraction of the time", 0.99, _through_tonic(lambda t, p, _: t.DropEventByTime(p))
    ),
    "jitter": Augmentation(
        "addresses by this variance in pixels",
        64.0,
        _through_tonic(lambda t, var, size: t.SpatialJitter(size, var, var, clip_outliers=True)),
    ),
    "time_jitter": Augmentation(
        "times by this standard deviation in us",
        1e6,
        _through_tonic(lambda t, std, _: t.TimeJitter(std, clip_negative=True, sort_timestamps=True)),
    ),
    "time_skew": Augmentation(
        "the speed by up to this fraction", 0.9, _through_tonic(lambda t, c, _: t.TimeSkew((1 - c, 1 + c)))
    ),
    "noise": Augmentation(
        "this many random events", 1e6, _through_tonic(lambda t, n, size: t.UniformNoise(size, int(n)))
    ),
}


def augmentation(text: str) -> tuple[str, float]:
    """Parse `name=strength`.

    Raises:
        UsageError: for unknown names and strengths out of range.
    """
    name, _, strength = (part.strip() for part in text.partition("="))
    if name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, AUGMENTATIONS)
    max_strength = AUGMENTATIONS[name].max_strength
    try:
        value = float(strength)
    except ValueError:
        value = float("nan")
    if not 0 < value <= max_strength:
        help_text = AUGMENTATIONS[name].help
        raise UsageError(
            f"augmentation {name} ({help_text}) needs {name}=NUMBER in 0..{max_strength:g}, found {text!r}"
        )
    return name, value


def augment(recording: Recording, transforms: tuple[str, ...], seed: tuple[int, ...]) -> Recording:
    """Apply random transforms to a recording; the same seed always gives the same result.

    Args:
        transforms: `name=strength` of `AUGMENTATIONS`, applied in this order.
        seed: one or more integers.
    """
    random = np.random.default_rng(seed)
    events = recording.events
    for text in transforms:
        name, strength = augmentation(text)
        if len(events):
            events = AUGMENTATIONS[name].make(strength, recording.sensor)(events, random)
    order = np.argsort(events["t"], kind="stable")
    return Recording(events[order], recording.sensor, recording.partial)
