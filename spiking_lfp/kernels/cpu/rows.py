"""Sums over rows of weights, and other loops that the compiler does not find by itself, as vector functions.

Arrays are contiguous and addressed by their flat index; `vectors` counts those of a row.
"""

from collections.abc import Callable
from typing import no_type_check

import numpy as np
from numba import njit, types

from spiking_lfp.kernels.cpu.vectors import Memory, Value, Variable, Writer, vector_function


@vector_function(literal="vectors")
def sum_rows(
    v: Writer, table: Memory, base: Value, rows: Memory, first: Value, count: Value, out: Memory, at: Value,
    vectors: int,
) -> None:  # fmt: skip
    """Add to `out[at:]` the rows `rows[first:first + count]` of the table at `table[base:]`."""
    places = [k * v.lanes for k in range(vectors)]
    sums = [Variable(v.load(out[at][place])) for place in places]
    with v.loop(count) as k:
        row = table[base][v.read(rows[first][k]) * (vectors * v.lanes)]
        for place, total in zip(places, sums, strict=True):
            total.value += v.load(row[place])
    for place, total in zip(places, sums, strict=True):
        v.store(total.value, out[at][place])


@vector_function(literal="vectors")
def sum_scaled(
    v: Writer, table: Memory, base: Value, rows: Memory, first: Value, values: Memory, start: Value, count: Value,
    out: Memory, at: Value, vectors: int,
) -> None:  # fmt: skip
    """Add to `out[at:]` rows of the table, as `sum_rows` does, times `values[start:start + count]`."""
    places = [k * v.lanes for k in range(vectors)]
    sums = [Variable(v.load(out[at][place])) for place in places]
    with v.loop(count) as k:
        row = table[base][v.read(rows[first][k]) * (vectors * v.lanes)]
        scale = v.read(values[start][k])
        for place, total in zip(places, sums, strict=True):
            total.value = v.fma(v.load(row[place]), scale, total.value)
    for place, total in zip(places, sums, strict=True):
        v.store(total.value, out[at][place])


@vector_function()
def add_rows(
    v: Writer, a: Memory, base_a: Value, starts_a: Memory, b: Memory, base_b: Value, starts_b: Memory, first: Value,
    pairs: Value, vectors: Value,
) -> None:  # fmt: skip
    """Add `a[base_a + starts_a[k]:]` to `b[base_b + starts_b[k]:]` for `pairs` k from `first` on."""
    with v.loop(pairs) as pair:
        k = first + pair
        from_, to = a[base_a][v.read(starts_a[k])], b[base_b][v.read(starts_b[k])]

        def add(place: Value, _: int) -> None:
            v.store(v.load(from_[place]) + v.load(to[place]), to[place])

        _for_vectors(v, vectors, add)


@vector_function(returns="element")
def share_rows(
    v: Writer, q: Memory, base_q: Value, starts_q: Memory, table: Memory, base_table: Value, outer: Memory,
    base_outer: Value, starts: Memory, first: Value, pairs: Value, vectors: Value,
) -> Value:  # fmt: skip
    """Both adjoints of one spike, for `pairs` k from `first` on.

    Return the sum of the dot products of `q[base_q + starts_q[k]:]` and `table[base_table + starts[k]:]`, and add the
    former to `outer[base_outer + starts[k]:]`.
    """
    sums = [Variable(v.number(0.0)) for _ in range(4)]  # four, so that no sum waits for itself
    with v.loop(pairs) as pair:
        k = first + pair
        part_of, weights = q[base_q][v.read(starts_q[k])], table[base_table][v.read(starts[k])]
        update = outer[base_outer][v.read(starts[k])]

        def share(place: Value, lane: int) -> None:
            part = v.load(part_of[place])
            sums[lane].value = v.fma(part, v.load(weights[place]), sums[lane].value)
            v.store(v.load(update[place]) + part, update[place])

        _for_vectors(v, vectors, share)
    return v.sum((sums[0].value + sums[1].value) + (sums[2].value + sums[3].value))


def _for_vectors(v: Writer, count: Value, body: Callable[[Value, int], None]) -> None:
    """Write `body(place, lane)` for so many vectors, four by four: `lane` is the number among the four."""

    def just_four() -> None:  # the common convolution, without the cost of loops
        for lane in range(4):
            body(v.word(lane * v.lanes), lane)

    def any_number() -> None:
        fours = count >> 2
        with v.loop(fours) as k:
            for lane in range(4):
                body((k * 4 + lane) * v.lanes, lane)
        with v.loop(count - fours * 4) as k:
            body((fours * 4 + k) * v.lanes, 0)

    v.branch(count == 4, just_four, any_number)


@vector_function(lanes=64)
def share_word(
    v: Writer, word: Value, q: Memory, at: Value, listed: Memory, count: Value, weight: Memory, stride: Value,
    base: Value, feedback: Memory, place: Value, outer: Memory,
) -> None:  # fmt: skip
    """Both adjoints of 64 inputs, those of the bits set in `word`, for `count` outputs `listed`.

    Add `q[at + o]` to 64 values of `outer[o * stride + base:]` where a bit is set, and write into 64 values of
    `feedback[place:]` the sum of `q[at + o] * weight[o * stride + base:]` where a bit is set, else 0.
    """
    spiked, total = v.answers(word), Variable(v.number(0.0))
    with v.loop(count) as k:
        output = v.read(listed[k])
        part = v.read(q[at + output])
        row = output * stride + base
        total.value = v.fma(part, v.load(weight[row]), total.value)
        v.store(v.load(outer[row]) + v.where(spiked, part, 0), outer[row])
    v.store(v.where(spiked, total.value, 0), feedback[place])


@vector_function()
def transpose(
    v: Writer, x: Memory, at: Value, stride: Value, rows: Value, columns: Value, out: Memory, to: Value,
    out_stride: Value,
) -> None:  # fmt: skip
    """Write the transpose of the first `rows` and `columns` of a square as wide as a vector, or all of it.

    From `x[at:]` to `out[to:]`, rows `stride` and `out_stride` values apart.
    """
    lanes = range(v.lanes)
    reading, writing = (v.first(count) for count in (columns, rows))
    square = [v.only(reading & (rows > k)).load(x[at][stride * k]) for k in lanes]
    step = v.lanes // 2
    while step:  # swap the upper right and lower left quarter of ever smaller squares
        for k in lanes:
            if not k & step:
                a, b = square[k], square[k + step]
                square[k] = v.pick(a, b, [j + v.lanes - step if j & step else j for j in lanes])
                square[k + step] = v.pick(a, b, [j + v.lanes if j & step else j + step for j in lanes])
        step //= 2
    for k in lanes:
        v.only(writing & (columns > k)).store(square[k], out[to][out_stride * k])


@njit(inline="always")
@no_type_check
def lanes(first: int, count: int) -> int:
    """Return a word with a bit for each of 64 items from the `first` on, unset beyond the last of `count`."""
    return ~np.uint64(0) >> np.uint64(max(0, first + 64 - count))


@vector_function(lanes=64, mask="valid", returns=types.uint64)
def nonzeros(v: Writer, valid: Value, x: Memory, at: Value) -> Value:
    """Return which of the 64 values from `x[at]` on are not 0, as bits, of those whose bits are set in `valid`."""
    return v.bits(v.load(x[at]) != 0)


@vector_function(lanes=64, mask="valid", returns=types.uint64)
def non_ones(v: Writer, valid: Value, x: Memory, at: Value) -> Value:
    """Return likewise which are not 1; what `valid` leaves out is none."""
    return v.bits(v.load(x[at]) != 1)


@vector_function()
def prefetch(v: Writer, x: Memory, at: Value) -> None:
    """Ask for the memory of 64 values from `x[at]` on: rows of another step lie too far away to be guessed."""
    for place in range(0, 64, v.lanes):
        v.prefetch(x[at][place])


@vector_function(returns=types.intp)
def count_bits(v: Writer, word: Value) -> Value:
    """Return how many bits are set in `word`."""
    return v.call("ctpop", word)


@vector_function(returns=types.intp)
def lowest_bit(v: Writer, word: Value) -> Value:
    """Return the place of the lowest bit set in `word`, which must not be 0."""
    return v.trailing_zeros(word)
