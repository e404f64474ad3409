"""Figures of tables: which classes are taken for which."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from spiking_lfp.checks import Values
from spiking_lfp.plots.drawing import on_host, plain_text, save

# classes up to which cells are labelled with their numbers
LABELLED = 20


@plain_text()
def confusion(counts: Values, class_names: Sequence[str], title: str, path: str | Path | None = None) -> Figure:
    """Draw how many samples of each class (row) were taken for each class (column), coloured by the share of the row.

    Args:
        counts: `[C, C]`.
        class_names: of rows and columns.
        title: what was evaluated on what.
        path: file to write, if any, as its suffix says: .png, .pdf, .svg and more.

    Returns:
        The figure, which a notebook shows.

    Raises:
        RunError: if the file cannot be written.

    Example:
        >>> figure = confusion([[8, 2], [1, 9]], ["cat", "dog"], "a run on data", "confusion.png")
    """
    counts = on_host(counts)
    classes = len(counts)
    side = min(12.0, 2.2 + 0.42 * classes)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    shown = range(0, classes, 1 + classes // 60)
    labels = [class_names[index] for index in shown]
    turned = 0 if max(map(len, labels), default=0) <= 2 else 90
    axes.set_xticks(list(shown), labels, rotation=turned, fontsize=8)
    axes.set_yticks(list(shown), labels, fontsize=8)
    axes.set(xlabel="predicted class", ylabel="class")
    axes.set_title(title, fontsize=9)
    if classes <= LABELLED:
        for row in range(classes):
            for column in range(classes):
                if counts[row, column]:
                    colour = "white" if shares[row, column] > 0.5 else "black"
                    axes.text(
                        column, row, f"{int(counts[row, column])}", ha="center", va="center", color=colour, fontsize=7
                    )
    figure.colorbar(image, ax=axes, label="share of the class", shrink=0.8)
    return save(figure, path)
