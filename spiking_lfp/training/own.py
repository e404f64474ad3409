"""Data given in Python, as arrays, data sets or data loaders, made ready for a run."""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from spiking_lfp.data import ArraySplit, Samples
from spiking_lfp.data.encoding import Encoder, as_pixels
from spiking_lfp.data.own import array_split, first_without, no_class_indices
from spiking_lfp.data.recipes import OWN
from spiking_lfp.data.spec import SIGNALS, VALUES, DataSpec
from spiking_lfp.data.values import encoder_of
from spiking_lfp.errors import DataError, UsageError
from spiking_lfp.mono import MonoReadout
from spiking_lfp.nn.execution import LEVELS
from spiking_lfp.nn.layers import evaluation_mode, name_layers
from spiking_lfp.training.config import TrainConfig
from spiking_lfp.training.feeds import EVALUATION_BATCH, Data, Feed, LoaderData, LoaderFeed, MemoryData, SplitFeed

Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class OwnData:
    """Data for training and for evaluation as the user gave them.

    Attributes:
        train: a pair (values, labels), a data set, or a data loader.
        test: the same; None if samples are held out from training.
        class_names: empty to number the classes.
        encoder: from values `[B, ...]` to sequences `[T, B, ...]`; None for that of the settings.
    """

    train: Any
    test: Any
    class_names: Sequence[str] = ()
    encoder: Encode | None = None

    def ready(self, config: TrainConfig, network: nn.Module) -> Data:
        """Return the data for a network, which is run on the first sample to learn the shape of its outputs.

        Raises:
            DataError: if the data are of another form, or labels and outputs do not fit.
            UsageError: for settings that do not fit the data.
        """
        encoder = self._encoder(config, dtype_of(network))
        train = source_of(self.train, encoder, config.batch_size, "train", shuffled=True)
        if self.test is not None:
            test = source_of(self.test, encoder, EVALUATION_BATCH, "test")
            if isinstance(train, ArraySplit) and isinstance(test, ArraySplit) and are_pixels(train.values, encoder):
                test = replace(test, values=as_pixels(test.values))
        elif isinstance(train, ArraySplit) and config.validation:
            test = train.subset(slice(0, 0))
        else:
            raise UsageError("test is None: give samples for evaluation, or hold out some with validation=0.1")
        if isinstance(train, ArraySplit) != isinstance(test, ArraySplit):
            train, test = (
                as_loader(each, size) if isinstance(each, ArraySplit) else each
                for each, size in ((train, config.batch_size), (test, EVALUATION_BATCH))
            )
        values = first_values(train, encoder)
        x = first_sequence(train, encoder, values)
        spec = spec_for(network, x, self.class_names, kind_of(encoder), levels_of(train, encoder, x))
        if isinstance(train, ArraySplit) and isinstance(test, ArraySplit):
            for split, name in ((train, "train"), (test, "test")):
                check_labels(split.labels, spec.classes, name)
            count = f"{len(train):,} training and {len(test):,} test samples"
            names = tuple(spec.class_names)
            return MemoryData(Samples(OWN, tuple(spec.in_shape), names, train, test, count, spec.kind, spec.levels))
        assert isinstance(train, DataLoader)
        assert isinstance(test, DataLoader)
        return LoaderData(train, test, encoder, replace(spec, pixels=are_pixels(values, encoder)))

    def spec(self, config: TrainConfig) -> DataSpec:
        """Return what a network that is not made yet takes and gives.

        Raises:
            UsageError: if the number of classes is not known.
        """
        encoder = self._encoder(config, torch.float32)
        train = source_of(self.train, encoder, config.batch_size, "train")
        x = first_sequence(train, encoder, first_values(train, encoder))
        shape, levels = list(x.shape[2:]), levels_of(train, encoder, x)
        if self.class_names:
            return DataSpec(shape, len(self.class_names), kind=kind_of(encoder), levels=levels)
        if isinstance(train, ArraySplit) and train.labels.dim() == 1 and not train.labels.is_floating_point():
            classes = int(train.labels.max()) + 1
            if classes == 1:
                raise DataError("train has one class, 0: give samples of another one, too, or class_names")
            lacking = first_without(train.labels, classes)
            if lacking is not None:
                warnings.warn(
                    f"the network has {classes} outputs, one for each class up to the largest label, but train has no "
                    f"samples of class {lacking}: number classes from 0 without gaps, or give class_names",
                    stacklevel=2,
                )
            return DataSpec(shape, classes, kind=kind_of(encoder), levels=levels)
        raise UsageError("the number of classes is not known: give class_names")

    def _encoder(self, config: TrainConfig, dtype: torch.dtype) -> Encode:
        config.inputs.check_used("data given in Python", ("encoding", "encoding_neurons"))
        config.recipe.check_used("data given in Python", ["values"])
        return (
            encoder_of(config.inputs, config.recipe, dtype) if self.encoder is None else checked_encoder(self.encoder)
        )


def checked_encoder(encoder: Encode) -> Encode:
    """Let an encoder of the user's own say what is wrong with what it returns.

    Without a check, sequences with the batch axis first are trained on where a batch has as many samples as steps.
    """

    def encode(values: Tensor) -> Tensor:
        x: object = encoder(values)
        if not isinstance(x, Tensor) or x.dim() < 2 or x.shape[1] != len(values):
            found = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise UsageError(
                f"encoder returned {found} for values {list(values.shape)}, expected a tensor [T, B, ...], time first: "
                f"its second axis has the {len(values)} samples"
            )
        return x

    return encode


def kind_of(encoder: Encode) -> str:
    """Return what an encoder takes."""
    return SIGNALS if isinstance(encoder, Encoder) and encoder.is_in_time else VALUES


def levels_of(source: "ArraySplit | DataLoader[Any]", encoder: Encode, x: Tensor) -> int:
    """Return the integer that stands for an input of 1: 1 if all inputs are spikes, of which `x` are the first."""
    if isinstance(encoder, Encoder) and encoder.name != "sequence":
        return encoder.levels
    values = source.values if isinstance(source, ArraySplit) and isinstance(encoder, Encoder) else x
    return 1 if bool(((values == 0) | (values == 1)).all()) else LEVELS


def dtype_of(network: nn.Module) -> torch.dtype:
    """Return the type of the parameters of a network."""
    return next((each.dtype for each in network.parameters() if each.is_floating_point()), torch.float32)


def source_of(
    given: Any, encoder: Encode, batch_size: int, name: str, shuffled: bool = False
) -> "ArraySplit | DataLoader[Any]":
    """Return samples in memory, or a data loader."""
    if isinstance(given, DataLoader):
        if isinstance(given.dataset, IterableDataset) and not hasattr(given.dataset, "__len__"):
            raise DataError(
                f"{name} is a data loader without a length, which schedules need: give its data set a __len__"
            )
        if given.persistent_workers and shuffled:
            raise DataError(
                f"{name} keeps its workers, whose random numbers a resumed run cannot have: drop persistent_workers"
            )
        return given
    if isinstance(given, TensorDataset) and len(given.tensors) == 2:
        return array_split(given.tensors, encoder, name)
    if isinstance(given, Dataset) and hasattr(given, "__len__"):
        return DataLoader(given, batch_size, shuffle=shuffled)
    others = ", a data set, a data loader, or the name of a data set"
    return array_split(given, encoder, name, others)


def as_loader(split: ArraySplit, batch_size: int) -> "DataLoader[Any]":
    """Return a data loader of samples in memory."""
    return DataLoader(TensorDataset(*split.tensors()), batch_size, shuffle=True)


def feed_of(given: Any, encoder: Encode, device: torch.device, classes: int, name: str) -> Feed:
    """Return what a network is evaluated on."""
    source = source_of(given, encoder, EVALUATION_BATCH, name)
    if isinstance(source, DataLoader):
        return LoaderFeed(source, encoder, device)
    check_labels(source.labels, classes, name)
    return SplitFeed(source.to(device))


def first_values(source: "ArraySplit | DataLoader[Any]", encoder: Encode) -> Tensor:
    """Return the values of the first samples, `[B, ...]`, as they are given."""
    if isinstance(source, ArraySplit):
        return source.values[:1]
    batch = LoaderFeed(source, encoder, torch.device("cpu")).first()
    if batch is None:
        raise DataError("the data loader yields no batches: give it samples")
    return batch.x


def first_sequence(source: "ArraySplit | DataLoader[Any]", encoder: Encode, values: Tensor) -> Tensor:
    """Return the sequence of the first sample, `[T, 1, ...]`, given the values of the first ones."""
    return source.batch(torch.arange(1))[0] if isinstance(source, ArraySplit) else encoder(values[:1])


def are_pixels(values: Tensor, encoder: Encode) -> bool:
    """Whether values are pixels, which an encoder scales to 0..1."""
    return values.dtype == torch.uint8 and isinstance(encoder, Encoder) and not encoder.is_in_time


def spec_for(network: nn.Module, x: Tensor, class_names: Sequence[str], kind: str, levels: int) -> DataSpec:
    """Run a network on a sequence, and return what it takes and gives.

    Raises:
        UsageError: if it returns no outputs `[T, B, C]`, or the number of class names is another.
    """
    device = next((each.device for each in network.parameters()), torch.device("cpu"))
    name_layers(network)  # for errors
    with torch.no_grad(), evaluation_mode(network):
        outputs = network(x.to(device))
    # a mono readout sums up the sequence in one step
    steps = 1 if any(isinstance(module, MonoReadout) for module in network.modules()) else len(x)
    if not isinstance(outputs, Tensor) or outputs.dim() < 3 or outputs.shape[:2] != (steps, x.shape[1]):
        found = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise UsageError(
            f"the network returned {found} for a sequence {list(x.shape)}, expected spikes [T, B, classes]: it must "
            "take time first, then the batch, and return the outputs of all steps"
        )
    classes = outputs.shape[2]
    names = [str(name) for name in class_names] or [str(index) for index in range(classes)]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise UsageError(f"class_names has {twice!r} more than once: give each class a name of its own")
    if len(names) != classes:
        raise UsageError(f"there are {len(names)} class_names, the network has {classes} outputs: give one for each")
    return DataSpec(list(x.shape[2:]), classes, names, kind=kind, levels=levels)


def check_classes(labels: Tensor, classes: int, name: str) -> None:
    """Check that labels are class indices of a network with so many outputs, not other targets.

    Raises:
        DataError: if they are not.
    """
    if labels.dim() != 1 or labels.is_floating_point() or labels.is_complex():
        kind = str(labels.dtype).removeprefix("torch.")
        raise DataError(f"labels of {name} are {kind} {list(labels.shape)}, expected class indices [N]")
    check_labels(labels, classes, name)


def check_labels(labels: Tensor, classes: int, name: str) -> None:
    """Check class indices against the number of outputs.

    Raises:
        DataError: if there is another class.
    """
    if labels.dim() != 1 or not len(labels):
        return
    odd = no_class_indices(labels)
    if len(odd):
        raise DataError(
            f"labels of {name} hold {odd[0]:g}, expected class indices: number classes from 0, or give numbers that "
            "outputs are to have as [N, outputs]"
        )
    low, high = (int(each) for each in labels.aminmax())
    if low < 0 or high >= classes:
        raise DataError(
            f"labels of {name} go from {low} to {high}, the network has {classes} outputs: number classes from 0"
        )
