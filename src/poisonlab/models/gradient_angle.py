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
    squares = torch.stack([torch.as_tensor(sum(part.square().sum() for part in parts)) for parts in (gradients, goal)])
    # The root of zero has no gradient, and what is divided by it has none that is finite.
    flat = (squares < torch.finfo(squares.dtype).tiny).any()
    lengths = torch.where(flat, 1.0, squares).sqrt()
    return 1 - torch.where(flat, 0.0, product / (lengths[0] * lengths[1]))
