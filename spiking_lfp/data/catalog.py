"""The image data sets by name: what they hold, where their files belong, and whether the files are present."""

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from spiking_lfp.arguments import as_path
from spiking_lfp.data import spoken_digits, yin_yang
from spiking_lfp.data._files import IDX_FILES, missing_files
from spiking_lfp.data.photographs import CIFAR10_ATLASES, MIN_CLASSES, PHOTOGRAPHS, Photographs
from spiking_lfp.errors import DataError

ROOT_VARIABLE = "SPIKING_LFP_DATA"
SUBSET_NAME = "mnist-subset"
SUBSET_FILE = Path(__file__).parent / "digits" / "digits.npz"


@dataclass(frozen=True)
class Source:
    """A data set that torchvision downloads and reads: its class there, and its files in `folder` below a root.

    `image_shape` is [channels, height, width], `note` names authors and licence; `atlases` are another form of the same
    images, read if all of its classes are there and torchvision's files are not.
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
    atlases: Photographs | None = None

    def uses_atlases(self, root: Path) -> bool:
        """Return whether the images below `root` are read from atlases."""
        if self.atlases is None or not missing_files(root / self.folder, self.files):
            return False
        return len(self.atlases.list(root / self.atlases.folder)) == self.classes


@dataclass(frozen=True)
class DatasetStatus:
    """A data set and whether its files are present.

    Attributes:
        sample_shape: [channels, height, width], or of values.
        location: the file or folder the data are read from.
        present: for images, whether no file is missing (none is read); for photographs, whether there are two classes
            or more; for recordings, whether there are some for training and some for testing.
        note: authors and licence.
        incomplete_sizes: how many training and test samples are present, if the data set is incomplete.
        downloads: whether it is downloaded where it is missing.

    Example:
        >>> status = next(each for each in dataset_status() if each.name == "mnist-subset")
        >>> status.present, status.classes, status.train_size
        (True, 10, 10000)
    """

    name: str
    description: str
    sample_shape: tuple[int, ...]
    classes: int
    train_size: int
    test_size: int
    location: Path
    present: bool
    note: str
    incomplete_sizes: tuple[int, int] | None = None
    downloads: bool = False


def _like_mnist(torchvision_class: str, description: str, note: str) -> Source:
    folder = f"{torchvision_class}/raw"
    return Source(torchvision_class, folder, IDX_FILES, description, (1, 28, 28), 10, 60_000, 10_000, note)


def _cifar(
    torchvision_class: str, folder: str, files: tuple[str, ...], classes: int, atlases: Photographs | None = None
) -> Source:
    shape, note = (3, 32, 32), "Krizhevsky 2009; no licence stated"
    return Source(torchvision_class, folder, files, "photos of objects", shape, classes, 50_000, 10_000, note, atlases)


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
        CIFAR10_ATLASES,
    ),
    "cifar100": _cifar("CIFAR100", "cifar-100-python", ("train", "test", "meta"), 100),
}
# neither images nor events
OTHER_SETS = (yin_yang.NAME, spoken_digits.NAME)
DATASET_NAMES = (SUBSET_NAME, *SOURCES, *PHOTOGRAPHS)


def data_root(explicit: str | Path | None = None) -> Path:
    """Return the folder that holds the data sets, whether it exists or not.

    That is `explicit` if given, else the folder named by the environment variable `SPIKING_LFP_DATA`, else a folder
    in the user's cache.

    Example:
        >>> data_root("~/data").name
        'data'
    """
    if explicit is not None:
        return as_path(explicit, "root").expanduser()
    from_environment = os.environ.get(ROOT_VARIABLE)
    return Path(from_environment).expanduser() if from_environment else Path(platformdirs.user_cache_dir("spiking_lfp"))


def dataset_status(root: str | Path | None = None) -> list[DatasetStatus]:
    """Return the status of every image data set; all but the packaged one are looked for in `data_root(root)`.

    Example:
        >>> [status.name for status in dataset_status() if status.present and status.name == "mnist-subset"]
        ['mnist-subset']
    """
    folder = data_root(root)
    packaged = DatasetStatus(
        name=SUBSET_NAME,
        description="handwritten digits, shipped with the package",
        sample_shape=(1, 28, 28),
        classes=10,
        train_size=10_000,
        test_size=2_000,
        location=SUBSET_FILE,
        present=SUBSET_FILE.is_file(),
        note=_MNIST_NOTE,
    )
    downloaded = [_downloaded(name, source, folder) for name, source in SOURCES.items()]
    photographs = [_status(name, source, folder / source.folder) for name, source in PHOTOGRAPHS.items()]
    return [packaged, *downloaded, *photographs, *_others(folder)]


def _others(root: Path) -> list[DatasetStatus]:
    points = DatasetStatus(
        name=yin_yang.NAME,
        description="points of a figure, made by the package",
        sample_shape=(4,),
        classes=len(yin_yang.CLASSES),
        train_size=yin_yang.TRAIN_SIZE,
        test_size=yin_yang.TEST_SIZE,
        location=Path(yin_yang.__file__),
        present=True,
        note="Kriener, Goeltz, Petrovici 2022; MIT",
    )
    found = spoken_digits.recordings(root)
    test = sum(take < spoken_digits.TEST_TAKES for *_, take in found)
    whole = (spoken_digits.TRAIN_SIZE, spoken_digits.TEST_SIZE)
    sound = DatasetStatus(
        name=spoken_digits.NAME,
        description="spoken digits, six speakers",
        sample_shape=(1,),
        classes=len(spoken_digits.CLASSES),
        train_size=whole[0],
        test_size=whole[1],
        location=root / spoken_digits.FOLDER,
        present=bool(found),
        note="Jakobovski and others; CC BY-SA 4.0",
        incomplete_sizes=None if not found or (len(found) - test, test) == whole else (len(found) - test, test),
    )
    return [points, sound]


def _downloaded(name: str, source: Source, root: Path) -> DatasetStatus:
    atlases = source.atlases if source.uses_atlases(root) else None
    return DatasetStatus(
        name=name,
        description=source.description,
        sample_shape=source.image_shape,
        classes=source.classes,
        train_size=source.train_size,
        test_size=source.test_size,
        location=root / (atlases or source).folder,
        present=atlases is not None or not missing_files(root / source.folder, source.files),
        note=source.note,
        downloads=True,
    )


def _status(name: str, source: Photographs, folder: Path) -> DatasetStatus:
    try:
        classes = len(source.list(folder))
    except DataError:
        # A damaged class list of one data set must not hide the others; loading that data set reports the damage.
        classes = 0
    sizes = (classes * source.train_per_class, classes * source.test_per_class)
    return DatasetStatus(
        name=name,
        description=source.description,
        sample_shape=source.image_shape,
        classes=source.classes,
        train_size=source.classes * source.train_per_class,
        test_size=source.classes * source.test_per_class,
        location=folder,
        present=classes >= MIN_CLASSES,
        note=source.note,
        incomplete_sizes=None if classes == source.classes else sizes,
    )
