"""The files of torchvision's data sets: checks of their content, and the download of missing ones."""

import os
import socket
import struct
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from hashlib import file_digest, md5
from io import StringIO
from math import prod
from pathlib import Path
from typing import Any

from spiking_lfp.errors import DataError

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_IMAGES_MAGIC = 0x803
_LABELS_MAGIC = 0x801
_TIMEOUT_S = 30.0


def missing_files(folder: Path, files: tuple[str, ...]) -> list[str]:
    """Return those of `files` that are missing in `folder`."""
    # Path.is_file raises where a folder may not be entered.
    return [file for file in files if not os.path.isfile(folder / file)]  # noqa: PTH113


def check_idx_files(folder: Path, image_size: tuple[int, int], classes: int) -> None:
    """Check the four `IDX_FILES` in `folder`: header, length, image size, label range.

    Raises:
        DataError: naming the first damaged file and what was found in it.
    """
    for images, labels in ((IDX_FILES[0], IDX_FILES[1]), (IDX_FILES[2], IDX_FILES[3])):
        image_count = _check_idx_header(folder / images, _IMAGES_MAGIC, image_size)
        label_count = _check_idx_header(folder / labels, _LABELS_MAGIC, ())
        if image_count != label_count:
            raise _damaged(folder / labels, f"it has {label_count} labels for the {image_count} of {images}")
        largest = max((folder / labels).read_bytes()[8:])
        if largest >= classes:
            raise _damaged(folder / labels, f"it has the label {largest}, expected 0..{classes - 1}")


def _check_idx_header(path: Path, magic: int, item_shape: tuple[int, ...]) -> int:
    """Return the number of items of the idx file at `path`, each of `item_shape` bytes."""
    header_size = 4 * (2 + len(item_shape))
    with path.open("rb") as file:
        header = file.read(header_size)
        size = os.fstat(file.fileno()).st_size
    if size < header_size:
        raise _damaged(path, f"it has {size} bytes, expected {header_size} for its header alone")
    found_magic, *shape = struct.unpack(f">{header_size // 4}I", header)
    if found_magic != magic:
        raise _damaged(path, f"it begins with 0x{found_magic:08x} instead of 0x{magic:08x}")
    expected_size = header_size + prod(shape)
    if size != expected_size:
        sizes = "x".join(map(str, shape))
        raise _damaged(path, f"its header says {sizes} = {expected_size} bytes in all, it has {size}")
    if tuple(shape[1:]) != item_shape:
        found, expected = ("x".join(map(str, sides)) for sides in (shape[1:], item_shape))
        raise _damaged(path, f"its images are {found}, expected {expected}")
    if shape[0] == 0:
        raise _damaged(path, "it is empty, its header says 0 items")
    return int(shape[0])


def check_md5(folder: Path, checksums: dict[str, str]) -> None:
    """Check the files in `folder` against `checksums`, their MD5 by file name.

    Raises:
        DataError: naming the first file that differs, its size and its checksum.
    """
    for name, expected in checksums.items():
        with (folder / name).open("rb") as file:
            found = file_digest(file, lambda: md5(usedforsecurity=False)).hexdigest()
            size = os.fstat(file.fileno()).st_size
        if found != expected:
            raise _damaged(folder / name, f"its {size} bytes have the MD5 {found}, expected {expected}")


def _damaged(path: Path, found: str) -> DataError:
    return DataError(f"{path} is damaged: {found}; delete it to have it downloaded again, or replace it")


def download_files(dataset_class: Any, root: Path, folder: Path, files: tuple[str, ...]) -> None:
    """Download a torchvision data set and put those of `files` that are missing into `folder` below `root`.

    Everything is downloaded and unpacked in a temporary folder inside `root` first: whatever goes wrong, no
    incomplete file is left, and existing files are not touched.

    Raises:
        OSError, RuntimeError, HTTPException: no network, a wrong checksum, or `root` is not writable.
    """
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as temporary:
        with quiet_network():
            dataset_class(temporary, download=True)
        downloaded = Path(temporary) / folder.relative_to(root)
        folder.mkdir(parents=True, exist_ok=True)
        for file in missing_files(folder, files):
            (downloaded / file).replace(folder / file)


@contextmanager
def quiet_network() -> Iterator[None]:
    """Reduce torchvision's output to a progress bar on terminals, and set a timeout for its connections."""
    timeout = socket.getdefaulttimeout()
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(StringIO()))
        if not sys.stderr.isatty():
            stack.enter_context(redirect_stderr(StringIO()))
        stack.enter_context(warnings.catch_warnings())
        # They announce future defaults of tarfile and numpy; the archive's checksum has been verified.
        warnings.simplefilter("ignore")
        stack.callback(socket.setdefaulttimeout, timeout)
        # torchvision sets no timeout: behind a firewall that drops packets it would wait for ever.
        socket.setdefaulttimeout(_TIMEOUT_S)
        yield
