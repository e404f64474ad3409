"""Sequences made from recordings, kept in HDF5 files: made once, by several processes, and never served incomplete.

A file is named after its data set and the SHA-256 of its recipe, all that its content depends on. Field by field:

    attributes    format (this module's FORMAT), recipe (JSON, keys in order), steps, shape (of one step), binary
    SPLIT/samples uint8 [N, T, bytes], a chunk for each sample, gzip 1, with Fletcher checksums. Where `binary`, a step
                  takes ceil(prod(shape) / 8) bytes, its first value in the lowest bit of the first; else a byte a value
    SPLIT/labels  int64 [N], with Fletcher checksums

It is written under a temporary name and renamed when it is complete. A lock beside it makes a second process wait for
the first; a process that dies gives up its lock, and what it left behind is removed by the next one that builds.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import platformdirs
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from spiking_lfp.errors import DataError, RunError
from spiking_lfp.events.frames import unpack_batch

FOLDER_VARIABLE = "SPIKING_LFP_CACHE"
FORMAT = 1
MOST_WORKERS = 8
# tasks handed to a worker at a time: samples cut from one recording come one after the other
CHUNK = 16

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
    where = cache_folder(folder)
    text = json.dumps({**recipe, "format": FORMAT}, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = where / f"{name}-{key}.h5"
    found = _opened(path, text, layout)
    if found is not None:
        return found
    try:
        where.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            # another process may have made it meanwhile
            found = _opened(path, text, layout)
            if found is not None:
                return found
            _remove_orphans(where)
            with _temporary(path) as temporary:
                _build(temporary, text, layout, splits(), workers, progress)
                temporary.replace(path)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; free some space, or name another folder by "
            f"{FOLDER_VARIABLE}"
        ) from None
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

    def load(self, split: str) -> tuple[Tensor, Tensor]:
        """Return samples uint8 `[N, T, bytes]` and labels int64 `[N]`, whole, as small as they are in the file.

        Raises:
            DataError: if they are damaged.
        """
        with _read(self.path) as file:
            return torch.from_numpy(file[f"{split}/samples"][()]), torch.from_numpy(file[f"{split}/labels"][()])

    def dataset(self, split: str) -> "CachedSequences":
        """Return the samples as a torch data set that reads them one by one, for a `DataLoader`."""
        return CachedSequences(self.path, split, self.layout)


class CachedSequences(Dataset[tuple[Tensor, int]]):
    """Samples float32 `[T, *shape]` with their labels, read when asked for; can be handed to `DataLoader` workers."""

    def __init__(self, path: Path, split: str, layout: Layout) -> None:
        self.path, self.split, self.layout = path, split, layout
        self._file: tuple[int, Any] | None = None
        with _read(path) as file:
            self.labels = file[f"{split}/labels"][()].tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one sample and its label."""
        label = self.labels[index]
        with _explained(self.path):
            stored = torch.from_numpy(self._samples()[index % len(self)])
        if self.layout.binary:
            return unpack_batch(stored.unsqueeze(0), self.layout.shape).squeeze(1), label
        return stored.float().unflatten(1, self.layout.shape), label

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
        name, size = path.stem.rpartition("-")[0], path.stat().st_size
        try:
            with h5py.File(path) as file:
                samples = {split: len(file[f"{split}/labels"]) for split in file}
                entries.append(CacheEntry(name, path, size, samples, json.loads(file.attrs["recipe"])))
        except (OSError, KeyError, ValueError, RuntimeError, TypeError):
            entries.append(CacheEntry(name, path, size, None, None))
    return entries


def _opened(path: Path, recipe: str, layout: Layout) -> SequenceCache | None:
    """Return the cache in `path` if it is a whole one of this recipe."""
    expected = {"format": FORMAT, "recipe": recipe, "steps": layout.steps, "binary": layout.binary}
    try:
        with h5py.File(path) as file:
            fits = all(file.attrs[key] == value for key, value in expected.items())
            fits = fits and tuple(file.attrs["shape"]) == layout.shape
            for split in file:
                samples, labels = file[f"{split}/samples"], file[f"{split}/labels"]
                fits = fits and samples.shape == (len(labels), layout.steps, layout.bytes)
    except (OSError, KeyError, ValueError, RuntimeError, TypeError):
        return None
    return SequenceCache(path, layout, hit=True) if fits else None


def _build(
    path: Path,
    recipe: str,
    layout: Layout,
    splits: Mapping[str, Jobs],
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    total, done = sum(len(each.jobs) for each in splits.values()), 0
    with h5py.File(path, "x") as file:
        attributes = {"format": FORMAT, "recipe": recipe, "steps": layout.steps, "binary": layout.binary}
        file.attrs.update({**attributes, "shape": layout.shape})
        for split, jobs in splits.items():
            count = len(jobs.jobs)
            shape = (count, layout.steps, layout.bytes)
            group = file.create_group(split)
            samples = group.create_dataset(
                "samples", shape, np.uint8, chunks=(1, *shape[1:]) if count else None,
                compression="gzip" if count else None, compression_opts=1 if count else None, fletcher32=count > 0,
            )  # fmt: skip
            labels = np.asarray(jobs.labels, np.int64)
            group.create_dataset("labels", data=labels, chunks=labels.shape if count else None, fletcher32=count > 0)
            for index, stored in enumerate(_made(jobs, layout, workers)):
                samples[index] = stored
                done += 1
                if progress is not None:
                    progress(done, total)
        file.flush()
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _made(jobs: Jobs, layout: Layout, workers: int | None) -> Iterator[Frames]:
    """Yield the samples in order."""
    make = Packed(jobs.make, layout)
    if workers is None:
        workers = min(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, MOST_WORKERS
        )
    if workers <= 1 or len(jobs.jobs) <= CHUNK:
        yield from map(make, jobs.jobs)
        return
    # spawned: threads of torch do not survive a fork
    pool = ProcessPoolExecutor(workers, get_context("spawn"))
    try:
        yield from pool.map(make, jobs.jobs, chunksize=CHUNK)
    except BrokenProcessPool:
        raise RunError("a process that prepares recordings died, maybe for want of memory: try again") from None
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Packed:
    """Makes a sample as it is stored."""

    make: Callable[[Any], Frames]
    layout: Layout

    def __call__(self, job: Any) -> Frames:
        """Return `[T, bytes]`."""
        frames = self.make(job)
        expected = (self.layout.steps, *self.layout.shape)
        if frames.dtype != np.uint8 or frames.shape != expected:
            raise DataError(f"a sample is {frames.dtype} {list(frames.shape)}, expected uint8 {list(expected)}")
        flat = frames.reshape(len(frames), -1)
        return np.packbits(flat, axis=1, bitorder="little") if self.layout.binary else flat


@contextmanager
def _read(path: Path) -> Iterator[Any]:
    with _explained(path), h5py.File(path) as file:
        yield file


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what HDF5 says of damage into one sentence."""
    try:
        yield
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is damaged ({reason}): delete it to have it made again") from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with FileLock(path.with_suffix(".lock")):
        yield


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Give a name to write to, which is gone afterwards, and locked meanwhile so that nobody else removes it."""
    temporary = path.with_name(f".{path.stem}-{os.getpid()}.tmp")
    with FileLock(_lock_of(temporary)):
        temporary.unlink(missing_ok=True)
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)
            _lock_of(temporary).unlink(missing_ok=True)


def _remove_orphans(folder: Path) -> None:
    """Remove what processes that died were writing."""
    for temporary in folder.glob(".*.tmp"):
        lock = FileLock(_lock_of(temporary), timeout=0)
        with suppress(OSError, TimeoutError), lock:
            temporary.unlink(missing_ok=True)
            _lock_of(temporary).unlink(missing_ok=True)


def _lock_of(temporary: Path) -> Path:
    return temporary.with_suffix(".tmplock")
