"""The trigger of a backdoor: a small patch pasted at a fixed place or anywhere in the image (Sleeper Agent)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from poisonlab.data.decoding import decode
from poisonlab.errors import SettingsError

_BLOCK = 2
_SATURATED = np.array(
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255)], dtype=np.uint8
)


def own_pattern(size: int, seed: int = 0, *, channels: int = 3) -> Tensor:
    """The lab's own conspicuous patch: blocks of two by two pixels in saturated colours, cut off at the edge.

    Args:
        size: height and width in pixels.
        seed: of the colours.
        channels: 3, or 1 for black and white.

    Returns:
        (channels, size, size) uint8, the same for the same arguments.

    Raises:
        SettingsError: ``channels`` is neither 1 nor 3.
    """
    _check_channels(channels)
    blocks = -(-size // _BLOCK)
    rng = np.random.default_rng([seed, 3])
    if channels == 3:
        colours = _SATURATED[rng.integers(len(_SATURATED), size=(blocks, blocks))]
    else:
        colours = rng.choice(np.array([0, 255], dtype=np.uint8), size=(blocks, blocks, 1))
        # An all-black patch would be invisible on the black background of most grey datasets.
        colours[0, 0] = 255
    patch = colours.repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)[:size, :size]
    return torch.from_numpy(patch.transpose(2, 0, 1).copy())


def read_pattern(path: Path, size: int, *, channels: int = 3) -> Tensor:
    """An image file as a patch, resized to ``size`` x ``size`` pixels, bilinear with antialiasing.

    Args:
        path: an image file; transparency is dropped.
        size: height and width in pixels.
        channels: 3 (RGB) or 1 (grey).

    Returns:
        (channels, size, size) uint8.

    Raises:
        DataError: the file is missing, damaged, not 8-bit or too large.
        SettingsError: ``channels`` is neither 1 nor 3.
    """
    _check_channels(channels)
    patch = decode(path, str(path), size)
    if channels == 1:
        patch = np.asarray(Image.fromarray(patch.transpose(1, 2, 0).copy()).convert("L"))[None]
    return torch.from_numpy(patch.copy())


def _check_channels(channels: int) -> None:
    if channels not in (1, 3):
        raise SettingsError(f"a trigger has 1 or 3 channels, not {channels}: use a dataset of grey or colour images")


def patched(
    images: Tensor, pattern: Tensor, place: Literal["random", "bottom-right"], generator: torch.Generator
) -> Tensor:
    """Copies of the images, each with the patch at a place that ``generator`` draws for it, or in its lower right
    corner.

    Args:
        images: (N, C, H, W) uint8.
        pattern: (C, p, p) uint8.
        place: which of the two.
        generator: on the device of images and patch.

    Raises:
        SettingsError: the patch is larger than the images.
    """
    size, image_size = pattern.shape[-1], (images.shape[2], images.shape[3])
    if place == "random":
        return paste(images, pattern, draw_places(len(images), image_size, size, generator))
    corner = torch.tensor(bottom_right(image_size, size), device=images.device)
    return paste(images, pattern, corner.expand(len(images), 2))


def paste(images: Tensor, pattern: Tensor, places: Tensor) -> Tensor:
    """Copies of the images, each with the patch pasted on it.

    Args:
        images: (N, C, H, W) uint8.
        pattern: (C, p, p) uint8, on the images' device.
        places: (N, 2) int64, (row, column) of the patch's upper left pixel in each image, on the images' device; the
            whole patch lies in the image.
    """
    offsets = torch.arange(pattern.shape[-1], device=images.device)
    rows, columns = places[:, :1] + offsets, places[:, 1:] + offsets
    batch = torch.arange(len(images), device=images.device)
    pasted = images.clone()
    pasted[batch[:, None, None], :, rows[:, :, None], columns[:, None, :]] = pattern.permute(1, 2, 0)
    return pasted


def draw_places(count: int, image_size: tuple[int, int], patch_size: int, generator: torch.Generator) -> Tensor:
    """Places (row, column) drawn uniformly from those at which the whole patch fits.

    Args:
        count: number of places.
        image_size: (height, width) in pixels.
        patch_size: height and width of the patch in pixels.
        generator: the places are on its device.

    Returns:
        (count, 2) int64.

    Raises:
        SettingsError: the patch is larger than the image.
    """
    return torch.stack(
        [
            torch.randint(largest + 1, (count,), generator=generator, device=generator.device)
            for largest in bottom_right(image_size, patch_size)
        ],
        dim=1,
    )


def bottom_right(image_size: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """The place (row, column) at which the patch covers the lower right corner: the largest one.

    Raises:
        SettingsError: the patch is larger than the image.
    """
    height, width = image_size
    if patch_size > min(height, width):
        raise SettingsError(
            f"a trigger of {patch_size} x {patch_size} pixels is larger than the images of {height} x {width}: "
            f"make it at most {min(height, width)}"
        )
    return height - patch_size, width - patch_size
