"""Photographs that are not downloaded, whole or damaged, and parts of image data sets."""

import io
import json
import os
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.small_sets import jpeg_bytes, tar_bytes, tiny_imagenet_files, write_atlas
from spiking_lfp.data import (
    DatasetStatus,
    EventRecipe,
    ImageDataset,
    dataset_status,
    load_dataset,
    load_samples,
    subset,
)
from spiking_lfp.data.photographs import CIFAR10_ATLASES, PHOTOGRAPHS
from spiking_lfp.errors import DataError, UsageError

REAL = os.environ.get("SPIKING_LFP_DATA")
# in an order that is not sorted
TABLE = {"n07": "ice lolly, lolly, popsicle", "n02": "tabby, tabby cat"}


def real_folder(name: str) -> Path:
    if REAL is None:
        pytest.skip("SPIKING_LFP_DATA names no data root with photographs")
    folder = Path(REAL) / PHOTOGRAPHS[name].folder
    if not folder.is_dir():
        pytest.skip(f"the photographs of {name} are not in {folder}")
    return folder


@pytest.fixture(scope="session")
def files() -> dict[str, bytes]:
    return tiny_imagenet_files(list(TABLE))


@pytest.fixture(scope="session")
def tar(files: dict[str, bytes]) -> bytes:
    return tar_bytes(files)


def table_text(table: dict[str, str]) -> str:
    return "".join(f"{folder}\t{names}\n" for folder, names in table.items())


def write_tiny_imagenet(root: Path, tar: bytes) -> Path:
    folder = root / "tiny_imagenet20"
    folder.mkdir(parents=True)
    (folder / "classes.tsv").write_text(table_text(TABLE))
    (folder / "tiny_imagenet20.tar").write_bytes(tar)
    return folder


@pytest.fixture
def tiny(tmp_path: Path, tar: bytes) -> Path:
    """The folder of a small `tiny-imagenet-20` below `tmp_path`."""
    return write_tiny_imagenet(tmp_path, tar)


@pytest.fixture
def atlases(tmp_path: Path) -> dict[str, np.ndarray]:
    """A small `cifar100-classes` below `tmp_path`: the images of its classes."""
    return {name: write_atlas(tmp_path / "cifar100" / f"{name}.webp", seed) for seed, name in enumerate(("sea", "cup"))}


def status(name: str, root: Path) -> DatasetStatus:
    return next(state for state in dataset_status(root) if state.name == name)


def slow_pixels(content: bytes) -> np.ndarray:
    """Read an image pixel by pixel, [3, height, width]."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    rows = [[image.getpixel((x, y)) for x in range(image.width)] for y in range(image.height)]
    return np.array(rows, np.uint8).transpose(2, 0, 1)


# Whole files.


def test_every_class_with_an_atlas_is_loaded(tmp_path: Path, atlases: dict[str, np.ndarray]) -> None:
    (tmp_path / "cifar100" / "labels.json").write_text("{}")
    pear = write_atlas(tmp_path / "cifar100" / "pear.webp", 2)
    dataset = load_dataset("cifar100-classes", tmp_path)
    assert (dataset.name, dataset.class_names) == ("cifar100-classes", ("cup", "pear", "sea"))
    expected = [atlases["cup"], pear, atlases["sea"]]
    np.testing.assert_array_equal(dataset.train_images.numpy(), np.concatenate([each[:500] for each in expected]))
    np.testing.assert_array_equal(dataset.test_images.numpy(), np.concatenate([each[500:] for each in expected]))
    assert dataset.train_labels.tolist() == [0] * 500 + [1] * 500 + [2] * 500
    assert dataset.test_labels.tolist() == [0] * 100 + [1] * 100 + [2] * 100
    assert dataset.train_images.is_contiguous()


def test_a_tar_is_loaded_in_the_order_of_its_table(tmp_path: Path, tiny: Path, files: dict[str, bytes]) -> None:
    before = sorted(tmp_path.rglob("*"))
    dataset = load_dataset("tiny-imagenet-20", tmp_path)
    assert (dataset.name, dataset.class_names) == ("tiny-imagenet-20", ("ice lolly", "tabby"))
    for part, images, labels, count in (
        ("train", dataset.train_images, dataset.train_labels, 500),
        ("val", dataset.test_images, dataset.test_labels, 50),
    ):
        assert labels.tolist() == [0] * count + [1] * count
        for label, folder in enumerate(TABLE):
            for index in range(0, count, 7):
                expected = slow_pixels(files[f"{part}/{folder}/{folder}_{index}.JPEG"])
                np.testing.assert_array_equal(images[label * count + index].numpy(), expected)
    grey = dataset.train_images[::5]
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])
    assert dataset.train_images.is_contiguous()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_tar_of_other_tools_is_loaded_all_the_same(tmp_path: Path, tiny: Path, files: dict[str, bytes]) -> None:
    plain = load_dataset("tiny-imagenet-20", tmp_path)
    with tarfile.open(tiny / "tiny_imagenet20.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for folder in (".", "./train", "./val"):
            member = tarfile.TarInfo(folder)
            member.type = tarfile.DIRTYPE
            tar.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    again = load_dataset("tiny-imagenet-20", tmp_path)
    assert torch.equal(again.train_images, plain.train_images)
    assert torch.equal(again.test_images, plain.test_images)


@pytest.mark.usefixtures("atlases")
def test_photographs_are_samples_for_training(tmp_path: Path) -> None:
    samples = load_samples("cifar100-classes", EventRecipe(steps=2), root=tmp_path)
    assert samples.sample_shape == (3, 32, 32)
    assert samples.source == "1,000 training and 200 test images of cifar100-classes"


# What is there.


def test_the_status_counts_classes(tmp_path: Path, tiny: Path, atlases: dict[str, np.ndarray]) -> None:
    found = status("cifar100-classes", tmp_path)
    assert (found.present, found.incomplete_sizes, found.location) == (True, (1_000, 200), tmp_path / "cifar100")
    assert (found.train_size, found.test_size) == (50_000, 10_000)
    found = status("tiny-imagenet-20", tmp_path)
    assert (found.present, found.incomplete_sizes, found.location) == (True, (1_000, 100), tiny)
    (tiny / "classes.tsv").write_text(table_text({f"n{number}": "name" for number in range(20)}))
    assert status("tiny-imagenet-20", tmp_path).incomplete_sizes is None
    (tmp_path / "cifar100" / "sea.webp").unlink()
    found = status("cifar100-classes", tmp_path)
    assert (found.present, found.incomplete_sizes) == (False, (500, 100))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_status_of_nothing(name: str, tmp_path: Path) -> None:
    found = status(name, tmp_path)
    assert (found.present, found.incomplete_sizes) == (False, (0, 0))


def test_the_status_outlives_a_damaged_table(tmp_path: Path, tiny: Path) -> None:
    (tiny / "classes.tsv").write_bytes(b"\xff\n")
    assert not status("tiny-imagenet-20", tmp_path).present
    (tiny / "classes.tsv").unlink()
    assert not status("tiny-imagenet-20", tmp_path).present


@pytest.mark.parametrize("download", [True, False])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_what_is_missing_is_not_downloaded(
    name: str, there: bool, download: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *args: pytest.fail("used the network"))
    folder = tmp_path / PHOTOGRAPHS[name].folder
    if there:
        folder.mkdir()
    with pytest.raises(DataError) as caught:
        load_dataset(name, tmp_path, download)
    assert str(caught.value) == (
        f"data set {name!r} is not in {folder} and cannot be downloaded automatically: name a folder that holds "
        f"{folder.name} with --data-root or SPIKING_LFP_DATA, or use --data mnist-subset, which needs none"
    )


@pytest.mark.parametrize("file", ["classes.tsv", "tiny_imagenet20.tar"])
def test_a_missing_file_is_named(file: str, tmp_path: Path, tiny: Path) -> None:
    (tiny / file).unlink()
    with pytest.raises(DataError, match=rf"is not in {tiny} \(no {file}\) and cannot be downloaded automatically"):
        load_dataset("tiny-imagenet-20", tmp_path)


def test_one_class_is_too_few(tmp_path: Path, tiny: Path) -> None:
    write_atlas(tmp_path / "cifar100" / "sea.webp", 0)
    for name, classes in (("cifar100-classes", 1), ("tiny-imagenet-20", 1), ("tiny-imagenet-20", 0)):
        (tiny / "classes.tsv").write_text("n07\tice lolly\n" * classes)
        folder = tmp_path / PHOTOGRAPHS[name].folder
        expected = rf"^data set '{name}' in {folder} has {classes} of the classes, expected 2 or more: add some$"
        with pytest.raises(DataError, match=expected):
            load_dataset(name, tmp_path)


# Damaged files.


def webp_bytes(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size).save(file, "WEBP", lossless=True)
    return file.getvalue()


ATLAS_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    r"it has 0 bytes that are not a WEBP image, expected one of 800x768": lambda content: b"",
    r"it has 21 bytes that are not a WEBP image, expected one of 800x768": lambda content: b"<html>not here</html>",
    r"it has \d{4,} bytes that are not a WEBP image, expected one of 800x768": lambda content: jpeg_bytes(
        np.zeros((768, 800, 3), np.uint8)
    ),
    r"it is not a complete WEBP image of 800x768 \(.+\)": lambda content: content[:-1],
    r"it is an image of 768x800, expected 800x768": lambda content: webp_bytes((768, 800)),
    r"it is an image of 800x736, expected 800x768": lambda content: webp_bytes((800, 736)),
}


@pytest.mark.usefixtures("atlases")
@pytest.mark.parametrize("found", ATLAS_DAMAGES)
def test_a_damaged_atlas_is_named(found: str, tmp_path: Path) -> None:
    path = tmp_path / "cifar100" / "sea.webp"
    path.write_bytes(ATLAS_DAMAGES[found](path.read_bytes()))
    with pytest.raises(DataError, match=rf"^{path} is damaged: {found}.*; replace it$"):
        load_dataset("cifar100-classes", tmp_path)


@pytest.mark.usefixtures("atlases")
def test_an_atlas_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cifar100" / "pear.webp"
    path.mkdir()
    with pytest.raises(DataError, match=rf"^{path} is damaged: it cannot be read \(.*Is a directory"):
        load_dataset("cifar100-classes", tmp_path)


def oversized(content: bytes, side: int) -> bytes:
    """Return a JPEG file whose header says `side` x `side`."""
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">2H", side, side) + content[at + 4 :]


JPEG_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    r"has 0 bytes that are not a JPEG image, expected one of 64x64": lambda content: b"",
    r"has 2 bytes that are not a JPEG image, expected one of 64x64": lambda content: content[:2],
    r"has \d\d+ bytes that are not a JPEG image, expected one of 64x64": lambda content: webp_bytes((64, 64)),
    r"is not a complete JPEG image of 64x64 \(image file is truncated .*\)": lambda content: content[:-40],
    r"is an image of 64x32, expected 64x64": lambda content: jpeg_bytes(np.zeros((32, 64, 3), np.uint8)),
    r"is an image of 10000x10000, expected 64x64": lambda content: oversized(content, 10_000),
    r"is not a complete JPEG image of 64x64 \(Image size .*\)": lambda content: oversized(content, 65_500),
}


@pytest.mark.parametrize("found", JPEG_DAMAGES)
@pytest.mark.parametrize("name", ["train/n07/n07_3.JPEG", "val/n02/n02_49.JPEG"])
def test_a_damaged_jpeg_is_named(name: str, found: str, tmp_path: Path, tiny: Path, files: dict[str, bytes]) -> None:
    path = tiny / "tiny_imagenet20.tar"
    path.write_bytes(tar_bytes({**files, name: JPEG_DAMAGES[found](files[name])}))
    with pytest.raises(DataError, match=rf"^{path} is damaged: its {name} {found}.*; replace it$"):
        load_dataset("tiny-imagenet-20", tmp_path)


TAR_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    r"it cannot be read as a tar \(empty file\)": lambda content: b"",
    r"it cannot be read as a tar \(.*\)": lambda content: b"<html>not here</html>" * 100,
    r"it cannot be read as a tar \(unexpected end of data\)": lambda content: content[:1_000],
    r"it has 0 training images in train/n07, expected 500": lambda content: bytes(10_240),
    r"it has \d+ training images in train/n02, expected 500": lambda content: content[: 700 * 1024],
}


@pytest.mark.parametrize("found", TAR_DAMAGES)
def test_a_damaged_tar_is_named(found: str, tmp_path: Path, tiny: Path, tar: bytes) -> None:
    path = tiny / "tiny_imagenet20.tar"
    path.write_bytes(TAR_DAMAGES[found](tar))
    with pytest.raises(DataError, match=rf"^{path} is damaged: {found}; replace it$"):
        load_dataset("tiny-imagenet-20", tmp_path)


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"val/n02/n02_0.JPEG": None}, "it has 49 test images in val/n02, expected 50"),
        ({"train/n02/more.JPEG": b""}, "it has 501 training images in train/n02, expected 500"),
        ({"train/n99/a.JPEG": b""}, r"it has files in train/n99, expected train or val and a class of classes.tsv"),
        ({"test/n02/a.JPEG": b""}, r"it has files in test/n02, expected train or val and a class of classes.tsv"),
        ({"README": b""}, r"it has files in \., expected"),
    ],
)
def test_a_tar_of_other_images_is_named(
    changed: dict[str, bytes | None], found: str, tmp_path: Path, tiny: Path, files: dict[str, bytes]
) -> None:
    path = tiny / "tiny_imagenet20.tar"
    mixed = {**files, **changed}
    path.write_bytes(tar_bytes({name: content for name, content in mixed.items() if content is not None}))
    with pytest.raises(DataError, match=rf"^{path} is damaged: {found}"):
        load_dataset("tiny-imagenet-20", tmp_path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"n07\tice\nn02 tabby\n", r"classes.tsv is damaged: its line 2 is 'n02 tabby', expected FOLDER, a tab and"),
        (b"n07\tice\n\nn02\ttabby\n", r"classes.tsv is damaged: its line 2 is '', expected"),
        (b"n07\tice\nn02\t, tabby\n", r"classes.tsv is damaged: its line 2 is "),
        (b"\tice\nn02\ttabby\n", r"classes.tsv is damaged: its line 1 is "),
        (b"n07\tice\nn02\ttabby\nn07\tlolly\n", r"classes.tsv is damaged: its line 3 lists n07 once more"),
        (b"n07\tic\xe9\nn02\ttabby\n", r"classes.tsv is damaged: it cannot be read \('utf-8' codec"),
        (b"n07\tice\nn03\tcup\n", r"tar is damaged: it has files in train/n02, expected .* a class of classes.tsv"),
        (b"n07\tice\nn02\ttabby\nn03\tcup\n", r"tar is damaged: it has 0 training images in train/n03, expected 500"),
    ],
)
def test_a_damaged_table_of_classes_is_named(text: bytes, found: str, tmp_path: Path, tiny: Path) -> None:
    (tiny / "classes.tsv").write_bytes(text)
    with pytest.raises(DataError, match=found):
        load_dataset("tiny-imagenet-20", tmp_path)


@pytest.fixture(scope="module")
def spare_root(tmp_path_factory: pytest.TempPathFactory, tar: bytes) -> Path:
    root = tmp_path_factory.mktemp("spare")
    write_tiny_imagenet(root, tar)
    for seed, name in enumerate(("cup", "sea")):
        write_atlas(root / "cifar100" / f"{name}.webp", seed)
    return root


SPARE = {"cifar100-classes": "sea.webp", "tiny-imagenet-20": "tiny_imagenet20.tar"}


@pytest.mark.parametrize("name", SPARE)
@settings(max_examples=25)
@given(data=st.data())
def test_no_cut_is_unnoticed(spare_root: Path, name: str, data: st.DataObject) -> None:
    path = spare_root / PHOTOGRAPHS[name].folder / SPARE[name]
    content = path.read_bytes()
    # A tar ends with zeros.
    path.write_bytes(content[: data.draw(st.integers(0, len(content.rstrip(b"\0")) - 1), label="length")])
    try:
        with pytest.raises(DataError, match=f"{path.name} is damaged"):
            load_dataset(name, spare_root)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("name", SPARE)
@settings(max_examples=25)
@given(data=st.data())
def test_changed_bytes_are_data_errors_or_other_pixels(spare_root: Path, name: str, data: st.DataObject) -> None:
    path = spare_root / PHOTOGRAPHS[name].folder / SPARE[name]
    content = path.read_bytes()
    position = data.draw(st.integers(0, len(content) - 8), label="position")
    changed = data.draw(st.binary(min_size=1, max_size=8), label="bytes")
    path.write_bytes(content[:position] + changed + content[position + len(changed) :])
    said = f"{path} is damaged"
    try:
        assert len(load_dataset(name, spare_root).train_images) == 1_000
    except DataError as error:
        said = str(error)
    finally:
        path.write_bytes(content)
    assert said.startswith(f"{path} is damaged")


# Parts of data sets.


@pytest.fixture(scope="module")
def numbered() -> ImageDataset:
    """4 classes of 40, 30, 20 and 10 training and 8, 6, 4 and 2 test images in mixed order, each with its own pixel."""
    rng = np.random.default_rng(0)
    parts = []
    for part, unit in enumerate((10, 2)):
        labels = torch.from_numpy(rng.permutation(np.repeat(np.arange(4), [4 * unit, 3 * unit, 2 * unit, unit])))
        parts += [(torch.arange(len(labels)) + 100 * part).to(torch.uint8).reshape(-1, 1, 1, 1), labels]
    return ImageDataset("numbered", *parts, class_names=("a", "b", "c", "d"))


def numbers(dataset: ImageDataset) -> tuple[list[int], list[int]]:
    return dataset.train_images.flatten().tolist(), dataset.test_images.flatten().tolist()


def test_a_part_without_limits_is_the_whole(numbered: ImageDataset) -> None:
    whole = subset(numbered)
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        assert torch.equal(getattr(whole, field), getattr(numbered, field))
    assert whole.class_names == numbered.class_names
    assert whole.name == "numbered (all classes; 100 + 20 images, seed 0)"


def test_classes_are_labelled_in_the_order_in_which_they_are_named(numbered: ImageDataset) -> None:
    part = subset(numbered, classes=(3, 1))
    assert part.class_names == ("d", "b")
    assert part.name == "numbered (classes 3, 1; 40 + 8 images, seed 0)"
    for images, labels, whole, first in (
        (part.train_images, part.train_labels, numbered.train_labels, 0),
        (part.test_images, part.test_labels, numbered.test_labels, 100),
    ):
        before = [(index + first, {3: 0, 1: 1}[label]) for index, label in enumerate(whole.tolist()) if label in (3, 1)]
        assert list(zip(images.flatten().tolist(), labels.tolist(), strict=True)) == before


@pytest.mark.parametrize(
    ("train", "counts"),
    [(4, [1, 1, 1, 1]), (6, [2, 2, 1, 1]), (40, [10, 10, 10, 10]), (70, [20, 20, 20, 10]), (85, [28, 27, 20, 10]),
     (100, [40, 30, 20, 10]), (101, [40, 30, 20, 10])],
)  # fmt: skip
def test_a_draw_is_balanced_and_without_replacement(train: int, counts: list[int], numbered: ImageDataset) -> None:
    part = subset(numbered, train=train, test=7)
    assert part.train_labels.bincount(minlength=4).tolist() == counts
    assert part.test_labels.bincount(minlength=4).tolist() == [2, 2, 2, 1]
    drawn, tests = numbers(part)
    assert drawn == sorted(set(drawn))
    assert tests == sorted(set(tests))
    assert part.train_labels.tolist() == numbered.train_labels[drawn].tolist()
    assert part.test_labels.tolist() == numbered.test_labels[[number - 100 for number in tests]].tolist()


def test_a_draw_is_its_seeds(numbered: ImageDataset) -> None:
    one = numbers(subset(numbered, train=12, test=8, seed=1))
    assert numbers(subset(numbered, train=12, test=8, seed=1)) == one
    other = numbers(subset(numbered, train=12, test=8, seed=2))
    assert other[0] != one[0]
    assert other[1] != one[1]
    larger = numbers(subset(numbered, train=30, test=8, seed=1))
    assert set(larger[0]) > set(one[0])
    assert larger[1] == one[1]
    # the draw of other seeds is not always the same images of a class
    firsts = {numbers(subset(numbered, train=4, seed=seed))[0][0] for seed in range(20)}
    assert len(firsts) > 3


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"classes": (4,)}, r"classes are \[4\], expected some of 0..3 of numbered, each once"),
        ({"classes": (-1, 2)}, r"classes are \[-1, 2\], expected"),
        ({"classes": (2, 2)}, r"classes are \[2, 2\], expected"),
        ({"classes": ()}, r"classes are \[\], expected"),
        ({"train": 3}, "train is 3, expected 4 or more, one image of each class"),
        ({"classes": (0, 1), "test": 1}, "test is 1, expected 2 or more"),
        ({"seed": -1}, "seed must be at least 0, found -1"),
    ],
)
def test_parts_that_cannot_be_are_refused(
    arguments: dict[str, int | tuple[int, ...]], found: str, numbered: ImageDataset
) -> None:
    with pytest.raises(UsageError, match=found):
        subset(numbered, **arguments)  # type: ignore[arg-type]


# Real photographs.


def test_real_atlases_of_cifar10_are_read_where_its_files_are_missing() -> None:
    if REAL is None or not (folder := Path(REAL) / CIFAR10_ATLASES.folder).is_dir():
        pytest.skip("SPIKING_LFP_DATA names no data root with cifar10")
    dataset = load_dataset("cifar10", folder.parent, download=False)
    assert list(dataset.class_names) == list(json.loads((folder / "labels.json").read_text())["label_index"])
    assert dataset.train_labels.bincount().tolist() == [5000] * 10
    assert dataset.test_labels.bincount().tolist() == [1000] * 10
    deviation, mean = torch.std_mean(dataset.train_images.double() / 255, (0, 2, 3))
    # the published ones of CIFAR-10's training pixels
    torch.testing.assert_close(mean, torch.tensor([0.4914, 0.4822, 0.4465]).double(), atol=5e-5, rtol=0)
    torch.testing.assert_close(deviation, torch.tensor([0.2470, 0.2435, 0.2616]).double(), atol=5e-5, rtol=0)
    ship = np.asarray(Image.open(folder / "ship.webp").convert("RGB"))
    for images, tile in ((dataset.train_images, 0), (dataset.test_images, 5000)):
        per_class = len(images) // 10
        for index in (0, 101, per_class - 1):
            row, column = divmod(tile + index, 100)
            expected = ship[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32].transpose(2, 0, 1)
            np.testing.assert_array_equal(images[8 * per_class + index].numpy(), expected)
    assert status("cifar10", folder.parent).present
    assert status("cifar10", folder.parent).location == folder


def test_some_classes_of_cifar10_are_not_taken_for_all(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "airplane.webp").write_bytes(b"")
    assert not status("cifar10", tmp_path).present
    with pytest.raises(DataError, match="'cifar10' is not in"):
        load_dataset("cifar10", tmp_path, download=False)


def test_real_atlases_are_as_pil_reads_them_one_pixel_at_a_time() -> None:
    folder = real_folder("cifar100-classes")
    dataset = load_dataset("cifar100-classes", folder.parent)
    known = json.loads((folder / "labels.json").read_text())["fine_label_index"]
    assert list(dataset.class_names) == sorted(
        path.name.split(".")[0] for path in folder.iterdir() if "webp" in path.name
    )
    assert set(dataset.class_names) <= set(known)
    label = len(dataset.class_names) // 2
    atlas = slow_pixels((folder / f"{dataset.class_names[label]}.webp").read_bytes())
    train, test = dataset.train_images[dataset.train_labels == label], dataset.test_images[dataset.test_labels == label]
    assert (len(train), len(test)) == (500, 100)
    for tile, image in enumerate(torch.cat([train, test])):
        top, left = tile // 25 * 32, tile % 25 * 32
        np.testing.assert_array_equal(image.numpy(), atlas[:, top : top + 32, left : left + 32])
    found = status("cifar100-classes", folder.parent)
    assert found.present
    assert found.incomplete_sizes in (None, (len(dataset.train_images), len(dataset.test_images)))


def test_real_jpegs_are_as_pil_reads_them_one_pixel_at_a_time() -> None:
    folder = real_folder("tiny-imagenet-20")
    dataset = load_dataset("tiny-imagenet-20", folder.parent)
    assert (len(dataset.train_images), len(dataset.test_images)) == (10_000, 1_000)
    assert dataset.class_names[:5] == ("goldfish", "centipede", "black stork", "tabby", "walking stick")
    assert dataset.train_labels.bincount().tolist() == [500] * 20
    assert dataset.test_labels.bincount().tolist() == [50] * 20
    with tarfile.open(folder / "tiny_imagenet20.tar") as tar:
        for images, label, inside in (
            (dataset.train_images, 2, "train/n02002724"),
            (dataset.test_images, 19, "val/n07871810"),
        ):
            names = [name for name in tar.getnames() if name.startswith(f"{inside}/")]
            mine = images[label * len(names) : (label + 1) * len(names)]
            for image, name in list(zip(mine, names, strict=True))[::7]:
                file = tar.extractfile(name)
                assert file is not None
                np.testing.assert_array_equal(image.numpy(), slow_pixels(file.read()))
    assert status("tiny-imagenet-20", folder.parent).incomplete_sizes is None
