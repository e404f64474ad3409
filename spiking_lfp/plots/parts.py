"""What the pictures are made of: frames as colours, rasters, files."""

from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from spiking_lfp.files import RESULTS

Sequence4 = Float[Tensor, "steps channels height width"]

DPI = 120
# more rows than this need smaller marks
FEW_ROWS = 60
# of Okabe and Ito's palette for all kinds of sight: what became brighter, and darker
ON, OFF, BLACK = (0, 114, 178), (213, 94, 0), (0, 0, 0)
Ink = tuple[int, int, int]


def picture(frame: Float[Tensor, "channels height width"], largest: float) -> UInt8[np.ndarray, "height width 3"]:
    """Return a frame as RGB: three channels as the colours that they are, others as inks on white.

    Where events are both on and off, inks are mixed, and what there is more of prevails: equally many give grey.

    Args:
        frame: values of at least 0.
        largest: the value that is drawn as strongly as can be, greater than 0.
    """
    values = (frame / largest).clamp(0, 1).double().numpy()
    if len(values) == 3:
        return np.moveaxis((255 * values).round().astype(np.uint8), 0, -1)
    shares = np.moveaxis(values, 0, -1) ** 2
    mixed = shares @ np.array(inks(len(values))) / np.maximum(shares.sum(-1, keepdims=True), 1e-12)
    strength = np.minimum(values.sum(0), 1)[..., None]
    inked: UInt8[np.ndarray, "height width 3"] = (255 - strength * (255 - mixed)).round().astype(np.uint8)
    return inked


def inks(channels: int) -> list[Ink]:
    """Return the colours of the channels of events: off comes first if there are two."""
    return [OFF, ON] if channels == 2 else [BLACK] * channels


def whole(sequence: Sequence4) -> tuple[Float[Tensor, "channels height width"], float]:
    """Return one frame for all, and its value to be drawn strongest: the sum of frames, or an image as it is."""
    if bool((sequence == sequence[0]).all()):
        return sequence[0], max(1.0, float(sequence[0].max()))
    total = sequence.sum(0)
    return total, strong(total, 0.95)


def strong(values: Float[Tensor, "*shape"], share: float) -> float:
    """Return the magnitude that the given share of values other than 0 do not exceed; 1 if all are 0.

    Drawn on the scale of the largest one, a few pixels that never rest would leave the others pale.
    """
    sizes = values[values != 0].abs()
    return float(sizes.quantile(share)) if len(sizes) else 1.0


def is_flat(sequence: Sequence4) -> bool:
    """Tell whether frames are no pictures, but those of ears and skins: one pixel wide or high, or very long."""
    short, long = sorted(sequence.shape[-2:])
    return short == 1 or long > 8 * short


def rows_of(sequence: Sequence4) -> Float[Tensor, "steps channels rows"]:
    """Return flat frames with a row for each input, those along the longer side next to each other."""
    height, width = sequence.shape[-2:]
    return (sequence if width >= height else sequence.transpose(-1, -2)).flatten(2)


def draw_sample(axes: Axes, sequence: Sequence4) -> None:
    """Draw a whole sample: an image, the sum of a camera's frames, or the inputs of another sensor over time."""
    if is_flat(sequence):
        draw_inputs(axes, sequence)
        return
    axes.imshow(picture(*whole(sequence)))
    axes.set(xticks=[], yticks=[])


def draw_inputs(axes: Axes, sequence: Sequence4) -> list[PathCollection]:
    """Draw flat frames as a raster over time, and return the marks of each channel."""
    rows = rows_of(sequence)
    axes.set(ylabel=f"{rows.shape[2]} inputs", yticks=[])
    return [
        draw_raster(axes, channel, _in_matplotlib(ink))
        for channel, ink in zip(rows.unbind(1), inks(rows.shape[1]), strict=True)
    ]


def draw_raster(axes: Axes, train: Float[Tensor, "steps rows"], colour: str = "black") -> PathCollection:
    """Draw a mark for everything in `train` that is not 0, rows upwards, and return the marks."""
    steps, rows = train.nonzero(as_tuple=True)
    size = mark_size(train.shape[1])
    marks = axes.scatter(steps.numpy(), rows.numpy(), marker="|", s=size, color=[colour], linewidths=1)
    axes.set(xlabel="step", xlim=(-1, len(train)), ylim=(-0.6, train.shape[1] - 0.4))
    return marks


def mark_size(rows: int) -> int:
    """Return the area of a mark in a raster, in points squared."""
    return 18 if rows <= FEW_ROWS else 6


def draw_legend(figure: Figure, channels: int) -> None:
    """Say beneath the figure what its colours mean, if its samples have on and off events."""
    if channels == 2:
        named = (("on", ON), ("off", OFF))
        patches = [Patch(color=_in_matplotlib(ink), label=name) for name, ink in named]
        figure.legend(handles=patches, loc="outside lower left", ncols=2, fontsize=8, frameon=False, handlelength=1)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a whole PNG file, or nothing."""
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    RESULTS.write(path, buffer.getvalue())


def _in_matplotlib(ink: Ink) -> str:
    return "#" + bytes(ink).hex()
