"""Settings of how recordings are turned into sequences, typed and checked."""

from collections.abc import Collection, Mapping
from textwrap import shorten
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from spiking_lfp.arguments import describe
from spiking_lfp.data.encoding import ENCODERS, IN_TIME
from spiking_lfp.errors import UsageError, unknown_name
from spiking_lfp.events.files import LARGEST_SIDE, Hints, TimeUnit
from spiking_lfp.events.records import Sensor
from spiking_lfp.events.transforms import AUGMENTATIONS, augmentation

# what torch can address; memory is exhausted long before
LARGEST = 10**15
# a microsecond, the unit of times of events
SHORTEST_MS = 0.001
# in place of a name: given in Python
OWN = "own"
# settings of inputs that kinds of samples use
OF_VALUES = ("encoding", "encoding_neurons", "normalize")
OF_IMAGES = (*OF_VALUES, "shift", "flip", "cutout")
OF_FILES = (*OF_IMAGES, "image_size", "colour")
OF_SOUND = (*OF_VALUES, "signal_rate", "mel_bands")
# what files of one's own do not say, and those of data sets by name need not; these have a split of their own, too
OF_OWN_RECORDINGS = ("chip", "time_unit", "column_order", "test_session")
# settings of recordings that signals use, too
OF_SIGNALS = ("test_session", "window_ms", "windows", "values")


def _check_augmentation(text: str) -> str:
    try:
        augmentation(text)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return text


class OneOf:
    """Accepts only the names in a registry; called as a validator."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = names

    def __call__(self, name: str) -> str:
        """Return the name."""
        if name not in self.names:
            raise ValueError(f"Input should be {', '.join(map(repr, self.names))}")
        return name


def one_of(registry: Collection[str]) -> AfterValidator:
    """Make a validator that accepts only the names in a registry."""
    return AfterValidator(OneOf(registry))


class Settings(BaseModel):
    """Settings that users give in Python: what is wrong with them is told in one sentence."""

    def __init__(self, **settings: Any) -> None:
        fields = type(self).model_fields
        for name in settings:
            if name not in fields:
                raise unknown_name("setting", name, fields)
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise _in_one_sentence(error) from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise UsageError(
            f"settings do not change, {name} neither: make others, as by .model_copy(update={{{name!r}: {value!r}}})"
        )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some settings changed, which pydantic does not check.

        Raises:
            UsageError: as for a new one.
        """
        return type(self)(**{**dict(self), **(update or {})})


def _in_one_sentence(error: ValidationError) -> UsageError:
    problem = error.errors()[0]
    name = ".".join(str(key) for key in problem["loc"])
    if problem["type"] == "string_type":
        return UsageError(
            f"setting {name} = {describe(problem['input'])}: expected its name, a text; spiking-lfp presets custom "
            "shows what there is"
        )
    prefix = f"setting {name} = {shorten(repr(problem['input']), 80)}: " if name else ""
    return UsageError(f"{prefix}{problem['msg'].removeprefix('Value error, ')}")


class Recipe(Settings):
    """Settings that turn samples into sequences."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    # settings that some samples have no use for
    particular: ClassVar[tuple[str, ...]]

    def check_used(self, title: str, used: Collection[str] = ()) -> None:
        """Refuse settings that would change nothing.

        Args:
            title: what samples there are.
            used: the particular settings that these samples have a use for.

        Raises:
            UsageError: with the name of a setting that was changed and is not used.
        """
        for name in self.particular:
            found, default = getattr(self, name), type(self).model_fields[name].default
            if name not in used and found != default:
                shown = ", ".join(map(str, found)) if isinstance(found, tuple) else found
                raise UsageError(f"{name} = {shown} changes nothing of {title}: leave it at {default!r}")


class InputRecipe(Recipe):
    """How images, signals and other values are turned into sequences."""

    particular: ClassVar[tuple[str, ...]] = (
        "encoding", "encoding_neurons", "normalize", "shift", "flip", "cutout", "image_size", "colour", "signal_rate",
        "mel_bands",
    )  # fmt: skip

    encoding: Annotated[str, one_of((*ENCODERS, *IN_TIME, OWN))] = Field(
        default="constant",
        description="encoding of images and other values: constant input, random spikes by rate, or one spike by "
        "latency; of signals: sequence for their values, or delta for spikes where they change",
    )
    delta_threshold: float = Field(
        default=0.1, gt=0, description="change of a signal that makes a spike of encoding delta, in its own units"
    )
    encoding_neurons: int = Field(
        default=0,
        ge=0,
        le=LARGEST,
        description="neurons with Gaussian receptive fields that encode a value, 0 for none",
    )
    shift: int = Field(
        default=0,
        ge=0,
        le=100,
        description="largest random shift of training images in pixels, from the second epoch on",
    )
    flip: bool = Field(
        default=False, description="mirror half of the training images, left to right, from the second epoch on"
    )
    cutout: int = Field(
        default=0,
        ge=0,
        le=LARGEST_SIDE,
        description="side of a square of training images that becomes their mean, from the second epoch on; 0 for none",
    )
    image_size: str = Field(
        default="",
        pattern=r"^([1-9][0-9]*x[1-9][0-9]*)?$",
        description="WIDTHxHEIGHT to which the images of a folder are scaled; if empty, all must have one size",
    )
    colour: Literal["auto", "grey", "rgb"] = Field(
        default="auto", description="channels of the images of a folder; auto takes grey if all of them are grey"
    )
    normalize: bool = Field(
        default=False, description="subtract the mean of the training images, by channel, and divide by their deviation"
    )
    signal_rate: float = Field(
        default=0.0, ge=0, description="samples per second of signals in files that do not say it, 0 for not known"
    )
    mel_bands: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="bands of the mel scale in which sound becomes energies, 0 for sound as it is",
    )
    hop_ms: float = Field(default=10.0, gt=0, le=1e4, description="time from one window of mel_bands to the next in ms")

    centre_bands: bool = Field(
        default=False,
        description="subtract from each of mel_bands its mean over a recording, what microphone and voice add to all "
        "of it: for new speakers",
    )

    @model_validator(mode="after")
    def _hops_are_of_bands(self) -> "InputRecipe":
        if self.centre_bands and not self.mel_bands:
            raise ValueError("centre_bands is about mel_bands, which is 0: set mel_bands, too")
        if self.hop_ms != type(self).model_fields["hop_ms"].default and not self.mel_bands:
            raise ValueError("hop_ms is the time between windows of mel_bands, which is 0: set mel_bands, too")
        return self

    @model_validator(mode="after")
    def _normalized_values_are_real(self) -> "InputRecipe":
        if self.normalize and self.encoding in ("rate", "latency", "delta"):
            raise ValueError(f"normalize does not go with encoding {self.encoding}: take constant or sequence")
        return self


class EventRecipe(Recipe):
    """How a recording is turned into a sequence `[T, P, H, W]`; with the files, it determines what is cached.

    Each field is a setting: `spiking-lfp presets custom` says what it means.

    Raises:
        UsageError: for names that are no settings, and values that do not fit.

    Example:
        >>> recipe = EventRecipe(steps=10, window_ms=100.0, windows="all", downsample=2)
        >>> recipe.model_copy(update={"steps": 20}).steps
        20
    """

    particular: ClassVar[tuple[str, ...]] = (
        "window_ms", "windows", "min_events", "bin_by", "values", "polarities", "crop", "centre", "downsample",
        "denoise_us", "augment", "test_session", "chip", "time_unit", "column_order", "sensor",
    )  # fmt: skip

    steps: int = Field(
        default=25,
        ge=0,
        le=LARGEST,
        description="T, time steps for which an image is shown, or bins of a recording or signal; 0 leaves signals as "
        "they are",
    )
    window_ms: float = Field(
        default=0.0,
        ge=0,
        le=1e9,
        description="duration of a sample in ms, 0 for the whole recording, from first to last event",
    )
    windows: Literal["first", "all"] = Field(
        default="first",
        description="take only the first window of each recording, or cut it into as many windows as fit",
    )
    min_events: int = Field(default=0, ge=0, description="leave out windows of windows=all with fewer events")
    bin_by: Literal["time", "count"] = Field(
        default="time", description="bins of equal time, or of equally many events"
    )
    values: Literal["binary", "count"] = Field(
        default="binary", description="what a pixel holds per bin: whether it had events, or how many, up to 255"
    )
    polarities: int = Field(default=2, ge=1, le=2, description="channels: on and off events separately, or together")
    crop: int = Field(
        default=0, ge=0, description="side of the central square of the sensor to keep, in pixels, 0 for all"
    )
    centre: bool = Field(default=False, description="shift events so that their median is at the centre of the sensor")
    downsample: int = Field(
        default=1, ge=1, le=LARGEST_SIDE - 1, description="side of the squares of pixels that are merged into one"
    )
    denoise_us: int = Field(
        default=0,
        ge=0,
        le=LARGEST,
        description="drop events without a neighbour within so many us before, 0 to keep all",
    )
    augment: tuple[Annotated[str, Field(pattern="^.+$")], ...] = Field(
        default=(), description=f"random changes of training recordings, NAME=STRENGTH of {', '.join(AUGMENTATIONS)}"
    )
    copies: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="versions of a training recording, one per epoch: the original, then augmented",
    )
    test_session: str = Field(
        default="",
        description="folder of the test recordings, or speaker of spoken-digits, the others are for training; if "
        "empty, the data set's own split",
    )

    chip: str = Field(
        default="", description="camera of AEDAT files that name none, such as v2e's: davis346, davis240, dvs128"
    )
    time_unit: TimeUnit = Field(
        default="auto", description="unit of times in text, NumPy and HDF5 files; auto: us, and s if they are decimals"
    )
    column_order: str = Field(
        default="",
        description="columns of text, NumPy and HDF5 files that do not name them, as txyp; if empty, what fits",
    )

    @property
    def hints(self) -> Hints:
        """What the files do not say."""
        return Hints(self.chip, self.time_unit, self.column_order)

    @model_validator(mode="after")
    def _hints_are_known(self) -> "EventRecipe":
        try:
            _ = self.hints
        except UsageError as error:
            raise ValueError(str(error)) from None
        return self

    sensor: str = Field(
        default="",
        pattern=r"^([1-9][0-9]*x[1-9][0-9]*)?$",
        description="WIDTHxHEIGHT of the sensor in a folder of recordings, for files that do not name it; recordings "
        "of files that name another one are scaled to it; if empty, all files must have one size",
    )

    @property
    def sensor_shape(self) -> Sensor | None:
        """Polarities, height and width of the setting `sensor`."""
        if not self.sensor:
            return None
        width, height = map(int, self.sensor.split("x"))
        return (2, height, width)

    @field_validator("sensor")
    @classmethod
    def _sensor_is_possible(cls, text: str) -> str:
        if text and max(map(int, text.split("x"))) > LARGEST_SIDE:
            raise ValueError(f"a sensor has at most {LARGEST_SIDE} pixels on a side, found {text}")
        return text

    @model_validator(mode="after")
    def _augmentations_are_known(self) -> "EventRecipe":
        for text in self.augment:
            _check_augmentation(text)
        if bool(self.augment) != (self.copies > 1):
            raise ValueError("augment and copies go together: set augment and at least 2 copies, or neither")
        if self.windows == "all" and not self.window_ms:
            raise ValueError("windows = all needs window_ms greater than 0")
        if 0 < self.window_ms < SHORTEST_MS:
            raise ValueError(
                f"window_ms = {self.window_ms:g} is less than a microsecond: give {SHORTEST_MS} or more, or 0 for the "
                "whole recording"
            )
        if self.min_events and self.windows != "all":
            raise ValueError("min_events leaves out windows of windows = all: set windows=all and window_ms, too")
        return self
