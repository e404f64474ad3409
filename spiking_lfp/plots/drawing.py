"""Building blocks of the figures: frames in colours, rasters, legends, files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from spiking_lfp.checks import Values, as_tensor
from spiking_lfp.errors import UsageError
from spiking_lfp.files import RESULTS

Sequence4 = Float[Tensor, "steps channels height width"]

# suffixes of the files that a figure can be written to
PICTURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
ANIMATIONS = (".gif",)
DPI = 120
# inches that a page of the documentation has for a picture, whose text then is as large as the page's
PAGE_WIDTH = 7.5
# more rows than this need smaller marks
FEW_ROWS = 60
# from Okabe and Ito's palette, which the colour-blind can tell apart: events of brighter and of darker pixels
ON, OFF, BLACK = (0, 114, 178), (213, 94, 0), (0, 0, 0)
Colour = tuple[int, int, int]


@contextmanager
def plain_text() -> Iterator[None]:
    """Draw names of classes and folders as they are: what is between two $ in them is no formula."""
    with rc_context({"text.parse_math": False}):
        yield


def on_host(values: Values) -> Tensor:
    """Return numbers to draw as a tensor of real numbers on the host."""
    tensor = as_tensor(values, "values").detach().cpu()
    return tensor if tensor.is_floating_point() else tensor.float()


def frames_of(sequence: Float[Tensor, " steps *sample"]) -> Sequence4:
    """Return a sequence as frames: inputs without an order, and signals, are one pixel high."""
    if sequence.dim() > 4:
        return sequence.flatten(3)
    shape = sequence.shape[1:]
    return sequence.reshape(len(sequence), *shape[:-1], *[1] * (3 - len(shape)), shape[-1])


def rgb_image(frame: Float[Tensor, "channels height width"], largest: float) -> UInt8[np.ndarray, "height width 3"]:
    """Return a frame as RGB: three channels as red, green and blue, others in colours on white.

    Where there are both on and off events their colours are mixed, and the more frequent one dominates; equal numbers
    give grey.

    Args:
        frame: values of at least 0.
        largest: value that is drawn in full colour, greater than 0.
    """
    values = (frame / largest).clamp(0, 1).double().numpy()
    if len(values) == 3:
        return np.moveaxis((255 * values).round().astype(np.uint8), 0, -1)
    shares = np.moveaxis(values, 0, -1) ** 2
    mixed = shares @ np.array(channel_colours(len(values))) / np.maximum(shares.sum(-1, keepdims=True), 1e-12)
    strength = np.minimum(values.sum(0), 1)[..., None]
    image: UInt8[np.ndarray, "height width 3"] = (255 - strength * (255 - mixed)).round().astype(np.uint8)
    return image


def channel_colours(channels: int) -> list[Colour]:
    """Return the colour of each channel of an event frame; of two channels the first is off."""
    return [OFF, ON] if channels == 2 else [BLACK] * channels


def single_frame(sequence: Sequence4) -> tuple[Float[Tensor, "channels height width"], float]:
    """Return one frame for a sequence, the sum of its frames or a constant image, and the value for its full colour."""
    if bool((sequence == sequence[0]).all()):
        return sequence[0], max(1.0, float(sequence[0].max()))
    total = sequence.sum(0)
    return total, magnitude_quantile(total, 0.95)


def magnitude_quantile(values: Float[Tensor, "*shape"], quantile: float) -> float:
    """Return a quantile of the magnitudes of all nonzero values; 1 if all are 0.

    On the scale of the largest magnitude, a few pixels that are always active would leave the others pale.
    """
    magnitudes = values[values != 0].abs()
    return float(magnitudes.quantile(quantile)) if len(magnitudes) else 1.0


def is_flat(sequence: Sequence4) -> bool:
    """Whether frames are those of an audio or tactile sensor, not of a camera: one pixel wide or high, or very long."""
    short, long = sorted(sequence.shape[-2:])
    return short == 1 or long > 8 * short


def rows_of(sequence: Sequence4) -> Float[Tensor, "steps channels rows"]:
    """Return flat frames with one row per input; inputs along the longer side are neighbours."""
    height, width = sequence.shape[-2:]
    return (sequence if width >= height else sequence.transpose(-1, -2)).flatten(2)


def draw_sample(axes: Axes, sequence: Sequence4) -> None:
    """Draw a whole sample: an image, the sum of a camera's frames, or the inputs of another sensor over time."""
    if is_flat(sequence):
        draw_inputs(axes, sequence)
        return
    axes.imshow(rgb_image(*single_frame(sequence)))
    axes.set(xticks=[], yticks=[])


def draw_inputs(axes: Axes, sequence: Sequence4) -> list[PathCollection]:
    """Draw flat frames as a raster over time, and return the marks of each channel."""
    rows = rows_of(sequence)
    axes.set(ylabel=f"{rows.shape[2]} inputs", yticks=[])
    return [
        draw_raster(axes, channel, hex_code(colour))
        for channel, colour in zip(rows.unbind(1), channel_colours(rows.shape[1]), strict=True)
    ]


def draw_raster(axes: Axes, train: Float[Tensor, "steps rows"], colour: str = "black") -> PathCollection:
    """Draw a mark for every nonzero value of `train`, the first row on top, and return the marks."""
    steps, rows = train.nonzero(as_tuple=True)
    size = mark_size(train.shape[1])
    marks = axes.scatter(steps.numpy(), rows.numpy(), marker="|", s=size, color=[colour], linewidths=1)
    axes.set(xlabel="step", xlim=(-1, len(train)), ylim=(train.shape[1] - 0.4, -0.6))
    return marks


def mark_size(rows: int) -> int:
    """Return the area of a mark in a raster, in points squared."""
    return 18 if rows <= FEW_ROWS else 6


def draw_legend(figure: Figure, channels: int) -> None:
    """Draw a legend of the colours below the figure, if its samples have on and off events."""
    if channels == 2:
        polarities = (("on", ON), ("off", OFF))
        patches = [Patch(color=hex_code(colour), label=name) for name, colour in polarities]
        figure.legend(handles=patches, loc="outside lower left", ncols=2, fontsize=8, frameon=False, handlelength=1)


def save(figure: Figure, path: str | Path | None) -> Figure:
    """Write a figure as its suffix in `PICTURES` says, if there is a path, and return it.

    Raises:
        UsageError: for another suffix; without one it is a PNG file.
        RunError: if it cannot be written; no incomplete file is left behind.
    """
    FigureCanvasAgg(figure)
    if path is not None:
        path = Path(path)
        check_suffix(path, PICTURES)
        RESULTS.write(path, rendered(figure, path.suffix))
    return figure


def rendered(figure: Figure, suffix: str = ".png") -> bytes:
    """Return the content of a file with this suffix, of `PICTURES`."""
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png" if suffix.lower() not in PICTURES else suffix[1:].lower(), dpi=DPI)
    return buffer.getvalue()


def check_suffix(path: Path, suffixes: Sequence[str]) -> None:
    """Raise a UsageError if a file that has a suffix has none of these; that of `lr0.1` is part of a number."""
    if not path.suffix[1:].isdecimal() and path.suffix and path.suffix.lower() not in suffixes:
        *others, last = suffixes
        ends = f"{', '.join(others)} or {last}" if others else last
        raise UsageError(f"cannot write {path}: its name must end in {ends}")


def hex_code(colour: Colour) -> str:
    """Return a colour as matplotlib takes it."""
    return "#" + bytes(colour).hex()
