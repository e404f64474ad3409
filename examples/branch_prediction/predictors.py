"""Branch predictors in integers, each one branch at a time: bimodal, gshare, perceptron and a mono-net with mDFA."""

from dataclasses import dataclass
from math import ceil, log2
from typing import Any, Protocol, no_type_check

import numpy as np
from numba import njit
from numpy.typing import NDArray

Addresses = NDArray[np.uint64]
Outcomes = NDArray[np.bool_]
Array = NDArray[Any]
State = tuple[Array, ...]
# bits of the register of recent addresses, two a branch
PATH = 16
# an output weight of 1: seven fractional bits, and one before them
ONE = 128


class Predictor(Protocol):
    """What `run.py` needs of a predictor."""

    def fresh(self) -> State:
        """Return tables and, last, registers, as they are before the first branch."""

    def run(self, addresses: Addresses, taken: Outcomes, state: State) -> Outcomes:
        """Predict every branch `[N]` before its outcome is learned, which changes `state`; return the predictions."""

    def bits(self) -> int:
        """Return the storage of all tables and registers in bits."""

    def steps(self) -> tuple[int, int]:
        """Return the parallel steps of a prediction and of an update.

        A step is one of: reading or writing all tables, one level of an adder or XOR tree, a product, a comparison, a
        saturating addition. What does not depend on each other shares a step.
        """


def tree(terms: int) -> int:
    """Return the levels of a tree that adds up (or XORs) this many terms."""
    return ceil(log2(terms)) if terms > 1 else 0


@dataclass(frozen=True)
class Gshare:
    """Two-bit counters, chosen by address XOR history (McFarling 1993); bimodal with no history (Smith 1981).

    Args:
        width: bits of an index, so there are `2 ** width` counters.
        history: latest outcomes in the index, at most `width`.
    """

    width: int
    history: int = 0

    def fresh(self) -> State:
        """As `Predictor.fresh`; counters begin at 1, weakly not taken."""
        return np.ones(1 << self.width, np.int8), np.zeros(1, np.uint64)

    def run(self, addresses: Addresses, taken: Outcomes, state: State) -> Outcomes:
        """As `Predictor.run`."""
        predictions: Outcomes = _run_gshare(addresses, taken, *state, self.width, self.history)
        return predictions

    def bits(self) -> int:
        """As `Predictor.bits`."""
        return (2 << self.width) + self.history

    def steps(self) -> tuple[int, int]:
        """Hash, read, compare; add, write."""
        return tree(3 if self.history else 2) + 2, 2


@dataclass(frozen=True)
class Perceptron:
    """A row of 8-bit weights for each address, over the signs of the history (Jimenez and Lin 2001).

    Args:
        rows: in the table.
        history: latest outcomes, the inputs; one more weight is the bias.
    """

    rows: int
    history: int

    def fresh(self) -> State:
        """As `Predictor.fresh`."""
        return np.zeros((self.rows, self.history + 1), np.int8), np.zeros(1, np.uint64)

    def run(self, addresses: Addresses, taken: Outcomes, state: State) -> Outcomes:
        """As `Predictor.run`."""
        predictions: Outcomes = _run_perceptron(addresses, taken, *state, self.threshold())
        return predictions

    def threshold(self) -> int:
        """Return theta, up to which a right prediction still learns: the best one by Jimenez and Lin."""
        return int(1.93 * self.history + 14)

    def bits(self) -> int:
        """As `Predictor.bits`."""
        return self.rows * (self.history + 1) * 8 + self.history

    def steps(self) -> tuple[int, int]:
        """Read, sign flips, adder tree, compare; margin, saturating addition, write."""
        return 3 + tree(self.history + 1), 3


@dataclass(frozen=True)
class MonoNet:
    """A mono-net of one hidden layer that learns by mDFA (Lechner 2020), in integers.

        z_j = sum of one weight of each table of unit j     the inputs are one-hot: hashes of the address and of the
                                                            latest outcomes and addresses, a length for each table
        h_j = clip(z_j, -clip, clip)                        hard-tanh
        y   = sum_j v_j h_j,   v_j >= 0                     taken if y > 0; the address chooses the row of v

    It descends the hinge loss `max(0, theta + 1/2 - t y)`, `t` = +-1 the outcome: where `t y <= theta`,

        the weights that unit j read += t                   where |z_j| < clip: mDFA with feedback weights of 1
        v_j += t h_j / 2^rate                               cut off toward 0: the gradient

    with saturation, `v_j` at 0 below. The two do not wait for each other. As `v_j >= 0`, no coordinate moves against
    its gradient (mDFA thm. 2).

    Args:
        width: bits of a table's index.
        lengths: latest outcomes in the hash of each table, at most 64.
        per_unit: tables of a hidden unit, neighbours in `lengths`.
        rows: bits of the index into the output weights.
        clip: where a hidden unit saturates.
        theta: margin up to which a right prediction still learns, in units of `ONE`.
        weight_bits: of a first-layer weight.
        rate: shift of the output weights' update.
    """

    width: int
    rows: int
    lengths: tuple[int, ...] = (0, 1, 2, 3, 4, 6, 8, 10, 12, 15, 18, 22, 27, 32)
    per_unit: int = 2
    clip: int = 12
    theta: int = 10
    weight_bits: int = 4
    rate: int = 1

    def fresh(self) -> State:
        """As `Predictor.fresh`; output weights begin at 1."""
        return (
            np.zeros((len(self.lengths), 1 << self.width), np.int8),
            np.full((1 << self.rows, self.units()), ONE, np.int16),
            np.zeros(2, np.uint64),
        )

    def run(self, addresses: Addresses, taken: Outcomes, state: State) -> Outcomes:
        """As `Predictor.run`."""
        lengths = np.array(self.lengths, np.uint64)
        limit = (1 << self.weight_bits - 1) - 1
        sizes = self.width, self.rows, self.per_unit, self.clip, self.theta * ONE, limit, self.rate
        predictions: Outcomes = _run_mono(addresses, taken, *state, lengths, *sizes)
        return predictions

    def units(self) -> int:
        """Return the number of hidden units."""
        return len(self.lengths) // self.per_unit

    def bits(self) -> int:
        """As `Predictor.bits`: weights, output weights of 8 bits, the history and the register of addresses."""
        weights = len(self.lengths) * self.weight_bits << self.width
        return weights + (self.units() * 8 << self.rows) + max(self.lengths) + PATH

    def steps(self) -> tuple[int, int]:
        """Hash, read, adder tree, clip, product, adder tree, compare; margin, gates, saturating addition, write.

        Feedback comes straight from the output, so the update has the same steps for any number of layers.
        """
        longest = max(self.lengths)
        # address twice, history folded to two widths, path
        terms = 2 + ceil(longest / self.width) + ceil(longest / (self.width - 1)) + ceil(PATH / self.width)
        return tree(terms) + 1 + tree(self.per_unit) + 1 + 1 + tree(self.units()) + 1, 4

    def steps_of_back_propagation(self, hidden: int = 1) -> int:
        """Return the steps of an update by back-propagation through `hidden` layers of as many units.

        Each hidden layer waits for the one after it: a product with its weights and, from the second on the way down,
        an adder tree over its units.
        """
        return self.steps()[1] + 1 + (hidden - 1) * (1 + tree(self.units()) + 1)


@njit(cache=True)
@no_type_check
def _fold(value: int, length: int, width: int) -> int:
    """XOR the `width`-bit pieces of the lowest `length` bits."""
    one = np.uint64(1)
    if length < 64:
        value &= (one << np.uint64(length)) - one
    mask, folded = (one << np.uint64(width)) - one, np.uint64(0)
    while value:
        folded ^= value & mask
        value >>= np.uint64(width)
    return folded


@njit(cache=True)
@no_type_check
def _own(address: int, width: int) -> int:
    """Return an index from an address alone."""
    mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    return (address ^ (address >> np.uint64(width))) & mask


@njit(cache=True)
@no_type_check
def _run_gshare(
    addresses: Addresses, taken: Outcomes, counters: Array, register: Array, width: int, history: int
) -> Outcomes:
    predictions = np.empty(len(addresses), np.bool_)
    for i in range(len(addresses)):
        index = _own(addresses[i], width) ^ _fold(register[0], history, width)
        predictions[i] = counters[index] > 1
        if taken[i]:
            counters[index] = min(counters[index] + 1, 3)
        else:
            counters[index] = max(counters[index] - 1, 0)
        register[0] = (register[0] << np.uint64(1)) | np.uint64(taken[i])
    return predictions


@njit(cache=True)
@no_type_check
def _run_perceptron(addresses: Addresses, taken: Outcomes, weights: Array, register: Array, theta: int) -> Outcomes:
    predictions = np.empty(len(addresses), np.bool_)
    rows, inputs = weights.shape
    for i in range(len(addresses)):
        row = weights[addresses[i] % np.uint64(rows)]
        # the bias' input is always 1
        signs = (register[0] << np.uint64(1)) | np.uint64(1)
        total = 0
        for k in range(inputs):
            total += row[k] if (signs >> np.uint64(k)) & np.uint64(1) else -row[k]
        predictions[i] = total > 0
        target = 1 if taken[i] else -1
        if target * total <= theta:
            for k in range(inputs):
                step = target if (signs >> np.uint64(k)) & np.uint64(1) else -target
                row[k] = min(max(row[k] + step, -128), 127)
        register[0] = (register[0] << np.uint64(1)) | np.uint64(taken[i])
    return predictions


@njit(cache=True)
@no_type_check
def _run_mono(
    addresses: Addresses, taken: Outcomes, weights: Array, outputs: Array, registers: Array, lengths: Array,
    width: int, rows: int, per_unit: int, clip: int, theta: int, limit: int, rate: int,
) -> Outcomes:  # fmt: skip
    predictions = np.empty(len(addresses), np.bool_)
    units = outputs.shape[1]
    index = np.zeros(len(lengths), np.uint64)
    z, h = np.zeros(units, np.int64), np.zeros(units, np.int64)
    for i in range(len(addresses)):
        own, row = _own(addresses[i], width), _own(addresses[i], rows)
        history, path = registers
        y = 0
        for j in range(units):
            z[j] = 0
            for k in range(j * per_unit, (j + 1) * per_unit):
                # folded twice: two histories that agree in one width seldom do in the other
                past = _fold(history, lengths[k], width) ^ (_fold(history, lengths[k], width - 1) << np.uint64(1))
                index[k] = own ^ past ^ _fold(path, min(lengths[k], np.uint64(PATH)), width)
                z[j] += weights[k, index[k]]
            h[j] = min(max(z[j], -clip), clip)
            y += outputs[row, j] * h[j]
        predictions[i] = y > 0
        target = 1 if taken[i] else -1
        if target * y <= theta:
            for j in range(units):
                if abs(z[j]) < clip:
                    for k in range(j * per_unit, (j + 1) * per_unit):
                        weights[k, index[k]] = min(max(weights[k, index[k]] + target, -limit - 1), limit)
                change = abs(h[j]) >> rate
                outputs[row, j] = min(max(outputs[row, j] + (change if target * h[j] > 0 else -change), 0), 2 * ONE - 1)
        registers[0] = (history << np.uint64(1)) | np.uint64(taken[i])
        registers[1] = (path << np.uint64(2)) | _own(_own(addresses[i], 4), 2)
    return predictions
