"""Fetching data sets: without a network, from local mirrors, and when it fails half way."""

import gc
import gzip
import socket
import tarfile
import time
from collections.abc import Iterator
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch

from helpers.small_sets import SmallCifar, idx_bytes
from spiking_lfp.data import _files, load_dataset
from spiking_lfp.data._files import IDX_FILES
from spiking_lfp.data._torchvision import torchvision_datasets
from spiking_lfp.data.catalog import SOURCES, SUBSET_FILE
from spiking_lfp.errors import DataError


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address it is served at."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_port}/"
        http.shutdown()
        thread.join()


MNIST_FILES = sorted(f"MNIST/raw/{file}" for file in IDX_FILES)


@pytest.fixture
def mirror(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror of MNIST that has the packaged images, and that torchvision knows as the only one."""
    folder, address = server
    with np.load(SUBSET_FILE) as arrays:
        ordered = [arrays[key] for key in ("train_images", "train_labels", "test_images", "test_labels")]
    resources = []
    for file, array in zip(IDX_FILES, ordered, strict=True):
        packed = gzip.compress(idx_bytes(array), compresslevel=1)
        (folder / f"{file}.gz").write_bytes(packed)
        resources.append((f"{file}.gz", md5(packed).hexdigest()))
    mnist = torchvision_datasets().MNIST
    monkeypatch.setattr(mnist, "mirrors", [address])
    monkeypatch.setattr(mnist, "resources", resources)
    return folder


@pytest.mark.parametrize("name", SOURCES)
def test_without_network_one_sentence_says_what_to_do(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(name, tmp_path / "root")
    assert str(caught.value) == (
        f"data set {name!r} is not in {tmp_path / 'root' / SOURCES[name].folder} and could not be downloaded "
        f"(urlopen error [Errno {socket.EAI_NONAME}] Name or service not known): name a folder that holds "
        f"{SOURCES[name].folder} with --data-root or SPIKING_LFP_DATA, or use --data mnist-subset, "
        "which needs none"
    )
    assert list((tmp_path / "root").iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", SOURCES)
def test_no_download_is_tried_when_switched_off(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *args: pytest.fail("used the network"))
    with pytest.raises(DataError, match="and downloading is switched off: name a folder"):
        load_dataset(name, tmp_path / "root", download=False)
    assert not (tmp_path / "root").exists()


@pytest.mark.usefixtures("mirror")
def test_a_download_leaves_the_files_and_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "new" / "root"
    dataset = load_dataset("mnist", root)
    subset = load_dataset("mnist-subset")
    assert torch.equal(dataset.train_images, subset.train_images)
    assert torch.equal(dataset.train_labels, subset.train_labels)
    assert torch.equal(dataset.test_images, subset.test_images)
    assert torch.equal(dataset.test_labels, subset.test_labels)
    assert files_below(root) == MNIST_FILES
    assert [path.name for path in root.iterdir()] == ["MNIST"]
    assert capfd.readouterr() == ("", "")


def test_what_was_downloaded_is_not_downloaded_again(mirror: Path, tmp_path: Path) -> None:
    load_dataset("mnist", tmp_path / "root")
    for packed in mirror.iterdir():
        packed.unlink()
    load_dataset("mnist", tmp_path / "root")


@pytest.mark.parametrize("failing", IDX_FILES)
@pytest.mark.parametrize("served", [b"<html>moved</html>", b""])
def test_a_failed_download_leaves_nothing(mirror: Path, tmp_path: Path, failing: str, served: bytes) -> None:
    (mirror / f"{failing}.gz").write_bytes(served)
    with pytest.raises(DataError, match=r"'mnist' is not in .* could not be downloaded \(File not found or corr"):
        load_dataset("mnist", tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_mirror_that_lacks_a_file_leaves_nothing(mirror: Path, tmp_path: Path) -> None:
    (mirror / f"{IDX_FILES[-1]}.gz").unlink()
    with pytest.raises(DataError, match=r"could not be downloaded \(HTTP Error 404: File not found\): name"):
        load_dataset("mnist", tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []
    # torchvision does not close the answer: let its warning come here rather than in another test.
    gc.collect()


def test_an_interrupted_download_leaves_nothing(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: str) -> None:
        assert files_below(tmp_path / "root")
        raise KeyboardInterrupt

    monkeypatch.setattr("torchvision.datasets.mnist.read_label_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_dataset("mnist", tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.usefixtures("mirror")
def test_a_download_completes_what_is_there_without_touching_it(tmp_path: Path) -> None:
    folder = tmp_path / "root" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    with np.load(SUBSET_FILE) as arrays:
        relabelled = 9 - arrays["train_labels"]
    (folder / IDX_FILES[1]).write_bytes(idx_bytes(relabelled))
    (folder / "notes.txt").write_text("mine")
    dataset = load_dataset("mnist", tmp_path / "root")
    assert dataset.train_labels.tolist() == relabelled.tolist()
    assert files_below(tmp_path / "root") == sorted([*MNIST_FILES, "MNIST/raw/notes.txt"])


def test_cifar_is_downloaded_from_its_archive(
    cifar: SmallCifar, server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = server
    archive = folder / cifar.dataset_class.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cifar.folder, cifar.folder.name)
    monkeypatch.setattr(cifar.dataset_class, "url", address + archive.name)
    monkeypatch.setattr(cifar.dataset_class, "tgz_md5", md5(archive.read_bytes()).hexdigest())
    there, fetched = (load_dataset(cifar.name, root) for root in (cifar.root, tmp_path / "root"))
    assert torch.equal(there.train_images, fetched.train_images)
    assert torch.equal(there.test_labels, fetched.test_labels)
    expected = sorted(f"{cifar.folder.name}/{file}" for file in SOURCES[cifar.name].files)
    assert files_below(tmp_path / "root") == expected
    assert [path.name for path in (tmp_path / "root").iterdir()] == [cifar.folder.name]


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "root").touch()
    with pytest.raises(DataError, match=r"could not be downloaded \(.*File exists: '.*root'"):
        load_dataset("mnist", tmp_path / "root")


def test_a_server_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
        monkeypatch.setattr(torchvision_datasets().KMNIST, "mirrors", [address])
        start = time.monotonic()
        with pytest.raises(DataError, match=r"could not be downloaded \(timed out\)"):
            load_dataset("kmnist", tmp_path / "root")
    assert time.monotonic() - start < 10
    assert socket.getdefaulttimeout() is None
