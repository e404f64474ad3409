"""The branch predictors of the example against slow replicas, the sign theorem in integers, traces and recorder."""

import platform
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from predictors import ONE, PATH, Gshare, MonoNet, Perceptron, Predictor
from record import Recipe, build, record
from run import best, candidates, mpki
from torch import Tensor
from traces import FOLDER, Trace, TraceError, load, save, stored

EXAMPLE = Path(__file__).parents[1] / "examples" / "branch_prediction"
SMALL = MonoNet(5, 2, (0, 1, 3, 9), clip=5, theta=2)
BUDGETS = [8192, 32768, 65536]


def branches(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Addresses of a few branches, half of them mostly taken, the others as the one before, with some noise."""
    chance = random.Random(seed)
    known = [chance.randrange(1 << 47) for _ in range(12)]
    addresses, taken = [], [False]
    for _ in range(count):
        addresses.append(chance.choice(known))
        taken.append((chance.random() < 0.1) ^ (taken[-1] or bool(addresses[-1] & 1)))
    return np.array(addresses, np.uint64), np.array(taken[1:])


def own(address: int, width: int) -> int:
    return (address ^ address >> width) % (1 << width)


def fold(bits: list[int], width: int) -> int:
    """Bits, the latest first, around a circle of `width`."""
    found = 0
    for position, bit in enumerate(bits):
        found ^= bit << position % width
    return found


def slow_gshare(predictor: Gshare, addresses: list[int], taken: list[bool]) -> tuple[list[bool], list[Any]]:
    counters, past, found = [1] * (1 << predictor.width), [0] * 64, []
    for address, outcome in zip(addresses, taken, strict=True):
        index = own(address, predictor.width) ^ fold(past[: predictor.history], predictor.width)
        found.append(counters[index] >= 2)
        counters[index] = sorted((0, counters[index] + (1 if outcome else -1), 3))[1]
        past = [int(outcome), *past[:-1]]
    return found, [counters]


def slow_perceptron(predictor: Perceptron, addresses: list[int], taken: list[bool]) -> tuple[list[bool], list[Any]]:
    weights = [[0] * (predictor.history + 1) for _ in range(predictor.rows)]
    past, found = [-1] * predictor.history, []
    for address, outcome in zip(addresses, taken, strict=True):
        row, inputs, target = weights[address % predictor.rows], [1, *past], 1 if outcome else -1
        y = sum(w * x for w, x in zip(row, inputs, strict=True))
        found.append(y > 0)
        if found[-1] != outcome or abs(y) <= predictor.threshold():
            row[:] = [sorted((-128, w + target * x, 127))[1] for w, x in zip(row, inputs, strict=True)]
        past = [target, *past][: predictor.history]
    return found, [weights]


def slots(net: MonoNet, address: int, past: list[int], path: list[int]) -> list[int]:
    """Where each table is read."""
    found = []
    for length in net.lengths:
        bits = past[:length]
        index = own(address, net.width) ^ fold(bits, net.width) ^ fold(bits, net.width - 1) << 1
        found.append(index ^ fold(path[: min(length, PATH)], net.width))
    return found


def slow_mono(net: MonoNet, addresses: list[int], taken: list[bool]) -> tuple[list[bool], list[Any]]:
    weights = [[0] * (1 << net.width) for _ in net.lengths]
    outputs = [[ONE] * net.units() for _ in range(1 << net.rows)]
    past, path, found = [0] * 64, [0] * 64, []
    most = 2 ** (net.weight_bits - 1)
    for address, outcome in zip(addresses, taken, strict=True):
        places, v = slots(net, address, past, path), outputs[own(address, net.rows)]
        read = [weights[table][place] for table, place in enumerate(places)]
        z = [sum(read[j * net.per_unit : (j + 1) * net.per_unit]) for j in range(net.units())]
        h = [sorted((-net.clip, value, net.clip))[1] for value in z]
        y = sum(a * b for a, b in zip(v, h, strict=True))
        found.append(y > 0)
        target = 1 if outcome else -1
        if found[-1] != outcome or abs(y) <= net.theta * ONE:
            for table, place in enumerate(places):
                if abs(z[table // net.per_unit]) < net.clip:
                    weights[table][place] = sorted((-most, read[table] + target, most - 1))[1]
            # int() cuts off toward 0
            v[:] = [sorted((0, w + int(target * x / 2**net.rate), 255))[1] for w, x in zip(v, h, strict=True)]
        past = [int(outcome), *past[:-1]]
        step = own(own(address, 4), 2)
        path = [step & 1, step >> 1, *path[:-2]]
    return found, [weights, outputs]


@pytest.mark.parametrize(
    ("predictor", "slow"),
    [
        (Gshare(4), slow_gshare),
        (Gshare(5, 3), slow_gshare),
        (Perceptron(7, 6), slow_perceptron),
        (SMALL, slow_mono),
        (MonoNet(4, 1, (0, 7, 64), per_unit=1, clip=3, theta=9, weight_bits=3, rate=0), slow_mono),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_predictors_equal_their_replicas(predictor: Any, slow: Any) -> None:
    addresses, taken = branches(700, seed=4)
    state = predictor.fresh()
    # in two parts: the state is all that is remembered
    parts = [predictor.run(addresses[a:b], taken[a:b], state) for a, b in ((0, 300), (300, 700))]
    predictions, tables = slow(predictor, [int(address) for address in addresses], taken.tolist())
    assert np.concatenate(parts).tolist() == predictions
    assert [table.tolist() for table in state[:-1]] == tables
    assert np.mean(predictions == taken) > 0.5


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), quiet=st.booleans())
def test_no_coordinate_of_the_update_goes_against_the_gradient(seed: int, quiet: bool) -> None:
    chance = np.random.default_rng(seed)
    weights, outputs, registers = SMALL.fresh()
    weights[:] = chance.integers(-1, 2, weights.shape) if quiet else chance.integers(-8, 8, weights.shape)
    outputs[:] = chance.integers(0, 2 * ONE, outputs.shape) * chance.integers(0, 2, outputs.shape)
    registers[:] = chance.integers(0, 2**63, 2, dtype=np.uint64)
    past, path = ([int(value) >> k & 1 for k in range(64)] for value in registers)
    before = [torch.tensor(table, dtype=torch.float64, requires_grad=True) for table in (weights, outputs)]
    address, outcome = int(chance.integers(0, 2**47)), bool(chance.integers(0, 2))

    read = before[0][torch.arange(len(SMALL.lengths)), torch.tensor(slots(SMALL, address, past, path))]
    hidden = torch.nn.functional.hardtanh(read.view(SMALL.units(), -1).sum(1), -SMALL.clip, SMALL.clip)
    y: Tensor = before[1][own(address, SMALL.rows)] @ hidden
    loss = (SMALL.theta * ONE + 0.5 - (1 if outcome else -1) * y).relu()
    loss.backward()

    [prediction] = SMALL.run(np.array([address], np.uint64), np.array([outcome]), (weights, outputs, registers))
    assert prediction == (y > 0)
    changes = [torch.from_numpy(table) - old.detach() for table, old in zip((weights, outputs), before, strict=True)]
    for change, old in zip(changes, before, strict=True):
        assert old.grad is not None
        assert (change * old.grad <= 0).all()
    # and it is no standing still: what has a gradient moves, unless it is at its limit
    assert before[0].grad is not None
    moving = (before[0].grad != 0) & (before[0] > -8) & (before[0] < 7)
    assert (changes[0][moving] != 0).all()
    assert (outputs >= 0).all()
    if not loss:
        assert not any(change.any() for change in changes)


@pytest.mark.parametrize("budget", BUDGETS)
def test_storage_is_within_the_budget_and_all_of_it_is_counted(budget: int) -> None:
    for kind, choices in candidates(budget).items():
        for predictor in choices:
            tables = predictor.fresh()[:-1]
            if isinstance(predictor, Gshare):
                counted, registers = 2 * tables[0].size, predictor.history
                assert counted == budget, kind
            elif isinstance(predictor, Perceptron):
                counted, registers = 8 * tables[0].size, predictor.history
            else:
                assert isinstance(predictor, MonoNet)
                counted = predictor.weight_bits * tables[0].size + 8 * tables[1].size
                registers = max(predictor.lengths) + PATH
            assert predictor.bits() == counted + registers, kind
            assert predictor.bits() <= budget + (registers if isinstance(predictor, Gshare) else 0), kind


@pytest.mark.parametrize(
    ("predictor", "limits"),
    [
        (Gshare(6, 3), [(0, 3)]),
        (Perceptron(3, 8), [(-128, 127)]),
        (MonoNet(5, 2), [(-8, 7), (0, 255)]),
    ],
)
def test_values_fit_into_the_bits_they_are_counted_with(predictor: Predictor, limits: list[tuple[int, int]]) -> None:
    trace = load(FOLDER / "gzip.npz")
    state = predictor.fresh()
    predictor.run(trace.addresses[trace.ids], trace.taken, state)
    for table, (least, most) in zip(state[:-1], limits, strict=True):
        assert least <= table.min() < table.max() <= most


def test_mono_net_beats_gshare_of_the_same_storage_on_most_traces() -> None:
    traces = stored()
    rates = {}
    for kind, choices in candidates(32768).items():
        if kind in ("gshare", "mono-net"):
            rates[kind] = mpki(best(choices, traces)[1], traces)
    wins = [name for name in traces if rates["mono-net"][name] < rates["gshare"][name]]
    assert len(wins) >= len(traces) / 2


def test_steps_grow_with_the_layers_only_by_back_propagation() -> None:
    net = MonoNet(9, 6)
    assert net.steps()[1] == 4
    assert [net.steps_of_back_propagation(hidden) for hidden in (1, 2, 3)] == [5, 10, 15]
    # read, flip, 4 levels for 13 terms, compare
    assert Perceptron(8, 12).steps() == (7, 3)
    assert Gshare(12).steps()[0] < Gshare(12, 4).steps()[0] < net.steps()[0]


def test_stored_traces_hold_what_they_say() -> None:
    traces = stored()
    assert 6 <= len(traces) <= 12
    for name, trace in traces.items():
        assert len(trace.ids) == len(trace.taken) == 200_000, name
        assert set(np.unique(trace.ids)) == set(range(len(trace.addresses))), name
        assert len(trace.ids) < trace.instructions < 20 * len(trace.ids), name
        assert 0.1 < trace.taken.mean() < 0.9, name
        assert trace.command, name
    assert sum(path.stat().st_size for path in FOLDER.glob("*.npz")) < 2_000_000


def test_traces_come_back_as_they_were_saved(tmp_path: Path) -> None:
    trace = Trace(np.array([7, 9], np.uint64), np.array([1, 0, 1], np.uint16), np.array([True, False, True]), 11, "a")
    save(tmp_path / "new" / "a.npz", trace)
    [(name, found)] = stored(tmp_path / "new").items()
    assert name == "a"
    for field in ("addresses", "ids", "taken"):
        np.testing.assert_array_equal(getattr(found, field), getattr(trace, field))
    assert (found.instructions, found.command) == (11, "a")


def test_what_is_no_trace_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no trace in"):
        stored(tmp_path)
    (tmp_path / "a.npz").write_text("none")
    with pytest.raises(TraceError, match=r"is no trace of record\.py"):
        stored(tmp_path)
    save(tmp_path / "a.npz", Trace(np.zeros(1, np.uint64), np.array([1], np.uint16), np.array([True]), 5, ""))
    with pytest.raises(TraceError, match="damaged"):
        stored(tmp_path)


def test_run_prints_its_tables_for_traces_of_ones_own(tmp_path: Path) -> None:
    addresses, taken = branches(3000, seed=1)
    known, ids = np.unique(addresses, return_inverse=True)
    save(tmp_path / "mine.npz", Trace(known, ids.astype(np.uint16), taken, 20_000, "mine"))
    command = [sys.executable, "-W", "error", str(EXAMPLE / "run.py"), "--kib", "1", "--folder", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "mine" in run.stdout
    assert "latency in parallel steps" in run.stdout
    bad = subprocess.run([*command, "--kib", "3"], capture_output=True, text=True)
    assert bad.returncode == 2
    assert "a budget must be a power of two of KiB, found 3" in bad.stderr


LOOP = """
.globl _start
_start:
    mov $1000, %ecx
again:
    dec %ecx
    jnz again
    test %esp, %esp
    .byte 0x0f, 0x84, 0, 1, 0, 0    # a long jump if zero, not taken
    jrcxz over
    nop
over:
    mov $50, %ecx
    lea -200(%rsp), %rdi
    rep stosb
    mov $60, %eax
    xor %edi, %edi
    syscall
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64" or shutil.which("gcc") is None,
    reason="the recorder needs gcc and Linux on x86-64",
)
def test_recorder_counts_the_branches_of_a_known_program(tmp_path: Path) -> None:
    source, program = tmp_path / "loop.s", tmp_path / "loop"
    source.write_text(LOOP)
    subprocess.run(["gcc", "-nostdlib", "-static", "-o", str(program), str(source)], check=True)
    stepper = build(tmp_path)
    try:
        trace = record(stepper, Recipe([str(program)]))
    except TraceError as error:
        if "ptrace" in str(error):
            pytest.skip("this system does not let a program trace another")
        raise
    assert len(trace.addresses) == 3
    assert np.bincount(trace.ids).tolist() == [1000, 1, 1]
    assert trace.taken.tolist() == [True] * 999 + [False, False, True]
    # 1 before the loop, 2 in it, 3 after it, and 5 up to the last one, which never returns; rep counts once
    assert trace.instructions == 1 + 2 * 1000 + 3 + 5
    assert record(stepper, Recipe([str(program)]), count=10).taken.tolist() == [True] * 10
    with pytest.raises(TraceError, match=r"no branch of .*loop was recorded: it ended before"):
        record(stepper, Recipe([str(program)], skip=1))
    with pytest.raises(TraceError, match="no-such-program: No such file"):
        record(stepper, Recipe(["no-such-program"]))
