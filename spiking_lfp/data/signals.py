"""Files of signals: WAV, CSV and NumPy, as numbers over time."""

import csv
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.data.arrays import open_arrays
from spiking_lfp.errors import DataError

# columns of CSV that are the time
_TIMES = ("t", "time", "timestamp", "seconds", "ms", "us")
Values = NDArray[np.float32]


@dataclass(frozen=True)
class Signal:
    """Samples of channels over time.

    Attributes:
        values: `[L, C]`; of WAV files from -1 to 1.
        rate: samples per second; 0 if it is not known.
    """

    values: Values
    rate: float = 0.0

    def windows(self, duration_ms: float, every: bool, path: Path) -> list[Values]:
        """Return the first window of the signal, or all without overlap; the whole signal for a duration of 0.

        Raises:
            DataError: if the rate is not known, or the signal is shorter.
        """
        if not duration_ms:
            return [self.values]
        if not self.rate:
            raise DataError(f"{path} does not say its rate: set signal_rate to its samples per second, or window_ms=0")
        length = max(1, round(duration_ms * self.rate / 1000))
        count = len(self.values) // length
        if not count:
            raise DataError(
                f"{path} lasts {len(self.values) / self.rate * 1000:.0f} ms, less than window_ms = {duration_ms:g}: "
                "lower window_ms, or remove it"
            )
        return [self.values[start * length : (start + 1) * length] for start in range(count if every else 1)]


def read_signal(path: str | Path, rate: float = 0.0) -> Signal:
    """Read a signal.

    WAV files are PCM of 8 to 32 bits; NumPy files hold `[L]` or `[L, C]`; CSV files have a line for each moment, with a
    column for each channel, maybe a header, and maybe a column of times by a name such as `t` or `time`, which is left
    out.

    Args:
        path: the file.
        rate: samples per second of files that do not say it.

    Raises:
        DataError: if it cannot be read, is empty, or holds NaN or infinity.
    """
    path = Path(path)
    readers = {".wav": _wav, ".npy": _npy}
    try:
        signal = readers.get(path.suffix.lower(), _table)(path)
    except (OSError, ValueError, EOFError, wave.Error, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a signal: {error}; repair or remove it") from None
    if not signal.values.size:
        raise DataError(f"{path} has no samples: remove it")
    if not np.isfinite(signal.values).all():
        raise DataError(f"{path} holds NaN or infinity: repair or remove it")
    return Signal(signal.values, signal.rate or rate)


def _wav(path: Path) -> Signal:
    with wave.open(str(path), "rb") as file:
        width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
        content = file.readframes(file.getnframes())
    if width == 1:  # unsigned, unlike all others
        numbers = np.frombuffer(content, np.uint8).astype(np.float32) - 128
    elif width == 3:
        parts = np.frombuffer(content[: len(content) // 3 * 3], np.uint8).reshape(-1, 3)
        padded = np.zeros((len(parts), 4), np.uint8)
        padded[:, 1:] = parts
        numbers = (padded.view("<i4")[:, 0] >> 8).astype(np.float32)
    else:
        numbers = np.frombuffer(content[: len(content) // width * width], f"<i{width}").astype(np.float32)
    whole = len(numbers) // channels * channels
    return Signal((numbers[:whole] / 2.0 ** (8 * width - 1)).reshape(-1, channels), float(rate))


def _npy(path: Path) -> Signal:
    with open_arrays(path, "a signal") as arrays:
        values = arrays[""]
        if values.dtype.kind not in "iufb" or values.ndim not in (1, 2):
            raise ValueError(f"it holds {values.dtype} {list(values.shape)}, expected numbers [L] or [L, C]")
    return Signal((values[:, None] if values.ndim == 1 else values).astype(np.float32))


def _table(path: Path) -> Signal:
    text = path.read_text(encoding="utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        return Signal(np.empty((0, 1), np.float32))
    separator = next((mark for mark in (";", "\t", ",") if mark in lines[0]), None)
    rows = [[cell.strip() for cell in line.split(separator)] for line in lines]
    header = [] if all(map(_is_number, rows[0])) else [name.strip('"').lower() for name in rows.pop(0)]
    width = len(rows[0]) if rows else 0
    kept = [column for column in range(width) if not (header and header[column].split()[0] in _TIMES)]
    for number, row in enumerate(rows, 1 + bool(header)):
        if len(row) != width or (header and len(header) != width):
            raise ValueError(f"line {number} has {len(row)} columns, expected {len(header) or width}")
    values = np.array([[float(row[column]) for column in kept] for row in rows], np.float32)
    return Signal(values.reshape(len(rows), -1))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
