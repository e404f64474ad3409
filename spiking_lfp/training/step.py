"""One training step, one evaluation step, and the measurement of spike rates."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from spiking_lfp.checks import to_number
from spiking_lfp.lfp.rewards import Reward, logit_reward, propagate, spike_count_reward
from spiking_lfp.nn.carry import current_carry
from spiking_lfp.nn.chunks import run_in_chunks
from spiking_lfp.nn.layers import failures_named
from spiking_lfp.nn.norm import not_counted
from spiking_lfp.nn.optim import AdaptiveClip
from spiking_lfp.nn.spiking import SpikingLayer, firing_layers
from spiking_lfp.training.distributed import sum_updates


@dataclass
class Meter:
    """Sums of metrics over samples, as plain numbers that a checkpoint can store.

    On a GPU they are tensors until `settle`, so that counting does not make the host wait.

    Attributes:
        samples: number of samples.
        correct: number of samples classified correctly; see `correct` for targets other than class indices.
        reward: sum over samples of the reward, summed over steps and classes and divided by T.
        rates: for each layer, sum over samples of the spikes per neuron and step.

    Example:
        >>> meter = Meter(samples=4, correct=3, reward=0.5, rates={"0": 0.4, "1": 0.0})
        >>> meter.accuracy, meter.silent_layers()
        (0.75, ['1'])
    """

    samples: int = 0
    correct: int | float = 0
    reward: float = 0.0
    rates: dict[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Fraction of samples classified correctly."""
        self.settle()
        return self.correct / self.samples

    def settle(self) -> None:
        """Convert tensors on a GPU to plain numbers, which waits for the GPU."""
        self.correct, self.reward = float(self.correct), float(self.reward)
        self.correct = int(self.correct) if self.correct.is_integer() else self.correct
        self.rates = {name: float(rate) for name, rate in self.rates.items()}

    def add(self, other: "Meter") -> None:
        """Add the sums of `other`."""
        self.samples += other.samples
        self.correct += other.correct
        self.reward += other.reward
        for name, rate in other.rates.items():
            self.rates[name] = self.rates.get(name, 0.0) + rate

    def summary(self) -> dict[str, object]:
        """Return the number of samples and the means over them, for a line of metrics."""
        self.settle()
        return {
            "samples": self.samples,
            "accuracy": self.accuracy,
            "reward": self.reward / self.samples,
            "spike_rates": {name: rate / self.samples for name, rate in self.rates.items()},
        }

    def silent_layers(self) -> list[str]:
        """Return the names of the layers that did not spike at all."""
        return [name for name, rate in self.rates.items() if rate == 0]


@contextmanager
def watch_spikes(network: nn.Module, meter: Meter, lengths: Int[Tensor, " batch"] | None = None) -> Iterator[None]:
    """Add up in `meter` the spike rates of all spiking layers while `network` runs; hooks are removed at the end.

    Args:
        network: whose layers are watched.
        meter: for their rates; count the samples in it yourself.
        lengths: how many steps of each sample count; None if all do.

    Example:
        >>> network, meter = nn.Sequential(LIF(nn.Linear(4, 8)), LIF(nn.Linear(8, 3))), Meter()
        >>> with watch_spikes(network, meter):
        ...     spikes = network(torch.rand(10, 2, 4))
        >>> sorted(meter.rates)
        ['0', '1']
    """

    def hook_for(name: str) -> object:
        def hook(module: SpikingLayer, inputs: tuple[Tensor, ...], spikes: Tensor) -> None:
            carry = current_carry()
            if carry is not None and carry.recomputing:
                return
            share = 1 if carry is None else carry.share
            if lengths is None:
                rate = to_number(spikes.detach().mean()) * (share * spikes.shape[1])
            else:
                means = spikes.detach().flatten(2).mean(2) * (steps_of(spikes) < lengths)
                rate = to_number((means.sum(0) / lengths).sum())
            meter.rates[name] = meter.rates.get(name, 0.0) + rate

        return hook

    handles = [layer.register_forward_hook(hook_for(name)) for name, layer in firing_layers(network).items()]  # type: ignore[arg-type]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def training_step(
    network: nn.Module,
    x: Float[Tensor, "steps batch *i"],
    labels: Shaped[Tensor, " batch *targets"],
    optimizer: torch.optim.Optimizer,
    clip: AdaptiveClip | None,
    meter: Meter,
    chunk: int = 0,
    reward: Reward = spike_count_reward,
    lengths: Int[Tensor, " batch"] | None = None,
) -> None:
    """Run `network` on the sequences `x`, reward its spikes, and update it once; add the outcome to `meter`.

    With a `chunk`, the network runs that many steps at a time: see `run_in_chunks`. With `lengths`, the steps of a
    sample from its length on are padding: what the outputs do there earns no reward.
    Several processes, each with its own samples, make one update together.

    Args:
        network: from `x` to outputs `[T, B, C]`.
        x: `[T, B, ...]`.
        labels: class indices `[B]`, or other targets of the reward.
        optimizer: of the network's parameters.
        clip: clips the updates, if not None.
        meter: for the outcome.
        chunk: steps at a time, 0 for all at once.
        reward: as `spike_count_reward`.
        lengths: of the samples, int64 `[B]`; None if all steps count.

    Raises:
        UsageError: if labels do not fit the outputs.
        NonFiniteError: if NaN or infinity appears, with the layer's name.

    Example:
        >>> network, meter = nn.Sequential(LIF(nn.Linear(4, 8)), LIF(nn.Linear(8, 3))), Meter()
        >>> optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        >>> training_step(network, torch.rand(10, 2, 4), torch.tensor([0, 2]), optimizer, None, meter)
        >>> meter.samples
        2
    """
    optimizer.zero_grad()
    outputs = _run(network, x, chunk)
    rewards = mean_reward(reward, outputs, labels, lengths)
    _update(network, outputs, rewards, optimizer, clip)
    meter.samples += len(labels)
    meter.correct += to_number(correct(predictions_of(outputs, labels, reward, lengths), labels))
    meter.reward += to_number(rewards.sum())


def idle_step(
    network: nn.Module,
    x: Float[Tensor, "steps batch *i"],
    optimizer: torch.optim.Optimizer,
    clip: AdaptiveClip | None,
    chunk: int = 0,
) -> None:
    """Take part in the training step of other processes without samples of one's own: the reward of `x` is 0."""
    optimizer.zero_grad()
    with not_counted():
        outputs = _run(network, x, chunk)
    _update(network, outputs, torch.zeros_like(outputs), optimizer, clip)


@torch.no_grad()
def evaluation_step(
    network: nn.Module,
    x: Float[Tensor, "steps batch *i"],
    labels: Shaped[Tensor, " batch *targets"],
    meter: Meter,
    chunk: int = 0,
    reward: Reward = spike_count_reward,
    lengths: Int[Tensor, " batch"] | None = None,
) -> Shaped[Tensor, " batch *targets"]:
    """Run `network` on the sequences `x`, add to `meter` how many are classified correctly, return all predictions."""
    outputs = _run(network, x, chunk)
    predictions = predictions_of(outputs, labels, reward, lengths)
    meter.samples += len(labels)
    meter.correct += to_number(correct(predictions, labels))
    meter.reward += to_number(mean_reward(reward, outputs, labels, lengths).sum())
    return predictions


def mean_reward(reward: Reward, outputs: Tensor, labels: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return the reward of `outputs` `[T, B, ...]` divided by T; with `lengths`, each sample has its own T."""
    if lengths is None:
        return reward(outputs, labels) / len(outputs)
    rewards = torch.zeros_like(outputs)
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero()[:, 0]
        rewards[:length, rows] = reward(outputs[:length, rows], labels[rows]).to(rewards.dtype) / length
    return rewards


def steps_of(outputs: Tensor) -> Tensor:
    """Return the numbers of the steps of `[T, B, ...]`, `[T, 1]`."""
    return torch.arange(len(outputs), device=outputs.device)[:, None]


def _run(network: nn.Module, x: Tensor, chunk: int) -> Tensor:
    with failures_named(network):
        outputs: Tensor = run_in_chunks(network, x, chunk) if chunk else network(x)
    return outputs


def _update(
    network: nn.Module, outputs: Tensor, reward: Tensor, optimizer: torch.optim.Optimizer, clip: AdaptiveClip | None
) -> None:
    propagate(outputs, reward)
    sum_updates(network)
    if clip is not None:
        clip()
    optimizer.step()


def predictions_of(outputs: Tensor, targets: Tensor, reward: Reward, lengths: Tensor | None = None) -> Tensor:
    """Return what the outputs `[T, B, C, *places]` say, in the shape of the targets.

    Where these are class indices, `[B, *places]`, it is the class that spiked most, of equal ones the first; where they
    are values, `[B, C, *places]`, the mean output over time, or its sigmoid for `logit_reward`.
    """
    outputs = outputs.detach()
    if lengths is not None:
        outputs = outputs * (steps_of(outputs) < lengths).view(*outputs.shape[:2], *[1] * (outputs.dim() - 2))
    if targets.dim() < outputs.dim() - 1:
        return outputs.sum(0).argmax(1)
    means = outputs.sum(0) / (len(outputs) if lengths is None else lengths.view(-1, *[1] * (targets.dim() - 1)))
    return means.sigmoid() if getattr(reward, "func", reward) is logit_reward else means


def correct(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return how many samples are right.

    Of a sample with several class indices it is the share that is right, and of one with values the share of outputs
    that come within 0.5 of theirs: the right side, for labels of 0 and 1.
    """
    right = predictions == targets
    if predictions.is_floating_point():
        right = (predictions - targets.to(predictions.dtype)).abs() < 0.5
    return right.sum() if targets.dim() == 1 else right.flatten(1).double().mean(1).sum()
