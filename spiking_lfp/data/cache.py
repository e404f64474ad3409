"""Sequences made from recordings, kept in HDF5 files: made once, by several processes, and never served incomplete.

A file is named after its data set and the SHA-256 of its recipe, all that its content depends on. Field by field:

    attributes    format (this module's FORMAT), recipe (JSON, keys in order, UTF-8), steps, shape (of one step),
                  binary, complete (written last)
    SPLIT/samples uint8 [N, T, bytes], a chunk for each sample, or several where it has more than CHUNK_BYTES, gzip 1,
                  with Fletcher checksums. Where `binary`, a step takes ceil(prod(shape) / 8) bytes, its first value in
                  the lowest bit of the first; else a byte a value
    SPLIT/labels  int64 [N], one chunk, gzip 1, with Fletcher checksums

All else in the file has checksums since HDF5 1.10, so that damage is noticed before HDF5 stumbles over it; strings of
variable length, whose heap has none, are avoided. Zeros have a right Fletcher checksum, but are no gzip.

It is written under a temporary name and renamed when it is complete. A lock beside it makes a second process wait for
the first; a process that dies gives up its lock, and what it left behind is removed by the next one that builds.
"""

import hashlib
import json
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from math import prod
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import h5py
import numpy as np
import platformdirs
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from spiking_lfp.errors import DataError, RunError, SpikingLFPError, UsageError, unknown_name
from spiking_lfp.events.frames import pack_frames, unpack_frames
from spiking_lfp.files import AtomicWriter, rename_into_place, temporary_name

FOLDER_VARIABLE = "SPIKING_LFP_CACHE"
FORMAT = 1
MOST_WORKERS = 8
# samples handed to a worker at a time: those cut from one recording come one after the other
BATCH = 16
CHUNK_BYTES = 2**24
WHOLE = AtomicWriter(RunError, f"free some space, or name another folder by {FOLDER_VARIABLE}")

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """Of one sample: T steps of `shape`, of 0 and 1 if `binary`, else of counts up to 255."""

    steps: int
    shape: tuple[int, ...]
    binary: bool

    @property
    def bytes(self) -> int:
        """That one step takes."""
        return -(-prod(self.shape) // 8) if self.binary else prod(self.shape)


@dataclass(frozen=True)
class Jobs:
    """How to make the samples of a split.

    Attributes:
        make: from a job to frames uint8 `[T, *shape]`; can be pickled, as jobs can.
        jobs: one for each sample.
        labels: of each sample.
    """

    make: Callable[[Any], Frames]
    jobs: Sequence[Any]
    labels: Sequence[int]

    def __post_init__(self) -> None:
        if len(self.jobs) != len(self.labels):
            raise UsageError(f"there must be a label for each job, found {len(self.labels)} for {len(self.jobs)}")


def cache_folder(explicit: Path | None = None) -> Path:
    """Return `explicit`, else what the environment variable `SPIKING_LFP_CACHE` names, else a folder of the user's."""
    if explicit is not None:
        return explicit
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("spiking_lfp")) / "sequences"


def cached(
    name: str,
    recipe: Mapping[str, Any],
    layout: Layout,
    splits: Callable[[], Mapping[str, Jobs]],
    *,
    folder: Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> "SequenceCache":
    """Return the sequences of a data set, made now if they are not in the cache.

    Args:
        name: of the data set, for the file.
        recipe: everything that determines the samples, as JSON can hold it.
        layout: of one sample.
        splits: how to make them, by name; asked for only if they have to be made.
        folder: see `cache_folder`.
        workers: processes that make them; as many as there are cores, at most 8, if None; this one alone if 1.
        progress: is told how many samples of how many are made.

    Raises:
        DataError: what making a sample raises; nothing is kept then.
        RunError: if the folder cannot be written, or a worker dies.
    """
    where, text = cache_folder(folder), json.dumps(recipe, sort_keys=True)
    key = hashlib.sha256(f"{FORMAT} {text}".encode()).hexdigest()[:16]
    path = where / f"{name}-{key}.h5"
    if _fits(path, text, layout):
        return SequenceCache(path, layout, hit=True)
    with ExitStack() as held:
        with WHOLE.convert_errors(path):
            where.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(_lock_of(path)))
        # another process may have made it meanwhile
        if _fits(path, text, layout):
            return SequenceCache(path, layout, hit=True)
        _remove_orphans(where, path)
        _build(path, text, layout, splits(), workers, progress)
    return SequenceCache(path, layout, hit=False)


class SequenceCache:
    """Samples in a file.

    Attributes:
        path: of the file.
        layout: of one sample.
        hit: whether it was there already.
    """

    def __init__(self, path: Path, layout: Layout, hit: bool) -> None:
        self.path, self.layout, self.hit = path, layout, hit

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return self.path.stat().st_size

    def load(self, split: str) -> tuple[Tensor, Tensor]:
        """Return samples uint8 `[N, T, bytes]` and labels int64 `[N]`, whole, as small as they are in the file.

        Raises:
            UsageError: if there is no such split.
            DataError: if they are damaged.
        """
        with _read(self.path, split) as group:
            return torch.from_numpy(group["samples"][()]), torch.from_numpy(group["labels"][()])

    def dataset(self, split: str) -> "CachedSequences":
        """Return the samples as a torch data set that reads them one by one, for a `DataLoader`."""
        return CachedSequences(self.path, split, self.layout)


class CachedSequences(Dataset[tuple[Tensor, int]]):
    """Samples float32 `[T, *shape]` with their labels, read when asked for; can be handed to `DataLoader` workers."""

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
        with _explained(self.path):
            stored = self._samples()[index % len(self)]
        # by numpy: the compiled kernel's threads do not survive the fork of a DataLoader
        frames = unpack_frames(stored, self.layout.shape) if self.layout.binary else stored
        return torch.from_numpy(frames).float().view(self.layout.steps, *self.layout.shape), label

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        """Return the samples of a batch and their labels."""
        return [self[index] for index in indices]

    def _samples(self) -> Any:
        """Return the samples in the file, opened in each process for itself."""
        if self._file is None or self._file[0] != os.getpid():
            self._file = os.getpid(), h5py.File(self.path)
        return self._file[1][f"{self.split}/samples"]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


@dataclass(frozen=True)
class CacheEntry:
    """A file in the cache: its size, the samples of each split, and the recipe; none of these if it is damaged."""

    name: str
    path: Path
    size: int
    samples: dict[str, int] | None
    recipe: dict[str, Any] | None


def cache_status(folder: Path | None = None) -> list[CacheEntry]:
    """Return what the cache holds."""
    entries = []
    for path in sorted(cache_folder(folder).glob("*.h5")):
        name, size = path.stem.rpartition("-")[0], 0
        try:
            size = path.stat().st_size
            with h5py.File(path) as file:
                samples = {split: len(group["labels"]) for split, group in file.items()}
                entries.append(CacheEntry(name, path, size, samples, json.loads(file.attrs["recipe"])))
        except Exception:  # h5py raises what it happens to stumble over
            entries.append(CacheEntry(name, path, size, None, None))
    return entries


def _fits(path: Path, recipe: str, layout: Layout) -> bool:
    """Tell whether there is a whole cache of this recipe in `path`, as far as is seen without reading its samples."""
    expected = {**_attributes(recipe, layout), "complete": True}
    try:
        with h5py.File(path) as file:
            return all(np.array_equal(file.attrs[key], value) for key, value in expected.items()) and all(
                group["samples"].shape == (len(group["labels"]), layout.steps, layout.bytes) for group in file.values()
            )
    except Exception:  # h5py raises what it happens to stumble over
        return False


def _attributes(recipe: str, layout: Layout) -> dict[str, Any]:
    stored = np.bytes_(recipe.encode())
    return {
        "format": FORMAT, "recipe": stored, "steps": layout.steps, "shape": layout.shape, "binary": layout.binary
    }  # fmt: skip


def _build(
    path: Path,
    recipe: str,
    layout: Layout,
    splits: Mapping[str, Jobs],
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    temporary = temporary_name(path)
    try:
        with WHOLE.convert_errors(path):
            sink = _Sink(temporary, "w+")
        with sink:
            try:
                with h5py.File(sink, "w", libver="v110") as file:
                    _fill(file, path, sink, recipe, layout, splits, workers, progress)
            finally:
                # rather than what HDF5 says when it does not find what it wrote
                with WHOLE.convert_errors(path):
                    sink.check()
        with WHOLE.convert_errors(path):
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
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    file.attrs.update(_attributes(recipe, layout))
    places = [place for split, jobs in splits.items() for place in _places(file, split, jobs, layout)]
    with closing(_made(splits, layout, workers)) as made:
        for done, ((samples, index), stored) in enumerate(zip(places, made, strict=True), 1):
            samples[index] = stored
            with WHOLE.convert_errors(path):
                sink.check()
            if progress is not None:
                progress(done, len(places))
    file.attrs["complete"] = True


class _Sink(FileIO):
    """A file that keeps to itself what goes wrong until it is asked: HDF5 crashes if it cannot write when it closes."""

    failure: BaseException | None = None

    def write(self, content: Any) -> int:
        rest = memoryview(content).cast("B")
        size = len(rest)
        with self._kept():
            while rest and self.failure is None:
                rest = rest[super().write(rest) :]
        return size

    def truncate(self, size: int | None = None) -> int:
        with self._kept():
            return super().truncate(size)
        return 0

    def check(self) -> None:
        """Raise what went wrong."""
        if self.failure is not None:
            raise self.failure

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # Ctrl-C, too
            self.failure = error


def _places(file: Any, split: str, jobs: Jobs, layout: Layout) -> Iterator[tuple[Any, int]]:
    """Yield where each sample of a split goes: a dataset in the file, and the index there."""
    count = len(jobs.jobs)
    shape = (count, layout.steps, layout.bytes)
    chunk = (1, min(layout.steps, max(CHUNK_BYTES // layout.bytes, 1)), layout.bytes)
    # HDF5 has no chunks of nothing
    checked = {"compression": "gzip", "compression_opts": 1, "fletcher32": True} if count else {}
    samples = file.create_dataset(f"{split}/samples", shape, np.uint8, chunks=chunk if count else None, **checked)
    labels = np.asarray(jobs.labels, np.int64)
    file.create_dataset(f"{split}/labels", data=labels, chunks=labels.shape if count else None, **checked)
    return ((samples, index) for index in range(count))


def _made(splits: Mapping[str, Jobs], layout: Layout, workers: int | None) -> Generator[Frames, None, None]:
    """Yield the samples of all splits in order, made not far ahead of what is asked for: they take memory."""
    size = max(min(CHUNK_BYTES // (layout.steps * layout.bytes), BATCH), 1)
    batches = [
        (Packed(jobs.make, layout), jobs.jobs[start : start + size])
        for jobs in splits.values()
        for start in range(0, len(jobs.jobs), size)
    ]
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = min(cores, MOST_WORKERS)
    if workers <= 1 or len(batches) <= 1:
        for make, jobs in batches:
            yield from map(make, jobs)
        return
    # spawned: threads of torch do not survive a fork
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _end_with_parent)
    waiting: deque[Future[list[Frames]]] = deque()
    try:
        for make, jobs in batches:
            waiting.append(pool.submit(make.all, jobs))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise RunError(
            "a process that prepares recordings died: try again with more memory, and in a script of your own put what "
            "it does below if __name__ == '__main__'"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Make a worker end when the process that builds does, by whatever signal, which the pool leaves undone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


@dataclass(frozen=True)
class Packed:
    """Makes samples as they are stored."""

    make: Callable[[Any], Frames]
    layout: Layout

    def __call__(self, job: Any) -> Frames:
        """Return `[T, bytes]`."""
        frames = self.make(job)
        expected = (self.layout.steps, *self.layout.shape)
        if frames.dtype != np.uint8 or frames.shape != expected:
            raise DataError(f"a sample is {frames.dtype} {list(frames.shape)}, expected uint8 {list(expected)}")
        return pack_frames(frames) if self.layout.binary else frames.reshape(len(frames), -1)

    def all(self, jobs: Sequence[Any]) -> list[Frames]:
        """Return a sample for each job."""
        return [self(job) for job in jobs]


@contextmanager
def _read(path: Path, split: str) -> Iterator[Any]:
    with _explained(path), h5py.File(path) as file:
        if split not in file:
            raise unknown_name("split", split, file)
        yield file[split]


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what HDF5 says of damage into one sentence."""
    try:
        yield
    except SpikingLFPError:
        raise
    except Exception as error:  # h5py raises what it happens to stumble over
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read ({reason}): delete it to have it made again") from None


def _remove_orphans(folder: Path, path: Path) -> None:
    """Remove what processes that died were writing: whoever writes holds the lock, and that of `path` is ours."""
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
