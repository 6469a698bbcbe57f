"""Per-image random augmentation of a whole batch at once, differentiable with respect to the images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from poisonlab.config.recipe import Augmentation
from poisonlab.errors import SettingsError
from poisonlab.randomness import stream_seed


def augment(
    images: Tensor,
    settings: Augmentation,
    generator: torch.Generator,
    black: Tensor | None = None,
    flips: Tensor | None = None,
) -> Tensor:
    """Translate and flip each image at random.

    Args:
        images: (B, C, H, W) float, normalised: 0 is the mean colour.
        settings: kind, largest translation in pixels, whether to flip, and the colour outside.
        generator: on the images' device.
        black: (1, C, 1, 1), a black pixel as normalised (``Normalize.black``); needed for ``padding: black``.
        flips: (B,) bool, the images to mirror; drawn if not given and the settings flip at all.

    Returns:
        (B, C, H, W), same dtype.

    Raises:
        SettingsError: images are padded with black, which is not given.
    """
    if settings.kind == "none":
        return images
    outside = None
    if settings.padding == "black":
        if black is None:
            raise SettingsError("padding: black needs to know a black pixel: give augment the black of the Normalize")
        outside = black.to(images)
    n, device = len(images), images.device
    if settings.kind == "crop":
        most = int(settings.pixels)
        offsets = torch.randint(-most, most + 1, (n, 2), generator=generator, device=device)
    else:
        offsets = (torch.rand(n, 2, generator=generator, device=device) * 2 - 1) * settings.pixels
    if flips is None and settings.flip:
        flips = torch.rand(n, generator=generator, device=device) < 0.5
    return (translate_whole if settings.kind == "crop" else translate)(images, offsets, flips, outside)


def alternating_flips(rows: int, seed: int) -> Tensor:
    """(R,) bool on the CPU: the rows that ``flip: alternating`` mirrors in even epochs; it mirrors the others in odd
    ones.

    A row's coin does not depend on ``rows``, their number: a training on a part of them mirrors alike.
    """
    return torch.rand(rows, generator=torch.Generator().manual_seed(stream_seed(seed, "flips"))) < 0.5


def translate(images: Tensor, offsets: Tensor, flips: Tensor | None = None, outside: Tensor | None = None) -> Tensor:
    """Move each image by a sub-pixel offset, bilinearly, then mirror those in ``flips``.

    Output pixel (i, j) is the input at (i + dy, j + dx) (FRIENDS and Witches' Brew, released transform).

    Args:
        images: (B, C, H, W) float.
        offsets: (B, 2) float, (dy, dx) in pixels.
        flips: (B,) bool.
        outside: (1, C, 1, 1), what lies around the images; 0 if not given.
    """
    n, _, height, width = images.shape
    rows = torch.arange(height, device=images.device, dtype=images.dtype)
    columns = torch.arange(width, device=images.device, dtype=images.dtype)
    y = rows[None] + offsets[:, :1].to(images.dtype)
    x = columns[None].expand(n, width)
    if flips is not None:
        x = torch.where(flips[:, None], width - 1 - x, x)
    x = x + offsets[:, 1:].to(images.dtype)
    # grid_sample measures positions from -1 to 1 between the centres of the outermost pixels.
    y = y * (2 / (height - 1)) - 1
    x = x * (2 / (width - 1)) - 1
    grid = torch.stack([x[:, None, :].expand(n, height, width), y[:, :, None].expand(n, height, width)], dim=-1)
    if outside is not None:
        images = images - outside
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return moved if outside is None else moved + outside


def translate_whole(
    images: Tensor, offsets: Tensor, flips: Tensor | None = None, outside: Tensor | None = None
) -> Tensor:
    """Move each image by whole pixels, then mirror those in ``flips``.

    Args:
        images: (B, C, H, W) float.
        offsets: (B, 2) int64, (dy, dx) in pixels.
        flips: (B,) bool.
        outside: (1, C, 1, 1), what lies around the images; 0 if not given.
    """
    n, _, height, width = images.shape
    y = torch.arange(height, device=images.device)[None] + offsets[:, :1]
    x = torch.arange(width, device=images.device)[None].expand(n, width)
    if flips is not None:
        x = torch.where(flips[:, None], width - 1 - x, x)
    x = x + offsets[:, 1:]
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    batch = torch.arange(n, device=images.device)[:, None, None]
    picked = images.permute(0, 2, 3, 1)[batch, y.clamp(0, height - 1)[:, :, None], x.clamp(0, width - 1)[:, None, :]]
    if outside is not None:
        return torch.where(inside[:, None], picked.permute(0, 3, 1, 2), outside)
    return (picked * inside[..., None]).permute(0, 3, 1, 2)
