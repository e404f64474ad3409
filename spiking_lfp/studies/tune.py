"""Search for better settings of a training run by Optuna, on samples held out from training."""

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
# fraction of the training samples to hold out where the settings hold out none
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
    def is_integer(self) -> bool:
        """Whether the setting is an integer."""
        return TrainConfig.model_fields[self.setting].annotation is int

    def suggest(self, trial: "optuna.Trial") -> Any:
        """Return the value to try."""
        if self.choices:
            return trial.suggest_categorical(self.setting, self.choices)
        log = self.low > 0 and self.high >= 10 * self.low  # a range of a factor of ten or more is sampled by ratios
        if self.is_integer:
            return trial.suggest_int(self.setting, round(self.low), round(self.high), log=log)
        return trial.suggest_float(self.setting, self.low, self.high, log=log)


@dataclass(frozen=True)
class Trial:
    """A training with some values of the settings: its validation accuracy, and whether it was stopped early.

    There is no accuracy if feedback became NaN or infinite before the end of the first epoch.
    """

    number: int
    values: dict[str, Any]
    accuracy: float | None
    given_up: bool


def read_search(words: Sequence[str], config: TrainConfig) -> list[Axis]:
    """Read the settings to search: `lr=0.0003..0.03` is a range, `reward=spike-count,spike-rate` a choice.

    Raises:
        UsageError: for words that cannot be read, and values that the settings do not allow.
    """
    axes = []
    for word in words:
        setting, _, values = word.partition("=")
        numbers = re.fullmatch(r"([-+.\de]+)\.\.([-+.\de]+)", values)
        if numbers is not None:
            try:
                axis = Axis(setting, (), *(float(number) for number in numbers.groups()))
            except ValueError:
                raise UsageError(f"--search {word}: {values} is not a range of numbers") from None
            ends: Sequence[Any] = (axis.low, axis.high)
            if axis.low >= axis.high:
                raise UsageError(f"--search {word}: the range is empty, its first number must be the smaller one")
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
    on_trial: Callable[[Trial], None] = lambda trial: None,
    data_root: Path | None = None,
    device: str = "auto",
) -> list[Trial]:
    """Train with different settings and save the trials in `folder`; trials that are there already count.

    The accuracy is measured on held-out training samples, a tenth of them if `config` holds out none; the test samples
    are never used. A trial whose accuracy after an epoch is below the median of the other trials is stopped.

    Args:
        config: all other settings.
        folder: created if it does not exist; gets `trials.csv`.
        trials: total number of trials.
        search: the settings to search, see `read_search`; `SEARCH` if empty, without the reward for a mono readout.
        on_trial: called after each trial.
        data_root: folder of the data sets.
        device: as for training.

    Returns:
        all trials, the best first.

    Raises:
        UsageError: if Optuna is not installed, or a setting cannot be searched.
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
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # otherwise Ctrl-C prints a traceback
    try:
        folder.mkdir(parents=True, exist_ok=True)
        backend = JournalFileBackend(str(folder / JOURNAL))
        storage = optuna.storages.JournalStorage(backend)
        study = optuna.create_study(storage=storage, study_name="tune", direction="maximize", load_if_exists=True)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"cannot use {folder}: {error}; choose another --out") from None
    request = {"config": config.model_dump(mode="json"), "search": list(search)}
    if study.user_attrs.setdefault("meant", request) != request:
        raise UsageError(f"{folder} has trials of other settings or another search: choose another --out")
    study.set_user_attr("meant", request)
    # a resumed search must not draw the same values again
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials))
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=4)
    held_out = config.validation or HELD_OUT

    def objective(trial: optuna.Trial) -> float:
        values = {axis.setting: axis.suggest(trial) for axis in axes}
        candidate = checked_config({**config.model_dump(), **values, "validation": held_out})
        try:
            return _train(candidate, trial, data_root, device)
        except NonFiniteError:
            raise optuna.TrialPruned from None

    def save(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        _write_table(folder, study)
        on_trial(_read_trial(trial))

    study.optimize(objective, max(0, trials - len(_finished_trials(study))), callbacks=[save])
    return sorted(_finished_trials(study), key=lambda trial: 0.0 if trial.accuracy is None else -trial.accuracy)


class _Pruner:
    """A watcher that reports each epoch to Optuna, and stops the run if Optuna prunes its trial."""

    def __init__(self, trial: "optuna.Trial") -> None:
        self.trial = trial

    def start(self, folder: Path) -> None:
        """Nothing to do."""

    def batch(self, epoch: int, batch: int, batches: int, meter: Meter) -> None:
        """Nothing to do."""

    def line(self, metrics: dict[str, Any]) -> None:
        """Report the validation accuracy after each epoch."""
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
    run = Run(config, samples, network_for(config, samples).to(target), target, (_Pruner(trial),))
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about silent layers: the accuracy shows them
        run.folder = Path(folder)
        run.finish()
    return run.progress.best_accuracy


def _finished_trials(study: "optuna.Study") -> list[Trial]:
    """Return all trials but those that were interrupted."""
    return [_read_trial(trial) for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def _read_trial(trial: "optuna.trial.FrozenTrial") -> Trial:
    """Return a trial of Optuna as ours; its value for a pruned trial is the last accuracy reported."""
    return Trial(trial.number, trial.params, trial.value, trial.state.name == "PRUNED")


def _write_table(folder: Path, study: "optuna.Study") -> None:
    """Write the table of all trials."""
    trials = _finished_trials(study)
    settings = list(dict.fromkeys(name for trial in trials for name in trial.values))
    lines = [["trial", "accuracy", "given_up", *settings]]
    for trial in trials:
        accuracy = "" if trial.accuracy is None else str(trial.accuracy)
        values = [str(trial.values.get(name, "")) for name in settings]
        lines.append([str(trial.number), accuracy, str(trial.given_up), *values])
    RESULTS.write(folder / TRIALS, "".join(",".join(line) + "\n" for line in lines).encode())
