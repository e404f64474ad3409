"""Files that are there whole or not at all: written under another name, brought to disk, then renamed.

The other name is the same each time, so that what a kill leaves is overwritten by whoever writes the file next. Two
processes must not write the same file at once: runs have one that writes, and the cache of recordings has locks.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from spiking_lfp.errors import ExportError, RunError, SpikingLFPError


def temporary_name(path: Path) -> Path:
    """Return where `path` is written at first."""
    return path.with_name(f".{path.name}.tmp")


def take_name(temporary: Path, path: Path) -> None:
    """Bring the finished file `temporary` to disk, and rename it to `path`.

    Raises:
        OSError: if that fails.
    """
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    # not every file system can do this; without it a power failure may bring back the file before, which is whole
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@dataclass(frozen=True)
class WholeFiles:
    """Writes whole files or none, and says in a sentence if it cannot.

    Attributes:
        error: is raised then.
        remedy: the end of its sentence, what to do.
    """

    error: type[SpikingLFPError]
    remedy: str

    def write(self, path: Path, content: bytes) -> Path:
        """Write `content` to `path`, and return it; what was there before stays if that fails."""
        with self.writing(path) as temporary:
            temporary.write_bytes(content)
        return path

    @contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """Give a temporary name to write to, which becomes `path` at the end; or remove it, if anything fails."""
        with self.explained(path):
            temporary = temporary_name(path)
            try:
                yield temporary
                take_name(temporary, path)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink()
                raise

    @contextmanager
    def explained(self, path: Path, verb: str = "write") -> Iterator[None]:
        """Raise `error` in place of an OSError, saying that it cannot do this with `path`."""
        try:
            yield
        except OSError as error:
            raise self.error(f"cannot {verb} {path}: {error.strerror or error}; {self.remedy}") from None


# runs, tables and pictures
RESULTS = WholeFiles(RunError, "free some space or choose another --out")
EXPORTS = WholeFiles(ExportError, "name a file in a folder that is there and can be written")
