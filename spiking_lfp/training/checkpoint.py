"""Checkpoints: the file from which a run is resumed, its fields, its versions, and how it is written and read."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, get_origin, get_type_hints
from zipfile import ZipFile

import torch
from torch import Tensor

from spiking_lfp.errors import RunError
from spiking_lfp.files import RESULTS
from spiking_lfp.training.step import Meter

CHECKPOINT = "checkpoint.pt"
VERSION = 3


@dataclass
class Progress:
    """How far a run has come."""

    epoch: int = 0
    batch: int = 0
    best_accuracy: float = -1.0
    epochs_since_best: int = 0
    stopped: bool = False
    metrics_size: int = 0
    meter: Meter = field(default_factory=Meter)


@dataclass(frozen=True)
class Checkpoint:
    """All that is needed to resume a run.

    Attributes:
        config: settings of the run.
        in_shape: shape of one sample in one step.
        classes: number of classes.
        network: state dict of the network.
        optimizer: state dict of the optimiser.
        schedule: state dict of the learning-rate schedule.
        progress: how far the run has come.
        random: state of torch's random generator on the CPU.
        random_cuda: the same for the GPU, if the run uses one.
    """

    config: dict[str, Any]
    in_shape: list[int]
    classes: int
    network: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    progress: Progress
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
        torch.save({"format": VERSION, **content, "progress": asdict(self.progress)}, buffer)
        RESULTS.write(folder / CHECKPOINT, buffer.getvalue())

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
                content = _MIGRATIONS[content["format"]](content)
            del content["format"]
            checkpoint: Checkpoint = _typed(cls, content, "it")
        except (KeyError, TypeError) as error:
            reason = f"it lacks {error.args[0]}" if isinstance(error, KeyError) else error
            raise RunError(f"{path} was not written by train: {reason}; restore it or train again") from None
        return checkpoint


def _migrate_from_2(content: dict[str, Any]) -> dict[str, Any]:
    """Migrate from version 2, which stored the shape of the samples and the number of classes in one dict."""
    data = content.pop("data")
    return {**content, "in_shape": data["in_shape"], "classes": data["classes"], "format": 3}


# each migrates from its version to the next
_MIGRATIONS: dict[Any, Callable[[dict[str, Any]], dict[str, Any]]] = {2: _migrate_from_2}


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
    plain = get_origin(kind) if get_origin(kind) in (dict, list) else kind
    if not isinstance(value, plain):
        raise TypeError(f"its {name} is {type(value).__name__}, expected {getattr(plain, '__name__', plain)}")
    return value
