"""Per-image random augmentation of a whole batch at once, differentiable with respect to the images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from poisonlab.config.recipe import Augmentation


def augment(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Translate and flip each image at random.

    Args:
        images: (B, C, H, W) float, normalised: what is moved in from outside is 0, the mean colour.
        settings: kind, largest translation in pixels, and whether to flip.
        generator: on the images' device.

    Returns:
        (B, C, H, W), same dtype.
    """
    if settings.kind == "none":
        return images
    n, device = len(images), images.device
    if settings.kind == "crop":
        most = int(settings.pixels)
        offsets = torch.randint(-most, most + 1, (n, 2), generator=generator, device=device)
    else:
        offsets = (torch.rand(n, 2, generator=generator, device=device) * 2 - 1) * settings.pixels
    flips = torch.rand(n, generator=generator, device=device) < 0.5 if settings.flip else None
    return (translate_whole if settings.kind == "crop" else translate)(images, offsets, flips)


def translate(images: Tensor, offsets: Tensor, flips: Tensor | None = None) -> Tensor:
    """Move each image by a sub-pixel offset, bilinearly, then mirror those in ``flips``.

    Output pixel (i, j) is the input at (i + dy, j + dx); outside is 0 (FRIENDS and Witches' Brew, released transform).

    Args:
        images: (B, C, H, W) float.
        offsets: (B, 2) float, (dy, dx) in pixels.
        flips: (B,) bool.
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
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def translate_whole(images: Tensor, offsets: Tensor, flips: Tensor | None = None) -> Tensor:
    """Move each image by whole pixels, then mirror those in ``flips``; outside is 0.

    Args:
        images: (B, C, H, W) float.
        offsets: (B, 2) int64, (dy, dx) in pixels.
        flips: (B,) bool.
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
    return (picked * inside[..., None]).permute(0, 3, 1, 2)
