"""Networks on bare boards in qemu: flash, RAM and instructions of a sample, as `make board` of an export prints them.

    python benchmarks/boards.py
    python benchmarks/boards.py mnist-mlp-int8 --board cortex-m4

Networks of the package run their golden run; 784-1000-1000-10 has random weights and four digits, 25 steps. Adds a
JSON line for each network and board; `python benchmarks/tables.py` writes the table in hardware/README.md. Needs qemu
and the compilers that hardware/install.sh installs.
"""

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer
from records import KEPT, add
from torch import nn

import spiking_lfp as lfp
from spiking_lfp.deploy.formats.c import BOARDS, write_c
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.pretrained import network_names

RANDOM = "784-1000-1000-10"
SAID = re.compile(r"(\d+) bytes of flash, (\d+) bytes of RAM.*?(\d+) instructions a sample", re.DOTALL)


def random_network(bits: int) -> IntegerNetwork:
    """Return the network with random weights, of which about a tenth of the hidden neurons spike in a step."""
    torch.manual_seed(1)
    linears = [nn.Linear(784, 1000), nn.Linear(1000, 1000), nn.Linear(1000, 10)]
    for linear, size in zip(linears, (1.0, 2.0, 2.0), strict=True):
        nn.init.normal_(linear.weight, 0.0, size / linear.in_features**0.5)
    digits = lfp.load_dataset("mnist-subset")
    network = nn.Sequential(lfp.Flatten(), *(lfp.LIF(linear) for linear in linears))
    with TemporaryDirectory() as out:
        samples = digits.train_images[:50].float() / 255, digits.train_labels[:50]
        return lfp.export(network, samples, steps=25, bits=bits, scale="max", out=out).network


def measure(network: IntegerNetwork, board: str) -> dict[str, int]:
    """Return what `make board` prints; it ends with an error where a spike differs."""
    with TemporaryDirectory() as folder:
        write_c(network, Path(folder), board)
        done = subprocess.run(["make", "board"], cwd=folder, capture_output=True, text=True, check=False)
    found = SAID.search(done.stdout)
    if done.returncode or found is None:
        sys.exit(f"error: make board: {done.stderr.strip() or done.stdout.strip()}")
    return dict(zip(("flash", "RAM", "instructions"), map(int, found.groups()), strict=True))


def main(
    networks: Annotated[list[str] | None, typer.Argument(help="By name, all by default.")] = None,
    board: Annotated[list[str] | None, typer.Option(help="Boards, all by default.")] = None,
    output: Path = KEPT / "boards.jsonl",
) -> None:
    """Compile and run."""
    for name in networks or [*network_names(), RANDOM]:
        for bits in (8, 4, 2) if name == RANDOM else (None,):
            found = random_network(bits) if bits else lfp.load(name)
            assert isinstance(found, IntegerNetwork)
            rates = [float(spikes.mean()) for spikes in found.golden.spikes.values()] if found.golden else []
            about = {"network": name, "bits": max(layer.bits for layer in found.spiking), "T": found.steps}
            for each in board or BOARDS:
                line = {**about, "board": each, **measure(found, each), "spike rates": [round(r, 4) for r in rates]}
                print(line, flush=True)
                add(output, line, 1)


if __name__ == "__main__":
    typer.run(main)
