"""Samples of values without events: images, signals in files, and arrays in files, as the settings say."""

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spiking_lfp.data.datasets import ImageDataset
from spiking_lfp.data.encoding import Encoder
from spiking_lfp.data.images import read_images
from spiking_lfp.data.own import array_split, as_tensor
from spiking_lfp.data.recipes import OF_VALUES, OWN, EventRecipe, InputRecipe
from spiking_lfp.data.recordings import Listing, Sample, split_every_nth
from spiking_lfp.data.signals import Values
from spiking_lfp.data.sound import read_sound
from spiking_lfp.data.spec import SIGNALS, VALUES
from spiking_lfp.data.splits import STILL, ArraySplit, ImageAugmentation, ImageSplit, Samples
from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.nn.execution import LEVELS

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
    title: str, listing: Listing, encoder: Encoder, inputs: InputRecipe, recipe: EventRecipe, progress: Progress | None
) -> Samples:
    """Read the signals of the user's own folder, and bring them to `steps` bins.

    Raises:
        UsageError: if the encoder is not for signals.
        DataError: naming a file that cannot be read, or differs from the others in channels.
    """
    if not encoder.is_in_time:
        raise UsageError(
            f"encoding {encoder.name} is for values without time, {title} has signals: set encoding=sequence, or "
            "encoding=delta for spikes where they change"
        )
    total = len(listing.train) + len(listing.test)
    splits: list[list[tuple[Path, Values, int]]] = []
    channels: tuple[int, Path] | None = None
    for samples in (listing.train, listing.test):
        split = []
        for sample in samples:
            signal = read_sound(sample.path, inputs.signal_rate, inputs.mel_bands, inputs.hop_ms, inputs.centre_bands)
            channels = channels or (signal.values.shape[1], sample.path)
            if signal.values.shape[1] != channels[0]:
                raise DataError(
                    f"{channels[1]} has {channels[0]} channels, but {sample.path} {signal.values.shape[1]}: remove one"
                )
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
    return Samples(title, shape, tuple(listing.class_names), made[0], made[1], source, **_facts(encoder))


def _encoded(split: Sequence[tuple[Path, Values, int]], encoder: Encoder) -> ArraySplit:
    """Return signals as sequences of equal lengths, made once."""
    sequences = []
    for path, values, _ in split:
        try:
            # means of bins are normalised like samples
            sequences.append(replace(encoder, mean=(), deviation=())(torch.from_numpy(values)[None])[:, 0])
        except UsageError as error:
            raise DataError(f"{path}: {error}") from None
    ready = replace(encoder, name="sequence", steps=0, neurons=0)
    return ArraySplit(torch.stack(sequences), torch.tensor([label for *_, label in split]), ready)


def _facts(encoder: Encoder) -> dict[str, Any]:
    """Return what samples made by an encoder say of themselves."""
    levels = 1 if encoder.name == "delta" else LEVELS
    kind = SIGNALS if encoder.is_in_time else VALUES
    return {"kind": kind, "levels": levels, "mean": encoder.mean, "deviation": encoder.deviation}


def _statistics(values: Tensor, scale: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the rows of `values` divided by `scale`; 1 for those that are constant."""
    numbers = [row.double() / scale for row in values]
    deviations = [float(row.std(correction=0)) or 1.0 for row in numbers]
    return tuple(float(row.mean()) for row in numbers), tuple(deviations)


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
    class is for testing. Images are uint8 `[N, H, W]`, `[N, C, H, W]` or `[N, H, W, C]`, other values `[N, ...]`, and
    signals `[N, L, C]`. `class_names` are text, else classes are called by their numbers.

    Args:
        path: of the file.
        encoder: from values to sequences.
        inputs: settings of images.
        whole: take all of `x` and `y` for testing.

    Raises:
        DataError: if the file cannot be read, or has no such arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read: {error}; give an .npz file of arrays without objects") from None
    pairs = [
        next(((arrays[x], arrays[y]) for x, y in keys if x in arrays and y in arrays), None)
        for keys in (_TRAIN_KEYS, _TEST_KEYS, _BOTH_KEYS)
    ]
    train, test, both = pairs
    if train is None and test is not None and whole:
        train = test
    if both is not None and train is None:
        labels = as_tensor(both[1], f"the labels of {path}").flatten()
        samples = [Sample(path, int(label), index) for index, label in enumerate(labels)]
        rows = (samples, samples) if whole else split_every_nth(samples, 5)
        train, test = (tuple(array[[sample.item for sample in part]] for array in both) for part in rows)
    if train is None or test is None:
        raise DataError(
            f"{path} holds {', '.join(arrays) or 'nothing'}, expected x_train, y_train, x_test and y_test, or x and y: "
            "rename the arrays"
        )
    splits = []
    for name, (x, y) in (("train", train), ("test", test)):
        labels = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        splits.append(array_split((_channels_first(x, encoder), labels), encoder, f"{name} of {path}"))
    classes = 1 + int(max(int(split.labels.max()) for split in splits))
    names = tuple(map(str, arrays["class_names"])) if "class_names" in arrays else tuple(map(str, range(classes)))
    if len(names) < classes or any(int(split.labels.min()) < 0 for split in splits):
        raise DataError(f"{path} has labels up to {classes - 1} and {len(names)} class_names: number classes from 0")
    if splits[0].values.dtype == torch.uint8 and splits[0].values.dim() == 4 and not encoder.is_in_time:
        dataset = ImageDataset(
            path.stem, splits[0].values, splits[0].labels.long(), splits[1].values, splits[1].labels.long(), names
        )
        return image_samples(dataset, encoder, inputs)
    return array_samples(path.stem, splits[0], splits[1], names, inputs, path.name)


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
        mean, deviation = _statistics(train.values.transpose(0, axis).flatten(1), 1.0)
        encoder = replace(encoder, mean=mean, deviation=deviation)
        splits = [replace(split, encoder=encoder) for split in splits]
    shape = splits[0].batch(torch.arange(1))[0].shape[2:]
    count = f"{len(train):,} training and {len(test):,} test samples of {title}"
    return Samples(name, tuple(shape), class_names, splits[0], splits[1], count, **_facts(encoder))


def _channels_first(values: NDArray[Any], encoder: Encoder) -> NDArray[Any]:
    """Return images as `[N, C, H, W]`, other values as they are."""
    if values.dtype != np.uint8 or encoder.is_in_time:
        return values
    if values.ndim == 3:
        return values[:, None]
    is_last = values.ndim == 4 and values.shape[3] in (1, 3) and values.shape[1] not in (1, 3)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if is_last else values
