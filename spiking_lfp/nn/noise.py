"""Random numbers that belong to samples, so that several processes draw those that one would, on any device."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from spiking_lfp import kernels

_noise: ContextVar["Noise | None"] = ContextVar("spiking_lfp_noise", default=None)


class Noise:
    """The random numbers of the samples of a batch.

    Args:
        samples: int64 `[B]`, what tells samples apart: their places in the data set.
        seed: whole numbers that choose one noise among others, such as seed and epoch.
    """

    def __init__(self, samples: Tensor, seed: Sequence[int]) -> None:
        self.samples, self.seed, self.drawn = samples, seed, 0

    def keys(self) -> Tensor:
        """Return int64 `[B]` for the next draw."""
        self.drawn += 1
        keys = self.samples
        for word in (*self.seed, self.drawn):
            keys = kernels.mixed(keys + kernels.GOLDEN) ^ word
        return kernels.mixed(keys)


@contextmanager
def noise_of(samples: Tensor, *seed: int) -> Iterator[None]:
    """Let encoders and layers inside the context draw the noise of these samples: see `Noise`.

    Draws are told apart by their order. Elsewhere, and for tensors whose second axis is not the batch, they use torch's
    own generator.
    """
    token = _noise.set(Noise(samples, seed))
    try:
        yield
    finally:
        _noise.reset(token)


def draws() -> int:
    """Return how many draws there have been of the noise of the current samples."""
    noise = _noise.get()
    return 0 if noise is None else noise.drawn


@contextmanager
def drawing_from(number: int) -> Iterator[None]:
    """Draw inside the context what came after so many draws: the same noise once more, if those are over already."""
    noise, before = _noise.get(), draws()
    if noise is not None:
        noise.drawn = number
    try:
        yield
    finally:
        if noise is not None:
            noise.drawn = max(before, noise.drawn)


def uniform(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return random numbers in [0, 1), float64 for float64, else float32.

    Args:
        shape: `[T, B, ...]`.
        dtype: of the values they are compared with.
        device: device of the result.
    """
    dtype = torch.promote_types(dtype, torch.float32)
    noise = _noise.get()
    if noise is None or shape[1] != len(noise.samples):
        return torch.rand(shape, dtype=dtype, device=device)
    out = torch.empty(shape, dtype=dtype, device=device)
    kernels.uniform_(out, noise.keys())
    return out
