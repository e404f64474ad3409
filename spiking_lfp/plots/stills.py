"""Still figures: samples, the spikes they cause in a network, and the inputs that explain its prediction."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Integer
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from spiking_lfp.checks import Values, lengths_within
from spiking_lfp.errors import UsageError
from spiking_lfp.plots.drawing import (
    FEW_ROWS,
    ON,
    PAGE_WIDTH,
    Sequence4,
    draw_legend,
    draw_raster,
    draw_sample,
    frames_of,
    hex_code,
    is_flat,
    magnitude_quantile,
    mark_size,
    on_host,
    plain_text,
    rows_of,
    save,
    single_frame,
)

# names of more classes than this do not fit beside a panel
FEW_CLASSES = 20
# red for positive feedback, blue for negative
FEEDBACK_COLOURS = "RdBu_r"


@plain_text()
def spike_raster(
    sequence: Values,
    spikes: Mapping[str, Values],
    label: str,
    path: str | Path | None = None,
    class_names: Sequence[str] = (),
    title: str = "",
    outputs: Values | None = None,
) -> Figure:
    """Draw one sample and the spikes it causes, layer by layer.

    Args:
        sequence: input of the network, `[T, C, H, W]`: an image in every step, or the frames of a recording; signals
            `[T, C, length]` and `[T, inputs]`.
        spikes: the spikes of each layer by its title, `[T, neurons]`; at most the first 60 neurons that spike are
            shown.
        label: class of the sample, above it.
        path: file to write, if any, as its suffix says: .png, .pdf, .svg and more.
        class_names: of the outputs, or else of the neurons of the last layer, if there is one for each class.
        title: which run and which sample.
        outputs: those that are no spikes, `[T, C]`, as membranes of `LI`, drawn as lines; the one with the largest
            sum stands out.

    Returns:
        The figure, which a notebook shows.

    Raises:
        UsageError: if outputs are not `[T, C]`.
        RunError: if the file cannot be written.

    Example:
        >>> spikes = {"1. LIF": torch.eye(5)}  # five neurons, one after the other
        >>> figure = spike_raster(torch.rand(5, 1, 28, 28), spikes, "noise", "raster.png")
    """
    sequence = frames_of(on_host(sequence))
    longest = max(map(len, class_names), default=0)
    lines = None if outputs is None else on_host(outputs)
    if lines is not None and (lines.dim() != 2 or len(lines) != len(sequence)):
        found, expected = list(lines.shape), f"[{len(sequence)}, classes]"
        raise UsageError(f"outputs have shape {found}, expected {expected}: one row for each step of the sequence")
    panels = len(spikes) + (lines is not None)
    figure = Figure(figsize=(2 + 2.4 * panels + 0.06 * longest, 3.2), layout="constrained")
    axes = figure.subplots(1, 1 + panels, width_ratios=[1.0] + [1.2] * panels, squeeze=False)[0]
    draw_sample(axes[0], sequence)
    axes[0].set_title(label, fontsize=10)
    figure.suptitle(title, fontsize=10)
    for raster, (name, values) in zip(axes[1 : 1 + len(spikes)], spikes.items(), strict=True):
        train = on_host(values)
        shown = _neurons_to_show(train)
        draw_raster(raster, train[:, shown])
        few = len(shown) <= 10
        some = f"{len(shown)} of " if len(shown) < train.shape[1] else ""
        raster.set_title(name, fontsize=10)
        raster.set(
            ylabel="neuron" if few else f"{some}{train.shape[1]} neurons",
            yticks=range(len(shown)) if few else [],
            xlim=(-1, len(sequence)),
        )
        raster.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if lines is not None:
        _draw_outputs(axes[-1], lines, class_names)
    elif class_names and len(shown) == len(class_names) <= FEW_CLASSES:
        raster.set_yticks(range(len(shown)), class_names, fontsize=8)
        raster.set_ylabel("class")
    draw_legend(figure, sequence.shape[1])
    return save(figure, path)


def _draw_outputs(axes: Axes, outputs: Float[Tensor, "steps classes"], class_names: Sequence[str]) -> None:
    """Draw each output over time, and name the one with the largest sum."""
    largest = int(outputs.sum(0).argmax())
    for output, values in enumerate(outputs.T):
        told = output == largest
        axes.plot(values, marker=".", color=hex_code(ON) if told else "0.6", zorder=3 if told else 2)
    name = class_names[largest] if len(class_names) == outputs.shape[1] else str(largest)
    axes.set_title(f"outputs, {name} in colour", fontsize=10)
    axes.set(ylabel="output", xlabel="step", xlim=(-1, len(outputs)))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


@plain_text()
def frame_strip(sequence: Values, label: str, path: str | Path | None = None, frames: int = 8) -> Figure:
    """Draw a recording as frames of equally many steps, side by side, each on a scale of its own.

    Args:
        sequence: steps of the recording, `[T, C, H, W]`, or of any other sample, `[T, ...]`; the steps of a frame are
            summed.
        label: class of the sample, for the title.
        path: file to write, if any, as its suffix says: .png, .pdf, .svg and more.
        frames: largest number of frames; the last one may have fewer steps.

    Returns:
        The figure, which a notebook shows.

    Raises:
        RunError: if the file cannot be written.

    Example:
        >>> events = saccade_events(torch.eye(28, dtype=torch.uint8) * 255).events
        >>> figure = frame_strip(event_frames(events, (2, 34, 34), steps=12), "a line", "frames.png", frames=4)
    """
    sequence = frames_of(on_host(sequence))
    chunks = sequence.split(-(-len(sequence) // frames))
    figure = Figure(figsize=(max(2.8, 1.4 * len(chunks)), 2.2), layout="constrained")
    first = 0
    for axes, chunk in zip(figure.subplots(1, len(chunks), squeeze=False)[0], chunks, strict=True):
        last = first + len(chunk) - 1
        draw_sample(axes, chunk)
        axes.set(xticks=[], xlabel="", ylabel="")
        axes.set_title(f"step {first}" if first == last else f"{first} to {last}", fontsize=8)
        first = last + 1
    figure.suptitle(label, fontsize=10)
    draw_legend(figure, sequence.shape[1])
    return save(figure, path)


@plain_text()
def explanation(
    sequences: Values,
    feedback: Values,
    labels: Sequence[str],
    path: str | Path | None = None,
    about: str = "the prediction",
    lengths: Values | None = None,
) -> Figure:
    """Draw samples and, with each, the inputs that contributed to a class and those that opposed it.

    Feedback on camera frames is summed over all steps and channels. Each sample has a scale of its own.

    Args:
        sequences: inputs of the network, `[T, samples, C, H, W]`, or `[T, samples, ...]`.
        feedback: feedback of the inputs, as `spiking_lfp.nn.explain.input_feedback` returns it.
        labels: a title for each sample.
        path: file to write, if any, as its suffix says: .png, .pdf, .svg and more.
        about: name of the explained class, for the colour bar.
        lengths: how many steps of each sample count, the others are padding; None if all do.

    Returns:
        The figure, which a notebook shows.

    Raises:
        UsageError: if there is not a length for each sample, within its steps.
        RunError: if the file cannot be written.

    Example:
        >>> network = lenet(channels=(4, 8), hidden=(20,), gain=3.0).eval()
        >>> x = rate(torch.rand(2, 1, 28, 28), steps=5)
        >>> figure = explanation(x, input_feedback(network, x, [3, 7]), ["first", "second"], "explain.png", "3 and 7")
    """
    sequences, feedback = (
        torch.stack([frames_of(sample) for sample in on_host(values).unbind(1)], 1) for values in (sequences, feedback)
    )
    count = len(labels)
    ends = [len(sequences)] * count if lengths is None else lengths_within(lengths, sequences).tolist()
    # pairs of rows, not wider than a page; a single sample has its pair side by side
    blocks = -(-count // int(PAGE_WIDTH // 1.5))
    columns = -(-count // blocks)
    rows, width = (1, 2) if count == 1 else (2 * blocks, columns)
    height = 2.4 if count == 1 else 1.5 * rows + 0.2 * blocks
    margin = 0.8 if sequences.shape[2] == 2 else 0.5  # for the scale, and the legend if there is one
    figure = Figure(figsize=(max(4.8, 1.5 * width), height + margin), layout="constrained")
    panels = figure.subplots(rows, width, squeeze=False).reshape(blocks, 2, columns)
    above, below = panels[:, 0].flatten(), panels[:, 1].flatten()
    for index, label in enumerate(labels):
        shown = slice(ends[index])
        draw_sample(above[index], sequences[shown, index])
        above[index].set_title(label, fontsize=8)
        _draw_feedback(below[index], sequences[shown, index], feedback[shown, index])
        for axes in (above[index], below[index]):
            axes.set(xticks=[], xlabel="", ylabel="")
    if is_flat(sequences[:, 0]):
        below[0].set_xlabel("step", fontsize=8)
        below[0].set_ylabel("inputs", fontsize=8)
    for axes in (*above[count:], *below[count:]):
        axes.remove()
    bar = figure.colorbar(
        ScalarMappable(Normalize(-1, 1), FEEDBACK_COLOURS),
        ax=[*above[:count], *below[:count]],
        location="bottom",
        ticks=[-0.7, 0.7],
        shrink=min(1.0, 3.6 / figure.get_figwidth()),
        aspect=30,
        pad=0.02,
    )
    bar.ax.tick_params(length=0, labelsize=8)
    bar.set_ticklabels([f"against {about}", f"for {about}"])
    draw_legend(figure, sequences.shape[2])
    return save(figure, path)


def _draw_feedback(axes: Axes, sequence: Sequence4, feedback: Sequence4) -> None:
    """Draw feedback on top of a pale copy of the sample; the largest 2 % of the magnitudes are all in full colour."""
    if is_flat(sequence):
        draw_raster(axes, rows_of(sequence).sum(1), "0.85")
        values = rows_of(feedback).sum(1)
        bound = magnitude_quantile(values, 0.98)
        steps, rows = (values.abs() > 0.05 * bound).nonzero(as_tuple=True)
        axes.scatter(
            steps.numpy(), rows.numpy(), marker="|", s=mark_size(values.shape[1]), linewidths=1,
            c=values[steps, rows].numpy(), cmap=FEEDBACK_COLOURS, vmin=-bound, vmax=bound,
        )  # fmt: skip
        axes.set(yticks=[])
        return
    frame, largest = single_frame(sequence)
    brightness = (frame.mean(0) / largest).clamp(0, 1).numpy()
    # a photograph stays light and dark where it is, events become grey on white
    axes.imshow(0.7 + 0.3 * brightness if len(frame) == 3 else 1 - 0.2 * brightness, cmap="gray", vmin=0, vmax=1)
    total = feedback.sum((0, 1))
    bound = magnitude_quantile(total, 0.98)
    opacity = np.clip(2 * total.abs().numpy() / bound, 0, 1)
    axes.imshow(total.numpy(), cmap=FEEDBACK_COLOURS, vmin=-bound, vmax=bound, alpha=opacity)
    axes.set(xticks=[], yticks=[])


def _neurons_to_show(train: Float[Tensor, "steps neurons"]) -> Integer[Tensor, " shown"]:
    if train.shape[1] <= FEW_ROWS:
        return torch.arange(train.shape[1])
    return train.any(0).nonzero().flatten()[:FEW_ROWS]
