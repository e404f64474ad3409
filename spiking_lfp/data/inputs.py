"""New files for a trained network: read and converted as those it was trained on."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from spiking_lfp.data.arrays import open_arrays
from spiking_lfp.data.encoding import Encoder, as_pixels
from spiking_lfp.data.folders import IMAGES, RECORDINGS, SIGNALS, Kind, ReadOwn, files_of
from spiking_lfp.data.images import read_images
from spiking_lfp.data.own import as_tensor
from spiking_lfp.data.recipes import EventRecipe, InputRecipe
from spiking_lfp.data.recordings import Listing, Sample
from spiking_lfp.data.samples import MakeFrames, no_windows, window_number, windows_of
from spiking_lfp.data.sound import read_sound
from spiking_lfp.data.spec import EVENTS, VALUES, DataSpec
from spiking_lfp.errors import DataError, UsageError, some
from spiking_lfp.events.records import Sensor

_ARRAYS = (".npy", ".npz")


class Input(NamedTuple):
    """One sample of a file.

    Attributes:
        name: of the file, with the number of the window or row if it gives several.
        values: of a sample before it is encoded, or, if `is_sequence`, `[T, ...]`.
        is_sequence: whether nothing is to be encoded any more.
    """

    name: str
    values: Tensor
    is_sequence: bool


@dataclass(frozen=True)
class InputReader:
    """Reads files as samples for a network.

    Attributes:
        recipe: of recordings.
        inputs: of images, signals and other values.
        encoder: from values to sequences.
        data: what the network was trained on.
    """

    recipe: EventRecipe
    inputs: InputRecipe
    encoder: Encoder
    data: DataSpec

    def files(self, paths: str | Path | Sequence[str | Path]) -> list[Path]:
        """Return files, and in place of folders the files in them that can be samples; a path alone is one path.

        Raises:
            DataError: if a path is not there, or a folder has no such files.
        """
        found: list[Path] = []
        for given in map(Path, (paths,) if isinstance(paths, str | Path) else paths):
            if given.is_dir():
                inside, others = files_of(given, replace(self._kind, suffixes=self._suffixes))
                if not inside:
                    raise DataError(
                        f"{given} holds no {self._kind.noun}: they end in {', '.join(self._suffixes)}; name other files"
                    )
                text = [path for path in others if path.suffix.lower() in self._suffixes]
                if text:
                    warnings.warn(
                        f"{len(text):,} files of text in {given}, which has other {self._kind.noun}, are left out: "
                        f"{some(text)}; name them if they are {self._kind.noun}, too",
                        stacklevel=2,
                    )
                found += inside
            elif given.is_file():
                found.append(given)
            else:
                raise DataError(f"there is no file {given}: name files or folders that exist")
        return found

    def read(self, path: Path) -> list[Input]:
        """Return the samples of a file: one, or as many as it has windows or rows.

        Raises:
            DataError: if it cannot be read, or gives samples of another shape, of NaN or infinity, or no pixels where
                the network takes them.
        """
        if path.suffix.lower() not in self._suffixes:
            raise DataError(
                f"{path} cannot be classified: the network was trained on {self._kind.noun}, which end in "
                f"{', '.join(self._suffixes)}"
            )
        if self.data.kind == EVENTS:
            found = self._recording(path)
        elif self.data.kind == VALUES:
            found = self._arrays(path) if path.suffix.lower() in _ARRAYS else [self._image(path)]
        else:
            found = self._signal(path)
        found = [sample._replace(values=self._checked(sample)) for sample in found]
        for sample in found:
            x = sample.values[:, None] if sample.is_sequence else self._encoded(sample.name, sample.values)
            if list(x.shape[2:]) != self.data.in_shape:
                raise DataError(
                    f"a step of {sample.name} is {list(x.shape[2:])}, the network was trained on {self.data.in_shape}: "
                    "give samples of that shape"
                )
        return found

    def _checked(self, sample: Input) -> Tensor:
        """Return values of a sample as the network takes them; what is wrong with them is said of its file."""
        values = sample.values
        if values.is_floating_point() and not bool(values.isfinite().all()):
            raise DataError(f"{sample.name} holds NaN or infinity: repair or remove it")
        try:
            return as_pixels(values) if self.data.pixels and not sample.is_sequence else values
        except UsageError as error:
            raise DataError(f"{sample.name}: {error}") from None

    def _encoded(self, name: str, values: Tensor) -> Tensor:
        """Return values as a sequence `[T, 1, ...]`; what is wrong with them is said of their file."""
        try:
            return self.encoder(values[None])
        except UsageError as error:
            raise DataError(f"{name}: {error}") from None

    @property
    def _kind(self) -> Kind:
        return {EVENTS: RECORDINGS, VALUES: IMAGES}.get(self.data.kind, SIGNALS)

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return (*self._kind.suffixes, *(_ARRAYS if self.data.kind == VALUES else ()))

    def _image(self, path: Path) -> Input:
        """Read an image, scaled to the size that the network takes."""
        channels, *sides = self.data.in_shape[:3]
        size = self.inputs.image_size or (f"{sides[1]}x{sides[0]}" if len(sides) == 2 else "")
        return Input(str(path), read_images([path], size, "grey" if channels == 1 else "rgb")[0], False)

    def _arrays(self, path: Path) -> list[Input]:
        """Read one sample, or several along the first axis."""
        with open_arrays(path) as arrays:
            names = [name for name in ("x", "X", "values", "images", "data") if name in arrays] or [*arrays]
            if not names:
                raise DataError(f"{path} holds no arrays: give it samples, or remove it")
            if len(arrays) > 1 and names[0] not in ("x", "X", "values", "images", "data"):
                raise DataError(f"{path} holds {some(names)}: call the samples x, or put them into a file of their own")
            values = as_tensor(arrays[names[0]], f"the values of {path}")
        if not values.dim():
            raise DataError(f"{path} holds one number, expected samples: give an array of them")
        shape = self.data.in_shape[:-1] if self.encoder.neurons else self.data.in_shape
        if shape[0] == 1 and list(values.shape[-2:]) == shape[1:] and values.dim() in (2, 3):
            values = values.unsqueeze(-3)  # grey images without their channel
        if values.dim() == len(shape):
            return [Input(str(path), values, False)]
        return [Input(f"{path}[{row}]", each, False) for row, each in enumerate(values)]

    def _signal(self, path: Path) -> list[Input]:
        inputs = self.inputs
        signal = read_sound(path, inputs.signal_rate, inputs.mel_bands, inputs.hop_ms, inputs.centre_bands)
        signal.check_rate(self.data.rate, path)
        signal.check_channels(self.data.channels, path)
        windows = signal.windows(self.recipe.window_ms, self.recipe.windows == "all", path)
        return [
            Input(name, self._encoded(name, torch.from_numpy(window))[:, 0], True)
            for name, window in zip(_numbered(path, len(windows)), windows, strict=True)
        ]

    def _recording(self, path: Path) -> list[Input]:
        hints = replace(self.recipe.hints, of_others=True)
        listing = Listing(("",), self._sensor, ReadOwn(self._sensor, hints), (), ())
        samples = windows_of([Sample(path, 0)], listing, self.recipe)
        if not samples:
            raise DataError(f"{path} {no_windows(self.recipe)}: leave it out")
        recipe = self.recipe.model_copy(update={"augment": (), "copies": 1})
        make = MakeFrames(listing.read, recipe)
        return [
            Input(name, torch.from_numpy(make((sample, 0, 0))).float(), True)
            for name, sample in zip(_named(path, samples, self.recipe), samples, strict=True)
        ]

    @property
    def _sensor(self) -> Sensor | None:
        """The sensor of recordings that do not name theirs; others are scaled to it."""
        if self.data.sensor:
            return self.data.sensor_shape
        _, height, width = self.data.in_shape  # an old run does not know its sensor
        return None if self.recipe.crop or self.recipe.downsample > 1 else (2, height, width)


def _named(path: Path, samples: Sequence[Sample], recipe: EventRecipe) -> list[str]:
    """Return names of the windows of a recording, by their numbers if one may be left out."""
    numbers = [window_number(sample, recipe) for sample in samples]
    return [str(path)] if numbers == [0] else [f"{path}[{number}]" for number in numbers]


def _numbered(path: Path, count: int) -> list[str]:
    return [str(path)] if count == 1 else [f"{path}[{number}]" for number in range(count)]
