"""Encoded image files (PNG, JPEG, ...) to one uint8 tensor."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from poisonlab.errors import DataError

# A named list, because Pillow's full one holds formats that start other programs (EPS) or read other files.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_LARGEST_PIXELS = 1 << 25


def decode_all(images: Iterable[tuple[str, bytes | Path]], count: int, size: int | None, shape_cure: str) -> Tensor:
    """Decode ``count`` images of one shape.

    Args:
        images: where each image lies (for messages) and its encoded bytes or its file.
        count: how many there are, at least 1.
        size: resize each image to (size, size), bilinear with antialiasing; None keeps the shape.
        shape_cure: what the user can do if the shapes differ, for the message.

    Returns:
        (count, 3, H, W) uint8, RGB.

    Raises:
        DataError: an image is missing, damaged, not 8-bit, too large or of another shape than the first, or
            there are not ``count`` of them.
    """
    stacked: NDArray[np.uint8] | None = None
    first = ""
    filled = 0
    for where, source in images:
        pixels = decode(source, where, size)
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
    return torch.from_numpy(stacked)


def decode(source: bytes | Path, where: str, size: int | None = None) -> NDArray[np.uint8]:
    """Decode one image to (3, H, W) uint8, RGB; greyscale is repeated, transparency dropped.

    Args:
        source: the encoded bytes, or a file that holds them.
        where: where the image lies, for messages.
        size: resize to (size, size), bilinear with antialiasing.

    Raises:
        DataError: the image is missing, damaged, not 8-bit or too large.
    """
    # A pipe would be waited for, and a device has no end.
    if isinstance(source, Path) and not source.is_file():
        raise DataError(f"{where} is not a file: replace or remove it")
    try:
        with warnings.catch_warnings():
            # The size is checked below, before any pixel is decoded; Pillow's warnings would only add noise.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)
        with image:
            if image.width * image.height > _LARGEST_PIXELS:
                raise _too_large(where)
            if image.mode.startswith(("I", "F")):
                raise DataError(f"{where} has more than 8 bits per channel: convert it to an 8-bit image")
            rgb = image.convert("RGB")
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(where) from error
    # Which exception a decoder raises depends on the damaged byte: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise DataError(f"{where} is not a readable image: replace or remove it") from error
    if size is not None:
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(rgb).transpose(2, 0, 1)


def _too_large(where: str) -> DataError:
    return DataError(f"{where} claims more than {_LARGEST_PIXELS} pixels: replace it or make it smaller")
