"""Loading of samples for training: images encoded over time steps, and recordings through a cache of sequences."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.arguments import as_path, describe
from spiking_lfp.data import spoken_digits, yin_yang
from spiking_lfp.data.cache import Jobs, Layout, SampleWarning, SequenceCache, cached
from spiking_lfp.data.catalog import DATASET_NAMES, OTHER_SETS, data_root
from spiking_lfp.data.datasets import load_dataset
from spiking_lfp.data.event_sets import EVENT_SOURCES, is_event_set, list_event_set
from spiking_lfp.data.folders import IMAGES, RECORDINGS, is_folder, kind_of, list_folder, with_one_sensor
from spiking_lfp.data.moved_images import SUFFIX, list_moved
from spiking_lfp.data.recipes import (
    OF_FILES,
    OF_IMAGES,
    OF_OWN_RECORDINGS,
    OF_SIGNALS,
    OF_SOUND,
    OF_VALUES,
    EventRecipe,
    InputRecipe,
)
from spiking_lfp.data.recordings import (
    MILLISECOND,
    Listing,
    Sample,
    cut_into_windows,
    forget_recordings,
    lacks_end,
    read_window,
)
from spiking_lfp.data.spec import EVENTS
from spiking_lfp.data.splits import ImageSplit, Samples, SequenceSplit
from spiking_lfp.data.values import (
    Progress,
    array_samples,
    encoder_of,
    image_folder,
    image_samples,
    npz_samples,
    signal_folder,
)
from spiking_lfp.errors import DataError, UsageError, some, unknown_name
from spiking_lfp.events.frames import event_frames
from spiking_lfp.events.records import EVENT, Recording, Sensor, as_sensor
from spiking_lfp.events.streams import Window
from spiking_lfp.events.transforms import augment, centre, crop, denoise, downsample

_AS_IT_IS = InputRecipe.model_validate({})


def load_samples(
    name: str | Path,
    recipe: EventRecipe,
    inputs: InputRecipe = _AS_IT_IS,
    root: str | Path | None = None,
    download: bool = True,
    progress: Progress | None = None,
    whole: bool = False,
    sensor: Sensor | None = None,
) -> Samples:
    """Return the training and test samples of a data set.

    Args:
        name: an image or event data set by name; the path of a folder of images, recordings or signals, see
            `list_folder`, or of an `.npz` file of arrays, see `npz_samples`; or `NAME@saccades` for images recorded by
            a simulated event sensor that moves.
        recipe: how recordings are turned into sequences; images use only its `steps`.
        inputs: how images, signals and other values are turned into sequences.
        root: data root, see `data_root`.
        download: whether missing files may be downloaded.
        progress: called with the numbers of files read or samples made, and of all.
        whole: for a network that is trained: take all samples of a path for testing if it does not say which are, and
            do without what is only for training.
        sensor: of the recordings in a folder, in place of the recipe's.

    Raises:
        UsageError: there is no data set of that name, or the recipe does not fit it.
        DataError: the files are missing and were not downloaded, they are damaged, or a class has no samples.

    Warns:
        UserWarning: naming files of a folder that are left out, and classes without samples of a data set by name.

    Example:
        >>> samples = load_samples("mnist-subset", EventRecipe(steps=25))
        >>> x, labels = samples.train.batch(torch.arange(32))
        >>> x.shape, labels.shape
        (torch.Size([25, 32, 1, 28, 28]), torch.Size([32]))
    """
    for what, given, expected in (("recipe", recipe, EventRecipe), ("inputs", inputs, InputRecipe)):
        if not isinstance(given, expected):
            raise UsageError(f"{what} must be an {expected.__name__}(...), found {describe(given)}")
    root = None if root is None else as_path(root, "root")
    sensor = None if sensor is None else as_sensor(sensor)
    name = str(name)
    if whole:
        recipe = recipe.model_copy(update={"augment": (), "copies": 1})
    encoder = encoder_of(inputs, recipe)
    if not recipe.steps and not encoder.is_in_time:
        raise UsageError("steps is 0, which is for signals: give at least 1")

    def check_used(of_inputs: Sequence[str] = (), of_recipe: Sequence[str] = ()) -> None:
        if not whole:  # a network that was trained with them may be asked about others
            inputs.check_used(f"{name} in training", of_inputs)
            recipe.check_used(f"{name} in training", of_recipe)

    if name in DATASET_NAMES:
        check_used(OF_IMAGES)
        return image_samples(load_dataset(name, root, download), encoder, inputs)
    if name == yin_yang.NAME:
        check_used(OF_VALUES)
        return array_samples(name, *yin_yang.yin_yang_splits(encoder), yin_yang.CLASSES, inputs, name)
    if name == spoken_digits.NAME:
        check_used(OF_SOUND, OF_SIGNALS)
        listing = spoken_digits.list_spoken_digits(data_root(root), recipe.test_session, whole)
        for remark in listing.remarks:
            warnings.warn(remark, stacklevel=2)
        return signal_folder(name, listing, encoder, inputs, recipe, progress, whole)
    if not is_event_set(name):
        raise unknown_name("data set", name, (*DATASET_NAMES, *OTHER_SETS, *EVENT_SOURCES))
    if not recipe.steps and not is_path(name):
        raise UsageError(f"steps is 0, which is for signals, {name} has recordings: give at least 1")
    own = is_path(name)
    if own:
        folder = Path(name).expanduser()
        title = folder.resolve().name
        if folder.suffix == ".npz":
            check_used(OF_IMAGES, ["values"])
            return npz_samples(folder, encoder, inputs, whole)
        kind = kind_of(folder, encoder.is_in_time)
        listing = list_folder(folder, recipe.test_session, sensor or recipe.sensor_shape, recipe.hints, kind, whole)
        if kind is not RECORDINGS:
            for remark in listing.remarks:
                warnings.warn(remark, stacklevel=2)
            check_used(*((OF_FILES, ["test_session"]) if kind is IMAGES else (OF_SOUND, OF_SIGNALS)))
            if kind is IMAGES:
                return image_folder(title, listing, encoder, inputs, recipe, progress)
            return signal_folder(title, listing, encoder, inputs, recipe, progress, whole)
    elif recipe.sensor and not whole:
        raise UsageError(
            f"sensor = {recipe.sensor} is for folders of recordings, the sensor of {name} is known: drop it"
        )
    elif name.endswith(SUFFIX):
        title, listing = name, list_moved(name, root, download)
    else:
        title, listing = name, list_event_set(name, data_root(root), download)
    check_used((), [each for each in recipe.particular if own or each not in OF_OWN_RECORDINGS])
    for remark in listing.remarks:
        warnings.warn(remark, stacklevel=2)
    cache = sequences(title, listing, recipe, progress)
    source = f"{len(listing.train):,} training and {len(listing.test):,} test recordings of {title}"
    return _samples_from_cache(title, listing, cache, recipe, source)


def is_path(name: str) -> bool:
    """Tell whether `name` is that of a folder or file, and not of a data set: `./NAME` is a folder called as one."""
    return is_folder(name) and name not in (*DATASET_NAMES, *OTHER_SETS, *EVENT_SOURCES)


def samples_of_classes(samples: Samples, classes: Sequence[int]) -> Samples:
    """Return the samples of some classes, relabelled 0, 1, ... in the order given.

    Raises:
        UsageError: for an unknown or repeated class, and for fewer than two classes.
    """
    known = range(len(samples.class_names))
    if len(classes) < 2 or len(set(classes)) < len(classes) or not set(classes) <= set(known):
        raise UsageError(f"classes are {list(classes)}, expected some of 0..{known[-1]} of {samples.name}, each once")
    splits = []
    kept = []
    for split in (samples.train, samples.test):
        assert isinstance(split, ImageSplit | SequenceSplit)
        of_class = split.labels[:, None] == torch.tensor(classes, device=split.labels.device)
        rows = of_class.any(1).nonzero()[:, 0]
        kept.append(rows.cpu())
        splits.append(replace(split.subset(rows), labels=of_class[rows].int().argmax(1)))
    names = tuple(samples.class_names[label] for label in classes)
    source = (
        f"{len(splits[0]):,} training and {len(splits[1]):,} test samples of {len(names)} classes of {samples.name}"
    )
    recordings = None if samples.recordings is None else samples.recordings[kept[0]]
    return replace(samples, class_names=names, train=splits[0], test=splits[1], source=source, recordings=recordings)


def _samples_from_cache(name: str, listing: Listing, cache: SequenceCache, recipe: EventRecipe, source: str) -> Samples:
    layout = cache.layout
    splits = []
    recordings = cache.groups("train")
    for split, copies in (("train", recipe.copies), ("test", 1)):
        samples, labels = cache.load(split)
        copy_size = len(samples) // copies
        if not copy_size:
            raise DataError(f"{source} give no {split} samples: lower window_ms or min_events")
        _check_counts(name, listing, split, labels)
        rows = torch.arange(copy_size)
        splits.append(SequenceSplit(samples, labels[:copy_size], rows, copy_size, layout.shape, layout.binary))
    return Samples(
        name,
        layout.shape,
        listing.class_names,
        splits[0],
        splits[1],
        source,
        EVENTS,
        1,
        sensor=layout.sensor,
        recordings=None if recordings is None else recordings[: len(splits[0])],
    )


def _check_counts(name: str, listing: Listing, split: str, labels: Tensor) -> None:
    """Check that each class of a split that has recordings has samples."""
    made = torch.bincount(labels, minlength=len(listing.class_names))
    recorded = Counter(sample.label for sample in (listing.train if split == "train" else listing.test))
    lost = [label for label in recorded if not made[label]]
    if lost:
        raise DataError(
            f"no {split} samples are left of the {recorded[lost[0]]:,} recordings of class "
            f"{listing.class_names[lost[0]]!r} of {name}: lower window_ms or min_events"
        )


@dataclass(frozen=True)
class MakeFrames:
    """Makes the frames of a sample as a recipe says; can be pickled."""

    read: Callable[[Sample], Recording]
    recipe: EventRecipe

    def __call__(self, job: tuple[Sample, int, int]) -> NDArray[np.uint8]:
        """Return the frames `[T, P, H, W]` of a job: sample, its number and copy; all copies but 0 are augmented."""
        sample, number, copy = job
        recipe, window = self.recipe, _window(self.recipe)
        recording = read_window(sample, self.read, window)
        if recording.partial is not None:
            raise DataError(f"{sample.path} is incomplete, {recording.partial}: repair or remove it")
        recording = _preprocess(recording, recipe)
        if not len(recording.events):
            cut = recipe.crop or recipe.denoise_us
            advice = "set another crop or denoise_us" if cut else "remove the recordings"
            if recipe.windows == "all" and not recipe.min_events:
                advice = "set min_events=1 to leave them out"
            warnings.warn(SampleWarning("without events", sample.path.name, advice), stacklevel=2)
        elif sample.start == 0 and recipe.bin_by == "time" and lacks_end(sample, self.read, window, recipe.steps):
            what = f"shorter than window_ms = {recipe.window_ms:g}, with empty steps at the end"
            advice = "lower window_ms, or set windows=all, which leaves them out"
            warnings.warn(SampleWarning(what, sample.path.name, advice), stacklevel=2)
        if copy:
            recording = augment(recording, recipe.augment, (number, copy))
        return _binned(recording, recipe, {"start": 0, "duration": window} if window else {})


def window_frames(window: Window, recipe: EventRecipe) -> UInt8[np.ndarray, "steps polarities height width"]:
    """Return the frames of a window of a stream, as training has them of a window of a recording, without augmentation.

    Args:
        window: from `read_stream`.
        recipe: says how, but for what it says of files and windows: the window itself is `steps` bins.

    Returns:
        uint8 `[T, P, H, W]`.

    Example:
        >>> import numpy as np
        >>> from spiking_lfp.events.records import EVENT
        >>> window = next(read_stream([np.array([(3, 2, 0, True)], EVENT)], 10.0, (2, 8, 8)))
        >>> window_frames(window, EventRecipe(steps=5, downsample=2)).shape
        (5, 2, 4, 4)
    """
    return _binned(_preprocess(window, recipe), recipe, {"start": window.start, "duration": window.duration})


def _binned(recording: Recording, recipe: EventRecipe, limits: Mapping[str, int]) -> NDArray[np.uint8]:
    """Return the frames of a recording, or of a part of it."""
    recording = downsample(recording, recipe.downsample)
    sensor = _frame_sensor(recording.sensor, recipe)
    return event_frames(recording.events, sensor, recipe.steps, by=recipe.bin_by, values=recipe.values, **limits)


def sequences(name: str, listing: Listing, recipe: EventRecipe, progress: Progress | None = None) -> SequenceCache:
    """Return the cache of a data set of recordings; it is built if it does not exist yet."""
    paths = sorted({sample.path for sample in (*listing.train, *listing.test)})
    stats = [path.stat() for path in paths]
    key = {
        "data": name,
        "recipe": recipe.model_dump(mode="json"),
        "read": repr(listing.read),
        "samples": [[len(listing.train), len(listing.test)], list(listing.class_names)],
        "labels": hashlib.sha256(repr((listing.train, listing.test)).encode()).hexdigest(),
        # files of the same size and time that change places differ by the last two
        "files": [
            [str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
            for path, stat in zip(paths, stats, strict=True)
        ],
        **({"groups": "recordings"} if recipe.windows == "all" else {}),  # which older caches lack
    }
    return cached(name, key, partial(_plan, listing, recipe), progress=progress)


def _plan(listing: Listing, recipe: EventRecipe) -> tuple[Layout, Mapping[str, Jobs]]:
    """Return the layout of samples and how to make them; the size of the sensor is found here if it is not known."""
    forget_recordings()
    if listing.sensor is None:
        listing = with_one_sensor(listing)
    assert listing.sensor is not None
    empty = Recording(np.empty(0, EVENT), listing.sensor)
    shape = _frame_sensor(downsample(_preprocess(empty, recipe), recipe.downsample).sensor, recipe)
    return Layout(recipe.steps, shape, recipe.values == "binary", listing.sensor), _jobs(listing, recipe)


def _jobs(listing: Listing, recipe: EventRecipe) -> Mapping[str, Jobs]:
    splits = {}
    kept: set[Sample] = set()
    for split, samples, copies in (("train", listing.train, recipe.copies), ("test", listing.test, 1)):
        windows = windows_of(samples, listing, recipe)
        kept |= {replace(sample, start=None) for sample in windows}
        jobs = [(sample, number, copy) for copy in range(copies) for number, sample in enumerate(windows)]
        groups: list[int] = []
        if recipe.windows == "all":
            numbers = {sample: number for number, sample in enumerate(samples)}
            groups = [numbers[replace(sample, start=None)] for sample, _, _ in jobs]
        splits[split] = Jobs(MakeFrames(listing.read, recipe), jobs, [sample.label for sample, _, _ in jobs], groups)
    every = dict.fromkeys((*listing.train, *listing.test))
    lost = [sample.path for sample in every if sample not in kept]
    if lost:
        warnings.warn(
            f"{len(lost):,} of {len(every):,} recordings are left out, because each {no_windows(recipe)}: {some(lost)}",
            stacklevel=2,
        )
    return splits


def windows_of(samples: Sequence[Sample], listing: Listing, recipe: EventRecipe) -> list[Sample]:
    """Return the samples that recordings are cut into, as the recipe says."""
    window = _window(recipe)
    if not window:
        return list(samples)
    if recipe.windows == "first":
        return [replace(sample, start=0) for sample in samples]
    windows = cut_into_windows(samples, listing.read, window)
    minimum = recipe.min_events
    return [
        sample for sample in windows if not minimum or len(read_window(sample, listing.read, window).events) >= minimum
    ]


def no_windows(recipe: EventRecipe) -> str:
    """Say what a recording has of which there are no samples."""
    events = f", with {recipe.min_events:,} events or more" if recipe.min_events else ""
    return f"has no whole window of window_ms = {recipe.window_ms:g}{events}"


def window_number(sample: Sample, recipe: EventRecipe) -> int:
    """Return which window of its recording a sample is, from 0."""
    return (sample.start or 0) // max(_window(recipe), 1)


def _preprocess(recording: Recording, recipe: EventRecipe) -> Recording:
    if recipe.crop:
        recording = crop(recording, recipe.crop)
    if recipe.denoise_us:
        recording = denoise(recording, recipe.denoise_us)
    return centre(recording) if recipe.centre else recording


def _frame_sensor(sensor: Sensor, recipe: EventRecipe) -> Sensor:
    """Return the shape of a frame: polarities, height and width."""
    return (min(sensor[0], recipe.polarities), *sensor[1:])


def _window(recipe: EventRecipe) -> int:
    return round(recipe.window_ms * MILLISECOND)
