"""Learning curves."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from spiking_lfp.plots.drawing import save


def learning_curve(metrics: list[dict[str, Any]], path: str | Path) -> None:
    """Draw the accuracy over the epochs of a run.

    Args:
        metrics: lines that `spiking_lfp.training.read_metrics` returns, with at least one finished epoch.
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
    save(figure, path)


def _recent_accuracy(metrics: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Return epochs, and the accuracies in percent of the samples between successive lines of metrics."""
    epochs, accuracies = [], []
    samples_before = correct_before = 0.0
    for line in metrics:
        if line["kind"] == "epoch":
            samples_before = correct_before = 0.0
            continue
        correct = line["accuracy"] * line["samples"]
        epochs.append(line["epoch"] - 1 + line["batch"] / line["batches"])
        accuracies.append(100 * (correct - correct_before) / (line["samples"] - samples_before))
        samples_before, correct_before = line["samples"], correct
    return epochs, accuracies
