"""The angle between two gradients: what gradient matching makes small, and adversarial poisoning with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def matching_loss(gradients: Sequence[Tensor], goal: Sequence[Tensor]) -> Tensor:
    """1 - cosine between two gradients, each a list of tensors taken as one long vector (Witches' Brew, equation 3).

    1, and flat, where one of them is zero.
    """
    product = torch.as_tensor(sum((g * t).sum() for g, t in zip(gradients, goal, strict=True)))
    return 1 - product / (_length(gradients) * _length(goal))


def _length(parts: Sequence[Tensor]) -> Tensor:
    square = torch.as_tensor(sum(part.square().sum() for part in parts))
    # The root of zero has no gradient.
    return square.clamp(min=torch.finfo(square.dtype).tiny).sqrt()
