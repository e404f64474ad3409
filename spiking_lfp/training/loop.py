"""The training loop of a run, which can be interrupted at any time, and evaluation."""

import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from spiking_lfp.checks import raise_deferred, to_number
from spiking_lfp.data import Samples, Split
from spiking_lfp.errors import NonFiniteError, RunError, UsageError
from spiking_lfp.kernels.precision import products_in
from spiking_lfp.lfp.rewards import REWARDS, Reward, cross_entropy_reward, spike_count_reward
from spiking_lfp.mono import MonoReadout
from spiking_lfp.nn.layers import name_layers
from spiking_lfp.nn.noise import noise_of
from spiking_lfp.nn.optim import AdaptiveClip
from spiking_lfp.nn.spiking import spiking_layers
from spiking_lfp.training import distributed
from spiking_lfp.training.checkpoint import Checkpoint, Progress
from spiking_lfp.training.config import TrainConfig
from spiking_lfp.training.files import Metrics
from spiking_lfp.training.optimizers import OPTIMIZERS, SCHEDULES
from spiking_lfp.training.step import Meter, evaluation_step, idle_step, training_step, watch_spikes


@runtime_checkable
class Watcher(Protocol):
    """Callbacks of a run, called in the process that writes: a progress bar, TensorBoard, or your own."""

    def start(self, folder: Path) -> None:
        """Called with the run's folder before the first update."""

    def batch(self, epoch: int, batch: int, batches: int, meter: Meter) -> None:
        """Called after each update, with the sums of the epoch so far."""

    def line(self, metrics: dict[str, Any]) -> None:
        """Called with each line that is written to the run's metrics."""


def evaluate(
    network: nn.Module,
    split: Split,
    batch_size: int = 500,
    chunk: int = 0,
    reward: Reward = spike_count_reward,
    indices: Tensor | None = None,
) -> Meter:
    """Measure a network that classifies samples by the output neuron that spikes most.

    Random spikes of an encoder are the same each time.

    Args:
        network: maps sequences `[T, B, ...]` to spikes `[T, B, classes]`.
        split: the samples, on the network's device.
        batch_size: samples at a time.
        chunk: steps at a time, 0 for all at once.
        reward: the reward whose mean is measured.
        indices: of the samples, all if None.

    Returns:
        Accuracy, mean reward and spike rate per layer.
    """
    meter = Meter()
    indices = torch.arange(len(split)) if indices is None else indices
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with watch_spikes(network, meter):
            for batch in indices.to(split.labels.device).split(batch_size):
                with noise_of(batch):
                    evaluation_step(network, *split.batch(batch), meter, chunk, reward)
    finally:
        for module, mode in modes.items():
            module.training = mode
    raise_deferred()
    meter.settle()
    return meter


class Run:
    """A run in memory: everything that a checkpoint stores, and the training loop.

    Each of several processes has its own, in the same state after every update; only the writing one writes files.

    Attributes:
        folder: folder of the run; must be set before any method is called.
    """

    folder: Path

    def __init__(
        self,
        config: TrainConfig,
        samples: Samples,
        network: nn.Module,
        device: torch.device,
        watchers: tuple[Watcher, ...],
    ) -> None:
        self.config, self.network, self.device = config, network, device
        self.watchers = watchers if distributed.is_writer() else ()
        self.in_shape, self.classes = list(samples.sample_shape), len(samples.class_names)
        train = samples.train.to(device)
        held_out = round(len(train) * config.validation)
        if held_out == len(train) or (config.validation and held_out == 0):
            raise UsageError(f"validation = {config.validation} of {len(train)} samples leaves one split empty")
        # the split must depend on the seed only
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(config.seed)).to(device)
        self.training = train.subset(order[held_out:].sort().values) if held_out else train
        self.evaluation = train.subset(order[:held_out]) if held_out else samples.test.to(device)
        self.batches = -(-len(self.training) // config.batch_size)
        self.optimizer = OPTIMIZERS[config.optimizer](network.parameters(), config.lr, config.momentum)
        self.schedule = SCHEDULES[config.schedule](self.optimizer, self.batches * config.epochs)
        self.clip = AdaptiveClip(network.parameters(), config.clip) if config.clip else None
        self.reward = cross_entropy_reward if config.readout == "mono" else REWARDS[config.reward]
        for module in network.modules():
            if isinstance(module, MonoReadout):
                module.keep_monotone(self.optimizer)
        self.progress = Progress()
        self.metrics: Metrics | None = None
        self.warned: set[str] = set()

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
            in_shape=self.in_shape,
            classes=self.classes,
            network=self.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
            schedule=self.schedule.state_dict(),
            progress=self.progress,
            random=torch.get_rng_state(),
            random_cuda=torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        ).save(self.folder)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the state in a checkpoint."""
        if (checkpoint.in_shape, checkpoint.classes) != (self.in_shape, self.classes):
            raise RunError(
                f"{self.folder} was trained on samples {checkpoint.in_shape} of {checkpoint.classes} classes, "
                f"the data are {self.in_shape} of {self.classes} classes now"
            )
        restore_state(self.network.load_state_dict, checkpoint.network, self.folder)
        restore_state(self.optimizer.load_state_dict, checkpoint.optimizer, self.folder)
        restore_state(self.schedule.load_state_dict, checkpoint.schedule, self.folder)
        self.progress = checkpoint.progress
        torch.set_rng_state(checkpoint.random)
        if checkpoint.random_cuda is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(checkpoint.random_cuda, self.device)

    def finish(self) -> None:
        """Train to the end of the last epoch."""
        if distributed.is_writer():
            self.metrics = Metrics(self.folder, self.progress.metrics_size)
        for watcher in self.watchers:
            watcher.start(self.folder)
        with products_in(self.config.precision):
            while self.progress.epoch < self.config.epochs and not self.progress.stopped:
                self.train_epoch()

    def train_epoch(self) -> None:
        """Train to the end of the current epoch, evaluate, and write a checkpoint."""
        progress, config = self.progress, self.config
        started = time.perf_counter()
        self.network.train()
        for indices in self.remaining_batches():
            lr = self.optimizer.param_groups[0]["lr"]
            progress.meter.add(self.update(indices))
            self.schedule.step()
            progress.batch += 1
            for watcher in self.watchers:
                watcher.batch(progress.epoch + 1, progress.batch, self.batches, progress.meter)
            if progress.batch % config.log_every == 0:
                self.log("batch", batch=progress.batch, batches=self.batches, lr=lr, **progress.meter.summary())
            if progress.batch % config.checkpoint_every == 0 and progress.batch < self.batches:
                self.save()
        seconds = time.perf_counter() - started
        self.warn_about_silent_layers()
        outcome = self.evaluate()
        is_best = outcome.accuracy > progress.best_accuracy
        progress.best_accuracy = max(outcome.accuracy, progress.best_accuracy)
        progress.epochs_since_best = 0 if is_best else progress.epochs_since_best + 1
        progress.stopped = 0 < config.patience <= progress.epochs_since_best
        self.log(
            "epoch",
            seconds=seconds,
            lr=lr,
            train=progress.meter.summary(),
            validation=outcome.summary() if config.validation else None,
            test=None if config.validation else outcome.summary(),
        )
        progress.epoch, progress.batch, progress.meter = progress.epoch + 1, 0, Meter()
        self.save()

    def update(self, indices: Tensor) -> Meter:
        """Update the network once on a batch that is split among the processes; return the sums over all of them."""
        config, shard, meter = self.config, distributed.shard(indices), Meter()
        if len(shard):
            with noise_of(shard, config.seed, self.progress.epoch), watch_spikes(self.network, meter):
                x, labels = self.training.batch(shard, self.progress.epoch)
                training_step(self.network, x, labels, self.optimizer, self.clip, meter, config.chunk, self.reward)
        else:
            x, _ = self.training.batch(indices[:1], self.progress.epoch)
            idle_step(self.network, x, self.optimizer, self.clip, config.chunk)
        return self.sum_over_processes(meter, len(indices))

    def evaluate(self) -> Meter:
        """Evaluate the network on the validation or test split, divided among the processes."""
        indices, meter = distributed.shard(torch.arange(len(self.evaluation))), Meter()
        if len(indices):
            meter = evaluate(
                self.network, self.evaluation, chunk=self.config.chunk, reward=self.reward, indices=indices
            )
        return self.sum_over_processes(meter, len(self.evaluation))

    def sum_over_processes(self, meter: Meter, samples: int) -> Meter:
        """Return the sum of the meters of all processes, which have processed `samples` samples together."""
        if distributed.size() == 1:
            return meter
        names = list(spiking_layers(self.network))
        counts = [meter.correct, meter.reward, *(meter.rates.get(name, 0.0) for name in names)]
        sums = torch.stack([torch.as_tensor(count, dtype=torch.float64, device=self.device) for count in counts])
        correct, reward, *rates = map(to_number, distributed.sum_over_all(sums))
        return Meter(samples, correct, reward, dict(zip(names, rates, strict=True)))

    def remaining_batches(self) -> Iterator[Tensor]:
        """Yield the indices of the remaining batches of this epoch; the order depends on seed and epoch only."""
        generator = torch.Generator().manual_seed(self.config.seed + 1_000_003 * (self.progress.epoch + 1))
        order = torch.randperm(len(self.training), generator=generator).to(self.device)
        yield from order.split(self.config.batch_size)[self.progress.batch :]

    def log(self, kind: str, **values: Any) -> None:
        """Write one line of metrics."""
        raise_deferred()
        if self.metrics is None:
            return
        line = {"kind": kind, "epoch": self.progress.epoch + 1, **values}
        self.metrics.write(line)
        self.progress.metrics_size = self.metrics.size
        for watcher in self.watchers:
            watcher.line(line)

    def warn_about_silent_layers(self) -> None:
        """Warn once about each layer that did not spike during a whole epoch."""
        if not distributed.is_writer():
            return
        for name in self.progress.meter.silent_layers():
            if name in self.warned:
                continue
            self.warned.add(name)
            warnings.warn(
                f"layer {name} did not spike during epoch {self.progress.epoch + 1}, so it and the layers before it "
                "learn nothing: lower the threshold, raise beta or steps, or start from larger weights",
                stacklevel=2,
            )


def restore_state(load: Callable[[Any], object], state: Any, folder: Path) -> None:
    """Call `load` with `state` of the checkpoint in `folder`; raise RunError if it does not fit."""
    try:
        load(state)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"the checkpoint in {folder} does not fit its settings: {reason}") from None
