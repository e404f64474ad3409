"""Find the spike rate up to which event-driven products are faster than dense ones.

    python benchmarks/crossover.py
    python benchmarks/crossover.py --rates 5 --rates 20 --rounds 2

Spikes are random and clustered as while learning: an input is active in a sample at all with probability
min(1, 2.8 rate), and then spikes at random. Event-driven times include finding the events; those of torch.sparse leave
out making its CSR matrices. Ways to compute the same take turns, times are medians. Prints a table, adds a line to
--output, and draws docs/crossover.png.
"""

import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer
from environments import HERE
from matplotlib.figure import Figure
from records import KEPT, add
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from spiking_lfp import reuse_freed_memory
from spiking_lfp.kernels.cpu import packing
from spiking_lfp.kernels.precision import Precision, products_in
from spiking_lfp.lfp.reading import read_synapse
from spiking_lfp.lfp.synapses import Synapse
from spiking_lfp.plots.drawing import save

RATES = [1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0]
CLUSTERING = 2.8
# name: module, shape of a sample, fraction of its outputs that get feedback
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], float]] = {
    "dense 1000 x 1000": (lambda: nn.Linear(1000, 1000), (1000,), 1.0),
    "dense 1000 x 1000, 40 % alive": (lambda: nn.Linear(1000, 1000), (1000,), 0.4),
    "convolution 12 to 64, 5 x 5 on 12 x 12": (lambda: nn.Conv2d(12, 64, 5), (12, 12, 12), 1.0),
}
# as in all pictures, from Okabe and Ito's palette; a way that is not drawn has no colour
COLOURS = {"events": "#0072b2", "dense": "black", "dense bf16": "#d55e00", "sparse CSR": ""}
MARKS = {"events": "o", "dense": "s", "dense bf16": "^"}
PARTS = {"forward": "forward", "adjoints": "backward"}
Times = dict[str, dict[str, float]]


def clustered_spikes(steps: int, batch: int, sample: tuple[int, ...], rate: float) -> Tensor:
    """Return random spikes `[T, B, *sample]`."""
    active = min(1.0, CLUSTERING * rate)
    return ((torch.rand(batch, *sample) < active) & (torch.rand(steps, batch, *sample) < rate / active)).float()


def milliseconds(work: Callable[[], Any]) -> float:
    """Return the time of one `work`."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def time_products(
    synapse: Synapse, x: Tensor, q: Tensor, weight: Tensor, bias: Tensor, precision: Precision | None
) -> tuple[float, float]:
    """Return the milliseconds forward and of both adjoints: dense in some precision, or event-driven."""
    if precision is None:
        forward = milliseconds(lambda: synapse.current(synapse.inputs(x, None), weight, bias))
        inputs = synapse.inputs(x, None)
        return forward, milliseconds(lambda: synapse.adjoints(q, inputs, weight, True, True))
    with products_in(precision):
        forward = milliseconds(lambda: synapse.current(x, weight, bias))
        return forward, milliseconds(lambda: synapse.adjoints(q, x, weight, True, True))


def time_sparse(x: Tensor, q: Tensor, weight: Tensor) -> tuple[float, float]:
    """Return the milliseconds of a dense layer's products by torch.sparse."""
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
    rows, feedback = x.flatten(0, 1).to_sparse_csr(), q.flatten(0, 1)
    columns = x.flatten(0, 1).T.to_sparse_csr()

    def adjoints() -> None:
        torch.sparse.sampled_addmm(rows, feedback, weight, beta=0.0)  # only where there are spikes
        columns @ feedback

    return milliseconds(lambda: rows @ weight.T), milliseconds(adjoints)


def time_case(case: str, rate: float, steps: int, batch: int, rounds: int) -> Times:
    """Return medians of the milliseconds of each way, forward and adjoints."""
    make, sample, alive = CASES[case]
    module = make()
    synapse, weight, bias = read_synapse(module)
    assert isinstance(bias, Tensor)
    x = clustered_spikes(steps, batch, sample, rate)
    q = torch.randn(synapse.current(x, weight, bias).shape)
    q *= (torch.rand(q.shape[2:3]) < alive).float().view(-1, *[1] * (q.dim() - 3))
    ways: dict[str, Precision | None] = {"events": None, "dense": "highest", "dense bf16": "medium"}
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for turn in range(rounds + 1):
        for way, precision in ways.items():
            taken = time_products(synapse, x, q, weight, bias, precision)
            if turn > 0:  # the first compiles
                times[way].append(taken)
    if x.dim() == 3:
        times["sparse CSR"].append(time_sparse(x, q, weight))
    return {
        way: {
            "forward": statistics.median(forward for forward, _ in taken),
            "adjoints": statistics.median(adjoints for _, adjoints in taken),
        }
        for way, taken in times.items()
    }


def crossing(by_rate: dict[float, Times], part: str) -> float | None:
    """Return the rate from which dense products are faster, between two measured ones on a line, or None."""
    ahead = [(rate, times["dense"][part] - times["events"][part]) for rate, times in by_rate.items()]
    for (low, gain), (high, loss) in pairwise(ahead):
        if gain > 0 >= loss:
            return low + (high - low) * gain / (gain - loss)
    return None


def draw(results: dict[str, dict[float, Times]], path: Path) -> None:
    """Draw the times over the rate."""
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True)
    dense, fewer, convolution = results.values()
    for column, (title, by_rate) in enumerate(
        (("dense 1000 x 1000", dense), ("convolution 12 to 64, 5 x 5", convolution))
    ):
        for line, part in enumerate(("forward", "adjoints")):
            axes = grid[line][column]
            for way in ("events", "dense", "dense bf16"):
                values = [times[way][part] for times in by_rate.values()]
                axes.plot(list(by_rate), values, f"{MARKS[way]}-", markersize=4, color=COLOURS[way], label=way)
            if by_rate is dense and part == "adjoints":
                values = [times["events"][part] for times in fewer.values()]
                label = "events, where 40 % of outputs get feedback"
                axes.plot(list(fewer), values, "o--", markersize=4, color=COLOURS["events"], label=label)
            axes.axvline(
                100 * packing.MOST_SPIKES, color="grey", linewidth=1, linestyle=":", label="the package changes over"
            )
            axes.set(ylim=(0, None), ylabel=f"{PARTS[part]} [ms]")
            axes.grid(alpha=0.3)
            if line == 0:
                axes.set_title(title, fontsize=10)
            else:
                axes.set_xlabel("inputs that spike in a step [%]")
    handles, labels = grid[1][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    save(figure, path)


def main(
    rates: Annotated[list[float] | None, typer.Option(help="Spike rates in percent.")] = None,
    steps: int = 25,
    batch: int = 128,
    rounds: Annotated[int, typer.Option(help="Turns of each way.")] = 5,
    output: Path = KEPT / "crossover.jsonl",
    picture: Path = HERE.parent / "docs" / "crossover.png",
) -> None:
    """Time event-driven and dense products."""
    reuse_freed_memory()
    torch.manual_seed(0)
    results: dict[str, dict[float, Times]] = {}
    with torch.no_grad(), patch.object(packing, "MOST_SPIKES", 1.0):
        for case in CASES:
            results[case] = {rate: time_case(case, rate / 100, steps, batch, rounds) for rate in sorted(rates or RATES)}
    shown = Table("synapse", "spikes [%]", *COLOURS, title="forward + adjoints [ms]")
    for case, by_rate in results.items():
        for rate, times in by_rate.items():
            cells = [f"{of['forward']:.1f} + {of['adjoints']:.1f}" for of in times.values()]
            shown.add_row(case, f"{rate:g}", *cells, end_section=rate == max(by_rate))
    console = Console(width=140)
    console.print(shown)
    crossings = {
        case: {part: crossing(by_rate, part) for part in ("forward", "adjoints")} for case, by_rate in results.items()
    }
    for case, of in crossings.items():
        words = [f"{part} " + ("not crossed" if at is None else f"{at:.0f} %") for part, at in of.items()]
        console.print(
            f"{case}: dense is faster from {', '.join(words)}; the package changes over at "
            f"{100 * packing.MOST_SPIKES:.0f} %"
        )
    line = {"T": steps, "batch": batch, "rounds": rounds, "ms": results, "crossings": crossings}
    add(output, line, torch.get_num_threads())
    draw(results, picture)
    print(f"written to {output} and {picture}")


if __name__ == "__main__":
    typer.run(main)
