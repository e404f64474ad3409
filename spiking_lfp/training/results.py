"""What a run has come to: its network and history, predictions and evaluation."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spiking_lfp.data import Progress, Samples, Split
from spiking_lfp.data.encoding import Encoder
from spiking_lfp.data.inputs import InputReader
from spiking_lfp.data.own import as_tensor
from spiking_lfp.data.recipes import OWN
from spiking_lfp.data.spec import DataSpec
from spiking_lfp.data.values import encoder_of
from spiking_lfp.errors import RunError, UsageError
from spiking_lfp.nn.layers import evaluation_mode
from spiking_lfp.nn.noise import noise_of
from spiking_lfp.training.checkpoint import METRICS
from spiking_lfp.training.config import TrainConfig
from spiking_lfp.training.devices import pick_device
from spiking_lfp.training.feeds import EVALUATION_BATCH, Feed, SplitFeed
from spiking_lfp.training.files import read_metrics
from spiking_lfp.training.loop import Evaluation, evaluate, reward_of
from spiking_lfp.training.own import checked_encoder, dtype_of, feed_of
from spiking_lfp.training.restore import convert_misfits, restore_network
from spiking_lfp.training.runs import adapted, build, checkpoint_of, read_config, samples_for, with_whole_paths
from spiking_lfp.training.sources import stored_network


@dataclass(frozen=True)
class Prediction:
    """The answers of a network.

    Attributes:
        scores: spikes per step of each output, or its mean membrane, float `[N, C]`.
        class_names: of the outputs.

    Example:
        >>> answers = Prediction(torch.tensor([[0.1, 0.6], [0.5, 0.2]]), ("cat", "dog"))
        >>> answers.names, answers.labels.tolist()
        (['dog', 'cat'], [1, 0])
    """

    scores: Tensor
    class_names: tuple[str, ...]

    @property
    def labels(self) -> Tensor:
        """The class that spiked most, int64 `[N]`; a tie goes to the first."""
        return self.scores.argmax(-1)

    @property
    def names(self) -> list[str]:
        """The name of that class for each sample."""
        return [self.class_names[label] for label in self.labels.tolist()]


@dataclass
class Run:
    """A run that has a checkpoint.

    Attributes:
        folder: with its files.
        config: all settings.
        network: with the weights of the last checkpoint, in evaluation mode.
        data: what is known of the samples it was trained on.
        encoder: from values `[B, ...]` to sequences `[T, B, ...]`; None for that of the settings.
        epochs: those that the last checkpoint has finished.

    Example:
        >>> samples = torch.rand(60, 8), torch.arange(60) % 2
        >>> network = nn.Sequential(LIF(nn.Linear(8, 16)), LIF(nn.Linear(16, 2), threshold=0.1))
        >>> run = fit(network, samples, samples, class_names=["left", "right"], epochs=2, steps=5, progress=False)
        >>> [epoch["epoch"] for epoch in run.history], run.evaluate(samples).samples
        ([1, 2], 60)
        >>> len(run.predict(torch.rand(3, 8)).names)
        3
    """

    folder: Path
    config: TrainConfig
    network: nn.Module
    data: DataSpec
    encoder: Callable[[Tensor], Tensor] | None = None
    epochs: int = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, or their numbers."""
        return tuple(self.data.class_names) or tuple(map(str, range(self.data.classes)))

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next((each.device for each in self.network.parameters()), torch.device("cpu"))

    @property
    def history(self) -> list[dict[str, Any]]:
        """One dict for each epoch: `epoch`, `seconds`, `lr`, and `train`, `test` or `validation` with `accuracy`.

        Raises:
            RunError: if the run's metrics cannot be read, or lack epochs that its checkpoint has finished.
        """
        found = [line for line in read_metrics(self.folder) if line["kind"] == "epoch"]
        if len(found) < self.epochs:
            raise RunError(
                f"{self.folder / METRICS} has {len(found)} epochs of the {self.epochs} that the checkpoint has: resume "
                "the run, which brings them back, or restore the file"
            )
        return found

    @property
    def encode(self) -> Callable[[Tensor], Tensor]:
        """From values `[B, ...]` to sequences `[T, B, ...]`: by the run's own encoder, or as its settings say."""
        return self._encoder_of_settings() if self.encoder is None else checked_encoder(self.encoder)

    def predict(self, values: Any) -> Prediction:
        """Classify values as those the network was trained on.

        Args:
            values: `[N, ...]`, an array or tensor; or a list of sequences `[T, ...]`, of any lengths.

        Raises:
            DataError: if they are no numbers.
            UsageError: if their shape is another than that of the training samples.

        Example:
            >>> digits = subset(load_dataset("mnist-subset"), train=100, test=10)
            >>> samples = digits.train_images, digits.train_labels
            >>> run = fit(mlp(hidden=(20,), gain=3.0), samples, samples, epochs=1, steps=5, progress=False)
            >>> run.predict(digits.test_images).labels.shape
            torch.Size([10])
        """
        if isinstance(values, list | tuple):
            samples = [as_tensor(value, "values", real=False) for value in values]  # the encoder says what it takes
            if len({sample.shape for sample in samples}) > 1:
                return Prediction(torch.cat([self.predict(each[None]).scores for each in samples]), self.class_names)
            values = torch.stack(samples) if samples else torch.empty(0)
        tensor = as_tensor(values, "values", real=False)
        encode = self.encode
        scores = [torch.empty(0, self.data.classes)]
        for keys in torch.arange(len(tensor)).split(EVALUATION_BATCH) if len(tensor) else ():
            with noise_of(keys.to(self.device)):
                x = encode(tensor[keys].to(self.device))
                if list(x.shape[2:]) != self.data.in_shape:
                    raise UsageError(
                        f"a step of a sample is {list(x.shape[2:])}, the network was trained on "
                        f"{self.data.in_shape}: give values [N, ...] of that shape"
                    )
                scores.append(self._scores(x))
        return Prediction(torch.cat(scores), self.class_names)

    def _scores(self, x: Tensor) -> Tensor:
        """Return the outputs of sequences `[T, N, ...]`, averaged over time, on the host."""
        with torch.no_grad(), evaluation_mode(self.network):
            outputs: Tensor = self.network(x.to(self.device, dtype_of(self.network)))
        return outputs.float().mean(0).cpu()

    @property
    def reader(self) -> InputReader:
        """Reads new files as samples for the network.

        Raises:
            UsageError: if the run was trained with an encoder given in Python.
        """
        return InputReader(self.config.recipe, self.config.inputs, self._encoder_of_settings(), self.data)

    def predict_files(self, paths: str | Path | Sequence[str | Path]) -> tuple[list[str], Prediction]:
        """Classify files: images, recordings or signals, as those the network was trained on; or arrays of samples.

        Args:
            paths: of files, or of folders of such files; or one of these.

        Returns:
            the names of the samples, and what the network says of them.

        Raises:
            DataError: naming a file that is missing, cannot be read, or gives samples of another shape.
            UsageError: if the run was trained with an encoder given in Python.
        """
        reader = self.reader
        names: list[str] = []
        scores = [torch.empty(0, self.data.classes)]
        for path in reader.files(paths):
            for sample in reader.read(path):
                names.append(sample.name)
                x = sample.values[:, None] if sample.is_sequence else None
                scores.append(self.predict(sample.values[None]).scores if x is None else self._scores(x))
        return names, Prediction(torch.cat(scores), self.class_names)

    def evaluate(self, samples: Any = None, data_root: str | Path | None = None) -> Evaluation:
        """Measure the network on labelled samples.

        Args:
            samples: as for `fit`; or a data set by name, or a path, whose classes are found by their names; None for
                the test samples of the training data, if these have a name.
            data_root: folder of the data sets by name.

        Raises:
            DataError: if the samples cannot be read, or have classes that the network does not know.
            UsageError: if they do not fit the network.
        """
        if samples is None or isinstance(samples, str | Path):
            samples = self.samples(samples, data_root)
        if isinstance(samples, Samples):
            feed: Feed = SplitFeed(as_trained(samples, self.data).test.to(self.device))
        elif isinstance(samples, Split):
            feed = SplitFeed(samples.to(self.device))
        else:
            feed = feed_of(samples, self.encode, self.device, self.data.classes, "samples")
        reward = reward_of(self.config, self.network)
        return evaluate(self.network, feed, self.config.chunk, reward, self.class_names)

    def _encoder_of_settings(self) -> Encoder:
        encoder = encoder_of(self.config.inputs, self.config.recipe, dtype_of(self.network))
        return replace(
            encoder, mean=tuple(self.data.mean), deviation=tuple(self.data.deviation), pixels=self.data.pixels
        )

    def samples(
        self, data: str | Path | None = None, data_root: str | Path | None = None, progress: Progress | None = None
    ) -> Samples:
        """Load the samples of the training, or others, read as these; labels and class names are those of the network.

        Args:
            data: a data set by name, or a path; None for the data of the training.
            data_root: folder of the data sets by name.
            progress: called with the numbers of files ready and in all.

        Raises:
            DataError: if they cannot be read.
            UsageError: if they do not fit the network, have classes that it does not know, or have no name.
        """
        if data is None:
            return as_trained(samples_for(self.config, data_root, progress), self.data)
        config = with_whole_paths(self.config.model_copy(update={"data": str(data)}))
        return as_trained(samples_for(config, data_root, progress, True, self.data.sensor_shape), self.data)


def as_trained(samples: Samples, data: DataSpec) -> Samples:
    """Return samples whose labels are those that a network knows by the same names.

    Raises:
        UsageError: if the shape of samples or their sensor is another, or a class is unknown.
    """
    if samples.sensor and data.sensor and list(samples.sensor) != data.sensor:
        found, known = (f"{width} x {height}" for _, height, width in (samples.sensor, data.sensor))
        raise UsageError(
            f"the recordings of {samples.name} are of a sensor of {found} pixels, the network was trained on {known}: "
            "give data of that sensor"
        )
    if samples.rate and data.rate and samples.rate != data.rate:
        raise UsageError(
            f"the signals of {samples.name} have {samples.rate:g} samples a second, the network was trained on "
            f"{data.rate:g}: convert them"
        )
    if samples.channels and data.channels and list(samples.channels) != data.channels:
        raise UsageError(
            f"the signals of {samples.name} have the columns {', '.join(samples.channels)}, the network was trained on "
            f"{', '.join(data.channels)}: give those in this order"
        )
    train, test = (_by_class_name(samples, split, data) for split in (samples.train, samples.test))
    names = tuple(data.class_names) or samples.class_names
    return replace(samples, train=train, test=test, class_names=names)


def _by_class_name(samples: Samples, split: Split, data: DataSpec) -> Split:
    if list(samples.sample_shape) != data.in_shape:
        raise UsageError(
            f"the samples of {samples.name} are {list(samples.sample_shape)}, the network was trained on "
            f"{data.in_shape}: give data of that shape"
        )
    encoder = getattr(split, "encoder", None)
    if isinstance(encoder, Encoder) and (encoder.mean or data.pixels):  # as for the samples it was trained on
        scaled = replace(encoder, mean=tuple(data.mean), deviation=tuple(data.deviation), pixels=data.pixels)
        split = replaced(split, encoder=scaled)
    if not data.class_names:  # an old run, which does not know them
        if len(samples.class_names) != data.classes:
            raise UsageError(
                f"{samples.name} has {len(samples.class_names)} classes, the network {data.classes}: give other data"
            )
        return split
    if list(samples.class_names) == data.class_names:
        return split
    unknown = [name for name in samples.class_names if name not in data.class_names]
    if unknown:
        raise UsageError(
            f"{samples.name} has the class {unknown[0]!r}, the network knows {', '.join(data.class_names)}: rename or "
            "remove it"
        )
    device = split.labels.device
    if split.labels.dim() > 1:  # a value for each output
        lacking = next((name for name in data.class_names if name not in samples.class_names), None)
        if lacking is not None:
            raise UsageError(
                f"{samples.name} has values for {', '.join(samples.class_names)}, the network has the outputs "
                f"{', '.join(data.class_names)}: add those of {lacking}"
            )
        columns = torch.tensor([samples.class_names.index(name) for name in data.class_names], device=device)
        return replaced(split, labels=split.labels[:, columns])
    numbers = torch.tensor([data.class_names.index(name) for name in samples.class_names], device=device)
    return replaced(split, labels=numbers[split.labels])


def replaced(split: Split, **changes: Any) -> Split:
    """Return a split with other attributes."""
    some: Any = split
    changed: Split = replace(some, **changes)
    return changed


def load_run(folder: str | Path, device: str = "auto", network: nn.Module | None = None) -> Run:
    """Load the run in a folder.

    Args:
        folder: of a run.
        device: where the network goes.
        network: one like that of the run, for the weights, if the run does not store its own.

    A run that is not finished is loaded as its last checkpoint left it, with a warning that says where that was.

    Raises:
        RunError: if `folder` holds no readable run.
        UsageError: if the network is made by a function that fails.

    Example:
        >>> samples = torch.rand(60, 8), torch.arange(60) % 2
        >>> network = nn.Sequential(LIF(nn.Linear(8, 2), threshold=0.1))
        >>> trained = fit(network, samples, samples, out="runs/sides", epochs=1, steps=5, progress=False)
        >>> run = load_run("runs/sides")
        >>> torch.equal(run.predict(samples[0]).scores, trained.predict(samples[0]).scores)
        True
    """
    folder = Path(folder)
    config = read_config(folder)
    checkpoint = checkpoint_of(folder, config)
    with convert_misfits(folder):
        if network is not None:
            network = adapted(network, config, checkpoint.data.levels)
        elif config.network == OWN:
            network = stored_network(folder)
        else:
            network = build(config, checkpoint.data)
    restore_network(network, checkpoint, folder)
    progress = checkpoint.progress
    if progress.epoch < config.epochs and not progress.stopped:
        warnings.warn(
            f"the run in {folder} is not finished: this is its network in epoch {progress.epoch + 1} of "
            f"{config.epochs}, after {progress.batch} updates of it; finish it with spiking-lfp train --resume or "
            "fit(..., resume=True)",
            stacklevel=2,
        )
    return Run(folder, config, network.to(pick_device(device)).eval(), checkpoint.data, epochs=progress.epoch)
