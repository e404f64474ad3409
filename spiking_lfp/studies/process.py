"""A case of a grid in a process of its own, started by whatever an executor has on whatever machine: light to import.

Its peak memory, its random numbers and its threads are its own, and nothing is left over from the case before. It ends
with the process that started it, also where that is killed.
"""

import os
import pickle
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import spiking_lfp
from spiking_lfp.errors import RunError, SpikingLFPError

# a job: a dictionary of plain values, so that machines with other versions can still read it
Job = dict[str, Any]
# packages whose versions decide what a case comes to
PACKAGES = ("torch", "numpy", "numba")
# libraries that compute in threads read their number there, Dask sets some of them to 1
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# how often a process is asked whether it has ended, and its starter whether it is still wanted
PERIOD_S = 0.5


def job_of(run: Callable[[dict[str, Any]], Any], case: dict[str, Any], threads: int) -> Job:
    """Return what a process anywhere has to know to run a case with so many threads."""
    return {
        "client": [socket.gethostname(), os.getpid()],
        "versions": versions(),
        "threads": threads,
        "work": pickle.dumps((run, case)),
    }


def versions() -> dict[str, str]:
    """Return the versions of this package and of `PACKAGES`, without what tells builds for CPU and GPU apart."""
    found = {"spiking_lfp": spiking_lfp.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            found[package] = "none"
    return found


def origin(threads: int) -> dict[str, Any]:
    """Return what numbers of this process come from: the day, versions, processor, cores and threads."""
    processor = platform.processor() or platform.machine()
    if sys.platform == "linux":  # where platform has no more than the architecture
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), processor)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": versions(),
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": threads,
    }


def run_in_process(job: Job, stopped: Callable[[], bool] | None = None) -> tuple[str, bytes]:
    """Run a case in a new process on this machine.

    Args:
        job: made by `job_of`, maybe on another machine.
        stopped: tells whether the case is no longer wanted; a worker of Dask knows it by itself.

    Returns:
        where this was, empty if it is the process that made the job, and what `answer` returned.

    Raises:
        RunError: if the process dies.
    """
    stopped, place = stopped or _stopped_by_dask(), _place(job)
    environment = {
        **os.environ,
        **dict.fromkeys(THREADS, str(job["threads"])),
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),  # noqa: PTH109
    }
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "job").write_bytes(pickle.dumps(job))
        # multiprocessing would not do: workers of Dask are daemons, which may not have children there. In a session of
        # its own, a process does not hear Ctrl-C, and ends when its standard input does.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, name], stdin=subprocess.PIPE, env=environment, start_new_session=True
        )
        try:
            while process.poll() is None and not stopped():
                try:
                    process.wait(PERIOD_S)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            process.kill()
            code = process.wait()
            assert process.stdin is not None
            process.stdin.close()
        if code != 0:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
            raise RunError(f"its process {how}{f' on {place}' if place else ''}")
        return place, (folder / "answer").read_bytes()


def answer(job: Job) -> bytes:
    """Run a case here, and return what it came to, or what it raised, and what made it, pickled."""
    result: Any
    started = time.perf_counter()
    try:
        for package, found in versions().items():
            if found != job["versions"].get(package):
                raise RunError(
                    f"it has {package} {found}, but {job['versions'].get(package)} is where the command was given: "
                    "install the same version on both"
                )
        run, case = pickle.loads(job["work"])
        result = run(case)
    except Exception as error:
        if not isinstance(error, SpikingLFPError):
            error.add_note("".join(traceback.format_exception(error)))
        result = error
    made = {**origin(job["threads"]), "seconds": round(time.perf_counter() - started, 1)}
    try:
        content = pickle.dumps((result, made))
        pickle.loads(content)
    except Exception:  # an error of some other package that does not survive it
        content = pickle.dumps((RuntimeError(f"{type(result).__name__}: {result}"), made))
    return content


def main(folder: Path) -> None:
    """Run the job in `folder`, and leave the answer there."""
    # the loop would end its run with a checkpoint that nobody keeps, as if the case had failed: it is lost
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job: Job = pickle.loads((folder / "job").read_bytes())
    import torch

    from spiking_lfp.kernels.cpu.denormals import flush_denormals
    from spiking_lfp.kernels.memory import reuse_freed_memory

    torch.set_num_threads(job["threads"])
    reuse_freed_memory()
    flush_denormals()
    (folder / "answer").write_bytes(answer(job))


def _end_with_parent() -> None:
    os.read(0, 1)  # returns when the other end of the pipe is closed
    os._exit(1)


def _place(job: Job) -> str:
    """Name the worker that this is, for people; empty in the process that made the job."""
    host = socket.gethostname()
    if job["client"] == [host, os.getpid()]:
        return ""
    worker = _dask_worker()
    return f"worker {host}" if worker is None else f"worker {worker.address} on {host}"


def _dask_worker() -> Any:
    """Return the worker of Dask that runs this, if there is one."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


def _stopped_by_dask() -> Callable[[], bool]:
    """Return what tells whether Dask has cancelled this task: it cannot end what its threads do."""
    worker = _dask_worker()
    if worker is None:
        return lambda: False
    key = worker.get_current_task()

    def cancelled() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    return cancelled


if __name__ == "__main__":
    main(Path(sys.argv[1]))
