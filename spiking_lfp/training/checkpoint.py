"""Checkpoints: the file from which a run is resumed, its fields, its versions, and how it is written and read."""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints
from zipfile import ZipFile

import torch
from torch import Tensor

from spiking_lfp.data.event_sets import is_event_set
from spiking_lfp.data.spec import EVENTS, DataSpec
from spiking_lfp.errors import RunError
from spiking_lfp.files import RESULTS, read_regular
from spiking_lfp.training.step import Meter

CHECKPOINT, METRICS = "checkpoint.pt", "metrics.jsonl"
VERSION = 8


@dataclass
class Progress:
    """How far a run has come."""

    epoch: int = 0
    batch: int = 0
    best_accuracy: float = -1.0
    epochs_since_best: int = 0
    stopped: bool = False
    meter: Meter = field(default_factory=Meter)

    def is_possible(self, epochs: int, batches: int, layers: Collection[str]) -> bool:
        """Tell whether a run of so many epochs and batches, with these layers, can have come so far."""
        meter = self.meter
        numbers = [self.best_accuracy, meter.reward, *meter.rates.values()]
        return (
            0 <= self.epoch <= epochs
            and 0 <= self.batch < batches
            and (self.epoch < epochs or self.batch == 0)
            and 0 <= self.epochs_since_best <= self.epoch
            and 0 <= meter.correct <= meter.samples
            and (meter.samples > 0) == (self.batch > 0)
            and meter.rates.keys() <= set(layers)
            and all(map(isfinite, numbers))
        )


@dataclass(frozen=True)
class Checkpoint:
    """All that is needed to resume a run.

    Attributes:
        config: settings of the run.
        data: what is known of the samples.
        network: state dict of the network.
        layers: what the weights that the run began with do not tell of each layer, by name, in the words of
            `restore.described`; empty for networks by name and in a checkpoint of an older version.
        optimizer: state dict of the optimiser.
        schedule: state dict of the learning-rate schedule.
        progress: how far the run has come.
        metrics: content of the run's metrics; None in a checkpoint of an older version whose metrics are lost.
        samples: fingerprint of the samples; None in a checkpoint of an older version.
        random: state of torch's random generator on the CPU.
        random_cuda: the same for the GPU, if the run uses one.
    """

    config: dict[str, Any]
    data: DataSpec
    network: dict[str, Any]
    layers: dict[str, str]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    progress: Progress
    metrics: str | None
    samples: str | None
    random: Tensor
    random_cuda: Tensor | None

    def save(self, folder: Path) -> None:
        """Write the checkpoint of the run in `folder`.

        Raises:
            RunError: if it cannot be written.
        """
        # asdict would copy the tensors
        content = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        buffer = BytesIO()
        try:
            torch.save(
                {"format": VERSION, **content, "data": asdict(self.data), "progress": asdict(self.progress)}, buffer
            )
        except (MemoryError, RuntimeError):  # torch says something else about its own file
            raise RunError(
                f"cannot write {folder / CHECKPOINT}: out of memory; lower batch_size or steps, or end other programs"
            ) from None
        RESULTS.write(folder / CHECKPOINT, buffer.getbuffer())

    @classmethod
    def load(cls, folder: Path) -> "Checkpoint":
        """Load the checkpoint of the run in `folder` onto the CPU; no code in the file is executed.

        Raises:
            RunError: if it is missing, damaged, incomplete, or of an unknown version.
        """
        path = folder / CHECKPOINT
        if not path.is_file():
            raise RunError(
                f"no checkpoint in {folder}: expected {path}; give the folder of a run that has written a checkpoint"
            )
        try:
            with ZipFile(path) as archive:  # torch writes checksums but does not compare them
                damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(damaged)
            content = torch.load(path, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception:  # torch raises all kinds of errors for damaged files
            raise RunError(f"{path} is damaged or not a checkpoint: restore it from a copy or train again") from None
        version = content.get("format") if isinstance(content, dict) else None
        if not isinstance(version, int) or version not in (VERSION, *_MIGRATIONS):
            known = ", ".join(map(str, [*_MIGRATIONS, VERSION]))
            raise RunError(
                f"{path} has format {version}, this version reads format {known}: choose another run, or train again"
            )
        try:
            while content["format"] != VERSION:
                content = _MIGRATIONS[content["format"]](content, folder)
            del content["format"]
            checkpoint: Checkpoint = _typed(cls, content, "it")
        except (KeyError, TypeError, ValueError) as error:
            reason = f"it lacks {error.args[0]}" if isinstance(error, KeyError) else error
            raise RunError(f"{path} was not written by train: {reason}; restore it or train again") from None
        return checkpoint


def _migrate_from_2(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Migrate from version 2, which stored the shape of the samples and the number of classes in one dict."""
    data = content.pop("data")
    return {**content, "in_shape": data["in_shape"], "classes": data["classes"], "format": 3}


def _migrate_from_3(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Migrate from version 3, which stored how long the metrics are, and nothing of the samples."""
    progress, metrics = dict(content["progress"]), None
    size = progress.pop("metrics_size")
    with suppress(OSError, UnicodeDecodeError):
        kept = read_regular(folder / METRICS)[:size]
        metrics = kept.decode() if len(kept) == size else None
    return {**content, "progress": progress, "metrics": metrics, "samples": None, "format": 4}


def _migrate_from_4(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Migrate from version 4, which stored of the data only the shape and the number of classes."""
    data = DataSpec(content.pop("in_shape"), content.pop("classes"))
    if is_event_set(content["config"]["data"]):
        data = replace(data, kind=EVENTS, levels=1)
    return {**content, "data": asdict(data), "format": 5}


def _migrate_from_5(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Migrate from version 5, which stored of the network only its state dict, and not whether values were pixels."""
    return {**content, "layers": {}, "data": {**content["data"], "pixels": False}, "format": 6}


def _migrate_from_6(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Migrate from version 6, which did not store the rate of signals."""
    return {**content, "data": {**content["data"], "rate": 0.0}, "format": 7}


def _migrate_from_7(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Migrate from version 7, which did not store the names of channels."""
    return {**content, "data": {**content["data"], "channels": []}, "format": 8}


# each migrates from its version to the next
_MIGRATIONS: dict[Any, Callable[[dict[str, Any], Path], dict[str, Any]]] = {
    2: _migrate_from_2,
    3: _migrate_from_3,
    4: _migrate_from_4,
    5: _migrate_from_5,
    6: _migrate_from_6,
    7: _migrate_from_7,
}


def _typed(kind: Any, value: Any, name: str) -> Any:
    """Check that `value` is of type `kind`; if `kind` is a dataclass, make an instance of it from a dict of its fields.

    Raises:
        TypeError: if `value` is of another type, or its fields are not those of the dataclass.
    """
    if is_dataclass(kind) and isinstance(value, dict):
        kinds: dict[str, Any] = get_type_hints(kind)
        for relation, names in (("lacks", kinds.keys() - value), ("has unknown", value.keys() - kinds)):
            if names:
                raise TypeError(f"{name} {relation} {', '.join(sorted(map(str, names)))}")
        make: Any = kind
        return make(**{entry: _typed(kinds[entry], value[entry], entry) for entry in kinds})
    plain, inner = (get_origin(kind), get_args(kind)) if get_origin(kind) in (dict, list) else (kind, ())
    if not isinstance(value, plain) or (plain in (int, float) and isinstance(value, bool)):
        raise TypeError(f"its {name} is {type(value).__name__}, expected {getattr(plain, '__name__', plain)}")
    if inner and inner[-1] is not Any:
        for each in value.values() if isinstance(value, dict) else value:
            _typed(inner[-1], each, f"value in {name}")
    return value
