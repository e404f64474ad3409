"""Does loading starve training? Time of a batch against time of the training step that takes it, from a warm cache.

For each preset of event data that is there: the batch as the training loop makes it, from packed samples in memory; as
a `DataLoader` reads it from the cache, in this process and in two others; and the step. Medians, one after the other in
one run. Prints a table, and adds a line for each preset to --output.

    python benchmarks/loading.py --threads 2
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from records import KEPT, add
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from spiking_lfp import AdaptiveClip, reuse_freed_memory
from spiking_lfp.data import Split, data_root
from spiking_lfp.data.event_sets import list_event_set
from spiking_lfp.data.samples import sequences
from spiking_lfp.studies.surrogate_comparison.benchmark import present_presets
from spiking_lfp.training import Meter, preset_config, samples_for, training_step
from spiking_lfp.training.runs import network_for


def median_ms(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median time of each call, one after the other in every round."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, milliseconds in zip(calls, times, strict=True):
            started = time.perf_counter()
            call()
            milliseconds.append(1000 * (time.perf_counter() - started))
    return [statistics.median(milliseconds) for milliseconds in times]


def measure(preset: str, rounds: int) -> dict[str, Any]:
    """Return times in milliseconds and sizes in bytes."""
    config = preset_config(preset)
    samples = samples_for(config)
    torch.manual_seed(0)
    network = network_for(config, samples)
    optimizer, clip = torch.optim.Adam(network.parameters(), config.lr, fused=True), AdaptiveClip(network.parameters())
    train: Split = samples.train
    indices = torch.randperm(len(train))[: config.batch_size]
    batch = train.batch(indices)
    network.train()

    def step() -> None:
        training_step(network, *batch, optimizer, clip, Meter())

    step()
    listing = list_event_set(config.data, data_root(), download=False)
    cache = sequences(config.data, listing, config.recipe)
    stored = cache.dataset("train")
    rows = [int(row) for row in indices]
    loaders = {
        workers: iter(
            DataLoader(
                stored, config.batch_size, shuffle=True, num_workers=workers, drop_last=True,
                multiprocessing_context="spawn" if workers else None,
            )
        )
        for workers in (2,)
    }  # fmt: skip
    for loader in loaders.values():
        next(loader)
    available = min(rounds, len(stored) // config.batch_size - 4)
    made, read, parallel, learned = median_ms(
        [lambda: train.batch(indices), lambda: stored.__getitems__(rows), lambda: next(loaders[2]), step], available
    )
    files = {sample.path for sample in (*listing.train, *listing.test)}
    raw = sum(path.stat().st_size for path in files)
    plain = cache.size_bytes * (len(samples.train) + len(samples.test)) / (len(stored) + len(samples.test))
    return {
        "preset": preset, "batch": config.batch_size, "T": config.steps, "rounds": available,
        "median_ms": {
            name: round(value, 3)
            for name, value in (("step", learned), ("batch", made), ("read", read), ("read by two", parallel))
        },
        "bytes": {"files": raw, "a copy in the cache": round(plain)}, "copies": len(stored) // len(samples.train),
    }  # fmt: skip


def main() -> None:
    """Measure every preset whose data are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=KEPT / "loading.jsonl")
    parser.add_argument("presets", nargs="*")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    reuse_freed_memory()
    table = Table(
        "preset", "batch x T", "training step", "batch in memory (times faster)", "read from the cache, one process",
        "two processes, waited for", "raw files", "a copy in the cache (times smaller)", "copies",
    )  # fmt: skip
    for preset in arguments.presets or present_presets():
        line = measure(preset, arguments.rounds)
        add(arguments.output, line, arguments.threads)
        step, *others = line["median_ms"].values()
        files, cache = line["bytes"].values()
        table.add_row(
            preset, f"{line['batch']} x {line['T']}", f"{step:.1f} ms",
            *(f"{other:.2f} ms ({step / other:.1f})" for other in others),
            f"{files / 1e6:.2f} MB", f"{cache / 1e6:.2f} MB ({files / cache:.1f})", str(line["copies"]),
        )  # fmt: skip
    Console(width=170).print(table)
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
