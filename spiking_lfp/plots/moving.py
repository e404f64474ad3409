"""Animations of samples and output spikes."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from spiking_lfp.checks import Values
from spiking_lfp.files import RESULTS
from spiking_lfp.plots.drawing import (
    ANIMATIONS,
    Sequence4,
    check_suffix,
    draw_inputs,
    draw_legend,
    draw_raster,
    frames_of,
    is_flat,
    magnitude_quantile,
    on_host,
    plain_text,
    rgb_image,
    single_frame,
)

SHOWN_CLASSES = 12
PALETTE_COLOURS = 128
# how long the last frame, with the prediction, is shown
LAST_FRAME_MS = 1500
WINNER, OTHERS, TRUE_CLASS = "#009e73", "0.75", "#fff3c4"

# draws a panel in its state after a step
Show = Callable[[int], None]


@plain_text()
def animation(
    sequence: Values,
    spikes: Values,
    class_names: Sequence[str],
    label: int,
    path: str | Path,
    fps: float = 8.0,
) -> None:
    """Animate a sample and, below it, the output spikes and their counts: the class with the most is the prediction.

    Args:
        sequence: the inputs of the network, frames `[T, C, H, W]` or any others, `[T, ...]`.
        spikes: output spikes, `[T, classes]`; of more than 12 classes the true one and those with the most spikes are
            shown.
        class_names: the names of the outputs.
        label: the true class, which is highlighted.
        path: GIF file to write, with a frame for each step.
        fps: steps per second.

    Raises:
        UsageError: if the file has another suffix.
        RunError: if the file cannot be written.

    Example:
        >>> animation(torch.rand(3, 1, 8, 8), torch.eye(3)[:, :2], ["cat", "dog"], 0, "sample.gif")
    """
    path = Path(path)
    check_suffix(path, ANIMATIONS)
    sequence, spikes = frames_of(on_host(sequence)), on_host(spikes)
    classes = _classes_to_show(spikes, label)
    figure = Figure(figsize=(4.4, 4.7), dpi=110, layout="constrained")
    top, raster, bars = figure.subplot_mosaic(
        [["sample", "sample"], ["raster", "counts"]], height_ratios=[1.5, 1], width_ratios=[1.6, 1]
    ).values()
    panels = [_sample(top, sequence), _raster(raster, spikes[:, classes]), _bars(bars, spikes[:, classes])]
    names = [class_names[index] for index in classes.tolist()]
    raster.set_yticks(range(len(names)), names)
    raster.set_ylabel("class" if len(names) == spikes.shape[1] else f"{len(names)} of {spikes.shape[1]} classes")
    bars.set(ylim=raster.get_ylim(), yticks=[])
    true = classes.tolist().index(label)
    raster.get_yticklabels()[true].set_fontweight("bold")
    for axes in (raster, bars):
        axes.axhspan(true - 0.5, true + 0.5, color=TRUE_CLASS, zorder=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axes in (top, raster, bars):
        axes.tick_params(labelsize=8)
        axes.xaxis.label.set_fontsize(8)
        axes.yaxis.label.set_fontsize(8)
    draw_legend(figure, sequence.shape[1])
    frames = []
    for step in range(len(sequence)):
        for show in panels:
            show(step)
        top.set_title(f"{class_names[label]}, step {step}", fontsize=10)
        frames.append(_render(figure))
        figure.set_layout_engine("none")  # the layout must not change after the first frame
    RESULTS.write(path, _gif(frames, fps))


def _sample(axes: Axes, sequence: Sequence4) -> Show:
    if is_flat(sequence):
        return _show_up_to_step(draw_inputs(axes, sequence))
    frame, largest = single_frame(sequence)
    if not bool((sequence == sequence[0]).all()):
        largest = magnitude_quantile(sequence, 0.95)
    image = axes.imshow(rgb_image(frame, largest))
    axes.set(xticks=[], yticks=[])
    return lambda step: image.set_data(rgb_image(sequence[step], largest))


def _raster(axes: Axes, spikes: Float[Tensor, "steps classes"]) -> Show:
    show_marks = _show_up_to_step([draw_raster(axes, spikes)])
    current_step = axes.axvline(0, color="0.6", linewidth=0.8, zorder=0.5)

    def show(step: int) -> None:
        show_marks(step)
        current_step.set_xdata([step, step])

    return show


def _bars(axes: Axes, spikes: Float[Tensor, "steps classes"]) -> Show:
    counts = spikes.cumsum(0).numpy()
    bars = axes.barh(range(counts.shape[1]), counts[-1], height=0.7)
    axes.set(xlim=(0, max(1, 1.05 * counts.max())), xlabel="spikes so far")

    def show(step: int) -> None:
        for bar, count in zip(bars, counts[step], strict=True):
            bar.set_width(count)
            bar.set_color(WINNER if count == counts[step].max() else OTHERS)

    return show


def _show_up_to_step(marks: list[PathCollection]) -> Show:
    """Return a function that shows the marks up to a step and hides the later ones."""
    all_offsets = [np.asarray(each.get_offsets()) for each in marks]

    def show(step: int) -> None:
        for each, offsets in zip(marks, all_offsets, strict=True):
            each.set_offsets(offsets[offsets[:, 0] <= step])

    return show


def _classes_to_show(spikes: Float[Tensor, "steps classes"], label: int) -> Int[Tensor, " shown"]:
    counts = spikes.sum(0)
    counts[label] = len(spikes) + 1
    return counts.argsort(descending=True, stable=True)[:SHOWN_CLASSES].sort().values


def _render(figure: Figure) -> UInt8[np.ndarray, "height width 3"]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _gif(frames: list[UInt8[np.ndarray, "height width 3"]], fps: float) -> bytes:
    """Return an animated GIF with one palette for all frames: it is smaller, and still areas do not flicker."""
    palette = Image.fromarray(np.concatenate([frames[0], frames[len(frames) // 2], frames[-1]])).quantize(
        PALETTE_COLOURS, Image.Quantize.FASTOCTREE
    )
    first, *others = (Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    buffer = BytesIO()
    first.save(
        buffer,
        "GIF",
        save_all=True,
        append_images=others,
        loop=0,
        duration=[round(1000 / fps)] * len(others) + [LAST_FRAME_MS],
    )
    return buffer.getvalue()
