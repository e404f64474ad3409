"""Time a training step of spiking_lfp against lfprop, snnTorch and SpikingJelly, side by side in one run.

    python benchmarks/steps.py                       all networks, T = 5, 15, 25
    python benchmarks/steps.py --networks 784-1000-10 --steps 15 --rounds 3
    python benchmarks/steps.py --steps 100 --chunk 25      and spiking_lfp in chunks of 25 steps, in a column of its own

All methods get the same network, real digits, batch, Adam and threads, each in a process of its own. They take turns,
so that a busy machine slows all alike: read the ratios. Memory is measured with the allocator as it comes; for the
times each runs as its users have it, so only spiking_lfp keeps freed memory (`reuse_freed_memory`), unless
--reuse-for-all. Prints a table, and adds a line for each network and T to --output; the pages' tables are made by
`python benchmarks/tables.py` from docs/experiments/steps.jsonl.
"""

import json
import os
import statistics
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer
from environments import HERE, python_of
from methods import METHODS, NETWORKS
from records import add
from rich.console import Console
from rich.table import Table


class Worker:
    """A method at work in its own process."""

    def __init__(
        self, method: str, network: str, steps: int, batch: int, threads: int, reuse: bool, chunk: int = 0
    ) -> None:
        self.process = subprocess.Popen(
            [
                python_of(method),
                str(HERE / "worker.py"),
                method,
                network,
                *map(str, (steps, batch, threads, int(reuse), chunk)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        self.memory: float = self._answer()
        self.times: list[float] = []

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("error: a worker died; its own message stands above")
        return json.loads(line)

    def run(self, count: int) -> None:
        """Take `count` steps, and keep their times."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        self.times += self._answer()

    def stop(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def main(
    networks: Annotated[list[str] | None, typer.Option(help="Networks, all if none is named.")] = None,
    steps: Annotated[list[int] | None, typer.Option(help="T, by default 5, 15 and 25.")] = None,
    methods: Annotated[list[str] | None, typer.Option(help="Methods, all if none is named.")] = None,
    batch: int = 128,
    rounds: Annotated[int, typer.Option(help="Turns of each method.")] = 5,
    per_round: Annotated[int, typer.Option(help="Training steps a turn.")] = 3,
    threads: Annotated[int, typer.Option(help="Threads of each process.")] = os.cpu_count() or 1,
    reuse_for_all: Annotated[
        bool, typer.Option("--reuse-for-all", help="Give spiking_lfp's memory setting to its peers too.")
    ] = False,
    chunk: Annotated[int, typer.Option(help="Also run spiking_lfp in chunks of so many steps; 0 for not.")] = 0,
    output: Path = HERE / "results" / "steps.jsonl",
) -> None:
    """Time training steps side by side."""
    chosen = methods or list(METHODS)
    chunked = f"spiking_lfp, chunks of {chunk}"
    if chunk:
        chosen.insert(1, chunked)
    table = Table("network", "T", *chosen, title="training step and peak memory (times that of the first method)")
    for network in networks or list(NETWORKS):
        for length in steps or [5, 15, 25]:
            workers = {
                name: Worker("spiking_lfp", network, length, batch, threads, True, chunk)
                if name == chunked
                else Worker(name, network, length, batch, threads, reuse_for_all or name == "spiking_lfp")
                for name in chosen
            }
            for _ in range(rounds):
                for worker in workers.values():
                    worker.run(per_round)
            for worker in workers.values():
                worker.stop()
            times = {name: statistics.median(worker.times) for name, worker in workers.items()}
            memory = {name: worker.memory for name, worker in workers.items()}
            line = {
                "network": network, "T": length, "batch": batch, "rounds": rounds, "per_round": per_round,
                "reuse_for_all": reuse_for_all,
                "median_ms": {name: round(value, 3) for name, value in times.items()},
                "peak_mb": {name: round(value, 2) for name, value in memory.items()},
            }  # fmt: skip
            add(output, line, threads)
            cells = [
                f"{times[name]:.0f} ms ({times[name] / times[chosen[0]]:.1f})  {memory[name]:.0f} MB"
                f" ({memory[name] / memory[chosen[0]]:.1f})"
                for name in chosen
            ]
            table.add_row(network, str(length), *cells)
    Console(width=170).print(table)
    print(f"written to {output}")


if __name__ == "__main__":
    typer.run(main)
