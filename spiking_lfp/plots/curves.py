"""Learning curves."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spiking_lfp.plots.drawing import OFF, ON, hex_code, plain_text, save

# fewer points than this are marked, as a line of one would not be seen
FEW_POINTS = 20


@plain_text()
def learning_curve(metrics: list[dict[str, Any]], path: str | Path | None = None, title: str = "") -> Figure:
    """Draw the accuracy over the epochs of a run.

    Args:
        metrics: lines that `spiking_lfp.training.read_metrics` returns, with at least one finished epoch.
        path: file to write, if any, as its suffix says: .png, .pdf, .svg and more.
        title: which run on which data.

    Returns:
        The figure, which a notebook shows.

    Raises:
        RunError: if the file cannot be written.

    Example:
        >>> lines = [{"kind": "epoch", "epoch": number, "validation": None, "train": {"samples": 60, "accuracy": 0.5},
        ...           "test": {"accuracy": 0.4 + 0.2 * number}} for number in (1, 2)]
        >>> figure = learning_curve(lines, "curve.png", "an example")
    """
    epochs = [line for line in metrics if line["kind"] == "epoch"]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    recent = _recent_accuracy(metrics)
    marker = "." if len(recent[0]) < FEW_POINTS else ""
    axes.plot(*recent, marker=marker, color=hex_code(ON), alpha=0.6, label="training, latest batches")
    held_out = "validation" if epochs[0]["validation"] else "test"
    accuracies = [100 * line[held_out]["accuracy"] for line in epochs]
    label = f"{held_out}, {accuracies[-1]:.2f} % after epoch {epochs[-1]['epoch']}"
    axes.plot([line["epoch"] for line in epochs], accuracies, "o-", color=hex_code(OFF), label=label)
    axes.set(xlabel="epoch", ylabel="accuracy [%]", xlim=(0, 1.03 * epochs[-1]["epoch"]))
    axes.set_title(title, fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return save(figure, path)


def _recent_accuracy(metrics: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Return epochs, and the accuracies in percent of the samples between successive lines of metrics."""
    epochs, accuracies = [], []
    samples_before = correct_before = 0.0
    for line in metrics:
        ended = line["kind"] == "epoch"
        sums = line["train"] if ended else line
        samples, correct = sums["samples"], sums["accuracy"] * sums["samples"]
        if samples > samples_before:  # there may be a line of batches where the epoch ends
            epochs.append(float(line["epoch"]) if ended else line["epoch"] - 1 + line["batch"] / line["batches"])
            accuracies.append(100 * (correct - correct_before) / (samples - samples_before))
        samples_before, correct_before = (0.0, 0.0) if ended else (samples, correct)
    return epochs, accuracies
