"""A cache whose sequences take time, kill their process or are not there."""

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.data.cache import Jobs, Layout, SequenceCache, cached

LAYOUT = Layout(3, (2, 3, 3), binary=True)
RECIPE = {"data": "a set", "files": [["a.bin", 10, 17], ["b.bin", 20, 18]]}
JOBS = 40


def frames(job: int) -> NDArray[np.uint8]:
    return np.random.default_rng(job).integers(0, 2, (3, 2, 3, 3), np.uint8)


def logged(log: Path, seconds: float, job: int) -> NDArray[np.uint8]:
    time.sleep(seconds)
    with log.open("a") as file:
        file.write(f"{job}\n")
    return frames(job)


def logged_by(log: Path, job: int) -> NDArray[np.uint8]:
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return frames(job)


def deadly(_: int) -> NDArray[np.uint8]:
    os._exit(1)


def not_there(_: int) -> NDArray[np.uint8]:
    raise FileNotFoundError("b.bin is not there")


def splits(make: Any = frames, count: int = JOBS) -> dict[str, Jobs]:
    train = range(count)
    return {
        "train": Jobs(make, train, [job % 7 for job in train]),
        "test": Jobs(make, [1000, 1001, 1002], [5, -1, 2**40]),
    }


def build(folder: Path, jobs: dict[str, Jobs] | None = None, **options: Any) -> SequenceCache:
    recipe, layout = options.pop("recipe", RECIPE), options.pop("layout", LAYOUT)
    made = splits() if jobs is None else jobs
    return cached("set", recipe, lambda: (layout, made), folder=folder, **{"workers": 1, **options})


def is_right(made: SequenceCache, count: int = JOBS) -> bool:
    for split, jobs in splits(count=count).items():
        samples, labels = made.load(split)
        bits = np.unpackbits(samples.numpy(), axis=2, count=18, bitorder="little")
        right = np.stack([frames(job) for job in jobs.jobs]).reshape(bits.shape)
        if not np.array_equal(bits, right) or labels.tolist() != list(jobs.labels):
            return False
    return True


def main(root: Path) -> None:
    make = partial(logged, root / "log", 0.03)
    build(root / "cache", splits(make), workers=2, progress=lambda done, _: print(done, flush=True))
