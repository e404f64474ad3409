"""The cache of sequences while processes die, disks are full, and files are damaged."""

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from filelock import FileLock
from torch.utils.data import DataLoader

from helpers import small_recordings as make_recordings
from helpers.failing_caches import (
    JOBS,
    LAYOUT,
    RECIPE,
    build,
    deadly,
    frames,
    is_right,
    logged,
    logged_by,
    not_there,
    splits,
)  # fmt: skip
from helpers.forks import Forks
from helpers.processes import ENVIRONMENT
from spiking_lfp.data import cache
from spiking_lfp.data.cache import Jobs, Layout, cache_status
from spiking_lfp.errors import DataError, RunError, UsageError
from spiking_lfp.events.frames import unpack_batch


def left(folder: Path) -> list[str]:
    """Name what is in the folder but locks, which stay."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@pytest.mark.parametrize("chunk", [1, 7, 12])
def test_large_samples_are_stored_in_parts(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CHUNK_BYTES", chunk)
    made = build(tmp_path)
    with h5py.File(made.path) as file:
        # a step takes 3 bytes
        assert file["train/samples"].chunks == (1, {1: 1, 7: 2, 12: 3}[chunk], 3)
    assert is_right(made)


def test_an_empty_split_is_empty(tmp_path: Path) -> None:
    samples, labels = build(tmp_path, {"none": Jobs(frames, [], [])}).load("none")
    assert (samples.shape, labels.shape) == ((0, 3, 3), (0,))


@pytest.mark.usefixtures("quick_workers")
def test_several_workers_write_the_same_file(tmp_path: Path) -> None:
    one, two = (build(tmp_path / str(workers), workers=workers) for workers in (1, 2))
    assert one.path.read_bytes() == two.path.read_bytes()
    assert is_right(two)


def test_what_recordings_raise_is_not_taken_for_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^b.bin is not there$"):
        build(tmp_path, splits(not_there))
    assert left(tmp_path) == []


@pytest.mark.usefixtures("quick_workers")
def test_a_worker_that_dies_ends_the_build(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="a process that prepares recordings died"):
        build(tmp_path, splits(deadly), workers=2)
    assert left(tmp_path) == []
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("quick_workers")
def test_an_interrupted_build_leaves_nothing_and_workers_were_not_far_ahead(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def interrupt(*_: int) -> None:
        time.sleep(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as told:
        build(tmp_path / "cache", splits(partial(logged, log, 0), 2000), workers=2, progress=interrupt)
    assert left(tmp_path / "cache") == []
    # whoever still holds the error, and with it all that was running
    assert multiprocessing.active_children() == []
    del told
    assert 16 <= len(log.read_text().split()) <= 5 * 16


def test_a_killed_builder_leaves_no_workers_and_nothing_that_is_served(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    builder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import pathlib, helpers.failing_caches as it; it.main(pathlib.Path({str(tmp_path)!r}))",
        ],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert builder.stdout is not None
    assert builder.stdout.readline() == "1\n"
    builder.kill()
    # workers hold the other end, too: this ends when they have ended
    builder.communicate(timeout=60)
    assert [name.endswith(".tmp") for name in left(folder)] == [True]
    assert cache_status(folder) == []
    other = build(folder, recipe={"data": "another"})
    assert left(folder) == [other.path.name]
    made = build(folder)
    assert not made.hit
    assert is_right(made)


def test_what_a_process_is_writing_stays_and_what_a_dead_one_wrote_goes(tmp_path: Path) -> None:
    for name in (".a-1.h5.tmp", ".b-1.h5.tmp"):
        (tmp_path / name).touch()
    with FileLock(tmp_path / ".a-1.h5.lock"):
        made = build(tmp_path)
    assert left(tmp_path) == [".a-1.h5.tmp", made.path.name]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda job: frames(job).astype(np.int64), r"a sample is int64 .*, expected uint8"),
        (lambda job: frames(job) * np.uint8(2), "bits hold 0 and 1, found 2"),
    ],
)
def test_samples_that_do_not_fit_are_refused(make: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises((DataError, UsageError), match=sentence):
        build(tmp_path, splits(make))
    assert left(tmp_path) == []


def test_each_job_has_a_label() -> None:
    with pytest.raises(UsageError, match="a label for each job, found 1 for 2"):
        Jobs(frames, [1, 2], [1])


def served(folder: Path) -> bool | None:
    """Return whether what is served is right; None if it is refused."""
    try:
        return is_right(build(folder, splits(count=4)), 4)
    except DataError:
        return None


def test_no_damage_is_served_wherever_it_is(tmp_path: Path) -> None:
    path = build(tmp_path, splits(count=4)).path
    whole = path.read_bytes()
    with h5py.File(path) as file:
        chunks = [
            dataset.id.get_chunk_info(number)
            for group in file.values()
            for dataset in group.values()
            for number in range(dataset.id.get_num_chunks())
        ]
    assert len(chunks) == 4 + 3 + 2
    damaged = [whole[:size] for size in range(0, len(whole), 97)]
    damaged += [whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(0, len(whole), 11)]
    damaged += [whole[:at] + bytes(100) + whole[at + 100 :] for at in range(0, len(whole) - 100, 150)]
    seen = set()
    for content in damaged:
        path.write_bytes(content)
        cache_status(tmp_path)
        seen.add(served(tmp_path))
    assert seen == {True, None}
    for chunk in chunks:  # zeros have a right checksum
        at, end = chunk.byte_offset, chunk.byte_offset + chunk.size
        path.write_bytes(whole[:at] + bytes(chunk.size) + whole[end:])
        assert served(tmp_path) is not False


@pytest.mark.parametrize(
    "name",
    [
        "format",
        "recipe",
        "steps",
        "shape",
        "binary",
        "complete",
        "labels",
        "exchanged labels",
        "samples",
        "more splits",
    ],
)
def test_an_edited_file_is_made_again(name: str, tmp_path: Path) -> None:
    made = build(tmp_path)
    with h5py.File(made.path, "r+") as file:
        if name == "labels":
            del file["train/labels"]
        elif name == "exchanged labels":
            file["train/labels"][...] = file["train/labels"][()][::-1]
        elif name == "more splits":
            file.copy("test", "validation")
        elif name == "samples":
            del file["test/samples"]
            file["test/samples"] = np.zeros((3, 2, 3), np.uint8)
        elif name == "recipe":
            file.attrs[name] = np.bytes_(json.dumps(RECIPE, sort_keys=True).replace("10", "11").encode())
        elif name == "complete":
            del file.attrs[name]
        else:
            file.attrs[name] = np.asarray(file.attrs[name]) ^ 1
    again = build(tmp_path)
    assert not again.hit
    assert is_right(again)


# what `python SCRIPT` and `python -m own_script` do, in a fork
RUN_SCRIPT = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
RUN_MODULE = "import runpy; runpy.run_module('own_script', run_name='__main__', alter_sys=True)"


@pytest.mark.parametrize("start", ["script", "module"])
def test_a_script_without_a_guard_runs_once(start: str, tmp_path: Path, forks: Forks) -> None:
    make_recordings.write_nmnist(tmp_path)
    script = tmp_path / "own_script.py"
    script.write_text(
        "import os\n"
        "from pathlib import Path\n"
        "print('run', flush=True)\n"
        f"os.environ['SPIKING_LFP_CACHE'] = {str(tmp_path / 'cache')!r}\n"
        "from spiking_lfp.data import EventRecipe, cache, load_samples\n"
        "cache.ALONE_S = cache.MEASURED_S = -1  # processes at once\n"
        "process_of = cache.WORKERS.Process\n"
        "cache.WORKERS.Process = lambda *a, **k: print('worker') or process_of(*a, **k)\n"
        f"samples = load_samples('n-mnist', EventRecipe(steps=3), root=Path({str(tmp_path)!r}))\n"
        "print(len(samples.train))\n"
    )
    how = {"script": RUN_SCRIPT, "module": RUN_MODULE}[start]
    ran = forks.run(how, script, folder=tmp_path, path=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    said = ran.stdout.split()
    assert (said.count("run"), said[-1]) == (1, "20")
    assert "worker" in said


def test_a_script_that_starts_itself_again_is_told_so(tmp_path: Path, forks: Forks) -> None:
    script = tmp_path / "own_script.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "from pathlib import Path\n"
        "from helpers.failing_caches import build\n"
        "from spiking_lfp.errors import RunError\n"
        "if __name__ == '__main__':  # but not around the rest\n"
        "    process = multiprocessing.get_context('spawn').Process(target=print)\n"
        "    process.start()\n"
        "    process.join()\n"
        "else:\n"
        "    try:\n"
        f"        build(Path({str(tmp_path / 'cache')!r}), workers=2)\n"
        "    except RunError as error:\n"
        "        print(error)\n"
    )
    ran = forks.run(RUN_SCRIPT, script)
    assert ran.returncode == 0, ran.stderr
    assert "this script runs once more in a process that it has started itself: put its code below if" in ran.stdout
    assert not (tmp_path / "cache").exists()


def build_in_a_daemon(folder: Path) -> bool:
    return is_right(build(folder, workers=2))


def test_a_process_that_may_not_have_processes_builds_alone(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(build_in_a_daemon, (tmp_path,)).get(120)


@pytest.mark.usefixtures("quick_workers")
@pytest.mark.parametrize(("alone", "pool"), [(1e9, False), (-1.0, True)])
def test_processes_are_started_for_long_work_only(
    alone: float, pool: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "ALONE_S", alone)
    monkeypatch.setattr(cache, "MEASURED_S", -1.0)
    monkeypatch.setattr(cache, "MAX_WORKERS", 2)
    log = tmp_path / "log"
    made = build(tmp_path / "cache", splits(partial(logged_by, log), 100), workers=None)
    assert made.load("train")[1].tolist() == [job % 7 for job in range(100)]
    makers = log.read_text().split()
    # the first ones are made here
    assert makers[0] == str(os.getpid())
    assert (len(set(makers)) > 1) == (pool and len(os.sched_getaffinity(0)) > 1)


def test_a_recipe_may_list_many_files(tmp_path: Path) -> None:
    recipe = {"files": [[f"/recordings/ä/{number:05}.bin", 10**4, 10**18 + number] for number in range(20_000)]}
    build(tmp_path, recipe=recipe)
    assert build(tmp_path, splits(not_there), recipe=recipe).hit
    assert cache_status(tmp_path)[0].recipe == recipe


def test_damage_and_unknown_splits_are_told_in_a_sentence(tmp_path: Path) -> None:
    made = build(tmp_path)
    assert made.size_bytes == len(made.path.read_bytes())
    for ask in (made.load, made.dataset):
        with pytest.raises(UsageError, match="unknown split 'tests': did you mean 'test'"):
            ask("tests")
    dataset = made.dataset("train")
    with h5py.File(made.path) as file:
        chunk = file["train/samples"].id.get_chunk_info(7)
    content = bytearray(made.path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 4
    made.path.write_bytes(content)
    dataset[6]
    for read in (lambda: dataset[7], lambda: made.load("train")):
        with pytest.raises(
            DataError, match=rf"^{made.path} cannot be read \(.*\): delete it and it will be built again$"
        ):
            read()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_loader_reads_in_workers_what_the_kernels_read_here(method: str, tmp_path: Path) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    made = build(tmp_path)
    dataset = made.dataset("train")
    # starts the threads that do not survive a fork
    expected = unpack_batch(made.load("train")[0], LAYOUT.shape).transpose(0, 1)
    assert torch.equal(dataset[-1][0], expected[-1])
    workers = {"fork": 2, "spawn": 1}[method]  # each that is spawned loads torch
    loader = DataLoader(dataset, batch_size=9, num_workers=workers, multiprocessing_context=method, timeout=60)
    batches = list(loader)
    assert torch.equal(torch.cat([samples for samples, _ in batches]), expected)
    assert torch.cat([labels for _, labels in batches]).tolist() == [job % 7 for job in range(JOBS)]
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[3][0], expected[3])
    assert [label for _, label in again.__getitems__([5, 2, 2])] == [5, 2, 2]
    with pytest.raises(IndexError):
        dataset[JOBS]


def test_a_cache_is_read_where_it_cannot_be_written(tmp_path: Path) -> None:
    made = build(tmp_path)
    for path in tmp_path.glob(".*"):
        path.unlink()
    tmp_path.chmod(0o555)
    try:
        assert build(tmp_path, splits(not_there)).hit
        assert [path.name for path in tmp_path.iterdir()] == [made.path.name]  # root can write, but has no reason to
        if not os.access(tmp_path, os.W_OK):
            with pytest.raises(RunError, match=r"cannot write .*: Permission denied; "):
                build(tmp_path, recipe={})
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("limit", [300, 900, 10_000, 100_000])
def test_a_full_disk_is_told_in_a_sentence_and_leaves_nothing(limit: int, tmp_path: Path) -> None:
    """Where files may not become longer, writing fails as on a full disk, only by another number."""
    resource = pytest.importorskip("resource")
    noise = np.random.default_rng(0).integers(0, 256, (20, 1, 20_000), np.uint8)
    jobs = {"train": Jobs(noise.__getitem__, range(20), [0] * 20)}
    layout = Layout(1, (20_000,), binary=False)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(RunError, match=r"cannot write .*: File too large; raise the limit .* or name another"):
            build(tmp_path, jobs, layout=layout)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left(tmp_path) == []
    assert not build(tmp_path, jobs, layout=layout).hit


def test_the_listing_names_what_cannot_be_read(tmp_path: Path) -> None:
    assert cache_status(tmp_path / "nowhere") == []
    made = build(tmp_path)
    (tmp_path / "a-folder-0.h5").mkdir()
    (tmp_path / "my-set-1.h5").write_bytes(made.path.read_bytes()[:-1])
    (tmp_path / "no-2.h5").write_bytes(b"")
    (tmp_path / "gone-3.h5").symlink_to(tmp_path / "gone")
    found = {entry.path.name: entry for entry in cache_status(tmp_path)}
    assert found.pop(made.path.name).recipe == RECIPE
    assert sorted(entry.name for entry in found.values()) == ["a-folder", "gone", "my-set", "no"]
    assert all(entry.samples is None and entry.recipe is None for entry in found.values())
