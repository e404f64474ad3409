"""Search for better settings of a training run by Optuna, on samples held out from training."""

import os
import re
import socket
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

import spiking_lfp
from spiking_lfp.errors import NonFiniteError, RunError, RunStopped, SpikingLFPError, UsageError
from spiking_lfp.files import RESULTS
from spiking_lfp.studies.cases import ATTEMPTS
from spiking_lfp.training import TrainConfig
from spiking_lfp.training.config import check_used, checked_config, depends_on
from spiking_lfp.training.devices import pick_device
from spiking_lfp.training.feeds import MemoryData
from spiking_lfp.training.loop import Callback, Trainer
from spiking_lfp.training.runs import network_for, samples_for

if TYPE_CHECKING:
    import optuna

# settings by which trials cannot be compared, or that change nothing of them, and why
UNSEARCHED = {
    "seed": "each of them holds out other samples, so that the best is the luckiest",
    "validation": "it is what trials are judged by",
    "preset": "it is only a name: give the preset itself",
    "log_every": "it only says what is written",
    "checkpoint_every": "it only says what is written",
}
SEARCH = ("lr=0.0003..0.03", "gain=0.5..8", "clip=0.003..0.3", "reward=spike-count,spike-rate")
# fraction of the training samples to hold out where the settings hold out none
HELD_OUT = 0.1
# a process that shares a storage tells it so often that it is alive; after twice that its trial is tried again
HEARTBEAT_S = 60
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
        UsageError: for words that cannot be read, values that are not allowed, and settings that would change nothing.
    """
    axes: list[Axis] = []
    configs: dict[str, list[TrainConfig]] = {}
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
        if setting in UNSEARCHED:
            raise UsageError(f"--search {word}: {setting} cannot be searched, {UNSEARCHED[setting]}; leave it out")
        candidates = [checked_config({**config.model_dump(), setting: value}) for value in ends]
        tried = [getattr(candidate, setting) for candidate in candidates]
        if all(value == tried[0] for value in tried):
            raise UsageError(
                f"--search {word}: one value is no search: give KEY=LOW..HIGH or KEY=A,B,..., or fix it with --set "
                f"{setting}={values}"
            )
        if any(axis.setting == other.setting for other in axes):
            raise UsageError(f"--search {word}: {setting} is searched already: give it once")
        axes.append(axis)
        configs[setting] = candidates
    for setting, candidates in configs.items():
        for candidate in candidates if depends_on(setting) not in configs else ():
            check_used(candidate, [setting])
    return axes


def tune(
    config: TrainConfig,
    folder: str | Path,
    trials: int,
    search: Sequence[str] = (),
    on_trial: Callable[[Trial], None] = lambda trial: None,
    data_root: str | Path | None = None,
    device: str = "auto",
    storage: str | None = None,
    fixed: Collection[str] = (),
) -> list[Trial]:
    """Train with different settings and save the trials in `folder`; trials that are there already count.

    Processes on any machines that are given the same `storage`, `folder`, `config` and `search` share one search. If
    one dies, another tries its settings again, up to `ATTEMPTS` times in all.

    The accuracy is measured on held-out training samples, a tenth of them if `config` holds out none; the test samples
    are never used. A trial whose accuracy after an epoch is below the median of the other trials is stopped.

    Args:
        config: all other settings.
        folder: created if it does not exist; gets `trials.csv`.
        trials: total number of trials; those that other processes are training by then are finished and count too.
        search: the settings to search, see `read_search`; `SEARCH` if empty, without those that are `fixed`, and
            without the reward for a mono readout.
        on_trial: called after each trial.
        data_root: folder of the data sets.
        device: as for training.
        storage: URL of a database as Optuna takes it, like `postgresql://user@host/name`, in which the search is called
            as `folder` is written; None for a file in `folder`.
        fixed: settings that `config` was given by hand.

    Returns:
        all trials, the best first.

    Raises:
        UsageError: if Optuna is not installed, a setting cannot be searched or is fixed, or the trials that are there
            are of other settings.
        RunError: if the folder or the storage cannot be used, or the trials there are of another version.
        RunStopped: if the process is told to end (SIGTERM); the next one begins with this trial.
    """
    folder = Path(folder)
    data_root = None if data_root is None else Path(data_root)
    try:
        import optuna
    except ImportError:
        raise UsageError("Optuna is not installed: pip install 'spiking-lfp[tune]'") from None
    unneeded = fixed if config.readout == "spikes" else {*fixed, "reward"}
    search = search or [word for word in SEARCH if word.partition("=")[0] not in unneeded]
    if not search:
        raise UsageError("all settings that are searched without --search are fixed: name others with --search")
    axes = read_search(search, config)
    both = next((axis.setting for axis in axes if axis.setting in fixed), None)
    if both is not None:
        raise UsageError(f"setting {both} is fixed and searched: leave one of the two out")
    if trials < 1:
        raise UsageError(f"trials must be at least 1, found {trials}")
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # otherwise Ctrl-C prints a traceback
    with _storage_errors():
        study = _study(folder, storage)
        request = {"config": config.model_dump(mode="json"), "search": list(search)}
        if study.user_attrs.get("meant", request) != request:
            raise UsageError(f"{folder} has trials of other settings or another search: choose another --out")
        version = study.user_attrs.get("spiking_lfp", spiking_lfp.__version__)
        if version != spiking_lfp.__version__:
            raise RunError(
                f"{folder} has trials of spiking_lfp {version}, but {socket.gethostname()} has "
                f"{spiking_lfp.__version__}: install the same version, or choose another --out"
            )
        study.set_user_attr("meant", request)
        study.set_user_attr("spiking_lfp", spiking_lfp.__version__)
        # neither a resumed search nor one that shares a storage must draw the same values again
        seed = config.seed + len(study.trials) if storage is None else None
        study.sampler = optuna.samplers.TPESampler(seed=seed)
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=4)
    held_out = config.validation or HELD_OUT

    def objective(trial: optuna.Trial) -> float:
        values = {axis.setting: axis.suggest(trial) for axis in axes}
        candidate = checked_config({**config.model_dump(), **values, "validation": held_out})
        try:
            return _train(candidate, trial, data_root, device)
        except NonFiniteError:
            raise optuna.TrialPruned from None
        except RunStopped:
            study.enqueue_trial(values)  # for whoever goes on
            raise RunStopped("stopped by SIGTERM: the same command continues") from None
        except SpikingLFPError as error:
            if storage is None:
                raise
            raise type(error)(f"worker {socket.gethostname()}: {error}") from None

    def save(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        _write_table(folder, study)
        on_trial(_read_trial(trial))

        if len(_finished_trials(study)) >= trials:
            study.stop()

    with _storage_errors():
        if len(_finished_trials(study)) < trials:
            study.optimize(objective, callbacks=[save])
        return sorted(_finished_trials(study), key=lambda trial: 0.0 if trial.accuracy is None else -trial.accuracy)


def _study(folder: Path, storage: str | None) -> "optuna.Study":
    """Open the search of `folder`, in a file there or in a storage of this URL."""
    import optuna
    from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        if storage is None:
            name = "tune"
            _cut_half_line(folder / JOURNAL)
            engine: BaseStorage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                retry = RetryHeartbeatStaleTrialCallback(max_retry=ATTEMPTS - 1)
                engine = RDBStorage(storage, heartbeat_interval=HEARTBEAT_S, heartbeat_stale_trial_callback=retry)
            name = str(folder)
        return optuna.create_study(storage=engine, study_name=name, direction="maximize", load_if_exists=True)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise UsageError(
            f"--storage: {_line(error)}; expected the URL of a database whose driver is installed, like "
            "postgresql://user@host/name or sqlite:///trials.db"
        ) from None
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"cannot use {folder}: {error}; choose another --out") from None


def _cut_half_line(journal: Path) -> None:
    """Cut off a last line of which a power cut left a part: Optuna would write on behind it, and not read it again."""
    from optuna.storages.journal import JournalFileSymlinkLock

    if not journal.is_file() or journal.read_bytes()[-1:] in (b"", b"\n"):
        return
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()
    try:
        content = journal.read_bytes()
        os.truncate(journal, content.rfind(b"\n") + 1)
    finally:
        lock.release()


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Turn what a database says into one sentence, which does not show its URL: there may be a password in it."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise RunError(f"the storage cannot be used: {_line(error.__cause__ or error)}") from None


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


class _Pruner(Callback):
    """Reports each epoch to Optuna, and stops the run if Optuna prunes its trial."""

    def __init__(self, trial: "optuna.Trial") -> None:
        self.trial = trial

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Report the validation accuracy after each epoch."""
        self.trial.report(metrics["validation"]["accuracy"], metrics["epoch"])
        if self.trial.should_prune():
            import optuna

            raise optuna.TrialPruned


def _train(config: TrainConfig, trial: "optuna.Trial", data_root: Path | None, device: str) -> float:
    """Train with these settings and return the best validation accuracy."""
    samples = samples_for(config, data_root)
    torch.manual_seed(config.seed)
    target = pick_device(device)
    run = Trainer(config, MemoryData(samples), network_for(config, samples).to(target), target, (_Pruner(trial),))
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
