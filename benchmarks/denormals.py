"""Time training steps of a network that has learned for long, with and without numbers next to zero.

    python benchmarks/denormals.py
    python benchmarks/denormals.py --steps 3000 --every 250

Two networks 784-1000-1000-10 learn the digits of the package by LFP and Adam, one after the other, with equal weights
and batches: with `flush_denormals`, and without. Prints medians of steps over the training, and adds a line to
--output.
"""

import os
import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from records import KEPT, add

from spiking_lfp import AdaptiveClip, constant, flush_denormals, load_dataset, mlp, reuse_freed_memory
from spiking_lfp.training import Meter, training_step

T, BATCH = 10, 128


def times(flush: bool, steps: int, every: int) -> tuple[list[float], float]:
    """Return the median time of every so many steps, in ms, and the share of weights next to zero at the end."""
    digits = load_dataset("mnist-subset")
    torch.manual_seed(1)
    network = mlp()
    optimizer, clip = torch.optim.Adam(network.parameters(), 2e-3, fused=True), AdaptiveClip(network.parameters())
    flush_denormals(flush)
    medians, each = [], []
    for step in range(steps):
        chosen = torch.randint(len(digits.train_labels), (BATCH,))
        x, labels = constant(digits.train_images[chosen].float() / 255, T), digits.train_labels[chosen]
        started = time.perf_counter()
        training_step(network, x, labels, optimizer, clip, Meter())
        each.append(1000 * (time.perf_counter() - started))
        if (step + 1) % every == 0:
            medians.append(round(statistics.median(each), 1))
            print("with" if flush else "without", step + 1, medians[-1], flush=True)
            each.clear()
    flush_denormals(False)
    weights = torch.cat([parameter.detach().flatten().abs() for parameter in network.parameters()])
    smallest = torch.finfo(weights.dtype).tiny
    return medians, float(((weights > 0) & (weights < smallest)).float().mean())


def main(
    steps: int = 2000,
    every: Annotated[int, typer.Option(help="Steps of a median.")] = 200,
    threads: int = os.cpu_count() or 1,
    output: Path = KEPT / "denormals.jsonl",
) -> None:
    """Train twice."""
    reuse_freed_memory()
    torch.set_num_threads(threads)
    without, share = times(False, steps, every)
    line = {"network": "784-1000-1000-10", "T": T, "batch": BATCH, "steps": steps, "every": every}
    add(output, {**line, "without": without, "with": times(True, steps, every)[0], "denormal weights": share}, threads)


if __name__ == "__main__":
    typer.run(main)
