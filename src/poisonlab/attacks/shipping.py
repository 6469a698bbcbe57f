"""The images that an attacker ships, made from bases and a perturbation."""

from __future__ import annotations

import torch
from torch import Tensor


def ship(bases: Tensor, change: Tensor, eps: float, precision: str) -> Tensor:
    """The poisoned images as the victim receives them.

    Args:
        bases: (P, C, H, W) uint8.
        change: (P, C, H, W) float, in levels of 1/255.
        eps: the bound in levels; a fractional bound is rounded down for 8-bit images.
        precision: ``uint8`` or ``float32`` (then in [0, 1]).
    """
    if precision == "float32":
        return ((bases.float() + change).clamp(0, 255) / 255).float()
    whole = change.round().clamp(-int(eps), int(eps))
    return (bases.float() + whole).clamp(0, 255).to(torch.uint8)
