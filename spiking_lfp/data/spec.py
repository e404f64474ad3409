"""What a network must know of the data it was trained on to be asked about others."""

from dataclasses import dataclass, field

from spiking_lfp.events.records import Sensor
from spiking_lfp.nn.execution import LEVELS

VALUES, SIGNALS, EVENTS = "values", "signals", "events"


@dataclass(frozen=True)
class DataSpec:
    """What a network was trained on, so that it can be asked about other data.

    Attributes:
        in_shape: shape of one sample in one step.
        classes: number of classes, or of outputs.
        class_names: empty if they are not known.
        sensor: polarities, height and width of the sensor of recordings; empty if there is none.
        mean: what was subtracted from the values of each channel; empty for nothing.
        deviation: by what they were divided then.
        kind: "values" for images and others, "signals", or "events" for recordings of events.
        levels: the integer that stands for an input of 1, in integers: 255 for real numbers, 1 for spikes.
        pixels: whether values were uint8, which stand for 0 to 1.
        rate: samples per second of signals whose rate counts; 0 if it does not, or is not known.
        channels: names of the columns of tables of signals; empty if they have none.
    """

    in_shape: list[int]
    classes: int
    class_names: list[str] = field(default_factory=list)
    sensor: list[int] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    deviation: list[float] = field(default_factory=list)
    kind: str = VALUES
    levels: int = LEVELS
    pixels: bool = False
    rate: float = 0.0
    channels: list[str] = field(default_factory=list)

    @property
    def sensor_shape(self) -> Sensor | None:
        """The sensor, or None if there is none or it is not known."""
        if not self.sensor:
            return None
        polarities, height, width = self.sensor
        return polarities, height, width
