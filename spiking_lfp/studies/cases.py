"""Grids of trainings: each case runs in a process of its own and is saved when it is done, so a grid can be resumed."""

import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from spiking_lfp.errors import RunError, SpikingLFPError, UsageError
from spiking_lfp.files import RESULTS
from spiking_lfp.kernels.memory import reuse_freed_memory

# the settings of one training, and its results: plain values, as JSON has them
Case = dict[str, Any]
Outcome = dict[str, Any]
CASES_FILE = "cases.jsonl"


def run_cases(
    cases: Sequence[Case],
    run: Callable[[Case], Outcome],
    folder: Path,
    on_case: Callable[[Case, Outcome], None],
    processes: int = 1,
) -> list[tuple[Case, Outcome]]:
    """Run `cases`, and save each in `folder` when it is done; cases that are saved there already are not run again.

    Args:
        cases: all different.
        run: trains a case in a new process, which shares nothing with other cases; it must be picklable.
        folder: created if it does not exist.
        on_case: called after each case that was run.
        processes: how many cases run at a time; the processor's cores are divided among them.

    Returns:
        All cases in their order, each with its outcome.

    Raises:
        UsageError: if `processes` is less than 1.
        RunError: if the process of a case dies, or the folder cannot be used.
        SpikingLFPError: whatever `run` raises.
    """
    if processes < 1:
        raise UsageError(f"processes must be at least 1, found {processes}")
    done = read_cases(folder)
    finished = {_key(case): (case, outcome) for case, outcome in done}
    missing = [case for case in cases if _key(case) not in finished]
    threads = max(1, (os.cpu_count() or 1) // processes)
    context = multiprocessing.get_context("spawn")
    # a process for each case: its peak memory is its own, and nothing is left over from the case before
    pools: dict[Future[Outcome], tuple[Case, ProcessPoolExecutor]] = {}
    try:
        while missing or pools:
            while missing and len(pools) < processes:
                pool = ProcessPoolExecutor(1, context, _prepare_process, (threads,))
                case = missing.pop(0)
                pools[pool.submit(run, case)] = case, pool
            for future in wait(pools, return_when=FIRST_COMPLETED).done:
                case, pool = pools.pop(future)
                pool.shutdown()
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    raise RunError(
                        f"the process of {_describe(case)} died, maybe for lack of memory: run the command again"
                    ) from None
                except SpikingLFPError as error:
                    raise type(error)(f"{_describe(case)}: {error}") from None
                done.append((case, outcome))
                finished[_key(case)] = case, outcome
                lines = [json.dumps({"case": each, "outcome": result}) for each, result in done]
                RESULTS.write(folder / CASES_FILE, ("\n".join(lines) + "\n").encode())
                on_case(case, outcome)
    finally:
        for _, pool in pools.values():
            for process in list(pool._processes.values()):
                process.terminate()
            pool.shutdown(cancel_futures=True)
    return [finished[_key(case)] for case in cases]


def read_cases(folder: Path) -> list[tuple[Case, Outcome]]:
    """Return the cases saved in `folder` with their outcomes; the folder is created if it does not exist.

    Raises:
        RunError: if the file of the cases cannot be read.
    """
    path = folder / CASES_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        return [(line["case"], line["outcome"]) for line in lines]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"cannot read {path}: {error}; choose another --out") from None


def _prepare_process(threads: int) -> None:
    torch.set_num_threads(threads)
    reuse_freed_memory()


def _key(case: Case) -> str:
    return json.dumps(case, sort_keys=True)


def _describe(case: Case) -> str:
    return " ".join(f"{name}={value}" for name, value in case.items())
