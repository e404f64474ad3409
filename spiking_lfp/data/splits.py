"""What training sees of a data set, images and recordings alike: batches of sequences `[T, B, ...]` and labels."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from spiking_lfp.events.frames import unpack_batch


@runtime_checkable
class Split(Protocol):
    """Labelled samples that learn or are tested together, on the device that trains."""

    @property
    def labels(self) -> Tensor:
        """Class indices int64 `[N]`."""

    def __len__(self) -> int:
        """Return N."""

    def to(self, device: torch.device) -> "Split":
        """Return the same samples on `device`."""

    def part(self, indices: Tensor | slice) -> "Split":
        """Return some of the samples as a split of their own."""

    def batch(self, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Return the sequences `[T, B, ...]` and labels `[B]` of the samples at `indices`, as `epoch` shows them."""


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Images uint8 `[N, C, H, W]`, shown as `encoder` does: from values `[B, C, H, W]` in [0, 1] to a sequence.

    Attributes:
        shift: by how many pixels at most images are moved, each time anew, from the second epoch on; black comes after.
    """

    images: Tensor
    labels: Tensor
    encoder: Callable[[Tensor], Tensor]
    shift: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "ImageSplit":
        """Return the same images on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def part(self, indices: Tensor | slice) -> "ImageSplit":
        """Return some of the images."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def batch(self, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Return sequences and labels; the first epoch sees the images as they are."""
        images = self.images[indices]
        if self.shift and epoch:
            images = self._moved(images, indices, epoch)
        return self.encoder(images.float().div_(255)), self.labels[indices]

    def _moved(self, images: Tensor, indices: Tensor, epoch: int) -> Tensor:
        """Move images as this epoch moves those at `indices`, whatever batch they are in."""
        # drawn on the host, so that every device sees the same
        generator = torch.Generator().manual_seed(epoch)
        drawn = torch.randint(2 * self.shift + 1, (len(self), 2), generator=generator).to(images.device)
        above, left = drawn[indices].view(-1, 2, 1, 1).unbind(1)
        height, width = (torch.arange(size, device=images.device) for size in images.shape[2:])
        padded = F.pad(images, [self.shift] * 4)
        which = torch.arange(len(images), device=images.device).view(-1, 1, 1)
        # indices on both sides of the channels put these last
        return padded[which, :, above + height.view(-1, 1), left + width].permute(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class SequenceSplit:
    """Ready-made sequences, kept as small as they are in the cache and made dense batch by batch, on the device.

    Attributes:
        samples: uint8 `[copies * N, T, bytes]`: all samples, then each once more in another augmentation, and so on.
        labels: `[N]`.
        rows: where in the first copy the samples are, `[N]`.
        stored: samples in one copy.
        shape: of one step.
        binary: whether the bytes hold eight spikes each, else one count each.
    """

    samples: Tensor
    labels: Tensor
    rows: Tensor
    stored: int
    shape: tuple[int, ...]
    binary: bool

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "SequenceSplit":
        """Return the same samples on `device`."""
        samples, labels, rows = (tensor.to(device) for tensor in (self.samples, self.labels, self.rows))
        return SequenceSplit(samples, labels, rows, self.stored, self.shape, self.binary)

    def part(self, indices: Tensor | slice) -> "SequenceSplit":
        """Return some of the samples, with all their copies."""
        return SequenceSplit(
            self.samples, self.labels[indices], self.rows[indices], self.stored, self.shape, self.binary
        )

    def batch(self, indices: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Return sequences and labels; each epoch sees the next copy of every sample, starting with the plain ones."""
        copy = epoch % (len(self.samples) // self.stored)
        found = self.samples[self.rows[indices] + copy * self.stored]
        if self.binary:
            return unpack_batch(found, self.shape), self.labels[indices]
        return found.transpose(0, 1).float().unflatten(2, self.shape), self.labels[indices]


@dataclass(frozen=True, eq=False)
class Samples:
    """A data set as training takes it.

    Attributes:
        sample_shape: of one step of one sample.
        source: one sentence on where the samples come from and how many there are.
    """

    name: str
    sample_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    train: Split
    test: Split
    source: str
