"""Callbacks of a run: a progress bar on the terminal, and TensorBoard."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from spiking_lfp.errors import UsageError
from spiking_lfp.training import distributed
from spiking_lfp.training.loop import Callback, Trainer, reward_name
from spiking_lfp.training.step import Meter

# seconds between two updates of the metrics shown
UPDATE_INTERVAL_S = 0.5
# whose spike rates do not fit a line
MANY_LAYERS = 4


class ProgressBar(Callback):
    """Shows the running epoch live, and prints a line for each finished epoch; use it as a context manager.

    Args:
        console: where to; standard output if None.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console = console or Console()
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

    def start(self, run: Trainer) -> None:
        """Print three lines: what is learned, by what network, and where."""
        self.folder = run.folder
        parameters = sum(parameter.numel() for parameter in run.network.parameters())
        for line in (
            f"data     {run.data.describe()}",
            f"network  {run.config.network}, {parameters:,} parameters, {reward_name(run.config, run.network)} reward",
            f"run      {run.folder}, on {run.device}",
        ):
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def batch(self, epoch: int, batch: int, batches: int, meter: Meter) -> None:
        """Advance the bar."""
        if self.task is None:
            self.task = self.progress.add_task("", doing="", total=batches)
        self.progress.update(self.task, completed=batch, doing=f"epoch {epoch}")
        # reading the meter makes the host wait for a GPU
        if batch == batches or time.monotonic() - self.described >= UPDATE_INTERVAL_S:
            self.progress.update(self.task, description=_describe(meter.summary()))
            self.described = time.monotonic()

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Print the metrics of a finished epoch."""
        if self.task is not None:
            self.progress.remove_task(self.task)
            self.task = None
        held_out = "validation" if metrics["validation"] else "test"
        self.console.print(
            Text.assemble(
                f"epoch {metrics['epoch']}  training {_describe(metrics['train'])}  ",
                (f"{held_out} {metrics[held_out]['accuracy']:.2%}", "bold"),
                f"  {metrics['seconds']:.0f} s",
            )
        )


@contextmanager
def progress_bar(shown: bool) -> Iterator[tuple[Callback, ...]]:
    """Yield the callbacks that show what happens, in the process that writes."""
    if not (shown and distributed.is_writer()):
        yield ()
        return
    with ProgressBar() as bar:
        yield (bar,)


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


class TensorBoard(Callback):
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

    def start(self, run: Trainer) -> None:
        """Open the log file."""
        self.writer = self._writer_class(str(run.folder / "tensorboard"))

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
    rates = [f"{rate:.0%}" for rate in summary["spike_rates"].values()]
    shown = rates if len(rates) <= MANY_LAYERS else [rates[0], "..", rates[-1]]
    return f"{summary['accuracy']:.2%}  reward {summary['reward']:+.3f}  spikes {' '.join(shown)}"
