"""The number of threads that compiled kernels use."""

import numba
import torch


def follow_torch_threads() -> None:
    """Let torch's thread setting bound numba's threads too."""
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
