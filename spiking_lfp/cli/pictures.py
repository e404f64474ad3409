"""The commands that draw what a trained network sees: explain, animate."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spiking_lfp.cli.console import DataRoot, RunFolder, out
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
    sample: Annotated[
        int | None, typer.Option(help="Number of the test sample, from 0 on. [default: 0]", show_default=False)
    ] = None,
    grid: Annotated[int | None, typer.Option(help="Instead of one sample so many, of each class in turn.")] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="What spoke for this class. [default: the network's answer]")
    ] = None,
    path: Annotated[Path, typer.Option("--out", "-o", help="PNG file to write.")] = Path("explain.png"),
    data_root: DataRoot = None,
) -> None:
    """Draw which events or pixels spoke for the network's answer, and which against it: their feedback by LFP."""
    import torch

    from spiking_lfp import plots
    from spiking_lfp.nn.explain import input_feedback

    _check_file(path, ".png")
    if sample is not None and grid is not None:
        raise UsageError("--sample draws one sample, --grid several: choose one of them")
    network, samples = _loaded(run, data_root)
    names = samples.class_names
    if class_name is not None and class_name not in names:
        raise unknown_name("class", class_name, names)
    chosen = torch.tensor([_checked(sample or 0, samples)]) if grid is None else _of_each_class(samples, grid)
    x, labels = samples.test.batch(chosen)
    with torch.no_grad():
        counts = network(x).sum(0)
    answers, answered = counts.argmax(-1), counts.any(-1)
    classes = answers if class_name is None else torch.full_like(answers, names.index(class_name))
    feedback = input_feedback(network, x, classes)
    if class_name is None:
        feedback[:, ~answered] = 0  # there is nothing that it could be about
    titles = [
        _title(names, *each, "\n") for each in zip(labels.tolist(), answers.tolist(), answered.tolist(), strict=True)
    ]
    about = "the answer" if class_name is None else f"class {class_name}"
    plots.explanation(x, feedback, titles, path, about)
    what = f"sample {int(chosen[0])}" if grid is None else f"{grid} samples"
    out.print(
        f"what spoke for {about}, {what} of {samples.name}: {path}", highlight=False, markup=False, soft_wrap=True
    )


def animate(
    run: RunFolder,
    sample: Annotated[int, typer.Option(help="Number of the test sample, from 0 on.")] = 0,
    fps: Annotated[float, typer.Option(help="Steps per second, up to 50.")] = 8.0,
    frames: Annotated[
        int | None, typer.Option(help="Instead of an animation so many frames side by side, in a PNG file.")
    ] = None,
    path: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write. [default: sample.gif, or frames.png]")
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Animate a test sample, step by step, with the network's output spikes beneath it."""
    import torch

    from spiking_lfp import plots

    path = path or Path("sample.gif" if frames is None else "frames.png")
    _check_file(path, ".gif" if frames is None else ".png")
    if not 0.1 <= fps <= 50:
        raise UsageError(f"fps must be 0.1..50, found {fps:g}")
    if frames is not None and frames < 1:
        raise UsageError(f"frames must be at least 1, found {frames}")
    network, samples = _loaded(run, data_root)
    x, labels = samples.test.batch(torch.tensor([_checked(sample, samples)]))
    with torch.no_grad():
        spikes = network(x)[:, 0]
    if frames is None and len(spikes) != len(x):
        raise UsageError("animations show output spikes, and this network answers by a mono readout: take --frames")
    names, label, counts = samples.class_names, int(labels[0]), spikes.sum(0)
    title = _title(names, label, int(counts.argmax()), bool(counts.any()))
    if frames is None:
        plots.animation(x[:, 0], spikes, names, label, path, fps)
    else:
        plots.frame_strip(x[:, 0], title, path, frames)
    out.print(f"sample {sample} of {samples.name}, {title}: {path}", highlight=False, markup=False, soft_wrap=True)


def _loaded(run: Path, data_root: Path | None) -> "tuple[nn.Module, Samples]":
    from spiking_lfp import training
    from spiking_lfp.training.watch import preparation

    network, config = training.load_run(run, "cpu")
    with preparation(out) as progress:
        return network, training.samples_for(config, data_root, progress)


def _title(names: tuple[str, ...], label: int, answer: int, answered: bool, between: str = ", ") -> str:
    if not answered:
        return f"{names[label]}{between}no answer"
    return names[label] if answer == label else f"{names[label]}{between}taken for {names[answer]}"


def _check_file(path: Path, suffix: str) -> None:
    """Notice before the work is done where its picture cannot go."""
    if path.suffix.lower() != suffix:
        raise UsageError(f"--out must name a {suffix} file, found {path}")
    if path.is_dir() or not path.parent.is_dir():
        why = "is a folder" if path.is_dir() else f"lies in no folder: {path.parent} is none"
        raise UsageError(f"cannot write {path}, it {why}; choose another --out")


def _checked(sample: int, samples: "Samples") -> int:
    if not 0 <= sample < len(samples.test):
        raise UsageError(
            f"sample must be 0..{len(samples.test) - 1}, the test samples of {samples.name}, found {sample}"
        )
    return sample


def _of_each_class(samples: "Samples", count: int) -> "Tensor":
    """Return the first test samples of each class, then the second, and so on, `count` in all."""
    import torch

    if not 1 <= count <= len(samples.test):
        raise UsageError(
            f"grid must be 1..{len(samples.test)}, as many as {samples.name} has test samples, found {count}"
        )
    seen: Counter[int] = Counter()
    turns = []
    for index, label in enumerate(samples.test.labels.tolist()):
        turns.append((seen[label], label, index))
        seen[label] += 1
    return torch.tensor([index for _, _, index in sorted(turns)[:count]])
