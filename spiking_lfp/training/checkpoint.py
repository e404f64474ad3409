"""A run at one moment, as a file that it goes on from: its fields, its versions, and how it is read."""

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
    """Where a run stands."""

    epoch: int = 0
    batch: int = 0
    best_accuracy: float = -1.0
    epochs_since_best: int = 0
    stopped: bool = False
    metrics_size: int = 0
    meter: Meter = field(default_factory=Meter)


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on.

    Attributes:
        config: its settings.
        in_shape: of one sample in one step.
        classes: how many.
        network: its state, as torch keeps it.
        optimizer: likewise.
        schedule: likewise, of the learning rate.
        progress: where it stands.
        random: state of torch's generator on the CPU.
        random_cuda: likewise on the GPU, if the run is on one.
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
        content = {each.name: getattr(self, each.name) for each in fields(self)}
        buffer = BytesIO()
        torch.save({"format": VERSION, **content, "progress": asdict(self.progress)}, buffer)
        RESULTS.write(folder / CHECKPOINT, buffer.getvalue())

    @classmethod
    def load(cls, folder: Path) -> "Checkpoint":
        """Read the checkpoint of the run in `folder` onto the CPU, executing nothing.

        Raises:
            RunError: if there is none, or it is damaged, of another version, or not complete.
        """
        path = folder / CHECKPOINT
        if not path.is_file():
            raise RunError(f"no checkpoint in {folder}: expected {path}; give the folder of a run that trained a while")
        try:
            with ZipFile(path) as archive:  # torch writes checksums but does not compare them
                damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(damaged)
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # torch raises what it happens to stumble over
            raise RunError(f"{path} is damaged or no checkpoint: restore it from a copy or train again") from None
        found = content.get("format") if isinstance(content, dict) else None
        if not isinstance(found, int) or found not in (VERSION, *_MIGRATIONS):
            known = ", ".join(map(str, [*_MIGRATIONS, VERSION]))
            raise RunError(f"{path} has format {found}, this version reads format {known}: take another, or train anew")
        try:
            while content["format"] != VERSION:
                content = _MIGRATIONS[content["format"]](content)
            del content["format"]
            checkpoint: Checkpoint = _of_kind(cls, content, "it")
        except (KeyError, TypeError) as error:
            reason = f"it lacks {error.args[0]}" if isinstance(error, KeyError) else error
            raise RunError(f"{path} was not written by train: {reason}; restore it or train again") from None
        return checkpoint


def _from_2(content: dict[str, Any]) -> dict[str, Any]:
    """Version 2 kept the shape of the samples and the number of classes together."""
    data = content.pop("data")
    return {**content, "in_shape": data["in_shape"], "classes": data["classes"], "format": 3}


# from a version to the next
_MIGRATIONS: dict[Any, Callable[[dict[str, Any]], dict[str, Any]]] = {2: _from_2}


def _of_kind(kind: Any, found: Any, name: str) -> Any:
    """Return `found`, which must be of this type, or have the fields of this dataclass: then an instance of it.

    Raises:
        TypeError: if it is neither.
    """
    if is_dataclass(kind) and isinstance(found, dict):
        kinds: dict[str, Any] = get_type_hints(kind)
        for relation, names in (("lacks", kinds.keys() - found), ("has unknown", found.keys() - kinds)):
            if names:
                raise TypeError(f"{name} {relation} {', '.join(sorted(map(str, names)))}")
        make: Any = kind
        return make(**{each: _of_kind(kinds[each], found[each], each) for each in kinds})
    plain = get_origin(kind) if get_origin(kind) in (dict, list) else kind
    if not isinstance(found, plain):
        raise TypeError(f"its {name} is {type(found).__name__}, expected {getattr(plain, '__name__', plain)}")
    return found
