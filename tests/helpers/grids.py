"""Cases of a grid that take no time; in a module, so that processes can be given them."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spiking_lfp.errors import DataError, RunStopped, UsageError
from spiking_lfp.studies.cases import WithFiles


def squared(case: dict[str, Any]) -> dict[str, Any]:
    """Return what a case comes to, in whose process and with how many threads."""
    if case["x"] < 0:
        raise UsageError("x must be at least 0")
    if case["x"] == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return {
        "squared": case["x"] ** 2,
        "process": os.getpid(),
        "threads": torch.get_num_threads(),
        "libraries": [os.environ.get(f"{name}_NUM_THREADS") for name in ("OMP", "MKL", "NUMBA")],
    }


def trained(case: dict[str, Any]) -> WithFiles:
    """Train a little network, and on the way kill what `case` names, once: this process or the worker above it."""
    from spiking_lfp import LIF, constant, propagate, spike_count_reward
    from spiking_lfp.kernels import registry

    registry.device_of = lambda _: None  # to load the compiled kernels takes longer than all the rest
    torch.manual_seed(case["seed"])
    inputs, labels = torch.rand(64, 200), torch.arange(64) % 10
    layer = LIF(torch.nn.Linear(200, 10), threshold=0.3)
    for step in range(4):
        if step == 2 and case.get("kills"):
            _kill_once(Path(case["marks"]), case["kills"])
        spikes = layer(constant(inputs, 6))
        propagate(spikes, spike_count_reward(spikes, labels))
        with torch.no_grad():
            layer.synapse.weight -= 0.01 * layer.synapse.weight.grad
    weights = layer.synapse.weight.detach().numpy()
    return WithFiles({"sum": float(weights.sum()), "draw": float(np.random.default_rng(1).normal())}, {
        f"run-{case['seed']}/weights": weights.tobytes()
    })  # fmt: skip


def _kill_once(marks: Path, victim: str) -> None:
    marks.mkdir(exist_ok=True)
    if not (marks / victim).exists():
        (marks / victim).touch()
        if victim == "process":
            _end_as_a_run()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)  # until it is noticed above that the worker is gone


def _end_as_a_run() -> None:
    """Be told to end, as by Slurm, in the middle of a training."""
    from spiking_lfp.training.loop import stop_requests

    with stop_requests() as stopping:
        os.kill(os.getpid(), signal.SIGTERM)
        if stopping():
            raise RunStopped("it is not the case that failed")


def needs_data(case: dict[str, Any]) -> dict[str, Any]:
    """Tell whether the data root of this machine is there."""
    root = os.environ["SPIKING_LFP_DATA"]
    if not Path(root).is_dir():
        raise DataError(f"no data in {root}: set SPIKING_LFP_DATA")
    return {"found": case["x"]}


def sleeps(case: dict[str, Any]) -> dict[str, Any]:
    """Leave the number of this process in a file, and sleep."""
    if case["seconds"] > 0:
        (Path(case["folder"]) / "process").write_text(str(os.getpid()))
    time.sleep(case["seconds"])
    return {}
