"""One training step, and what is seen of the layers while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from spiking_lfp.checks import to_number
from spiking_lfp.lfp.rewards import Reward, propagate, spike_count_reward
from spiking_lfp.nn.carry import current_carry
from spiking_lfp.nn.chunks import run_in_chunks
from spiking_lfp.nn.optim import AdaptiveClip
from spiking_lfp.nn.spiking import SpikingLayer, spiking_layers
from spiking_lfp.training.distributed import sum_updates


@dataclass
class Meter:
    """Sums over samples, as plain numbers that a checkpoint can carry.

    On a GPU they are tensors until they are settled, so that counting does not make the host wait.

    Attributes:
        samples: how many were seen.
        correct: how many were classified right.
        reward: the reward summed over steps and classes, divided by T, of all samples.
        rates: per layer, the spikes per neuron and step, summed over samples.
    """

    samples: int = 0
    correct: int = 0
    reward: float = 0.0
    rates: dict[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Fraction of samples classified right."""
        self.settle()
        return self.correct / self.samples

    def settle(self) -> None:
        """Make plain numbers of what is on a GPU, and wait for it."""
        self.correct, self.reward = int(self.correct), float(self.reward)
        self.rates = {name: float(rate) for name, rate in self.rates.items()}

    def add(self, other: "Meter") -> None:
        """Count what `other` has seen too."""
        self.samples += other.samples
        self.correct += other.correct
        self.reward += other.reward
        for name, rate in other.rates.items():
            self.rates[name] = self.rates.get(name, 0.0) + rate

    def summary(self) -> dict[str, object]:
        """Return the means per sample, and of how many, for a line of metrics."""
        self.settle()
        return {
            "samples": self.samples,
            "accuracy": self.accuracy,
            "reward": self.reward / self.samples,
            "spike_rates": {name: rate / self.samples for name, rate in self.rates.items()},
        }

    def silent_layers(self) -> list[str]:
        """Return the layers that did not spike at all."""
        return [name for name, rate in self.rates.items() if rate == 0]


@contextmanager
def watch_spikes(network: nn.Module, meter: Meter) -> Iterator[None]:
    """Add up in `meter` the spike rates of all layers with neurons while `network` runs; leaves no hook behind."""

    def watcher(name: str) -> object:
        def hook(module: SpikingLayer, inputs: tuple[Tensor, ...], spikes: Tensor) -> None:
            carry = current_carry()
            if carry is not None and carry.recomputing:
                return
            share = 1 if carry is None else carry.share
            rate = to_number(spikes.detach().mean()) * (share * spikes.shape[1])
            meter.rates[name] = meter.rates.get(name, 0.0) + rate

        return hook

    handles = [layer.register_forward_hook(watcher(name)) for name, layer in spiking_layers(network).items()]  # type: ignore[arg-type]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def training_step(
    network: nn.Module,
    x: Float[Tensor, "steps batch *i"],
    labels: Int[Tensor, " batch"],
    optimizer: torch.optim.Optimizer,
    clip: AdaptiveClip | None,
    meter: Meter,
    chunk: int = 0,
    reward: Reward = spike_count_reward,
) -> None:
    """Show the sequences `x`, reward the spikes, and update `network` once; count the outcome in `meter`.

    With a `chunk`, so many steps at a time: see `run_in_chunks`.
    Several processes, each with samples of its own, make one update of them all.
    """
    optimizer.zero_grad()
    spikes = _show(network, x, chunk)
    earned = reward(spikes, labels) / len(spikes)
    _learn(network, spikes, earned, optimizer, clip)
    meter.samples += len(labels)
    meter.correct += to_number(_correct(spikes, labels))
    meter.reward += to_number(earned.sum())


def idle_step(
    network: nn.Module,
    x: Float[Tensor, "steps batch *i"],
    optimizer: torch.optim.Optimizer,
    clip: AdaptiveClip | None,
    chunk: int = 0,
) -> None:
    """Take part in the training step of other processes without a sample to learn: these ones earn no reward."""
    optimizer.zero_grad()
    spikes = _show(network, x, chunk)
    _learn(network, spikes, torch.zeros_like(spikes), optimizer, clip)


@torch.no_grad()
def evaluation_step(
    network: nn.Module,
    x: Float[Tensor, "steps batch *i"],
    labels: Int[Tensor, " batch"],
    meter: Meter,
    chunk: int = 0,
    reward: Reward = spike_count_reward,
) -> None:
    """Show the sequences `x` and count in `meter` how many are classified right."""
    spikes = _show(network, x, chunk)
    meter.samples += len(labels)
    meter.correct += to_number(_correct(spikes, labels))
    meter.reward += to_number(reward(spikes, labels).sum()) / len(spikes)


def _show(network: nn.Module, x: Tensor, chunk: int) -> Tensor:
    spikes: Tensor = run_in_chunks(network, x, chunk) if chunk else network(x)
    return spikes


def _learn(
    network: nn.Module, spikes: Tensor, reward: Tensor, optimizer: torch.optim.Optimizer, clip: AdaptiveClip | None
) -> None:
    propagate(spikes, reward)
    sum_updates(network)
    if clip is not None:
        clip()
    optimizer.step()


def _correct(spikes: Tensor, labels: Tensor) -> Tensor:
    """Count the samples whose class spiked most; a tie goes to the first class."""
    return (spikes.detach().sum(0).argmax(-1) == labels).sum()
