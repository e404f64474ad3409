"""Measure spiking_lfp on a GPU: training steps, the LIF kernels against a copy, and the time to 98 % on MNIST.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --rounds 1 --batch 8 --skip-training      # does it run at all?

Steps: each method as its users have it, taking turns in one process; ours captured as a CUDA graph too, and with TF32
products. Kernels: bytes that have to be moved, over time, as a fraction of what a copy on the device reaches. Times are
medians between device events. Writes JSON.
"""

import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from environments import HERE
from methods import METHODS, NETWORKS, digits
from torch import Tensor

from spiking_lfp import AdaptiveClip, Epsilon, constant, kernels, propagate, spike_count_reward
from spiking_lfp.kernels.precision import products_in
from spiking_lfp.neurons import LIFNeuron
from spiking_lfp.training import preset_config, read_metrics, train

STEPS = 25


def milliseconds(work: Callable[[], Any], device: torch.device, repeat: int) -> float:
    """Return the time of one `work`, measured over `repeat` of them."""
    if device.type == "cpu":
        started = time.perf_counter()
        for _ in range(repeat):
            work()
        return (time.perf_counter() - started) * 1e3 / repeat
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(repeat):
        work()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / repeat


def step_of(method: str, network: str, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """Return a training step of `method`."""
    trained = METHODS[method](network, STEPS)
    trained.model.to(images.device)
    return lambda: trained.step(images, labels)


def captured_step(network: str, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """Return our training step as a CUDA graph."""
    model = METHODS["spiking_lfp"](network, STEPS).model.to(images.device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, capturable=True)
    clip, graph, stream = AdaptiveClip(model.parameters()), torch.cuda.CUDAGraph(), torch.cuda.Stream()

    def step() -> None:
        optimizer.zero_grad()
        spikes = model(constant(images, STEPS))
        propagate(spikes, spike_count_reward(spikes, labels) / STEPS)
        clip()
        optimizer.step()

    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def time_steps(device: torch.device, batch: int, rounds: int, repeat: int) -> dict[str, dict[str, float]]:
    """Return the milliseconds of a training step, by network and method."""
    images, labels = (tensor.to(device) for tensor in digits(batch))
    results = {}
    methods = ["spiking_lfp", "snntorch", "snntorch-merged"]
    if importlib.util.find_spec("spikingjelly"):
        methods.append("spikingjelly")
    for network in NETWORKS:
        steps = {name: step_of(name, network, images, labels) for name in methods}
        if device.type == "cuda":
            steps["spiking_lfp, graph"] = captured_step(network, images, labels)
        times: dict[str, list[float]] = {name: [] for name in [*steps, "spiking_lfp, TF32"]}
        for work in steps.values():
            work()  # compile and tune
        for _ in range(rounds):
            for name, work in steps.items():
                times[name].append(milliseconds(work, device, repeat))
            with products_in("high"):
                times["spiking_lfp, TF32"].append(milliseconds(steps["spiking_lfp"], device, repeat))
        results[network] = {name: statistics.median(values) for name, values in times.items()}
        print(network, {name: f"{value:.2f} ms" for name, value in results[network].items()})
    return results


def time_kernels(device: torch.device, batch: int, rounds: int, repeat: int) -> dict[str, dict[str, float]]:
    """Return, by kernel, the milliseconds, the bytes a second, and what a copy of as many bytes reaches."""
    shape, value = (batch, 4096), torch.tensor(0.9, device=device)
    neuron, results = LIFNeuron(value, value, "subtract"), {}
    for dtype in (torch.float32, torch.bfloat16):
        full, single = (
            torch.rand(STEPS, *shape, device=device).to(dtype),
            torch.rand(1, *shape, device=device).to(dtype),
        )
        size = full.numel() * full.element_size()
        recorded = kernels.forward(neuron, full.clone(), STEPS, None)[2]
        replayed = kernels.forward(neuron, single, STEPS, None)[2]
        reward = torch.randn_like(full)
        forward = partial(kernels.forward, neuron, steps=STEPS, initial=None)
        feedback = partial(kernels.feedback, spike_feedback=reward, final_feedback=None, rule=Epsilon())
        # each with the tensors [T, B, n] that it has to read or write at least
        works: dict[str, tuple[int, Callable[[], Any]]] = {
            "copy": (2, partial(full.copy_, reward)),
            "forward": (3, partial(forward, full)),
            "forward, constant": (1, partial(forward, single)),
            "feedback": (3, partial(feedback, recorded, summed=False)),
            "feedback, constant": (1, partial(feedback, replayed, summed=True)),
        }
        rates = {}
        for name, (moved, work) in works.items():
            work()
            taken = statistics.median(milliseconds(work, device, repeat) for _ in range(rounds))
            rates[name] = moved * size / taken / 1e6
            results[f"{name}, {dtype}"] = {"ms": taken, "GB/s": rates[name], "of a copy": rates[name] / rates["copy"]}
            print(
                f"{name}, {dtype}: {taken:.3f} ms, {rates[name]:.0f} GB/s, {rates[name] / rates['copy']:.0%} of a copy"
            )
    return results


def time_to_98(device: torch.device, data: str) -> dict[str, float]:
    """Return the seconds of training until the test accuracy is 98 %, evaluation aside, by preset."""
    results = {}
    for preset in ("mnist-mlp", "mnist-lenet"):
        with tempfile.TemporaryDirectory() as folder:
            run = train(preset_config(preset, {"data": data}), Path(folder) / "run", device=str(device))
            lines = [line for line in read_metrics(run) if line["kind"] == "epoch"]
        reached = [index for index, line in enumerate(lines) if line["test"]["accuracy"] >= 0.98]
        results[preset] = sum(line["seconds"] for line in lines[: reached[0] + 1]) if reached else float("inf")
        print(f"{preset}: {results[preset]:.1f} s to 98 %, best {max(line['test']['accuracy'] for line in lines):.2%}")
    return results


def main(
    device: str = "cuda",
    batch: int = 128,
    rounds: Annotated[int, typer.Option(help="Turns of each method.")] = 7,
    repeat: Annotated[int, typer.Option(help="Steps or launches a turn.")] = 20,
    data: Annotated[str, typer.Option(help="Data set of the training runs.")] = "mnist",
    skip_training: Annotated[bool, typer.Option("--skip-training", help="Only steps and kernels.")] = False,
    output: Path = HERE / "results" / "gpu.json",
) -> None:
    """Measure on a GPU."""
    target = torch.device(device)
    results = {
        "device": torch.cuda.get_device_name(target) if target.type == "cuda" else device,
        "batch": batch,
        "steps_ms": time_steps(target, batch, rounds, repeat),
        "kernels": time_kernels(target, batch, rounds, repeat),
        "seconds_to_98": None if skip_training else time_to_98(target, data),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1))
    print(f"written to {output}")


if __name__ == "__main__":
    typer.run(main)
