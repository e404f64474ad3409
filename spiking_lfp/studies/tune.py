"""The search for better settings of a training run, by Optuna, on samples held out from training."""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from spiking_lfp.errors import NonFiniteError, RunError, UsageError
from spiking_lfp.files import RESULTS
from spiking_lfp.training import Meter, TrainConfig
from spiking_lfp.training.config import checked_config
from spiking_lfp.training.devices import pick_device
from spiking_lfp.training.loop import Run
from spiking_lfp.training.runs import network_for, samples_for

if TYPE_CHECKING:
    import optuna

SEARCH = ("lr=0.0003..0.03", "gain=0.5..8", "clip=0.003..0.3", "reward=spike-count,spike-rate")
# part of the training samples held out where the settings hold out none
HELD_OUT = 0.1
JOURNAL, TRIALS = "journal.log", "trials.csv"


@dataclass(frozen=True)
class Axis:
    """A setting to search: one of `choices`, or a number from `low` to `high`."""

    setting: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether the setting is a whole number."""
        return TrainConfig.model_fields[self.setting].annotation is int

    def suggest(self, trial: "optuna.Trial") -> Any:
        """Return the value to try."""
        if self.choices:
            return trial.suggest_categorical(self.setting, self.choices)
        wide = self.low > 0 and self.high >= 10 * self.low  # over powers of ten, sizes count and not differences
        if self.whole:
            return trial.suggest_int(self.setting, round(self.low), round(self.high), log=wide)
        return trial.suggest_float(self.setting, self.low, self.high, log=wide)


@dataclass(frozen=True)
class Trial:
    """What was tried: values by setting, the validation accuracy, and whether it was given up early.

    There is no accuracy if feedback was no longer finite before the end of an epoch.
    """

    number: int
    values: dict[str, Any]
    accuracy: float | None
    given_up: bool


def read_search(words: Sequence[str], config: TrainConfig) -> list[Axis]:
    """Read what to search, `lr=0.0003..0.03` or `reward=spike-count,spike-rate`.

    Raises:
        UsageError: for words that cannot be read, and values that the settings do not take.
    """
    axes = []
    for word in words:
        setting, _, values = word.partition("=")
        numbers = re.fullmatch(r"([-+.\de]+)\.\.([-+.\de]+)", values)
        if numbers is not None:
            try:
                axis = Axis(setting, (), *(float(number) for number in numbers.groups()))
            except ValueError:
                raise UsageError(f"--search {word}: {values} is no range of numbers") from None
            ends: Sequence[Any] = (axis.low, axis.high)
            if axis.low >= axis.high:
                raise UsageError(f"--search {word}: the range is empty")
        else:
            axis = Axis(setting, tuple(value.strip() for value in values.split(",") if value.strip()))
            ends = axis.choices
        if not ends:
            raise UsageError(f"--search expects KEY=LOW..HIGH or KEY=A,B,..., found {word!r}")
        for value in ends:
            checked_config({**config.model_dump(), setting: value})
        if setting == "reward" and config.readout == "mono":
            raise UsageError(f"--search {word}: a mono readout rewards its spikes itself; leave the reward out")
        axes.append(axis)
    return axes


def tune(
    config: TrainConfig,
    folder: Path,
    trials: int,
    search: Sequence[str] = (),
    told: Callable[[Trial], None] = lambda trial: None,
    data_root: Path | None = None,
    device: str = "auto",
) -> list[Trial]:
    """Try settings, and keep what they came to in `folder`; what was tried there already counts.

    The accuracy is that on training samples held out, a tenth if `config` holds out none; test samples are not looked
    at. A trial that is worse after an epoch than half of the others were is given up.

    Args:
        config: all other settings.
        folder: made if there is none; gets `trials.csv`.
        trials: how many in all.
        search: what to search, see `read_search`; `SEARCH` if empty, without the reward where a readout answers.
        told: is called after each trial.
        data_root: folder of the data sets.
        device: as for training.

    Returns:
        all trials, the best first.

    Raises:
        UsageError: if Optuna is not installed, or for what cannot be searched.
        RunError: if the folder cannot be used.
    """
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise UsageError("Optuna is not installed: pip install 'spiking-lfp[tune]'") from None
    search = search or [word for word in SEARCH if config.readout == "spikes" or not word.startswith("reward=")]
    axes = read_search(search, config)
    if trials < 1:
        raise UsageError(f"trials must be at least 1, found {trials}")
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it shows where Ctrl-C met it
    try:
        folder.mkdir(parents=True, exist_ok=True)
        backend = JournalFileBackend(str(folder / JOURNAL))
        storage = optuna.storages.JournalStorage(backend)
        study = optuna.create_study(storage=storage, study_name="tune", direction="maximize", load_if_exists=True)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"cannot use {folder}: {error}; choose another --out") from None
    meant = {"config": config.model_dump(mode="json"), "search": list(search)}
    if study.user_attrs.setdefault("meant", meant) != meant:
        raise UsageError(f"{folder} keeps trials of other settings or another search: choose another --out")
    study.set_user_attr("meant", meant)
    # not the draws of the trials before
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials))
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=4)
    held_out = config.validation or HELD_OUT

    def attempt(trial: optuna.Trial) -> float:
        values = {axis.setting: axis.suggest(trial) for axis in axes}
        tried = checked_config({**config.model_dump(), **values, "validation": held_out})
        try:
            return _train(tried, trial, data_root, device)
        except NonFiniteError:
            raise optuna.TrialPruned from None

    def finished(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        _write(folder, study)
        told(_trial(trial))

    study.optimize(attempt, max(0, trials - len(_tried(study))), callbacks=[finished])
    return sorted(_tried(study), key=lambda trial: 0.0 if trial.accuracy is None else -trial.accuracy)


class _Judge:
    """Tells a trial how its run goes, and gives it up."""

    def __init__(self, trial: "optuna.Trial") -> None:
        self.trial = trial

    def start(self, folder: Path) -> None:
        """Nothing to do."""

    def batch(self, epoch: int, batch: int, batches: int, meter: Meter) -> None:
        """Nothing to do."""

    def line(self, metrics: dict[str, Any]) -> None:
        """Compare after each epoch."""
        if metrics["kind"] == "epoch":
            self.trial.report(metrics["validation"]["accuracy"], metrics["epoch"])
            if self.trial.should_prune():
                import optuna

                raise optuna.TrialPruned


def _train(config: TrainConfig, trial: "optuna.Trial", data_root: Path | None, device: str) -> float:
    """Train with these settings and return the best validation accuracy."""
    samples = samples_for(config, data_root)
    torch.manual_seed(config.seed)
    target = pick_device(device)
    run = Run(config, samples, network_for(config, samples).to(target), target, (_Judge(trial),))
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a silent layer tells by its accuracy
        run.folder = Path(folder)
        run.finish()
    return run.progress.best_accuracy


def _tried(study: "optuna.Study") -> list[Trial]:
    """Return all trials but those that were interrupted."""
    return [_trial(trial) for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def _trial(trial: "optuna.trial.FrozenTrial") -> Trial:
    """Return what came of a trial; Optuna's value of one that was given up is its last accuracy."""
    return Trial(trial.number, trial.params, trial.value, trial.state.name == "PRUNED")


def _write(folder: Path, study: "optuna.Study") -> None:
    """Write the table of all trials."""
    trials = _tried(study)
    settings = list(dict.fromkeys(name for trial in trials for name in trial.values))
    lines = [["trial", "accuracy", "given_up", *settings]]
    for trial in trials:
        accuracy = "" if trial.accuracy is None else str(trial.accuracy)
        values = [str(trial.values.get(name, "")) for name in settings]
        lines.append([str(trial.number), accuracy, str(trial.given_up), *values])
    RESULTS.write(folder / TRIALS, "".join(",".join(line) + "\n" for line in lines).encode())
