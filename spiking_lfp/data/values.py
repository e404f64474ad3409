"""Samples of values without events: images, signals in files, and arrays in files, as the settings say."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.data.arrays import open_arrays
from spiking_lfp.data.datasets import ImageDataset
from spiking_lfp.data.encoding import Encoder, as_pixels
from spiking_lfp.data.images import read_images
from spiking_lfp.data.own import array_split, as_tensor, first_without, no_class_indices
from spiking_lfp.data.recipes import OF_VALUES, OWN, EventRecipe, InputRecipe
from spiking_lfp.data.recordings import Listing, Sample, split_every_nth
from spiking_lfp.data.signals import Values
from spiking_lfp.data.sound import read_sound
from spiking_lfp.data.spec import SIGNALS, VALUES
from spiking_lfp.data.splits import STILL, ArraySplit, ImageAugmentation, ImageSplit, Samples
from spiking_lfp.errors import DataError, UsageError, some

Progress = Callable[[int, int], None]


def encoder_of(inputs: InputRecipe, recipe: EventRecipe, dtype: torch.dtype = torch.float32) -> Encoder:
    """Return the encoder that the settings name.

    Raises:
        UsageError: if it was given in Python.
    """
    if inputs.encoding == OWN:
        raise UsageError("the run was trained with an encoder given in Python: give it again, encoder=...")
    return Encoder(
        inputs.encoding,
        recipe.steps,
        inputs.delta_threshold,
        inputs.encoding_neurons,
        recipe.values == "count",
        dtype=dtype,
    )


def image_samples(dataset: ImageDataset, encoder: Encoder, inputs: InputRecipe | None = None) -> Samples:
    """Return the samples of an image data set.

    Args:
        dataset: the images.
        encoder: from images to sequences.
        inputs: how training images are changed at random, and whether images are normalised; None for as they are.

    Raises:
        UsageError: if the encoder is for signals.
    """
    if encoder.is_in_time:
        raise UsageError(f"encoding {encoder.name} is for signals, {dataset.name} has images: take constant or rate")
    if inputs is not None and inputs.normalize:
        mean, deviation = _statistics(dataset.train_images.transpose(0, 1).flatten(1), 255.0)
        encoder = replace(encoder, mean=mean, deviation=deviation)
    augment = STILL if inputs is None else ImageAugmentation(inputs.shift, inputs.flip, inputs.cutout)
    sample_shape = encoder(dataset.train_images[:1]).shape[2:]
    return Samples(
        dataset.name,
        tuple(sample_shape),
        dataset.class_names,
        ImageSplit(dataset.train_images, dataset.train_labels, encoder, augment),
        ImageSplit(dataset.test_images, dataset.test_labels, encoder),
        f"{len(dataset.train_images):,} training and {len(dataset.test_images):,} test images of {dataset.name}",
        **_facts(encoder),
    )


def image_folder(
    title: str, listing: Listing, encoder: Encoder, inputs: InputRecipe, recipe: EventRecipe, progress: Progress | None
) -> Samples:
    """Read the images of the user's own folder; see `read_images`."""
    samples = (*listing.train, *listing.test)
    images = read_images([sample.path for sample in samples], inputs.image_size, inputs.colour, progress)
    labels = torch.tensor([sample.label for sample in samples])
    count = len(listing.train)
    dataset = ImageDataset(
        title, images[:count], labels[:count], images[count:], labels[count:], tuple(listing.class_names)
    )
    return image_samples(dataset, encoder, inputs)


def signal_folder(
    title: str,
    listing: Listing,
    encoder: Encoder,
    inputs: InputRecipe,
    recipe: EventRecipe,
    progress: Progress | None,
    whole: bool = False,
) -> Samples:
    """Read the signals of the user's own folder, and bring them to `steps` bins.

    Raises:
        UsageError: if the encoder is not for signals.
        DataError: naming a file that cannot be read, or differs from the others in channels or their names, in length
            if there are no `steps`, or in its rate if that counts, or says another rate than `signal_rate`.
    """
    if not encoder.is_in_time:
        raise UsageError(
            f"encoding {encoder.name} is for values without time, {title} has signals: set encoding=sequence, or "
            "encoding=delta for spikes where they change"
        )
    if recipe.values != "binary" and encoder.name != "delta":
        raise UsageError(
            f"values = {recipe.values} is for spikes of encoding=delta, and of {encoder.name} changes nothing"
        )
    paths = [sample.path for sample in (*listing.train, *listing.test)]
    stated_rate = 0.0 if whole else inputs.signal_rate  # of a network that is trained, it was of other files
    if stated_rate:
        _check_signal_rate(title, paths, inputs, recipe)
    # bins of means are the same for any rate
    rate_counts = bool(inputs.mel_bands) or encoder.name == "delta" or not recipe.steps
    rate, total = 0.0, len(paths)
    splits: list[list[tuple[Path, Values, int]]] = []
    channels: tuple[int, Path] | None = None
    names: tuple[str, ...] = ()
    named: Path | None = None
    for samples in (listing.train, listing.test):
        split = []
        for sample in samples:
            signal = read_sound(sample.path, inputs.signal_rate, inputs.mel_bands, inputs.hop_ms, inputs.centre_bands)
            found = signal.sound_rate or signal.rate
            if stated_rate and found != stated_rate:
                raise DataError(
                    f"{sample.path} has {found:g} samples a second, but signal_rate is {stated_rate:g}: convert it, or "
                    "move the files with other rates away"
                )
            if rate_counts:
                signal.check_rate(rate, sample.path)
                rate = rate or signal.sound_rate or signal.rate
            channels = channels or (signal.values.shape[1], sample.path)
            if signal.values.shape[1] != channels[0]:
                raise DataError(
                    f"{channels[1]} has {channels[0]} channels, but {sample.path} {signal.values.shape[1]}: remove one"
                )
            if named is not None:
                signal.check_channels(names, sample.path, named)
            elif signal.channels:
                names, named = signal.channels, sample.path
            windows = signal.windows(recipe.window_ms, recipe.windows == "all", sample.path)
            split += [(sample.path, window, sample.label) for window in windows]
            if progress is not None:
                progress(sum(map(len, splits)) + len(split), max(total, sum(map(len, splits)) + len(split)))
        splits.append(split)
    if inputs.normalize:
        values = torch.from_numpy(np.concatenate([window for _, window, _ in splits[0]]))
        mean, deviation = _statistics(values.T, 1.0)
        encoder = replace(encoder, mean=mean, deviation=deviation)
    made = [_encoded(split, encoder) for split in splits]
    shape = tuple(made[0].values.shape[2:])
    source = f"{len(splits[0]):,} training and {len(splits[1]):,} test signals of {title}"
    recordings = None
    if recipe.windows == "all":
        numbers = {sample.path: number for number, sample in enumerate(listing.train)}
        recordings = torch.tensor([numbers[path] for path, _, _ in splits[0]])
    facts = {"rate": rate, "channels": names, "recordings": recordings, **_facts(encoder)}
    return Samples(title, shape, tuple(listing.class_names), made[0], made[1], source, **facts)


def _check_signal_rate(title: str, paths: Sequence[Path], inputs: InputRecipe, recipe: EventRecipe) -> None:
    """Refuse a rate that nothing has a use for."""
    if not (inputs.mel_bands or recipe.window_ms):
        raise UsageError("signal_rate changes nothing without mel_bands or window_ms: set one of them, or leave it out")
    if all(path.suffix.lower() == ".wav" for path in paths):
        raise UsageError(f"signal_rate changes nothing of {title}, whose WAV files say their own: leave it out")


def _encoded(split: Sequence[tuple[Path, Values, int]], encoder: Encoder) -> ArraySplit:
    """Return signals as sequences of equal lengths, made once."""
    sequences = []
    for path, values, _ in split:
        try:
            # means of bins are normalised like samples
            sequences.append(replace(encoder, mean=(), deviation=())(torch.from_numpy(values)[None])[:, 0])
        except UsageError as error:
            raise DataError(f"{path}: {error}") from None
        if len(sequences[-1]) != len(sequences[0]):
            raise DataError(
                f"{split[0][0]} makes {len(sequences[0]):,} steps, but {path} {len(sequences[-1]):,}: set steps, the "
                "number of bins, or window_ms"
            )
    ready = replace(encoder, name="sequence", steps=0, neurons=0)
    return ArraySplit(torch.stack(sequences), torch.tensor([label for *_, label in split]), ready)


def _facts(encoder: Encoder) -> dict[str, Any]:
    """Return what samples made by an encoder say of themselves."""
    kind = SIGNALS if encoder.is_in_time else VALUES
    return {"kind": kind, "levels": encoder.levels, "mean": encoder.mean, "deviation": encoder.deviation}


def _statistics(values: Tensor, scale: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the rows of `values` divided by `scale`; 1 for those that are constant."""
    numbers = [row.double() / scale for row in values]
    deviations = [float(row.std(correction=0)) or 1.0 for row in numbers]
    return tuple(float(row.mean()) for row in numbers), tuple(deviations)


# that evaluation tells apart by their numbers
_MOST_CLASSES = 10**6
# how people call arrays in files: values and labels for training, and for testing
_TRAIN_KEYS = [("x_train", "y_train"), ("train_images", "train_labels"), ("X_train", "y_train"), ("train_x", "train_y")]
_TEST_KEYS = [("x_test", "y_test"), ("test_images", "test_labels"), ("X_test", "y_test"), ("test_x", "test_y")]
_BOTH_KEYS = [
    ("x", "y"),
    ("X", "y"),
    ("images", "labels"),
    ("data", "labels"),
    ("values", "labels"),
    ("data", "target"),
]


def npz_samples(path: Path, encoder: Encoder, inputs: InputRecipe, whole: bool = False) -> Samples:
    """Read arrays from an `.npz` file: `x_train`, `y_train`, `x_test` and `y_test`, or `x` and `y`.

    Other usual names, such as `train_images` and `train_labels`, are found, too. Of `x` and `y`, every 5th sample of a
    class is for testing, unless there are `x_test` and `y_test`. Images are uint8 `[N, H, W]`, `[N, C, H, W]` or `[N,
    H, W, C]`, other values `[N, ...]`, and signals `[N, L, C]`. `class_names` are text, else classes are called by
    their numbers.

    Labels are numbers of classes from 0, `[N]` or `[N, 1]`, of any type, or one-hot `[N, C]`; truth values are 0 and 1.
    Each class has training samples, unless `class_names` names others.

    Args:
        path: of the file.
        encoder: from values to sequences.
        inputs: settings of images.
        whole: take all of `x` and `y` for testing.

    Raises:
        DataError: if the file cannot be read, or has no such arrays.

    Warns:
        UserWarning: naming arrays that are left out, and classes of `class_names` without training samples.
    """
    with open_arrays(path) as file:
        arrays = {name: file[name] for name in file}
    for_training, for_testing, for_both = (
        next((pair for pair in known if {*pair} <= arrays.keys()), None)
        for known in (_TRAIN_KEYS, _TEST_KEYS, _BOTH_KEYS)
    )
    if for_training or for_testing:  # then x and y are for training, if they are for anything
        for_training, for_both = for_training or for_both, None
    used = [*(for_training or ()), *(for_testing or ()), *(for_both or ()), "class_names"]
    others = [name or "one without a name" for name in arrays if name not in used]
    if for_training and for_testing and not encoder.is_in_time and arrays[for_training[0]].dtype == np.uint8:
        other = for_testing[0]
        values = as_pixels(as_tensor(arrays[other], f"the values of {other} of {path}")).numpy()
        arrays[other] = values if values.dtype == np.uint8 else _with_channels(values)
    train, test, both = (
        None if pair is None else _pair(path, arrays, *pair, encoder) for pair in (for_training, for_testing, for_both)
    )
    if train is None and test is not None and whole:
        train = test
    if both is not None:
        train, test = (both, both) if whole else _divided(path, both)
    if train is None or test is None:
        found = ", ".join(name or "an array without a name" for name in arrays) or "nothing"
        raise DataError(
            f"{path} holds {found}, expected x_train, y_train, x_test and y_test, or x and y: rename the arrays"
        )
    if others:
        warnings.warn(f"{len(others)} arrays of {path} are left out: {some(others)}", stacklevel=3)
    splits = _alike(path, train, test, encoder)
    names = _classes(path, *splits, arrays.get("class_names"), whole)
    are_images = all(split.values.dtype == torch.uint8 and split.values.dim() == 4 for split in splits)
    if are_images and not encoder.is_in_time and splits[0].labels.dim() == 1:
        labels = [split.labels.long() for split in splits]
        dataset = ImageDataset(path.stem, splits[0].values, labels[0], splits[1].values, labels[1], names)
        return image_samples(dataset, encoder, inputs)
    return array_samples(path.stem, splits[0], splits[1], names, inputs, path.name)


def _pair(path: Path, arrays: Mapping[str, NDArray[Any]], x: str, y: str, encoder: Encoder) -> ArraySplit:
    """Return the samples of two arrays in a file: values, and their classes or other targets."""
    labels = arrays[y]
    if labels.dtype.kind in "US":
        raise DataError(f"{path} has text in {y}: number the classes from 0, and give their names as class_names")
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    split = array_split((_channels_first(arrays[x], encoder), labels), encoder, f"({x}, {y}) of {path}")
    odd = no_class_indices(split.labels) if split.labels.dim() == 1 else split.labels[~split.labels.isfinite()]
    if len(odd):
        raise DataError(f"{path} has {odd[0]:g} in {y}, expected numbers of classes: number them from 0")
    return split


def _divided(path: Path, both: ArraySplit) -> tuple[ArraySplit, ArraySplit]:
    """Return samples for training and, every 5th of a class, for testing."""
    labels = both.labels.tolist() if both.labels.dim() == 1 else [0] * len(both)
    samples = [Sample(path, label, index) for index, label in enumerate(labels)]
    train, test = ([sample.item for sample in part] for part in split_every_nth(samples, 5))
    if not test:
        raise DataError(
            f"{path} has {len(both)} samples, of which every 5th of a class is for testing: give more, or x_test and "
            "y_test"
        )
    return both.subset(torch.tensor(train)), both.subset(torch.tensor(test))


def _alike(path: Path, train: ArraySplit, test: ArraySplit, encoder: Encoder) -> tuple[ArraySplit, ArraySplit]:
    """Return samples whose values and labels are of the same form, one-hot labels as class indices."""
    if all(split.labels.dim() == 2 and _are_one_hot(split.labels) for split in (train, test)):
        train, test = (replace(split, labels=split.labels.long().argmax(1)) for split in (train, test))
    sample = 2 if encoder.is_in_time else 1  # signals may differ in length
    shapes = [(split.values.shape[sample:], split.labels.shape[1:]) for split in (train, test)]
    if shapes[0] != shapes[1]:
        found = " and ".join(
            f"values {list(split.values.shape)}, labels {list(split.labels.shape)} for {use}"
            for split, use in ((train, "training"), (test, "testing"))
        )
        raise DataError(f"{path} has {found}: make samples of one shape")
    return train, test


def _are_one_hot(labels: Tensor) -> bool:
    return bool((((labels == 0) | (labels == 1)).all()) & (labels.sum(1) == 1).all())


def _text(name: Any) -> str:
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name)


def _classes(
    path: Path, train: ArraySplit, test: ArraySplit, given: NDArray[Any] | None, whole: bool
) -> tuple[str, ...]:
    """Return the names of classes, or their numbers, and check that there are training samples of each."""
    if given is not None and given.ndim != 1:
        raise DataError(f"class_names of {path} are {list(given.shape)}, expected [C]: give a name for each class")
    names = () if given is None else tuple(map(_text, given.tolist()))
    if train.labels.dim() > 1:  # a value for each output
        count = train.labels.shape[1]
        if names and len(names) != count:
            raise DataError(f"{path} has labels [N, {count}] and {len(names)} class_names: give one for each")
        return names or tuple(map(str, range(count)))
    low, high = (int(each) for each in torch.cat([train.labels, test.labels]).aminmax())
    count = len(names) or high + 1
    if low < 0 or high >= count:
        named = f" and {len(names)} class_names" if names else ""
        raise DataError(f"{path} has labels from {low} to {high}{named}: number classes from 0")
    first = first_without(train.labels, count)
    if whole:
        if high >= _MOST_CLASSES:
            raise DataError(f"{path} has labels up to {high}, more than there can be classes: number them from 0")
    elif names and first is not None:
        untrained = [name for label, name in enumerate(names) if not bool((train.labels == label).any())]
        warnings.warn(f"there are no training samples in {path} of {some(untrained)}", stacklevel=3)
    elif first is not None:
        raise DataError(
            f"{path} has labels from {low} to {high}, and no training samples of class {first}: number the classes "
            "from 0 without gaps, or name all of them in class_names"
        )
    elif count == 1:
        raise DataError(f"{path} has one class: give samples of another one, too")
    return names or tuple(map(str, range(count)))


def array_samples(
    name: str, train: ArraySplit, test: ArraySplit, class_names: tuple[str, ...], inputs: InputRecipe, title: str
) -> Samples:
    """Return samples of arrays, normalised as the settings say.

    Args:
        name: of the data set.
        train: for training, whose encoder is an `Encoder`; `test` for testing.
        test: see `train`.
        class_names: in the order of their labels.
        inputs: whether they are normalised.
        title: where they come from, for people.

    Raises:
        UsageError: for settings of images.
    """
    inputs.check_used(title, OF_VALUES)
    encoder, splits = train.encoder, [train, test]
    assert isinstance(encoder, Encoder)
    if inputs.normalize:
        axis = 2 if encoder.is_in_time else 1
        # as the encoder scales pixels
        scale = 255.0 if train.values.dtype == torch.uint8 and not encoder.is_in_time else 1.0
        mean, deviation = _statistics(train.values.transpose(0, axis).flatten(1), scale)
        encoder = replace(encoder, mean=mean, deviation=deviation)
        splits = [replace(split, encoder=encoder) for split in splits]
    shape = splits[0].batch(torch.arange(1))[0].shape[2:]
    count = f"{len(train):,} training and {len(test):,} test samples of {title}"
    return Samples(name, tuple(shape), class_names, splits[0], splits[1], count, **_facts(encoder))


def _channels_first(values: NDArray[Any], encoder: Encoder) -> NDArray[Any]:
    """Return images as `[N, C, H, W]`, other values as they are."""
    return values if values.dtype != np.uint8 or encoder.is_in_time else _with_channels(values)


def _with_channels(values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim == 3:
        return values[:, None]
    is_last = values.ndim == 4 and values.shape[3] in (1, 3) and values.shape[1] not in (1, 3)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if is_last else values
