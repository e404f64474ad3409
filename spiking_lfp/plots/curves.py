"""How a run learned."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from spiking_lfp.plots.parts import save


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
    save(figure, path)


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
