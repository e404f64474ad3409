"""Ways to follow a run: a progress bar for people, TensorBoard for those who have it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from spiking_lfp.errors import UsageError
from spiking_lfp.training.step import Meter

# seconds between two looks at what was counted
DESCRIBE_EVERY = 0.5


class ProgressBar:
    """Shows the running epoch live, and prints a line for each finished one; use it as a context manager."""

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

    def start(self, folder: Path) -> None:
        """Say where the run is kept."""
        self.folder = folder
        self.console.print(f"run folder {folder}", highlight=False, markup=False)

    def batch(self, epoch: int, batch: int, batches: int, meter: Meter) -> None:
        """Move the bar."""
        if self.task is None:
            self.task = self.progress.add_task("", doing="", total=batches)
        self.progress.update(self.task, completed=batch, doing=f"epoch {epoch}")
        # reading the meter makes the host wait for a GPU
        if batch == batches or time.monotonic() - self.described >= DESCRIBE_EVERY:
            self.progress.update(self.task, description=_describe(meter.summary()))
            self.described = time.monotonic()

    def line(self, metrics: dict[str, Any]) -> None:
        """Print what a finished epoch came to."""
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


@contextmanager
def preparation(console: Console) -> Iterator[Callable[[int, int], None]]:
    """Give what shows how many recordings are ready, and nothing if none have to be prepared."""
    bar = ProgressBar(console)

    def told(done: int, total: int) -> None:
        bar.progress.start()
        bar.preparing(done, total)

    try:
        yield told
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
        """Open the event file."""
        self.writer = self._writer_class(str(folder / "tensorboard"))

    def batch(self, epoch: int, batch: int, batches: int, meter: Meter) -> None:
        """Count updates, the scalars' horizontal axis."""
        self.updates = (epoch - 1) * batches + batch

    def line(self, metrics: dict[str, Any]) -> None:
        """Write one scalar for each number of the line."""
        for name, value in _numbers(metrics):
            self.writer.add_scalar(f"{metrics['kind']}/{name}", value, self.updates)
        self.writer.flush()


def _numbers(values: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            found.append((f"{prefix}{key}", float(value)))
    return found


def _describe(summary: dict[str, Any]) -> str:
    rates = " ".join(f"{rate:.0%}" for rate in summary["spike_rates"].values())
    return f"accuracy {summary['accuracy']:.2%}  reward {summary['reward']:+.3f}  spikes {rates}"
