"""Train spiking_lfp and the snnTorch surrogate baseline under one protocol and tabulate test accuracy per epoch.

    python benchmarks/accuracy.py --data mnist --seeds 1 --seeds 2 --seeds 3

Both get the same network, weights to start from, order of images, batch, T, Adam and schedule; learning rates are each
method's own, given as METHOD=RATE. Adds one JSON line to the results for each finished run, and skips runs that are
there already, so that it can be stopped and started again. `docs/benchmarks.md` has those of --output
docs/experiments/accuracy.jsonl.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from environments import HERE
from methods import METHODS
from records import add, read
from rich.console import Console
from rich.table import Table
from torch import Tensor

from spiking_lfp import reuse_freed_memory
from spiking_lfp.data import ImageDataset, load_dataset


def run(case: dict[str, Any], data: ImageDataset) -> list[float]:
    """Train once and return the test accuracy after each epoch."""
    epochs, batch, seed = case["epochs"], case["batch"], case["seed"]
    torch.manual_seed(seed)
    training = METHODS[case["method"]](case["network"], case["T"], case["lr"])
    updates = epochs * -(-len(data.train_labels) // batch)
    schedule = torch.optim.lr_scheduler.LinearLR(training.optimizer, 1.0, 0.0, updates)
    accuracies = []
    for epoch in range(epochs):
        order = torch.randperm(len(data.train_labels), generator=torch.Generator().manual_seed(1000 * seed + epoch))
        for indices in order.split(batch):
            training.step(scaled(data.train_images[indices]), data.train_labels[indices])
            schedule.step()
        accuracies.append(accuracy(training.counts, data))
    return accuracies


@torch.no_grad()
def accuracy(counts: Callable[[Tensor], Tensor], data: ImageDataset) -> float:
    """Return the fraction of test images whose class spikes most."""
    right = 0
    for images, labels in zip(data.test_images.split(500), data.test_labels.split(500), strict=True):
        right += int((counts(scaled(images)).argmax(-1) == labels).sum())
    return right / len(data.test_labels)


def scaled(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1]."""
    return images.float() / 255


def main(
    methods: Annotated[list[str] | None, typer.Option(help="METHOD=RATE, its learning rate; repeatable.")] = None,
    networks: Annotated[list[str] | None, typer.Option(help="Networks, by default the paper's two.")] = None,
    seeds: Annotated[list[int] | None, typer.Option(help="Seeds, by default 1, 2 and 3.")] = None,
    data: Annotated[str, typer.Option(help="Data set by name.")] = "mnist",
    epochs: int = 3,
    steps: int = 25,
    batch: int = 128,
    threads: Annotated[int, typer.Option(help="Threads; several runs with one each use a machine best.")] = 0,
    output: Path = HERE / "results" / "accuracy.jsonl",
) -> None:
    """Train all methods alike and tabulate."""
    if threads:
        torch.set_num_threads(threads)
    reuse_freed_memory()
    dataset = load_dataset(data)
    cases: list[dict[str, Any]] = []
    for network in networks or ["784-1000-1000-10", "12C5-MP2-64C5-MP2-1024-10"]:
        for word in methods or ["spiking_lfp=1e-3", "snntorch-merged=1e-3"]:
            method, _, rate = word.partition("=")
            for seed in seeds or [1, 2, 3]:
                cases.append(
                    {
                        "network": network,
                        "method": method,
                        "lr": float(rate),
                        "data": data,
                        "T": steps,
                        "epochs": epochs,
                        "batch": batch,
                        "seed": seed,
                    }
                )
    for case in cases:
        if any(case.items() <= done.items() for done in read(output)):
            continue
        started = time.perf_counter()
        accuracies = run(case, dataset)
        line = {**case, "accuracy": accuracies, "seconds": round(time.perf_counter() - started, 1)}
        add(output, line, torch.get_num_threads())
    Console(width=140).print(table(read(output)))


def table(lines: list[dict[str, Any]]) -> Table:
    """Tabulate mean and standard deviation over seeds, in percent, after each epoch."""
    shown = Table("network", "data", "method", "lr", "seeds", "test accuracy after each epoch: mean (deviation) [%]")
    groups: dict[tuple[Any, ...], list[list[float]]] = {}
    for line in lines:
        key = (line["network"], line["data"], line["method"], line["lr"], line["epochs"])
        groups.setdefault(key, []).append(line["accuracy"])
    for (network, data, method, lr, _), runs in sorted(groups.items()):
        cells = []
        for values in zip(*runs, strict=True):
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{100 * statistics.mean(values):.2f} ({100 * spread:.2f})")
        shown.add_row(network, data, method, f"{lr:g}", str(len(runs)), "  ".join(cells))
    return shown


if __name__ == "__main__":
    typer.run(main)
