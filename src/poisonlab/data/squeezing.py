"""Images with less information: gray or compressed with JPEG; 8-bit, as a defender would store them."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from poisonlab.data.image_range import check_images

_LUMA = (19595, 38470, 7471)
"""Weights of red, green and blue (ITU-R BT.601) in units of 2^-16, as in Pillow."""


def in_bytes(images: Tensor) -> Tensor:
    """Images (N, C, H, W), uint8 or float in [0, 1], as uint8; floats are rounded to the nearest level.

    Raises:
        DataError: floats lie beyond [0, 1].
    """
    check_images(images)
    return images if images.dtype == torch.uint8 else (images * 255).round().clamp(0, 255).to(torch.uint8)


def gray(images: Tensor) -> Tensor:
    """Images whose C channels all hold their luma, floor((19595 R + 38470 G + 7471 B) / 2^16 + 1/2).

    Args:
        images: (N, C, H, W) uint8. Without three channels, the luma is their rounded mean.
    """
    weights = _LUMA if images.shape[1] == 3 else (1,) * images.shape[1]
    luma = torch.zeros_like(images[:, 0], dtype=torch.int32)
    # Channel by channel, because the whole set in int32 needs four times its memory.
    for channel, weight in enumerate(weights):
        luma += images[:, channel].int() * weight
    nearest = (luma + sum(weights) // 2).div(sum(weights), rounding_mode="floor").to(torch.uint8)
    return nearest[:, None].repeat(1, images.shape[1], 1, 1)


def through_jpeg(images: Tensor, quality: int) -> Tensor:
    """Images encoded as JPEG by Pillow and decoded again.

    Args:
        images: (N, C, H, W) uint8. Three channels are compressed in colour, with chroma at half the resolution. Any
            other number of channels is compressed one by one in gray.
        quality: 1 to 100.

    Returns:
        (N, C, H, W) uint8, on the device of ``images``.
    """
    count, channels = images.shape[:2]
    pictures = images.movedim(1, -1) if channels == 3 else images.flatten(0, 1)
    coded = [_coded(picture, quality) for picture in pictures.cpu()]
    compressed = torch.stack(coded)
    if channels == 3:
        compressed = compressed.movedim(-1, 1)
    return compressed.reshape(count, channels, *images.shape[2:]).contiguous().to(images.device)


def _coded(picture: Tensor, quality: int) -> Tensor:
    """A picture (H, W, 3) or (H, W) uint8, encoded and decoded."""
    file = BytesIO()
    Image.fromarray(picture.numpy()).save(file, "JPEG", quality=quality)
    with Image.open(file, formats=["JPEG"]) as decoded:
        return torch.from_numpy(np.array(decoded))
