"""The commands that draw what a trained network sees: explain, animate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spiking_lfp.console import DataRoot, RunFolder, out
from spiking_lfp.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor, nn

    from spiking_lfp.data import Samples

Sample = Annotated[int, typer.Option(help="Number of the test sample, from 0 on.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    for command in (explain, animate):
        app.command()(command)


def explain(
    run: RunFolder,
    sample: Sample = 0,
    grid: Annotated[int, typer.Option(help="Instead of one sample so many, of each class in turn.", min=0)] = 0,
    class_name: Annotated[
        str | None, typer.Option("--class", help="What spoke for this class. [default: the network's answer]")
    ] = None,
    path: Annotated[Path, typer.Option("--out", "-o", help="PNG file to write.")] = Path("explain.png"),
    data_root: DataRoot = None,
) -> None:
    """Draw which events or pixels spoke for the network's answer, and which against it: their feedback by LFP."""
    import torch

    from spiking_lfp import plots
    from spiking_lfp.explain import input_feedback

    network, samples = _loaded(run, data_root)
    chosen = _of_each_class(samples, grid) if grid else torch.tensor([_checked(sample, samples)])
    x, labels = samples.test.batch(chosen)
    with torch.no_grad():
        answers = network(x).sum(0).argmax(-1)
    names = samples.class_names
    classes = answers
    if class_name is not None:
        if class_name not in names:
            raise unknown_name("class", class_name, names)
        classes = torch.full_like(answers, names.index(class_name))
    feedback = input_feedback(network, x, classes)
    titles = [
        names[label] if label == found else f"{names[label]}, taken\nfor {names[found]}"
        for label, found in zip(labels.tolist(), answers.tolist(), strict=True)
    ]
    plots.explanation(x, feedback, titles, path)
    out.print(f"explained for {class_name or 'the answers'}: {path}", highlight=False, markup=False)


def animate(
    run: RunFolder,
    sample: Sample = 0,
    fps: Annotated[float, typer.Option(help="Steps per second.", min=0.1, max=50)] = 8.0,
    path: Annotated[Path, typer.Option("--out", "-o", help="GIF file to write.")] = Path("sample.gif"),
    data_root: DataRoot = None,
) -> None:
    """Animate a test sample, step by step, with the network's output spikes beneath it."""
    import torch

    from spiking_lfp import plots

    network, samples = _loaded(run, data_root)
    x, labels = samples.test.batch(torch.tensor([_checked(sample, samples)]))
    with torch.no_grad():
        spikes = network(x)[:, 0]
    names = samples.class_names
    label = f"{names[int(labels[0])]}, taken for {names[int(spikes.sum(0).argmax())]}"
    plots.animation(x[:, 0], spikes, names, label, path, fps)
    out.print(f"{label}: {path}", highlight=False, markup=False)


def _loaded(run: Path, data_root: Path | None) -> "tuple[nn.Module, Samples]":
    from spiking_lfp import training
    from spiking_lfp.training.watch import ProgressBar

    network, config = training.load_run(run, "cpu")
    with ProgressBar(out) as bar:
        return network, training.samples_for(config, data_root, bar.preparing)


def _checked(sample: int, samples: "Samples") -> int:
    if not 0 <= sample < len(samples.test):
        raise UsageError(
            f"sample must be 0..{len(samples.test) - 1}, the test samples of {samples.name}, found {sample}"
        )
    return sample


def _of_each_class(samples: "Samples", count: int) -> "Tensor":
    """Return the first test samples of each class, then the second, and so on, `count` in all."""
    import torch

    labels = samples.test.labels
    seen: dict[int, int] = {}
    turns = []
    for label in labels.tolist():
        turns.append(seen.get(label, 0))
        seen[label] = turns[-1] + 1
    order = sorted(range(len(turns)), key=lambda index: (turns[index], labels[index].item(), index))
    return torch.tensor(order[:count])
