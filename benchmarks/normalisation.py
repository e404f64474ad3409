"""Train deep convolutional networks with and without batch normalisation, and time their steps.

    python benchmarks/normalisation.py --depths 3 --depths 6 --seeds 1 --seeds 2 --seeds 3

Each is a chain of convolutions and a dense layer, trained for one pass over some of the digits in the package. Without
normalisation weights start as torch has them, times a gain. Prints test accuracies and the time of a training step.
"""

import statistics
import time
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn

from spiking_lfp import (
    LIF,
    AdaptiveClip,
    constant,
    load_dataset,
    propagate,
    reuse_freed_memory,
    spike_count_reward,
    stack,
)
from spiking_lfp.data import ImageDataset

STEPS, BATCH = 8, 64
KINDS = ("no normalisation", "gain 2", "gain 3", "gain 4", "normalised", "normalised, statistics of the first batch")


def build(kind: str, depth: int) -> nn.Sequential:
    """Return a network of `depth` convolutions and a dense layer."""
    channels = (["12C3s2p1", "24C3s2p1"] + ["32C3p1"] * depth)[:depth]
    ending = "BN" if kind.startswith("normalised") else ""
    gain = float(kind.split()[1]) if kind.startswith("gain") else 1.0
    return stack((1, 28, 28), 10, "-".join(layer + ending for layer in channels), gain=gain)


def train(kind: str, depth: int, digits: ImageDataset, samples: int, seed: int) -> tuple[float, float]:
    """Train once; return the test accuracy, and the median time of a step in milliseconds."""
    torch.manual_seed(seed)
    network = build(kind, depth)
    optimizer, clip = torch.optim.Adam(network.parameters(), lr=1e-3), AdaptiveClip(network.parameters())
    times = []
    for indices in torch.randperm(samples).split(BATCH):
        started = time.perf_counter()
        optimizer.zero_grad()
        spikes = network(constant(digits.train_images[indices] / 255, STEPS))
        propagate(spikes, spike_count_reward(spikes, digits.train_labels[indices]))
        clip()
        optimizer.step()
        times.append(1000 * (time.perf_counter() - started))
        if kind.endswith("first batch"):
            for layer in network:
                if isinstance(layer, LIF) and layer.norm is not None:
                    layer.norm.eval()
    network.eval()
    with torch.no_grad():
        counts = network(constant(digits.test_images / 255, STEPS)).sum(0)
    right = (counts.argmax(-1) == digits.test_labels).float().mean().item()
    return right, statistics.median(times)


def main(
    depths: Annotated[list[int] | None, typer.Option(help="Convolutions, by default 3 and 6.")] = None,
    seeds: Annotated[list[int] | None, typer.Option(help="By default 1, 2 and 3.")] = None,
    kinds: Annotated[list[str] | None, typer.Option(help="All if none is named.")] = None,
    samples: Annotated[int, typer.Option(help="Digits to learn from.")] = 4000,
) -> None:
    """Compare."""
    reuse_freed_memory()
    digits = load_dataset("mnist-subset")
    table = Table("convolutions", "network", "test accuracy, each seed", "mean", "training step")
    for depth in depths or [3, 6]:
        for kind in kinds or KINDS:
            outcomes = [train(kind, depth, digits, samples, seed) for seed in seeds or [1, 2, 3]]
            each = [f"{100 * accuracy:.1f}" for accuracy, _ in outcomes]
            mean = statistics.mean(accuracy for accuracy, _ in outcomes)
            step = statistics.median(time_of_step for _, time_of_step in outcomes)
            table.add_row(str(depth), kind, " ".join(each), f"{mean:.1%}", f"{step:.0f} ms")
            Console(width=120).print(depth, kind, *each, f"{mean:.1%}", f"{step:.0f} ms", highlight=False)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
