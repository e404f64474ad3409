"""The Verilog core in two simulators against the integer simulator, its exported folder, its cycles, its synthesis."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from helpers import integer_networks as make
from spiking_lfp.deploy.backends.verilog import VerilogCore, synthesise
from spiking_lfp.deploy.chip import Backend
from spiking_lfp.deploy.chips import backend
from spiking_lfp.deploy.formats import verilog
from spiking_lfp.deploy.formats.fpga import write_board
from spiking_lfp.deploy.hardware import hardware_folder
from spiking_lfp.deploy.layers import Flatten, Layer, MaxPool
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.errors import ExportError
from spiking_lfp.integers.arithmetic import INTEGER_RESETS

SIMULATORS = ("icarus", "verilator")


def core_in(simulator: str) -> VerilogCore:
    found = backend(simulator)
    assert isinstance(found, VerilogCore)
    return found


def need(name: str) -> VerilogCore:
    found = core_in(name)
    missing = found.missing()
    if missing is not None:
        pytest.skip(missing)
    return found


def agree(core: VerilogCore, net: IntegerNetwork, inputs: make.Array) -> None:
    expected = simulate(net, inputs, record=True).spikes
    assert core.unsupported(net) is None
    found = core.run(net, inputs)
    assert list(found) == list(expected)
    for name, spikes in expected.items():
        assert spikes.any(), name
        assert found[name].dtype == np.uint8
        np.testing.assert_array_equal(found[name], spikes, err_msg=name)


def volume(layer: Layer) -> tuple[int, int, int]:
    channels, height, width = layer.out_shape
    return channels, height, width


def convolutions(seed: int, levels: int) -> IntegerNetwork:
    """Stride, padding, groups that share a word, kernels that are not square, windows that overlap."""
    reset = INTEGER_RESETS[seed % 3]
    first = make.conv(
        "0", (2, 7, 8), 6, (3, 2), seed, 410, reset, (1, 2), (2, 1), 2, 0.1, 0 if levels > 1 else 6, levels
    )
    pool = MaxPool("1", first.out_shape, 3, 2)
    second = make.conv("2", volume(pool), 9, (2, 2), seed + 1, 0, reset, (2, 1), (1, 0), 3, 0.1)
    # a stride beyond the kernel leaves inputs out
    third = make.conv("3", volume(second), 12, (1, 1), seed + 2, 4095, reset, (2, 2), (0, 1), 1, 0.1)
    flat = Flatten("4", third.out_shape)
    return make.network(
        [first, pool, second, third, flat, make.dense("5", flat.out_shape[0], 3, seed, gain=0.02)], 8, levels
    )


def saturating() -> tuple[IntegerNetwork, make.Array]:
    """Neurons driven to one end of their range for nine steps, then back: where it ends decides when they spike."""
    sign = np.array([[1], [-1]] * 6) * np.repeat([1, -1], 500)
    first = make.changed(
        make.dense("0", 1000, 12, 3, 0),
        weight=(127 * sign).astype(np.int8),
        bias=np.zeros(12, np.int32),
        theta=np.array([131070, 50000] * 6, np.int32),
    )
    net = make.network([first, make.dense("1", 12, 4, 1, gain=0.1)], 20)
    inputs = np.zeros((20, 1, 1000), np.uint8)
    inputs[:9, :, :500] = inputs[9:, :, 500:] = 1
    return net, inputs


NETWORKS: dict[str, Callable[[], IntegerNetwork]] = {
    **{
        f"{reset}, decay {decay}, levels {levels}": partial(
            make.mlp, (33, 17, 9, 5), decay, decay, reset, steps=9, levels=levels
        )
        for reset in INTEGER_RESETS
        for decay, levels in ((0, 1), (410, 255), (4095, 1))
    },
    "convolutions of images": partial(convolutions, 1, 255),
    "convolutions of spikes": partial(convolutions, 8, 1),
    "convolutions of spikes, zero": partial(convolutions, 3, 1),
    "lenet": partial(make.lenet, seed=1, steps=6),
    "4 bits, 4 grey levels": partial(make.mlp, seed=5, bits=4, levels=3),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_spikes_are_those_of_the_integer_simulator(simulator: str, name: str) -> None:
    core, net = need(simulator), NETWORKS[name]()
    agree(core, net, make.inputs_for(net, 3, 1, 0.4))


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_membranes_saturate(simulator: str) -> None:
    core, (net, inputs) = need(simulator), saturating()
    outcome = simulate(net, inputs)
    assert outcome.counters["0"].saturated > 0
    agree(core, net, inputs)


@pytest.mark.parametrize(("lanes", "adds"), [(1, 4), (3, 2), (16, 1), (64, 2), (2, 3)])
def test_any_number_of_lanes_and_of_weights_added_in_a_cycle(lanes: int, adds: int) -> None:
    core = replace(need("icarus"), lanes=lanes, adds=adds)
    for net in (convolutions(4, 255), convolutions(5, 1)):
        agree(core, net, make.inputs_for(net, 2, 1, 0.4))


def test_a_network_that_begins_with_flatten_and_one_that_begins_with_pooling() -> None:
    core = need("icarus")
    flat = Flatten("0", (2, 3, 4))
    for levels in (1, 255):
        hidden = make.dense("1", 24, 9, 0, frac_bits=6 if levels == 1 else 0, levels=levels)
        net = make.network([flat, hidden, make.dense("2", 9, 4, 1)], 5, levels)
        agree(core, net, make.inputs_for(net, 2, 2, 0.4))
    pool = MaxPool("0", (3, 5, 4), 2, 1)
    net = make.network([pool, Flatten("1", pool.out_shape), make.dense("2", 36, 4)], 5)
    agree(core, net, make.inputs_for(net, 2, 2, 0.2))


def test_sequences_of_another_length() -> None:
    core, net = need("icarus"), make.mlp(steps=4)
    inputs = make.inputs_for(replace(net, steps=9), 2)
    agree(core, net, inputs)


def exported(folder: Path, lanes: int = 8) -> Path:
    net = make.lenet(steps=5)
    paths = verilog.write_verilog(with_golden_run(net, make.inputs_for(net, 2)), folder, lanes)
    assert sorted(paths) == sorted(folder.iterdir())
    return folder


def run_make(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def core_of_lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a core, built in both simulators where they are there."""
    folder = exported(tmp_path_factory.mktemp("core"))
    for target in SIMULATORS:
        if core_in(target).missing() is None:
            assert run_make(folder, target).returncode == 0
    return folder


@pytest.mark.parametrize("target", ["icarus", "verilator"])
def test_the_exported_folder_checks_itself(tmp_path: Path, target: str) -> None:
    need(target)
    folder = exported(tmp_path / "out")
    done = run_make(folder, target)
    assert done.returncode == 0, done.stderr
    assert "all spikes are equal to those of the golden run" in done.stdout
    golden = (folder / "golden.hex").read_bytes()
    last = golden.rindex(b"\n", 0, -1) + 1
    flipped = f"{int(golden[last:], 16) ^ 1:02x}\n".encode()
    (folder / "golden.hex").write_bytes(golden[:last] + flipped)
    assert run_make(folder, target).returncode != 0


@pytest.mark.parametrize("target", ["icarus", "verilator"])
@pytest.mark.parametrize("wrong", ["SAMPLES=-1", "SAMPLES=3x", "STEPS=0", "STEPS=-1", "STEPS=65536", "WORDS=0"])
def test_a_simulation_with_a_wrong_number_says_so_and_compares_nothing(
    target: str, wrong: str, core_of_lenet: Path, tmp_path: Path
) -> None:
    need(target)
    folder = Path(shutil.copytree(core_of_lenet, tmp_path / "core"))
    # of a simulation before, with the right numbers
    shutil.copyfile(folder / "golden.hex", folder / "spikes.hex")
    done = run_make(folder, target, wrong)
    assert done.returncode != 0
    said = "Invalid decimal value" if (target, wrong) == ("icarus", "SAMPLES=3x") else "expected"
    assert said in done.stdout + done.stderr
    assert "all spikes are equal" not in done.stdout


def test_simulators_have_nothing_to_say_about_the_sources(tmp_path: Path) -> None:
    need("icarus")
    need("verilator")
    nets = {
        "kernels": make.lenet(steps=5),
        "dense": make.mlp((33, 17, 5), steps=4),
        "pixels": make.mlp((33, 17, 5), steps=4, levels=255),
    }
    for name, net in nets.items():
        for lanes in (1, 8):
            folder = tmp_path / f"{name}{lanes}"
            verilog.write_verilog(net, folder, lanes)
            for command in (
                ["iverilog", "-g2005", "-Wall", "-I.", "-tnull", "slfp_tb.v", *verilog.SOURCES],
                ["verilator", "--lint-only", "-Wall", "-I.", "--top-module", "slfp_core", *verilog.SOURCES],
            ):
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
                assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), name


def test_every_source_forbids_names_without_a_declaration_and_leaves_others_as_they_were() -> None:
    sources = [*hardware_folder("rtl").glob("*.v"), *hardware_folder("fpga").glob("*.v")]
    assert len(sources) > 10
    for source in sources:
        before, _, module = source.read_text().partition("\nmodule ")
        assert before.rstrip().endswith("\n`default_nettype none"), source.name
        assert module.endswith("endmodule\n\n`default_nettype wire\n"), source.name


def test_the_exported_folder_notices_a_changed_weight(tmp_path: Path) -> None:
    need("icarus")
    folder = exported(tmp_path)
    weights = (folder / "weights.hex").read_text().splitlines()
    (folder / "weights.hex").write_text("\n".join("81" * 8 for _ in weights))
    assert run_make(folder, "icarus").returncode != 0


def test_spikes_survive_their_file() -> None:
    net = convolutions(6, 1)
    spikes = simulate(net, make.inputs_for(net, 2), record=True).spikes
    for lanes in (1, 5, 8, 64):
        lines = verilog.spike_lines(net, spikes, lanes)
        for name, found in verilog.read_spikes(net, lines, net.steps, 2, lanes).items():
            np.testing.assert_array_equal(found, spikes[name])
    with pytest.raises(ExportError, match="expected"):
        verilog.read_spikes(net, lines[:-1], net.steps, 2, 64)
    with pytest.raises(ExportError, match="neither 0 nor 1"):
        verilog.read_spikes(net, b"x" + lines[1:], net.steps, 2, 64)


@pytest.mark.parametrize(("adds", "spans"), [(1, 5), (2, 3), (4, 2)])
def test_cycles_follow_events(adds: int, spans: int) -> None:
    core = replace(need("icarus"), adds=adds)
    net = make.mlp((64, 40, 5), steps=8)
    silent, busy = np.zeros((8, 1, 64), np.uint8), make.inputs_for(net, 1, rate=0.5)
    run = core.measure(net, np.concatenate([silent, busy, silent], 1))
    events = [busy.sum(), run.spikes["0"][:, 1].sum()]
    quiet = [run.spikes["0"][:, 0].sum(), 0]
    # an input spike takes a cycle for each span of the neurons it reaches; a hidden one reaches a single span
    assert run.cycles[1] - run.cycles[0] == pytest.approx(spans * events[0] + events[1] - quiet[0], rel=0.1)
    assert run.cycles[0] == run.cycles[2]
    assert core.measure(net, busy).cycles == run.cycles[1]


def test_silence_takes_the_cycles_that_the_readme_says() -> None:
    core = need("icarus")
    pool = MaxPool("0", (10, 6, 6), 2, 2)
    hidden, last = make.dense("2", 90, 20), make.dense("3", 20, 5)
    layers = [replace(layer, bias=np.zeros_like(layer.bias)) for layer in (hidden, last)]
    net = make.network([pool, Flatten("1", pool.out_shape), *layers], 7)
    # words of 8 channels: the hidden layer sees 9 pixels of 2 words, has 3 words itself, and the last one has 1
    step = (11 + 9 * 2 * 4) + (9 + 9 * 2 + 3) + (9 + 3 + 1) + 7
    assert core.measure(net, np.zeros((7, 1, 10, 6, 6), np.uint8)).cycles == 7 * step
    # of dense layers only, words of zeros take no time
    net = make.network([replace(make.dense("2", 90, 20), bias=layers[0].bias), layers[1]], 7)
    assert core.measure(net, np.zeros((7, 1, 90), np.uint8)).cycles == 7 * ((9 + 3 + 1) + (9 + 1 + 1) + 7)


def test_a_dense_core_reads_what_is_not_zero() -> None:
    """Words and pixels in any place, alone, all, and after a sample with more of them."""
    core = need("icarus")
    for levels in (1, 9):
        net = make.mlp((40, 70, 9, 5), steps=4, levels=levels)
        inputs = make.inputs_for(net, 5, 3, 0.9)
        each = inputs if levels > 1 else inputs.swapaxes(0, 1)
        each[1], each[2], each[3] = 0, 1, 0
        each[3, ..., 39] = 1
        agree(core, net, inputs)


@pytest.mark.parametrize(("outputs", "lanes", "adds"), [(5, 8, 1), (64, 8, 1), (64, 8, 4), (64, 1, 1)])
@pytest.mark.parametrize("levels", [1, 9])
def test_a_dense_core_takes_a_cycle_for_each_span_of_an_event(outputs: int, lanes: int, adds: int, levels: int) -> None:
    """And four before the first and after the last, five with the product of a pixel; as hardware/README.md says."""
    net, core = make.mlp((40, outputs), steps=1, levels=levels), replace(need("icarus"), lanes=lanes, adds=adds)
    events = [[], [39], [0, 1, 2], [0, 8, 16, 24], list(range(40))]
    inputs = np.zeros((len(events), 40), np.int64)
    for sample, places in zip(inputs, events, strict=True):
        sample[places] = levels
    found = core.measure(net, inputs if levels > 1 else inputs[None]).cycles
    words, spans = -(-outputs // lanes), -(-outputs // (lanes * adds))
    expected = [len(places) * spans + (4 if levels == 1 else 5) if places else 1 for places in events]
    assert (found - (9 + words + 7)).tolist() == expected


def test_both_simulators_count_the_same_cycles() -> None:
    cores = [need(name) for name in SIMULATORS]
    for net in (make.lenet(steps=4), make.mlp()):
        found, expected = (core.measure(net, make.inputs_for(net, 2)).cycles for core in cores)
        assert np.array_equal(found, expected)


def test_synthesis_counts_resources(tmp_path: Path) -> None:
    if shutil.which("yosys") is None:
        pytest.skip("yosys is not installed: apt-get install yosys")
    found = synthesise(make.mlp((16, 16, 4)), tmp_path)
    # one lane: 320 weights of 8 bits fill a block RAM, the leak is a product of 23 and 13 bits
    assert found["block_rams"] >= 1
    assert found["multipliers"] >= 2
    assert 500 < found["luts"] < 5000
    assert 300 < found["flip_flops"] < 3000
    assert "SB_LUT4" in (tmp_path / "resources.txt").read_text()


def test_what_the_core_refuses() -> None:
    core = core_in("icarus")
    pooled = MaxPool("first", (1, 4, 4), 2, 2)
    still = replace(make.network([pooled, Flatten("f", (1, 2, 2)), make.dense("d", 4, 2)]), encoder="constant")
    assert core.unsupported(still) == "layer first: the core cannot pool constant inputs"
    assert core.unsupported(replace(make.mlp(), steps=70000)) == "70000 steps, the core counts to 65535"
    wide = make.network([make.conv("wide", (1, 1, 300), 1, (1, 300)), Flatten("f", (1, 1, 1)), make.dense("d", 1, 2)])
    assert core.unsupported(wide) == "layer wide: kernel, stride or padding is 300, the core holds 255"
    many = make.network([make.dense("0", 70000, 4, bits=2), make.dense("1", 4, 2)])
    assert core.unsupported(many) == "layer 0: a height, width or number of channels is 70000, the core counts to 65535"
    with pytest.raises(ExportError, match="70000"):
        verilog.layout(many)
    with pytest.raises(ExportError, match=r"1\.\.64 lanes, not 65"):
        verilog.layout(make.mlp(), 65)


def test_missing_programs_and_failures_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = core_in("icarus")
    net = make.mlp()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert core.missing() == "iverilog is not installed: apt-get install iverilog"
    with pytest.raises(ExportError, match="apt-get install iverilog"):
        core.run(net, make.inputs_for(net))
    with pytest.raises(ExportError, match="apt-get install yosys"):
        synthesise(net, tmp_path / "out")
    for name in ("iverilog", "vvp"):
        (tmp_path / name).write_text("#!/bin/sh\necho it broke >&2\nexit 3\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(ExportError, match="iverilog failed with 3: it broke"):
        core.run(net, make.inputs_for(net))
    (tmp_path / "taken").write_text("")
    with pytest.raises(ExportError, match="cannot create"):
        verilog.write_verilog(net, tmp_path / "taken")


def test_nothing_of_an_export_before_is_mixed_in(tmp_path: Path) -> None:
    need("icarus")
    net = make.mlp((16, 16, 4))
    write_board(with_golden_run(net, make.inputs_for(net, 2)), tmp_path, "icebreaker")
    other = make.mlp((20, 9, 4), 1)
    files = verilog.write_verilog(other, tmp_path)
    left = {"board.mk", "board.vh", "network.json", "inputs.hex", "golden.hex"}
    assert not left & {each.name for each in tmp_path.iterdir()}
    assert run_make(tmp_path, "icarus").returncode == 0
    assert all(file.is_file() for file in files)


def test_backends_are_found_by_name() -> None:
    for name in SIMULATORS:
        assert isinstance(backend(name), Backend)
        assert core_in(name).name == name
