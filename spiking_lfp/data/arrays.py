"""Files of NumPy's arrays, whatever may be wrong with them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.errors import DataError, SpikingLFPError, one_line


@contextmanager
def open_arrays(path: Path, what: str = "arrays") -> Iterator[Mapping[str, NDArray[Any]]]:
    """Open an `.npz` file, whose arrays are read when they are asked for, or an `.npy` file, whose one has the name "".

    Args:
        path: of the file.
        what: it should be, for errors.

    Raises:
        DataError: if the file cannot be read, also by what is done inside the context.
    """
    try:
        with path.open("rb") as file:  # NumPy would leave a damaged one open
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                yield {"": loaded}
            else:
                with loaded:
                    yield loaded
    except (SpikingLFPError, MemoryError):
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read as {what}: {error.strerror or error}; name a file that can") from None
    except Exception as error:  # NumPy and zipfile raise all kinds of errors for damaged files
        reason = one_line(error)
        if "allow_pickle" in reason:
            reason = "it holds Python objects, or is none of NumPy's files, expected numbers"
        raise DataError(f"{path} cannot be read as {what}: {reason}; repair or remove it") from None
