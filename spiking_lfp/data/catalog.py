"""Which data sets there are, where their files belong, and whether they are there."""

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from spiking_lfp.data._files import IDX_FILES, missing_files
from spiking_lfp.data.photographs import LEAST_CLASSES, PHOTOGRAPHS, Photographs
from spiking_lfp.errors import DataError

ROOT_VARIABLE = "SPIKING_LFP_DATA"
SUBSET_NAME = "mnist-subset"
SUBSET_FILE = Path(__file__).parent / "digits" / "digits.npz"


@dataclass(frozen=True)
class Source:
    """A data set that torchvision fetches and reads: its class there, and its files in `folder` below a root.

    `image_shape` is [channels, height, width], `note` names makers and licence.
    """

    torchvision_class: str
    folder: str
    files: tuple[str, ...]
    description: str
    image_shape: tuple[int, int, int]
    classes: int
    train_size: int
    test_size: int
    note: str


@dataclass(frozen=True)
class DatasetStatus:
    """What is known of a data set, and whether it is there.

    `sample_shape` is [channels, height, width], `note` names makers and licence, `location` is the file or
    folder the data are read from; images are `present` if no file is missing there (none is read), classes of
    photographs if there are two or more, recordings if there are some to train and some to test. `found` counts these
    two, where there are fewer than there should be.
    """

    name: str
    description: str
    sample_shape: tuple[int, int, int]
    classes: int
    train_size: int
    test_size: int
    location: Path
    present: bool
    note: str
    found: tuple[int, int] | None = None


def _like_mnist(torchvision_class: str, description: str, note: str) -> Source:
    folder = f"{torchvision_class}/raw"
    return Source(torchvision_class, folder, IDX_FILES, description, (1, 28, 28), 10, 60_000, 10_000, note)


def _cifar(torchvision_class: str, folder: str, files: tuple[str, ...], classes: int) -> Source:
    note = "Krizhevsky 2009; no licence stated"
    return Source(torchvision_class, folder, files, "photographs of things", (3, 32, 32), classes, 50_000, 10_000, note)


_MNIST_NOTE = "LeCun, Cortes, Burges; usually given as CC BY-SA 3.0"
SOURCES = {
    "mnist": _like_mnist("MNIST", "handwritten digits", _MNIST_NOTE),
    "fashion-mnist": _like_mnist("FashionMNIST", "articles of clothing", "Zalando Research; MIT"),
    "kmnist": _like_mnist("KMNIST", "handwritten Japanese characters", "ROIS-DS CODH; CC BY-SA 4.0"),
    "cifar10": _cifar(
        "CIFAR10",
        "cifar-10-batches-py",
        (*(f"data_batch_{batch}" for batch in range(1, 6)), "test_batch", "batches.meta"),
        10,
    ),
    "cifar100": _cifar("CIFAR100", "cifar-100-python", ("train", "test", "meta"), 100),
}
DATASET_NAMES = (SUBSET_NAME, *SOURCES, *PHOTOGRAPHS)


def data_root(explicit: Path | None = None) -> Path:
    """Return the folder that holds the data sets, whether it exists or not.

    That is `explicit` if given, else what the environment variable `SPIKING_LFP_DATA` names, else a folder
    in the user's cache.
    """
    if explicit is not None:
        return explicit.expanduser()
    named = os.environ.get(ROOT_VARIABLE)
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("spiking_lfp"))


def dataset_status(root: Path | None = None) -> list[DatasetStatus]:
    """Return the state of every data set of images, all but the packaged one as looked for in `data_root(root)`."""
    folder = data_root(root)
    packaged = DatasetStatus(
        name=SUBSET_NAME,
        description="handwritten digits, in the package",
        sample_shape=(1, 28, 28),
        classes=10,
        train_size=10_000,
        test_size=2_000,
        location=SUBSET_FILE,
        present=SUBSET_FILE.is_file(),
        note=_MNIST_NOTE,
    )
    downloaded = [
        DatasetStatus(
            name=name,
            description=source.description,
            sample_shape=source.image_shape,
            classes=source.classes,
            train_size=source.train_size,
            test_size=source.test_size,
            location=folder / source.folder,
            present=not missing_files(folder / source.folder, source.files),
            note=source.note,
        )
        for name, source in SOURCES.items()
    ]
    photographs = [_status(name, source, folder / source.folder) for name, source in PHOTOGRAPHS.items()]
    return [packaged, *downloaded, *photographs]


def _status(name: str, source: Photographs, folder: Path) -> DatasetStatus:
    try:
        classes = len(source.list(folder))
    except DataError:
        # A damaged list of one data set must not hide the others; who loads it is told.
        classes = 0
    return DatasetStatus(
        name=name,
        description=source.description,
        sample_shape=source.image_shape,
        classes=source.classes,
        train_size=source.classes * source.train_each,
        test_size=source.classes * source.test_each,
        location=folder,
        present=classes >= LEAST_CLASSES,
        note=source.note,
        found=None if classes == source.classes else (classes * source.train_each, classes * source.test_each),
    )
