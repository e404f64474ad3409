"""The cache of sequences: what is stored is what was made, built once, and never served incomplete or damaged."""

import json
import signal
import warnings
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from helpers.processes import quick_start
from helpers.small_caches import (
    LAYOUT,
    RECIPE,
    build,
    build_slowly,
    check,
    damaged,
    doubtful,
    made,
    misshapen,
    odd_ones,
)
from spiking_lfp.data import cache
from spiking_lfp.data.cache import Jobs, Layout, cache_folder, cache_status, cached
from spiking_lfp.errors import DataError, RunError


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith("lock"))


@settings(max_examples=30)
@given(steps=st.integers(1, 4), shape=st.lists(st.integers(1, 9), min_size=1, max_size=3), binary=st.booleans())
def test_what_is_stored_is_what_was_made(
    steps: int, shape: list[int], binary: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    layout = Layout(steps, tuple(shape), binary)
    jobs = {"only": Jobs(lambda job: made(job, layout), [4, 9], [1, 0])}
    found = cached("any", {}, lambda: (layout, jobs), folder=tmp_path_factory.mktemp("cache"), workers=1)
    samples, labels = found.load("only")
    assert samples.dtype == torch.uint8
    assert labels.tolist() == [1, 0]
    dataset = found.dataset("only")
    assert len(dataset) == 2
    for index, job in enumerate((4, 9)):
        expected = made(job, layout)
        flat = expected.reshape(steps, -1)
        stored = np.packbits(flat, axis=1, bitorder="little") if binary else flat
        assert np.array_equal(samples[index].numpy(), stored)
        sample, label = dataset[index]
        assert sample.dtype == torch.float32
        assert np.array_equal(sample.numpy(), expected)
        assert label == labels[index]


def test_the_second_time_nothing_is_made(tmp_path: Path) -> None:
    first = build(tmp_path)
    assert not first.hit

    def never() -> Any:
        raise AssertionError("asked for splits")

    again = cached("small", RECIPE, never, folder=tmp_path)
    assert again.hit
    assert again.path == first.path
    check(again)


@pytest.mark.parametrize("recipe", [{**RECIPE, "steps": 4}, {"data": "made up"}, {**RECIPE, "more": [1]}])
def test_another_recipe_is_another_file(recipe: dict[str, Any], tmp_path: Path) -> None:
    first, other = build(tmp_path), build(tmp_path, recipe=recipe)
    assert not other.hit
    assert other.path != first.path
    assert build(tmp_path).hit


def test_the_order_of_a_recipe_does_not_matter(tmp_path: Path) -> None:
    build(tmp_path)
    assert build(tmp_path, recipe=dict(reversed(RECIPE.items()))).hit


def test_the_file_is_as_described(tmp_path: Path) -> None:
    with h5py.File(build(tmp_path).path) as file:
        assert set(file) == {"train", "test"}
        names = "format recipe steps shape binary sensor remarks checksum complete"
        assert set(file.attrs) == set(names.split())
        assert json.loads(file.attrs["recipe"]) == RECIPE
        assert (file.attrs["format"], file.attrs["complete"]) == (cache.FORMAT, True)
        assert (file.attrs["steps"], tuple(file.attrs["shape"]), file.attrs["binary"]) == (3, (2, 3, 5), True)
        samples, labels = file["train/samples"], file["train/labels"]
        # 30 bits take 4 bytes
        assert (samples.dtype, samples.shape, samples.chunks) == (np.uint8, (7, 3, 4), (1, 3, 4))
        assert (samples.compression, samples.compression_opts, samples.fletcher32) == ("gzip", 1, True)
        assert (labels.dtype, labels.shape, labels.fletcher32) == (np.int64, (7,), True)
        assert samples[2, 1, 0] == sum(int(bit) << place for place, bit in enumerate(made(2)[1].flatten()[:8]))


def test_a_recipe_that_was_changed_in_the_file_is_not_served(tmp_path: Path) -> None:
    path = build(tmp_path).path
    with h5py.File(path, "a") as file:
        file.attrs["recipe"] = np.bytes_(file.attrs["recipe"].replace(b"made up", b"made off"))
    found = build(tmp_path)
    assert not found.hit
    check(found)


@pytest.mark.usefixtures("quick_workers")
def test_several_workers_make_the_same(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    jobs = {"train": Jobs(made, range(40), [0] * 40)}
    both = [
        cached("s", RECIPE, lambda: (LAYOUT, jobs), folder=tmp_path / name, workers=workers, progress=progress)
        for name, workers, progress in (("one", 1, None), ("two", 2, lambda done, total: told.append((done, total))))
    ]
    assert torch.equal(both[0].load("train")[0], both[1].load("train")[0])
    assert told == [(done, 40) for done in range(1, 41)]


@pytest.mark.usefixtures("quick_workers")
@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_warned_of_is_told_on_each_load(workers: int, tmp_path: Path) -> None:
    for is_hit in (False, True):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert build(tmp_path, make=doubtful, train=40, workers=workers).hit == is_hit
        assert [str(each.message) for each in told] == [
            "0.dat: left out 0 triggers",
            "all.dat: it names no chip",
            *(f"{number}.dat: left out {number} triggers" for number in (9, 18, 27)),
            "1 more remarks of this kind about recordings are not shown",
        ]


@pytest.mark.usefixtures("quick_workers")
@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_so_of_many_samples_is_told_once(workers: int, tmp_path: Path) -> None:
    for _ in range(2):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            build(tmp_path, make=odd_ones, train=40, workers=workers)
        assert [str(each.message) for each in told] == ["21 of 43 samples are odd: a.dat, b.dat; make them even"]


@pytest.mark.parametrize(
    ("make", "message"), [(damaged, "recording 5"), (misshapen, r"a sample is uint8 \[3, 1, 3, 5\]")]
)
@pytest.mark.usefixtures("quick_workers")
@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_be_made_leaves_nothing(make: Any, message: str, workers: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        build(tmp_path, make=make, train=40, workers=workers)
    assert files(tmp_path) == []
    build(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot write .*: File exists; name another folder by SPIKING_LFP_CACHE"):
        build(tmp_path / "file")


@settings(max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_flipped_bits_are_never_served(place: float, bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("cache")
    path = build(folder).path
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        found = build(folder)
        check(found)
    except DataError as error:
        said = str(error)
    else:
        return
    assert "delete it and it will be built again" in said
    assert str(path) in said


def test_cut_files_are_made_again(tmp_path: Path) -> None:
    path = build(tmp_path).path
    content = path.read_bytes()
    for length in (*range(0, len(content), max(1, len(content) // 40)), len(content) - 1):
        path.write_bytes(content[:length])
        try:
            check(build(tmp_path))
        except DataError as error:
            said = str(error)
            assert "delete it and it will be built again" in said
            path.unlink()


def test_loaders_read_in_several_processes(tmp_path: Path) -> None:
    dataset = build(tmp_path).dataset("train")
    assert dataset[0][0].shape == (3, 2, 3, 5)  # opened here before it goes to the workers
    for context in ("fork", quick_start()):
        loader = DataLoader(dataset, batch_size=3, num_workers=2, multiprocessing_context=context)
        batches = list(loader)
        samples, labels = (torch.cat([batch[part] for batch in batches]) for part in (0, 1))
        assert np.array_equal(samples.numpy(), np.stack([made(job) for job in range(7)]))
        assert labels.tolist() == [job % 4 for job in range(7)]


def start(folder: Path, seconds: float) -> tuple[Any, Connection]:
    """Start a process that builds, and return it and what it tells."""
    context = quick_start()
    told, tells = context.Pipe(duplex=False)
    process = context.Process(target=build_slowly, args=(folder, seconds, tells))
    process.start()
    tells.close()
    return process, told


def all_told(told: Connection) -> list[str]:
    heard = []
    with suppress(EOFError):
        while True:
            heard.append(told.recv())
    return heard


def test_two_processes_build_once(tmp_path: Path) -> None:
    both = [start(tmp_path, 0.1) for _ in range(2)]
    said = [all_told(told) for _, told in both]
    for process, _ in both:
        process.join(120)
        assert process.exitcode == 0
    assert sorted(each[-1] for each in said) == ["built", "hit"]
    assert sum(len(each) > 1 for each in said) == 1


def test_a_killed_builder_leaves_nothing_that_is_served(tmp_path: Path) -> None:
    process, told = start(tmp_path, 0.3)
    while told.recv() != "making 2":
        pass
    process.kill()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    [left] = files(tmp_path)
    assert left.endswith(".tmp")
    assert cache_status(tmp_path) == []
    found = build(tmp_path)
    assert not found.hit
    check(found)
    assert files(tmp_path) == [found.path.name]


def test_what_another_process_is_writing_is_not_removed(tmp_path: Path) -> None:
    process, told = start(tmp_path, 0.5)
    told.recv()
    # another recipe does not wait for the lock of this one
    build(tmp_path, recipe={"data": "other"})
    assert all_told(told)[-1] == "built"
    process.join(60)
    assert process.exitcode == 0


def test_the_listing_names_what_is_there(tmp_path: Path) -> None:
    found = build(tmp_path)
    (tmp_path / "broken-0123.h5").write_bytes(b"abc")
    broken, small = cache_status(tmp_path)
    assert (broken.name, broken.size, broken.samples, broken.recipe) == ("broken", 3, None, None)
    assert (small.name, small.path, small.samples) == ("small", found.path, {"train": 7, "test": 3})
    assert small.recipe is not None
    assert small.recipe["data"] == "made up"
    assert small.size == found.path.stat().st_size


def test_the_folder_is_named_by_argument_variable_or_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPIKING_LFP_CACHE", raising=False)
    assert cache_folder().parts[-2:] == ("spiking_lfp", "sequences")
    monkeypatch.setenv("SPIKING_LFP_CACHE", "~/kept")
    assert cache_folder() == Path.home() / "kept"
    assert cache_folder(tmp_path) == tmp_path
