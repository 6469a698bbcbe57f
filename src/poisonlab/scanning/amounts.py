"""How many images a scan flags and how many poisons it plants, if the config does not say."""

from __future__ import annotations

import torch
from torch import Tensor


def usual_suspects(images: int) -> int:
    """2 % of the training images, but at least 20 (or all) and at most 200."""
    return min(images, 200, max(20, images // 50))


def usual_poisons(labels: Tensor) -> int:
    """The smallest of 25, 1 % of the images (but at least 4), and half of the smallest class; at least 1.

    Args:
        labels: (N,) int64, of the training images.
    """
    present = torch.bincount(labels)
    return max(1, min(25, max(4, len(labels) // 100), int(present[present > 0].min()) // 2))
