"""Train a preset from Python, interrupt it, go on, and evaluate: what the command line does, as functions.

python examples/resume_and_evaluate.py
"""

import tempfile
from pathlib import Path

from spiking_lfp.training import Callback, Meter, load_run, preset_config, resume, train


class StopAfter(Callback):
    """A callback that interrupts after some updates, as a power cut would."""

    def __init__(self, updates: int) -> None:
        self.updates = updates

    def batch(self, epoch: int, batch: int, batches: int, meter: Meter) -> None:
        """Count down."""
        self.updates -= 1
        if self.updates == 0:
            raise KeyboardInterrupt


config = preset_config("mnist-mlp", {"hidden": "100", "steps": 10, "epochs": 2, "checkpoint_every": 10})
with tempfile.TemporaryDirectory() as parent:
    folder = Path(parent) / "run"
    try:
        train(config, folder, callbacks=(StopAfter(100),))
    except KeyboardInterrupt:
        print("interrupted")
    resume(folder)  # from the last checkpoint, with the result of a run that was never interrupted
    run = load_run(folder)
    for epoch in run.history:
        print(f"epoch {epoch['epoch']}: test accuracy {epoch['test']['accuracy']:.1%}")
    outcome = run.evaluate()
    print(f"evaluated again: {outcome.accuracy:.1%}")
