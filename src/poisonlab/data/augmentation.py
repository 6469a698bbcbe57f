"""Per-image random augmentation of a whole batch at once, differentiable with respect to the images."""

from __future__ import annotations

import torch
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
        black: (1, C, 1, 1), the normalised black pixel (``Normalize.black``); needed for ``padding: black``.
        flips: (B,) bool, the images to mirror; if not given, they are drawn where the settings ask for flips.

    Returns:
        (B, C, H, W), same dtype.

    Raises:
        SettingsError: ``padding: black`` is set, but ``black`` is not given.
    """
    if settings.kind == "none":
        return images
    outside = None
    if settings.padding == "black":
        if black is None:
            raise SettingsError("padding: black needs the black pixel as normalised: give augment Normalize.black")
        outside = black.to(images)
    n, device = len(images), images.device
    if settings.kind == "crop":
        most = int(settings.pixels)
        offsets = torch.randint(-most, most + 1, (n, 2), generator=generator, device=device)
    else:
        offsets = (torch.rand(n, 2, generator=generator, device=device) * 2 - 1) * settings.pixels
    if flips is None and settings.flip:
        flips = torch.rand(n, generator=generator, device=device) < 0.5
    return translate(images, offsets, flips, outside)


def alternating_flips(rows: int, seed: int) -> Tensor:
    """(R,) bool on the CPU: rows that ``flip: alternating`` mirrors in even epochs; odd epochs mirror the other rows.

    The entry of a row does not depend on the number ``rows``, so a training on some of the rows mirrors them alike.
    """
    return torch.rand(rows, generator=torch.Generator().manual_seed(stream_seed(seed, "flips"))) < 0.5


def translate(images: Tensor, offsets: Tensor, flips: Tensor | None = None, outside: Tensor | None = None) -> Tensor:
    """Move each image by its offset, bilinearly, then mirror the images in ``flips``.

    Output pixel (i, j) is the input at (i + dy, j + dx) (FRIENDS and Witches' Brew, released transform). Along each
    axis, the move is a product with one matrix of two diagonals per image. On a GPU, its backward pass always gives the
    same bits, unlike ``grid_sample`` and indexing. Whole offsets copy pixels exactly. The products use at least
    float32, also inside autocast.

    Args:
        images: (B, C, H, W) float.
        offsets: (B, 2) float or int64, (dy, dx) in pixels.
        flips: (B,) bool.
        outside: (1, C, 1, 1), the colour around the images; 0 if not given.

    Returns:
        (B, C, H, W), same dtype.
    """
    n, channels, height, width = images.shape
    with torch.autocast(images.device.type, enabled=False):
        precise = images.to(torch.promote_types(images.dtype, torch.float32))
        dy, dx = offsets.to(precise.dtype).unbind(1)
        down, across = _shares(height, dy), _shares(width, dx, flips)
        moved = (precise.reshape(n, channels * height, width) @ across.mT).view(images.shape)
        moved = down[:, None] @ moved
        if outside is not None:
            inside = down.sum(2)[:, None, :, None] * across.sum(2)[:, None, None, :]
            moved = moved + (1 - inside) * outside
        return moved.to(images.dtype)


def _shares(size: int, offsets: Tensor, flips: Tensor | None = None) -> Tensor:
    """(B, size, size): weight of each pixel of a line (last axis) in each pixel of the moved line."""
    place = torch.arange(size, device=offsets.device, dtype=offsets.dtype)
    # The whole places are subtracted first, so that the offset's fraction keeps its precision.
    distance = place[:, None] - place
    if flips is not None:
        distance = torch.where(flips[:, None, None], distance.flip(0), distance)
    return (1 - (distance + offsets[:, None, None]).abs()).clamp(min=0)
