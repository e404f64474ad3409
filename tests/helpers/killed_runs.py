"""Runs that die of SIGKILL at one moment after the other and are resumed: `python -m helpers.killed_runs FOLDER`.

A moment is an update, or just before a file of the run is opened, renamed or cut. Each network
gets a folder with a run for every moment, or every few, `whole`, never killed, and `again`, killed until it is through.

Each death is followed by a power failure that damages the metrics, which are not synced.

A process of its own, because it forks: each run is a process, and all share the seconds that torch takes to load.
"""

import os
import signal
import sys
import traceback
from itertools import count
from pathlib import Path
from typing import Any

from helpers.small_runs import small_config, small_dataset
from spiking_lfp.data import samples
from spiking_lfp.kernels import registry
from spiking_lfp.training import Callback, TrainConfig, runs
from spiking_lfp.training.files import CONFIG, METRICS

# each process would have to load the compiled ones, which takes longer than the whole run
registry.device_of = lambda _: None
samples.load_dataset = lambda *_: small_dataset()
samples.DATASET_NAMES = (*samples.DATASET_NAMES, "small")


class Death(Callback):
    """Kills the process after so many moments: hears of files as an audit hook and of updates as a watcher."""

    def __init__(self, folder: Path, moments: int) -> None:
        self.folder, self.left = str(folder), moments

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.rename", "os.truncate") and str(arguments[0]).startswith(self.folder):
            self.come_closer()

    def come_closer(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def batch(self, *_: Any) -> None:
        self.come_closer()


def go_on(folder: Path, config: TrainConfig, moments: int) -> bool:
    """Train, or resume where there are settings, for so many moments (0 for ever); return whether it got through."""
    child = os.fork()
    if child == 0:
        try:
            death = Death(folder, moments)
            sys.addaudithook(death.hear)
            if (folder / CONFIG).exists():
                runs.resume(folder, callbacks=(death,))
            else:
                runs.train(config, folder, callbacks=(death,))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, -signal.SIGKILL):
        sys.exit(f"{folder}: a run ended with {code}")
    return code == 0


def cut_power(folder: Path, number: int) -> None:
    """Do to the metrics, which are not synced, what a power failure may do: tear, shorten, empty, fill with zeros."""
    path = folder / METRICS
    if not path.exists():
        return
    content = path.read_bytes()
    half = content[: len(content) // 2]
    damaged = (content + b'{"kind": "ba', half, half + bytes(len(content) - len(half)), b"", content + bytes(50), None)
    if (new := damaged[number % len(damaged)]) is None:
        path.unlink()
    else:
        path.write_bytes(new)


def main(root: Path, network: str, stride: int) -> None:
    config = small_config(**CHANGES[network], validation=0.3, patience=2, batch_size=2, checkpoint_every=2)
    # torch loads more of itself on the way, better once here than in each process
    runs.train(config, root / "in this process")
    go_on(root / "whole", config, 0)
    for moment in count(1, stride):
        folder = root / f"killed at {moment}"
        if go_on(folder, config, moment):
            break
        cut_power(folder, moment // stride)
        go_on(folder, config, 0)
    for number in range(20):
        if go_on(root / "again", config, 19):
            return
        cut_power(root / "again", number)
        with (root / "again" / "deaths").open("a") as file:
            file.write("+")
    sys.exit(f"{root / 'again'}: never gets any further")


CHANGES: dict[str, dict[str, Any]] = {
    "mlp": {},
    "lenet": {"network": "lenet"},
    "noise": {"network": "stack", "layers": "8-DP0.3-7", "encoding": "rate", "chunk": 2},
    "integers": {"quantize": 4},
    "mono": {"readout": "mono", "readout_hidden": (4,)},
}
# every so many moments a run of its own; with a second argument, all moments of all kinds
STRIDES = {"mlp": 1, "lenet": 5, "noise": 7} if len(sys.argv) == 2 else dict.fromkeys(CHANGES, 1)
for each, stride in STRIDES.items():
    main(Path(sys.argv[1]) / each, each, stride)
