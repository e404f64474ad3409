"""What is shown of a training."""

from io import StringIO

import pytest
import torch
from rich.console import Console

from spiking_lfp.data import ImageDataset, Samples
from spiking_lfp.data.samples import image_samples
from spiking_lfp.training.watch import ProgressBar, class_sizes


def samples_of(train: list[int], test: list[int]) -> Samples:
    """Return samples of which each class has as many as the lists say."""
    labels = [
        torch.tensor([label for label, count in enumerate(counts) for _ in range(count)]) for counts in (train, test)
    ]
    images = [torch.zeros(len(each), 1, 2, 2, dtype=torch.uint8) for each in labels]
    names = tuple(f"c{label}" for label in range(len(train)))
    return image_samples(ImageDataset("some", images[0], labels[0], images[1], labels[1], names), "constant", 3)


@pytest.mark.parametrize(
    ("train", "test", "text"),
    [
        ([4000, 4000], [6, 6], "2 classes of 4,000 training and 6 test samples"),
        ([3, 5, 3], [1, 1, 1], "3 classes, training + test samples: 3 + 1 of c0, c2; 5 + 1 of c1"),
        ([3, 5, 3], [0, 1, 1], "3 classes, training + test samples: 3 + 0 of c0; 3 + 1 of c2; 5 + 1 of c1"),
        (
            [*range(1, 31)],
            [2] * 30,
            "30 classes, training + test samples: 1 + 2 of c0; ...; 30 + 2 of c29",
        ),
    ],
)  # fmt: skip
def test_how_many_samples_a_class_has_is_shown(train: list[int], test: list[int], text: str) -> None:
    samples = samples_of(train, test)
    assert samples.class_sizes() == [(f"c{k}", *both) for k, both in enumerate(zip(train, test, strict=True))]
    assert class_sizes(samples) == text
    out = StringIO()
    with ProgressBar(Console(file=out, width=200)) as bar:
        bar.prepared(samples)
    assert text in out.getvalue()
