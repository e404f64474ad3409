"""Small well-formed files of torchvision's data sets, and of photographs."""

import io
import pickle
import struct
import tarfile
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spiking_lfp.data._torchvision import torchvision_datasets
from spiking_lfp.data.catalog import SOURCES

Arrays = dict[str, np.ndarray]


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def numpy1_pickle(content: object) -> bytes:
    """Pickle like the CIFAR files: dtypes have numbers as flags.

    NumPy 2.4 warns of that; since 2.4.5 no more of the two flags in the real files, so this gives only one.
    """
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=2)
    pickler.dispatch_table = {type(np.dtype(np.uint8)): lambda dtype: (np.dtype, (dtype.str, 0))}
    pickler.dump(content)
    return file.getvalue()


class SmallCifar:
    """CIFAR files of 6 images a batch below `root`, whose checksums torchvision has been told."""

    def __init__(self, name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name, self.root = name, root
        self.folder = root / SOURCES[name].folder
        self.dataset_class = getattr(torchvision_datasets(), SOURCES[name].torchvision_class)
        self.monkeypatch = monkeypatch
        self.folder.mkdir(parents=True)
        rng = np.random.default_rng(3)
        labels_key, count = ("labels", 10) if name == "cifar10" else ("fine_labels", 100)
        self.class_names = tuple(f"class {index}" for index in range(count))
        self.batches: dict[str, tuple[np.ndarray, list[int]]] = {}
        for file in SOURCES[name].files[:-1]:
            pixels = rng.integers(0, 256, (6, 3 * 32 * 32)).astype(np.uint8)
            labels = [int(label) for label in rng.integers(0, count, 6)]
            self.batches[file] = (pixels.reshape(6, 3, 32, 32), labels)
            self.write(file, numpy1_pickle({"data": pixels, labels_key: labels}))
        meta = SOURCES[name].files[-1]
        self.write(meta, numpy1_pickle({self.dataset_class.meta["key"]: list(self.class_names)}))

    def write(self, file: str, content: bytes) -> None:
        (self.folder / file).write_bytes(content)
        checksum = md5(content).hexdigest()
        for listed in ("train_list", "test_list"):
            changed = [[each, checksum if each == file else old] for each, old in getattr(self.dataset_class, listed)]
            self.monkeypatch.setattr(self.dataset_class, listed, changed)
        if file == self.dataset_class.meta["filename"]:
            self.monkeypatch.setattr(self.dataset_class, "meta", {**self.dataset_class.meta, "md5": checksum})


def write_atlas(path: Path, seed: int) -> np.ndarray:
    """Write the 600 images of a class of CIFAR-100 as one WebP, and return them, [600, 3, 32, 32]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (600, 3, 4, 4)).astype(np.uint8)
    images = coarse.repeat(8, axis=2).repeat(8, axis=3)
    atlas = Image.new("RGB", (800, 768))
    for index, image in enumerate(images):
        atlas.paste(Image.fromarray(image.transpose(1, 2, 0)), (index % 25 * 32, index // 25 * 32))
    path.parent.mkdir(parents=True, exist_ok=True)
    atlas.save(path, lossless=True, method=0)
    return images


def jpeg_bytes(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def tiny_imagenet_files(folders: list[str]) -> dict[str, bytes]:
    """Return the JPEG files of some classes of Tiny ImageNet by name, every fifth in greys."""
    rng = np.random.default_rng(5)
    files = {}
    for part, count in (("train", 500), ("val", 50)):
        for folder in folders:
            for index in range(count):
                shape = (4, 4) if index % 5 == 0 else (4, 4, 3)
                pixels = rng.integers(0, 256, shape).astype(np.uint8).repeat(16, axis=0).repeat(16, axis=1)
                files[f"{part}/{folder}/{folder}_{index}.JPEG"] = jpeg_bytes(pixels)
    return files


def tar_bytes(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()
