"""Cache of sequences made from recordings, in HDF5 files: built once, never read incomplete.

A file is named after its data set and the SHA-256 of its recipe, which holds all that its content depends on. Fields:

    attributes    format (this module's FORMAT), recipe (JSON, keys in order, UTF-8), steps, shape (of one step),
                  binary, sensor, remarks (JSON, what was warned of while it was built), checksum (of all these and the
                  labels), complete (written last)
    SPLIT/samples uint8 [N, T, bytes], one chunk for each sample, or several if it has more than CHUNK_BYTES, gzip 1,
                  with Fletcher checksums. If `binary`, a step takes ceil(prod(shape) / 8) bytes, with its first value
                  in the lowest bit of the first byte; else a value takes one byte
    SPLIT/labels  int64 [N], one chunk, gzip 1, with Fletcher checksums
    SPLIT/groups  the same, of samples that belong together; only where some do

Everything else in the file has checksums since HDF5 1.10, so that damage is detected before HDF5 fails on it;
strings of variable length are avoided, because their heap has no checksum. Zeros have a valid Fletcher checksum, but
are not valid gzip data.

A file is written under a temporary name and renamed when it is complete. A lock file beside it makes a second process
wait for the first; the lock of a process that dies is released, and its leftovers are removed by the next one that
builds.

The first samples are made in this process. Where many are left, further processes make them: they take seconds to
start, and threads are no faster than one, because most of the work holds Python's lock.
"""

import hashlib
import json
import os
import signal
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from itertools import chain
from math import prod
from multiprocessing import current_process, parent_process, spawn
from multiprocessing.context import BaseContext, SpawnContext, SpawnProcess
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import h5py
import numpy as np
import platformdirs
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from spiking_lfp.errors import DataError, RunError, SpikingLFPError, UsageError, some, unknown_name
from spiking_lfp.events.frames import pack_frames, unpack_frames
from spiking_lfp.files import AtomicWriter, rename_into_place, temporary_name

FOLDER_VARIABLE = "SPIKING_LFP_CACHE"
FORMAT = 4
MAX_WORKERS = 8
# work that lasts longer than this is given to further processes
ALONE_S = 10.0
MEASURED_S = 1.0
# consecutive samples given to a worker at a time, because windows of one recording follow each other
BATCH = 16
CHUNK_BYTES = 2**24
# remarks that are told one by one
MOST_REMARKS = 5
CACHE_FILES = AtomicWriter(RunError, f"name another folder by {FOLDER_VARIABLE}")

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """Layout of one sample: T steps of `shape`, with values 0 and 1 if `binary`, else counts up to 255.

    Attributes:
        sensor: polarities, height and width of the recordings before they were cut and scaled; empty if there is none.
    """

    steps: int
    shape: tuple[int, ...]
    binary: bool
    sensor: tuple[int, ...] = ()

    @property
    def step_bytes(self) -> int:
        """Number of bytes of one stored step."""
        return -(-prod(self.shape) // 8) if self.binary else prod(self.shape)


class SampleWarning(UserWarning):
    """What may be so of many samples: the cache tells it once, with how many these are and the names of the first.

    Attributes:
        what: goes on behind "NAME is" or "3 of 20 samples are".
        name: of the sample.
        advice: what to do about many of them.
    """

    def __init__(self, what: str, name: str, advice: str) -> None:
        super().__init__(what, name, advice)
        self.what, self.name, self.advice = what, name, advice

    def __str__(self) -> str:
        return f"{self.name} is {self.what}"


class Made(NamedTuple):
    """Samples, and what was warned of while they were made."""

    samples: list[Frames]
    remarks: list[str]
    of_samples: list[SampleWarning]


@dataclass(frozen=True)
class Jobs:
    """How to make the samples of a split.

    Attributes:
        make: makes the frames uint8 `[T, *shape]` of one job; can be pickled, as can the jobs.
        jobs: one for each sample.
        labels: one for each sample.
        groups: a number for each sample, the same for those that belong together, as windows of a recording; empty if
            none do.
    """

    make: Callable[[Any], Frames]
    jobs: Sequence[Any]
    labels: Sequence[int]
    groups: Sequence[int] = ()

    def __post_init__(self) -> None:
        if len(self.jobs) != len(self.labels):
            raise UsageError(f"there must be a label for each job, found {len(self.labels)} for {len(self.jobs)}")


def cache_folder(explicit: str | Path | None = None) -> Path:
    """Return `explicit`, or the folder that `SPIKING_LFP_CACHE` in the environment names, or one in the user cache."""
    if explicit is not None:
        return Path(explicit)
    from_environment = os.environ.get(FOLDER_VARIABLE)
    if from_environment:
        return Path(from_environment).expanduser()
    return Path(platformdirs.user_cache_dir("spiking_lfp")) / "sequences"


def cached(
    name: str,
    recipe: Mapping[str, Any],
    plan: Callable[[], tuple[Layout, Mapping[str, Jobs]]],
    *,
    folder: Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> "SequenceCache":
    """Return the cache of a data set; it is built now if it does not exist.

    Args:
        name: name of the data set, for the name of the file.
        recipe: everything that determines the samples, as values that JSON can store.
        plan: returns the layout of one sample, and how to make each split, by name; called only if the cache has to be
            built.
        folder: see `cache_folder`.
        workers: number of worker processes, or 1 for this process alone; by default the number of cores, at most 8, if
            there is so much to do that they are worth their start.
        progress: called with the numbers of samples done and in all.

    Warns:
        UserWarning: what was warned of while the cache was built, now or then; of many such remarks the first ones.

    Raises:
        DataError: if a sample cannot be made; then nothing is written.
        RunError: if the folder is not writable, a worker dies, or this is a process that another one is starting.
    """
    directory, text = cache_folder(folder), json.dumps(recipe, sort_keys=True)
    key = hashlib.sha256(f"{FORMAT} {text}".encode()).hexdigest()[:16]
    path = directory / f"{name}-{key}.h5"
    found = _valid_cache(path, text)
    if found is not None:
        return found
    if getattr(current_process(), "_inheriting", False):
        raise RunError(
            "this script runs once more in a process that it has started itself: put its code below "
            "if __name__ == '__main__'"
        )
    with ExitStack() as locks:
        with CACHE_FILES.convert_errors(path):
            directory.mkdir(parents=True, exist_ok=True)
            locks.enter_context(FileLock(_lock_of(path)))
        # another process may have built it meanwhile
        found = _valid_cache(path, text)
        if found is not None:
            return found
        _remove_orphans(directory, path)
        remarks: list[str] = []
        try:
            with _heard(remarks, []):
                layout, splits = plan()
            _build(path, text, layout, splits, remarks, workers, progress)
        finally:
            _tell(remarks)
    return SequenceCache(path, layout, hit=False)


class SequenceCache:
    """The cached sequences of a data set.

    Attributes:
        path: path of the file.
        layout: layout of one sample.
        hit: whether the file existed already.
    """

    def __init__(self, path: Path, layout: Layout, hit: bool) -> None:
        self.path, self.layout, self.hit = path, layout, hit

    @property
    def size_bytes(self) -> int:
        """Size of the file in bytes."""
        return self.path.stat().st_size

    def load(self, split: str) -> tuple[Tensor, Tensor]:
        """Load a split into memory: samples uint8 `[N, T, bytes]`, as compact as in the file, and labels int64 `[N]`.

        Raises:
            UsageError: if there is no such split.
            DataError: if the file is damaged.
        """
        with _read(self.path, split) as group:
            return torch.from_numpy(group["samples"][()]), torch.from_numpy(group["labels"][()])

    def groups(self, split: str) -> Tensor | None:
        """Return which samples of a split belong together, int64 `[N]`; None if none do. Raises as `load`."""
        with _read(self.path, split) as group:
            return torch.from_numpy(group["groups"][()]) if "groups" in group else None

    def dataset(self, split: str) -> "CachedSequences":
        """Return the samples as a torch data set that reads them one by one, for a `DataLoader`."""
        return CachedSequences(self.path, split, self.layout)


class CachedSequences(Dataset[tuple[Tensor, int]]):
    """Samples float32 `[T, *shape]` with their labels, read on access; works with the workers of a `DataLoader`."""

    def __init__(self, path: Path, split: str, layout: Layout) -> None:
        self.path, self.split, self.layout = path, split, layout
        self._file: tuple[int, Any] | None = None
        with _read(path, split) as group:
            self.labels = group["labels"][()].tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one sample and its label."""
        label = self.labels[index]
        with _reporting_damage(self.path):
            stored = self._samples()[index % len(self)]
        # unpacked by numpy, because the compiled kernel's threads do not survive the fork of a DataLoader
        frames = unpack_frames(stored, self.layout.shape) if self.layout.binary else stored
        return torch.from_numpy(frames).float().view(self.layout.steps, *self.layout.shape), label

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        """Return the samples of a batch and their labels."""
        return [self[index] for index in indices]

    def _samples(self) -> Any:
        """Return the samples in the file, which every process opens for itself."""
        if self._file is None or self._file[0] != os.getpid():
            self._file = os.getpid(), h5py.File(self.path)
        return self._file[1][f"{self.split}/samples"]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


@dataclass(frozen=True)
class CacheEntry:
    """A file in the cache: its size, samples per split, and recipe; the last two are None if it is damaged."""

    name: str
    path: Path
    size: int
    samples: dict[str, int] | None
    recipe: dict[str, Any] | None


def cache_status(folder: str | Path | None = None) -> list[CacheEntry]:
    """List the files in the cache."""
    entries = []
    for path in sorted(cache_folder(folder).glob("*.h5")):
        name, size = path.stem.rpartition("-")[0], 0
        try:
            size = path.stat().st_size
            with h5py.File(path) as file:
                samples = {split: len(group["labels"]) for split, group in file.items()}
                entries.append(CacheEntry(name, path, size, samples, json.loads(file.attrs["recipe"])))
        except Exception:  # h5py raises all kinds of errors for damaged files
            entries.append(CacheEntry(name, path, size, None, None))
    return entries


@contextmanager
def _heard(remarks: list[str], of_samples: list[SampleWarning]) -> Iterator[None]:
    """Add warnings of users to `remarks`, each once, or to `of_samples`, in place of showing them; others are shown."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            yield
    finally:
        for each in caught:
            if isinstance(each.message, SampleWarning):
                of_samples.append(each.message)
            elif each.category is not UserWarning:
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
            elif str(each.message) not in remarks:
                remarks.append(str(each.message))


def _tell(remarks: Sequence[str]) -> None:
    for remark in remarks[:MOST_REMARKS]:
        warnings.warn(remark, stacklevel=3)
    if len(remarks) > MOST_REMARKS:
        more = len(remarks) - MOST_REMARKS
        warnings.warn(f"{more:,} more remarks of this kind about recordings are not shown", stacklevel=3)


def _valid_cache(path: Path, recipe: str) -> "SequenceCache | None":
    """Return `path` if it is a complete cache of this recipe, as far as is seen without samples; tell its remarks."""
    try:
        with h5py.File(path) as file:
            shape, sensor = (tuple(int(side) for side in file.attrs[name]) for name in ("shape", "sensor"))
            layout = Layout(int(file.attrs["steps"]), shape, bool(file.attrs["binary"]), sensor)
            labels = {split: group["labels"][()] for split, group in file.items()}
            remarks = json.loads(file.attrs["remarks"])
            expected = {**_attributes(recipe, layout, labels, remarks), "complete": True}
            valid = all(np.array_equal(file.attrs[key], value) for key, value in expected.items()) and all(
                group["samples"].shape == (len(labels[split]), layout.steps, layout.step_bytes)
                for split, group in file.items()
            )
    except Exception:  # h5py raises all kinds of errors for damaged files
        return None
    if not valid:
        return None
    _tell(remarks)
    return SequenceCache(path, layout, hit=True)


def _attributes(
    recipe: str, layout: Layout, labels: Mapping[str, NDArray[np.int64]], remarks: Sequence[str]
) -> dict[str, Any]:
    stored = {
        "format": FORMAT, "steps": layout.steps, "shape": layout.shape, "binary": layout.binary,
        "sensor": layout.sensor,
    }  # fmt: skip
    told = json.dumps(remarks)
    text = json.dumps([recipe, stored, told, [[split, labels[split].tolist()] for split in sorted(labels)]])
    texts = {"recipe": recipe, "remarks": told, "checksum": hashlib.sha256(text.encode()).hexdigest()}
    return {**stored, **{name: np.bytes_(text.encode()) for name, text in texts.items()}}


def _build(
    path: Path,
    recipe: str,
    layout: Layout,
    splits: Mapping[str, Jobs],
    remarks: list[str],
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    temporary = temporary_name(path)
    try:
        with CACHE_FILES.convert_errors(path):
            sink = _Sink(temporary, "w+")
        with sink:
            try:
                with h5py.File(sink, "w", libver="v110") as file:
                    _fill(file, path, sink, recipe, layout, splits, remarks, workers, progress)
            finally:
                # this error rather than that of HDF5, which misses what could not be written
                with CACHE_FILES.convert_errors(path):
                    sink.check()
        with CACHE_FILES.convert_errors(path):
            rename_into_place(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _fill(
    file: Any,
    path: Path,
    sink: "_Sink",
    recipe: str,
    layout: Layout,
    splits: Mapping[str, Jobs],
    remarks: list[str],
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    labels = {split: np.asarray(jobs.labels, np.int64) for split, jobs in splits.items()}
    slots = [slot for split in splits for slot in _allocate(file, split, labels[split], layout)]
    for split, jobs in splits.items():
        if jobs.groups:
            groups = np.asarray(jobs.groups, np.int64)
            options = {"chunks": groups.shape, "compression": "gzip", "compression_opts": 1, "fletcher32": True}
            file.create_dataset(f"{split}/groups", data=groups, **options)
    of_samples: list[SampleWarning] = []
    with closing(_make_samples(splits, layout, remarks, of_samples, workers)) as made:
        for done, ((dataset, index), sample) in enumerate(zip(slots, made, strict=True), 1):
            dataset[index] = sample
            with CACHE_FILES.convert_errors(path):
                sink.check()
            if progress is not None:
                progress(done, len(slots))
    for (what, advice), group in _grouped(of_samples).items():
        remarks.append(
            f"{len(group):,} of {len(slots):,} samples are {what}: {some([*dict.fromkeys(group)])}; {advice}"
        )
    file.attrs.update(_attributes(recipe, layout, labels, remarks))
    file.attrs["complete"] = True


def _grouped(of_samples: Sequence[SampleWarning]) -> dict[tuple[str, str], list[str]]:
    """Return the names of the samples of which something is so, by what that is and what to do about it."""
    groups: dict[tuple[str, str], list[str]] = {}
    for each in of_samples:
        groups.setdefault((each.what, each.advice), []).append(each.name)
    return groups


class _Sink(FileIO):
    """A file that stores write errors until `check`, because HDF5 crashes if it cannot write while it closes."""

    failure: BaseException | None = None

    def write(self, content: Any) -> int:
        rest = memoryview(content).cast("B")
        size = len(rest)
        with self._storing_errors():
            while rest and self.failure is None:
                rest = rest[super().write(rest) :]
        return size

    def truncate(self, size: int | None = None) -> int:
        with self._storing_errors():
            return super().truncate(size)
        return 0

    def check(self) -> None:
        """Raise the error that was stored, if any."""
        if self.failure is not None:
            raise self.failure

    @contextmanager
    def _storing_errors(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # including Ctrl-C
            self.failure = error


def _allocate(file: Any, split: str, labels: NDArray[np.int64], layout: Layout) -> Iterator[tuple[Any, int]]:
    """Create the datasets of a split, and return where each sample goes: a dataset and an index in it."""
    count = len(labels)
    shape = (count, layout.steps, layout.step_bytes)
    chunk = (1, min(layout.steps, max(CHUNK_BYTES // layout.step_bytes, 1)), layout.step_bytes)
    # HDF5 has no empty chunks
    filters = {"compression": "gzip", "compression_opts": 1, "fletcher32": True} if count else {}
    samples = file.create_dataset(f"{split}/samples", shape, np.uint8, chunks=chunk if count else None, **filters)
    file.create_dataset(f"{split}/labels", data=labels, chunks=labels.shape if count else None, **filters)
    return ((samples, index) for index in range(count))


def _make_samples(
    splits: Mapping[str, Jobs],
    layout: Layout,
    remarks: list[str],
    of_samples: list[SampleWarning],
    workers: int | None,
) -> Generator[Frames, None, None]:
    """Yield the samples of all splits in order, made only a little ahead of their use, to save memory.

    What is warned of meanwhile is added to `remarks` and `of_samples`.
    """

    def unpacked(made: Made) -> list[Frames]:
        remarks.extend(each for each in made.remarks if each not in remarks)
        of_samples.extend(made.of_samples)
        return made.samples

    size = max(min(CHUNK_BYTES // (layout.steps * layout.step_bytes), BATCH), 1)
    batches = deque(
        (Packed(jobs.make, layout), jobs.jobs[start : start + size])
        for jobs in splits.values()
        for start in range(0, len(jobs.jobs), size)
    )
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = min(cores, MAX_WORKERS)
        yield from chain.from_iterable(map(unpacked, _first_batches(batches)))
    # a daemon may not start processes
    if workers <= 1 or len(batches) <= 1 or current_process().daemon:
        for make, jobs in batches:
            for job in jobs:
                yield from unpacked(make.all([job]))
        return
    pool = ProcessPoolExecutor(workers, WORKERS, _end_with_parent)
    pending: deque[Future[Made]] = deque()
    try:
        for make, jobs in batches:
            pending.append(pool.submit(make.all, jobs))
            if len(pending) > 2 * workers:
                yield from unpacked(pending.popleft().result())
        while pending:
            yield from unpacked(pending.popleft().result())
    except BrokenProcessPool:
        raise RunError("a process that prepares recordings died: try again with more memory") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _first_batches(batches: "deque[tuple[Packed, Sequence[Any]]]") -> Generator[Made, None, None]:
    """Take batches off `batches` and yield their samples, until the rest is seen to last longer than `ALONE_S`."""
    spent, timed = 0.0, 0
    is_first = True
    while batches and (timed < 1 or spent < MEASURED_S or spent * len(batches) <= ALONE_S * timed):
        make, jobs = batches.popleft()
        started = time.monotonic()
        made = make.all(jobs)
        if not is_first:  # it loads kernels
            spent, timed = spent + time.monotonic() - started, timed + 1
        is_first = False
        yield made


class _WorkerProcess(SpawnProcess):
    """A process that is spawned, because threads of torch do not survive a fork, and does not run the user's script.

    Python's own would run it, for functions that it may define: a script without `if __name__ == "__main__"` would get
    here again, and wait for its parent, which waits for it.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        prepare = spawn.get_preparation_data

        def without_script(name: str) -> dict[str, Any]:
            return {key: value for key, value in prepare(name).items() if not key.startswith("init_main_from_")}

        spawn.get_preparation_data = without_script
        try:
            return SpawnProcess._Popen(process_obj)
        finally:
            spawn.get_preparation_data = prepare


class _WorkerContext(SpawnContext):
    Process = _WorkerProcess


WORKERS: BaseContext = _WorkerContext()


def _end_with_parent() -> None:
    """End this worker when its parent process ends, even by a signal, which the pool does not do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


@dataclass(frozen=True)
class Packed:
    """Makes samples in the form in which they are stored."""

    make: Callable[[Any], Frames]
    layout: Layout

    def __call__(self, job: Any) -> Frames:
        """Return the stored form `[T, bytes]` of a sample."""
        frames = self.make(job)
        expected = (self.layout.steps, *self.layout.shape)
        if frames.dtype != np.uint8 or frames.shape != expected:
            raise DataError(f"a sample is {frames.dtype} {list(frames.shape)}, expected uint8 {list(expected)}")
        return pack_frames(frames) if self.layout.binary else frames.reshape(len(frames), -1)

    def all(self, jobs: Sequence[Any]) -> Made:
        """Return a sample for each job."""
        made = Made([], [], [])
        with _heard(made.remarks, made.of_samples):
            made.samples.extend(self(job) for job in jobs)
        return made


@contextmanager
def _read(path: Path, split: str) -> Iterator[Any]:
    with _reporting_damage(path), h5py.File(path) as file:
        if split not in file:
            raise unknown_name("split", split, file)
        yield file[split]


@contextmanager
def _reporting_damage(path: Path) -> Iterator[None]:
    """Turn the errors of HDF5 for damaged files into one sentence."""
    try:
        yield
    except SpikingLFPError:
        raise
    except Exception as error:  # h5py raises all kinds of errors for damaged files
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read ({reason}): delete it and it will be built again") from None


def _remove_orphans(folder: Path, path: Path) -> None:
    """Remove the temporary files of dead processes: a living writer holds the lock, and we hold that of `path`."""
    for temporary in folder.glob(".*.tmp"):
        lock = temporary.with_suffix(".lock")
        with suppress(OSError):
            if lock == _lock_of(path):
                temporary.unlink()
            else:
                with FileLock(lock, timeout=0):
                    temporary.unlink()


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")
