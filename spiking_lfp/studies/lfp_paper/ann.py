"""Training of artificial (non-spiking) neural networks by LFP or by gradients, with the measurements of the paper."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler

from spiking_lfp.checks import raise_deferred
from spiking_lfp.data import ImageDataset
from spiking_lfp.errors import NonFiniteError, unknown_name
from spiking_lfp.lfp.rewards import logit_reward, propagate
from spiking_lfp.nn.composites import COMPOSITES, Composite, composite
from spiking_lfp.studies.experiment import deviation
from spiking_lfp.training.devices import pick_device

GRADIENT = "gradient"
METHODS = (GRADIENT, *COMPOSITES)
# names and colours in figures, from Okabe and Ito's palette, which the colour-blind can tell apart
NAMES = {
    GRADIENT: "gradient",
    "epsilon": r"LFP-$\epsilon$",
    "zplus-zminus": "LFP-$z^+z^-$",
    "alpha2-beta1": r"LFP-$\alpha 2\beta 1$",
    "epsilon-zplus-zminus": r"LFP-$\epsilon$-$z^+z^-$",
    "epsilon-alpha2-beta1": r"LFP-$\epsilon$-$\alpha 2\beta 1$",
}
COLOURS = {
    GRADIENT: "black",
    "epsilon": "#0072b2",
    "zplus-zminus": "#d55e00",
    "alpha2-beta1": "#009e73",
    "epsilon-zplus-zminus": "#e69f00",
    "epsilon-alpha2-beta1": "#cc79a7",
}


@dataclass(frozen=True)
class Data:
    """Samples in memory: inputs `[N, ...]` as float32, labels `[N]`."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: int

    @classmethod
    def of_images(cls, images: ImageDataset) -> "Data":
        """Return the images of a data set, scaled to 0..1."""
        train, test = (pixels.float().div(255) for pixels in (images.train_images, images.test_images))
        return cls(train, images.train_labels, test, images.test_labels, len(images.class_names))

    def to(self, device: torch.device) -> "Data":
        """Return the same samples on `device`."""
        train = self.train_x.to(device), self.train_y.to(device)
        return Data(*train, self.test_x.to(device), self.test_y.to(device), self.classes)


class Learner:
    """Updates a non-spiking network, batch by batch.

    Gradients are those of the mean cross entropy; the reward, LFP eq. 7 unless another is given, is divided by the
    number of samples.

    Args:
        model: computes logits from inputs.
        method: "gradient" or the name of a composite.
        optimizer: of the model's parameters.
        normalize: divide the feedback by its largest magnitude after each layer; for gradients this needs
            `NormalizeFeedback` modules in the model.
        reward: of logits `[B, C]` and labels.
        clip: largest norm of an update, before the learning rate; 0 for none.
        schedule: takes a step after each update.
    """

    def __init__(
        self,
        model: nn.Module,
        method: str,
        optimizer: torch.optim.Optimizer,
        normalize: bool = False,
        reward: Callable[[Tensor, Tensor], Tensor] = logit_reward,
        clip: float = 0.0,
        schedule: LRScheduler | None = None,
    ) -> None:
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
        self.model, self.optimizer = model, optimizer
        self.reward, self.clip, self.schedule = reward, clip, schedule
        self.composite: Composite | None = None
        if method != GRADIENT:
            unnormalized = composite(method)
            self.composite = Composite(unnormalized.default, unnormalized.types, normalize=normalize)

    def update(self, x: Tensor, labels: Tensor) -> None:
        """Update the network once, by a batch."""
        self.optimizer.zero_grad()
        if self.composite is None:
            F.cross_entropy(self.model(x), labels).backward()
        else:
            with self.composite.applied(self.model):
                logits = self.model(x)
            propagate(logits, self.reward(logits, labels) / len(labels))
        if self.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, labels: Tensor, batch_size: int = 500) -> float:
    """Return the fraction of samples classified correctly, in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    correct = sum(
        int((model(inputs.to(device)).argmax(1) == classes.to(device)).sum())
        for inputs, classes in zip(x.split(batch_size), labels.split(batch_size), strict=True)
    )
    return correct / len(labels)


class ParameterWatch:
    """Measures how the parameters of a model change between calls of `measure` (LFP fig. 3, 5, A.6)."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.before = self._parameters()

    def measure(self) -> dict[str, float]:
        """Compare the parameters with those of the last call.

        Returns:
            `sign_changes`, the fraction of parameters whose sign changed; `change`, the mean squared difference;
            `median`, the median magnitude of the weights, divided by the 75th percentile.
        """
        now = self._parameters()
        changed = int((now.sign() != self.before.sign()).sum()) / len(now)
        difference = float((now - self.before).square().mean())
        self.before = now
        magnitudes = torch.cat([each.detach().flatten() for each in self.model.parameters() if each.dim() > 1]).abs()
        if len(magnitudes) > 1_000_000:  # quantile takes at most 16 million values, and a sample is as good
            magnitudes = magnitudes[:: len(magnitudes) // 1_000_000]
        median, upper = (float(quantile) for quantile in magnitudes.quantile(magnitudes.new_tensor([0.5, 0.75])))
        return {"sign_changes": changed, "change": difference, "median": median / upper if upper else 0.0}

    def _parameters(self) -> Tensor:
        return torch.cat([each.detach().flatten() for each in self.model.parameters()])


@torch.no_grad()
def pruned_accuracies(model: nn.Module, data: Data, fractions: Sequence[float]) -> list[float]:
    """Return the test accuracies with fractions of the smallest weights set to 0; the model is unchanged afterwards."""
    weights = [each for each in model.parameters() if each.dim() > 1]
    originals = [each.clone() for each in weights]
    magnitudes = torch.cat([each.flatten() for each in weights]).abs().sort().values
    accuracies = []
    for fraction in fractions:
        pruned = round(fraction * len(magnitudes))
        largest = magnitudes[pruned - 1] if pruned else -1.0
        for weight, original in zip(weights, originals, strict=True):
            weight.copy_(torch.where(original.abs() > largest, original, 0.0))
        accuracies.append(accuracy(model, data.test_x, data.test_y))
    for weight, original in zip(weights, originals, strict=True):
        weight.copy_(original)
    return accuracies


def train(
    learner: Learner,
    data: Data,
    epochs: int,
    batch_size: int,
    seed: int,
    learner_from: Mapping[int, Learner] | None = None,
) -> dict[str, list[float]]:
    """Train for some epochs, and return the measurements after each: accuracy, changes of parameters, seconds.

    Runs on a GPU if there is one. Once feedback is NaN or infinite, the network is not updated any more.

    Args:
        learner: updates the network.
        data: all training samples are seen in every epoch, in a new order.
        epochs: number of epochs.
        batch_size: samples per update.
        seed: of the order of the samples.
        learner_from: learners of the same network that take over after a number of updates.
    """
    generator = torch.Generator().manual_seed(seed)
    device = pick_device("auto")
    learner.model.to(device)
    data = data.to(device)
    watch = ParameterWatch(learner.model)
    curves: dict[str, list[float]] = {}
    updates, diverged = 0, False
    for _ in range(epochs):
        started = time.perf_counter()
        learner.model.train()
        order = torch.randperm(len(data.train_y), generator=generator)
        try:
            for batch in () if diverged else order.split(batch_size):
                learner = (learner_from or {}).get(updates, learner)
                learner.update(data.train_x[batch], data.train_y[batch])
                updates += 1
            raise_deferred()
        except NonFiniteError:
            diverged = True  # that a learning rate is too large is a result, too
        measurements = {
            "seconds": time.perf_counter() - started,
            "accuracy": accuracy(learner.model, data.test_x, data.test_y),
            **watch.measure(),
        }
        for name, value in measurements.items():
            curves.setdefault(name, []).append(value)
    return curves


def relu_mlp(sizes: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Build a network of dense layers with ReLU between them (LFP app. A.1, A.6.1)."""
    layers: list[nn.Module] = [nn.Flatten()]
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        if index:
            layers.append(nn.ReLU())
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*layers)


def lenet(in_shape: Sequence[int], classes: int) -> nn.Sequential:
    """Build the LeNet of LFP app. A.6.1: two convolutions of 16 channels, 5 x 5, and dense layers of 120, 84."""
    channels, height, width = in_shape
    height, width = ((side - 4) // 2 for side in (height, width))
    height, width = ((side - 4) // 2 for side in (height, width))
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * height * width, 120),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(84, classes),
    )


def draw_curves(axes: Axes, curves: Sequence[Sequence[float]], x: Sequence[float] | None = None, **style: Any) -> None:
    """Draw the mean of curves over seeds, with a band of their standard deviation.

    Args:
        axes: where to draw.
        curves: one for each seed, all of one length.
        x: coordinates of their points; if None 1, 2, ..., the number of epochs done.
        style: properties of the line.
    """
    points = list(zip(*curves, strict=True))
    means, deviations = zip(*map(mean_and_deviation, points), strict=True)
    positions = list(x or range(1, len(points) + 1))
    (line,) = axes.plot(positions, means, **style)
    low, high = ([m + side * s for m, s in zip(means, deviations, strict=True)] for side in (-1, 1))
    axes.fill_between(positions, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def label_epochs(axes: Axes) -> None:
    """Label the horizontal axis as epochs, with integer ticks."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation of values over seeds."""
    return fmean(values), deviation(values)
