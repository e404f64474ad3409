"""Time the CPU kernels with each of their vector functions, and with the same thing as an ordinary loop of numba.

    python benchmarks/vectors.py                  all of them
    python benchmarks/vectors.py --only sum_rows --rounds 200

Each row is a whole kernel at its place of use, at the sizes of an MLP or a convolution on MNIST, T = 15, batch 128,
float32. Both take turns in one run, on one thread unless told otherwise, so that a busy machine slows both alike: read
the ratio. A vector function that gains less than 1.2 is not worth its source.
"""

import statistics
import time
from collections.abc import Callable
from types import FunctionType
from typing import Annotated, Any, no_type_check

import numpy as np
import torch
import typer
from numba import njit
from rich.console import Console
from rich.table import Table

from spiking_lfp.kernels.cpu import lif, packing, pool, recursions, sparse, spike_products
from spiking_lfp.kernels.cpu.threads import all_threads
from spiking_lfp.kernels.spikes import Window
from spiking_lfp.neurons import LIFNeuron

STEPS, BATCH = 15, 128
plain = njit(inline="always")


@plain
@no_type_check
def sum_rows(table, base, rows, first, count, out, at, vectors):
    width = table.shape[2]
    weights, listed, sums = table.reshape(-1), rows.reshape(-1), out.reshape(-1)[at : at + width]
    for k in range(count):
        start = base + np.intp(listed[first + k]) * width
        row = weights[start : start + width]
        for o in range(width):
            sums[o] += row[o]


@plain
@no_type_check
def sum_scaled(table, base, rows, first, values, start, count, out, at, vectors):
    width = table.shape[2]
    weights, listed, sums = table.reshape(-1), rows.reshape(-1), out.reshape(-1)[at : at + width]
    scales = values.reshape(-1)
    for k in range(count):
        from_, scale = base + np.intp(listed[first + k]) * width, scales[start + k]
        row = weights[from_ : from_ + width]
        for o in range(width):
            sums[o] += row[o] * scale


@plain
@no_type_check
def add_rows(a, base_a, starts_a, b, base_b, starts_b, first, pairs, vectors):
    width, source, target = a.shape[1], a.reshape(-1), b.reshape(-1)
    for k in range(first, first + pairs):
        from_, to = base_a + starts_a[k], base_b + starts_b[k]
        row, sums = source[from_ : from_ + width], target[to : to + width]
        for o in range(width):
            sums[o] += row[o]


@njit(inline="always", fastmath={"reassoc"})
@no_type_check
def share_rows(q, base_q, starts_q, table, base_table, outer, base_outer, starts, first, pairs, vectors):
    width, parts, weights, update = table.shape[1], q.reshape(-1), table.reshape(-1), outer.reshape(-1)
    total = q.dtype.type(0)
    for k in range(first, first + pairs):
        of, from_, to = base_q + starts_q[k], base_table + starts[k], base_outer + starts[k]
        part, row, sums = parts[of : of + width], weights[from_ : from_ + width], update[to : to + width]
        for o in range(width):
            total += part[o] * row[o]
        for o in range(width):
            sums[o] += part[o]
    return total


@plain
@no_type_check
def share_word(word, q, at, listed, count, weight, stride, base, feedback, place, outer):
    parts, weights, update = q.reshape(-1), weight.reshape(-1), outer.reshape(-1)
    total, nought = feedback.reshape(-1)[place : place + 64], q.dtype.type(0)
    for i in range(64):
        total[i] = 0
    for k in range(count):
        part, start = parts[at + listed[k]], np.intp(listed[k]) * stride + base
        row, sums = weights[start : start + 64], update[start : start + 64]
        for i in range(64):
            spiked = (word >> np.uint64(i)) & np.uint64(1)
            total[i] += part * row[i] if spiked else nought
            sums[i] += part if spiked else nought


@plain
@no_type_check
def transpose(x, at, stride, rows, columns, out, to, out_stride):
    values, turned = x.reshape(-1)[at:], out.reshape(-1)[to:]
    for i in range(min(rows, 16)):
        for j in range(min(columns, 16)):
            turned[j * out_stride + i] = values[i * stride + j]


@plain
@no_type_check
def nonzeros(valid, x, at):
    values, word = x.reshape(-1)[at : at + 64], np.uint64(0)
    for i in range(values.shape[0]):
        word |= np.uint64(values[i] != 0) << np.uint64(i)
    return word & valid


@plain
@no_type_check
def non_ones(valid, x, at):
    values, word = x.reshape(-1)[at : at + 64], np.uint64(0)
    for i in range(values.shape[0]):
        word |= np.uint64(values[i] != 1) << np.uint64(i)
    return word & valid


@plain
@no_type_check
def prefetch(x, at):
    pass


@plain
@no_type_check
def step_forward(
    valid, before, place, after, to, apart, current, arrived, keep, records, row, records_apart, constants, n, spikes,
    fired,
):  # fmt: skip
    size = min(64, constants.beta.shape[0] - n)
    beta, threshold = constants.beta[n : n + size], constants.threshold[n : n + size]
    drop, membrane = constants.drop[n : n + size], before.reshape(-1)[place : place + size]
    later, arriving = after.reshape(-1)[to : to + size], current.reshape(-1)[arrived : arrived + size]
    kept, spiked = records.reshape(-1)[row : row + size], spikes.reshape(-1)[fired : fired + size]
    word, nought = np.uint64(0), before.dtype.type(0)
    for i in range(size):
        above = membrane[i] > threshold[i]
        left = nought if above and constants.zero else membrane[i]
        later[i] = beta[i] * left + arriving[i] - (drop[i] if above else nought)
        spiked[i] = later[i] > threshold[i]
    if keep:
        for i in range(size):
            kept[i] = later[i]
    for i in range(size):
        word |= np.uint64(later[i] > threshold[i]) << np.uint64(i)
    return word


@plain
@no_type_check
def step_back(
    valid, records, later, earlier, records_apart, first, initial, spike_feedback, given, carried, place, apart, q,
    share, add, constants, n, epsilon,
):  # fmt: skip
    size = min(64, constants.beta.shape[0] - n)
    beta, threshold = constants.beta[n : n + size], constants.threshold[n : n + size]
    drop, after = constants.drop[n : n + size], records.reshape(-1)[later : later + size]
    before, at = (initial.reshape(-1), place) if first else (records.reshape(-1), earlier)
    membrane, reward = before[at : at + size], spike_feedback.reshape(-1)[given : given + size]
    feedback, shares = carried.reshape(-1)[place : place + size], q.reshape(-1)[share : share + size]
    nought = records.dtype.type(0)
    for i in range(size):
        above = membrane[i] > threshold[i]
        zeroed = above and constants.zero
        total = after[i] + (drop[i] if above else nought)
        total = total + (beta[i] * membrane[i] if zeroed else nought)
        parts = abs(membrane[i]) + abs(total - membrane[i])
        part = (reward[i] + feedback[i]) / (parts + epsilon)
        feedback[i] = beta[i] * (nought if zeroed else membrane[i]) * part
        shares[i] = shares[i] + part if add else part


def swapped(kernel: Any, *loops: Any) -> Any:
    """Return a kernel with these loops in place of the vector functions of the same names, in its own helpers too."""
    function, found = kernel.py_func, {}
    for name in function.__code__.co_names:
        helper = function.__globals__.get(name)
        if helper.__class__ is kernel.__class__ and helper.targetoptions.get("inline") == "always":
            found[name] = swapped(helper, *loops)
    names = {**function.__globals__, **found, **{loop.__name__: loop for loop in loops}}
    options: dict[str, Any] = (
        {"inline": "always"} if kernel.targetoptions.get("inline") == "always" else {"error_model": "numpy"}
    )
    twin = FunctionType(function.__code__, names, function.__name__)
    return njit(twin, **options)


Case = tuple[str, Any, tuple[Any, ...], Callable[[Any], object]]


def cases() -> list[Case]:
    """Return what is timed: vector functions, where, the loops instead, and a call of the kernel it is given."""
    random = np.random.default_rng(0)
    rows = STEPS * BATCH

    def floats(*shape: int) -> Any:
        return random.standard_normal(shape, np.float32)

    def spikes(*shape: int) -> torch.Tensor:
        return torch.from_numpy((random.random(shape) < 0.1).astype(np.float32))

    def packed(x: torch.Tensor) -> Any:
        found = packing.pack_spikes(x, None)
        assert found is not None
        return found.bits.numpy().view(np.uint64), int(found.counts.max()) + 1

    found: list[Case] = []

    def case(name: str, kernel: Any, loops: tuple[Any, ...], items: int, *arguments: Any) -> None:
        found.append((name, kernel, loops, lambda run: run(all_threads(), items, *arguments)))

    bits, room = packed(spikes(STEPS, BATCH, 1000))
    zeros = np.zeros
    table, bias, out = (
        spike_products.tiles_of(torch.from_numpy(floats(1000, 1000)), 4),
        floats(1000),
        floats(rows * 1000),
    )
    case("sum_rows, 1000-1000", spike_products._dense_current, (sum_rows,), 3, bits, BATCH, table, bias, 3, room, out)
    images = torch.from_numpy(floats(BATCH, 784) * (random.random((BATCH, 784)) < 0.19))
    listed, table = sparse.sparse_rows(images), spike_products.tiles_of(torch.from_numpy(floats(1000, 784)), 4)
    assert listed is not None
    arrays = listed.rows, listed.values, listed.counts
    case("sum_scaled, 784-1000", sparse._product, (sum_scaled,), len(table), *arrays, table, bias, floats(BATCH, 1000))
    q, table = floats(rows, 512), floats(1000, 512)
    arguments: tuple[Any, ...] = bits, 1000, q, table, True, floats(rows, 1000), floats(1000, 512)
    case("share_rows, 1000-1000", spike_products._dense_adjoints, (share_rows,), bits.shape[1], *arguments)
    arguments = bits, floats(rows, 10), floats(10, 1000), floats(rows, 1000), floats(1, 10, 1000)
    case("share_word, 1000-10", spike_products._few_adjoints, (share_word,), 1, *arguments)
    matrix, tiles = floats(1000, 784), floats(16, 784, 64)
    case("transpose, 784-1000", spike_products._tiles, (transpose,), 16 * 13, matrix, tiles)

    image, _ = packed(spikes(STEPS, BATCH, 12 * 12 * 12))
    seen, pixels, weights = spike_products._scaled(Window((12, 12), (5, 5), (1, 1), (0, 0)), 64)
    shared = image, 12, seen, pixels, weights
    arguments = *shared, floats(12 * 25, 64), floats(64), floats(rows, 64, 64)
    case("add_rows, 12 to 64C5", spike_products._conv_current, (add_rows,), rows, *arguments)
    arguments = *shared, floats(rows, 64, 64), floats(12 * 25, 64), True, floats(rows, 1728), floats(1, 300, 64)
    case("share_rows, 12 to 64C5", spike_products._conv_adjoints, (share_rows,), 1, *arguments)

    x, words, counts = spikes(rows, 1000).numpy(), zeros((rows, 16), np.uint64), zeros(rows, np.int64)
    case("nonzeros, non_ones, 1000 spikes", packing._pack, (nonzeros, non_ones), rows, x, words, counts)
    winner, out = zeros((rows, 12, 12, 12), np.uint8), floats(rows, 24, 24, 12)
    feedback = floats(rows, 1728) * (random.random((rows, 1728)) < 0.1).astype(np.float32)
    case("nonzeros, MP2", pool._max_pool_feedback, (nonzeros,), rows, feedback, winner, 2, 2, out)

    neuron = LIFNeuron(torch.tensor(0.9), torch.tensor(1.0), "subtract")
    for size in (10, 1000, 6912):
        constants = lif.constants(neuron, torch.empty(BATCH, size))
        current, state, words = (
            floats(STEPS, BATCH, size),
            floats(1, BATCH, size),
            zeros((rows, -(-size // 64)), np.uint64),
        )
        forward = current, state, floats(1, STEPS, BATCH, size), constants, floats(STEPS, BATCH, size), words, counts
        given = constants, np.float32(1e-6), current, floats(1, BATCH, size), floats(STEPS, BATCH, size)
        back = floats(1, STEPS, BATCH, size), state, *given
        case(f"step_forward, {size}", recursions.forward, (step_forward,), BATCH, *forward)
        case(f"step_back, {size}", recursions.feedback_epsilon, (step_back,), BATCH, *back)
        case(f"prefetch, {size}", recursions.forward, (prefetch,), BATCH, *forward)
    return found


def main(
    only: Annotated[str, typer.Option(help="Rows whose name holds this.")] = "",
    rounds: Annotated[int, typer.Option(help="Turns of each.")] = 60,
    threads: int = 1,
) -> None:
    """Time vector functions against loops, side by side."""
    torch.set_num_threads(threads)
    table = Table("vector function, where", "vectors ms", "loop ms", "gain, minima", "gain, medians")
    for name, kernel, loops, call in cases():
        if only not in name:
            continue
        runs = {"vectors": kernel, "loop": swapped(kernel, *loops)}
        times: dict[str, list[float]] = {what: [] for what in ("vectors", "loop")}
        for number in range(rounds + 1):
            for what, run in runs.items():
                started = time.perf_counter()
                call(run)
                if number:  # what is compiled does not count
                    times[what].append(1000 * (time.perf_counter() - started))
        least, median = ([f(times[what]) for what in runs] for f in (min, statistics.median))
        gains = (f"{loop / vectors:.2f}" for vectors, loop in (least, median))
        table.add_row(name, *(f"{each:.3f}" for each in least), *gains)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
