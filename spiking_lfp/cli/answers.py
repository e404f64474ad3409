"""Commands that ask a trained network: about new files, and about labelled samples."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from spiking_lfp.cli.console import DataRoot, Device, RunFolder, check_file, out, read_samples
from spiking_lfp.deploy.pretrained import network_path
from spiking_lfp.errors import UsageError

if TYPE_CHECKING:
    from spiking_lfp.deploy.layers import Array
    from spiking_lfp.training import Evaluation, Prediction

FORMATS = ("table", "json", "csv")
ROWS = 40
DEMO = "mnist-mlp-int8"
# from dark to light
SHADES = " .:*#"


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(demo)
    app.command()(predict)
    app.command()(evaluate)


def demo() -> None:
    """Show digits to a trained network of the package, and what it takes them for: in seconds, without training."""
    from time import perf_counter

    import numpy as np

    from spiking_lfp.data import load_dataset
    from spiking_lfp.deploy.artifact import load_network
    from spiking_lfp.deploy.simulator import simulate

    network = load_network(network_path(DEMO))
    digits = load_dataset("mnist-subset")
    images, labels = np.asarray(digits.test_images), np.asarray(digits.test_labels)
    started = perf_counter()
    outcome = simulate(network, images)
    seconds = perf_counter() - started
    right = outcome.predictions == labels
    for chosen in (np.flatnonzero(right)[:3], np.flatnonzero(~right)[:3]):
        grid = Table(box=None, show_header=False, padding=(0, 1))
        grid.add_row(*(_drawn(images[index, 0]) for index in chosen))
        grid.add_row(*(_said(network.class_names, outcome.counts[index], int(labels[index])) for index in chosen))
        out.print(grid)
    out.print(
        f"{DEMO}: {right.sum():,} of {len(right):,} test digits right, {seconds:.1f} s of simulation\n"
        f"its card: spiking-lfp networks {DEMO}\n"
        f"on your images: spiking-lfp predict {DEMO} FILE...\nin C: spiking-lfp export {DEMO} --to c\n"
        "train one yourself: spiking-lfp train mnist-mlp",
        highlight=False,
    )


def _drawn(image: "Array") -> str:
    """Return an image `[28, 28]` as 14 lines of 24 characters, each two pixels high; the outermost columns are dark."""
    rows = image[:, 2:26].reshape(14, 2, 24).mean(1).astype(int) * len(SHADES) // 256
    return "\n".join("".join(SHADES[shade] for shade in row) for row in rows)


def _said(names: Sequence[str], counts: "Array", label: int) -> str:
    answer = int(counts.argmax())
    truth = "" if answer == label else f", it is {names[label]}"
    return f"{names[answer]} ({counts[answer]} spikes){truth}"


def predict(
    network: Annotated[
        Path,
        typer.Argument(
            help="Folder of a run, or an exported network such as out/net.h5, or the name of one in the package.",
            callback=network_path,
        ),
    ],
    files: Annotated[
        list[Path],
        typer.Argument(help="Images, recordings or signals as in training, .npy or .npz arrays, or folders of these."),
    ],
    form: Annotated[str, typer.Option("--format", help="table, json or csv.")] = "table",
    device: Device = "auto",
) -> None:
    """Say which class each file is of.

    spiking-lfp predict runs/mnist-mlp new1.png new2.png
    spiking-lfp predict out/net.h5 folder/ --format csv
    spiking-lfp predict mnist-mlp-int8 digit.png
    """
    from spiking_lfp.deploy.load import run_or_network
    from spiking_lfp.deploy.predict import predict_files
    from spiking_lfp.training import Run

    if form not in FORMATS:
        raise UsageError(f"--format is {form!r}, expected {', '.join(FORMATS)}")
    found = run_or_network(network, device)
    names, prediction = found.predict_files(files) if isinstance(found, Run) else predict_files(found, files)
    _show(names, prediction, form)


def _show(names: list[str], prediction: "Prediction", form: str) -> None:
    rows = list(zip(names, prediction.names, prediction.scores.tolist(), strict=True))
    if form == "json":
        found = [
            {"file": name, "class": answer, "scores": dict(zip(prediction.class_names, scores, strict=True))}
            for name, answer, scores in rows
        ]
        sys.stdout.write(json.dumps(found, indent=1, ensure_ascii=True) + "\n")
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["file", "class", *prediction.class_names])
        writer.writerows([name, answer, *scores] for name, answer, scores in rows)
    else:
        table = Table("file", "class", Column("mean output", justify="right"), "next best")
        for name, answer, scores in rows:
            first, *others = sorted(range(len(scores)), key=lambda label: -scores[label])
            second = f"{prediction.class_names[others[0]]} {scores[others[0]]:.3f}" if others else ""
            answer = answer if any(scores) else f"{answer} (silent)"
            table.add_row(name, answer, f"{scores[first]:.3f}", second)
        out.print(table)


def evaluate(
    run: RunFolder,
    data: Annotated[
        str | None,
        typer.Option(help="Other data: a set by name, a folder or an .npz file; classes are found by their names."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            help="File for the confusion matrix: .png, .pdf, .svg or another picture.",
            show_default="confusion.png in the run",
        ),
    ] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
) -> None:
    """Measure a trained network on labelled samples: accuracy by class, and which classes are taken for which."""
    from spiking_lfp import plots, training
    from spiking_lfp.plots.drawing import PICTURES

    if picture is not None:
        check_file(picture, PICTURES, "--picture")
    trained = training.load_run(run, device)
    samples = read_samples(trained, data_root, data)
    outcome = trained.evaluate(samples)
    if picture is not None and not outcome.has_classes:
        raise UsageError(
            f"{samples.name} has values for each output, of which there is no confusion matrix: leave out --picture"
        )
    about = f" on {outcome.samples} samples of {samples.name}"
    out.print(Text.assemble((f"test accuracy {outcome.accuracy:.2%}", "bold"), about))
    if not outcome.has_classes:
        out.print(_rates(outcome))
        return
    out.print(_by_class(outcome), _rates(outcome))
    path = picture or run / "confusion.png"
    plots.confusion(outcome.confusion, outcome.class_names, f"{run.name} on {samples.name}", path)
    out.print(f"confusion matrix: {path}", highlight=False, soft_wrap=True)


def _by_class(outcome: "Evaluation") -> Table:
    table = Table("class", "samples", "accuracy", "most often taken for")
    confusion: Any = outcome.confusion
    for row, name in enumerate(outcome.class_names):
        total = int(confusion[row].sum())
        if not total:
            continue
        others = confusion[row].clone()
        others[row] = 0
        worst = int(others.argmax())
        mistaken = f"{outcome.class_names[worst]} ({int(others[worst])})" if others[worst] else ""
        table.add_row(name, f"{total:,}", f"{float(confusion[row, row]) / total:.2%}", mistaken)
    return table


def _rates(outcome: "Evaluation") -> Table:
    table = Table("layer", "spikes per neuron and step")
    for name, rate in outcome.rates.items():
        table.add_row(name, f"{rate / outcome.samples:.2%}")
    return table
