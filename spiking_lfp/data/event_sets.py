"""Event data sets by name, in the folder layout of tonic."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import h5py

from spiking_lfp.data._files import quiet_network
from spiking_lfp.data.catalog import DatasetStatus, data_root
from spiking_lfp.data.folders import is_folder
from spiking_lfp.data.moved_images import SUFFIX
from spiking_lfp.data.recordings import (
    Listing,
    ReadColumns,
    ReadFile,
    ReadShifted,
    ReadSpikeTrains,
    Sample,
    files_below,
    samples_by_class,
    spike_trains,
    split_every_nth,
)
from spiking_lfp.data.tactile import ReadTaxels, taxel_samples
from spiking_lfp.errors import DataError
from spiking_lfp.events.files import Hints
from spiking_lfp.events.records import Sensor
from spiking_lfp.events.transforms import tonic

DIGITS = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")


@dataclass(frozen=True)
class EventSource:
    """An event data set in `folder` below the data root.

    Attributes:
        sensor: polarities, height and width.
        train_size: of the complete data set; an incomplete one is used as it is.
        note: authors and licence.
        tonic_class: the class of tonic that downloads it, or None if tonic cannot.
        list: lists the samples in a folder; none if they are missing.
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
    train, test = (samples_by_class(folder / split, DIGITS, [".bin"]) for split in ("Train", "Test"))
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
    splits = [
        tuple(
            Sample(path, int(path.stem))
            for path in files_below(folder / split, [".npy"])
            if path.stem.isdecimal() and int(path.stem) < len(classes)
        )
        for split in ("ibmGestureTrain", "ibmGestureTest")
    ]
    sensor = (2, 128, 128)
    reader = ReadColumns(sensor, Hints(time_unit="ms", column_order="xypt"))
    return Listing(classes, sensor, reader, splits[0], splits[1])


def _poker(folder: Path) -> Listing:
    names, sensor = ("cl", "he", "di", "sp"), (2, 35, 35)
    train, test = (samples_by_class(folder / split, names, [".npy"]) for split in ("pips_train", "pips_test"))
    reader = ReadColumns(sensor, Hints(time_unit="us", column_order="txyp"))
    return Listing(("clubs", "hearts", "diamonds", "spades"), sensor, reader, train, test)


def _cifar10_dvs(folder: Path) -> Listing:
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    sensor = (2, 128, 128)
    return Listing(names, sensor, ReadFile(sensor), *split_every_nth(samples_by_class(folder, names, [".aedat4"]), 10))


def _caltech(folder: Path) -> Listing:
    class_root, sensor = folder / "Caltech101", (2, 180, 240)
    names = _subfolders(class_root)
    return Listing(
        names, sensor, ReadShifted(sensor), *split_every_nth(samples_by_class(class_root, names, [".bin"]), 5)
    )


def _lip(folder: Path) -> Listing:
    split_root, sensor = folder / "DVS-Lip", (2, 128, 128)
    names = _subfolders(split_root / "train")
    train, test = (samples_by_class(split_root / split, names, [".npy"]) for split in ("train", "test"))
    return Listing(names, sensor, ReadFile(sensor), train, test)


def _subfolders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir())) if folder.is_dir() else ()


def _heidelberg(prefix: str) -> Callable[[Path], Listing]:
    def samples(folder: Path) -> Listing:
        paths = [folder / f"{prefix}_{split}.h5" for split in ("train", "test")]
        words = [_spoken_words(path) if path.is_file() else () for path in paths]
        if all(words) and words[0] != words[1]:
            raise DataError(f"{paths[0]} and {paths[1]} name different words, so that labels differ: replace one")
        train, test = (spike_trains(path, len(words[0] or words[1])) if path.is_file() else () for path in paths)
        sensor = (1, 1, 700)
        return Listing(words[0], sensor, ReadSpikeTrains(sensor), train, test)

    return samples


def _spoken_words(path: Path) -> tuple[str, ...]:
    """Return the class names in a file of spike trains: the words that are spoken."""
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
    reader = ReadFile((2, 128, 128))
    paths = files_below(folder, [".aedat"])
    names = tuple(sorted({path.stem for path in paths}))
    samples = [(path.parent.name == "session2", Sample(path, names.index(path.stem))) for path in paths]
    train, test = (tuple(sample for is_test, sample in samples if is_test == wanted) for wanted in (False, True))
    return Listing(names, reader.sensor, reader, train, test)


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
        "CIFAR-10 shown on a screen, every 10th for testing", "CIFAR10DVS", (2, 128, 128), 10, 9_000, 1_000,
        "Li et al. 2017; CC BY 4.0", "CIFAR10DVS", _cifar10_dvs,
    ),
    "n-caltech101": EventSource(
        "Caltech101 seen by an event camera, every 5th for testing", "NCALTECH101", (2, 180, 240), 101,
        7_006, 1_703, _ORCHARD, "NCALTECH101", _caltech,
    ),
    "poker-dvs": EventSource(
        "suits of poker cards", "POKERDVS", (2, 35, 35), 4, 48, 20, "Serrano-Gotarredona 2015", "POKERDVS", _poker
    ),
    "shd": EventSource(
        "spoken digits, as spikes of a cochlea model", "SHD", (1, 1, 700), 20, 8_156, 2_264, _HEIDELBERG, "SHD",
        _heidelberg("shd"),
    ),
    "ssc": EventSource(
        "spoken words, as spikes of a cochlea model", "SSC", (1, 1, 700), 35, 75_466, 20_382, _HEIDELBERG, "SSC",
        _heidelberg("ssc"),
    ),
    "dvs-lip": EventSource(
        "lips speaking words", "DVSLip", (2, 128, 128), 100, 14_896, 4_975, "Tan et al. 2022; for research", None,
        _lip,
    ),
    "braille": EventSource(
        "Braille letters, felt by tactile sensors, repetitions 40 to 49 for testing", "braille", ReadTaxels().sensor,
        27, 1_080, 270, "Mueller-Cleve et al. 2022; CC BY 4.0", None, _braille,
    ),
    "dvs128-objects": EventSource(
        "objects in front of a DVS128, session 2 for testing", "dvs128_objects", (2, 128, 128), 7, 7, 6,
        "DVS128_BioLab; no licence stated", None, _objects,
    ),
}  # fmt: skip


def event_set_status(root: str | Path | None = None) -> list[DatasetStatus]:
    """Return the status of every event data set below `data_root(root)`.

    Example:
        >>> [status.present for status in event_set_status("nowhere") if status.name == "n-mnist"]
        [False]
    """
    return [_status(name, source, data_root(root) / source.folder) for name, source in EVENT_SOURCES.items()]


def _status(name: str, source: EventSource, folder: Path) -> DatasetStatus:
    listing = source.list(folder) if folder.is_dir() else None
    sizes = (len(listing.train), len(listing.test)) if listing else (0, 0)
    complete = sizes == (source.train_size, source.test_size)
    return DatasetStatus(
        name=name,
        description=source.description,
        sample_shape=source.sensor,
        classes=source.classes,
        train_size=source.train_size,
        test_size=source.test_size,
        location=folder,
        present=min(sizes) > 0,
        note=source.note,
        incomplete_sizes=None if complete else sizes,
        downloads=source.tonic_class is not None,
    )


def is_event_set(name: str) -> bool:
    """Tell whether a data set of this name consists of recordings."""
    return name in EVENT_SOURCES or is_folder(name) or name.endswith(SUFFIX)


def list_event_set(name: str, root: str | Path, download: bool) -> Listing:
    """List the samples of the data set `name`, one of `EVENT_SOURCES`, below the data root.

    Raises:
        DataError: if they are missing and could not be downloaded.
    """
    root = Path(root)
    source = EVENT_SOURCES[name]
    folder = root / source.folder
    listing = source.list(folder)
    if not (listing.train and listing.test) and download and source.tonic_class is not None:
        _download(name, source, root)
        listing = source.list(folder)
    if not (listing.train and listing.test):
        by_hand = "" if source.tonic_class else ", and it cannot be downloaded automatically"
        raise DataError(
            f"data set {name!r} is not in {folder} ({len(listing.train)} samples for training, {len(listing.test)} for "
            f"testing){by_hand}: name a folder that holds {source.folder} with --data-root or SPIKING_LFP_DATA"
        )
    labels = {sample.label for sample in listing.train}
    absent = [class_name for label, class_name in enumerate(listing.class_names) if label not in labels]
    if absent:
        remark = f"{folder} is a part of {name}, without training samples of {', '.join(absent)}"
        return replace(listing, remarks=(remark,))
    return listing


def _download(name: str, source: EventSource, root: Path) -> None:
    assert source.tonic_class is not None
    datasets = tonic("tonic.datasets")
    dataset_class: Any = getattr(datasets, source.tonic_class)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with quiet_network():
            for split in _split_arguments(source.tonic_class):
                dataset_class(str(root), **split)
    except (OSError, RuntimeError, HTTPException, ValueError) as error:
        reason = str(error).strip().rpartition("\n")[2].strip("<>. ") or type(error).__name__
        raise DataError(
            f"data set {name!r} is not in {root / source.folder} and could not be downloaded ({reason}): name a folder "
            f"that holds {source.folder} with --data-root or SPIKING_LFP_DATA"
        ) from error


def _split_arguments(tonic_class: str) -> list[dict[str, Any]]:
    """Return the arguments by which the class of tonic selects each of its splits."""
    if tonic_class in ("CIFAR10DVS", "NCALTECH101"):
        return [{}]
    if tonic_class == "SSC":
        return [{"split": "train"}, {"split": "test"}]
    return [{"train": True}, {"train": False}]
