"""Training and test splits of images and of recordings, which give batches of sequences `[T, B, ...]` and labels."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from spiking_lfp.data.spec import VALUES, DataSpec
from spiking_lfp.errors import DataError
from spiking_lfp.events.frames import unpack_batch
from spiking_lfp.nn.execution import LEVELS


@runtime_checkable
class Split(Protocol):
    """Labelled samples for training or for testing, on one device.

    Example:
        >>> split = load_samples("mnist-subset", EventRecipe(steps=5)).train.subset(slice(100))
        >>> x, labels = split.batch(torch.arange(8), epoch=2)
        >>> len(split), x.shape
        (100, torch.Size([5, 8, 1, 28, 28]))
    """

    @property
    def labels(self) -> Tensor:
        """Class indices int64 `[N]`."""

    def __len__(self) -> int:
        """Return N."""

    def to(self, device: torch.device) -> "Split":
        """Return the same samples on `device`."""

    def subset(self, indices: Tensor | slice) -> "Split":
        """Return the samples at `indices` as a new split."""

    def batch(self, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Return the sequences `[T, B, ...]` and labels `[B]` of the samples at `indices` in `epoch`, from 0."""

    def tensors(self) -> tuple[Tensor, ...]:
        """Return all that tells these samples from others."""


@dataclass(frozen=True)
class ImageAugmentation:
    """Random changes of images, which depend on the epoch and the index only, not on the batch.

    Attributes:
        shift: largest shift in pixels; pixels beyond the edge are black.
        flip: whether half of the images are mirrored, left to right.
        cutout: side of a square of pixels that are the mean of the image, at a random place; 0 for none.
    """

    shift: int = 0
    flip: bool = False
    cutout: int = 0

    def __call__(self, images: Tensor, indices: Tensor, epoch: int, count: int) -> Tensor:
        """Return the images uint8 `[B, C, H, W]` at `indices` of `count`, changed."""
        if not (self.shift or self.flip or self.cutout):
            return images
        # drawn on the host, so that every device gets the same
        generator = torch.Generator().manual_seed(epoch)
        device, sides = images.device, images.shape[2:]
        height, width = (torch.arange(side, device=device) for side in sides)
        offsets = torch.randint(2 * self.shift + 1, (count, 2), generator=generator).to(device)[indices]
        top, left = offsets.view(-1, 2, 1, 1).unbind(1)
        rows, columns = top + height.view(-1, 1), left + width
        if self.flip:
            mirrored = torch.randint(2, (count,), generator=generator).to(device)[indices].view(-1, 1, 1) == 1
            columns = torch.where(mirrored, columns.flip(-1), columns)
        if self.shift or self.flip:
            padded = F.pad(images, [self.shift] * 4)
            image = torch.arange(len(images), device=device).view(-1, 1, 1)
            # indexing on both sides of the channel axis puts that axis last
            images = padded[image, :, rows, columns].permute(0, 3, 1, 2)
        if self.cutout:
            middle = torch.stack([torch.randint(side, (count,), generator=generator) for side in sides], 1)
            first = (middle.to(device)[indices] - self.cutout // 2).view(-1, 2, 1, 1)
            inside = [
                (places >= start) & (places < start + self.cutout)
                for places, start in zip((height.view(-1, 1), width), first.unbind(1), strict=True)
            ]
            mean = images.float().mean((2, 3), keepdim=True).round().to(torch.uint8)
            images = torch.where((inside[0] & inside[1]).unsqueeze(1), mean, images)
        return images


STILL = ImageAugmentation()


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Images uint8 `[N, C, H, W]`, which `encoder` turns from values `[B, C, H, W]` in [0, 1] into a sequence.

    Attributes:
        augment: random changes of the images, drawn anew in each epoch from the second one on.

    Example:
        >>> from functools import partial
        >>> digits = load_dataset("mnist-subset")
        >>> split = ImageSplit(digits.train_images, digits.train_labels, partial(rate, steps=5))
        >>> split.batch(torch.arange(4))[0].shape
        torch.Size([5, 4, 1, 28, 28])
    """

    images: Tensor
    labels: Tensor
    encoder: Callable[[Tensor], Tensor]
    augment: ImageAugmentation = STILL

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "ImageSplit":
        """Return the same images on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def subset(self, indices: Tensor | slice) -> "ImageSplit":
        """Return the images at `indices` as a new split."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def batch(self, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Return sequences and labels; in the first epoch the images are unchanged."""
        images = self.images[indices]
        if epoch:
            images = self.augment(images, indices, epoch, len(self))
        return self.encoder(images.float().div_(255)), self.labels[indices]

    def tensors(self) -> tuple[Tensor, ...]:
        """Return images and labels."""
        return self.images, self.labels


@dataclass(frozen=True, eq=False)
class SequenceSplit:
    """Ready-made sequences, kept as compact as in the cache and unpacked batch by batch, on the device.

    Attributes:
        samples: uint8 `[copies * N, T, bytes]`: all samples, then all again with another augmentation, and so on.
        labels: `[N]`.
        rows: `[N]`, index of each sample in the first copy.
        copy_size: number of samples in one copy.
        shape: shape of one step.
        binary: whether a byte holds eight spikes, else one count.

    Example:
        >>> packed = torch.tensor([[[0b10000001], [0b00000010]]], dtype=torch.uint8)  # a sample of two steps
        >>> split = SequenceSplit(packed, torch.tensor([3]), torch.tensor([0]), 1, (2, 2, 2), binary=True)
        >>> split.batch(torch.tensor([0]))[0].flatten(2).int().tolist()
        [[[1, 0, 0, 0, 0, 0, 0, 1]], [[0, 1, 0, 0, 0, 0, 0, 0]]]
    """

    samples: Tensor
    labels: Tensor
    rows: Tensor
    copy_size: int
    shape: tuple[int, ...]
    binary: bool

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "SequenceSplit":
        """Return the same samples on `device`."""
        samples, labels, rows = (tensor.to(device) for tensor in (self.samples, self.labels, self.rows))
        return SequenceSplit(samples, labels, rows, self.copy_size, self.shape, self.binary)

    def subset(self, indices: Tensor | slice) -> "SequenceSplit":
        """Return the samples at `indices`, with all their copies, as a new split."""
        return SequenceSplit(
            self.samples, self.labels[indices], self.rows[indices], self.copy_size, self.shape, self.binary
        )

    def batch(self, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Return sequences and labels; each epoch uses the next copy of every sample, the first the original ones."""
        copy = epoch % (len(self.samples) // self.copy_size)
        packed = self.samples[self.rows[indices] + copy * self.copy_size]
        if self.binary:
            return unpack_batch(packed, self.shape), self.labels[indices]
        return packed.transpose(0, 1).float().unflatten(2, self.shape), self.labels[indices]

    def tensors(self) -> tuple[Tensor, ...]:
        """Return sequences, labels and rows."""
        return self.samples, self.labels, self.rows


@dataclass(frozen=True, eq=False)
class ArraySplit:
    """Samples of any shape and type, `[N, ...]`, which `encoder` turns into sequences.

    Attributes:
        values: `[N, ...]`.
        labels: `[N, ...]`: class indices, or other targets.
        encoder: from values `[B, ...]` to sequences `[T, B, ...]`.
        lengths: int64 `[N]`, how many steps of each sequence count; None if all do.

    Example:
        >>> from functools import partial
        >>> split = ArraySplit(torch.rand(20, 8), torch.arange(20) % 2, partial(constant, steps=5))
        >>> split.batch(torch.arange(4))[0].shape
        torch.Size([5, 4, 8])
    """

    values: Tensor
    labels: Tensor
    encoder: Callable[[Tensor], Tensor]
    lengths: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "ArraySplit":
        """Return the same samples on `device`."""
        lengths = None if self.lengths is None else self.lengths.to(device)
        return replace(self, values=self.values.to(device), labels=self.labels.to(device), lengths=lengths)

    def subset(self, indices: Tensor | slice) -> "ArraySplit":
        """Return the samples at `indices` as a new split."""
        lengths = None if self.lengths is None else self.lengths[indices]
        return replace(self, values=self.values[indices], labels=self.labels[indices], lengths=lengths)

    def batch(self, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Return sequences and labels, the same in every epoch."""
        return self.encoder(self.values[indices]), self.labels[indices]

    def tensors(self) -> tuple[Tensor, ...]:
        """Return values, labels and lengths."""
        return (self.values, self.labels) if self.lengths is None else (self.values, self.labels, self.lengths)


def lengths_of(split: Split, indices: Tensor) -> Tensor | None:
    """Return how many steps of each sequence of a batch count; None if all do."""
    return split.lengths[indices] if isinstance(split, ArraySplit) and split.lengths is not None else None


@dataclass(frozen=True, eq=False)
class Samples:
    """A data set, ready for training.

    Attributes:
        sample_shape: shape of one step of one sample.
        source: description of where the samples come from and how many there are.
        kind: see `DataSpec`; `levels`, `mean`, `deviation`, `sensor`, `rate` and `channels`, too.
        recordings: int64 `[N]`, which recording each training sample is a window of; None if each is one of its own.

    Raises:
        DataError: if two classes have the same name.

    Example:
        >>> samples = load_samples("mnist-subset", EventRecipe(steps=5))
        >>> samples.sample_shape, samples.class_sizes()[0]
        ((1, 28, 28), ('0', 991, 181))
    """

    name: str
    sample_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    train: Split
    test: Split
    source: str
    kind: str = VALUES
    levels: int = LEVELS
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    sensor: tuple[int, ...] = ()
    rate: float = 0.0
    channels: tuple[str, ...] = ()
    recordings: Tensor | None = None

    def __post_init__(self) -> None:
        # classes of other samples are found by their names
        twice = next((name for name, count in Counter(self.class_names).items() if count > 1), None)
        if twice is not None:
            raise DataError(f"{self.name} calls two classes {twice!r}: give each class a name of its own")

    @property
    def spec(self) -> DataSpec:
        """What a network must know of the samples."""
        return DataSpec(
            list(self.sample_shape),
            len(self.class_names),
            list(self.class_names),
            list(self.sensor),
            list(self.mean),
            list(self.deviation),
            self.kind,
            self.levels,
            self.kind == VALUES and self._are_pixels,
            self.rate,
            list(self.channels),
        )

    @property
    def _are_pixels(self) -> bool:
        train = self.train
        return isinstance(train, ImageSplit) or (isinstance(train, ArraySplit) and train.values.dtype == torch.uint8)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all samples and labels, in their order."""
        content = sha256()
        for tensor in (*self.train.tensors(), *self.test.tensors()):
            content.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
            content.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return content.hexdigest()

    def class_sizes(self) -> list[tuple[str, int, int]]:
        """Return the name and the numbers of training and test samples of each class."""
        train, test = (
            torch.bincount(split.labels, minlength=len(self.class_names)).tolist() for split in (self.train, self.test)
        )
        return list(zip(self.class_names, train, test, strict=True))
