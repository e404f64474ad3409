"""The vector language against NumPy, and kernels that share their work out among threads."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from numba import njit, types

from spiking_lfp.kernels.compilation import kernel
from spiking_lfp.kernels.cpu import rows
from spiking_lfp.kernels.cpu.threads import all_threads, in_threads
from spiking_lfp.kernels.cpu.vectors import vector_function


class Constants(NamedTuple):
    scale: np.ndarray
    invert: bool


@vector_function(lanes=64, mask="valid", returns=types.uint64)
def scaled(v, valid, x, place, constants, out, to, twice):
    value = v.load(x[place]) * v.load(constants.scale[0])
    value = v.where((value > 0.5) & constants.invert, abs(value - 3), value / 2)
    v.store(value, out[to])
    with v.when(twice):
        v.store(value + value, out[to + 64])
    return v.bits(value != 0) & valid


@njit
def _scaled(valid, x, place, constants, out, to, twice):
    return scaled(valid, x, place, constants, out, to, twice)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("valid", [2**64 - 1, 0, 1, 0x8000_0000_F0F0_0003])
@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("twice", [False, True])
def test_operators_equal_numpy_where_the_mask_says(dtype: type, valid: int, invert: bool, twice: bool) -> None:
    random = np.random.default_rng(0)
    x, scale, out = (
        random.standard_normal(80).astype(dtype),
        random.standard_normal(64).astype(dtype),
        np.ones(140, dtype),
    )
    x[7] = 0
    word = _scaled(np.uint64(valid), x, 5, Constants(scale, invert), out, 3, twice)
    meant = np.array([valid >> k & 1 for k in range(64)], bool)
    value = x[5:69] * scale
    value = np.where((value > 0.5) & invert, abs(value - 3), value / 2)
    expected = np.ones(140, dtype)
    expected[3:67][meant] = value[meant]
    if twice:
        expected[67:131][meant] = (value + value)[meant]
    np.testing.assert_array_equal(out, expected)
    assert word == sum(1 << k for k in range(64) if meant[k] and value[k] != 0)


@vector_function()
def fused(v, a, b, c, out):
    v.store(v.fma(v.load(a[0]), v.load(b[0]), v.load(c[0])), out[0])
    v.store(v.load(a[0]) * v.load(b[0]) + v.load(c[0]), out[v.lanes])


@njit
def _fused(a, b, c, out):
    fused(a, b, c, out)


def test_products_are_fused_only_where_the_source_says_so() -> None:
    a, c = np.full(16, 1 + 2.0**-12, np.float32), np.full(16, -(1 + 2.0**-11), np.float32)
    out = np.zeros(32, np.float32)
    _fused(a, a, c, out)
    np.testing.assert_array_equal(out, np.repeat(np.float32([2.0**-24, 0]), 16))


@njit
def _bits(word):
    return rows.count_bits(word), rows.lowest_bit(word)


def test_bits_are_counted_and_found() -> None:
    for word in (1, 2**63, 0b1011000, 2**64 - 1):
        assert _bits(np.uint64(word)) == (word.bit_count(), (word & -word).bit_length() - 1)


@kernel
def _mark(begin, end, times, worst):
    if in_threads(begin, end):
        return
    if begin >= worst:
        raise ValueError("too far")
    for i in range(begin, end):
        times[i] += 1


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("items", [0, 1, 2, 7, 1000])
def test_every_item_is_done_once(threads: int, items: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        times = np.zeros(items + 1, int)
        _mark(all_threads(), items, times, 10**6)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(times, [1] * items + [0])


def test_what_fails_in_a_thread_is_raised() -> None:
    with pytest.raises(ValueError, match="too far"):
        _mark(all_threads(), 10, np.zeros(10, int), 0)
