"""What tables share: results by file, by experiment, and numbers as they are written."""

import json
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from records import KEPT


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    return "".join(f"|{'|'.join(line)}|\n" for line in [[f" {cell} " for cell in head], ["---"] * len(head)]) + "".join(
        f"| {' | '.join(line)} |\n" for line in lines
    )


def mean(values: Sequence[float], digits: int) -> str:
    """Return the mean, with the deviation of several."""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{spread}"


def of_experiment(name: str, part: str = "rows") -> list[dict[str, Any]]:
    """Return the rows that `spiking-lfp experiment NAME --out docs/experiments/NAME` wrote, or its `findings`."""
    found: list[dict[str, Any]] = json.loads((KEPT / name / "numbers.json").read_text())[part]
    return found


def one(rows: Sequence[dict[str, Any]], **settings: Any) -> dict[str, Any]:
    """Return the only row with these settings."""
    [row] = [row for row in rows if settings.items() <= row.items()]
    return row


def percent(value: float, digits: int = 1) -> str:
    """Return a share in percent."""
    return f"{100 * value:.{digits}f}"


SETS = {
    "mnist": "MNIST", "mnist-subset": "digits", "n-mnist": "N-MNIST", "cifar10": "CIFAR-10", "cifar": "CIFAR-100",
    "imagenet": "Tiny-ImageNet",
}  # fmt: skip
