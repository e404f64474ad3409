"""Time training steps of a network that has learned for long, with and without numbers next to zero.

    python benchmarks/denormals.py
    python benchmarks/denormals.py --steps 3000 --every 250

Two networks 784-1000-1000-10 learn the digits of the package by LFP and Adam with equal weights and batches, one with
`flush_denormals` and one without; they take turns. Prints medians of steps over the training, and adds a line to
--output.
"""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from records import KEPT, add

from spiking_lfp import AdaptiveClip, constant, flush_denormals, load_dataset, mlp, reuse_freed_memory
from spiking_lfp.training import Meter, training_step

T, BATCH = 10, 128


def trainer() -> tuple[torch.nn.Module, Callable[[torch.Tensor, torch.Tensor], float]]:
    """Return a network and what takes a training step, and returns its time in ms."""
    torch.manual_seed(1)
    network = mlp()
    optimizer, clip = torch.optim.Adam(network.parameters(), 2e-3, fused=True), AdaptiveClip(network.parameters())

    def step(x: torch.Tensor, labels: torch.Tensor) -> float:
        started = time.perf_counter()
        training_step(network, x, labels, optimizer, clip, Meter())
        return 1000 * (time.perf_counter() - started)

    return network, step


def main(
    steps: int = 2000,
    every: Annotated[int, typer.Option(help="Steps of a median.")] = 200,
    threads: int = os.cpu_count() or 1,
    output: Path = KEPT / "denormals.jsonl",
) -> None:
    """Train both."""
    reuse_freed_memory()
    torch.set_num_threads(threads)
    digits = load_dataset("mnist-subset")
    both = {"without": trainer(), "with": trainer()}
    each: dict[str, list[float]] = {name: [] for name in both}
    medians: dict[str, list[float]] = {name: [] for name in both}
    for number in range(1, steps + 1):
        chosen = torch.randint(len(digits.train_labels), (BATCH,))
        x, labels = constant(digits.train_images[chosen].float() / 255, T), digits.train_labels[chosen]
        for name, (_, step) in both.items():
            flush_denormals(name == "with")
            each[name].append(step(x, labels))
        if number % every == 0:
            for name, times in each.items():
                medians[name].append(round(statistics.median(times), 1))
                times.clear()
            print(number, {name: values[-1] for name, values in medians.items()}, flush=True)
    flush_denormals(False)
    weights = torch.cat([parameter.detach().flatten().abs() for parameter in both["without"][0].parameters()])
    share = float(((weights > 0) & (weights < torch.finfo(weights.dtype).tiny)).float().mean())
    line = {"network": "784-1000-1000-10", "T": T, "batch": BATCH, "steps": steps, "every": every}
    add(output, {**line, "median_ms": medians, "denormal weights": share}, threads)


if __name__ == "__main__":
    typer.run(main)
