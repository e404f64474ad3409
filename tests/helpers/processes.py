"""Processes of one's own: the environment they are given."""

import multiprocessing
import os
import sys
from multiprocessing.context import BaseContext
from pathlib import Path

import spiking_lfp

# this package and these helpers, and one thread each: there are other processes
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(map(str, [Path(spiking_lfp.__file__).parents[1], Path(__file__).parents[1]])),
    "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "COLUMNS": "200",
}


def quick_start() -> BaseContext:
    """Return what starts processes as forks of one that has loaded torch, not spawned: that takes seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["helpers.small_caches", "helpers.failing_caches"])
    return context


def set_variable(name: str, value: str | None) -> None:
    """Set a variable of this process's environment, or remove it."""
    os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value


def put_on_path(folder: str) -> None:
    """Let what this process starts look for packages in `folder` first."""
    sys.path.insert(0, folder)


def take_off_path(folder: str) -> None:
    """Undo `put_on_path`."""
    sys.path.remove(folder)


def is_alive(process: int) -> bool:
    """Tell whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
