"""Pictures of runs, samples and networks, as PNG and GIF files."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from spiking_lfp.training.files import write_atomically

# more neurons than this become a random-looking thicket
SHOWN_NEURONS = 60
# of Okabe and Ito's palette for all kinds of sight: what became brighter, and darker
ON, OFF = (0, 114, 178), (213, 94, 0)
DPI = 120

Sequence4 = Float[Tensor, "steps channels height width"]


def learning_curve(metrics: list[dict[str, Any]], path: Path) -> None:
    """Draw accuracy over training from the lines of a run's metrics.

    Args:
        metrics: as `spiking_lfp.training.read_metrics` returns them, with at least one finished epoch.
        path: PNG file to write.
    """
    epochs = [line for line in metrics if line["kind"] == "epoch"]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*_recent_accuracy(metrics), color="tab:blue", alpha=0.6, label="training, latest batches")
    held_out = "validation" if epochs[0]["validation"] else "test"
    accuracies = [100 * line[held_out]["accuracy"] for line in epochs]
    axes.plot([line["epoch"] for line in epochs], accuracies, "o-", color="tab:orange", label=held_out)
    axes.annotate(
        f"{accuracies[-1]:.2f} %",
        (epochs[-1]["epoch"], accuracies[-1]),
        (-4, -14),
        textcoords="offset points",
        ha="right",
    )
    axes.set(xlabel="epoch", ylabel="accuracy [%]", title="Learning by feedback, without a surrogate gradient")
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def spike_raster(
    sequence: Sequence4, spikes: dict[str, Float[Tensor, "steps neurons"]], label: str, path: Path
) -> None:
    """Draw one sample and the spikes it causes, layer by layer.

    Args:
        sequence: what the network saw: an image in every step, or the frames of a recording.
        spikes: per layer, its spikes in time; at most the first 60 neurons that spike are shown.
        label: what the sample is, for the title.
        path: PNG file to write.
    """
    figure = Figure(figsize=(2 + 2.4 * len(spikes), 3.2), layout="constrained")
    axes = figure.subplots(1, 1 + len(spikes), width_ratios=[1.0] + [1.2] * len(spikes))
    _draw_sample(axes[0], sequence, label)
    for place, (name, train) in zip(axes[1:], spikes.items(), strict=True):
        shown = _shown(train)
        _draw_raster(place, train[:, shown])
        few = len(shown) <= 10
        place.set(
            title=f"layer {name}",
            ylabel="neuron" if few else f"{len(shown)} of {train.shape[1]} neurons",
            yticks=range(len(shown)) if few else [],
        )
    _save(figure, path)


def frame_strip(sequence: Sequence4, path: Path, frames: int = 8) -> None:
    """Draw frames of a recording side by side.

    Args:
        sequence: the frames.
        path: PNG file to write.
        frames: how many, evenly chosen, at most.
    """
    chosen = np.unique(np.linspace(0, len(sequence) - 1, min(frames, len(sequence))).round().astype(int))
    figure = Figure(figsize=(1.4 * len(chosen), 1.7), layout="constrained")
    for axes, step in zip(np.atleast_1d(figure.subplots(1, len(chosen))), chosen, strict=True):
        axes.imshow(picture(sequence[step], float(sequence.max())))
        axes.set(title=f"step {step}", xticks=[], yticks=[])
    _save(figure, path)


def animation(
    sequence: Sequence4,
    spikes: Float[Tensor, "steps classes"],
    class_names: Sequence[str],
    label: str,
    path: Path,
    fps: float = 8.0,
) -> None:
    """Animate a sample with the spikes of the network's outputs beneath it, step by step.

    Args:
        sequence: the frames that the network saw.
        spikes: of the outputs.
        class_names: of the outputs.
        label: what the sample is, for the title.
        path: GIF file to write.
        fps: steps per second.
    """
    largest, pages = float(sequence.max()), []
    for step in range(len(sequence)):
        figure = Figure(figsize=(4.2, 4.4), layout="constrained")
        top, raster, bars = figure.subplot_mosaic(
            [["sample", "sample"], ["raster", "counts"]], height_ratios=[1.5, 1], width_ratios=[1.6, 1]
        ).values()
        top.imshow(picture(sequence[step], largest), aspect="auto" if _is_flat(sequence) else "equal")
        top.set(xticks=[], yticks=[])
        top.set_title(f"{label}\nstep {step + 1} of {len(sequence)}", fontsize=9)
        seen = spikes.clone()
        seen[step + 1 :] = 0
        _draw_raster(raster, seen)
        names = {"yticks": range(len(class_names)), "yticklabels": class_names} if len(class_names) <= 12 else {}
        raster.set(xlim=(-1, len(sequence)), **names)
        raster.tick_params(labelsize=6)
        counts = seen.sum(0)
        bars.barh(
            range(len(counts)), counts.numpy(), color=["0.7" if n < counts.max() else "tab:green" for n in counts]
        )
        bars.set(xlim=(0, max(1, int(spikes.sum(0).max()))), ylim=raster.get_ylim(), yticks=[], xlabel="spikes")
        pages.append(Image.open(BytesIO(_png(figure))).convert("P", palette=Image.Palette.ADAPTIVE, colors=64))
    buffer = BytesIO()
    pages[0].save(
        buffer, "GIF", save_all=True, append_images=pages[1:], duration=round(1000 / fps), loop=0, optimize=False
    )
    write_atomically(path, buffer.getvalue())


def explanation(
    sequences: Float[Tensor, "steps samples channels height width"],
    feedback: Float[Tensor, "steps samples channels height width"],
    labels: Sequence[str],
    path: Path,
) -> None:
    """Draw samples and, under each, which inputs spoke for the class (red) and against it (blue), over all steps.

    Args:
        sequences: what the network saw.
        feedback: of the inputs, as `explain.input_feedback` returns it.
        labels: a title for each sample.
        path: PNG file to write.
    """
    count = sequences.shape[1]
    figure = Figure(figsize=(max(3.0, 1.6 * count), 3.6), layout="constrained")
    above, beneath = figure.subplots(2, count, squeeze=False)
    for index, label in enumerate(labels):
        _draw_sample(above[index], sequences[:, index], label, small=True)
        total = feedback[:, index].sum((0, 1)).numpy()
        bound = max(float(np.abs(total).max()), 1e-30)
        flat = _is_flat(sequences[:, index])
        # the sample faintly behind it
        shape = sequences[:, index].sum((0, 1)).numpy()
        aspect = "auto" if flat else "equal"
        beneath[index].imshow(shape > 0, cmap="gray_r", alpha=0.12, aspect=aspect, vmin=0, vmax=1)
        faded = np.clip(np.abs(total) / bound * 2, 0, 1)
        beneath[index].imshow(total, cmap="RdBu_r", vmin=-bound, vmax=bound, alpha=faded, aspect=aspect)
        beneath[index].set(xticks=[], yticks=[])
    beneath[0].set_ylabel("for (red), against (blue)", fontsize=8)
    _save(figure, path)


def picture(frame: Float[Tensor, "channels height width"], largest: float) -> Integer[np.ndarray, "height width 3"]:
    """Return a frame as RGB: two channels as off and on events on white, three as colours, one as ink.

    Args:
        frame: values of at least 0.
        largest: the value that is drawn as strongly as can be.
    """
    values = (frame / max(largest, 1e-30)).clamp(0, 1).cpu().numpy()
    if len(values) == 3:
        return (255 * np.moveaxis(values, 0, -1)).astype(np.uint8)
    inks = [np.array(OFF), np.array(ON)] if len(values) == 2 else [np.zeros(3)] * len(values)
    shown = np.full((*values.shape[1:], 3), 255.0)
    for channel, ink in zip(values, inks, strict=True):
        shown -= channel[..., None] * (255 - ink)
    return shown.clip(0, 255).astype(np.uint8)


def _draw_sample(axes: Axes, sequence: Sequence4, label: str, small: bool = False) -> None:
    """Draw a whole sample: an image, the sum of a camera's frames, or the inputs of another sensor over time."""
    size = 8 if small else 10
    if _is_flat(sequence):
        _draw_raster(axes, sequence.flatten(1))
        axes.set(ylabel="input", yticks=[])
        axes.set_title(label, fontsize=size)
        return
    total = sequence.sum(0)
    # a few pixels that never rest would leave the others pale
    strongest = float(torch.quantile(total[total > 0].float(), 0.95)) if bool((total > 0).any()) else 1.0
    axes.imshow(picture(total, float(total.max()) if len(total) != 2 else strongest))
    axes.set(xticks=[], yticks=[])
    axes.set_title(label, fontsize=size)
    if len(total) == 2 and not small:
        axes.set_xlabel("on blue, off orange")


def _is_flat(sequence: Tensor) -> bool:
    """Tell whether frames are no pictures: those of ears and skins."""
    height, width = sequence.shape[-2:]
    return max(height, width) > 8 * min(height, width)


def _draw_raster(axes: Axes, train: Tensor) -> None:
    steps, rows = train.nonzero(as_tuple=True)
    many = train.shape[1] > SHOWN_NEURONS
    axes.scatter(steps.numpy(), rows.numpy(), marker="|", s=2 if many else 18, color="black", linewidths=1)
    axes.set(xlabel="step", xlim=(-1, len(train)), ylim=(-0.6, train.shape[1] - 0.4))


def _recent_accuracy(metrics: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Return epochs and accuracies in percent of the samples between one line of metrics and the next."""
    epochs, accuracies = [], []
    samples = correct = 0.0
    for line in metrics:
        if line["kind"] == "epoch":
            samples = correct = 0.0
            continue
        right = line["accuracy"] * line["samples"]
        epochs.append(line["epoch"] - 1 + line["batch"] / line["batches"])
        accuracies.append(100 * (right - correct) / (line["samples"] - samples))
        samples, correct = line["samples"], right
    return epochs, accuracies


def _shown(train: Tensor) -> Integer[Tensor, " shown"]:
    if train.shape[1] <= SHOWN_NEURONS:
        return train.new_ones(train.shape[1]).nonzero().flatten()
    return train.any(0).nonzero().flatten()[:SHOWN_NEURONS]


def _png(figure: Figure, dpi: int = 90) -> bytes:
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def _save(figure: Figure, path: Path) -> None:
    write_atomically(path, _png(figure, DPI))
