"""Train with other settings than those of the presets, which the documentation compares with theirs.

    python benchmarks/settings.py            # those that have no result yet
    python benchmarks/settings.py --about mono --threads 1

Adds a JSON line for each to docs/experiments/settings.jsonl, where rows of other commands stand, too;
`python benchmarks/tables.py` writes the tables.
"""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import torch
import typer
from records import KEPT, add, read

from spiking_lfp.training import load_run, preset_config, train


class Row(NamedTuple):
    """What the table says of settings, the settings, and the seeds; a row with `validation` is of samples held out."""

    about: str
    network: str
    title: str
    preset: str
    settings: dict[str, Any]
    seeds: Sequence[int] = (1,)


_FEW, _MLP, _LENET, _EVENTS = "784-1000-10", "784-1000-1000-10", "12C5-MP2-64C5-MP2-1024-10", "2312-500-10"
_MNIST, _MONO, _AWAKE = {"data": "mnist"}, {"readout": "mono"}, {"gain": 3, "reward": "spike-rate"}
# a sixth held out
_HELD_OUT = _MNIST | {"validation": 1 / 6, "epochs": 1, "reward": "spike-count"}
ROWS = (
    Row("spikes", _FEW, "awake (`mnist-5-steps`)", "mnist-5-steps", _MNIST, (1, 2, 3)),
    Row("spikes", _FEW, "the paper's reward, weights three times as large", "mnist-5-steps", _HELD_OUT),
    Row("spikes", _FEW, "the paper's reward, torch's weights", "mnist-5-steps", _HELD_OUT | {"gain": 1}),
    Row("spikes", _LENET, "awake", "mnist-lenet", _MNIST | _AWAKE | {"beta": 0.6, "steps": 15}),
    Row("spikes", _LENET, "the paper's reward", "mnist-lenet", _MNIST),
    Row("spikes", _LENET, "reward by rate", "mnist-lenet", _MNIST | {"reward": "spike-rate"}),
    Row("spikes", _MLP, "the paper's reward", "mnist-mlp", _MNIST, (1, 2, 3)),
    Row("mono", _EVENTS, "`nmnist-mlp --readout mono`", "nmnist-mlp", _MONO | {"steps": 18}, (1, 2, 3)),
    Row(
        "mono", _EVENTS, "the same, `--set readout_windows=3`", "nmnist-mlp",
        _MONO | {"steps": 18, "readout_windows": 3}, (1, 2, 3),
    ),
    Row("mono", _MLP, "`mnist-mlp --readout mono`", "mnist-mlp", _MNIST | _MONO),
    Row(
        "mono", _MLP, "the same, `readout_scheme=pairwise`, `readout_hidden=64`", "mnist-mlp",
        _MNIST | _MONO | {"readout_scheme": "pairwise", "readout_hidden": 64},
    ),
    Row("precision", _LENET, "float32", "mnist-lenet", {}, (1, 2, 3)),
    Row("precision", _LENET, "products in bfloat16", "mnist-lenet", {"precision": "medium"}, (1, 2, 3)),
)  # fmt: skip


def main(
    about: Annotated[str, typer.Option(help="Only rows about this: spikes, mono, precision.")] = "",
    threads: Annotated[int, typer.Option(help="Threads, by default all cores.")] = torch.get_num_threads(),
    output: Path = KEPT / "settings.jsonl",
) -> None:
    """Train each row that has no result."""
    torch.set_num_threads(threads)
    for row in ROWS:
        if about not in ("", row.about):
            continue
        words = {key: str(value) for key, value in row.settings.items()}
        config = preset_config(row.preset, words)
        line = {
            "about": row.about, "network": row.network, "beta": config.beta, "steps": config.steps,
            "settings": row.title, "data": config.data, "samples": "held out" if config.validation else "test",
            "epochs": config.epochs,
        }  # fmt: skip
        if any(line.items() <= done.items() for done in read(output)):
            continue
        started = time.perf_counter()
        accuracies = [accuracy(row.preset, words | {"seed": str(seed)}) for seed in row.seeds]
        command = ["spiking-lfp", "train", row.preset, *(f"--set={key}={value}" for key, value in words.items())]
        line |= {
            "accuracy": accuracies, "seeds": list(row.seeds), "train": shlex.join(command),
            "seconds": round(time.perf_counter() - started, 1),
        }  # fmt: skip
        print(line, flush=True)
        add(output, line, threads)


def accuracy(preset: str, settings: dict[str, str]) -> float:
    """Train once and return the accuracy on the samples held out, or, without any, the test samples."""
    with TemporaryDirectory() as folder:
        run = load_run(train(preset_config(preset, settings), Path(folder) / "run", progress=False))
        last = run.history[-1]
        found: float = (last["validation"] or last["test"])["accuracy"]
        return found


if __name__ == "__main__":
    typer.run(main)
