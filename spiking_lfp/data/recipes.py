"""How recordings become sequences: every choice, typed and checked."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from spiking_lfp.errors import UsageError
from spiking_lfp.events.transforms import AUGMENTATIONS, augmentation

# what torch can address; memory ends long before
LARGEST = 10**15


def _known(text: str) -> str:
    try:
        augmentation(text)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return text


class EventRecipe(BaseModel):
    """From a recording to a sequence `[T, P, H, W]`; with the files, it determines what is cached."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(
        25, ge=1, le=LARGEST, description="T, time steps for which an image is shown, bins of a recording"
    )
    window_ms: float = Field(
        0.0, ge=0, le=1e9, description="time of a recording that makes a sample, 0 for all from first to last event"
    )
    windows: Literal["first", "all"] = Field(
        "first", description="of each recording only the first window, or as many samples as fit one after the other"
    )
    min_events: int = Field(0, ge=0, description="leave out windows with fewer events")
    bin_by: Literal["time", "count"] = Field("time", description="bins of equal time, or of equally many events")
    values: Literal["binary", "count"] = Field("binary", description="whether events came, or how many, up to 255")
    polarities: int = Field(2, ge=1, le=2, description="channels: on and off apart, or together")
    crop: int = Field(0, ge=0, description="side of the middle of the sensor to keep, in pixels, 0 for all")
    centre: bool = Field(False, description="move the median of the events to the middle of the sensor")
    downsample: int = Field(1, ge=1, description="side of the squares of pixels that become one")
    denoise_us: int = Field(0, ge=0, description="drop events without a neighbour within so many us before, 0 for none")
    augment: tuple[Annotated[str, Field(pattern="^.+$")], ...] = Field(
        (), description=f"random changes of training recordings, NAME=STRENGTH of {', '.join(AUGMENTATIONS)}"
    )
    copies: int = Field(
        1, ge=1, le=10_000, description="of each training recording, one an epoch, the first as it is, others augmented"
    )
    test_session: str = Field(
        "", description="folder of recordings to test by; others train; if empty, what the data set says"
    )

    @model_validator(mode="after")
    def _augmentations_are_known(self) -> "EventRecipe":
        for text in self.augment:
            _known(text)
        if bool(self.augment) != (self.copies > 1):
            raise ValueError("augment and copies go together: name changes, and 2 copies at least")
        if self.windows == "all" and not self.window_ms:
            raise ValueError("windows = all needs window_ms greater than 0")
        return self
