"""Accuracy on MNIST of networks in integers: rounded after the training, and with integers in the loop of it.

    python benchmarks/in_the_loop.py
    python benchmarks/in_the_loop.py --presets mnist-mlp --seed 2

Trains each preset in real numbers, with 4 bits and with weights -1, 0 and 1, exports each, and runs all test images in
the integer simulator. Adds a JSON line for each to docs/experiments/in-the-loop.jsonl, of which
`python benchmarks/tables.py` makes the table in docs/hardware.md, and skips those that are there.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from integers import accuracy
from records import KEPT, add, read

from spiking_lfp.training import load_run, preset_config, samples_for, train

NETWORKS = {"mnist-mlp": "784-1000-1000-10", "mnist-lenet": "12C5-MP2-64C5-MP2-1024-10"}
# bits in the loop of the training, 0 for real numbers: options of the exports, None to run it as it was trained
EXPORTS: dict[int, dict[str, dict[str, Any] | None]] = {
    0: {
        "real weights": None,
        "int8": {"bits": 8},
        "int4": {"bits": 4},
        "int4, a scale per output": {"bits": 4, "per_channel": True},
    },
    4: {"int4 in the loop": {}},
    2: {"ternary in the loop": {}},
}


def main(
    presets: Annotated[list[str] | None, typer.Option(help="By default mnist-mlp and mnist-lenet.")] = None,
    seed: int = 1,
    threads: Annotated[int, typer.Option(help="Threads, by default all cores.")] = torch.get_num_threads(),
    output: Path = KEPT / "in-the-loop.jsonl",
) -> None:
    """Train, export and simulate what has no result."""
    torch.set_num_threads(threads)
    for preset in presets or list(NETWORKS):
        for bits, exports in EXPORTS.items():
            about = {"network": NETWORKS[preset], "data": "mnist", "seed": seed}
            missing = [
                weights for weights in exports
                if not any({**about, "weights": weights}.items() <= done.items() for done in read(output))
            ]  # fmt: skip
            if not missing:
                continue
            started = time.perf_counter()
            settings = {"data": "mnist", "seed": str(seed), "quantize": str(bits)}
            with TemporaryDirectory() as folder:
                run = load_run(train(preset_config(preset, settings), Path(folder) / "run", progress=False))
                trained = round(time.perf_counter() - started, 1)
                test = samples_for(run.config).test
                for weights in missing:
                    options = exports[weights]
                    found = run.evaluate(test).accuracy if options is None else accuracy(run, test, **options)
                    line = {
                        **about, "weights": weights, "accuracy": found, "images": len(test),
                        "seconds of training": trained,
                    }  # fmt: skip
                    print(line, flush=True)
                    add(output, line, threads)


if __name__ == "__main__":
    typer.run(main)
