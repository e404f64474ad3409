"""Data sets learned by LFP and by surrogate gradients, with the same network, optimiser and epochs.

A case, one method on one data set from one seed, is trained in a process of its own, so that its peak memory can be
measured, and its run comes back from whatever machine that was on. Finished cases are saved and not repeated, so that
an interrupted benchmark can be resumed.
"""

import re
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from spiking_lfp.data import Split, dataset_status, event_set_status
from spiking_lfp.errors import RunError, UsageError, unknown_name
from spiking_lfp.files import RESULTS
from spiking_lfp.studies import cases as grids
from spiking_lfp.studies.surrogate_comparison.costs import Costs, by_neurobench, counted
from spiking_lfp.studies.surrogate_comparison.surrogate import SurrogateTrainer
from spiking_lfp.training import TrainConfig, preset_config, preset_names, read_metrics
from spiking_lfp.training.config import to_toml
from spiking_lfp.training.devices import pick_device
from spiking_lfp.training.feeds import MemoryData
from spiking_lfp.training.files import CONFIG
from spiking_lfp.training.loop import Trainer, evaluate, reward_of
from spiking_lfp.training.runs import network_for, samples_for

METHODS: dict[str, type[Trainer]] = {"lfp": Trainer, "surrogate": SurrogateTrainer}
# settings the baseline learns best with, where they differ from the preset, which is tuned for LFP
BASELINE = {
    "braille": {"threshold": "1", "beta": "0.9"},
    "dvs128-objects": {"lr": "0.002", "gain": "1"},
    "nmnist-conv": {"lr": "0.001"},
}


@dataclass(frozen=True)
class Published:
    """The best test accuracies of a network in NeuroTrain (arXiv 2605.15058), in percent.

    Attributes:
        gradient: of back-propagation through time with a surrogate.
        other: of the best of its rules that do without.
        rule: which one that is.
    """

    gradient: float
    other: float
    rule: str

    def __str__(self) -> str:
        return f"{self.other} % {self.rule}, {self.gradient} % BPTT"


# settings that are of LFP alone
ONLY_LFP = ("rule", "reward", "clip", "normalize_feedback")
# presets with its networks and data
NEUROTRAIN = {
    "mnist-small": Published(97.8, 97.5, "TP"),
    "mnist-conv": Published(98.9, 98.2, "TP"),
    "fashion-mlp": Published(83.7, 86.4, "ES-D-RTRL"),
    "fashion-conv": Published(82.9, 84.6, "TP"),
    "cifar10-conv": Published(44.9, 56.9, "ES-D-RTRL"),
}
# characters of the name of a folder before its hash; file systems take 255 bytes
LONGEST_NAME = 100
# number of test samples that neurobench measures; it runs them step by step, which is slow
NEUROBENCH_SAMPLES = 100


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
    """The measurements of a case.

    Attributes:
        accuracy: on the test samples after the last epoch, 0..1.
        spikes: of all layers, per inference.
        synops: synaptic operations per inference: nonzero inputs, each times the number of its synapses.
        sparsity: fraction of all neurons and steps without a spike.
        seconds: training time, without evaluation and loading.
        memory_mb: peak memory of the process; None where the system does not report it.
        neurobench: measurements of the package neurobench; None where it is not installed or cannot run the network.
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


def present_presets(root: Path | None = None, presets: Collection[str] | None = None) -> list[str]:
    """Return those of some presets whose data sets are available; of all of event data sets for None."""
    statuses = [*event_set_status(root), *([] if presets is None else dataset_status(root))]
    available = {status.name for status in statuses if status.present}
    return [name for name in presets or preset_names() if preset_config(name).data in available]


def cases_for(
    presets: Sequence[str],
    methods: Sequence[str],
    seeds: int,
    epochs: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> list[Case]:
    """Return the cases of a benchmark, with the preset's settings.

    Args:
        presets: their names.
        methods: names in `METHODS`.
        seeds: number of seeds, counted from 1.
        epochs: used in place of the preset's.
        changes: other settings in place of the presets', by name.

    Raises:
        UsageError: for unknown names, values that settings do not take, and settings that the methods have no use for.
    """
    changes = dict(changes or {})
    for name in ("seed", "epochs"):
        if name in changes:
            raise UsageError(f"{name} is an option of its own: --{'seeds' if name == 'seed' else name}")
    for method in methods:
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
    for what, names in (("preset", presets), ("method", methods)):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"{what} {twice} is given twice, which would count its seeds twice: give it once")
    unused = next((name for name in ONLY_LFP if name in changes and "lfp" not in methods), None)
    if unused is not None:
        raise UsageError(f"{unused} changes nothing of surrogate gradients, it is of LFP: leave it out")
    if seeds < 1:
        raise UsageError(f"seeds must be at least 1, found {seeds}")
    cases = []
    for preset in presets:
        for method in methods:
            settings = {**(BASELINE.get(preset, {}) if method == "surrogate" else {}), **changes}
            config = preset_config(preset, settings)
            if method == "surrogate" and config.quantize:
                raise UsageError(
                    f"quantize = {config.quantize}: surrogate gradients train in real numbers, and would be measured in"
                    " integers they have not seen: leave it out, or compare --methods lfp alone"
                )
            text = shlex.join(f"{name}={value}" for name, value in settings.items())
            cases += [Case(preset, method, seed, epochs or config.epochs, text) for seed in range(1, seeds + 1)]
    return cases


def run_cases(
    cases: Sequence[Case],
    folder: Path,
    data_root: Path | None,
    on_case: Callable[[Case, Outcome, int, int], None],
    executor: Executor | None = None,
    threads: int | None = None,
) -> list[tuple[Case, Outcome]]:
    """Train and measure `cases` one by one, and save each in `folder`; cases that are saved there already are not run.

    Args:
        data_root: folder of the data sets where cases run; None for the environment variable there.
        on_case: called after each case that was run, with its outcome, how many cases are done and how many there are.
        executor: runs the cases in place of this machine, see `run_cases` of `studies.cases`; `threads` too.

    Raises:
        RunError: if the process of a case dies too often, or the folder cannot be used.
    """

    def read(case: grids.Case, outcome: grids.Outcome) -> tuple[Case, Outcome]:
        try:
            return Case(**case), Outcome(**outcome)
        except TypeError as error:
            raise RunError(
                f"{folder / grids.CASES_FILE} has cases of something else ({error}): choose another --out"
            ) from None

    done = grids.run_cases(
        [asdict(case) for case in cases],
        partial(_run_plain, data_root=data_root),
        folder,
        lambda case, outcome, *counts: on_case(*read(case, outcome), *counts),
        executor=executor,
        threads=threads,
    )
    return [read(case, outcome) for case, outcome in done]


def _run_plain(case: grids.Case, data_root: Path | None) -> grids.WithFiles:
    with TemporaryDirectory() as name:
        outcome = run_case(Case(**case), Path(name), data_root)
        # all that tells cases apart, so that none takes the folder of another
        words = [
            case["preset"],
            case["method"],
            case["seed"],
            f"epochs={case['epochs']}",
            *shlex.split(case["settings"]),
        ]
        run = _folder_name("-".join(map(str, words)))
        files = {f"{run}/{path.name}": path.read_bytes() for path in Path(name).iterdir()}
    return grids.WithFiles(asdict(outcome), files)


def _folder_name(text: str) -> str:
    """Return a name for the folder of a run; where it is not the text itself, a hash tells it from those alike."""
    name = re.sub(r"[^\w.=,-]", "_", text, flags=re.ASCII)
    if name == text and len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{sha256(text.encode()).hexdigest()[:8]}"


def run_case(case: Case, folder: Path, data_root: Path | None) -> Outcome:
    """Train a case, save its run in `folder`, and measure it on the test samples."""
    changes = dict(each.split("=", 1) for each in shlex.split(case.settings))
    config = preset_config(case.preset, {**changes, "seed": case.seed, "epochs": case.epochs})
    samples = samples_for(config, data_root)
    torch.manual_seed(case.seed)
    device = pick_device("auto")
    run = METHODS[case.method](config, MemoryData(samples), network_for(config, samples).to(device), device)
    run.folder = folder
    RESULTS.write(run.folder / CONFIG, to_toml(config).encode())
    run.finish()
    seconds = sum(line["seconds"] for line in read_metrics(run.folder) if line["kind"] == "epoch")
    return measure(run.network, config, samples.test.to(device), len(samples.train), seconds)


def measure(network: nn.Module, config: TrainConfig, test: Split, train_samples: int, seconds: float) -> Outcome:
    """Measure a trained network on the test samples."""
    memory, costs = peak_memory_mb(), Costs()
    with counted(network, costs):
        meter = evaluate(network, test, config.chunk, reward_of(config, network))
    assert isinstance(network, nn.Sequential)
    x, _ = test.batch(torch.arange(min(NEUROBENCH_SAMPLES, len(test)), device=test.labels.device))
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
    """Return the peak memory of this process in megabytes; None where the system does not report it."""
    if sys.platform == "win32":
        return None
    if sys.platform == "linux":  # what getrusage says there includes the peak of the process that started this one
        [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1e6 if sys.platform == "darwin" else 1e3)
