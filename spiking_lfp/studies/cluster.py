"""A cluster of Dask as the executor of a grid."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spiking_lfp.errors import RunError, UsageError

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def dask_client(address: str) -> Iterator["Client"]:
    """Yield a client of a scheduler of Dask, whose `get_executor()` takes cases.

    Args:
        address: of the scheduler, as in `tcp://node1:8786`, or the name of its scheduler file, which ends in `.json`.

    Raises:
        UsageError: if Dask is not installed, or the address is none.
        RunError: if there is no scheduler.
    """
    try:
        from distributed import Client
    except ImportError:
        raise UsageError("Dask is not installed: pip install 'spiking-lfp[cluster]'") from None
    arguments = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
    try:
        client = Client(**arguments, set_as_default=False)
    except ValueError as error:
        raise UsageError(f"--scheduler {address}: {error}; expected an address like tcp://node1:8786") from None
    except OSError as error:
        raise RunError(f"no scheduler of Dask at {address} ({error}): start one by `dask scheduler`") from None
    with client:
        yield client
