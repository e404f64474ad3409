"""Images a second of the integer simulator, and of everything else here that can run the same network.

    python benchmarks/simulators.py
    python benchmarks/simulators.py --rounds 1 --only sanafe

One dense network without biases, reset "zero", random weights and input spikes: all of them run it bit for bit, and
every spike is compared. Simulators take turns; numbers are medians. What is not installed says so and is left out.

Setup is what a network costs once, run what its images cost; both leave out starting Python and importing:

- numpy, the integer simulator, has no setup.
- sanafe, brian2-loihi, lava: setup builds the network, and in lava starts a process for each part; run is the time of
  all samples with the resets between them. brian2-loihi takes the samples side by side, the others one by one.
- c, icarus, verilator: setup is the time of one image, with export and compilation; run is how much longer more take.
"""

import json
import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from environments import HERE
from rich.console import Console
from rich.table import Table

from spiking_lfp.deploy.backends.external import ExternalBackend
from spiking_lfp.deploy.chip import Backend
from spiking_lfp.deploy.chips import backend, backends
from spiking_lfp.deploy.layers import Array, Dense
from spiking_lfp.deploy.model import IntegerNetwork
from spiking_lfp.deploy.simulator import simulate
from spiking_lfp.errors import ExportError
from spiking_lfp.integers import IntegerLIF

# how many samples each runs: enough to time, few enough to wait for
SAMPLES = {"numpy": 4096, "c": 16384, "verilator": 512, "icarus": 16, "sanafe": 256, "brian2-loihi": 128, "lava": 32}
RATE = 0.15


def random_network(sizes: list[int], steps: int) -> IntegerNetwork:
    """Return a dense network with integer weights whose neurons spike at some tenths of the time at most."""
    random = np.random.default_rng(0)
    layers = []
    for k, (inputs, outputs) in enumerate(pairwise(sizes)):
        weight = np.clip(np.rint(random.normal(0, 40, (outputs, inputs))), -127, 127).astype(np.int8)
        theta = np.full(outputs, max(1, int(80 * (inputs * RATE) ** 0.5)), np.int32)
        bias, scale = np.zeros(outputs, np.int32), np.full(outputs, 0.01)
        layers.append(Dense(str(k), (inputs,), weight, bias, scale, 8, IntegerLIF(theta, 410, 6, "zero")))
    return IntegerNetwork(tuple(layers), "spikes", 1, steps, tuple(map(str, range(sizes[-1])))).check()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of `work`, and its result."""
    started = perf_counter()
    result = work()
    return perf_counter() - started, result


def measure(name: str, network: IntegerNetwork, inputs: Array) -> tuple[float, float, dict[str, Array]]:
    """Return seconds of setup, seconds of all samples, and the spikes; see the head of this file."""
    if name == "numpy":
        run, outcome = timed(lambda: simulate(network, inputs, record=True))
        return 0.0, run, outcome.spikes
    other: Backend = backend(name)
    if isinstance(other, ExternalBackend):
        result = other.timed(network, inputs)
        return result.setup, result.run, result.spikes
    setup, _ = timed(lambda: other.run(network, inputs[:, :1]))
    both, spikes = timed(lambda: other.run(network, inputs))
    return setup, max(both - setup, 1e-9) * inputs.shape[1] / max(1, inputs.shape[1] - 1), spikes


def why_not(name: str, network: IntegerNetwork) -> str | None:
    """Return why a simulator is left out, or None."""
    if name == "numpy":
        return None
    try:
        other = backend(name)
    except ModuleNotFoundError as error:
        return str(error)
    return other.missing() or other.unsupported(network)


def main(
    sizes: Annotated[list[int] | None, typer.Option(help="Neurons of each layer, inputs first.")] = None,
    steps: int = 25,
    rounds: Annotated[int, typer.Option(help="Turns of each simulator.")] = 5,
    only: Annotated[list[str] | None, typer.Option(help="Simulators, all without it; numpy always runs.")] = None,
    output: Path = HERE / "results" / "simulators.json",
) -> None:
    """Time every simulator that is here on one network."""
    sizes = sizes or [64, 64, 10]
    network = random_network(sizes, steps)
    console = Console(width=140)
    names = ["numpy"]
    for name in backends():
        if only and name not in only:
            continue
        if (reason := why_not(name, network)) is not None:
            console.print(f"{name} is left out: {reason}")
        else:
            names.append(name)
    random = np.random.default_rng(1)
    inputs = (random.random((steps, max(SAMPLES.values()), sizes[0])) < RATE).astype(np.uint8)
    expected = {name: simulate(network, inputs[:, : SAMPLES[name]], record=True).spikes for name in names}
    rates = {layer: float(spikes.mean()) for layer, spikes in expected["numpy"].items()}
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    compared: dict[str, int] = {}
    for _ in range(rounds):
        for name in names:
            setup, run, spikes = measure(name, network, inputs[:, : SAMPLES[name]])
            times[name].append((setup, run))
            compared[name] = sum(int(of.sum()) for of in spikes.values())
            for layer, result in spikes.items():
                if not np.array_equal(result, expected[name][layer]):
                    raise ExportError(f"{name}: layer {layer} has other spikes than the integer simulator")
    results: dict[str, dict[str, Any]] = {
        name: {
            "samples": SAMPLES[name],
            "setup_s": statistics.median(setup for setup, _ in taken),
            "images_per_s": SAMPLES[name] / statistics.median(run for _, run in taken),
            "spikes_compared": compared[name],
            "all_s": taken,
        }
        for name, taken in times.items()
    }
    title = f"{'-'.join(map(str, sizes))}, T = {steps}, median of {rounds}"
    shown = Table("simulator", "samples", "setup [s]", "images a second", "of numpy", "equal spikes", title=title)
    for name, of in results.items():
        ratio = of["images_per_s"] / results["numpy"]["images_per_s"]
        shown.add_row(
            name, str(of["samples"]), f"{of['setup_s']:.2f}", f"{of['images_per_s']:,.4g}", f"{ratio:.3g}",
            f"{of['spikes_compared']:,}",
        )  # fmt: skip
    console.print(shown)
    print("neurons that spike in a step: " + ", ".join(f"layer {layer} {rate:.0%}" for layer, rate in rates.items()))
    output.parent.mkdir(parents=True, exist_ok=True)
    machine = {"processor": platform.processor(), "cores": os.cpu_count()}
    settings = {"sizes": sizes, "T": steps, "rounds": rounds, "input_rate": RATE, "rates": rates}
    output.write_text(json.dumps({"machine": machine, "settings": settings, "results": results}, indent=1))
    print(f"written to {output}")


if __name__ == "__main__":
    typer.run(main)
