"""Files of signals: WAV, CSV and NumPy, as numbers over time."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spiking_lfp.data.arrays import open_arrays
from spiking_lfp.errors import DataError
from spiking_lfp.events.files import is_time

# columns of CSV that are the time whatever they hold, beside those that `is_time` knows
_TIMES = ("t", "time", "timestamp", "seconds", "ms", "us")
# what pandas calls the first column if it counts the lines
_INDEX = ("", "unnamed: 0", "index")
# how tables mark missing numbers
_MISSING = {"", "-", "?", "NA", "N/A", "NULL", "null", "None"}
# formats of samples in WAV files, and their bytes
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_WIDTHS = {_PCM: (1, 2, 3, 4, 8), _FLOAT: (4, 8)}
# what is written for the size of sound that was not known before its end, as through a pipe, is this or more
_UNKNOWN_SIZE = 0x7FFF0000
Values = NDArray[np.float32]


@dataclass(frozen=True)
class Signal:
    """Samples of channels over time.

    Attributes:
        values: `[L, C]`; of WAV files from -1 to 1.
        rate: samples per second; 0 if it is not known.
        sound_rate: samples per second of the sound of which these are bands; 0 if they are none.
        channels: names of the columns of a table, in lower case; empty if they have none.
    """

    values: Values
    rate: float = 0.0
    sound_rate: float = 0.0
    channels: tuple[str, ...] = ()

    def check_channels(self, expected: Sequence[str], path: Path, first: str | Path = "those in training") -> None:
        """Check that the columns are those of `first` by their names, where both have some.

        Raises:
            DataError: if they are not, so that one channel would be taken for another.
        """
        if self.channels and expected and self.channels != tuple(expected):
            raise DataError(
                f"{path} has the columns {', '.join(self.channels)}, but {first} {', '.join(expected)}: give all files "
                "the same columns in the same order"
            )

    def check_rate(self, expected: float, path: Path) -> None:
        """Check that the file has so many samples per second, where both are known.

        Raises:
            DataError: if it has not, so that the network would take it for something else.
        """
        found = self.sound_rate or self.rate
        if found and expected and found != expected:
            raise DataError(
                f"{path} has {found:g} samples a second, expected {expected:g}, as of those in training: convert it"
            )

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

    WAV files are PCM of 8 to 32 bits, or floats; NumPy files hold `[L]` or `[L, C]`; CSV files have a line for each
    moment, with a column for each channel, and maybe a line of names. Left out are columns of times, by names such as
    `t`, `time (s)` and `timestamp_us`, and a first column that counts the lines, without a name as pandas writes it, or
    called index.

    Args:
        path: the file.
        rate: samples per second of files that do not say it.

    Raises:
        DataError: if it cannot be read, is empty, or holds NaN or infinity.
    """
    path = Path(path)
    readers = {".wav": _wav, ".npy": _npy}
    try:
        with np.errstate(over="ignore"):  # infinity is told of below
            signal = readers.get(path.suffix.lower(), _table)(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a signal: {error}; repair or remove it") from None
    if not signal.values.size:
        raise DataError(f"{path} has no samples: remove it")
    if not np.isfinite(signal.values).all():
        raise DataError(f"{path} holds NaN or infinity: repair or remove it")
    return replace(signal, rate=signal.rate or rate)


def _wav(path: Path) -> Signal:
    content = memoryview(path.read_bytes())
    if (bytes(content[:4]), bytes(content[8:12])) != (b"RIFF", b"WAVE"):
        raise ValueError("it is no WAV file, which begins with RIFF and WAVE")
    chunks: dict[bytes, memoryview] = {}
    at = 12
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        name, chunk = bytes(content[at : at + 4]), content[at + 8 : at + 8 + size]
        if name == b"data" and len(chunk) < size < _UNKNOWN_SIZE:
            raise ValueError(f"its sound ends after {len(chunk):,} of {size:,} bytes")
        chunks.setdefault(name, chunk)
        at += 8 + size + size % 2
    header, data = chunks.get(b"fmt ", b""), chunks.get(b"data")
    if len(header) < 16 or data is None:
        raise ValueError("its header does not say how it is coded, or there are no data behind it")
    form, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", header)
    if form == _EXTENSIBLE and len(header) >= 26:
        form = int.from_bytes(header[24:26], "little")
    width = (bits + 7) // 8
    if width not in _WIDTHS.get(form, ()) or not channels:
        raise ValueError(
            f"its {channels} channels are of format {form} with {bits} bits, expected PCM of 8 to 32 bits or floats: "
            "convert it to PCM"
        )
    data = data[: len(data) // (width * channels) * width * channels]
    if form == _FLOAT:
        numbers = np.frombuffer(data, f"<f{width}").astype(np.float32)
    elif width == 1:  # unsigned, unlike all others
        numbers = np.frombuffer(data, np.uint8).astype(np.float32) - 128
    elif width == 3:
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        numbers = (padded.view("<i4")[:, 0] >> 8).astype(np.float32)
    else:
        numbers = np.frombuffer(data, f"<i{width}").astype(np.float32)
    full = 1.0 if form == _FLOAT else 2.0 ** (8 * width - 1)
    return Signal((numbers / full).reshape(-1, channels), float(rate))


def _npy(path: Path) -> Signal:
    with open_arrays(path, "a signal") as arrays:
        values = arrays[""]
        if values.dtype.kind not in "iufb" or values.ndim not in (1, 2):
            raise ValueError(f"it holds {values.dtype} {list(values.shape)}, expected numbers [L] or [L, C]")
    return Signal((values[:, None] if values.ndim == 1 else values).astype(np.float32))


def _table(path: Path) -> Signal:
    text = path.read_text(encoding="utf-8-sig")
    lines = [(at, line) for at, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#")]
    if not lines:
        return Signal(np.empty((0, 1), np.float32))
    separator = next((mark for mark in (";", "\t", ",") if mark in lines[0][1]), None)
    rows = [(at, [cell.strip().strip("\"'").strip() for cell in line.split(separator)]) for at, line in lines]
    header = _header(rows)
    rows = rows[1:] if header else rows
    width = len(header or rows[0][1])
    for at, row in rows:
        if len(row) != width:
            raise ValueError(f"line {at} has {len(row)} columns, expected {width}")
    kept = _channels(header, [row for _, row in rows]) if header else [*range(width)]
    try:
        values = np.array([[float(row[column]) for column in kept] for _, row in rows], np.float32)
    except ValueError:
        at, cell = next((at, row[column]) for at, row in rows for column in kept if not _is_number(row[column]))
        raise ValueError(f"line {at} has {cell!r}, expected a number with a decimal point") from None
    names = tuple(header[column] for column in kept) if header else ()
    return Signal(values.reshape(len(rows), len(kept)), channels=names)


def _header(rows: list[tuple[int, list[str]]]) -> list[str]:
    """Return the names in the first line; none if it holds numbers, and only these."""
    (at, cells), others = rows[0], rows[1:]
    counted = [str(column) for column in range(len(cells) - 1)]  # as pandas writes columns behind a named index
    behind_time = len(cells) > 1 and cells[1:] == counted and is_time(cells[0])
    if behind_time or (not any(_is_number(cell.replace(",", ".")) for cell in cells) and not set(cells) <= _MISSING):
        return [cell.lower() for cell in cells]
    odd = next((cell for cell in cells if not _is_number(cell)), None)
    if odd is not None:
        raise ValueError(
            f"line {at} has {odd!r} among its cells, expected numbers with a decimal point, or a name in words for "
            "each column"
        )
    # pandas calls columns without names 0, 1, 2, ...; two of them may as well be a sine and a cosine
    counts = len(cells) > 2 and cells == [str(column) for column in range(len(cells))]
    if counts and others and not any(cell.lstrip("-").isdecimal() for _, row in others for cell in row):
        raise ValueError(
            f"line {at} may be names of columns or numbers, {', '.join(cells)}: name the columns in words, or write 0.0"
        )
    return []


def _channels(header: list[str], rows: list[list[str]]) -> list[int]:
    """Return the columns but for those that hold times or count the lines."""
    kept = []
    for column, name in enumerate(header):
        if column == 0 and name in _INDEX and _counts([row[0] for row in rows]):
            continue
        if not name:
            raise ValueError(f"column {column + 1} has no name: name it, or take away commas at the ends of lines")
        first = name.split()[0]
        # the short names of other things, such as Ts, are those of times if the numbers never fall
        named = first in _TIMES or ((is_time(name) or is_time(first)) and _grows([row[column] for row in rows]))
        if not named:
            kept.append(column)
    if not kept:
        raise ValueError("it has no columns but times")
    return kept


def _grows(cells: list[str]) -> bool:
    """Tell whether cells are numbers of which none is less than that before, and the last is more than the first."""
    if not all(map(_is_number, cells)):
        return False
    numbers = [float(cell) for cell in cells]
    return all(before <= after for before, after in pairwise(numbers)) and numbers[-1] > numbers[0]


def _counts(cells: list[str]) -> bool:
    """Tell whether cells are whole numbers of which each is one more than that before."""
    if not all(cell.isdecimal() for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    return all(after == before + 1 for before, after in pairwise(numbers))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
