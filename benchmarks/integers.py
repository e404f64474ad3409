"""Accuracy in integers of networks that were trained in real numbers, on all test samples.

    python benchmarks/integers.py RUN...          # folders of runs
    python benchmarks/integers.py RUN... --bits 8

Adds a JSON line for each run to docs/experiments/integers.jsonl, or replaces it; `python benchmarks/tables.py` writes
the table in docs/accuracy.md.
"""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from records import KEPT, add, read

import spiking_lfp as lfp
from spiking_lfp.data import Split
from spiking_lfp.deploy.export import network_inputs
from spiking_lfp.deploy.simulator import simulate
from spiking_lfp.training import Run, load_run, preset_config, samples_for

RESULTS = KEPT / "integers.jsonl"
# of a run, that are not what was trained
ABOUT = ("preset", "seed", "log_every", "checkpoint_every")


def main(
    runs: list[Path],
    bits: Annotated[list[int], typer.Option(help="Bits of the weights.")] = [8, 4, 3, 2],  # noqa: B006
    data_root: Annotated[Path | None, typer.Option(help="Folder of the data sets.")] = None,
) -> None:
    """Export and simulate each run."""
    for folder in runs:
        run = load_run(folder, "cpu")
        samples = samples_for(run.config, data_root)
        started = time.perf_counter()
        found = {str(each): accuracy(run, samples.test, bits=each, data_root=data_root) for each in bits}
        usual = preset_config(run.config.preset)
        changed = {name: value for name, value in run.config if name not in ABOUT and value != getattr(usual, name)}
        line = {
            "preset": run.config.preset,
            "seed": run.config.seed,
            "settings": ", ".join(f"{name} {value}" for name, value in changed.items()),
            "samples": len(samples.test),
            "real": run.evaluate(samples.test).accuracy,
            "integers": found,
            "seconds": round(time.perf_counter() - started, 1),
        }
        print(line, flush=True)
        same = ("preset", "seed", "settings")
        kept = [each for each in read(RESULTS) if any(each[name] != line[name] for name in same)]
        RESULTS.write_text("".join(json.dumps(each) + "\n" for each in kept))
        add(RESULTS, line, torch.get_num_threads())


def accuracy(run: Run, test: Split, **options: Any) -> float:
    """Return the accuracy on test samples of the export of a run with these options."""
    with TemporaryDirectory() as folder:
        network = lfp.export(run, out=folder, **options).network
    inputs, labels, _ = network_inputs(test, len(test))
    x = network.integers(inputs) if network.encoder == "sequence" else inputs.numpy()
    return float((simulate(network, x).predictions == labels.numpy()).mean())


if __name__ == "__main__":
    typer.run(main)
