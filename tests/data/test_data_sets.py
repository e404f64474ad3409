"""Loading torchvision's data sets from files that are there, whole or damaged."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.small_sets import Arrays, SmallCifar, idx_bytes, numpy1_pickle
from spiking_lfp.data import DATASET_NAMES, ImageDataset, data_root, dataset_status, load_dataset
from spiking_lfp.data._files import IDX_FILES
from spiking_lfp.data.catalog import SOURCES
from spiking_lfp.errors import DataError, UsageError

IMAGE_FILES = IDX_FILES[0::2]
LABEL_FILES = IDX_FILES[1::2]


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in [root, *root.rglob("*")]}


# What a data set must be.


def small(**changes: Any) -> ImageDataset:
    fields = {
        "name": "small",
        "train_images": torch.zeros(4, 1, 3, 2, dtype=torch.uint8),
        "train_labels": torch.tensor([0, 1, 0, 1]),
        "test_images": torch.zeros(2, 1, 3, 2, dtype=torch.uint8),
        "test_labels": torch.tensor([1, 0]),
        "class_names": ("a", "b"),
    }
    return ImageDataset(**{**fields, **changes})


def test_a_sound_data_set_is_accepted() -> None:
    assert repr(small()) == "ImageDataset(name='small', class_names=('a', 'b'))"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"train_images": torch.zeros(4, 1, 3, 2)}, "small, train split: images are torch.float32"),
        (
            {"test_images": torch.zeros(2, 3, 2, dtype=torch.uint8)},
            "test split: images are .* expected .*uint8",
        ),
        ({"train_labels": torch.zeros(4)}, "train split: labels are torch.float32"),
        ({"train_labels": torch.zeros(4, 1, dtype=torch.int64)}, r"train split: labels are .*\[4, 1\]"),
        ({"train_labels": torch.tensor([0, 1, 0])}, "train split: there are 4 images but 3 labels"),
        ({"test_labels": torch.tensor([0, 1, 0])}, "test split: there are 2 images but 3 labels"),
        ({"train_labels": torch.tensor([0, 1, 0, 2])}, r"train split: labels are 0\.\.2, expected 0\.\.1"),
        ({"test_labels": torch.tensor([-1, 0])}, r"test split: labels are -1\.\.0, expected 0\.\.1"),
        ({"class_names": ()}, "for 0 classes"),
        (
            {"test_images": torch.zeros(0, 1, 3, 2, dtype=torch.uint8), "test_labels": torch.zeros(0).long()},
            "test split: there are no images",
        ),
        ({"train_images": torch.zeros(4, 1, 0, 2, dtype=torch.uint8)}, "train split: there are no images"),
        (
            {"test_images": torch.zeros(2, 1, 2, 3, dtype=torch.uint8)},
            r"train images are \[1, 3, 2\], but test images \[1, 2, 3\]",
        ),
    ],
)
def test_an_unsound_data_set_is_refused(changes: dict[str, Any], found: str) -> None:
    with pytest.raises(DataError, match=found):
        small(**changes)


# Where data are.


def test_the_root_is_the_named_one_else_of_the_environment_else_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SPIKING_LFP_DATA", str(tmp_path / "environment"))
    assert data_root(tmp_path / "named") == tmp_path / "named"
    assert data_root() == tmp_path / "environment"
    monkeypatch.setenv("SPIKING_LFP_DATA", "~/sets")
    assert data_root() == Path.home() / "sets"
    for unset in (
        lambda: monkeypatch.setenv("SPIKING_LFP_DATA", ""),
        lambda: monkeypatch.delenv("SPIKING_LFP_DATA"),
    ):
        unset()
        assert data_root() == Path(platformdirs.user_cache_dir("spiking_lfp"))
    assert data_root(Path("~/sets")) == Path.home() / "sets"


def test_status_tells_what_is_there(mnist_root: Path) -> None:
    states = {state.name: state for state in dataset_status(mnist_root)}
    assert tuple(states) == (*DATASET_NAMES, "yin-yang", "spoken-digits")
    assert {name for name, state in states.items() if state.present} == {"mnist-subset", "mnist", "yin-yang"}
    assert states["mnist"].location == mnist_root / "MNIST" / "raw"
    assert states["mnist-subset"].train_size == 10_000
    assert states["cifar100"].sample_shape == (3, 32, 32)
    (mnist_root / "MNIST" / "raw" / LABEL_FILES[1]).unlink()
    assert not dataset_status(mnist_root)[1].present


@pytest.mark.parametrize("name", ["mnits", "", "MNIST", "../mnist"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(
        UsageError, match=r"unknown data set .*cifar10, cifar100, cifar100-classes, fashion-mnist, kmnist, mnist"
    ):
        load_dataset(name)


# Whole files.


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "kmnist"])
def test_idx_files_are_loaded_whole(
    name: str, tmp_path: Path, write_idx: Callable[[Path], Path], digits: Arrays
) -> None:
    write_idx(tmp_path / SOURCES[name].folder)
    dataset = load_dataset(name, tmp_path)
    assert dataset.name == name
    assert len(dataset.class_names) == SOURCES[name].classes
    loaded = (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels)
    for tensor, array in zip(loaded, digits.values(), strict=True):
        expected = array[:, None] if array.ndim == 3 else array
        np.testing.assert_array_equal(tensor.numpy(), expected)


def test_cifar_files_are_loaded_whole_in_channels_first_order(cifar: SmallCifar) -> None:
    dataset = load_dataset(cifar.name, cifar.root)
    batches = list(cifar.batches.values())
    train_pixels = np.concatenate([pixels for pixels, _ in batches[:-1]])
    np.testing.assert_array_equal(dataset.train_images.numpy(), train_pixels, strict=True)
    np.testing.assert_array_equal(dataset.test_images.numpy(), batches[-1][0], strict=True)
    assert dataset.train_labels.tolist() == [label for _, labels in batches[:-1] for label in labels]
    assert dataset.test_labels.tolist() == batches[-1][1]
    assert dataset.class_names == cifar.class_names
    assert dataset.train_images.is_contiguous()


def test_files_that_are_there_need_neither_network_nor_writing(
    mnist_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        pytest.fail(f"used {args} {kwargs}")

    folder = mnist_root / "MNIST" / "raw"
    for path in (folder, folder.parent, mnist_root):
        path.chmod(0o555)
    before = snapshot(mnist_root)
    with monkeypatch.context() as patched:
        patched.setattr("socket.getaddrinfo", forbidden)
        patched.setattr(tempfile, "mkdtemp", forbidden)
        patched.setattr(Path, "mkdir", forbidden)
        patched.setattr(os, "mkdir", forbidden)
        load_dataset("mnist", mnist_root)
    assert snapshot(mnist_root) == before
    for path in (mnist_root, folder.parent, folder):
        path.chmod(0o755)


# Damaged files.


def header(file: str) -> int:
    return 16 if file in IMAGE_FILES else 8


DAMAGES: dict[str, Callable[[str, bytes], bytes]] = {
    r"it has 0 bytes": lambda file, content: b"",
    r"it has 7 bytes": lambda file, content: content[:7],
    r"header says \d+.* = \d+ bytes in all, it has \d+": lambda file, content: content[:-1],
    r"header says \d+.* = \d+ bytes in all, it has \d\d+": lambda file, content: content + b"\0",
    r"it begins with 0x1f8b0801": lambda file, content: b"\x1f\x8b\x08\x01" + content[4:],
    r"it begins with 0x3c68746d": lambda file, content: b"<html>not here</html>",
    r"it is empty": lambda file, content: content[:4] + bytes(4) + content[8 : header(file)],
}


@pytest.mark.parametrize("file", IDX_FILES)
@pytest.mark.parametrize("found", DAMAGES)
def test_a_damaged_idx_file_is_named(mnist_root: Path, file: str, found: str) -> None:
    path = mnist_root / "MNIST" / "raw" / file
    path.write_bytes(DAMAGES[found](file, path.read_bytes()))
    before = snapshot(mnist_root)
    with pytest.raises(DataError, match=rf"{file} is damaged: .*{found}.*; delete it"):
        load_dataset("mnist", mnist_root)
    assert snapshot(mnist_root) == before


@pytest.mark.parametrize("file", IMAGE_FILES)
def test_images_of_another_size_are_named(mnist_root: Path, file: str) -> None:
    path = mnist_root / "MNIST" / "raw" / file
    path.write_bytes(idx_bytes(np.zeros((10, 14, 56))))
    with pytest.raises(DataError, match=rf"{file} is damaged: its images are 14x56, expected 28x28"):
        load_dataset("mnist", mnist_root)


@pytest.mark.parametrize("file", LABEL_FILES)
def test_a_label_that_no_class_has_is_named(mnist_root: Path, file: str) -> None:
    path = mnist_root / "MNIST" / "raw" / file
    path.write_bytes(path.read_bytes()[:-1] + b"\x0a")
    with pytest.raises(DataError, match=rf"{file} is damaged: it has the label 10, expected 0\.\.9"):
        load_dataset("mnist", mnist_root)


@pytest.mark.parametrize("file", LABEL_FILES)
def test_labels_that_are_not_as_many_as_images_are_named(mnist_root: Path, file: str) -> None:
    path = mnist_root / "MNIST" / "raw" / file
    path.write_bytes(idx_bytes(np.zeros(9)))
    with pytest.raises(DataError, match=rf"{file} is damaged: it has 9 labels for the \d0 of .*-images"):
        load_dataset("mnist", mnist_root)


@pytest.fixture(scope="module")
def spare_root(tmp_path_factory: pytest.TempPathFactory, write_idx: Callable[[Path], Path]) -> Path:
    root = tmp_path_factory.mktemp("spare")
    write_idx(root / "MNIST" / "raw")
    return root


@given(file=st.sampled_from(IDX_FILES), data=st.data())
def test_no_header_byte_and_no_length_is_wrong_unnoticed(spare_root: Path, file: str, data: st.DataObject) -> None:
    path = spare_root / "MNIST" / "raw" / file
    content = path.read_bytes()
    if data.draw(st.booleans(), label="cut"):
        damaged = content[: data.draw(st.integers(0, len(content) - 1), label="length")]
    else:
        position = data.draw(st.integers(0, header(file) - 1), label="position")
        byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[position]), label="byte")
        damaged = content[:position] + bytes([byte]) + content[position + 1 :]
    path.write_bytes(damaged)
    try:
        with pytest.raises(DataError, match=f"{file} is damaged"):
            load_dataset("mnist", spare_root)
    finally:
        path.write_bytes(content)


def test_files_of_a_former_torchvision_that_are_damaged_are_reported(mnist_root: Path) -> None:
    for file in ("training.pt", "test.pt"):
        path = mnist_root / "MNIST" / "processed" / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"garbage")
    with pytest.raises(DataError, match=r"data set 'mnist' in .* cannot be read"):
        load_dataset("mnist", mnist_root)


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (pytest.fail, ("a file that failed its checksum was unpickled",))


@pytest.mark.parametrize("damage", ["empty", "truncated", "garbage", "another pickle"])
def test_a_damaged_cifar_file_is_named_and_not_unpickled(cifar: SmallCifar, damage: str) -> None:
    for file in SOURCES[cifar.name].files:
        path = cifar.folder / file
        content = path.read_bytes()
        found = {
            "empty": b"",
            "truncated": content[:-1],
            "garbage": b"<html>",
            "another pickle": numpy1_pickle(Bomb()),
        }[damage]
        path.write_bytes(found)
        with pytest.raises(
            DataError,
            match=rf"{file} is damaged: its {len(found)} bytes have the MD5 \w+, expected \w+; delete",
        ):
            load_dataset(cifar.name, cifar.root)
        path.write_bytes(content)


def test_a_missing_cifar_file_counts_as_missing_data(cifar: SmallCifar) -> None:
    file = SOURCES[cifar.name].files[-1]
    (cifar.folder / file).unlink()
    with pytest.raises(DataError, match=rf"is not in .* \(no {file}\) and downloading is switched off"):
        load_dataset(cifar.name, cifar.root, download=False)


def test_a_folder_that_is_no_folder_counts_as_missing(mnist_root: Path) -> None:
    shutil.rmtree(mnist_root / "MNIST" / "raw")
    (mnist_root / "MNIST" / "raw").touch()
    with pytest.raises(DataError, match=r"is not in .*MNIST/raw and could not be downloaded"):
        load_dataset("mnist", mnist_root)
