"""Watchers of a run: a progress bar on the terminal, and TensorBoard."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from spiking_lfp.data import Samples
from spiking_lfp.errors import UsageError
from spiking_lfp.training.step import Meter

# seconds between two updates of the metrics shown
UPDATE_INTERVAL_S = 0.5
MANY_CLASSES = 20


class ProgressBar:
    """Shows the running epoch live, and prints a line for each finished epoch; use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.fields[doing]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
        )
        self.task: TaskID | None = None
        self.described = 0.0
        self.folder: Path | None = None

    def __enter__(self) -> "ProgressBar":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def preparing(self, done: int, total: int) -> None:
        """Show how many recordings are ready, until all are."""
        if self.task is None:
            self.task = self.progress.add_task("", doing="preparing recordings", total=total)
        self.progress.update(self.task, completed=done)
        if done == total:
            self.progress.remove_task(self.task)
            self.task = None

    def prepared(self, samples: Samples) -> None:
        """Print the number of samples of each class."""
        self.console.print(class_sizes(samples), highlight=False, markup=False)

    def start(self, folder: Path) -> None:
        """Print the folder of the run."""
        self.folder = folder
        self.console.print(f"run folder {folder}", highlight=False, markup=False)

    def batch(self, epoch: int, batch: int, batches: int, meter: Meter) -> None:
        """Advance the bar."""
        if self.task is None:
            self.task = self.progress.add_task("", doing="", total=batches)
        self.progress.update(self.task, completed=batch, doing=f"epoch {epoch}")
        # reading the meter makes the host wait for a GPU
        if batch == batches or time.monotonic() - self.described >= UPDATE_INTERVAL_S:
            self.progress.update(self.task, description=_describe(meter.summary()))
            self.described = time.monotonic()

    def line(self, metrics: dict[str, Any]) -> None:
        """Print the metrics of a finished epoch."""
        if metrics["kind"] != "epoch":
            return
        if self.task is not None:
            self.progress.remove_task(self.task)
            self.task = None
        held_out = "validation" if metrics["validation"] else "test"
        self.console.print(
            f"epoch {metrics['epoch']}  training {_describe(metrics['train'])}  "
            f"[bold]{held_out} {metrics[held_out]['accuracy']:.2%}[/bold]  {metrics['seconds']:.0f} s",
            highlight=False,
        )


def class_sizes(samples: Samples) -> str:
    """Describe how many training and test samples each class has; of many classes, the smallest and the largest."""
    by_size: dict[tuple[int, int], list[str]] = {}
    for name, train, test in samples.class_sizes():
        by_size.setdefault((train, test), []).append(name)
    count = len(samples.class_names)
    if len(by_size) == 1:
        train, test = next(iter(by_size))
        return f"{count} classes of {train:,} training and {test:,} test samples"
    texts = [f"{train:,} + {test:,} of {', '.join(names)}" for (train, test), names in sorted(by_size.items())]
    shown = "; ".join(texts) if count <= MANY_CLASSES else f"{texts[0]}; ...; {texts[-1]}"
    return f"{count} classes, training + test samples: {shown}"


@contextmanager
def preparation(console: Console) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback that shows how many recordings are ready; nothing is shown if it is never called."""
    bar = ProgressBar(console)

    def on_progress(done: int, total: int) -> None:
        bar.progress.start()
        bar.preparing(done, total)

    try:
        yield on_progress
    finally:
        if bar.progress.live.is_started:
            bar.progress.stop()


class TensorBoard:
    """Writes the metrics as TensorBoard scalars into the run's folder.

    Raises:
        UsageError: if the package tensorboard is not installed.
    """

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError("TensorBoard is not installed: pip install 'spiking-lfp[tensorboard]'") from None
        self._writer_class = SummaryWriter
        self.updates = 0

    def start(self, folder: Path) -> None:
        """Open the log file."""
        self.writer = self._writer_class(str(folder / "tensorboard"))

    def batch(self, epoch: int, batch: int, batches: int, meter: Meter) -> None:
        """Count updates, the horizontal axis of the scalars."""
        self.updates = (epoch - 1) * batches + batch

    def line(self, metrics: dict[str, Any]) -> None:
        """Write one scalar for each number in a line of metrics."""
        for name, value in _numbers(metrics):
            self.writer.add_scalar(f"{metrics['kind']}/{name}", value, self.updates)
        self.writer.flush()


def _numbers(values: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    numbers: list[tuple[str, float]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            numbers += _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            numbers.append((f"{prefix}{key}", float(value)))
    return numbers


def _describe(summary: dict[str, Any]) -> str:
    rates = " ".join(f"{rate:.0%}" for rate in summary["spike_rates"].values())
    return f"accuracy {summary['accuracy']:.2%}  reward {summary['reward']:+.3f}  spikes {rates}"
