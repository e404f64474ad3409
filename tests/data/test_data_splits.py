"""Images that move: where each pixel goes, when, and that nothing but epoch and sample decides it; parts of sets."""

import pytest
import torch

from spiking_lfp.data import ImageDataset
from spiking_lfp.data.encoding import Encoder
from spiking_lfp.data.samples import samples_of_classes
from spiking_lfp.data.splits import ImageAugmentation, ImageSplit
from spiking_lfp.data.values import image_samples
from spiking_lfp.errors import UsageError
from spiking_lfp.training.config import checked_config, preset_config
from spiking_lfp.training.runs import samples_for


def split(shift: int, flip: bool = False, cutout: int = 0) -> ImageSplit:
    images = torch.randint(0, 256, (9, 2, 5, 6), dtype=torch.uint8)
    return ImageSplit(images, torch.arange(9), lambda values: values[None], ImageAugmentation(shift, flip, cutout))


@pytest.mark.parametrize("shift", [1, 2, 7])
def test_every_pixel_moves_as_its_image_does_and_black_comes_after(shift: int) -> None:
    images, indices = split(shift), torch.tensor([7, 0, 3])
    found, labels = images.batch(indices, 3)
    assert labels.tolist() == [7, 0, 3]
    drawn = torch.randint(2 * shift + 1, (9, 2), generator=torch.Generator().manual_seed(3)) - shift
    for place, index in enumerate(indices.tolist()):
        down, right = drawn[index].tolist()
        for c, y, x in torch.cartesian_prod(torch.arange(2), torch.arange(5), torch.arange(6)).tolist():
            inside = 0 <= y + down < 5 and 0 <= x + right < 6
            expected = int(images.images[index, c, y + down, x + right]) if inside else 0
            assert round(255 * found[0, place, c, y, x].item()) == expected


@pytest.mark.parametrize(("shift", "flip", "cutout"), [(0, True, 0), (2, True, 0), (0, False, 3), (1, True, 4)])
def test_images_are_mirrored_and_squares_of_them_made_grey(shift: int, flip: bool, cutout: int) -> None:
    images, indices = split(shift, flip, cutout), torch.tensor([7, 0, 3, 8])
    found = (255 * images.batch(indices, 3)[0][0]).round()
    drawn = torch.Generator().manual_seed(3)
    offsets = torch.randint(2 * shift + 1, (9, 2), generator=drawn)
    mirrored = torch.randint(2, (9,), generator=drawn) if flip else torch.zeros(9)
    middles = torch.stack([torch.randint(side, (9,), generator=drawn) for side in (5, 6)], 1)
    assert not flip or 0 < mirrored[indices].sum() < 4
    for place, index in enumerate(indices.tolist()):
        image = torch.nn.functional.pad(images.images[index], [shift] * 4)
        top, left = offsets[index].tolist()
        image = image[:, top : top + 5, left : left + 6].clone()
        if mirrored[index]:
            image = image.flip(2)
        if cutout:
            down, right = (middles[index] - cutout // 2).tolist()
            mean = image.double().mean((1, 2)).round().byte()
            image[:, max(down, 0) : down + cutout, max(right, 0) : right + cutout] = mean.view(-1, 1, 1)
        assert torch.equal(found[place].byte(), image)


def test_moves_depend_on_epoch_and_sample_only() -> None:
    images = split(2, flip=True, cutout=2)
    whole, _ = images.batch(torch.arange(9), 1)
    for part in (torch.tensor([4]), torch.tensor([8, 2, 4])):
        assert torch.equal(images.batch(part, 1)[0], whole[:, part])
    assert not torch.equal(images.batch(torch.arange(9), 2)[0], whole)
    # the first epoch, and all that is only tested, sees them as they are
    assert torch.equal(images.batch(torch.arange(9))[0][0], images.images.float() / 255)


def test_parts_move_too_and_images_that_do_not_are_left_alone() -> None:
    images = split(2).subset(torch.tensor([1, 5, 6]))
    assert images.augment.shift == 2
    assert not torch.equal(images.batch(torch.arange(3), 1)[0][0], images.images.float() / 255)
    still = split(0)
    assert torch.equal(still.batch(torch.arange(9), 5)[0][0], still.images.float() / 255)


def test_training_images_move_and_test_images_do_not() -> None:
    samples = samples_for(preset_config("mnist-mlp", {"shift": "1", "flip": "true", "cutout": "8"}))
    assert samples.train.augment == ImageAugmentation(1, True, 8)  # type: ignore[attr-defined]
    assert samples.test.augment == ImageAugmentation()  # type: ignore[attr-defined]
    assert checked_config({}).shift == 0


def test_some_classes_of_a_data_set() -> None:
    images = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1)
    dataset = ImageDataset("small", images[:8], torch.arange(8) % 4, images[8:], torch.arange(4), tuple("abcd"))
    found = samples_of_classes(image_samples(dataset, Encoder("constant", 2)), [3, 1])
    assert found.class_names == ("d", "b")
    assert found.train.labels.tolist() == [1, 0, 1, 0]
    x, labels = found.train.batch(torch.tensor([0, 1]))
    assert (255 * x[0].flatten()).round().tolist() == [1, 3]
    assert labels.tolist() == [1, 0]
    assert found.test.labels.tolist() == [1, 0]
    assert found.source == "4 training and 2 test samples of 2 classes of small"
    for wrong in ([1], [1, 1], [0, 4]):
        with pytest.raises(UsageError, match=r"classes are .* expected some of 0\.\.3 of small, each once"):
            samples_of_classes(image_samples(dataset, Encoder("constant", 2)), wrong)
