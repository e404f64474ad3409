"""Pictures of a run, as PNG files."""

from io import BytesIO
from pathlib import Path
from typing import Any

from jaxtyping import Float, Integer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from spiking_lfp.training.files import write_atomically

# from outside in: image, then one raster per layer; more neurons than this become a random-looking thicket
SHOWN_NEURONS = 60


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
    image: Float[Tensor, "channels height width"],
    spikes: dict[str, Float[Tensor, "steps neurons"]],
    label: str,
    path: Path,
) -> None:
    """Draw one sample and the spikes it causes, layer by layer.

    Args:
        image: values in [0, 1].
        spikes: per layer, its spikes in time; at most the first 60 neurons that spike are shown.
        label: what the image is, for the title.
        path: PNG file to write.
    """
    figure = Figure(figsize=(2 + 2.4 * len(spikes), 3.2), layout="constrained")
    axes = figure.subplots(1, 1 + len(spikes), width_ratios=[1.0] + [1.2] * len(spikes))
    axes[0].imshow(image.mean(0).numpy(), cmap="gray_r")
    axes[0].set(title=label, xticks=[], yticks=[])
    for place, (name, train) in zip(axes[1:], spikes.items(), strict=True):
        shown = _shown(train)
        steps, rows = train[:, shown].nonzero(as_tuple=True)
        place.scatter(steps.numpy(), rows.numpy(), marker="|", s=18, color="black", linewidths=1)
        few = len(shown) <= 10
        place.set(
            title=f"layer {name}",
            xlabel="step",
            ylabel="neuron" if few else f"{len(shown)} of {train.shape[1]} neurons",
            xlim=(-1, len(train)),
            ylim=(-0.6, len(shown) - 0.4),
            yticks=range(len(shown)) if few else [],
        )
    _save(figure, path)


def _recent_accuracy(metrics: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Return epochs and accuracies in percent of the images between one line of metrics and the next."""
    epochs, accuracies = [], []
    images = correct = 0.0
    for line in metrics:
        if line["kind"] == "epoch":
            images = correct = 0.0
            continue
        right = line["accuracy"] * line["samples"]
        epochs.append(line["epoch"] - 1 + line["batch"] / line["batches"])
        accuracies.append(100 * (right - correct) / (line["samples"] - images))
        images, correct = line["samples"], right
    return epochs, accuracies


def _shown(train: Tensor) -> Integer[Tensor, " shown"]:
    if train.shape[1] <= SHOWN_NEURONS:
        return train.new_ones(train.shape[1]).nonzero().flatten()
    return train.any(0).nonzero().flatten()[:SHOWN_NEURONS]


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_atomically(path, buffer.getvalue())
