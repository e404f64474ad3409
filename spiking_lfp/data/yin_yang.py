"""The Yin-Yang data set, made as its paper says (Kriener, Goeltz and Petrovici 2022, arXiv 2102.08211)."""

from math import hypot

import numpy as np
import torch
from numpy.typing import NDArray

from spiking_lfp.data.encoding import Encoder
from spiking_lfp.data.splits import ArraySplit
from spiking_lfp.errors import UsageError

NAME = "yin-yang"
CLASSES = ("yin", "yang", "dot")
TRAIN_SIZE, TEST_SIZE = 5000, 1000
# of NumPy's RandomState, as published; 41 is for validation
TRAIN_SEED, TEST_SEED = 42, 40
RADIUS, DOT = 0.5, 0.1


def yin_yang(size: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw points of the figure, about as many of each class.

    Args:
        size: N.
        seed: of NumPy's `RandomState`.

    Returns:
        Values `[N, 4]`, x, y, 1 - x and 1 - y, from 0 to 1, and class indices `[N]`, of `CLASSES`.

    Example:
        >>> values, labels = yin_yang(3, seed=42)
        >>> values.shape, labels.tolist()
        ((3, 4), [2, 0, 1])
    """
    random = np.random.RandomState(seed)
    values, labels = np.empty((size, 4)), np.empty(size, np.int64)
    for index in range(size):
        wanted = random.randint(len(CLASSES))
        while True:
            x, y = random.rand(2) * 2 * RADIUS
            if hypot(x - RADIUS, y - RADIUS) <= RADIUS and _class(x, y) == wanted:
                break
        values[index], labels[index] = (x, y, 1 - x, 1 - y), wanted
    return values, labels


def _class(x: float, y: float) -> int:
    left, right = (hypot(x - middle * RADIUS, y - RADIUS) for middle in (0.5, 1.5))
    if min(left, right) < DOT:
        return 2
    return int(right <= DOT or DOT < left <= 0.5 * RADIUS or (y > RADIUS and right > 0.5 * RADIUS))


def yin_yang_splits(encoder: Encoder) -> tuple[ArraySplit, ArraySplit]:
    """Return 5,000 points for training and 1,000 for testing, those that were published.

    Raises:
        UsageError: if the encoder is for signals.
    """
    if encoder.is_in_time:
        raise UsageError(f"encoding {encoder.name} is for signals, {NAME} has values: take constant or latency")

    def split(size: int, seed: int) -> ArraySplit:
        values, labels = yin_yang(size, seed)
        return ArraySplit(torch.from_numpy(values).float(), torch.from_numpy(labels), encoder)

    return split(TRAIN_SIZE, TRAIN_SEED), split(TEST_SIZE, TEST_SEED)
