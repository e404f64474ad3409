"""Samples, what they cause in a network, and what of them spoke for its answer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Integer
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from spiking_lfp.plots.parts import (
    FEW_ROWS,
    Sequence4,
    draw_legend,
    draw_raster,
    draw_sample,
    is_flat,
    mark_size,
    rows_of,
    save,
    strong,
    whole,
)

# red for, blue against
FOR_AND_AGAINST = "RdBu_r"


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
    draw_sample(axes[0], sequence)
    axes[0].set_title(label)
    for place, (name, train) in zip(axes[1:], spikes.items(), strict=True):
        shown = _shown(train)
        draw_raster(place, train[:, shown])
        few = len(shown) <= 10
        place.set(
            title=f"layer {name}",
            ylabel="neuron" if few else f"{len(shown)} of {train.shape[1]} neurons",
            yticks=range(len(shown)) if few else [],
        )
    draw_legend(figure, sequence.shape[1])
    save(figure, path)


def frame_strip(sequence: Sequence4, label: str, path: Path, frames: int = 8) -> None:
    """Draw a recording in parts of equally many steps, side by side, each on a scale of its own.

    Args:
        sequence: its frames; those of a part are added up.
        label: what the sample is, for the title.
        path: PNG file to write.
        frames: how many parts at most; the last one may have fewer steps.
    """
    parts = sequence.split(-(-len(sequence) // frames))
    figure = Figure(figsize=(max(2.8, 1.4 * len(parts)), 2.2), layout="constrained")
    first = 0
    for axes, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        last = first + len(part) - 1
        draw_sample(axes, part)
        axes.set(xticks=[], xlabel="", ylabel="")
        axes.set_title(f"step {first}" if first == last else f"{first} to {last}", fontsize=8)
        first = last + 1
    figure.suptitle(label, fontsize=10)
    draw_legend(figure, sequence.shape[1])
    save(figure, path)


def explanation(
    sequences: Float[Tensor, "steps samples channels height width"],
    feedback: Float[Tensor, "steps samples channels height width"],
    labels: Sequence[str],
    path: Path,
    about: str = "the answer",
) -> None:
    """Draw samples and, with each, which of its inputs spoke for a class and which against it.

    What is drawn is the sum over all steps and channels, where frames are pictures, on a scale of each sample's own.

    Args:
        sequences: what the network saw.
        feedback: of the inputs, as `spiking_lfp.nn.explain.input_feedback` returns it.
        labels: a title for each sample.
        path: PNG file to write.
        about: what was spoken for or against, in words.
    """
    count = len(labels)
    # pairs of rows, about twice as wide as high; a single sample has its pair side by side
    blocks = max(1, round(count**0.5 / 2))
    columns = -(-count // blocks)
    rows, width = (1, 2) if count == 1 else (2 * blocks, columns)
    height = 2.4 if count == 1 else 1.5 * rows + 0.2 * blocks
    beside = 0.8 if sequences.shape[2] == 2 else 0.5  # for the scale, and the legend if there is one
    figure = Figure(figsize=(max(4.8, 1.5 * width), height + beside), layout="constrained")
    places = figure.subplots(rows, width, squeeze=False).reshape(blocks, 2, columns)
    above, beneath = places[:, 0].flatten(), places[:, 1].flatten()
    for index, label in enumerate(labels):
        draw_sample(above[index], sequences[:, index])
        above[index].set_title(label, fontsize=8)
        _draw_feedback(beneath[index], sequences[:, index], feedback[:, index])
        for axes in (above[index], beneath[index]):
            axes.set(xticks=[], xlabel="", ylabel="")
    if is_flat(sequences[:, 0]):
        beneath[0].set_xlabel("step", fontsize=8)
        beneath[0].set_ylabel("inputs", fontsize=8)
    for axes in (*above[count:], *beneath[count:]):
        axes.remove()
    bar = figure.colorbar(
        ScalarMappable(Normalize(-1, 1), FOR_AND_AGAINST),
        ax=[*above[:count], *beneath[:count]],
        location="bottom",
        ticks=[-0.7, 0.7],
        shrink=min(1.0, 3.6 / figure.get_figwidth()),
        aspect=30,
        pad=0.02,
    )
    bar.ax.tick_params(length=0, labelsize=8)
    bar.set_ticklabels([f"against {about}", f"for {about}"])
    draw_legend(figure, sequences.shape[2])
    save(figure, path)


def _draw_feedback(axes: Axes, sequence: Sequence4, feedback: Sequence4) -> None:
    """Draw feedback over what it is about, faintly; the strongest 2 % are all drawn as strongly as can be."""
    if is_flat(sequence):
        draw_raster(axes, rows_of(sequence).sum(1), "0.85")
        values = rows_of(feedback).sum(1)
        bound = strong(values, 0.98)
        steps, rows = (values.abs() > 0.05 * bound).nonzero(as_tuple=True)
        axes.scatter(
            steps.numpy(), rows.numpy(), marker="|", s=mark_size(values.shape[1]), linewidths=1,
            c=values[steps, rows].numpy(), cmap=FOR_AND_AGAINST, vmin=-bound, vmax=bound,
        )  # fmt: skip
        axes.set(yticks=[])
        return
    frame, largest = whole(sequence)
    ink = (frame.mean(0) / largest).clamp(0, 1).numpy()
    # a photograph keeps its light and shade
    axes.imshow(0.7 + 0.3 * ink if len(frame) == 3 else 1 - 0.2 * ink, cmap="gray", vmin=0, vmax=1)
    total = feedback.sum((0, 1))
    bound = strong(total, 0.98)
    opacity = np.clip(2 * total.abs().numpy() / bound, 0, 1)
    axes.imshow(total.numpy(), cmap=FOR_AND_AGAINST, vmin=-bound, vmax=bound, alpha=opacity)
    axes.set(xticks=[], yticks=[])


def _shown(train: Float[Tensor, "steps neurons"]) -> Integer[Tensor, " shown"]:
    if train.shape[1] <= FEW_ROWS:
        return torch.arange(train.shape[1])
    return train.any(0).nonzero().flatten()[:FEW_ROWS]
