"""A cache of a few small sequences; in a module, so that processes can be given what makes them."""

import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from spiking_lfp.data.cache import Jobs, Layout, SampleWarning, SequenceCache, cached
from spiking_lfp.errors import DataError
from spiking_lfp.events.frames import unpack_batch

LAYOUT = Layout(3, (2, 3, 5), True)
RECIPE = {"data": "made up", "steps": 3}


def made(job: int, layout: Layout = LAYOUT) -> np.ndarray:
    """Frames that only depend on their number."""
    most = 2 if layout.binary else 256
    return np.random.default_rng(job).integers(0, most, (layout.steps, *layout.shape)).astype(np.uint8)


def damaged(job: int) -> np.ndarray:
    if job == 5:
        raise DataError("recording 5 is damaged")
    return made(job)


def doubtful(job: int) -> np.ndarray:
    """Warn as a reader of files does: of every 9th job, and of all of one file."""
    if job % 9 == 0:
        warnings.warn(f"{job}.dat: left out {job} triggers", stacklevel=2)
    warnings.warn("all.dat: it names no chip", stacklevel=2)
    return made(job)


def odd_ones(job: int) -> np.ndarray:
    """Warn of samples with odd numbers, which are of two files."""
    if job % 2:
        warnings.warn(SampleWarning("odd", f"{'ab'[job > 20]}.dat", "make them even"), stacklevel=2)
    return made(job)


def misshapen(job: int) -> np.ndarray:
    return made(job)[:, :1]


def splits(make: Any = made, train: int = 7, test: int = 3) -> dict[str, Jobs]:
    return {
        "train": Jobs(make, range(train), [job % 4 for job in range(train)]),
        "test": Jobs(make, range(100, 100 + test), [job % 4 for job in range(test)]),
    }


def build(folder: Path, **changes: Any) -> SequenceCache:
    recipe, workers = changes.pop("recipe", RECIPE), changes.pop("workers", 1)
    return cached("small", recipe, lambda: (LAYOUT, splits(**changes)), folder=folder, workers=workers)


def build_slowly(folder: Path, seconds: float, told: Connection) -> None:
    """Take so long for each sample, and tell which is being made, and whether the cache was there."""

    def slow(job: int) -> np.ndarray:
        told.send(f"making {job}")
        time.sleep(seconds)
        return made(job)

    found = build(folder, make=slow)
    check(found)
    told.send("hit" if found.hit else "built")


def check(found: SequenceCache) -> None:
    for name, jobs in splits().items():
        samples, labels = found.load(name)
        frames = unpack_batch(samples, LAYOUT.shape).transpose(0, 1).numpy()
        assert np.array_equal(frames, np.stack([made(job) for job in jobs.jobs]))
        assert labels.tolist() == list(jobs.labels)
