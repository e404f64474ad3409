"""Time training steps of the presets for pictures with products in float32 and in bfloat16, in one run.

    python benchmarks/precision.py
    python benchmarks/precision.py cifar10-deep --threads 1 --rounds 9

A network of each precision goes on learning from one batch of noise, as large and as wide as normalised pictures are;
they take turns. Prints the times, and adds a line for each network to --output; the table of the documentation is made
from docs/experiments/precision.jsonl.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, get_args

import torch
import typer
from records import KEPT, add
from timing import medians_ms

from spiking_lfp import AdaptiveClip, constant, reuse_freed_memory
from spiking_lfp.data.spec import DataSpec
from spiking_lfp.kernels.precision import Precision, products_in
from spiking_lfp.training import Meter, training_step
from spiking_lfp.training.config import preset_config
from spiking_lfp.training.loop import reward_of
from spiking_lfp.training.runs import build

SHAPES = {"cifar10": (3, 32, 32), "mnist": (1, 28, 28), "mnist-subset": (1, 28, 28), "fashion-mnist": (1, 28, 28)}


def trainer(preset: str, precision: Precision) -> Callable[[], None]:
    """Return a training step of a new network."""
    torch.manual_seed(1)
    config = preset_config(preset)
    network = build(config, DataSpec(list(SHAPES[config.data]), 10))
    x, labels = (
        constant(torch.randn(config.batch_size, *SHAPES[config.data]), config.steps),
        torch.arange(config.batch_size) % 10,
    )
    optimizer, clip = torch.optim.Adam(network.parameters(), 1e-4, fused=True), AdaptiveClip(network.parameters())
    reward = reward_of(config, network)

    def step() -> None:
        with products_in(precision):
            training_step(network, x, labels, optimizer, clip, Meter(), reward=reward)

    return step


def main(
    presets: Annotated[list[str] | None, typer.Argument(help="Presets of pictures.")] = None,
    threads: int = os.cpu_count() or 1,
    rounds: int = 7,
    output: Path = KEPT / "precision.jsonl",
) -> None:
    """Time training steps."""
    reuse_freed_memory()
    torch.set_num_threads(threads)
    for preset in presets or ["cifar10-deep", "cifar10-conv", "mnist-lenet", "mnist-mlp"]:
        times = medians_ms({each: trainer(preset, each) for each in get_args(Precision) if each != "high"}, rounds)
        print(preset, {name: round(value, 1) for name, value in times.items()}, flush=True)
        config = preset_config(preset)
        line = {"preset": preset, "T": config.steps, "batch": config.batch_size, "rounds": rounds}
        add(output, {**line, "median_ms": {name: round(value, 2) for name, value in times.items()}}, threads)


if __name__ == "__main__":
    typer.run(main)
