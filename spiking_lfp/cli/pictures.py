"""The commands that plot samples as a trained network processes them: explain, animate."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spiking_lfp.cli.console import DataRoot, RunFolder, check_file, out, read_samples, refuse_unused
from spiking_lfp.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor, nn

    from spiking_lfp.data import Samples


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    for command in (explain, animate):
        app.command()(command)


def explain(
    run: RunFolder,
    sample: Annotated[int | None, typer.Option(help="Number of the test sample, from 0.", show_default="0")] = None,
    grid: Annotated[
        int | None, typer.Option(help="Plot this many samples, of each class in turn, instead of one.")
    ] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Explain the output of this class.", show_default="the predicted one")
    ] = None,
    path: Annotated[
        Path, typer.Option("--out", "-o", help="File to write: .png, .pdf, .svg or another picture.")
    ] = Path("explain.png"),
    data_root: DataRoot = None,
) -> None:
    """Plot the LFP feedback of events or pixels: evidence for the network's prediction, and evidence against it."""
    import torch

    from spiking_lfp import plots
    from spiking_lfp.nn.explain import input_feedback
    from spiking_lfp.plots.drawing import PICTURES
    from spiking_lfp.plots.runs import class_of, title_of

    check_file(path, PICTURES)
    if sample is not None and grid is not None:
        raise UsageError("--sample draws one sample, --grid several: choose one of them")
    network, samples = _load(run, data_root)
    names = samples.class_names
    if class_name is not None and class_name not in names:
        raise unknown_name("class", class_name, names)
    chosen = torch.tensor([_check_sample(sample or 0, samples)]) if grid is None else _of_each_class(samples, grid)
    x, labels = samples.test.batch(chosen)
    with torch.no_grad():
        counts = network(x).sum(0)
    predictions, has_spikes = counts.argmax(-1), counts.any(-1)
    classes = predictions if class_name is None else torch.full_like(predictions, names.index(class_name))
    feedback = input_feedback(network, x, classes)
    if class_name is None:
        feedback[:, ~has_spikes] = 0  # without output spikes there is no prediction to explain
    titles = [title_of(names, class_of(label), outputs, "\n") for label, outputs in zip(labels, counts, strict=True)]
    about = "the prediction" if class_name is None else f"class {class_name}"
    plots.explanation(x, feedback, titles, path, about)
    what = f"sample {int(chosen[0])}" if grid is None else f"{grid} samples"
    out.print(f"feedback for {about}, {what} of {samples.name}: {path}", highlight=False, soft_wrap=True)


def animate(
    run: RunFolder,
    sample: Annotated[int, typer.Option(help="Number of the test sample, from 0.")] = 0,
    fps: Annotated[float | None, typer.Option(help="Time steps shown per second, up to 50.", show_default="8")] = None,
    frames: Annotated[
        int | None, typer.Option(help="Plot this many frames side by side in a picture, instead of an animation.")
    ] = None,
    path: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write.", show_default="sample.gif, or frames.png")
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Animate a test sample, step by step, with the network's output spikes below it."""
    import torch

    from spiking_lfp import plots
    from spiking_lfp.plots.drawing import ANIMATIONS, PICTURES
    from spiking_lfp.plots.runs import class_of, title_of

    path = path or Path("sample.gif" if frames is None else "frames.png")
    check_file(path, ANIMATIONS if frames is None else PICTURES)
    if frames is not None:
        refuse_unused("--frames makes one picture", fps=fps)
    fps = 8.0 if fps is None else fps
    if not 0.1 <= fps <= 50:
        raise UsageError(f"fps must be 0.1..50, found {fps:g}")
    if frames is not None and frames < 1:
        raise UsageError(f"frames must be at least 1, found {frames}")
    network, samples = _load(run, data_root)
    x, labels = samples.test.batch(torch.tensor([_check_sample(sample, samples)]))
    with torch.no_grad():
        spikes = network(x)[:, 0]
    if frames is None and (len(spikes) != len(x) or not bool(((spikes == 0) | (spikes == 1)).all())):
        raise UsageError("animations show output spikes, but this network has a readout without spikes: use --frames")
    names, label, counts = samples.class_names, class_of(labels[0]), spikes.sum(0)
    title = title_of(names, label, counts)
    if frames is None:
        if label is None:
            raise UsageError(
                f"animations show the class of a sample, but {samples.name} has values for each output: use --frames"
            )
        plots.animation(x[:, 0], spikes, names, label, path, fps)
    else:
        plots.frame_strip(x[:, 0], title, path, frames)
    out.print(f"sample {sample} of {samples.name}, {title}: {path}", highlight=False, soft_wrap=True)


def _load(run: Path, data_root: Path | None) -> "tuple[nn.Module, Samples]":
    from spiking_lfp import training

    trained = training.load_run(run, "cpu")
    return trained.network, read_samples(trained, data_root)


def _check_sample(sample: int, samples: "Samples") -> int:
    if not 0 <= sample < len(samples.test):
        raise UsageError(
            f"sample must be 0..{len(samples.test) - 1}, the test samples of {samples.name}, found {sample}"
        )
    return sample


def _of_each_class(samples: "Samples", count: int) -> "Tensor":
    """Return the first test samples of each class, then the second, and so on, `count` in all."""
    import torch

    from spiking_lfp.plots.runs import class_of

    if not 1 <= count <= len(samples.test):
        raise UsageError(
            f"grid must be 1..{len(samples.test)}, as many as {samples.name} has test samples, found {count}"
        )
    counts: Counter[int] = Counter()
    ranked = []
    for index, target in enumerate(samples.test.labels):
        label = class_of(target) or 0  # without classes the first samples
        ranked.append((counts[label], label, index))
        counts[label] += 1
    return torch.tensor([index for _, _, index in sorted(ranked)[:count]])
