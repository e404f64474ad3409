"""Compare each stage of a training step with the least time that this machine needs for it.

    python benchmarks/bounds.py
    python benchmarks/bounds.py --networks 784-1000-10 --batches 5

The bound of a stage is the larger of two times: its multiply-adds at the rate of a dense product as large as the
largest dense layer, and the bytes of the tensors that it is given and returns, each moved once, at the rate of a copy.
Multiply-adds are those that the spikes call for: an input that is silent needs none, nor does, on the way back, an
output (of a convolution: a channel) without feedback in the whole batch. An addition counts as one: it takes the place
of one. Small tensors stay in cache, so a stage can be faster than its bound.

Steps and the machine's rates are measured in turns in one run, on real digits after some training, and counted on the
same batches and weights. All times are medians. Prints tables, writes JSON.
"""

import json
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import torch
import typer
from environments import HERE
from methods import BETA, METHODS, digits
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from spiking_lfp import AdaptiveClip, Epsilon, constant, kernels, propagate, reuse_freed_memory, spike_count_reward
from spiking_lfp.kernels import layout
from spiking_lfp.kernels.product import product
from spiking_lfp.kernels.spikes import PackedSpikes
from spiking_lfp.lfp.synapses import CORRELATED_ROWS, Convolution, Dense
from spiking_lfp.neurons import LIFNeuron, Trace

COPIED_BYTES = 100_000_000

# where the package looks up the functions of each stage
STAGES: dict[str, list[tuple[Any, str]]] = {
    "packing spikes": [(kernels, "pack_spikes")],
    "synapse forward": [(Dense, "current"), (Convolution, "current")],
    "LIF forward": [(kernels, "forward")],
    "pooling forward": [(kernels, "max_pool")],
    "LIF feedback": [(kernels, "feedback")],
    "synapse backward": [(Dense, "adjoints"), (Convolution, "adjoints")],
    "pooling backward": [(kernels, "max_pool_feedback")],
}
BACKWARD = ("LIF feedback", "synapse backward", "pooling backward")
ORDER = ["encode", *list(STAGES)[:4], "reward", *BACKWARD, "clip", "optimiser"]

# takes a stage and its function, and returns a function that does the same and looks on
Observe = Callable[[str, Callable[..., Any]], Callable[..., Any]]


@contextmanager
def watched(observe: Observe) -> Iterator[None]:
    """Let `observe` see every call of the package's stages."""
    with ExitStack() as stack:
        for stage, places in STAGES.items():
            for owner, name in places:
                stack.enter_context(patch.object(owner, name, observe(stage, getattr(owner, name))))
        yield


class Step:
    """A network and its training step."""

    def __init__(self, network: str, steps: int) -> None:
        trained = METHODS["spiking_lfp"](network, steps)
        self.model, self.optimizer, self.steps = trained.model, trained.optimizer, steps
        self.clip = AdaptiveClip(self.model.parameters())
        self.parameter_bytes = sum(parameter.nbytes for parameter in self.model.parameters())

    def propagate(self, images: Tensor, labels: Tensor, observe: Observe) -> None:
        """Run the network forward and back."""
        self.optimizer.zero_grad()
        spikes = self.model(observe("encode", constant)(images, self.steps))
        propagate(spikes, observe("reward", spike_count_reward)(spikes, labels) / self.steps)

    def update(self, observe: Observe) -> None:
        """Change the weights."""
        observe("clip", self.clip)()
        observe("optimiser", self.optimizer.step)()


class Timer:
    """Times every call of every stage."""

    def __init__(self) -> None:
        self.ms: dict[str, list[float]] = defaultdict(list)

    def observe(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Time the calls of `function`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            result = function(*args, **kwargs)
            self.ms[stage].append((time.perf_counter() - started) * 1e3)
            return result

        return call


class Counter:
    """Counts what every call of every stage has to do: multiply-adds of dense products, those needed, and bytes."""

    def __init__(self) -> None:
        self.work: dict[str, list[tuple[float, float, float]]] = defaultdict(list)

    def observe(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Count for the calls of `function`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            read = sum(map(size, (*args, *kwargs.values())))  # before kernels that overwrite
            result = function(*args, **kwargs)
            dense, needed = OPERATIONS[stage](*args) if stage in OPERATIONS else (0.0, 0.0)
            # a constant current is kept as it came
            written = result[:-1] if isinstance(result, tuple) and _keeps_current(result[-1]) else result
            self.work[stage].append((dense, needed, read + size(written)))
            return result

        return call


def _keeps_current(value: Any) -> bool:
    return isinstance(value, Trace) and value.states is None


def size(value: Any) -> int:
    """Return the bytes of all tensors in `value`, a tensor repeated over time counted once."""
    if isinstance(value, Tensor):
        lengths = zip(value.shape, value.stride(), strict=True)
        return value.element_size() * math.prod(length for length, stride in lengths if stride > 0)
    if isinstance(value, PackedSpikes):
        return size(value.bits) + size(value.counts)
    if isinstance(value, Trace):
        return size(value.record) + size(value.initial)
    return sum(map(size, value)) if isinstance(value, tuple) else 0


def forward_operations(
    synapse: Any, x: Tensor | PackedSpikes, weight: Tensor, bias: Tensor | None
) -> tuple[float, float]:
    """Return the multiply-adds of `W x`, dense and needed."""
    dense, needed = _pairs(synapse, x)
    return dense * len(weight), needed * len(weight)


def backward_operations(
    synapse: Any, q: Tensor, x: Tensor | PackedSpikes, weight: Tensor, need_input: bool, need_weight: bool
) -> tuple[float, float]:
    """Return the multiply-adds of `x * (W^T q)` and `sum q x^T`, dense and needed."""
    dense, needed = _pairs(synapse, x)
    alive = int((q != 0).movedim(2, 0).flatten(1).any(1).sum())
    products = need_input + need_weight
    return dense * len(weight) * products, needed * alive * products


OPERATIONS: dict[str, Callable[..., tuple[float, float]]] = {
    "synapse forward": forward_operations,
    "synapse backward": backward_operations,
}


def _pairs(synapse: Any, x: Tensor | PackedSpikes) -> tuple[float, float]:
    """Return how often an input meets a neuron or pixel that sees it: all inputs, and those that spike.

    Analogue inputs all count.
    """
    values = unpacked(x) if isinstance(x, PackedSpikes) else x
    spiking = bool(((values == 0) | (values == 1)).all())
    everything = values.new_full(values.shape[2:], values.shape[0] * values.shape[1], dtype=torch.float64)
    active = values.sum((0, 1), dtype=torch.float64) if spiking else everything
    if isinstance(synapse, Dense):
        return float(everything.sum()), float(active.sum())
    kernel = torch.ones(1, 1, *synapse.kernel_size, dtype=torch.float64)
    window = synapse.stride, synapse.padding, synapse.dilation
    seen = [F.conv2d(counts.sum(0)[None, None], kernel, None, *window).sum() for counts in (everything, active)]
    return float(seen[0]), float(seen[1])


def unpacked(spikes: PackedSpikes) -> Tensor:
    """Return spikes as they were, `[T, B, *i]`."""
    steps, batch, *sample = spikes.shape
    bits = np.unpackbits(spikes.bits.numpy().view(np.uint8), axis=1, bitorder="little")[:, : math.prod(sample)]
    ordered = (*sample[1:], sample[0]) if len(sample) == 3 else tuple(sample)
    return layout.show_channels_first(torch.from_numpy(bits).view(steps, batch, *ordered), 2)


def milliseconds(work: Callable[[], Any]) -> float:
    """Return the time of one `work`."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def copier(moved: int) -> Callable[[], Any]:
    """Return a copy that reads and writes `moved` bytes together."""
    source = torch.rand(moved // 8)
    return partial(torch.empty_like(source).copy_, source)


def largest_product(model: nn.Module, rows: int) -> tuple[Callable[[], Any], float]:
    """Return a dense product like that of the largest dense layer, and its multiply-adds."""
    weights = [module.weight.detach() for module in model.modules() if isinstance(module, nn.Linear)]
    weight = max(weights, key=Tensor.numel)
    x = torch.rand(rows, weight.shape[1])
    return partial(product, x, weight), float(rows * weight.numel())


def products_of(model: nn.Module, steps: int, batch: int) -> Callable[[], None]:
    """Return the dense products of an MLP's training step with constant inputs, and nothing else."""
    factors = []
    for layer, module in enumerate(module for module in model.modules() if isinstance(module, nn.Linear)):
        rows = batch if layer == 0 else steps * batch
        factors.append((torch.rand(rows, module.in_features), torch.rand(rows, module.out_features), module.weight))

    @torch.no_grad()
    def work() -> None:
        for layer, (x, q, weight) in enumerate(factors):
            product(x, weight)
            for q_part, x_part in zip(q.split(CORRELATED_ROWS), x.split(CORRELATED_ROWS), strict=True):
                product(q_part.T, x_part.T)
            if layer > 0:
                product(q, weight.T)

    return work


def measure(network: str, steps: int, batch: int, warm_up: int, batches: int) -> dict[str, Any]:
    """Return times, work and bounds of the stages of `network`."""
    torch.manual_seed(0)
    step = Step(network, steps)
    images, labels = digits((warm_up + batches) * batch)
    turns = list(zip(images.split(batch), labels.split(batch), strict=True))
    matrix, multiply_adds = largest_product(step.model, steps * batch)
    copy = copier(2 * COPIED_BYTES)
    works: dict[str, Callable[[], Any]] = {"matrix": matrix, "copy": copy}
    if all(not isinstance(module, nn.Conv2d) for module in step.model.modules()):
        works["products"] = products_of(step.model, steps, batch)
    for image, label in turns[:warm_up]:
        step.propagate(image, label, lambda _, function: function)
        step.update(lambda _, function: function)
    times: dict[str, list[float]] = defaultdict(list)
    stages: list[dict[str, list[float]]] = []
    counts: list[dict[str, list[tuple[float, float, float]]]] = []
    for image, label in turns[warm_up:]:
        counter, timer = Counter(), Timer()
        with watched(counter.observe):
            step.propagate(image, label, counter.observe)
        with watched(timer.observe):
            started = time.perf_counter()
            step.propagate(image, label, timer.observe)
            step.update(timer.observe)
            times["step"].append((time.perf_counter() - started) * 1e3)
        for name, work in works.items():
            times[name].append(milliseconds(work))
        # a look at the images
        counter.work["encode"] = [(0.0, 0.0, float(image.nbytes))]
        # norms of weights and updates, and scaled updates; weights, updates and both moments, and all but updates again
        counter.work["clip"].append((0.0, 0.0, 3.0 * step.parameter_bytes))
        counter.work["optimiser"].append((0.0, 0.0, 7.0 * step.parameter_bytes))
        stages.append(timer.ms)
        counts.append(counter.work)
    medians = {name: statistics.median(values) for name, values in times.items()}
    rate, bandwidth = multiply_adds / medians["matrix"], 2 * COPIED_BYTES / medians["copy"]  # per millisecond
    times["rest"] = [total - sum(map(sum, of.values())) for total, of in zip(times["step"], stages, strict=True)]
    return {
        "network": network,
        "step_ms": medians["step"],
        "rest_ms": statistics.median(times["rest"]),
        "products_ms": medians.get("products"),
        "gflops": 2 * rate / 1e6,
        "gb_per_s": bandwidth / 1e6,
        "stages": rows(stages, counts, rate, bandwidth),
    }


def rows(
    stages: list[dict[str, list[float]]],
    counts: list[dict[str, list[tuple[float, float, float]]]],
    rate: float,
    bandwidth: float,
) -> list[dict[str, Any]]:
    """Return one line for each call of each stage in a step: what medians over batches say."""
    layers = len(stages[0]["LIF forward"])
    lines = []
    for stage in ORDER:
        calls = len(stages[0][stage])
        for call in range(calls):
            taken = statistics.median(of[stage][call] for of in stages)
            dense, needed, moved = (statistics.median(of[stage][call][k] for of in counts) for k in range(3))
            bound = max(needed / rate, moved / bandwidth)
            place = calls - call if stage in BACKWARD else call + 1
            if stage == "packing spikes":
                place += layers - calls  # the first layer sees images
            numbered = stage in STAGES
            lines.append(
                {
                    "stage": f"{stage} {place}" if numbered else stage,
                    "ms": taken,
                    "dense_multiply_adds": dense,
                    "needed_multiply_adds": needed,
                    "bytes": moved,
                    "bound_ms": bound,
                    "limit": "operations" if needed / rate > moved / bandwidth else "bytes",
                }
            )
    return lines


def recursions(steps: int, batch: int, neurons: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return the milliseconds of the LIF recursions, and of a copy of the bytes that they must read and write."""
    current, reward = 2 * torch.rand(steps, batch, neurons) - 0.5, torch.randn(steps, batch, neurons)
    neuron = LIFNeuron(torch.tensor(BETA), torch.tensor(1.0), "subtract")
    trace = kernels.forward(neuron, current.clone(), steps, None)[2]
    copy = copier(3 * current.nbytes)
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        used_up = current.clone()
        # each reads or writes three tensors: current, membrane, spikes; and membrane, feedback, q
        times["forward"].append(milliseconds(partial(kernels.forward, neuron, used_up, steps, None)))
        times["copy beside forward"].append(milliseconds(copy))
        times["feedback"].append(milliseconds(partial(kernels.feedback, trace, reward, None, Epsilon(), False)))
        times["copy beside feedback"].append(milliseconds(copy))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {name: {"ms": medians[name], "copy_ms": medians[f"copy beside {name}"]} for name in ("forward", "feedback")}


def table(result: dict[str, Any]) -> Table:
    """Tabulate the stages of a network."""
    title = f"{result['network']}: {result['gflops']:.0f} GFLOP/s dense, {result['gb_per_s']:.1f} GB/s copied"
    shown = Table(
        "stage", "ms", "dense M mul-adds", "needed M", "MB", "bound ms", "limited by", "time / bound", title=title
    )
    for line in result["stages"]:
        operations = [line["dense_multiply_adds"], line["needed_multiply_adds"]]
        shown.add_row(
            line["stage"],
            f"{line['ms']:.2f}",
            *(f"{count / 1e6:.0f}" if operations[0] else "" for count in operations),
            f"{line['bytes'] / 1e6:.1f}",
            f"{line['bound_ms']:.2f}",
            line["limit"],
            f"{line['ms'] / line['bound_ms']:.1f}",
        )
    shown.add_row("the rest", f"{result['rest_ms']:.2f}")
    bound = sum(line["bound_ms"] for line in result["stages"])
    shown.add_row(
        "step", f"{result['step_ms']:.2f}", "", "", "", f"{bound:.2f}", "", f"{result['step_ms'] / bound:.1f}"
    )
    return shown


def main(
    networks: Annotated[list[str] | None, typer.Option(help="Networks, by default three.")] = None,
    steps: int = 25,
    batch: int = 128,
    warm_up: Annotated[int, typer.Option(help="Batches to train before.")] = 20,
    batches: Annotated[int, typer.Option(help="Batches to measure, each another.")] = 20,
    output: Path = HERE / "results" / "bounds.json",
) -> None:
    """Measure stages and their bounds."""
    reuse_freed_memory()
    console = Console(width=140)
    results = []
    for network in networks or ["784-1000-10", "784-1000-1000-10", "12C5-MP2-64C5-MP2-1024-10"]:
        results.append(measure(network, steps, batch, warm_up, batches))
        console.print(table(results[-1]))
    kernel_times = recursions(steps, batch, 1000, 10 * batches)
    ratios = Table("what", "ms", "against", "ms", "ratio", title="against what it cannot do without")
    for name, line in kernel_times.items():
        cells = f"{line['ms']:.2f}", "a copy of as many bytes", f"{line['copy_ms']:.2f}"
        ratios.add_row(f"LIF {name}, [{steps}, {batch}, 1000]", *cells, f"{line['ms'] / line['copy_ms']:.2f}")
    for result in results:
        if result["products_ms"] is not None:
            cells = f"{result['step_ms']:.2f}", "its dense products alone", f"{result['products_ms']:.2f}"
            ratios.add_row(f"step of {result['network']}", *cells, f"{result['step_ms'] / result['products_ms']:.2f}")
    console.print(ratios)
    output.parent.mkdir(parents=True, exist_ok=True)
    machine = {"threads": torch.get_num_threads(), "T": steps, "batch": batch}
    output.write_text(json.dumps({"machine": machine, "networks": results, "recursions": kernel_times}, indent=1))
    print(f"written to {output}")


if __name__ == "__main__":
    typer.run(main)
