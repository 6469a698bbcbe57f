"""Encoded image files (PNG, JPEG, ...) to one uint8 tensor."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile
from torch import Tensor

from poisonlab.config.class_folders import leads_nowhere
from poisonlab.errors import DataError, DataWarning

# Some of Pillow's other formats start programs (EPS) or read further files.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_LARGEST_PIXELS = 1 << 25
# How to bring an image upright, by its EXIF orientation; 1 is upright.
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_all(images: Iterable[tuple[str, bytes | Path]], count: int, size: int | None, shape_cure: str) -> Tensor:
    """Decode ``count`` images of one shape and turn them upright; a ``DataWarning`` counts the turned images.

    Args:
        images: for each image, its place (for messages), and its encoded bytes or its file.
        count: number of images, at least 1.
        size: resize each image to (size, size), bilinear with antialiasing; None keeps the shape.
        shape_cure: what the user can do if the shapes differ, for the message.

    Returns:
        (count, 3, H, W) uint8, RGB.

    Raises:
        DataError: an image is missing, damaged, not 8-bit, too large or of another shape than the first, or the number
            of images is not ``count``.
    """
    stacked: NDArray[np.uint8] | None = None
    first = ""
    filled = 0
    turned: list[str] = []
    for where, source in images:
        pixels, was_turned = _decoded(source, where, size)
        if was_turned:
            turned.append(where)
        if stacked is None:
            stacked, first = np.empty((count, *pixels.shape), dtype=np.uint8), where
        if pixels.shape != stacked.shape[1:]:
            _, height, width = pixels.shape
            raise DataError(
                f"{where} is {width}x{height} pixels but {first} is {stacked.shape[3]}x{stacked.shape[2]}: {shape_cure}"
            )
        if filled == count:
            raise DataError(f"{where} is one image more than the {count} announced: write the file again")
        stacked[filled] = pixels
        filled += 1
    if stacked is None or filled < count:
        raise DataError(f"only {filled} of {count} images could be read: write the dataset again")
    if turned:
        warnings.warn(
            f"{len(turned)} of {count} images have an EXIF orientation and are read upright, the first is {turned[0]}. "
            "torchvision's ImageFolder does not turn them: give it "
            "loader=lambda path: ImageOps.exif_transpose(Image.open(path)).convert('RGB')",
            DataWarning,
            stacklevel=2,
        )
    return torch.from_numpy(stacked)


def decode(source: bytes | Path, where: str, size: int | None = None) -> NDArray[np.uint8]:
    """Decode one image to (3, H, W) uint8, RGB, upright by its EXIF orientation.

    Greyscale is repeated in the three channels; transparency is dropped; of several frames or pages, the first is read.

    Args:
        source: the encoded bytes, or a file that holds them.
        where: where the image lies, for messages.
        size: resize to (size, size), bilinear with antialiasing.

    Raises:
        DataError: the image is missing, damaged, not 8-bit or too large.
    """
    return _decoded(source, where, size)[0]


def _decoded(source: bytes | Path, where: str, size: int | None) -> tuple[NDArray[np.uint8], bool]:
    """The image as ``decode`` returns it, and whether it was turned."""
    # A pipe could block for ever, and a device has no end.
    if isinstance(source, Path) and leads_nowhere(source):
        raise DataError(f"{where} is a link that leads nowhere: fetch its file (git annex get, dvc pull), or remove it")
    if isinstance(source, Path) and not source.is_file():
        raise DataError(f"{where} is not a file: replace or remove it")
    try:
        with warnings.catch_warnings():
            # Pillow warns of sizes, which are checked below before any pixel is decoded, and of transparent palettes.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS) as image:
                if image.width * image.height > _LARGEST_PIXELS:
                    raise _too_large(where)
                if _is_deep(image):
                    raise DataError(
                        f"{where} has more than 8 bits per channel: scale its values to 0 to 255 and save 8 bits "
                        "(Pillow's convert cuts grey ones off at 255)"
                    )
                rgb = image.convert("RGB")
                upright = _upright(image, rgb)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(where) from error
    # The exception depends on the damaged byte: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise DataError(f"{where} is not a readable image: replace or remove it") from error
    shown = rgb if upright is None else upright
    if size is not None:
        shown = shown.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(shown).transpose(2, 0, 1), upright is not None


def _is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether the file has more than 8 bits per channel; Pillow silently keeps only the high bytes of colours."""
    stored = image.format in ("PNG", "TIFF") and any(";16" in str(tile.args) for tile in image.tile)
    # For a PPM, the tile's last argument is the largest value.
    ranged = image.format == "PPM" and any(isinstance(tile.args, tuple) and tile.args[-1] > 255 for tile in image.tile)
    return stored or ranged or image.mode.startswith(("I", "F"))


def _upright(image: Image.Image, rgb: Image.Image) -> Image.Image | None:
    """``rgb`` turned and mirrored as the EXIF orientation of ``image`` says; None if it is upright already."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    # Damaged metadata do not affect the pixels; the exception depends on the damaged byte.
    except Exception:
        return None
    how = _TRANSPOSITIONS.get(orientation) if isinstance(orientation, int) else None
    return None if how is None else rgb.transpose(how)


def _too_large(where: str) -> DataError:
    return DataError(f"{where} claims more than {_LARGEST_PIXELS} pixels: replace it or make it smaller")
