"""A cluster of Dask as the executor of a grid."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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
        from distributed.comm.addressing import get_address_host_port
    except ImportError:
        raise UsageError("Dask is not installed: pip install 'spiking-lfp[cluster]'") from None
    if address.endswith(".json"):
        try:
            address = json.loads(Path(address).read_text())["address"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError(f"cannot read the scheduler file {address}: {error}; is `dask scheduler` running?") from None
    try:
        get_address_host_port(address)
    except ValueError as error:
        raise UsageError(f"--scheduler {address}: {error}; expected an address like tcp://node1:8786") from None
    try:
        client = Client(address, set_as_default=False)
    except OSError as error:
        raise RunError(f"no scheduler of Dask at {address} ({error}): start one by `dask scheduler`") from None
    with client:
        yield client
