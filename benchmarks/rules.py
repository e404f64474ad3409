"""What a rule costs: training steps by every composite, relative to LFP-epsilon or, without spikes, to gradients.

Real digits, batch 128 for spiking and 32 for non-spiking networks. Medians over the rounds of one run, in which the
composites take turns.

    python benchmarks/rules.py --rounds 7
"""

import argparse
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from timing import medians_ms

from spiking_lfp import AdaptiveClip, composite, constant, lenet, load_dataset, mlp, reuse_freed_memory
from spiking_lfp.nn.composites import COMPOSITES
from spiking_lfp.studies.lfp_paper import ann
from spiking_lfp.training import Meter, training_step

STEPS = 25


def spiking(build: Callable[[], torch.nn.Sequential], rule: str) -> Callable[[], object]:
    """Return a training step of a spiking network by a composite."""
    digits = load_dataset("mnist-subset")
    torch.manual_seed(1)
    network = build()
    composite(rule).assign(network)
    x, labels = constant(digits.train_images[:128].float() / 255, STEPS), digits.train_labels[:128]
    optimizer, clip = torch.optim.Adam(network.parameters(), 1e-3, fused=True), AdaptiveClip(network.parameters())
    return lambda: training_step(network, x, labels, optimizer, clip, Meter())


def plain(build: Callable[[], torch.nn.Sequential], method: str) -> Callable[[], object]:
    """Return a training step of a non-spiking network by a composite or by gradients."""
    data = ann.Data.of_images(load_dataset("mnist-subset"))
    torch.manual_seed(1)
    model = build()
    learner = ann.Learner(model, method, torch.optim.SGD(model.parameters(), 1e-3))
    return lambda: learner.update(data.train_x[:32], data.train_y[:32])


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    reuse_freed_memory()
    networks: dict[str, tuple[str, dict[str, Callable[[], object]]]] = {
        f"spiking MLP, T = {STEPS}": ("epsilon", {rule: spiking(mlp, rule) for rule in COMPOSITES}),
        f"spiking LeNet, T = {STEPS}": ("epsilon", {rule: spiking(lenet, rule) for rule in COMPOSITES}),
        "MLP, ReLU": (
            ann.GRADIENT,
            {method: plain(lambda: ann.relu_mlp([784, 1000, 1000, 10]), method) for method in ann.METHODS},
        ),
        "LeNet, ReLU": (
            ann.GRADIENT,
            {method: plain(lambda: ann.lenet((1, 28, 28), 10), method) for method in ann.METHODS},
        ),
    }
    table = Table("network", "method", "step", "against")
    for network, (base, calls) in networks.items():
        times = medians_ms(calls, options.rounds)
        for name, each in times.items():
            table.add_row(network, name, f"{each:.1f} ms", f"{each / times[base]:.2f} x {base}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
