"""Image files of any common format, as pixels."""

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from spiking_lfp.errors import DataError, some

_GREY = ("1", "L", "LA", "I;16", "I;16B", "I;16L")
Size = tuple[int, int]


def read_images(
    paths: Sequence[Path],
    size: str = "",
    colour: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Read images as uint8 `[N, C, H, W]`, upright, without transparency; of several frames or pages, the first.

    Args:
        paths: at least one.
        size: WIDTHxHEIGHT to which all are scaled; if empty, they must have one size.
        colour: "grey", "rgb", or "auto" for grey if all of them are grey.
        progress: called with the numbers of images read and in all.

    Raises:
        DataError: naming a file that is no image, or two files of different sizes.

    Warns:
        UserWarning: naming files of several frames, such as animated GIF and TIFF of several pages, and those with
            transparent pixels, of which the colours behind are taken.
    """
    if colour == "auto":
        colour = "grey" if all(map(_is_grey, paths)) else "rgb"
    wanted = tuple(map(int, size.split("x"))) if size else None
    images: list[Tensor] = []
    animated, see_through = [], []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        read = pool.map(partial(_read, size=wanted, grey=colour == "grey"), paths)
        for done, (path, (image, has_more, is_see_through)) in enumerate(zip(paths, read, strict=True), 1):
            images.append(image)
            animated += [path] if has_more else []
            see_through += [path] if is_see_through else []
            if progress is not None:
                progress(done, len(paths))
    if animated:
        warnings.warn(
            f"{len(animated):,} of {len(paths):,} images have several frames, of which only the first is used: "
            f"{some(animated)}; save frames as images of their own to use them all",
            stacklevel=2,
        )
    if see_through:
        warnings.warn(
            f"{len(see_through):,} of {len(paths):,} images have transparent pixels, of which the colours behind are "
            f"taken, often black: {some(see_through)}; save them on a background",
            stacklevel=2,
        )
    other = next((index for index, image in enumerate(images) if image.shape != images[0].shape), None)
    if other is not None:
        (height, width), (height2, width2) = images[0].shape[1:], images[other].shape[1:]
        raise DataError(
            f"{paths[0]} has {width}x{height} pixels, but {paths[other]} {width2}x{height2}: set "
            "image_size=WIDTHxHEIGHT to scale all images to one size"
        )
    return torch.stack(images)


def _is_grey(path: Path) -> bool:
    with _opened(path) as image:
        return image.mode in _GREY


def _read(path: Path, size: tuple[int, ...] | None, grey: bool) -> tuple[Tensor, bool, bool]:
    """Return an image, whether the file has more of them, and whether some of its pixels are transparent."""
    try:
        with _opened(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16"):  # Pillow would cut off, not scale
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            elif image.mode in ("I", "F"):
                raise DataError(f"{path} has pixels of 32 bits, whose range is not known: convert it to 8 or 16 bits")
            see_through = image.has_transparency_data and bool((np.asarray(image.convert("RGBA"))[..., 3] < 255).any())
            image = image.convert("L" if grey else "RGB")
            if size is not None and image.size != size:
                image = image.resize((size[0], size[1]), Image.Resampling.BILINEAR, reducing_gap=3)
            pixels = np.asarray(image)
            has_more = _has_more(opened)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}; repair or remove it") from None
    values = torch.from_numpy(pixels[None].copy() if grey else pixels.transpose(2, 0, 1).copy())
    return values, has_more, see_through


def _has_more(image: Image.Image) -> bool:
    """Tell whether a file has more frames than the first."""
    if image.format == "MPO":  # a JPEG of a camera, with a preview or a second eye's view
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged frame that is not used
        return True


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        raise DataError(f"{path} cannot be read as an image: its content is none; repair or remove it") from None
    except (OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}; repair or remove it") from None
