"""Lists of labelled recordings: which files, or which recordings in a file, are the samples of a data set."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np

from spiking_lfp.data.arrays import open_arrays
from spiking_lfp.errors import DataError
from spiking_lfp.events.files import SUFFIXES, Hints, events_in, naming, read_events, read_with
from spiking_lfp.events.records import EventArray, Recording, Sensor
from spiking_lfp.files import files_in

MILLISECOND = 1000


@dataclass(frozen=True)
class Sample:
    """One labelled sample.

    Attributes:
        path: the file that holds it.
        label: index of its class.
        item: number of the recording in the file, if the file holds several.
        start: if the sample is a window of a recording, its start in microseconds after the first event.
        interval: if the recording is a part of the file, where it starts and ends, by the file's clock in microseconds.
    """

    path: Path
    label: int
    item: int = 0
    start: int | None = None
    interval: tuple[int, int] | None = None


@dataclass(frozen=True)
class Listing:
    """The samples of a data set, not yet read.

    Attributes:
        sensor: polarities, height and width, the same for all samples; None if it is known only after reading them.
        read: reads the whole recording of a sample; can be pickled.
        remarks: what the user should know about the files, a sentence each.
    """

    class_names: tuple[str, ...]
    sensor: Sensor | None
    read: Callable[[Sample], Recording]
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadFile:
    """Reads files of one recording each, all of one sensor."""

    sensor: Sensor

    def __call__(self, sample: Sample) -> Recording:
        """Return the recording."""
        return read_events(sample.path, self.sensor)


@dataclass(frozen=True)
class ReadColumns:
    """Reads `.npy` files of plain numbers `[N, 4]`, whose column order differs between data sets.

    Attributes:
        hints: the order of the columns, and the unit of times.
    """

    sensor: Sensor
    hints: Hints

    def __call__(self, sample: Sample) -> Recording:
        """Return the recording."""
        with open_arrays(sample.path, "a recording") as arrays:
            numbers = arrays[""]
        with naming(str(sample.path)):
            events = events_in(numbers, self.hints)
            return Recording(events[np.argsort(events["t"], kind="stable")], self.sensor)


@dataclass(frozen=True)
class ReadSpikeTrains:
    """Reads HDF5 files of spike trains in the format of SHD and SSC: `spikes/times` in seconds and `spikes/units`."""

    sensor: Sensor

    def __call__(self, sample: Sample) -> Recording:
        """Return the spikes of one utterance, with the unit as x."""
        try:
            with h5py.File(sample.path) as file:
                times, units = file["spikes/times"][sample.item], file["spikes/units"][sample.item]
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise _unreadable(sample.path, f"recording {sample.item}: {error}") from None
        if len(times) != len(units) or not np.isfinite(times).all():
            raise _unreadable(sample.path, f"recording {sample.item} has {len(times)} times for {len(units)} units")
        spikes = np.zeros(len(times), [("x", np.int64), ("y", "u1"), ("t", np.float64), ("p", "?")])
        spikes["t"], spikes["x"], spikes["p"] = times, units, True
        with naming(str(sample.path)):
            events = events_in(spikes, Hints(time_unit="s"))
            return Recording(events[np.argsort(events["t"], kind="stable")], self.sensor)


@dataclass(frozen=True)
class ReadShifted:
    """Reads recordings with an arbitrary address offset: shifts the first used row and column to 0."""

    sensor: Sensor

    def __call__(self, sample: Sample) -> Recording:
        """Return the recording."""
        events = read_events(sample.path).events.copy()
        if len(events):
            events["x"] -= events["x"].min()
            events["y"] -= events["y"].min()
        with naming(str(sample.path)):
            return Recording(events, self.sensor)


def files_below(folder: Path, suffixes: Sequence[str] = tuple(SUFFIXES)) -> list[Path]:
    """Return the recordings below `folder`, in a fixed order."""
    return [path for path in files_in(folder) if path.suffix.lower() in suffixes]


def samples_by_class(folder: Path, class_names: Sequence[str], suffixes: Sequence[str]) -> tuple[Sample, ...]:
    """Return the recordings in the sub-folders of `folder` that are named after the classes."""
    return tuple(
        Sample(path, label) for label, name in enumerate(class_names) for path in files_below(folder / name, suffixes)
    )


def split_every_nth(samples: Sequence[Sample], n: int) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split the samples of a data set that has no split: of each class, every `n`-th sample is for testing."""
    train: list[Sample] = []
    test: list[Sample] = []
    counts: dict[int, int] = {}
    for sample in samples:
        counts[sample.label] = counts.get(sample.label, 0) + 1
        (train if counts[sample.label] % n else test).append(sample)
    return tuple(train), tuple(test)


def spike_trains(path: Path, classes: int) -> tuple[Sample, ...]:
    """Return the utterances of an HDF5 file of spike trains, with their `labels`, of so many classes."""
    try:
        with h5py.File(path) as file:
            labels, count = file["labels"][()], len(file["spikes/times"])
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise _unreadable(path, str(error)) from None
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise _unreadable(path, f"its labels are {labels.dtype} {list(labels.shape)}, expected integers [{count}]")
    if count and not 0 <= labels.min() <= labels.max() < classes:
        raise _unreadable(path, f"it has labels from {labels.min()} to {labels.max()}, and names of {classes} classes")
    return tuple(Sample(path, int(label), item) for item, label in enumerate(labels))


def cut_into_windows(samples: Sequence[Sample], read: Callable[[Sample], Recording], window: int) -> Iterator[Sample]:
    """Cut recordings into windows of `window` microseconds without overlap; a shorter rest at the end is dropped."""
    for sample in samples:
        events = read(sample).events
        duration = int(events["t"][-1] - events["t"][0]) if len(events) else 0
        yield from (replace(sample, start=number * window) for number in range(duration // window))


@lru_cache(maxsize=1)
def read_file(path: Path, hints: Hints) -> Recording:
    """Read a file that holds several recordings, cached: they are read one after the other."""
    return read_with(path, hints)


@lru_cache(maxsize=2)
def _read_whole(read: Callable[[Sample], Recording], sample: Sample) -> Recording:
    """Read the recording of a sample, cached: the windows of one recording are read one after the other."""
    return read(sample)


def forget_recordings() -> None:
    """Forget what has been read: files may have changed since."""
    _read_whole.cache_clear()
    read_file.cache_clear()


def read_window(sample: Sample, read: Callable[[Sample], Recording], window: int) -> Recording:
    """Read a sample: its whole recording, or a window of `window` microseconds of it, whose times start at 0."""
    if sample.start is None:
        return read(sample)
    recording = _read_whole(read, replace(sample, start=None))
    if not len(recording.events):
        return recording
    times = recording.events["t"] - recording.events["t"][0] - sample.start
    first, last = np.searchsorted(times, [0, window])
    events: EventArray = recording.events[first:last].copy()
    events["t"] = times[first:last]
    return Recording(events, recording.sensor, recording.partial)


def lacks_end(sample: Sample, read: Callable[[Sample], Recording], window: int, steps: int) -> bool:
    """Tell whether a recording ends before the last of `steps` bins of a window at its beginning."""
    times = _read_whole(read, replace(sample, start=None)).events["t"]
    return len(times) == 0 or int(times[-1] - times[0]) * steps // window < steps - 1


def _unreadable(path: Path, reason: str) -> DataError:
    return DataError(f"{path} cannot be read as a recording: {reason}; repair or remove it")
