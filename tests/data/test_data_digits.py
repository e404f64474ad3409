"""The packaged subset of MNIST, alone and against the whole of MNIST."""

from pathlib import Path

import numpy as np
import pytest
import torch

from spiking_lfp.data import datasets, load_dataset
from spiking_lfp.data.catalog import SUBSET_FILE
from spiking_lfp.errors import DataError

TRAIN = np.sort(np.random.default_rng(0).choice(60_000, 10_000, replace=False))
TEST = np.sort(np.random.default_rng(1).choice(10_000, 2_000, replace=False))


def test_subset_has_the_promised_shapes_and_classes() -> None:
    subset = load_dataset("mnist-subset")
    assert subset.name == "mnist-subset"
    assert subset.class_names == tuple("0123456789")
    for images, labels, size in (
        (subset.train_images, subset.train_labels, 10_000),
        (subset.test_images, subset.test_labels, 2_000),
    ):
        assert images.shape == (size, 1, 28, 28)
        assert images.dtype == torch.uint8
        assert labels.shape == (size,)
        assert labels.dtype == torch.int64
        assert labels.bincount().min() > 0.08 * size
        assert images.min() == 0
        assert images.max() == 255
        assert 0.12 < images.float().mean() / 255 < 0.14
    assert SUBSET_FILE.stat().st_size < 2_100_000


def test_subset_is_the_documented_draw_from_mnist(full_mnist: Path) -> None:
    with np.load(SUBSET_FILE, allow_pickle=False) as arrays:
        assert set(arrays) == {"train_images", "train_labels", "test_images", "test_labels"}
        for split, idx, picked in (("train", "train", TRAIN), ("test", "t10k", TEST)):
            images = np.fromfile(full_mnist / f"{idx}-images-idx3-ubyte", np.uint8, offset=16)
            labels = np.fromfile(full_mnist / f"{idx}-labels-idx1-ubyte", np.uint8, offset=8)
            np.testing.assert_array_equal(arrays[f"{split}_images"], images.reshape(-1, 28, 28)[picked], strict=True)
            np.testing.assert_array_equal(arrays[f"{split}_labels"], labels[picked], strict=True)


def test_subset_is_the_documented_draw_from_the_loaded_mnist(full_mnist: Path) -> None:
    subset = load_dataset("mnist-subset")
    full = load_dataset("mnist", full_mnist.parents[1], download=False)
    assert full.train_images.shape == (60_000, 1, 28, 28)
    assert full.test_images.shape == (10_000, 1, 28, 28)
    assert full.class_names == subset.class_names
    assert torch.equal(full.train_images[torch.from_numpy(TRAIN)], subset.train_images)
    assert torch.equal(full.train_labels[torch.from_numpy(TRAIN)], subset.train_labels)
    assert torch.equal(full.test_images[torch.from_numpy(TEST)], subset.test_images)
    assert torch.equal(full.test_labels[torch.from_numpy(TEST)], subset.test_labels)


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbage", "a bit"])
def test_a_damaged_package_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    content = bytearray(SUBSET_FILE.read_bytes())
    content[1_000_000] ^= 1
    found = {"empty": b"", "truncated": content[:-100], "garbage": b"digits" * 99, "a bit": content}
    damaged = tmp_path / "digits.npz"
    if damage in found:
        damaged.write_bytes(found[damage])
    monkeypatch.setattr(datasets, "SUBSET_FILE", damaged)
    with pytest.raises(DataError, match=r"digits\.npz cannot be read .*install spiking-lfp again"):
        load_dataset("mnist-subset")
