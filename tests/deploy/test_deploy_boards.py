"""Programs for bare boards in qemu, and how weights are packed for them."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import integer_networks as make
from spiking_lfp import export
from spiking_lfp.deploy.backends.c import CRuntime, compiler
from spiking_lfp.deploy.chips.c import BOARDS as PROGRAMS
from spiking_lfp.deploy.formats.c import BOARDS, write_c
from spiking_lfp.deploy.layers import Conv, Flatten
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.errors import UsageError

NEEDED = {
    "cortex-m4": ("arm-none-eabi-gcc", "qemu-system-arm"),
    "cortex-m0": ("arm-none-eabi-gcc", "qemu-system-arm"),
    "rv32": ("riscv64-unknown-elf-gcc", "qemu-system-riscv32"),
}


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest) -> str:
    """Every board whose tools are there."""
    name = str(request.param)
    missing = [PROGRAMS[program] for program in NEEDED[name] if shutil.which(program) is None]
    missing += ["make"] if shutil.which("make") is None else []
    if missing:
        pytest.skip(f"{name} needs the packages {' '.join(missing)}")
    return name


def call_make(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    # a make below another one, as of these tests, tells of folders
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=False, timeout=300)


def recorded(net: IntegerNetwork, samples: int = 2) -> IntegerNetwork:
    return with_golden_run(net, make.inputs_for(net, samples))


def assert_golden(net: IntegerNetwork, folder: Path, board: str) -> None:
    write_c(net, folder, board)
    done = call_make(folder, "board")
    assert done.returncode == 0, done.stderr + done.stdout
    assert net.golden is not None
    for name, spikes in net.golden.spikes.items():
        assert f"layer {name}: {spikes.sum()} spikes, 0 differ" in done.stdout
    figures = re.search(rf"{board}: (\d+) bytes of flash, (\d+) bytes of RAM", done.stdout)
    instructions = re.search(r"(\d+) instructions a sample", done.stdout)
    assert figures is not None
    assert instructions is not None
    weights = sum(layer.weight.size for layer in net.spiking)
    neurons = sum(layer.neurons for layer in net.spiking)
    assert weights / 4 < int(figures[1]) < weights * 4 + 40_000
    assert 5 * neurons < int(figures[2]) < 30 * neurons + 20_000
    # every neuron takes some in every step
    assert int(instructions[1]) > 5 * neurons * net.steps


def test_the_golden_run_of_a_convolution(board: str, tmp_path: Path) -> None:
    assert_golden(recorded(make.lenet()), tmp_path, board)


def test_the_golden_run_of_a_graph(board: str, tmp_path: Path) -> None:
    assert_golden(recorded(make.graph(1, 255)), tmp_path, board)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_golden_run_of_a_dense_network(board: str, bits: int, tmp_path: Path) -> None:
    assert_golden(recorded(make.mlp((150, 70, 9), bits=bits, levels=255)), tmp_path, board)


def test_the_golden_run_of_samples_by_whose_number_a_shift_does_not_divide(board: str, tmp_path: Path) -> None:
    assert_golden(recorded(make.mlp((40, 30, 5)), 3), tmp_path, board)


def test_a_program_takes_steps_from_an_interrupt(board: str, tmp_path: Path) -> None:
    net = recorded(make.mlp((40, 30, 5), steps=7), 4)
    write_c(net, tmp_path, board)
    done = call_make(tmp_path, "-s", "stream")
    assert done.returncode == 0, done.stderr
    assert net.golden is not None
    counts = net.golden.spikes["1"].sum(0)
    assert len(set(counts.argmax(1))) > 1
    assert done.stdout.split() == [net.class_names[best] for best in counts.argmax(1)]


def test_a_program_says_the_classes_of_a_file(board: str, tmp_path: Path) -> None:
    net = recorded(make.mlp((40, 30, 5), levels=255, steps=7))
    write_c(net, tmp_path, board)
    inputs = make.inputs_for(net, 5, 3)
    (tmp_path / "samples.bin").write_bytes(inputs.tobytes())
    done = call_make(tmp_path, "-s", "classes", "SAMPLES=samples.bin")
    assert done.returncode == 0, done.stderr
    found = simulate(net, inputs)
    assert len(set(found.predictions)) > 1
    expected = [f"{net.class_names[best]}\t{found.counts[k, best]}" for k, best in enumerate(found.predictions)]
    assert done.stdout.splitlines() == expected
    for name, said in (("none", "no file SAMPLES=none: name one"), ("short", "the last sample is incomplete")):
        (tmp_path / "short").write_bytes(inputs.tobytes()[:-1])
        done = call_make(tmp_path, "-s", "classes", f"SAMPLES={name}")
        assert done.returncode != 0
        assert said in done.stderr + done.stdout


def test_a_program_holds_more_samples_than_the_smallest_machine_of_a_board(board: str, tmp_path: Path) -> None:
    """A Cortex-M0 is then another machine than with few samples: 256K of flash are all of a micro:bit."""
    net = make.mlp((784, 5), levels=255, steps=2)
    write_c(net, tmp_path, board)
    inputs = make.inputs_for(net, 400, 3)
    (tmp_path / "samples.bin").write_bytes(inputs.tobytes())
    done = call_make(tmp_path, "-s", "classes", "SAMPLES=samples.bin")
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    names = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert names == [net.class_names[best] for best in simulate(net, inputs).predictions]


def test_a_spike_that_differs_and_memory_that_is_too_small_end_in_errors(board: str, tmp_path: Path) -> None:
    net = recorded(make.mlp((40, 30, 5)))
    assert net.golden is not None
    flipped = {name: spikes.copy() for name, spikes in net.golden.spikes.items()}
    flipped["1"][-1, -1, -1] ^= 1
    write_c(replace(net, golden=replace(net.golden, spikes=flipped)), tmp_path, board)
    done = call_make(tmp_path, "board")
    assert done.returncode != 0
    assert "1 differ" in done.stdout
    (tmp_path / "selftest.elf").unlink()
    small = call_make(tmp_path, "board", "FLASH=1K")
    assert small.returncode != 0
    assert "FLASH" in small.stderr
    assert "overflowed" in small.stderr


def test_the_runtime_needs_no_c_library(board: str, tmp_path: Path) -> None:
    write_c(recorded(make.lenet()), tmp_path, board)
    compiler_name, _ = NEEDED[board]
    flags = re.search(r"BOARD_CFLAGS = (.*)", (tmp_path / "board.mk").read_text())
    assert flags is not None
    command = [compiler_name, "-std=c99", "-O2", *flags[1].split(), "-ffreestanding", "-c", "slfp.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    names = subprocess.run(
        [compiler_name.replace("gcc", "nm"), "-u", "slfp.o"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert {"memcpy", "memset"} >= {name for name in names.stdout.split()[1::2] if not name.startswith("__")}


def test_boards_are_known_by_name_and_belong_to_c(tmp_path: Path) -> None:
    net = make.mlp((9, 8, 3))
    with pytest.raises(UsageError, match="cortex-m4"):
        write_c(net, tmp_path, "cortex-m44")
    with pytest.raises(UsageError, match="add the format c"):
        export(net, to=["nir"], out=tmp_path, board="rv32")
    export(net, to=["c"], out=tmp_path, board="rv32")
    assert "rv32" in (tmp_path / "c" / "board.mk").read_text()
    # without a board that of the network before is gone
    export(net, to=["c"], out=tmp_path)
    assert not (tmp_path / "c" / "board.mk").exists()


def words_of(folder: Path, number: int) -> tuple[list[int], int, int]:
    """The words of a layer's weights in network.h, their bits, and the words of a row."""
    text = (folder / "network.h").read_text()
    array = re.search(rf"uint32_t weight_{number}\[\d+\] = {{([^}}]*)}}", text)
    entry = re.search(rf"weight = weight_{number},\s*.weight_bits = (\d+),\s*.row_words = (\d+),", text)
    assert array is not None
    assert entry is not None
    return [int(word) for word in re.findall(r"\d+", array[1])], int(entry[1]), int(entry[2])


@pytest.mark.parametrize(
    ("largest", "bits"), [(1, 2), (2, 4), (7, 4), (8, 8), (127, 8)]
)  # fmt: skip
@pytest.mark.parametrize("outputs", [1, 3, 16, 33])
def test_weights_take_as_few_bits_as_hold_them(largest: int, bits: int, outputs: int, tmp_path: Path) -> None:
    random = np.random.default_rng(outputs)
    weight = random.integers(-largest, largest + 1, (outputs, 21)).astype(np.int8)
    weight[0, 0] = -largest
    layer = make.changed(make.dense("0", 21, outputs), weight=weight)
    write_c(make.network([layer]), tmp_path)
    words, found, row_words = words_of(tmp_path, 0)
    assert found == bits
    for i in range(21):
        for o in range(outputs):
            bit = i * row_words * 32 + o * bits if row_words else (i * outputs + o) * bits
            stored = words[bit // 32] >> bit % 32 & 2**bits - 1
            assert stored == (int(weight[o, i]) & 255 if bits == 8 else weight[o, i] + 2 ** (bits - 1) - 1)
    # padding is never most of it, and one word follows
    assert 4 * (len(words) - 1) <= 2 * weight.size * bits / 8 + 4


def test_fewer_bits_are_less_memory(tmp_path: Path) -> None:
    sizes = {}
    for bits in (2, 4, 8):
        write_c(make.mlp((100, 160, 64), bits=bits), tmp_path)
        sizes[bits] = sum(len(words_of(tmp_path, k)[0]) - 1 for k in range(2))
    assert sizes[8] == 2 * sizes[4] == 4 * sizes[2]


def packed_conv(bits: int, outputs: int, groups: int, seed: int, levels: int) -> Conv:
    layer = make.conv("0", (4, 6, 5), outputs, seed=seed, padding=(1, 1), groups=groups, levels=levels, frac_bits=0)
    largest = 2 ** (bits - 1) - 1
    weight = np.random.default_rng(seed).integers(-largest, largest + 1, layer.weight.shape).astype(np.int8)
    changed = make.changed(layer, weight=weight, theta=np.full(outputs, largest * levels, np.int32))
    assert isinstance(changed, Conv)
    return changed


@pytest.mark.skipif(compiler() is None, reason="a C compiler is needed")
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("outputs", "groups"), [(4, 4), (8, 4), (20, 2), (7, 1), (33, 1)])
@pytest.mark.parametrize("levels", [1, 255])
def test_packed_convolutions_agree_with_the_simulator(bits: int, outputs: int, groups: int, levels: int) -> None:
    first = packed_conv(bits, outputs, groups, outputs, levels)
    flat = Flatten("1", first.out_shape)
    net = make.network([first, flat, make.dense("2", flat.out_shape[0], 5, bits=bits, gain=0.05)], 6, levels)
    inputs = make.inputs_for(net, 3, rate=0.7)
    expected = simulate(net, inputs, record=True).spikes
    assert 0 < expected["0"].mean() < 1
    assert expected["2"].any()
    found = CRuntime(("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")).run(net, inputs)
    for name, spikes in expected.items():
        np.testing.assert_array_equal(found[name], spikes)


@pytest.mark.skipif(compiler() is None, reason="a C compiler is needed")
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("sign", [-1, 1])
def test_all_inputs_at_once_with_the_largest_weights(bits: int, sign: int) -> None:
    # lanes of sums are as full as they can be
    largest = 2 ** (bits - 1) - 1
    layer = make.dense("0", 300, 40, bits=bits, frac_bits=0)
    weight = np.full((40, 300), sign * largest, np.int8)
    weight[1::3] = -weight[1::3]
    layer = make.changed(layer, weight=weight, theta=np.full(40, 300 * largest * 5, np.int32))
    net = make.network([layer], 13)
    inputs = np.ones((13, 1, 300), np.uint8)
    expected = simulate(net, inputs, record=True).spikes["0"]
    assert expected.any()
    assert not expected.all()
    np.testing.assert_array_equal(CRuntime().run(net, inputs)["0"], expected)
