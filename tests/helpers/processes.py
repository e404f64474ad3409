"""Processes of one's own: the environment they are given."""

import os
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
