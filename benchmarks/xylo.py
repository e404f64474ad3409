"""Train Braille letters within the limits of SynSense's Xylo, in real numbers and with its arithmetic in the loop.

    python benchmarks/xylo.py --data-root DATA --out docs/experiments/xylo.json

Seven letters, as many as its 8 outputs hold: the space and the vowels. Four taxels become 16 channels, spikes where a
reading rises or falls through multiples of 2 and of 16. Decays are chosen on a fifth of the training samples, by
repetition; the test samples are seen once, at the end, with each seed. XyloSim runs every test sample.
"""

import itertools
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from spiking_lfp import CubaLIF, propagate, run_in_integers, spike_rate_reward
from spiking_lfp.data.tactile import TEST_REPETITIONS
from spiking_lfp.deploy.check import check
from spiking_lfp.deploy.formats.xylo import write_xylo
from spiking_lfp.deploy.quantize import quantize
from spiking_lfp.deploy.simulator import simulate
from spiking_lfp.deploy.verify import verify
from spiking_lfp.files import RESULTS
from spiking_lfp.integers.arithmetic import XYLO

LETTERS = ("Space", "A", "E", "I", "O", "U", "Y")
TAXELS = (1, 2, 6, 10)
DISTANCES = (2, 16)
HELD_OUT = 32  # repetitions from here to those of the test
HIDDEN, BATCH, EPOCHS, RATE = 60, 40, 30, 1e-2
# what a step keeps of currents and membranes
DECAYS = ((0.5, 0.875), (0.75, 0.9375))
Decays = tuple[float, float]
Split = tuple[Tensor, Tensor]


def letters(path: Path) -> dict[str, Split]:
    """Return spikes `[T, N, 16]` and labels to learn, to choose by, and to test."""
    with np.load(path) as file:
        readings, labels, repetition = (file[name] for name in ("x", "y", "repetition"))
        names = [str(name) for name in file["classes"]]
    found = np.isin(labels, [names.index(letter) for letter in LETTERS])
    target = np.array([LETTERS.index(names[label]) if names[label] in LETTERS else -1 for label in labels])
    x = spikes(readings[found])
    parts = {"train": (0, HELD_OUT), "held out": (HELD_OUT, TEST_REPETITIONS), "test": (TEST_REPETITIONS, 1000)}
    split = {}
    for name, (low, high) in parts.items():
        which = (repetition[found] >= low) & (repetition[found] < high)
        split[name] = torch.from_numpy(x[:, which]).float(), torch.from_numpy(target[found][which])
    return split


def spikes(readings: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the spikes `[T, N, 16]` of readings `[N, T, 12]`."""
    channels = []
    for distance in DISTANCES:
        levels = readings[:, :, TAXELS].astype(np.int64) // distance
        steps = np.diff(levels, axis=1, prepend=levels[:, :1])
        channels += [steps > 0, steps < 0]
    return np.concatenate(channels, 2).swapaxes(0, 1).astype(np.uint8)


def trained(data: Split, seed: int, xylo: bool, decays: Decays) -> nn.Sequential:
    """Return a network, trained in real numbers or with the arithmetic of Xylo."""
    torch.manual_seed(seed)
    alpha, beta = decays
    sides = itertools.pairwise((len(TAXELS) * len(DISTANCES) * 2, HIDDEN, len(LETTERS)))
    network = nn.Sequential(*(CubaLIF(nn.Linear(*side, bias=False), alpha, beta, threshold=0.5) for side in sides))
    if xylo:
        run_in_integers(network, 8, levels=1, arithmetic=XYLO)
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    x, labels = data
    updates = EPOCHS * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, updates)
    for _ in range(EPOCHS):
        for which in torch.randperm(len(labels)).split(BATCH):
            outputs = network(x[:, which])
            optimizer.zero_grad()
            propagate(outputs, spike_rate_reward(outputs, labels[which]))
            optimizer.step()
            schedule.step()
    return network


@torch.no_grad()
def accuracy(network: nn.Module, data: Split) -> float:
    """Return the share of samples whose letter spikes most."""
    return float((network(data[0]).sum(0).argmax(-1) == data[1]).float().mean())


def measured(network: nn.Module, data: dict[str, Split], config: Path | None) -> dict[str, Any]:
    """Return what the integers of a network trained for Xylo do with the test samples, here and in XyloSim."""
    x, labels = data["test"]
    integers, _ = quantize(network, data["train"][0].byte(), data["train"][1], None, LETTERS)
    reasons = check(integers, "xylo")
    if reasons:
        raise SystemExit("; ".join(reasons))
    inputs = x.byte().numpy()
    outcome = simulate(integers, inputs, record=True)
    lines = verify(integers, inputs, ["xylosim"])
    if config is not None:
        write_xylo(integers, config)
    return {
        "simulator": float((outcome.predictions == labels.numpy()).mean()),
        "most spikes of a neuron in a step": int(max(each.max() for each in outcome.spikes.values())),
        "saturated": sum(line.saturated for line in outcome.counters.values()),
        "xylosim": [
            {"layer": line.layer, "spikes": line.spikes, "compared": line.compared, "different": line.different}
            if line.layer is not None
            else line.reason
            for line in lines
        ],
    }


def main(
    data_root: Annotated[Path, typer.Option(help="Folder with braille/braille_letters.npz.")],
    out: Annotated[Path, typer.Option(help="File of the results.")] = Path("xylo.json"),
    config: Annotated[Path | None, typer.Option(help="Where the configuration of seed 1 goes.")] = None,
    seeds: Annotated[int, typer.Option(help="How many, from 1 on.")] = 3,
) -> None:
    """Choose, train and measure."""
    data = letters(data_root / "braille" / "braille_letters.npz")
    results: dict[str, Any] = {"letters": LETTERS, "network": [16, HIDDEN, len(LETTERS)], "epochs": EPOCHS}
    results |= {f"{name} samples": len(labels) for name, (_, labels) in data.items()}
    for name, xylo in (("xylo in the loop", True), ("real numbers", False)):
        chosen = {}
        for decays in DECAYS:
            network = trained(data["train"], 0, xylo, decays)
            chosen[decays] = accuracy(network, data["held out"]), accuracy(network, data["train"])
            print(name, decays, chosen[decays], flush=True)
        decays = max(chosen, key=lambda each: chosen[each])
        found: dict[str, Any] = {
            "held out, train": [{"decays": each, "accuracy": value} for each, value in chosen.items()],
            "decays": decays,
            "seeds": {},
        }
        for seed in range(1, seeds + 1):
            network = trained(data["train"], seed, xylo, decays)
            line: dict[str, Any] = {"test": accuracy(network, data["test"])}
            if xylo:
                line |= measured(network, data, config if seed == 1 else None)
            found["seeds"][str(seed)] = line
            print(name, seed, line, flush=True)
        results[name] = found
        RESULTS.write(out, (json.dumps(results, indent=1) + "\n").encode())


if __name__ == "__main__":
    typer.run(main)
