"""Braille letters felt by capacitive tactile sensors (taxels), turned into events by level-crossing sampling."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.data.arrays import open_arrays
from spiking_lfp.data.recordings import Sample
from spiking_lfp.errors import DataError
from spiking_lfp.events.records import EVENT, EventArray, Recording, Sensor

TEST_REPETITIONS = 40
VALUES = 256
# the sensors were sampled at 40 Hz
PERIOD_US = 25_000


@dataclass(frozen=True)
class ReadTaxels:
    """Reads one letter of the file as events: x is the taxel, y the level, on and off mean upwards and downwards.

    Attributes:
        taxels: the taxels in use, of 12; the others do not respond.
        level: distance between levels, in units of the sensor's 0..255.
    """

    taxels: tuple[int, ...] = (1, 2, 6, 10)
    level: int = 2

    @property
    def sensor(self) -> Sensor:
        """Polarities, levels and taxels."""
        return (2, VALUES // self.level, len(self.taxels))

    def __call__(self, sample: Sample) -> Recording:
        """Return the events of one letter."""
        arrays = _arrays(sample.path)
        signal = arrays["x"][sample.item, : arrays["length"][sample.item], list(self.taxels)]
        return Recording(level_crossings(signal.T, self.level), self.sensor)


def level_crossings(signal: NDArray[np.uint8], level: int) -> EventArray:
    """Turn a signal `[steps, taxels]` of 0..255 into events, one for every multiple of `level` that is crossed.

    A step that crosses several levels makes one event for each, all at the same time. A signal equal to a level counts
    as above it.
    """
    levels = signal.astype(np.int64) // level
    events: list[tuple[int, int, int, bool]] = []
    for step, taxel in zip(*np.nonzero(np.diff(levels, axis=0)), strict=True):
        before, after = int(levels[step, taxel]), int(levels[step + 1, taxel])
        crossed = range(before + 1, after + 1) if after > before else range(before, after, -1)
        events += [(int(taxel), at, int(step + 1) * PERIOD_US, after > before) for at in crossed]
    return np.array(events, EVENT)


def taxel_samples(path: Path) -> tuple[tuple[str, ...], tuple[Sample, ...], tuple[Sample, ...]]:
    """Return the letters, the training and the test samples, split by repetition; none if there is no file."""
    if not path.is_file():
        return (), (), ()
    arrays = _arrays(path)
    samples = [Sample(path, int(label), item) for item, label in enumerate(arrays["y"])]
    tests = arrays["repetition"] >= TEST_REPETITIONS
    train = tuple(sample for sample, is_test in zip(samples, tests, strict=True) if not is_test)
    test = tuple(sample for sample, is_test in zip(samples, tests, strict=True) if is_test)
    return tuple(str(name) for name in arrays["classes"]), train, test


@lru_cache(maxsize=1)
def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with open_arrays(path) as arrays:
        content = {name: arrays[name] for name in ("x", "y", "repetition", "length", "classes")}
    letters = len(content["y"])
    if content["x"].dtype != np.uint8 or content["x"].shape[:1] + content["x"].shape[2:] != (letters, 12):
        raise DataError(
            f"{path} holds x {content['x'].dtype} {list(content['x'].shape)}, expected uint8 [{letters}, T, 12]"
        )
    return content
