"""FPGA boards: the serial line and its host, in simulation, from the netlist and from the bitstream; what fits."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import integer_networks as make
from spiking_lfp import export
from spiking_lfp.deploy.backends.verilog import VerilogCore
from spiking_lfp.deploy.chips.verilog import ICARUS, ICE40, VERILATOR
from spiking_lfp.deploy.formats.fpga import BOARDS, FILLED, fitting, logic, misfit, rams, write_board
from spiking_lfp.deploy.formats.verilog import helpful_adds, layout
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import simulate, with_golden_run
from spiking_lfp.errors import ExportError, UsageError

# set where there is time for synthesis, and for place and route
SLOW = "SPIKING_LFP_BITSTREAMS"


def need(programs: dict[str, str]) -> None:
    missing = [package for program, package in {**programs, "make": "make"}.items() if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs the packages {' '.join(dict.fromkeys(missing))}")


def call_make(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    # a make below another one, as of these tests, tells of folders
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    command = ["make", "-s", *arguments, f"PYTHON={sys.executable}"]
    return subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=False, timeout=1500)


def recorded(net: IntegerNetwork, samples: int = 2) -> IntegerNetwork:
    return with_golden_run(net, make.inputs_for(net, samples))


def told(net: IntegerNetwork) -> list[tuple[str, int]]:
    """The class of each golden sample and how often it spiked, by the simulator."""
    assert net.golden is not None
    counts = net.golden.spikes[net.layers[-1].name].sum(0, dtype=int)
    assert counts.any()
    return [(net.class_names[row.argmax()], int(row.max())) for row in counts]


def printed(text: str) -> list[tuple[str, int]]:
    return [(name, int(count)) for name, count in re.findall(r"^(.*)\t(\d+)\t\d+ cycles", text, re.MULTILINE)]


NETWORKS = {
    # lanes that are not whole bytes, and inputs of two bytes
    "spikes": (make.mlp((21, 14, 5), steps=6), 3),
    "spikes, 16 lanes": (make.mlp((21, 14, 20), steps=4), 16),
    "images": (make.mlp((21, 9, 11), steps=6, levels=255), 4),
    "convolutions": (make.lenet(8, steps=3), 8),
}


# boards differ in their top levels only
@pytest.mark.parametrize(
    ("board", "name"),
    [*(("ulx3s-85f", name) for name in NETWORKS), ("icebreaker", "spikes"), ("hx8k-breakout", "spikes")],
)
def test_a_board_answers_as_the_simulator(board: str, name: str, tmp_path: Path) -> None:
    need(ICARUS)
    net, lanes = NETWORKS[name]
    net = recorded(net)
    write_board(net, tmp_path, board, lanes)
    done = call_make(tmp_path, "simulate")
    assert done.returncode == 0, done.stderr + done.stdout
    assert printed(done.stdout) == told(net)
    assert "all spikes are equal to those of the golden run" in done.stdout
    # a single spike that differs is seen in the signature
    lines = (tmp_path / "golden.hex").read_text().splitlines()
    lines[1] = f"{int(lines[1], 16) ^ 1:x}"
    (tmp_path / "golden.hex").write_text("\n".join(lines))
    done = call_make(tmp_path, "simulate")
    assert done.returncode != 0
    assert "1 samples differ" in done.stderr


def test_a_board_answers_in_verilator_too(tmp_path: Path) -> None:
    need(VERILATOR)
    net = recorded(make.mlp((30, 20, 5), steps=5, levels=255))
    write_board(net, tmp_path, "ulx3s-85f", 4)
    done = call_make(tmp_path, "simulate-verilator")
    assert done.returncode == 0, done.stderr + done.stdout
    assert printed(done.stdout) == told(net)


@pytest.mark.parametrize("levels", [1, 255])
def test_the_host_sends_files_of_samples(tmp_path: Path, levels: int) -> None:
    need(ICARUS)
    net = make.lenet(6, steps=3, levels=levels)
    inputs = make.inputs_for(net, 3)
    content = (inputs if levels > 1 else inputs.swapaxes(0, 1)).astype(np.uint8).tobytes()
    write_board(net, tmp_path, "ulx3s-85f", 4)
    assert call_make(tmp_path, "board.vvp").returncode == 0
    (tmp_path / "samples.bin").write_bytes(content)

    def host(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "host.py", "--simulate", "vvp -n board.vvp", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)

    counts = simulate(net, inputs).counts
    done = host("samples.bin")
    assert done.returncode == 0, done.stderr
    assert printed(done.stdout) == [(str(row.argmax()), int(row.max())) for row in counts]
    (tmp_path / "samples.bin").write_bytes(content[:-1])
    assert f"the file has {len(content) - 1} bytes, a sample of this network has" in host("samples.bin").stderr
    assert "is there a golden run?" in host("--golden").stderr
    described = json.loads((tmp_path / "network.json").read_text())
    (tmp_path / "network.json").write_text(json.dumps(described | {"id": described["id"] ^ 1}))
    (tmp_path / "samples.bin").write_bytes(content)
    assert "it does not have the network of" in host("samples.bin").stderr


def test_weights_that_no_bitstream_holds_come_from_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need(ICARUS)
    board = BOARDS["icebreaker"]
    net = recorded(make.mlp((60, 14, 5), steps=6, bits=4))
    assert not fitting(net, "icebreaker").core.loaded
    for lanes, blocks in ((1, 3), (3, 8)):
        # none is left for weights
        monkeypatch.setitem(BOARDS, "icebreaker", replace(board, blocks=blocks))
        write_board(net, tmp_path, "icebreaker", lanes)
        assert "LOADED 1" in (tmp_path / "parameters.vh").read_text()
        done = call_make(tmp_path, "simulate")
        assert done.returncode == 0, done.stderr + done.stdout
        assert printed(done.stdout) == told(net)
        # the testbenches of the core alone, to which no host sends any
        for testbench in ("icarus", *(["verilator"] if shutil.which("verilator") else [])):
            done = call_make(tmp_path, testbench)
            assert done.returncode == 0, done.stderr + done.stdout
            assert "all spikes are equal to those of the golden run" in done.stdout


def test_bitstreams_and_netlists_spike_alike(tmp_path: Path) -> None:
    need({**ICARUS, **ICE40})
    if os.environ.get(SLOW) is None:
        pytest.skip(f"synthesis, place and route take minutes: set {SLOW}=1, as make hardware-test does")
    net = recorded(make.mlp((6, 5, 3), steps=4), 1)
    write_board(net, tmp_path, "hx8k-breakout", 1)
    for target in ("netlist", "routed"):
        done = call_make(tmp_path, target, "CLOCK=12", "BAUD=3000000")
        assert done.returncode == 0, done.stderr + done.stdout
        assert printed(done.stdout) == told(net)
        assert "all spikes are equal to those of the golden run" in done.stdout
    assert (tmp_path / "top.bin").stat().st_size > 100_000
    # the clock of the PLL has no model
    assert "make with CLOCK=12" in call_make(tmp_path, "netlist", "CLOCK=24").stderr


def test_a_netlist_of_the_ecp5_spikes_alike(tmp_path: Path) -> None:
    need({**ICARUS, "yosys": "yosys"})
    if os.environ.get(SLOW) is None:
        pytest.skip(f"synthesis takes a minute: set {SLOW}=1, as make hardware-test does")
    for seed, levels in ((1, 1), (2, 9)):
        net = recorded(make.mlp((6, 5, 3), seed=seed, steps=4, levels=levels), 1)
        write_board(net, tmp_path, "ulx3s-85f", 1)
        done = call_make(tmp_path, "netlist", "BAUD=6250000")
        assert done.returncode == 0, done.stderr + done.stdout
        assert printed(done.stdout) == told(net)
        assert "all spikes are equal to those of the golden run" in done.stdout
    assert "make with CLOCK=25" in call_make(tmp_path, "netlist", "CLOCK=50").stderr


def test_what_fits_is_counted_in_blocks() -> None:
    net = make.mlp((16, 16, 4))
    found = {ram.name: ram.blocks(BOARDS["icebreaker"]) for ram in rams(net, layout(net, 1, 1)) if ram.name != "tables"}
    # 320 weights of 8 bits fill one block of 512 x 8; 24 bits need two of 16; what is small is made of logic
    assert found == {
        "weights": 1, "biases and thresholds": 0, "membranes": 2, "accumulators": 2, "spikes": 0, "inputs": 1,
        "counts": 0,
    }  # fmt: skip
    assert misfit(net, layout(net, 1), "icebreaker") is None
    assert fitting(net, "icebreaker").core.lanes < fitting(net, "ulx3s-85f").core.lanes


def test_of_what_fits_the_fastest_is_taken() -> None:
    need(ICARUS)
    net, board = make.mlp((64, 32, 10)), "icebreaker"
    inputs = make.inputs_for(net, 2, rate=0.1)
    taken = fitting(net, board).core
    fits = [
        (lanes, adds)
        for lanes in BOARDS[board].lanes
        for adds in helpful_adds(net, lanes)
        if misfit(net, found := layout(net, lanes, adds), board) is None
        and logic(net, found, board) < FILLED * BOARDS[board].logic
    ]
    assert len(fits) > 3
    cycles = {choice: VerilogCore("icarus", ICARUS, *choice).measure(net, inputs).cycles.sum() for choice in fits}
    assert cycles[taken.lanes, taken.adds] == min(cycles.values())


def test_what_does_not_fit_is_refused_with_numbers(tmp_path: Path) -> None:
    net = make.mlp((784, 128, 10), bits=4)
    with pytest.raises(ExportError) as refused:
        write_board(net, tmp_path / "out", "hx8k-breakout")
    text = str(refused.value)
    assert re.search(r"with 1 lane takes \d+ blocks of RAM \(weights 406528 bits in 10\d, ", text)
    assert "iCE40HX8K on hx8k-breakout has 32: take a smaller network, fewer bits or the board ulx3s-85f" in text
    with pytest.raises(ExportError, match="and 13 memories for weights, iCE40UP5K on icebreaker has 30 and 4: take"):
        write_board(make.mlp((784, 256, 10)), tmp_path / "out", "icebreaker", 1)
    assert not (tmp_path / "out").exists()
    assert fitting(net, "ulx3s-85f").core.lanes >= 8
    with pytest.raises(ExportError, match="fewer lanes"):
        write_board(make.mlp((600, 32, 10)), tmp_path, "hx8k-breakout", 32)
    with pytest.raises(
        ExportError, match="with 4 lanes takes 12 multipliers, iCE40UP5K on icebreaker has 8: take fewer"
    ):
        write_board(make.mlp((16, 16, 4), levels=255), tmp_path, "icebreaker", 4)
    with pytest.raises(ExportError, match=r"1\.\.32 lanes, not 64"):
        write_board(net, tmp_path, "ulx3s-85f", 64)
    with pytest.raises(ExportError, match="70000 steps"):
        fitting(replace(make.mlp(), steps=70000), "ulx3s-85f")


def test_boards_are_known_by_name_and_belong_to_verilog(tmp_path: Path) -> None:
    net = make.mlp((9, 8, 3))
    with pytest.raises(UsageError, match="icebreaker"):
        write_board(net, tmp_path, "icebraker")
    with pytest.raises(UsageError, match="add the format verilog"):
        export(net, to=["c"], out=tmp_path, board="icebreaker")
    with pytest.raises(UsageError, match="add the format verilog"):
        export(net, to=["c"], out=tmp_path, lanes=4)
    export(net, to=["c", "verilog"], out=tmp_path, board="icebreaker", lanes=2)
    assert json.loads((tmp_path / "verilog" / "network.json").read_text())["lanes"] == 2
    assert not (tmp_path / "c" / "board.mk").exists()
    # without a board that of the network before is gone
    export(net, to=["verilog"], out=tmp_path, lanes=4)
    assert not (tmp_path / "verilog" / "board.mk").exists()
    assert "LANES 4" in (tmp_path / "verilog" / "parameters.vh").read_text()
