"""Simulation of an event sensor that records a still image moving in front of it.

The protocol is that of N-MNIST (Orchard et al., *Converting Static Image Datasets to Spiking Neuromorphic Datasets
Using Saccades*, Frontiers in Neuroscience 2015): three saccades along an isosceles triangle. The sensor is an ideal one
without noise: each pixel emits an event whenever its log intensity has moved by a threshold since its last event.
"""

from itertools import pairwise
from math import log
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike, NDArray

from spiking_lfp.errors import UsageError
from spiking_lfp.events.records import EVENT, Recording
from spiking_lfp.kernels.compilation import kernel

Array = NDArray[Any]
# corners of the triangle, its base and its height both 1; the last saccade goes back along the base
CORNERS = ((-0.5, -0.5), (0.0, 0.5), (0.5, -0.5), (-0.5, -0.5))
# time steps per pixel of motion at which intensities are computed; between them, log intensity changes linearly
STEPS_PER_PIXEL = 8


def saccade_path(amplitude: float, steps: int) -> Float64[np.ndarray, "time xy"]:
    """Return the displacement of the image in pixels, at `3 * steps + 1` equally spaced times.

    Saccades start and end at rest: after a fraction s of its duration, a saccade has covered `(1 - cos(pi * s)) / 2`.

    Args:
        amplitude: base and height of the triangle, in pixels.
        steps: time steps of each saccade.
    """
    covered = (1 - np.cos(np.pi * np.arange(steps) / steps)) / 2
    corners = amplitude * np.array(CORNERS)
    legs = [a + covered[:, None] * (b - a) for a, b in pairwise(corners)]
    return np.concatenate([*legs, corners[-1:]])


def saccade_events(
    image: ArrayLike,
    *,
    duration_us: int = 300_000,
    amplitude: float = 7.0,
    threshold: float = 0.5,
    black: float = 0.1,
    refractory_us: int = 0,
    border: int = 3,
) -> Recording:
    """Record an image by three saccades, as N-MNIST does; the same image always gives the same events.

    A pixel's intensity is that of the moved image, interpolated linearly between its pixels; beyond its edges the image
    is continued with the values at the edge. A pixel emits an on event (`p`) if its log intensity has risen by
    `threshold` above that of its last event, or of the start, and an off event if it has fallen by as much; a large
    change makes several events, each at the microsecond, rounded down, at which its level is crossed.

    Args:
        image: integers 0..255 `[H, W]`, or `[C, H, W]`, whose mean over channels is recorded.
        duration_us: duration of all three saccades together, in microseconds.
        amplitude: base and height of the triangle along which the image moves, in pixels; N-MNIST's is 7.
        threshold: change of the natural logarithm of the intensity that triggers an event.
        black: brightness of the value 0 where that of 255 is 1, between 0 and 1: a dark monitor reflects light.
        refractory_us: events this soon after a pixel's last one are suppressed, though its level is updated.
        border: additional pixels of the sensor on each side of the image; 3 turns 28 x 28 pixels into 34 x 34.

    Returns:
        Events in order of time, 0 to `duration_us`, of a sensor `(2, H + 2 * border, W + 2 * border)`.

    Raises:
        UsageError: for an image of other values, without pixels or with the wrong number of axes, and arguments out of
            range.

    Example:
        >>> import numpy as np
        >>> image = np.zeros((28, 28), np.uint8)
        >>> image[10:18, 10:18] = 255
        >>> events = saccade_events(image).events
        >>> int(events["t"].max()), sorted(set(events["p"].tolist()))
        (300000, [False, True])
    """
    given = np.asarray(image)
    if given.ndim not in (2, 3) or not given.size:
        raise UsageError(f"an image is [H, W] or [C, H, W], found {list(given.shape)}")
    if given.dtype.kind not in "iu" or given.min() < 0 or given.max() > 255:
        raise UsageError(f"an image holds integers 0..255, found {given.dtype}: scale and convert it")
    image = given.astype(np.uint8)
    if not 0 < black < 1:
        raise UsageError(f"black must be between 0 and 1, found {black}")
    for name, value in (("duration_us", duration_us), ("threshold", threshold)):
        if not 0 < value < np.inf:
            raise UsageError(f"{name} must be greater than 0, found {value}")
    for name, value in (("amplitude", amplitude), ("refractory_us", refractory_us), ("border", border)):
        if not 0 <= value < np.inf:
            raise UsageError(f"{name} must be at least 0, found {value}")
    grey = image.reshape(-1, *image.shape[-2:]).mean(0)
    light = black + (1 - black) * np.pad(grey, border, mode="edge") / 255
    path = saccade_path(amplitude, max(1, round(STEPS_PER_PIXEL * amplitude)))
    times = np.linspace(0, duration_us, len(path))
    events = np.zeros(8 * light.size, EVENT)
    while (count := _emit(light, path, times, threshold, refractory_us, events)) > len(events):
        events = np.zeros(count, EVENT)
    events = events[:count]
    return Recording(events[np.argsort(events["t"], kind="stable")], (2, *light.shape))


@kernel
@no_type_check
def _interpolate(light: Array, x: float, y: float) -> float:
    """Interpolate the intensity between pixels; if they are equal, the result is exactly theirs."""
    height, width = light.shape
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    above = light[top, left] + (x - left) * (light[top, right] - light[top, left])
    below = light[bottom, left] + (x - left) * (light[bottom, right] - light[bottom, left])
    return above + (y - top) * (below - above)


@kernel
@no_type_check
def _emit(light: Array, path: Array, times: Array, threshold: float, refractory: int, events: Array) -> int:
    """Write events pixel by pixel, as many as fit into `events`, and return how many there are in all."""
    count = 0
    # pixels return to exactly the level at which they started; rounding must not delay the event of that
    tolerant_threshold = (1 - 1e-9) * threshold
    for y in range(light.shape[0]):
        for x in range(light.shape[1]):
            value = _interpolate(light, x - path[0, 0], y - path[0, 1])
            start = now = log(value)
            level, free = 0, -1.0
            for s in range(1, len(path)):
                last, value = value, _interpolate(light, x - path[s, 0], y - path[s, 1])
                if value == last:
                    continue
                before, now = now, log(value)
                while abs(now - start - level * threshold) >= tolerant_threshold:
                    rises = now - start > level * threshold
                    level += 1 if rises else -1
                    share = min((start + level * threshold - before) / (now - before), 1.0)
                    t = times[s - 1] + share * (times[s] - times[s - 1])
                    if t < free:
                        continue
                    free = t + refractory
                    if count < len(events):
                        event = events[count]
                        event.x, event.y, event.t, event.p = x, y, int(t), rises
                    count += 1
    return count
