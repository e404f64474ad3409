"""The training loop of a run, which can be interrupted at any time, and evaluation."""

import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from signal import SIGTERM
from typing import Any

import torch
from torch import Tensor, nn

from spiking_lfp.checks import raise_deferred, to_number
from spiking_lfp.data import Split
from spiking_lfp.data.recipes import OWN
from spiking_lfp.errors import DataError, NonFiniteError, RunError, RunStopped, UsageError
from spiking_lfp.kernels.cpu.denormals import flush_denormals
from spiking_lfp.kernels.precision import products_in
from spiking_lfp.lfp.rewards import (
    ANALOGUE_REWARDS,
    REWARDS,
    SPIKE_REWARDS,
    FullReward,
    Reward,
    cross_entropy_reward,
    spike_count_reward,
)
from spiking_lfp.mono import MonoReadout
from spiking_lfp.nn.layers import Affine, SynapticLayer, evaluation_mode, name_layers
from spiking_lfp.nn.networks import NETWORKS
from spiking_lfp.nn.noise import noise_of
from spiking_lfp.nn.optim import AdaptiveClip
from spiking_lfp.nn.spiking import LI, firing_layers
from spiking_lfp.training import distributed
from spiking_lfp.training.checkpoint import METRICS, Checkpoint, Progress
from spiking_lfp.training.config import AUTO, BALANCED, ClassWeights, TrainConfig
from spiking_lfp.training.feeds import EVALUATION_BATCH, Data, Feed, Share, SplitFeed
from spiking_lfp.training.files import Metrics, parse_metrics
from spiking_lfp.training.optimizers import OPTIMIZERS, SCHEDULES
from spiking_lfp.training.restore import (
    check_layers,
    convert_misfits,
    described,
    restore_network,
    restore_optimizer,
    restore_schedule,
)
from spiking_lfp.training.step import Meter, evaluation_step, idle_step, training_step, watch_spikes


class Callback:
    """What a run calls in the process that writes: override what you need.

    See `ProgressBar` and `TensorBoard` of `spiking_lfp.training.watch` for two. An exception ends the run; resumed,
    it goes on from its last checkpoint.

    Example:
        >>> class PrintEpochs(Callback):
        ...     def epoch(self, metrics):
        ...         print(metrics["epoch"], metrics["test"]["samples"])
        >>> samples = torch.rand(20, 8), torch.arange(20) % 2
        >>> network = nn.Sequential(LIF(nn.Linear(8, 2), threshold=0.1))
        >>> run = fit(network, samples, samples, epochs=2, steps=5, callbacks=[PrintEpochs()], progress=False)
        1 20
        2 20
    """

    def preparing(self, done: int, total: int) -> None:
        """Called while recordings are read for the first time, with the numbers of those ready and of all."""

    def start(self, run: "Trainer") -> None:
        """Called before the first update; `run` has `folder`, `config`, `network`, `data` and `device`."""

    def batch(self, epoch: int, batch: int, batches: int, meter: Meter) -> None:
        """Called after each update, with the sums of the epoch so far; epochs and batches are counted from 1."""

    def line(self, metrics: dict[str, Any]) -> None:
        """Called with each line that is written to the run's metrics."""

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Called after each epoch, when its checkpoint is written, with its line of metrics."""

    def end(self, run: "Trainer") -> None:
        """Called after the last epoch, once the run is complete."""


@dataclass
class Evaluation(Meter):
    """How a network does on labelled samples.

    Attributes:
        labels: class indices int64 `[N]`, on the host; or other targets of rewards, `[N, ...]`.
        predictions: `[N]`, the class that spiked most; or what is compared with other targets, see `predictions_of`.
        class_names: of all classes; empty if they are not known.

    Example:
        >>> labels, predictions = torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 1, 0])
        >>> outcome = Evaluation(4, 3, labels=labels, predictions=predictions, class_names=("cat", "dog"))
        >>> outcome.accuracy, outcome.confusion.tolist()
        (0.75, [[1, 0], [1, 2]])
    """

    labels: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    predictions: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    class_names: tuple[str, ...] = ()

    @property
    def has_classes(self) -> bool:
        """Whether targets are one class a sample."""
        return self.labels.dim() == 1 and not self.labels.is_floating_point()

    @property
    def confusion(self) -> Tensor:
        """How many samples of each class (row) were taken for each class (column), int64 `[C, C]`.

        Raises:
            UsageError: if targets are not one class a sample.
        """
        if not self.has_classes:
            raise UsageError(f"targets are {list(self.labels.shape)}: a confusion matrix takes one class a sample")
        classes = len(self.class_names) or int(torch.cat([self.labels, self.predictions]).max()) + 1
        cells = torch.bincount(self.labels * classes + self.predictions, minlength=classes * classes)
        return cells.view(classes, classes)

    @property
    def class_accuracy(self) -> Tensor:
        """The fraction of each class that is classified correctly, float64 `[C]`; NaN for a class without samples."""
        confusion = self.confusion.double()
        return confusion.diagonal() / confusion.sum(1)


def evaluate(
    network: nn.Module,
    samples: Split | Feed,
    chunk: int = 0,
    reward: Reward = spike_count_reward,
    class_names: Sequence[str] = (),
    batch_size: int = EVALUATION_BATCH,
) -> Evaluation:
    """Measure a network that classifies samples by the output neuron that spikes most.

    Random spikes of an encoder are the same each time. Several processes take a part of the samples each.

    Args:
        network: maps sequences `[T, B, ...]` to spikes `[T, B, classes]`.
        samples: a split or a feed, on the network's device.
        chunk: steps at a time, 0 for all at once.
        reward: the reward whose mean is measured.
        class_names: of all classes, if they are known.
        batch_size: samples of a split at a time.

    Returns:
        Accuracy, mean reward, spike rate per layer, and the predictions.

    Raises:
        NonFiniteError: if NaN or infinity appears, with the layer's name.

    Example:
        >>> samples = load_samples("mnist-subset", EventRecipe(steps=5))
        >>> outcome = evaluate(mlp(hidden=(20,)), samples.test.subset(slice(100)), class_names=samples.class_names)
        >>> outcome.samples, outcome.confusion.shape
        (100, torch.Size([10, 10]))
    """
    feed = SplitFeed(samples, batch_size) if isinstance(samples, Split) else samples
    outcome = Evaluation(class_names=tuple(class_names))
    labels: list[Tensor] = []
    predictions: list[Tensor] = []
    with evaluation_mode(network):
        for share in feed.evaluation():
            with noise_of(share.keys):
                batch = share.load()
                with watch_spikes(network, outcome, batch.lengths):
                    predicted = evaluation_step(network, batch.x, batch.labels, outcome, chunk, reward, batch.lengths)
            labels.append(batch.labels)
            predictions.append(predicted)
    raise_deferred()
    outcome.settle()
    if labels:
        outcome.labels, outcome.predictions = (torch.cat(parts).cpu() for parts in (labels, predictions))
    return outcome


CROSS_ENTROPY = "cross-entropy"


def reward_name(config: TrainConfig, network: nn.Module) -> str:
    """Return the name of the reward that teaches a network."""
    if any(isinstance(module, MonoReadout) for module in network.modules()):
        if config.reward != AUTO:
            raise UsageError(f"a mono readout learns by cross-entropy, found reward {config.reward}: leave it out")
        return CROSS_ENTROPY
    if config.reward != AUTO:
        return config.reward
    layers = [layer for layer in network.modules() if isinstance(layer, SynapticLayer)]
    analogue = layers and isinstance(layers[-1], LI | Affine)
    return next(iter(ANALOGUE_REWARDS if analogue else SPIKE_REWARDS))


def reward_of(config: TrainConfig, network: nn.Module) -> FullReward:
    """Return the reward that teaches a network."""
    name = reward_name(config, network)
    return cross_entropy_reward if name == CROSS_ENTROPY else REWARDS[name]


def _class_weights(setting: ClassWeights, training: Feed, classes: int, device: torch.device) -> Tensor | None:
    """Return by what the reward of each class counts, `[C]`, or None for all alike.

    Args:
        setting: "none", the weights, or "balanced" for `N / (C * N_c)` with `N_c` labels of class c among N.
        training: has the labels.
        classes: C.
        device: of the rewards.
    """
    if setting == BALANCED:
        labels = training.split.labels if isinstance(training, SplitFeed) else None
        if labels is None or labels.is_floating_point():
            raise UsageError(
                "class_weights balanced counts class indices before it begins: give a number for each class"
            )
        counts = labels.flatten().bincount(minlength=classes).double()
        return labels.numel() / (classes * counts.clamp(min=1))
    if isinstance(setting, str):
        return None
    if len(setting) != classes:
        raise UsageError(f"class_weights has {len(setting)} numbers, expected one for each of {classes} classes")
    return torch.tensor(setting, dtype=torch.float64, device=device)


class Trainer:
    """A run in memory: everything that a checkpoint stores, and the training loop.

    Each of several processes has its own, in the same state after every update; only the writing one writes files.

    Attributes:
        folder: folder of the run; must be set before any method is called.
    """

    folder: Path

    def __init__(
        self,
        config: TrainConfig,
        data: Data,
        network: nn.Module,
        device: torch.device,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise UsageError("nothing in the network learns: it has no parameters, or all are frozen")
        for callback in callbacks:
            if isinstance(callback, type):
                raise UsageError(
                    f"a callback is the class {callback.__name__}, expected an object: {callback.__name__}()"
                )
            for name in ("start", "batch", "line", "epoch", "end"):
                if not callable(getattr(callback, name, None)):
                    kind = type(callback).__name__
                    raise UsageError(f"a callback is {kind}, without a method {name}: derive its class from Callback")
        self.config, self.data, self.network, self.device = config, data, network, device
        self.callbacks = tuple(callbacks) if distributed.is_writer() else ()
        self.samples = data.fingerprint() if distributed.is_writer() else ""
        self.training, self.evaluation = data.feeds(config, device)
        self.batches = self.training.batches
        make_optimizer = OPTIMIZERS[config.optimizer]
        self.optimizer = make_optimizer(network.parameters(), config.lr, config.momentum, config.adam_beta2)
        self.schedule = SCHEDULES[config.schedule](self.optimizer, self.batches * config.epochs)
        self.clip = AdaptiveClip(network.parameters(), config.clip) if config.clip else None
        self.class_weights = _class_weights(config.class_weights, self.training, data.spec.classes, device)
        self.reward = partial(reward_of(config, network), class_weights=self.class_weights)
        for module in network.modules():
            if isinstance(module, MonoReadout):
                module.keep_monotone(self.optimizer)
        # what the user put into evaluation mode to keep it so, as frozen normalisation
        self.frozen = [module for module in network.modules() if network.training and not module.training]
        # as it is given: callbacks may change constants
        self.layers = {} if config.network in NETWORKS else described(network)
        self.progress = Progress()
        self.metrics: Metrics | None = None
        # what the metrics hold when the loop starts
        self.kept_metrics = ""
        self.warned: set[str] = set()
        self.stopping = False
        self.stop_requested: Callable[[], bool] = lambda: False

    def save(self) -> None:
        """Write the checkpoint, unless the weights are no longer finite."""
        raise_deferred()
        self.progress.meter.settle()
        name_layers(self.network)
        for name, parameter in self.network.named_parameters():
            if not bool(parameter.isfinite().all()):
                layer = name.partition(".")[0]
                raise NonFiniteError(f"layer {layer}: its weights hold NaN or infinity; lower the learning rate")
        if not distributed.is_writer():
            return
        Checkpoint(
            config=self.config.model_dump(mode="json"),
            data=self.data.spec,
            network=self.network.state_dict(),
            layers=self.layers,
            optimizer=self.optimizer.state_dict(),
            schedule=self.schedule.state_dict(),
            progress=self.progress,
            metrics=self.metrics.content.decode() if self.metrics else self.kept_metrics,
            samples=self.samples,
            random=torch.get_rng_state(),
            random_cuda=torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        ).save(self.folder)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the state in a checkpoint.

        Raises:
            RunError: if it does not fit the settings or the data.
        """
        before, now = checkpoint.data, self.data.spec
        if (before.in_shape, before.classes) != (now.in_shape, now.classes):
            raise RunError(
                f"{self.folder} was trained on samples {before.in_shape} of {before.classes} classes, "
                f"the data are {now.in_shape} of {now.classes} classes now"
            )
        if before.class_names and before.class_names != now.class_names:
            raise RunError(
                f"{self.folder} was trained on classes named {', '.join(before.class_names)}, they are named "
                f"{', '.join(now.class_names)} now: put the names back, or train again"
            )
        if self.config.quantize and before.levels != now.levels:  # by a version that took spikes for pixels
            raise RunError(
                f"{self.folder} was trained in integers of which {before.levels} stand for an input of 1, it is "
                f"{now.levels} now: train again"
            )
        if checkpoint.samples is not None and distributed.is_writer() and checkpoint.samples != self.samples:
            raise RunError(
                f"{self.folder} was trained on other samples or labels of the same shape than those of "
                f"{self.config.data} now: put the old files back, or train again"
            )
        if checkpoint.metrics is None:
            raise RunError(f"{self.folder / METRICS} is shorter than its checkpoint says: restore it or train again")
        check_layers(self.layers, checkpoint, self.folder)
        self.progress, self.kept_metrics = checkpoint.progress, checkpoint.metrics
        restore_network(self.network, checkpoint, self.folder)
        with convert_misfits(self.folder):
            if not self.progress.is_possible(self.config.epochs, self.batches, firing_layers(self.network).keys()):
                raise ValueError(f"{self.progress} is impossible")
            updates = self.progress.epoch * self.batches + self.progress.batch
            restore_optimizer(self.optimizer, checkpoint.optimizer, updates)
            restore_schedule(self.schedule, checkpoint.schedule, updates)
            epochs = [line for line in parse_metrics(self.kept_metrics.encode()) if line["kind"] == "epoch"]
            if len(epochs) != self.progress.epoch:
                raise ValueError(f"its metrics are those of {len(epochs)} epochs, expected {self.progress.epoch}")
            torch.set_rng_state(checkpoint.random)
            if checkpoint.random_cuda is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(checkpoint.random_cuda, self.device)

    def finish(self) -> None:
        """Train to the end of the last epoch.

        Raises:
            RunStopped: if the process is told to end (SIGTERM); the checkpoint is written before.
        """
        if distributed.is_writer():
            self.metrics = Metrics(self.folder, self.kept_metrics.encode())
        for callback in self.callbacks:
            callback.start(self)
        with products_in(self.config.precision), denormals_flushed(), stop_requests() as self.stop_requested:
            while self.progress.epoch < self.config.epochs and not self.progress.stopped:
                self.train_epoch()
        for callback in self.callbacks:
            callback.end(self)

    def train_epoch(self) -> None:
        """Train to the end of the current epoch, evaluate, and write a checkpoint."""
        progress, config = self.progress, self.config
        started = time.perf_counter()
        self.network.train()
        for module in self.frozen:
            module.training = False
        for share in self.training.training(progress.epoch, progress.batch):
            if progress.batch == self.batches and config.schedule == "one-cycle":
                raise DataError(f"schedule one-cycle ends before the epoch: {self._another_length('more')}")
            lr = self.optimizer.param_groups[0]["lr"]
            progress.meter.add(self.update(share))
            self.schedule.step()
            progress.batch += 1
            for callback in self.callbacks:
                callback.batch(progress.epoch + 1, progress.batch, self.batches, progress.meter)
            if progress.batch % config.log_every == 0:
                self.log("batch", batch=progress.batch, batches=self.batches, lr=lr, **progress.meter.summary())
            if progress.batch < self.batches and (self.stopping or progress.batch % config.checkpoint_every == 0):
                self.save()
            if self.stopping and progress.batch < self.batches:
                raise self.stopped()
        if progress.batch != self.batches and not progress.epoch:
            ends = self._another_length(str(progress.batch))
            warnings.warn(f"learning-rate schedules end elsewhere, and the run cannot be resumed: {ends}", stacklevel=2)
        seconds = time.perf_counter() - started
        self.warn_about_silent_layers()
        outcome = self.evaluate()
        is_best = outcome.accuracy > progress.best_accuracy
        progress.best_accuracy = max(outcome.accuracy, progress.best_accuracy)
        progress.epochs_since_best = 0 if is_best else progress.epochs_since_best + 1
        progress.stopped = 0 < config.patience <= progress.epochs_since_best
        line = self.log(
            "epoch",
            seconds=seconds,
            lr=lr,
            train=progress.meter.summary(),
            validation=outcome.summary() if config.validation else None,
            test=None if config.validation else outcome.summary(),
        )
        progress.epoch, progress.batch, progress.meter = progress.epoch + 1, 0, Meter()
        self.save()
        for callback in self.callbacks:
            callback.epoch(line)
        if self.stopping and progress.epoch < config.epochs and not progress.stopped:
            raise self.stopped()

    def _another_length(self, found: str) -> str:
        return (
            f"the data loader yields {found} batches in an epoch, its length says {self.batches}; give its data set "
            "the __len__ of what it yields, and if it has workers let it make whole batches (batch_size=None)"
        )

    def stopped(self) -> RunStopped:
        """Return the error of a run that was told to end."""
        own = OWN in (self.config.network, self.config.data, self.config.encoding)
        again = "the same call of fit and resume=True" if own else f"spiking-lfp train --resume {self.folder}"
        return RunStopped(f"stopped by SIGTERM; continue with: {again}")

    def update(self, share: Share) -> Meter:
        """Update the network once on a batch that is split among the processes; return the sums over all of them."""
        config, meter = self.config, Meter()
        with noise_of(share.keys, config.seed, self.progress.epoch):
            batch = share.load()
            if batch.lengths is not None and config.chunk:
                raise UsageError("chunk does not go with sequences of different lengths: leave it out")
            if len(share.keys):
                with watch_spikes(self.network, meter, batch.lengths):
                    training_step(
                        self.network, batch.x, batch.labels, self.optimizer, self.clip, meter,
                        config.chunk, self.reward, batch.lengths,
                    )  # fmt: skip
            else:
                idle_step(self.network, batch.x, self.optimizer, self.clip, config.chunk)
        return self.sum_over_processes(meter, share.samples)

    def evaluate(self) -> Meter:
        """Evaluate the network on the validation or test samples, divided among the processes."""
        outcome = evaluate(self.network, self.evaluation, self.config.chunk, self.reward)
        return self.sum_over_processes(Meter(outcome.samples, outcome.correct, outcome.reward, outcome.rates))

    def sum_over_processes(self, meter: Meter, samples: int | None = None) -> Meter:
        """Return the sum of the meters of all processes, which have processed `samples` samples together, if known."""
        self.stopping = self.stopping or self.stop_requested()
        if distributed.size() == 1:
            return meter
        names = list(firing_layers(self.network))
        counts = [
            *(self.stopping, meter.samples, meter.correct, meter.reward),
            *(meter.rates.get(name, 0.0) for name in names),
        ]
        sums = torch.stack([torch.as_tensor(count, dtype=torch.float64, device=self.device) for count in counts])
        stopping, count, correct, reward, *rates = map(to_number, distributed.sum_over_all(sums))
        self.stopping = bool(stopping)  # the signal reaches processes at different updates
        return Meter(int(count) if samples is None else samples, correct, reward, dict(zip(names, rates, strict=True)))

    def log(self, kind: str, **values: Any) -> dict[str, Any]:
        """Write one line of metrics, and return it."""
        raise_deferred()
        line = {"kind": kind, "epoch": self.progress.epoch + 1, **values}
        if self.metrics is not None:
            self.metrics.write(line)
            for callback in self.callbacks:
                callback.line(line)
        return line

    def warn_about_silent_layers(self) -> None:
        """Warn once about each layer that did not spike during a whole epoch."""
        if not distributed.is_writer():
            return
        for name in self.progress.meter.silent_layers():
            if name in self.warned:
                continue
            self.warned.add(name)
            # a network that is one layer has no path in itself
            what, those = "the network", "it learns"
            if name:
                what, those = f"layer {name}", "it and the layers before it learn"
            warnings.warn(
                f"{what} did not spike during epoch {self.progress.epoch + 1}, so {those} nothing: lower the "
                "threshold, raise beta or steps, or start from larger weights",
                stacklevel=2,
            )


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take numbers next to zero for zero inside the context."""
    before = flush_denormals()
    try:
        yield
    finally:
        flush_denormals(before)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGTERM has arrived inside the context; a handler of one's own stays."""
    arrived: list[int] = []
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(SIGTERM) == signal.SIG_DFL
    if mine:
        signal.signal(SIGTERM, lambda number, _: arrived.append(number))
    try:
        yield lambda: bool(arrived)
    finally:
        if mine:
            signal.signal(SIGTERM, signal.SIG_DFL)
