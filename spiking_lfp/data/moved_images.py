"""Images recorded by a simulated moving event sensor, so that any image data set becomes an event data set."""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from spiking_lfp.data.catalog import DATASET_NAMES, dataset_status
from spiking_lfp.data.datasets import ImageDataset, load_dataset
from spiking_lfp.data.recordings import Listing, Sample
from spiking_lfp.errors import unknown_name
from spiking_lfp.events.records import Recording
from spiking_lfp.events.saccades import saccade_events

SUFFIX = "@saccades"


@dataclass(frozen=True)
class ReadMoved:
    """Records an image of a data set by three saccades; items count the training images first, then the test images.

    Attributes:
        content: hash of the images: files of others may have taken their place, in a folder that looks the same.
    """

    name: str
    root: Path | None
    content: str

    def __call__(self, sample: Sample) -> Recording:
        """Return the events of one image."""
        dataset = _images(self.name, self.root, self.content)
        train_size, item = len(dataset.train_images), sample.item
        image = dataset.train_images[item] if item < train_size else dataset.test_images[item - train_size]
        return saccade_events(image.numpy())


def list_moved(title: str, root: Path | None, download: bool) -> Listing:
    """List the images of `NAME@saccades` as samples.

    Raises:
        UsageError: if there is no image data set called NAME.
        DataError: if its files are missing or damaged.
    """
    name = title.removesuffix(SUFFIX)
    if name not in DATASET_NAMES:
        raise unknown_name("data set of images", name, DATASET_NAMES)
    dataset = load_dataset(name, root, download)
    location = next(status.location for status in dataset_status(root) if status.name == name)
    labels = [*dataset.train_labels.tolist(), *dataset.test_labels.tolist()]
    samples = tuple(Sample(location, label, item) for item, label in enumerate(labels))
    train_size = len(dataset.train_labels)
    content = sha256()
    for images in (dataset.train_images, dataset.test_images):
        content.update(images.numpy().data)
    reader = ReadMoved(name, root, content.hexdigest())
    sensor = reader(samples[0]).sensor
    return Listing(dataset.class_names, sensor, reader, samples[:train_size], samples[train_size:])


@lru_cache(maxsize=1)
def _images(name: str, root: Path | None, content: str) -> ImageDataset:
    """Load a data set, anew if it has another content."""
    return load_dataset(name, root, download=False)
