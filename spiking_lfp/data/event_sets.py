"""Data sets of recordings by name, in the layout in which tonic leaves them, and folders of one's own."""

from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import h5py

from spiking_lfp.data._files import quiet_network
from spiking_lfp.data.catalog import DatasetStatus, data_root
from spiking_lfp.data.moved_images import SUFFIX
from spiking_lfp.data.recordings import (
    MILLISECOND,
    Listing,
    ReadColumns,
    ReadFile,
    ReadShifted,
    ReadSpikeTrains,
    Sample,
    by_class,
    every,
    files_below,
    spike_trains,
)
from spiking_lfp.data.tactile import ReadTaxels, taxel_samples
from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.events.files import read_events
from spiking_lfp.events.records import Sensor
from spiking_lfp.events.transforms import tonic

DIGITS = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")


@dataclass(frozen=True)
class EventSource:
    """A data set of recordings in `folder` below the data root.

    Attributes:
        sensor: polarities, height and width.
        train_size: of the complete data set; copies of a part of it are used as they are.
        note: makers and licence.
        tonic_class: what downloads it, if tonic can.
        list: from its folder to its samples; none if they are not there.
    """

    description: str
    folder: str
    sensor: Sensor
    classes: int
    train_size: int
    test_size: int
    note: str
    tonic_class: str | None
    list: Callable[[Path], Listing]


def _nmnist(folder: Path) -> Listing:
    train, test = (by_class(folder / part, DIGITS, [".bin"]) for part in ("Train", "Test"))
    return Listing(DIGITS, (2, 34, 34), ReadFile((2, 34, 34)), train, test)


def _gesture(folder: Path) -> Listing:
    classes = (
        "hand clapping",
        "right hand wave",
        "left hand wave",
        "right arm clockwise",
        "right arm counter-clockwise",
        "left arm clockwise",
        "left arm counter-clockwise",
        "arm roll",
        "air drums",
        "air guitar",
        "other gestures",
    )
    parts = [
        tuple(
            Sample(path, int(path.stem))
            for path in files_below(folder / part, [".npy"])
            if path.stem.isdecimal() and int(path.stem) < len(classes)
        )
        for part in ("ibmGestureTrain", "ibmGestureTest")
    ]
    sensor = (2, 128, 128)
    return Listing(classes, sensor, ReadColumns(sensor, ("x", "y", "p", "t"), MILLISECOND), *parts)


def _poker(folder: Path) -> Listing:
    names, sensor = ("cl", "he", "di", "sp"), (2, 35, 35)
    train, test = (by_class(folder / part, names, [".npy"]) for part in ("pips_train", "pips_test"))
    reader = ReadColumns(sensor, ("t", "x", "y", "p"))
    return Listing(("clubs", "hearts", "diamonds", "spades"), sensor, reader, train, test)


def _cifar10_dvs(folder: Path) -> Listing:
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    sensor = (2, 128, 128)
    return Listing(names, sensor, ReadFile(sensor), *every(by_class(folder, names, [".aedat4"]), 10))


def _caltech(folder: Path) -> Listing:
    inner, sensor = folder / "Caltech101", (2, 180, 240)
    names = tuple(sorted(each.name for each in inner.iterdir() if each.is_dir())) if inner.is_dir() else ()
    return Listing(names, sensor, ReadShifted(sensor), *every(by_class(inner, names, [".bin"]), 5))


def _lip(folder: Path) -> Listing:
    inner, sensor = folder / "DVS-Lip", (2, 128, 128)
    words = inner / "train"
    names = tuple(sorted(each.name for each in words.iterdir() if each.is_dir())) if words.is_dir() else ()
    train, test = (by_class(inner / part, names, [".npy"]) for part in ("train", "test"))
    return Listing(names, sensor, ReadFile(sensor), train, test)


def _heidelberg(prefix: str) -> Callable[[Path], Listing]:
    def samples(folder: Path) -> Listing:
        paths = [folder / f"{prefix}_{part}.h5" for part in ("train", "test")]
        train, test = (spike_trains(path) if path.is_file() else () for path in paths)
        sensor = (1, 1, 700)
        return Listing(_keys(paths[0]) if train else (), sensor, ReadSpikeTrains(sensor), train, test)

    return samples


def _keys(path: Path) -> tuple[str, ...]:
    """Return the classes of a file of spike trains: what is said in the utterances."""
    try:
        with h5py.File(path) as file:
            return tuple(key.decode() for key in file["extra/keys"][()])
    except (OSError, KeyError, RuntimeError, AttributeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}; repair or replace it") from None


def _braille(folder: Path) -> Listing:
    names, train, test = taxel_samples(folder / "braille_letters.npz")
    reader = ReadTaxels()
    return Listing(names, reader.sensor, reader, train, test)


def _objects(folder: Path) -> Listing:
    return list_folder(folder, "session2") if folder.is_dir() else Listing((), (2, 128, 128), ReadFile(None), (), ())


_ORCHARD = "Orchard et al. 2015; CC BY-SA 4.0"
_HEIDELBERG = "Cramer et al. 2020; CC BY 4.0"
EVENT_SOURCES = {
    "n-mnist": EventSource(
        "MNIST seen by a moving event camera", "NMNIST", (2, 34, 34), 10, 60_000, 10_000, _ORCHARD, "NMNIST", _nmnist
    ),
    "dvs-gesture": EventSource(
        "hand gestures", "DVSGesture", (2, 128, 128), 11, 1_077, 264, "Amir et al. 2017; CC BY 4.0", "DVSGesture",
        _gesture,
    ),
    "cifar10-dvs": EventSource(
        "CIFAR-10 on a screen, the last of every 10 to test", "CIFAR10DVS", (2, 128, 128), 10, 9_000, 1_000,
        "Li et al. 2017; CC BY 4.0", "CIFAR10DVS", _cifar10_dvs,
    ),
    "n-caltech101": EventSource(
        "Caltech101 seen by a moving event camera, the last of every 5 to test", "NCALTECH101", (2, 180, 240), 101,
        7_006, 1_703, _ORCHARD, "NCALTECH101", _caltech,
    ),
    "poker-dvs": EventSource(
        "pips of poker cards", "POKERDVS", (2, 35, 35), 4, 48, 20, "Serrano-Gotarredona 2015", "POKERDVS", _poker
    ),
    "shd": EventSource(
        "spoken digits, as spikes of a model of the ear", "SHD", (1, 1, 700), 20, 8_156, 2_264, _HEIDELBERG, "SHD",
        _heidelberg("shd"),
    ),
    "ssc": EventSource(
        "spoken words, as spikes of a model of the ear", "SSC", (1, 1, 700), 35, 75_466, 20_382, _HEIDELBERG, "SSC",
        _heidelberg("ssc"),
    ),
    "dvs-lip": EventSource(
        "lips that speak words", "DVSLip", (2, 128, 128), 100, 14_896, 4_975, "Tan et al. 2022; for research", None,
        _lip,
    ),
    "braille": EventSource(
        "Braille letters felt by taxels, repetitions 40 to 49 to test", "braille", ReadTaxels().sensor, 27, 1_080, 270,
        "Mueller-Cleve et al. 2022; CC BY 4.0", None, _braille,
    ),
    "dvs128-objects": EventSource(
        "objects before a DVS128, session 2 to test", "dvs128_objects", (2, 128, 128), 7, 7, 6,
        "DVS128_BioLab; no licence stated", None, _objects,
    ),
}  # fmt: skip


def event_set_status(root: Path | None = None) -> list[DatasetStatus]:
    """Return the state of every data set of recordings, as looked for in `data_root(root)`."""
    return [_status(name, source, data_root(root) / source.folder) for name, source in EVENT_SOURCES.items()]


def _status(name: str, source: EventSource, folder: Path) -> DatasetStatus:
    listing = source.list(folder) if folder.is_dir() else None
    found = (len(listing.train), len(listing.test)) if listing else (0, 0)
    complete = found == (source.train_size, source.test_size)
    return DatasetStatus(
        name=name,
        description=source.description,
        sample_shape=source.sensor,
        classes=source.classes,
        train_size=source.train_size,
        test_size=source.test_size,
        location=folder,
        present=min(found) > 0,
        note=source.note,
        found=None if complete else found,
    )


def is_event_set(name: str) -> bool:
    """Tell whether a data set of this name has recordings."""
    return name in EVENT_SOURCES or is_folder(name) or name.endswith(SUFFIX)


def is_folder(name: str) -> bool:
    """Tell whether the name of a data set is the path of a folder of recordings."""
    return "/" in name or "\\" in name or name.startswith("~")


def list_folder(folder: Path, test_session: str = "") -> Listing:
    """List the recordings of a folder of one's own.

    Recordings of one class are in a folder with the name of the class, or are files with the name of the class, as
    `FOLDER/CLASS/NAME.aedat`, or `FOLDER/SESSION/CLASS/NAME.aedat` or `FOLDER/SESSION/CLASS.aedat`. With sessions,
    those of `test_session` test and all others train; sessions that are called train and test need not be named.
    Without, the last of every 5 recordings of a class tests. All sensors must be of one size.

    Raises:
        DataError: for folders in which nothing, or only one part, is found.
        UsageError: if there is no such session.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: name one with recordings, as {folder}/CLASS/NAME.aedat4")
    found = files_below(folder)
    if not found:
        raise DataError(f"{folder} holds no recordings, as {folder}/CLASS/NAME.aedat4: name another folder")
    below = [path.relative_to(folder).parts for path in found]
    sessions = sorted({parts[0] for parts in below})
    test_session = test_session or next((name for name in sessions if name.lower() == "test"), "")
    if test_session and test_session not in sessions:
        raise UsageError(f"test_session {test_session!r} is no folder in {folder}: it has {', '.join(sessions)}")
    depth = 1 if test_session else 0
    if any(len(parts) <= depth for parts in below):
        raise DataError(f"{folder} holds recordings without a class: put them into a folder for each class")
    named = [parts[depth] if len(parts) > depth + 1 else Path(parts[depth]).stem for parts in below]
    class_names = tuple(sorted(set(named)))
    samples = [Sample(path, class_names.index(name)) for path, name in zip(found, named, strict=True)]
    if test_session:
        tests = [parts[0] == test_session for parts in below]
        train = tuple(sample for sample, is_test in zip(samples, tests, strict=True) if not is_test)
        test = tuple(sample for sample, is_test in zip(samples, tests, strict=True) if is_test)
    else:
        train, test = every(samples, 5)
    if not train or not test:
        raise DataError(f"{folder} has {len(train)} recordings to train and {len(test)} to test: add some")
    sensor = read_events(found[0]).sensor
    return Listing(class_names, sensor, ReadFile(None), train, test)


def list_event_set(name: str, root: Path, download: bool) -> Listing:
    """List the samples of the data set `name`, one of `EVENT_SOURCES`, below the data root.

    Raises:
        DataError: if they are not there and could not be downloaded.
    """
    source = EVENT_SOURCES[name]
    folder = root / source.folder
    listing = source.list(folder)
    if not (listing.train and listing.test) and download and source.tonic_class is not None:
        _download(name, source, root)
        listing = source.list(folder)
    if not (listing.train and listing.test):
        by_hand = "" if source.tonic_class else ", and it cannot be downloaded by a program"
        raise DataError(
            f"data set {name!r} is not in {folder} ({len(listing.train)} samples to train, {len(listing.test)} to "
            f"test){by_hand}: name a folder that holds {source.folder} with --data-root or SPIKING_LFP_DATA"
        )
    return listing


def _download(name: str, source: EventSource, root: Path) -> None:
    assert source.tonic_class is not None
    datasets = tonic("tonic.datasets")
    made: Any = getattr(datasets, source.tonic_class)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with quiet_network():
            for part in _parts(source.tonic_class):
                made(str(root), **part)
    except (OSError, RuntimeError, HTTPException, ValueError) as error:
        reason = str(error).strip().rpartition("\n")[2].strip("<>. ") or type(error).__name__
        raise DataError(
            f"data set {name!r} is not in {root / source.folder} and could not be downloaded ({reason}): name a folder "
            f"that holds {source.folder} with --data-root or SPIKING_LFP_DATA"
        ) from error


def _parts(tonic_class: str) -> list[dict[str, Any]]:
    if tonic_class in ("CIFAR10DVS", "NCALTECH101"):
        return [{}]
    if tonic_class == "SSC":
        return [{"split": "train"}, {"split": "test"}]
    return [{"train": True}, {"train": False}]
