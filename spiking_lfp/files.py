"""Finding of files below a folder, and atomic writing of files.

A file is written under a temporary name, synced to disk and renamed when it is complete. The temporary name is always
the same, so that the next writer overwrites what a killed process left behind. Two processes must not write the same
file at once: runs and the cache of recordings have locks.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from spiking_lfp.errors import DataError, ExportError, RunError, SpikingLFPError


def temporary_name(path: Path) -> Path:
    """Return the temporary name under which `path` is written."""
    return path.with_name(f".{path.name}.tmp")


def rename_into_place(temporary: Path, path: Path) -> None:
    """Sync the finished file `temporary` to disk, and rename it to `path`.

    Raises:
        OSError: if that fails.
    """
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    # not every file system can sync a folder; if not, a power failure may restore the previous file, which is complete
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_regular(path: Path) -> bytes:
    """Return the content of a file; a pipe or device, which may never end, is not waited for.

    Raises:
        OSError: if it is missing, no regular file, or cannot be read.
    """
    if path.exists() and not path.is_file():
        kind = errno.EISDIR if path.is_dir() else errno.EINVAL
        raise OSError(kind, "it is a folder" if path.is_dir() else "it is not a regular file", str(path))
    return path.read_bytes()


def is_hidden(name: str) -> bool:
    """Tell whether a name is one of those that tools leave behind, such as `.DS_Store` and `__MACOSX`."""
    return name.startswith((".", "__"))


def files_in(folder: Path) -> list[Path]:
    """Return all files below a folder in a fixed order, those of linked folders, too; none if there is no folder.

    What is hidden is left out, and so is a folder inside of itself, to which links may lead.

    Raises:
        DataError: if a folder cannot be read.
    """
    found: list[Path] = []
    pending: list[tuple[Path, frozenset[str]]] = [(folder, frozenset())]
    while pending:
        at, above = pending.pop()
        real = os.path.realpath(at)
        if real in above:
            continue
        try:
            entries = [*os.scandir(at)]
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise DataError(f"the folder {at} cannot be read: {error.strerror}; allow it, or move it away") from None
        for entry in entries:
            path = at / entry.name
            if is_hidden(entry.name):
                continue
            # of a link in a circle, an entry does not say what it is
            if path.is_dir() if entry.is_symlink() else entry.is_dir():
                pending.append((path, above | {real}))
            elif path.is_file() if entry.is_symlink() else entry.is_file():
                found.append(path)
    return sorted(found)


@dataclass(frozen=True)
class AtomicWriter:
    """Writes files completely or not at all, and reports failures in one sentence.

    Attributes:
        error: the class of the error that is raised in place of an OSError.
        remedy: the end of its sentence: what to do.
    """

    error: type[SpikingLFPError]
    remedy: str

    def write(self, path: Path, content: bytes | memoryview) -> Path:
        """Write `content` to `path`, and return it; if that fails, the previous file stays."""
        with self.writing(path) as temporary:
            temporary.write_bytes(content)
        return path

    @contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """Yield a temporary name to write to; at the end it is renamed to `path`, or removed if anything fails."""
        with self.convert_errors(path):
            temporary = temporary_name(path)
            try:
                yield temporary
                rename_into_place(temporary, path)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink()
                raise

    @contextmanager
    def convert_errors(self, path: Path, verb: str = "write") -> Iterator[None]:
        """Raise `error` in place of an OSError, with a sentence that names `path` and what could not be done to it."""
        try:
            yield
        except OSError as error:
            raise self.error(f"cannot {verb} {path}: {error.strerror or error}; {self.remedy}") from None


# runs, tables and pictures
RESULTS = AtomicWriter(RunError, "free some space or choose another --out")
EXPORTS = AtomicWriter(ExportError, "name a file in a folder that exists and is writable")
