"""Data sets of photographs provided by hand: CIFAR-10, some classes of CIFAR-100, and of Tiny ImageNet."""

import io
import tarfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from spiking_lfp.data._files import missing_files
from spiking_lfp.errors import DataError

Pixels = NDArray[np.uint8]
MIN_CLASSES = 2
_TAR, _CLASSES = "tiny_imagenet20.tar", "classes.tsv"
_FOLDERS = {"training": "train", "test": "val"}


@dataclass(frozen=True)
class Photographs:
    """A data set of photographs in `folder` below a root; a copy with only some of the classes is used as it is.

    Attributes:
        files: the files that are required; `CLASS` stands for the name of any class.
        image_shape: [channels, height, width].
        classes: of the complete data set.
        train_per_class: training images of each class.
        test_per_class: test images of each class.
        note: authors and licence.
        list: returns the names of the classes in a folder; none if files are missing.
        read: returns the training and the test images in a folder, given this description of the data set, each
            [classes, images, channels, height, width].
        grid: rows and columns of the images in the atlas of a class, if there are atlases.
    """

    folder: str
    files: tuple[str, ...]
    description: str
    image_shape: tuple[int, int, int]
    classes: int
    train_per_class: int
    test_per_class: int
    note: str
    list: Callable[[Path], tuple[str, ...]]
    read: Callable[[Path, "Photographs"], tuple[Pixels, Pixels]]
    grid: tuple[int, int] = (1, 1)


def _atlases(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.webp")))


def _read_atlases(folder: Path, source: Photographs) -> tuple[Pixels, Pixels]:
    channels, height, width = source.image_shape
    rows, columns = source.grid
    tiles = []
    for name in _atlases(folder):
        path = folder / f"{name}.webp"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise _damaged(path, f"it cannot be read ({error})") from error
        atlas = _decode(path, "it", content, "WEBP", (columns * width, rows * height))
        grid = atlas.reshape(rows, height, columns, width, channels).transpose(0, 2, 4, 1, 3)
        tiles.append(grid.reshape(-1, *source.image_shape))
    images = np.stack(tiles)
    return images[:, : source.train_per_class], images[:, source.train_per_class :]


def _listed(folder: Path) -> tuple[str, ...]:
    return () if missing_files(folder, (_CLASSES, _TAR)) else tuple(_class_table(folder / _CLASSES).values())


def _class_table(path: Path) -> dict[str, str]:
    """Return the first names of the classes by their WordNet number, in the order of the file."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, f"it cannot be read ({error})") from error
    table: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        folder, _, names = line.partition("\t")
        name = names.partition(",")[0].strip()
        if not folder or not name:
            raise _damaged(path, f"its line {number} is {line!r}, expected FOLDER, a tab and NAMES")
        if folder in table:
            raise _damaged(path, f"its line {number} lists {folder} once more, expected every class once")
        table[folder] = name
    return table


def _read_tar(folder: Path, source: Photographs) -> tuple[Pixels, Pixels]:
    path, classes = folder / _TAR, list(_class_table(folder / _CLASSES))
    try:
        with tarfile.open(path, "r:") as tar:
            members: dict[str, list[tarfile.TarInfo]] = {}
            for member in tar:
                if member.isfile():
                    members.setdefault(str(PurePosixPath(member.name).parent), []).append(member)
            # To tarfile a truncated tar simply ends early: only the number of images reveals it.
            _check_counts(path, source, classes, {folder: len(files) for folder, files in members.items()})
            train, test = (
                np.stack(
                    [[_read_member(path, source, tar, each) for each in members[f"{split}/{name}"]] for name in classes]
                )
                for split in _FOLDERS.values()
            )
    except (OSError, ValueError, tarfile.TarError) as error:
        raise _damaged(path, f"it cannot be read as a tar ({error})") from error
    return train, test


def _check_counts(path: Path, source: Photographs, classes: list[str], counts: dict[str, int]) -> None:
    known = {f"{split}/{name}" for split in _FOLDERS.values() for name in classes}
    for folder in counts:
        if folder not in known:
            raise _damaged(path, f"it has files in {folder}, expected train or val and a class of {_CLASSES}")
    for (kind, split), expected in zip(_FOLDERS.items(), (source.train_per_class, source.test_per_class), strict=True):
        for name in classes:
            found = counts.get(f"{split}/{name}", 0)
            if found != expected:
                raise _damaged(path, f"it has {found} {kind} images in {split}/{name}, expected {expected}")


def _read_member(path: Path, source: Photographs, tar: tarfile.TarFile, member: tarfile.TarInfo) -> Pixels:
    file = tar.extractfile(member)
    assert file is not None  # it is one of the regular files
    _, height, width = source.image_shape
    return _decode(path, f"its {member.name}", file.read(), "JPEG", (width, height)).transpose(2, 0, 1)


def _decode(path: Path, what: str, content: bytes, form: str, size: tuple[int, int]) -> Pixels:
    """Decode an image of `path`, greyscale or in colour, to [height, width, 3]."""
    expected = "x".join(map(str, size))
    try:
        with warnings.catch_warnings():
            # It is for large images; here an image of the wrong size is refused before any pixel is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=[form])
        if image.size != size:
            raise _damaged(path, f"{what} is an image of {image.width}x{image.height}, expected {expected}")
        return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise _damaged(
            path, f"{what} has {len(content)} bytes that are not a {form} image, expected one of {expected}"
        ) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _damaged(path, f"{what} is not a complete {form} image of {expected} ({error})") from error


def _damaged(path: Path, found: str) -> DataError:
    return DataError(f"{path} is damaged: {found}; replace it")


# CIFAR-10 as atlases, read where torchvision's files are missing
CIFAR10_ATLASES = Photographs(
    folder="cifar10",
    files=("CLASS.webp",),
    description="photos of objects",
    image_shape=(3, 32, 32),
    classes=10,
    train_per_class=5000,
    test_per_class=1000,
    note="Krizhevsky 2009; no licence stated",
    list=_atlases,
    read=_read_atlases,
    grid=(60, 100),
)
PHOTOGRAPHS = {
    "cifar100-classes": Photographs(
        folder="cifar100",
        files=("CLASS.webp",),
        description="photos of objects, some classes of CIFAR-100",
        image_shape=(3, 32, 32),
        classes=100,
        train_per_class=500,
        test_per_class=100,
        note="Krizhevsky 2009; no licence stated",
        list=_atlases,
        read=_read_atlases,
        grid=(24, 25),
    ),
    "tiny-imagenet-20": Photographs(
        folder="tiny_imagenet20",
        files=(_CLASSES, _TAR),
        description="photos of objects, 20 classes of Tiny ImageNet",
        image_shape=(3, 64, 64),
        classes=20,
        train_per_class=500,
        test_per_class=50,
        note="Stanford CS231n, from ImageNet; for research",
        list=_listed,
        read=_read_tar,
    ),
}
