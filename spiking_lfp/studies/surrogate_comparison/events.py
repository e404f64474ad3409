"""Every data set of recordings that is there, by LFP and by surrogate gradients: same data, network, optimiser, epochs.

A case, one method on one data set from one seed, is trained in a process of its own, so that its memory is its own.
Cases that are done are kept and not repeated, so that an interrupted benchmark goes on.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from spiking_lfp.data import Split, event_set_status
from spiking_lfp.errors import RunError, UsageError, unknown_name
from spiking_lfp.files import RESULTS
from spiking_lfp.studies import cases as grids
from spiking_lfp.studies.surrogate_comparison.costs import Costs, by_neurobench, counted
from spiking_lfp.studies.surrogate_comparison.surrogate import SurrogateRun
from spiking_lfp.training import TrainConfig, preset_config, preset_names, read_metrics
from spiking_lfp.training.config import to_toml
from spiking_lfp.training.devices import pick_device
from spiking_lfp.training.files import CONFIG
from spiking_lfp.training.loop import Run, evaluate
from spiking_lfp.training.runs import network_for, samples_for

METHODS: dict[str, type[Run]] = {"lfp": Run, "surrogate": SurrogateRun}
# what the baseline learns best with, where it is something else than the preset, which is tuned for LFP
BASELINE = {
    "braille": "threshold=1 beta=0.9",
    "dvs128-objects": "lr=0.002 gain=1",
    "nmnist-conv": "lr=0.001",
}
# test samples for the costs of an inference by neurobench, which takes one step after the other
COUNTED = 100


@dataclass(frozen=True)
class Case:
    """One training: a method on a preset's data and network, from one seed; `settings` differ from the preset's."""

    preset: str
    method: str
    seed: int
    epochs: int
    settings: str


@dataclass(frozen=True)
class Outcome:
    """What a case came to.

    Attributes:
        accuracy: on the test samples after the last epoch, 0..1.
        spikes: of all layers, for one inference.
        synops: synaptic operations, for one inference: inputs that are not zero times the synapses of each.
        sparsity: share of neurons and steps without a spike.
        seconds: of training, without evaluation and loading.
        memory_mb: the most the process held; none where the system does not say.
        neurobench: what the package neurobench measures; none where it is missing or cannot.
    """

    accuracy: float
    spikes: float
    synops: float
    sparsity: float
    seconds: float
    memory_mb: float | None
    train_samples: int
    test_samples: int
    neurobench: dict[str, float] | None


def present_presets(root: Path | None = None) -> list[str]:
    """Return the presets of data sets of recordings that are there."""
    there = {status.name for status in event_set_status(root) if status.present}
    return [name for name in preset_names() if preset_config(name).data in there]


def cases_for(presets: Sequence[str], methods: Sequence[str], seeds: int, epochs: int | None = None) -> list[Case]:
    """Return the cases of a benchmark, with the preset's settings.

    Args:
        presets: by name.
        methods: of `METHODS`.
        seeds: how many, from 1 on.
        epochs: instead of the preset's.

    Raises:
        UsageError: for unknown names.
    """
    for method in methods:
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
    if seeds < 1:
        raise UsageError(f"seeds must be at least 1, found {seeds}")
    made = []
    for preset in presets:
        for method in methods:
            settings = BASELINE.get(preset, "") if method == "surrogate" else ""
            planned = epochs or preset_config(preset).epochs
            made += [Case(preset, method, seed, planned, settings) for seed in range(1, seeds + 1)]
    return made


def run_cases(
    cases: Sequence[Case], folder: Path, data_root: Path | None, told: Callable[[Case, Outcome], None]
) -> list[tuple[Case, Outcome]]:
    """Train and measure `cases` one after the other, and keep each in `folder`; those kept there already are not run.

    Args:
        told: is called after each case that is run.

    Raises:
        RunError: if a case's process dies, or the folder cannot be used.
    """

    def read(case: grids.Case, outcome: grids.Outcome) -> tuple[Case, Outcome]:
        try:
            return Case(**case), Outcome(**outcome)
        except TypeError as error:
            raise RunError(f"{folder / grids.KEPT} keeps something else ({error}): choose another --out") from None

    done = grids.run_cases(
        [asdict(case) for case in cases],
        partial(_run_kept, folder=folder, data_root=data_root),
        folder,
        lambda case, outcome: told(*read(case, outcome)),
    )
    return [read(case, outcome) for case, outcome in done]


def _run_kept(case: grids.Case, folder: Path, data_root: Path | None) -> grids.Outcome:
    return asdict(run_case(Case(**case), folder, data_root))


def run_case(case: Case, folder: Path, data_root: Path | None) -> Outcome:
    """Train a case, keep its run in a folder of its own, and measure it on the test samples."""
    changes = dict(each.split("=") for each in case.settings.split())
    config = preset_config(case.preset, {**changes, "seed": case.seed, "epochs": case.epochs})
    samples = samples_for(config, data_root)
    torch.manual_seed(case.seed)
    device = pick_device("auto")
    run = METHODS[case.method](config, samples, network_for(config, samples).to(device), device, ())
    run.folder = folder / f"{case.preset}-{case.method}-{case.seed}"
    try:
        run.folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot create {run.folder}: {error.strerror}; choose another --out") from None
    RESULTS.write(run.folder / CONFIG, to_toml(config).encode())
    run.finish()
    seconds = sum(line["seconds"] for line in read_metrics(run.folder) if line["kind"] == "epoch")
    return measured(run.network, config, samples.test.to(device), len(samples.train), seconds)


def measured(network: nn.Module, config: TrainConfig, test: Split, train_samples: int, seconds: float) -> Outcome:
    """Measure a trained network on the test samples."""
    memory, costs = peak_memory_mb(), Costs()
    with counted(network, costs):
        meter = evaluate(network, test, chunk=config.chunk)
    assert isinstance(network, nn.Sequential)
    x, _ = test.batch(torch.arange(min(COUNTED, len(test)), device=test.labels.device))
    return Outcome(
        accuracy=meter.accuracy,
        spikes=costs.spikes / meter.samples,
        synops=costs.synops / meter.samples,
        sparsity=1 - costs.spikes / costs.updates,
        seconds=seconds,
        memory_mb=memory,
        train_samples=train_samples,
        test_samples=meter.samples,
        neurobench=by_neurobench(network, x),
    )


def peak_memory_mb() -> float | None:
    """Return the most memory this process held so far, in megabytes; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1e6 if sys.platform == "darwin" else 1e3)
