"""Transforms of recordings: cropping, denoising, downsampling, and random augmentations for training.

tonic's transforms are used where they do what is wanted. It lacks shifts, rotations and zooms of whole recordings; its
jitter rounds towards 0 and loses the events of a line, its boxes have the fraction of each side in place of the area,
its intervals begin at time 0 in place of the first event, its noise has only on events, and it flips all polarities at
once.

Along an axis of one pixel, as of the channels of an ear, nothing is moved, turned or cut off.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from spiking_lfp.errors import UsageError, unknown_name
from spiking_lfp.events.records import EVENT, EventArray, Recording, Sensor

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
    """Keep the `side` x `side` pixels at the centre of the sensor, of a line `side` pixels."""
    polarities, height, width = recording.sensor
    largest = min((pixels for pixels in (height, width) if pixels > 1), default=1)
    if not 1 <= side <= largest:
        raise UsageError(f"crop must be 1..{largest} pixels for this sensor, found {side}")
    kept_height, kept_width = min(side, height), min(side, width)
    events = recording.events
    if len(events):
        events = tonic().CenterCrop((width, height, polarities), [kept_width, kept_height])(events)
    return Recording(events, (polarities, kept_height, kept_width), recording.partial)


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
    # to tonic, every pixel has had an event at time 0
    offset = time_us - int(recording.events["t"][0])
    events = recording.events.copy()
    events["t"] += offset
    events = tonic().Denoise(time_us)(events)
    events["t"] -= offset
    return Recording(events, recording.sensor, recording.partial)


@dataclass(frozen=True)
class Augmentation:
    """A random transform: description, largest sensible strength, maker, given strength and sensor, and least strength.

    A strength of 0 is none, whatever the least one is.
    """

    help: str
    max_strength: float
    make: Callable[[float, Sensor], Transform]
    min_strength: float = 0.0


def _affine(draw: Callable[[float, np.random.Generator], Any]) -> Callable[[float, Sensor], Transform]:
    """Apply a random matrix about the centre of the sensor and a random shift; events that leave it are dropped."""

    def make(strength: float, sensor: Sensor) -> Transform:
        _, height, width = sensor
        centre = np.array([[(width - 1) / 2], [(height - 1) / 2]])

        def transform(events: EventArray, random: np.random.Generator) -> EventArray:
            matrix, shift = draw(strength, random)
            places = matrix @ (np.stack([events["x"], events["y"]]) - centre) + centre + shift
            return _moved(events, places, sensor)

        return transform

    return make


def _moved(events: EventArray, places: Any, sensor: Sensor) -> EventArray:
    """Return events moved to the nearest pixels of `places` `[2, N]`, x and y; those that leave the sensor are dropped.

    Along an axis of one pixel nothing moves.
    """
    _, height, width = sensor
    x, y = (
        np.rint(place).astype(np.int64) if side > 1 else np.zeros(len(events), np.int64)
        for place, side in zip(places, (width, height), strict=True)
    )
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    changed: EventArray = events[inside].copy()
    changed["x"], changed["y"] = x[inside], y[inside]
    return changed


def _shift(pixels: float, random: np.random.Generator) -> Any:
    return np.eye(2), random.integers(-int(pixels), int(pixels), size=(2, 1), endpoint=True)


def _rotate(degrees: float, sensor: Sensor) -> Transform:
    if min(sensor[1:]) == 1:
        return lambda events, _: events
    return _affine(_rotation)(degrees, sensor)


def _rotation(degrees: float, random: np.random.Generator) -> Any:
    angle = np.deg2rad(random.uniform(-degrees, degrees))
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), 0


def _zoom(fraction: float, random: np.random.Generator) -> Any:
    return np.diag(random.uniform(1 - fraction, 1 + fraction, 2)), 0


def _jitter(variance: float, sensor: Sensor) -> Transform:
    def transform(events: EventArray, random: np.random.Generator) -> EventArray:
        offsets = random.normal(0, np.sqrt(variance), (2, len(events)))
        return _moved(events, np.stack([events["x"], events["y"]]) + offsets, sensor)

    return transform


def _drop_area(fraction: float, sensor: Sensor) -> Transform:
    """Drop the events in a box with the proportions of the sensor, as far as pixels allow: one or more, but not all."""
    _, height, width = sensor
    share = fraction if height == 1 else np.sqrt(fraction)
    box_width = min(max(round(share * width), 1), width)
    box_height = min(max(round(fraction * height * width / box_width), 1), height)
    if (box_height, box_width) == (height, width):
        box_height, box_width = (height - 1, width) if height > 1 else (1, width - 1)

    def transform(events: EventArray, random: np.random.Generator) -> EventArray:
        left = random.integers(width - box_width, endpoint=True)
        top = random.integers(height - box_height, endpoint=True)
        x, y = events["x"].astype(np.int64) - left, events["y"].astype(np.int64) - top
        inside = (x >= 0) & (x < box_width) & (y >= 0) & (y < box_height)
        kept: EventArray = events[~inside]
        return kept

    return transform


def _drop_time(fraction: float, _: Sensor) -> Transform:
    def transform(events: EventArray, random: np.random.Generator) -> EventArray:
        t = _elapsed(events)
        duration = t.max() + 1
        start = random.uniform(0, 1 - fraction) * duration
        kept: EventArray = events[(t < start) | (t >= start + fraction * duration)]
        return kept

    return transform


def _flip_polarity(probability: float, _: Sensor) -> Transform:
    def transform(events: EventArray, random: np.random.Generator) -> EventArray:
        changed: EventArray = events.copy()
        changed["p"] ^= random.random(len(events)) < probability
        return changed

    return transform


def _time_jitter(deviation: float, _: Sensor) -> Transform:
    def transform(events: EventArray, random: np.random.Generator) -> EventArray:
        changed: EventArray = events.copy()
        changed["t"] += np.rint(random.normal(0, deviation, len(events))).astype(np.int64)
        return changed

    return transform


def _time_skew(fraction: float, _: Sensor) -> Transform:
    def transform(events: EventArray, random: np.random.Generator) -> EventArray:
        changed: EventArray = events.copy()
        t = _elapsed(events)
        changed["t"] += np.rint(random.uniform(-fraction, fraction) * t).astype(np.int64)
        return changed

    return transform


def _noise(count: float, sensor: Sensor) -> Transform:
    polarities, height, width = sensor

    def transform(events: EventArray, random: np.random.Generator) -> EventArray:
        noise = np.zeros(int(count), EVENT)
        noise["x"], noise["y"] = random.integers(width, size=len(noise)), random.integers(height, size=len(noise))
        noise["t"] = random.integers(events["t"].min(), events["t"].max(), size=len(noise), endpoint=True)
        noise["p"] = random.integers(2, size=len(noise)) if polarities == 2 else 1
        return np.concatenate([events, noise])

    return transform


def _elapsed(events: EventArray) -> Any:
    """Return the time of each event since the first one, in microseconds."""
    return events["t"] - events["t"].min()


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
    "shift": Augmentation("by up to this many pixels", 64.0, _affine(_shift), 1.0),
    "rotate": Augmentation("by up to this many degrees, on a line not at all", 180.0, _rotate),
    "zoom": Augmentation("width and height by up to this fraction", 0.9, _affine(_zoom)),
    "flip": Augmentation(
        "left and right with this probability", 1.0, _through_tonic(lambda t, p, size: t.RandomFlipLR(size, p))
    ),
    "flip_polarity": Augmentation("the polarity of single events, with this probability", 1.0, _flip_polarity),
    "drop": Augmentation(
        "up to this fraction of the events", 0.99, _through_tonic(lambda t, p, _: t.DropEvent((0.0, p)))
    ),
    "drop_area": Augmentation("a box of this fraction of the sensor's area", 0.99, _drop_area),
    "drop_time": Augmentation("an interval of this fraction of the time", 0.99, _drop_time),
    "jitter": Augmentation("addresses by this variance in pixels", 64.0, _jitter),
    "time_jitter": Augmentation("times by this standard deviation in us", 1e6, _time_jitter),
    "time_skew": Augmentation("the speed by up to this fraction", 0.9, _time_skew),
    "noise": Augmentation("this many random events", 1e6, _noise, 1.0),
}


def augmentation(text: str) -> tuple[str, float]:
    """Parse `name=strength`.

    Raises:
        UsageError: for unknown names and strengths out of range.
    """
    name, _, strength = (part.strip() for part in text.partition("="))
    if name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, AUGMENTATIONS)
    min_strength, max_strength = AUGMENTATIONS[name].min_strength, AUGMENTATIONS[name].max_strength
    try:
        value = float(strength)
    except ValueError:
        value = float("nan")
    if not (value > 0 and min_strength <= value <= max_strength):
        strengths = f"{min_strength:g}..{max_strength:g}"
        raise UsageError(
            f"augmentation {name} ({AUGMENTATIONS[name].help}) needs {name}=NUMBER in {strengths}, found {text!r}"
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
