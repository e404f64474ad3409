"""Grids of trainings: cases run in processes of their own, each kept when it is done, so that a grid can go on."""

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

# what says which training is meant, and what it came to; plain values, as JSON has them
Case = dict[str, Any]
Outcome = dict[str, Any]
KEPT = "cases.jsonl"


def run_cases(
    cases: Sequence[Case],
    run: Callable[[Case], Outcome],
    folder: Path,
    told: Callable[[Case, Outcome], None],
    processes: int = 1,
) -> list[tuple[Case, Outcome]]:
    """Run `cases`, and keep each in `folder` when it is done; those kept there already are not run again.

    Args:
        cases: none twice.
        run: trains a case in a new process, without anything of the cases before; can be pickled.
        folder: made if there is none.
        told: is called after each case that is run.
        processes: how many run at a time; the processor's cores are shared out among them.

    Returns:
        All cases in their order, each with its outcome.

    Raises:
        UsageError: if `processes` is less than 1.
        RunError: if a case's process dies, or the folder cannot be used.
        SpikingLFPError: what `run` raises.
    """
    if processes < 1:
        raise UsageError(f"processes must be at least 1, found {processes}")
    done = read_cases(folder)
    found = {_key(case): (case, outcome) for case, outcome in done}
    missing = [case for case in cases if _key(case) not in found]
    threads = max(1, (os.cpu_count() or 1) // processes)
    context = multiprocessing.get_context("spawn")
    # a process for each case: then memory is counted from nothing, and nothing is left of the case before
    pools: dict[Future[Outcome], tuple[Case, ProcessPoolExecutor]] = {}
    try:
        while missing or pools:
            while missing and len(pools) < processes:
                pool = ProcessPoolExecutor(1, context, _start, (threads,))
                case = missing.pop(0)
                pools[pool.submit(run, case)] = case, pool
            for future in wait(pools, return_when=FIRST_COMPLETED).done:
                case, pool = pools.pop(future)
                pool.shutdown()
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    raise RunError(
                        f"the process of {_shown(case)} died, maybe for want of memory: run the command again"
                    ) from None
                except SpikingLFPError as error:
                    raise type(error)(f"{_shown(case)}: {error}") from None
                done.append((case, outcome))
                found[_key(case)] = case, outcome
                lines = [json.dumps({"case": each, "outcome": came}) for each, came in done]
                RESULTS.write(folder / KEPT, ("\n".join(lines) + "\n").encode())
                told(case, outcome)
    finally:
        for _, pool in pools.values():
            for process in list(pool._processes.values()):
                process.terminate()
            pool.shutdown(cancel_futures=True)
    return [found[_key(case)] for case in cases]


def read_cases(folder: Path) -> list[tuple[Case, Outcome]]:
    """Return the cases kept in `folder` with their outcomes; it is made if there is none.

    Raises:
        RunError: if they cannot be read.
    """
    path = folder / KEPT
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        return [(line["case"], line["outcome"]) for line in lines]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"cannot read {path}: {error}; choose another --out") from None


def _start(threads: int) -> None:
    """Prepare a process."""
    torch.set_num_threads(threads)
    reuse_freed_memory()


def _key(case: Case) -> str:
    return json.dumps(case, sort_keys=True)


def _shown(case: Case) -> str:
    return " ".join(f"{name}={value}" for name, value in case.items())
