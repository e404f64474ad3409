"""Sound as energies of mel bands over time, what people feed to networks that listen."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from spiking_lfp.data.signals import Signal, read_signal
from spiking_lfp.errors import DataError

WINDOW_MS = 25.0
# power of a window of silence, below which differences are noise
FLOOR = 1e-5


def read_sound(
    path: str | Path, rate: float = 0.0, bands: int = 0, hop_ms: float = 10.0, centred: bool = False
) -> Signal:
    """Read a signal, and turn it into bands; see `read_signal` and `mel_bands`.

    Args:
        path: of the file.
        rate: samples per second of files that do not say it.
        bands: how many, 0 for the signal as it is.
        hop_ms: from one window to the next.
        centred: see `mel_bands`.

    Raises:
        DataError: if it cannot be read, or does not say its rate, or is too slow for so many bands.
    """
    signal = read_signal(path, rate)
    if not bands:
        return signal
    try:
        return mel_bands(signal, bands, hop_ms, centred)
    except DataError as error:
        raise DataError(f"{path} {error}") from None


def mel_bands(signal: Signal, bands: int, hop_ms: float = 10.0, centred: bool = False) -> Signal:
    """Return the logarithm of the energy in bands of the mel scale.

    Windows of 25 ms (Hann) are transformed by Fourier, and the powers of frequencies added up by triangles that are
    evenly spaced on the scale `2595 log10(1 + f / 700)` from 0 to half of the rate.

    Args:
        signal: `[L, C]` from -1 to 1, with its rate.
        bands: M.
        hop_ms: from one window to the next, in milliseconds.
        centred: subtract from each band its mean over the signal, what a microphone and a voice add to all of it.

    Returns:
        `[1 + L // hop, C * M]`, decimal logarithms of powers, from -5 for silence on if they are not centred, at
        `1000 / hop_ms` a second.

    Raises:
        DataError: if the rate is not known, or so many bands are narrower than the frequencies of a window.

    Example:
        >>> tone = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000).astype(np.float32)
        >>> found = mel_bands(Signal(tone[:, None], 8000.0), bands=20)
        >>> found.values.shape, found.rate, int(found.values[50].argmax())
        ((101, 20), 100.0, 4)
    """
    if not signal.rate:
        raise DataError("does not say its rate: set signal_rate to its samples per second")
    window, hop = (max(1, round(milliseconds * signal.rate / 1000)) for milliseconds in (WINDOW_MS, hop_ms))
    size = 2 ** int(np.ceil(np.log2(window)))
    weights = _triangles(bands, size, signal.rate)
    empty = np.flatnonzero(~weights.any(1))
    if len(empty):
        raise DataError(
            f"has {signal.rate:g} samples a second, too few for {bands} mel bands, of which number {empty[0]} would be "
            "empty: lower mel_bands"
        )
    spectrum = torch.stft(
        torch.from_numpy(signal.values.T.copy()), size, hop, window, torch.hann_window(window), pad_mode="constant",
        return_complex=True,
    )  # fmt: skip
    powers = spectrum.abs().square() / window
    energies = torch.from_numpy(weights).float() @ powers
    logarithms = (energies + FLOOR).log10()
    if centred:
        logarithms -= logarithms.mean(2, keepdim=True)
    return Signal(logarithms.permute(2, 0, 1).flatten(1).numpy(), 1000 / hop_ms, signal.rate, signal.channels)


def _triangles(bands: int, size: int, rate: float) -> NDArray[np.float64]:
    """Return the weight of each frequency of a transform of `size` samples in each band."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    frequencies = np.arange(size // 2 + 1) * rate / size
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    weights: NDArray[np.float64] = np.clip(np.minimum(rising, falling), 0, None)
    return weights
