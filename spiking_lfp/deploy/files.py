"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spiking_lfp.errors import ExportError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; afterwards bring it to disk and rename it, or remove it.

    Raises:
        ExportError: if that fails; what was at `path` before is still there then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise ExportError(
                f"cannot write {path}: {error.strerror or error}; name a file in a folder that is there and can be "
                "written"
            ) from error
        raise


def write_whole(path: Path, content: bytes) -> Path:
    """Write `content` to `path` and return it; see `written_whole`."""
    with written_whole(path) as temporary:
        temporary.write_bytes(content)
    return path
