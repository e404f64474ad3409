"""Measure how the cost of a training step grows with steps, samples and neurons.

    python benchmarks/scaling.py

The network is 784-W-10; one of T, B and W varies, the others stay at 25, 128 and 1000. Each point has a process of its
own, as in `steps.py`, which measures its peak memory and the median time of its steps. Fits a fixed cost plus a
constant for each step, sample or neuron. Prints a table, adds a line to --output, and draws docs/scaling.png.
"""

import os
import statistics
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from environments import HERE
from matplotlib.figure import Figure
from records import KEPT, add
from rich.console import Console
from rich.table import Table
from steps import Worker

from spiking_lfp.plots.drawing import save

USUAL = {"T": 25, "B": 128, "W": 1000}
WORDS = {"T": "step", "B": "sample", "W": "neuron"}
UNITS = {"time": "ms", "memory": "MB"}
SIZES = {
    "T": [5, 10, 25, 50, 100, 200],
    "B": [1, 4, 16, 64, 128, 256, 1024],
    "W": [100, 250, 500, 1000, 2000, 4000],
}


@cache
def cost(steps: int, batch: int, width: int, count: int, threads: int) -> dict[str, float]:
    """Return the median milliseconds of `count` training steps of 784-`width`-10, and their peak memory in MB."""
    worker = Worker("spiking_lfp", f"784-{width}-10", steps, batch, threads, True)
    worker.run(count)
    worker.stop()
    return {"time": statistics.median(worker.times), "memory": worker.memory}


def fit(sizes: Sequence[int], costs: Sequence[float]) -> tuple[float, float]:
    """Return a fixed cost and one per unit of size that come closest to `costs`, as seen in relative errors."""
    slope, fixed = np.polyfit(sizes, costs, 1, w=1 / np.asarray(costs))
    return float(fixed), float(slope)


def draw(costs: dict[str, list[dict[str, float]]], fits: dict[str, dict[str, tuple[float, float]]], path: Path) -> None:
    """Draw times and memory over each size, with the fitted lines."""
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    grid = figure.subplots(2, 3, sharex="col", sharey="row")
    for column, (letter, measured) in enumerate(costs.items()):
        sizes = np.asarray(SIZES[letter])
        between = np.geomspace(sizes[0], sizes[-1], 100)
        for line, (what, unit) in enumerate(UNITS.items()):
            axes, (fixed, slope) = grid[line][column], fits[letter][what]
            axes.loglog(sizes, [point[what] for point in measured], "o", color="#0072b2")
            text = f"{fixed:.3g} + {slope:.3g} {letter}"
            axes.loglog(between, fixed + slope * between, color="#d55e00", label=text)
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8, frameon=False, loc="upper left")
            if column == 0:
                axes.set_ylabel(f"{what} [{unit}]")
        held = ", ".join(f"{other} = {value}" for other, value in USUAL.items() if other != letter)
        grid[0][column].set_title(held, fontsize=10)
        grid[1][column].set_xlabel(f"{WORDS[letter]}s {letter}")
    save(figure, path)


def main(
    count: Annotated[int, typer.Option(help="Training steps of each point.")] = 9,
    threads: Annotated[int, typer.Option(help="Threads of each process.")] = os.cpu_count() or 1,
    output: Path = KEPT / "scaling.jsonl",
    picture: Path = HERE.parent / "docs" / "scaling.png",
) -> None:
    """Measure the cost of training steps."""
    costs = {
        letter: [
            cost(*(USUAL | {letter: size}).values(), count, threads)  # in the order T, B, W
            for size in sizes
        ]
        for letter, sizes in SIZES.items()
    }
    fits = {
        letter: {what: fit(SIZES[letter], [point[what] for point in measured]) for what in UNITS}
        for letter, measured in costs.items()
    }
    shown = Table("varies", "size", "ms", "MB", "ms fitted", "MB fitted", title="training step of 784-W-10")
    for letter, measured in costs.items():
        for size, point in zip(SIZES[letter], measured, strict=True):
            fitted = [fixed + slope * size for fixed, slope in fits[letter].values()]
            cells = [f"{value:.1f}" for value in (point["time"], point["memory"], *fitted)]
            shown.add_row(letter, str(size), *cells)
        constants = [f"{slope:.3g} {UNITS[what]}" for what, (_, slope) in fits[letter].items()]
        shown.add_row(letter, f"per {WORDS[letter]}", *constants, end_section=True)
    Console(width=140).print(shown)
    varied = {
        letter: {"sizes": SIZES[letter], "costs": costs[letter], "fixed_and_slope": fits[letter]} for letter in costs
    }
    add(output, {**USUAL, "count": count, "varied": varied}, threads)
    draw(costs, fits, picture)
    print(f"written to {output} and {picture}")


if __name__ == "__main__":
    typer.run(main)
