"""Image data sets as whole tensors in memory: the packaged digits, those of torchvision, and photographs."""

import warnings
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_lfp.arguments import as_integer, describe
from spiking_lfp.data._files import IDX_FILES, check_idx_files, check_md5, download_files, missing_files
from spiking_lfp.data._torchvision import torchvision_datasets
from spiking_lfp.data.catalog import (
    DATASET_NAMES,
    ROOT_VARIABLE,
    SOURCES,
    SUBSET_FILE,
    SUBSET_NAME,
    Source,
    data_root,
)
from spiking_lfp.data.photographs import MIN_CLASSES, PHOTOGRAPHS, Photographs
from spiking_lfp.errors import DataError, UsageError, unknown_name

_DIGITS = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images for training and testing, checked on creation.

    Images are uint8 [images, channels, height, width], 0..255; training and test images have the same shape. Labels are
    int64 [images], indices into `class_names`.

    Raises:
        DataError: a split is empty, has a wrong shape or dtype, different numbers of images and labels, or a label
            without a class.

    Example:
        >>> images, labels = torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.arange(6) % 2
        >>> ImageDataset("mine", images, labels, images, labels, ("cat", "dog")).class_names
        ('cat', 'dog')
    """

    name: str
    train_images: Tensor = field(repr=False)
    train_labels: Tensor = field(repr=False)
    test_images: Tensor = field(repr=False)
    test_labels: Tensor = field(repr=False)
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        self._check_split("train", self.train_images, self.train_labels)
        self._check_split("test", self.test_images, self.test_labels)
        train_shape, test_shape = list(self.train_images.shape[1:]), list(self.test_images.shape[1:])
        if train_shape != test_shape:
            raise DataError(f"{self.name}: train images are {train_shape}, but test images {test_shape}")

    def _check_split(self, split: str, images: Tensor, labels: Tensor) -> None:
        where = f"{self.name}, {split} split"
        if images.dtype != torch.uint8 or images.ndim != 4:
            expected = "torch.uint8 [images, channels, height, width]"
            raise DataError(f"{where}: images are {images.dtype} {list(images.shape)}, expected {expected}")
        if labels.dtype != torch.int64 or labels.ndim != 1:
            found = f"{labels.dtype} {list(labels.shape)}"
            raise DataError(f"{where}: labels are {found}, expected torch.int64 [images]")
        if images.numel() == 0:
            raise DataError(f"{where}: there are no images, their shape is {list(images.shape)}")
        if len(images) != len(labels):
            raise DataError(f"{where}: there are {len(images)} images but {len(labels)} labels")
        low, high = (int(label) for label in labels.aminmax())
        if low < 0 or high >= len(self.class_names):
            expected = f"0..{len(self.class_names) - 1} for {len(self.class_names)} classes"
            raise DataError(f"{where}: labels are {low}..{high}, expected {expected}")


def load_dataset(name: str, root: str | Path | None = None, download: bool = True) -> ImageDataset:
    """Load the data set `name`, one of `DATASET_NAMES`, into memory.

    `mnist-subset` comes with the package. The others are read from `data_root(root)`. Files missing there are
    downloaded to it if `download` is true. Photographs cannot be downloaded. `cifar10` is also read from `cifar10`, a
    folder of one WebP atlas of 100 x 60 images for each class, where torchvision's files are missing.

    Raises:
        UsageError: there is no data set of that name.
        DataError: the files are missing and were not downloaded, or they are damaged.

    Args:
        name: of the data set.
        root: data root, see `data_root`.
        download: whether missing files may be downloaded.

    Returns:
        all its images, uint8 `[N, C, H, W]`, and labels, int64 `[N]`.

    Example:
        >>> digits = load_dataset("mnist-subset")
        >>> digits.train_images.shape, digits.test_labels[:5].tolist()
        (torch.Size([10000, 1, 28, 28]), [0, 3, 5, 7, 2])
    """
    if name == SUBSET_NAME:
        return _load_subset()
    top = data_root(root)
    if name in PHOTOGRAPHS:
        return _load_photographs(name, PHOTOGRAPHS[name], top)
    if name not in SOURCES:
        raise unknown_name("data set", name, DATASET_NAMES)
    source = SOURCES[name]
    if source.atlases is not None and source.uses_atlases(top):
        return _load_photographs(name, source.atlases, top)
    folder = top / source.folder
    dataset_class = getattr(torchvision_datasets(), source.torchvision_class)
    missing = missing_files(folder, source.files)
    if missing and not download:
        raise _missing_error(name, source, top, missing, "downloading is switched off")
    if missing:
        try:
            download_files(dataset_class, top, folder, source.files)
        except (OSError, RuntimeError, HTTPException) as error:
            # torchvision gives a line for each mirror it tried; the last is enough.
            reason = str(error).strip().rpartition("\n")[2].strip("<>. ") or type(error).__name__
            raise _missing_error(name, source, top, missing, f"could not be downloaded ({reason})") from error
    return _load_torchvision(name, source, dataset_class, top)


def _missing_error(name: str, source: Source | Photographs, root: Path, files: list[str], reason: str) -> DataError:
    lacking = "" if len(files) == len(source.files) else f" (no {', '.join(files)})"
    return DataError(
        f"data set {name!r} is not in {root / source.folder}{lacking} and {reason}: name a folder that holds "
        f"{source.folder} with --data-root or {ROOT_VARIABLE}, or use --data {SUBSET_NAME}, which needs none"
    )


def _load_subset() -> ImageDataset:
    try:
        with SUBSET_FILE.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return ImageDataset(
                name=SUBSET_NAME,
                train_images=torch.from_numpy(arrays["train_images"]).unsqueeze(1),
                train_labels=torch.from_numpy(arrays["train_labels"]).long(),
                test_images=torch.from_numpy(arrays["test_images"]).unsqueeze(1),
                test_labels=torch.from_numpy(arrays["test_labels"]).long(),
                class_names=_DIGITS,
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{SUBSET_FILE} cannot be read ({error}): install spiking-lfp again") from error


def _load_torchvision(name: str, source: Source, dataset_class: Any, root: Path) -> ImageDataset:
    folder = root / source.folder
    try:
        if source.files == IDX_FILES:
            check_idx_files(folder, source.image_shape[1:], source.classes)
        else:
            meta = dataset_class.meta
            checksums = [*dataset_class.train_list, *dataset_class.test_list, (meta["filename"], meta["md5"])]
            check_md5(folder, dict(checksums))
        with warnings.catch_warnings():
            # NumPy 2.4.0 to 2.4.4 warn about pickles as old as CIFAR's.
            warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
            train, test = (dataset_class(root, train=train) for train in (True, False))
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        raise DataError(f"data set {name!r} in {folder} cannot be read ({error})") from error
    return ImageDataset(
        name=name,
        train_images=_channels_first(train.data),
        train_labels=torch.as_tensor(train.targets),
        test_images=_channels_first(test.data),
        test_labels=torch.as_tensor(test.targets),
        class_names=_DIGITS if name == "mnist" else tuple(train.classes),
    )


def _load_photographs(name: str, source: Photographs, root: Path) -> ImageDataset:
    folder = root / source.folder
    class_names = source.list(folder)
    missing = [] if class_names else missing_files(folder, source.files)
    if missing:
        raise _missing_error(name, source, root, missing, "cannot be downloaded automatically")
    if len(class_names) < MIN_CLASSES:
        raise DataError(
            f"data set {name!r} in {folder} has {len(class_names)} of the classes, expected {MIN_CLASSES} or more: "
            "add some"
        )
    train, test = source.read(folder, source)
    labels = torch.arange(len(class_names))
    return ImageDataset(
        name=name,
        train_images=torch.from_numpy(train).flatten(0, 1),
        train_labels=labels.repeat_interleave(train.shape[1]),
        test_images=torch.from_numpy(test).flatten(0, 1),
        test_labels=labels.repeat_interleave(test.shape[1]),
        class_names=class_names,
    )


def _channels_first(images: Tensor | np.ndarray) -> Tensor:
    """Convert torchvision's [N, H, W] tensors and [N, H, W, C] arrays to [N, C, H, W]."""
    if isinstance(images, Tensor):
        return images.unsqueeze(1)
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def subset(
    dataset: ImageDataset,
    classes: Sequence[int] | None = None,
    train: int | None = None,
    test: int | None = None,
    seed: int = 0,
) -> ImageDataset:
    """Return some classes of a data set, and at most so many of their images, in the order of the data set.

    Images are drawn at random without replacement and evenly from all classes: the counts per class differ by at most
    one, unless a class runs out of images. A larger draw with the same seed contains the smaller one, and the test
    images drawn do not depend on `train`.

    Args:
        dataset: the full data set.
        classes: classes to keep, relabelled 0, 1, ... in the order given here; all if None.
        train: training images to keep, all if None.
        test: test images to keep, all if None.
        seed: of the draw.

    Raises:
        UsageError: no data set of images, an unknown or repeated class, no class, fewer images than classes, or a
            negative seed.
        DataError: the data set has no training or no test image of these classes.

    Example:
        >>> some = subset(load_dataset("mnist-subset"), classes=[3, 8], train=100)
        >>> some.class_names, some.train_labels.bincount().tolist()
        (('3', '8'), [50, 50])
    """
    if not isinstance(dataset, ImageDataset):
        raise UsageError(f"dataset must be an ImageDataset, as load_dataset returns it, found {describe(dataset)}")
    known = range(len(dataset.class_names))
    if classes is not None and not isinstance(classes, Iterable):
        raise UsageError(f"classes must be a list of class indices, found {describe(classes)}")
    kept_classes = list(known if classes is None else classes)
    if not kept_classes or len(set(kept_classes)) < len(kept_classes) or not set(kept_classes) <= set(known):
        raise UsageError(f"classes are {kept_classes}, expected some of 0..{known[-1]} of {dataset.name}, each once")
    for split, count in (("train", train), ("test", test)):
        if count is not None and as_integer(count, split, 0) < len(kept_classes):
            raise UsageError(f"{split} is {count}, expected {len(kept_classes)} or more, one image of each class")
    seed = as_integer(seed, "seed", 0)
    train_rows, train_labels = _draw(dataset.train_labels, kept_classes, train, (seed, 0))
    test_rows, test_labels = _draw(dataset.test_labels, kept_classes, test, (seed, 1))
    which = "all classes" if classes is None else f"classes {', '.join(map(str, kept_classes))}"
    return ImageDataset(
        name=f"{dataset.name} ({which}; {len(train_rows)} + {len(test_rows)} images, seed {seed})",
        train_images=dataset.train_images[train_rows],
        train_labels=train_labels,
        test_images=dataset.test_images[test_rows],
        test_labels=test_labels,
        class_names=tuple(dataset.class_names[label] for label in kept_classes),
    )


def _draw(labels: Tensor, kept_classes: list[int], count: int | None, seed: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the indices of the images drawn from a split, in rising order, and their new labels."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    rows_by_class = [shuffled[labels.numpy()[shuffled] == label] for label in kept_classes]
    rank_in_class = np.concatenate([np.arange(len(rows)) for rows in rows_by_class])
    new_labels = np.repeat(np.arange(len(kept_classes)), [len(rows) for rows in rows_by_class])
    # The first image of every class, then the second of every class, and so on.
    first = np.lexsort((new_labels, rank_in_class))[:count]
    rows = np.concatenate(rows_by_class)[first]
    order = np.argsort(rows)
    return torch.from_numpy(rows[order]), torch.from_numpy(new_labels[first][order])
