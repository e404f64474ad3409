"""Train a preset from Python, interrupt it, go on, and evaluate: what the command line does, as functions.

python examples/resume_and_evaluate.py
"""

import tempfile
from pathlib import Path
from typing import Any

from spiking_lfp.training import Meter, evaluate, load_run, preset_config, read_metrics, resume, samples_for, train


class StopAfter:
    """A watcher that interrupts after some updates, as a power cut would."""

    def __init__(self, updates: int) -> None:
        self.updates = updates

    def start(self, folder: Path) -> None:
        """Nothing to prepare."""

    def batch(self, epoch: int, batch: int, batches: int, meter: Meter) -> None:
        """Count down."""
        self.updates -= 1
        if self.updates == 0:
            raise KeyboardInterrupt

    def line(self, metrics: dict[str, Any]) -> None:
        """Nothing to do."""


config = preset_config("mnist-mlp", {"hidden": "100", "steps": 10, "epochs": 2, "checkpoint_every": 10})
with tempfile.TemporaryDirectory() as parent:
    folder = Path(parent) / "run"
    try:
        train(config, folder, watchers=(StopAfter(100),))
    except KeyboardInterrupt:
        print("interrupted")
    resume(folder)  # from the last checkpoint, with the result of a run that was never interrupted
    for line in read_metrics(folder):
        if line["kind"] == "epoch":
            print(f"epoch {line['epoch']}: test accuracy {line['test']['accuracy']:.1%}")

    network, config = load_run(folder)
    outcome = evaluate(network, samples_for(config).test)
    print(f"evaluated again: {outcome.accuracy:.1%}")
