"""What an update costs by depth: back-propagation has to go through all layers again, mDFA reaches them all at once.

The critical path counts products one of which needs the other's result: L for the forward pass of L layers, then for
back-propagation L - 1 for the deltas and 1 for the updates, for mDFA 1 for all deltas together and 1 for the updates.
Wall time is that of the same engine by both methods, and of autograd; medians, one after the other in every round.

    python benchmarks/latency.py --rounds 21
    python benchmarks/latency.py --output docs/experiments/latency.jsonl     # for the table in docs/mdfa.md
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from environments import HERE
from records import add
from rich.console import Console
from rich.table import Table
from timing import medians_ms
from torch import Tensor
from torch.nn import functional as F

from spiking_lfp import reuse_freed_memory
from spiking_lfp.mono import FeedbackAlignment, FeedforwardNet, fully_connected, loss_gradient

DEPTHS = (2, 4, 8, 16, 32, 64)


def critical_path(layers: int, direct: bool) -> int:
    """Return how many products of an update, the forward pass included, wait for each other."""
    return layers + (2 if direct else layers)


def autograd(net: FeedforwardNet, x: Tensor, labels: Tensor) -> Callable[[], object]:
    """Return the forward pass with its tape, and the function that goes back on it."""

    def call() -> None:
        h = x
        for index, synapse in enumerate(net.synapses):
            h = synapse(h)
            h = h if index == len(net.synapses) - 1 else torch.tanh(h)
        F.binary_cross_entropy_with_logits(h[:, 0], labels.float()).backward()

    return call


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "latency.jsonl")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    reuse_freed_memory()
    table = Table("hidden layers", "path BP", "path mDFA", "forward", "BP", "mDFA", "BP / mDFA", "autograd, both ways")
    for depth in DEPTHS:
        torch.manual_seed(0)
        width = options.width
        net = fully_connected(width, (width,) * depth, 1, "tanh", "later")
        x, labels = torch.rand(options.batch, width), torch.randint(2, (options.batch,))
        methods = {name: FeedbackAlignment(net, name, x) for name in ("bp", "mdfa")}
        with torch.no_grad():
            activations = net.activations(x)
        error = loss_gradient(activations[-1], labels)

        forward = torch.no_grad()(partial(net.activations, x))
        calls: dict[str, Callable[[], object]] = {"forward": forward, "autograd": autograd(net, x, labels)}
        for name, method in methods.items():
            calls[name] = partial(method.assign, activations, error)
        times = medians_ms(calls, options.rounds)
        path = {name: critical_path(depth + 1, name == "mdfa") for name in methods}
        line = {"hidden layers": depth, "width": width, "batch": options.batch, "path": path, "ms": times}
        add(options.output, line, options.threads)
        table.add_row(
            str(depth),
            *map(str, path.values()),
            *(f"{times[name]:.2f} ms" for name in ("forward", "bp", "mdfa")),
            f"{times['bp'] / times['mdfa']:.1f}",
            f"{times['autograd']:.2f} ms",
        )
    Console().print(f"width {options.width}, batch {options.batch}, {options.threads} thread(s)")
    Console().print(table)


if __name__ == "__main__":
    main()
