"""What a run is fed with: shares of batches for each process, from samples in memory or from a data loader."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from spiking_lfp.data import Samples, Split
from spiking_lfp.data.encoding import Encoder
from spiking_lfp.data.spec import DataSpec
from spiking_lfp.data.splits import lengths_of
from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.training import distributed
from spiking_lfp.training.config import TrainConfig

# samples at a time where nothing is learned
EVALUATION_BATCH = 500


class Batch(NamedTuple):
    """Sequences `[T, B, ...]`, their labels `[B, ...]`, and how many steps of each count, `[B]`, if not all do."""

    x: Tensor
    labels: Tensor
    lengths: Tensor | None = None


@dataclass(frozen=True)
class Share:
    """The share of this process in a batch.

    Attributes:
        keys: int64 `[B]`, what tells samples apart; empty if there are fewer samples than processes.
        samples: number of samples in the whole batch.
        load: makes the share, or one sample of the batch if it is empty.
    """

    keys: Tensor
    samples: int
    load: Callable[[], Batch]


@runtime_checkable
class Feed(Protocol):
    """Batches for training, or for evaluation."""

    @property
    def batches(self) -> int:
        """Number of batches in an epoch of training."""

    def training(self, epoch: int, first: int) -> Iterator[Share]:
        """Yield the shares in the batches of an epoch from number `first` on."""

    def evaluation(self) -> Iterator[Share]:
        """Yield the shares in all batches, in an order that is always the same."""


@dataclass(frozen=True)
class SplitFeed:
    """Batches of samples in memory; their order depends on seed and epoch only."""

    split: Split
    batch_size: int = EVALUATION_BATCH
    seed: int = 0

    @property
    def batches(self) -> int:
        """Number of batches in an epoch."""
        return -(-len(self.split) // self.batch_size)

    def training(self, epoch: int, first: int) -> Iterator[Share]:
        """Yield shares of batches in random order."""
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, epoch))
        order = torch.randperm(len(self.split), generator=generator).to(self.split.labels.device)
        for indices in order.split(self.batch_size)[first:]:
            yield self._share(distributed.shard(indices), indices, epoch)

    def evaluation(self) -> Iterator[Share]:
        """Yield the batches of this process's part of the samples."""
        device = self.split.labels.device
        for indices in distributed.shard(torch.arange(len(self.split))).to(device).split(self.batch_size):
            if len(indices):
                yield self._share(indices, indices, 0)

    def _share(self, mine: Tensor, batch: Tensor, epoch: int) -> Share:
        taken = mine if len(mine) else batch[:1]

        def load() -> Batch:
            return Batch(*self.split.batch(taken, epoch), lengths_of(self.split, taken))

        return Share(mine, len(batch), load)


@dataclass(frozen=True)
class LoaderFeed:
    """The batches of a data loader, in its order: they are never in memory all at once.

    Its random numbers, those of torch, NumPy and `random` in this process and in its workers, depend on seed and epoch
    only. Each of several processes loads all batches and takes its share.

    Attributes:
        loader: its batches are tensors: values `[B, ...]` and labels `[B, ...]`, maybe the lengths of sequences `[B]`.
        encoder: from values `[B, ...]` to sequences `[T, B, ...]`.
        device: where the sequences are made.
    """

    loader: "DataLoader[Any]"
    encoder: Callable[[Tensor], Tensor]
    device: torch.device
    seed: int = 0

    @property
    def batches(self) -> int:
        """Number of batches in an epoch."""
        return len(self.loader)

    def training(self, epoch: int, first: int) -> Iterator[Share]:
        """Yield shares of all batches from number `first` on; those before are loaded, too: they use up randomness."""
        return self._shares(epoch_seed(self.seed, epoch), first)

    def first(self) -> Batch | None:
        """Return the first batch as the loader yields it, values in place of sequences; None if there is none."""
        return next(self._batches(self.seed), None)

    def evaluation(self) -> Iterator[Share]:
        """Yield shares of all batches."""
        return (share for share in self._shares(self.seed, 0) if len(share.keys))

    def _shares(self, seed: int, first: int) -> Iterator[Share]:
        position = 0
        for number, batch in enumerate(self._batches(seed)):
            keys = torch.arange(position, position + len(batch.labels))
            position += len(keys)
            if number >= first:
                yield self._share(batch, distributed.shard(torch.arange(len(keys))), keys)

    def _share(self, batch: Batch, mine: Tensor, keys: Tensor) -> Share:
        taken = mine if len(mine) else torch.arange(1)

        def load() -> Batch:
            values, labels, lengths = (
                None if part is None else part[taken].to(self.device, non_blocking=True) for part in batch
            )
            assert values is not None
            assert labels is not None
            x = self.encoder(values)
            if batch.lengths is not None:
                self._check_lengths(batch.lengths, len(x))
            return Batch(x, labels, lengths)

        return Share(keys[mine].to(self.device), len(keys), load)

    def _check_lengths(self, lengths: Tensor, steps: int) -> None:
        third = "a third tensor in the batches of data is the lengths of their sequences:"
        if isinstance(self.encoder, Encoder) and not self.encoder.is_in_time:
            raise DataError(
                f"{third} encoding {self.encoder.name!r} makes {steps} steps of every sample; leave it out, or use "
                "encoding 'sequence'"
            )
        whole = lengths.dim() == 1 and not (lengths.is_floating_point() or lengths.dtype == torch.bool)
        if not whole or not 1 <= int(lengths.min()) <= int(lengths.max()) <= steps:
            found = f"{lengths.dtype} {list(lengths.shape)}, {float(lengths.min()):g} to {float(lengths.max()):g}"
            raise DataError(f"{third} expected one integer from 1 to {steps} a sample, found {found}; or leave it out")

    def _batches(self, seed: int) -> Iterator[Batch]:
        """Yield what the loader yields, checked, on the host."""
        states = _seeded_states(seed)
        sampler = getattr(self.loader, "sampler", None)
        for generator in (self.loader.generator, getattr(sampler, "generator", None)):
            if generator is not None:
                generator.manual_seed(seed)
        with _drawing_from(states):
            batches = iter(self.loader)
        while True:
            with _drawing_from(states):
                batch = next(batches, None)
            if batch is None:
                return
            yield checked_batch(batch)


@runtime_checkable
class Data(Protocol):
    """What a run trains on and is measured on."""

    @property
    def spec(self) -> DataSpec:
        """What is kept of it in a checkpoint."""

    def describe(self) -> str:
        """Say for people what it is, in one line."""

    def fingerprint(self) -> str:
        """Return a hash of all that is known of the samples before training."""

    def feeds(self, config: TrainConfig, device: torch.device) -> tuple[Feed, Feed]:
        """Return what trains a network, and what it is measured on after each epoch."""


@dataclass(frozen=True)
class MemoryData:
    """Samples in memory."""

    samples: Samples

    @property
    def spec(self) -> DataSpec:
        """What is kept of it in a checkpoint."""
        return self.samples.spec

    def describe(self) -> str:
        """Say how many samples there are of each class."""
        return class_sizes(self.samples)

    def fingerprint(self) -> str:
        """Return a hash of all samples and labels."""
        return self.samples.fingerprint

    def feeds(self, config: TrainConfig, device: torch.device) -> tuple[SplitFeed, SplitFeed]:
        """Hold out samples for validation as the settings say; of windows, those of whole recordings.

        Raises:
            UsageError: if that leaves no samples on one side.
        """
        train = self.samples.train.to(device)
        # the split must depend on the seed only
        order, held_out = self._shuffled(config.validation, torch.Generator().manual_seed(config.seed))
        if held_out == len(train) or (config.validation and held_out == 0):
            raise UsageError(f"validation = {config.validation} of {len(train)} samples leaves one split empty")
        order = order.to(device)
        training = train.subset(order[held_out:].sort().values) if held_out else train
        evaluation = train.subset(order[:held_out]) if held_out else self.samples.test.to(device)
        return SplitFeed(training, config.batch_size, config.seed), SplitFeed(evaluation)

    def _shuffled(self, fraction: float, generator: torch.Generator) -> tuple[Tensor, int]:
        """Return an order of the training samples, and how many of the first to hold out."""
        train, recordings = self.samples.train, self.samples.recordings
        if recordings is None:
            return torch.randperm(len(train), generator=generator), round(len(train) * fraction)
        # neighbours are alike, and on both sides would make the accuracy too high: of each class, the last ones in a
        # random order of its recordings, so that at most one is parted
        labels, rank = train.labels.cpu(), torch.randperm(int(recordings.max()) + 1, generator=generator)
        is_held = torch.zeros(len(train), dtype=torch.bool)
        for label in labels.unique():
            of_class = (labels == label).nonzero()[:, 0]
            of_class = of_class[rank[recordings[of_class]].argsort(stable=True)]
            is_held[of_class[len(of_class) - round(len(of_class) * fraction) :]] = True
        return (~is_held).int().argsort(stable=True), int(is_held.sum())


@dataclass(frozen=True)
class LoaderData:
    """Batches of data loaders.

    Attributes:
        train: for training.
        test: for evaluation.
        encoder: from values `[B, ...]` to sequences `[T, B, ...]`.
        spec: what is kept of it in a checkpoint.
    """

    train: "DataLoader[Any]"
    test: "DataLoader[Any]"
    encoder: Callable[[Tensor], Tensor]
    spec: DataSpec

    def describe(self) -> str:
        """Say how many batches there are."""
        return f"{self.spec.classes} classes, {len(self.train):,} batches for training, {len(self.test):,} for testing"

    def fingerprint(self) -> str:
        """Return a hash of the numbers of batches: reading the data only for that may take hours."""
        return sha256(f"{len(self.train)} {len(self.test)}".encode()).hexdigest()

    def feeds(self, config: TrainConfig, device: torch.device) -> tuple[LoaderFeed, LoaderFeed]:
        """Take the batches as they come.

        Raises:
            UsageError: if samples are to be held out, which takes samples and not batches.
        """
        if config.validation:
            raise UsageError("validation takes samples, the data are a data loader: give a data set, or no validation")
        train, test = (LoaderFeed(loader, self.encoder, device, config.seed) for loader in (self.train, self.test))
        return train, test


def class_sizes(samples: Samples) -> str:
    """Say how many training and test samples there are, and in the smallest and the largest class."""
    name, total, count = samples.name, len(samples.train), len(samples.class_names)
    if samples.train.labels.dim() != 1 or samples.train.labels.is_floating_point():
        return f"{name}: {total:,} + {len(samples.test):,} samples for training and testing, {count} outputs"
    sizes = sorted((train, test, label) for label, train, test in samples.class_sizes())
    (train, test, smallest), (most, most_test, largest) = sizes[0], sizes[-1]
    each = (
        f"{train:,} + {test:,}"
        if (train, test) == (most, most_test)
        else (f"{train:,} + {test:,} ({smallest}) to {most:,} + {most_test:,} ({largest})")
    )
    return f"{name}: {total:,} + {len(samples.test):,} samples for training and testing, {count} classes of {each}"


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of the order of samples in an epoch, counted from 0."""
    return seed + 1_000_003 * (epoch + 1)


def checked_batch(batch: Any) -> Batch:
    """Return values, labels and lengths of a batch of a data loader.

    Raises:
        DataError: if it is of another form.
    """
    parts = list(batch) if isinstance(batch, tuple | list) else [batch]
    if len(parts) not in (2, 3) or not all(isinstance(part, Tensor) for part in parts):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise DataError(
            f"a batch of the data loader is ({kinds}), expected tensors (values, labels) or (values, labels, lengths): "
            "give it a collate_fn that makes them"
        )
    found = Batch(*parts)
    if any(part.dim() == 0 or len(part) != len(found.labels) for part in parts):
        shapes = ", ".join(str(list(part.shape)) for part in parts)
        raise DataError(f"a batch of the data loader has the shapes {shapes}: put the batch axis of each first")
    return found


def _seeded_states(seed: int) -> list[Any]:
    """Return the states that the global random generators have after seeding them, without doing so."""
    return [
        random.Random(seed).getstate(),
        np.random.RandomState(seed % 2**32).get_state(),
        torch.Generator().manual_seed(seed).get_state(),
    ]


def _random_states() -> list[Any]:
    return [random.getstate(), np.random.get_state(), torch.get_rng_state()]  # noqa: NPY002


@contextmanager
def _drawing_from(states: list[Any]) -> Iterator[None]:
    """Let the global random generators go on from `states` inside the context, and keep there where they end."""
    own = _random_states()
    _set_random_states(states)
    try:
        yield
    finally:
        states[:] = _random_states()
        _set_random_states(own)


def _set_random_states(states: list[Any]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
