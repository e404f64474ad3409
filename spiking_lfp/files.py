"""Finding of files below a folder, and atomic writing of files.

A file is written under a temporary name, synced to disk and renamed when it is complete. The temporary name is always
the same, so that the next writer overwrites what a killed process left behind. Two processes must not write the same
file at once: runs and the cache of recordings have locks.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from spiking_lfp.errors import DataError, RunError, SpikingLFPError, WriteError, some


def temporary_name(path: Path) -> Path:
    """Return the temporary name under which `path` is written."""
    return path.with_name(f".{path.name}.tmp")


def _kept_name(path: Path) -> Path:
    """Return the name of the previous `path` while the new one takes its place."""
    return path.with_name(f".{path.name}.old")


def rename_into_place(temporary: Path, path: Path) -> None:
    """Sync the finished file `temporary` to disk, and rename it to `path`.

    Raises:
        OSError: if that fails.
    """
    _sync(temporary)
    temporary.replace(path)
    _sync_folder(path.parent)


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _sync_folder(path: Path) -> None:
    # not every file system can sync a folder; if not, a power failure may restore the previous file, which is complete
    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
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


# what to do about an error, by its number: `{}` is how to name another place
_REMEDIES = {
    errno.ENOSPC: "free some space or {}",
    errno.EDQUOT: "free some space or {}",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f) or {}",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOENT: "make its folder first or {}",
    errno.ENAMETOOLONG: "take a shorter name",
}


@dataclass(frozen=True)
class AtomicWriter:
    """Writes files completely or not at all, and reports failures in one sentence.

    Attributes:
        error: the class of the error that is raised in place of an OSError.
        elsewhere: how to name another place, for the end of its sentence.
    """

    error: type[SpikingLFPError]
    elsewhere: str

    def write(self, path: Path, content: bytes | memoryview) -> Path:
        """Write `content` to `path`, and return it; if that fails, the previous file stays."""
        with self.writing(path) as temporary:
            temporary.write_bytes(content)
        return path

    def write_all(self, folder: Path, files: Mapping[str, bytes], optional: Iterable[str] = ()) -> list[Path]:
        """Write files that belong together, and return their paths; if one cannot be written, all previous ones stay.

        When all of them are complete, the previous ones are moved aside, and only then the new ones take their names: a
        process that dies meanwhile may leave some missing, but never files of both. If anything fails, the previous
        ones are moved back; files that are new and folders made for them are removed again.

        Args:
            folder: of all files; made if missing.
            files: content by name; a name may begin with folders.
            optional: names of further files that belong to these: those that are not among `files`, which are of other
                files before, are removed.
        """
        contents = {folder / name: content for name, content in files.items()}
        folders = list(dict.fromkeys([folder, *(path.parent for path in contents)]))
        with ExitStack() as made:
            for each in folders:
                made.enter_context(self.making(each))
            unused = [folder / name for name in optional if name not in files]
            new = [path for path in contents if not os.path.lexists(path)]
            moved: list[Path] = []
            try:
                for path, content in contents.items():
                    with self.convert_errors(path):
                        _check_regular(path)
                        temporary_name(path).write_bytes(content)
                        _sync(temporary_name(path))
                for path in (*contents, *unused):
                    with self.convert_errors(path, "write" if path in contents else "remove"):
                        _check_regular(path)
                        if os.path.lexists(path):
                            _kept_name(path).unlink(missing_ok=True)  # of a process that died
                            moved.append(path)
                            path.replace(_kept_name(path))
                for each in folders:
                    _sync_folder(each)
                for path in contents:
                    with self.convert_errors(path):
                        temporary_name(path).replace(path)
            except BaseException as error:
                for path in (*map(temporary_name, contents), *new):
                    with suppress(OSError):
                        path.unlink()
                self._move_back(moved, error)
                raise
            for each in folders:
                _sync_folder(each)
            for path in (*contents, *unused):
                with suppress(OSError):
                    _kept_name(path).unlink()
        return list(contents)

    def _move_back(self, moved: Iterable[Path], error: BaseException) -> None:
        """Give files that were moved aside their names again; raise `error`, saying where they are, if one stays."""
        aside: list[Path] = []
        for path in moved:
            if os.path.lexists(_kept_name(path)):
                try:
                    _kept_name(path).replace(path)
                except OSError:
                    aside.append(path)
        if aside:
            names = some([f"{_kept_name(path)} to {path.name}" for path in aside])
            reason = str(error) or "interrupted"
            raise self.error(f"{reason}; the previous files could not be moved back: rename {names}") from None

    @contextmanager
    def making(self, folder: Path) -> Iterator[Path]:
        """Make a folder and yield it; if anything fails, those that were made and are empty are removed again."""
        missing: list[Path] = []
        try:
            with self.convert_errors(folder, "create"):
                missing += [each for each in (folder, *folder.parents) if not each.exists()]
                folder.mkdir(parents=True, exist_ok=True)
            yield folder
        except BaseException:
            for each in missing:
                with suppress(OSError):
                    each.rmdir()
            raise

    @contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """Yield a temporary name to write to; at the end it is renamed to `path`, or removed if anything fails."""
        with self.convert_errors(path):
            _check_regular(path)
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
            remedy = _REMEDIES.get(error.errno or 0, "{}").format(self.elsewhere)
            raise self.error(f"cannot {verb} {path}: {error.strerror or error}; {remedy}") from None


def _check_regular(path: Path) -> None:
    """Raise an OSError, before anything is written, if a rename to `path` would, or would take a device away."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


# runs, tables and pictures
RESULTS = AtomicWriter(RunError, "choose another folder")
EXPORTS = AtomicWriter(WriteError, "choose another folder")
