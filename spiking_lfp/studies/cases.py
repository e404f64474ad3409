"""Grids of trainings: each case runs in a process of its own and is saved when it is done, so a grid can be resumed."""

import json
import os
import pickle
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import spiking_lfp
from spiking_lfp.errors import RunError, SpikingLFPError, UsageError
from spiking_lfp.files import RESULTS
from spiking_lfp.studies.process import job_of, run_in_process

# the settings of one training, and its results: plain values, as JSON has them
Case = dict[str, Any]
Outcome = dict[str, Any]
# called with a case that was run, its outcome, how many cases are done and how many there are
OnCase = Callable[[Case, Outcome, int, int], None]
CASES_FILE = "cases.jsonl"
# how often a case is run whose process or worker dies
ATTEMPTS = 3


@dataclass(frozen=True)
class WithFiles:
    """An outcome, and files to write below the folder of the grid, by name."""

    outcome: Outcome
    files: dict[str, bytes]


def run_cases(
    cases: Sequence[Case],
    run: Callable[[Case], Outcome | WithFiles],
    folder: str | Path,
    on_case: OnCase,
    processes: int = 1,
    executor: Executor | None = None,
    threads: int | None = None,
) -> list[tuple[Case, Outcome]]:
    """Run `cases`, and save each in `folder` when it is done; cases that are saved there already are not run again.

    With its outcome a case keeps what made it: the day, versions, the processor, threads and seconds. A case whose
    process or worker dies is run again, up to `ATTEMPTS` times in all, with a warning.

    Args:
        cases: all different.
        run: trains a case in a new process, which shares nothing with other cases; it is pickled, so that process must
            be able to import the module it is in.
        folder: created if it does not exist.
        on_case: called after each case that was run.
        processes: how many cases run at a time on this machine.
        executor: runs the cases in place of this machine, as many at a time as it likes, each in a process of its own
            there too. It is left open. What it is running goes on if this function fails, except on Dask.
        threads: of each case; by default this machine's cores divided by `processes`, 1 with an `executor`.

    Returns:
        All cases in their order, each with its outcome.

    Raises:
        UsageError: if `processes` or `threads` is less than 1.
        RunError: if a case is lost too often, a worker has other versions, or the folder cannot be used.
        SpikingLFPError: whatever `run` raises.
    """
    folder = Path(folder)
    if processes < 1:
        raise UsageError(f"processes must be at least 1, found {processes}")
    if threads is None:
        threads = max(1, (os.cpu_count() or 1) // processes) if executor is None else 1
    if threads < 1:
        raise UsageError(f"threads must be at least 1, found {threads}")
    lines = _read(folder)
    finished = {_key(line["case"]): (line["case"], line["outcome"]) for line in lines}
    missing = [case for case in cases if _key(case) not in finished]
    engine = _ThisMachine(processes) if executor is None else executor
    running: dict[Future[tuple[str, bytes]], Case] = {}
    losses: Counter[str] = Counter()

    def submit(case: Case) -> None:
        try:
            running[engine.submit(run_in_process, job_of(run, case, threads))] = case
        except Exception as error:  # it is broken or shut down, of which each engine has its own
            running.clear()  # there is nothing to cancel
            raise RunError(f"the executor takes no more cases ({_summary(error)}): run the command again") from None

    try:
        for case in missing:
            submit(case)
        while running:
            failure: Exception | None = None
            done = wait(running, return_when=FIRST_COMPLETED).done
            for future in [each for each in running if each in done]:
                case = running.pop(future)
                try:
                    place, content = future.result()
                except (ImportError, AttributeError) as error:
                    failure = RunError(
                        f"{_describe(case)}: a worker cannot load spiking_lfp {spiking_lfp.__version__} "
                        f"({error}): install it on all of them"
                    )
                    continue
                except Exception as error:  # each engine has its own for workers that die
                    losses[_key(case)] += 1
                    if losses[_key(case)] < ATTEMPTS:
                        warnings.warn(f"{_describe(case)}: {_summary(error)}; it is run again", stacklevel=2)
                        submit(case)
                    else:
                        failure = RunError(
                            f"{_describe(case)}: run {ATTEMPTS} times, and lost each time, the last time because "
                            f"{_summary(error)}, maybe for lack of memory: run the command again"
                        )
                    continue
                result, made = pickle.loads(content)
                if isinstance(result, Exception):
                    failure = _located(result, case, place)
                    continue
                if isinstance(result, WithFiles):
                    RESULTS.write_all(folder, result.files)
                    result = result.outcome
                lines.append({"case": case, "outcome": result, "made": made})
                finished[_key(case)] = case, result
                RESULTS.write(folder / CASES_FILE, "".join(json.dumps(line) + "\n" for line in lines).encode())
                on_case(case, result, sum(_key(each) in finished for each in cases), len(cases))
            if failure is not None:
                raise failure
    finally:
        for future in running:
            future.cancel()
        if executor is None:
            engine.shutdown()
    return [finished[_key(case)] for case in cases]


def read_cases(folder: str | Path) -> list[tuple[Case, Outcome]]:
    """Return the cases saved in `folder` with their outcomes; the folder is created if it does not exist.

    Raises:
        RunError: if the file of the cases cannot be read.
    """
    return [(line["case"], line["outcome"]) for line in _read(Path(folder))]


def _read(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the cases saved in `folder`."""
    path = folder / CASES_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        return [{"case": line["case"], "outcome": line["outcome"], **line} for line in lines]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"cannot read {path}: {error}; choose another --out") from None


class _ThisMachine(ThreadPoolExecutor):
    """Threads that wait for processes, as many as run at a time; ends them when it is shut down."""

    def __init__(self, processes: int) -> None:
        super().__init__(processes)
        self._stopped = Event()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        return super().submit(fn, *args, stopped=self._stopped.is_set, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        self._stopped.set()
        super().shutdown(wait, cancel_futures=cancel_futures)


def _located(error: Exception, case: Case, place: str) -> Exception:
    """Return the error of a case with its settings and its worker, if that is one of ours."""
    if not isinstance(error, SpikingLFPError):
        return error
    return type(error)(f"{_describe(case)}: {place}{': ' if place else ''}{error}")


def _summary(error: Exception) -> str:
    """Return the first sentence of an error."""
    return str(error).strip().partition(". ")[0].partition("\n")[0] or type(error).__name__


def _key(case: Case) -> str:
    return json.dumps(case, sort_keys=True)


def _describe(case: Case) -> str:
    return " ".join(f"{name}={value}" for name, value in case.items())
