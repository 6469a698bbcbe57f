"""The angle between two gradients, which gradient matching and adversarial poisoning minimise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def matching_loss(gradients: Sequence[Tensor], goal: Sequence[Tensor]) -> Tensor:
    """1 - cosine between two gradients, each a list of tensors taken as one long vector (Witches' Brew, equation 3).

    If one gradient is zero, the loss is 1 with zero derivative.
    """
    product = torch.as_tensor(sum((g * t).sum() for g, t in zip(gradients, goal, strict=True)))
    squares = torch.stack([torch.as_tensor(sum(part.square().sum() for part in parts)) for parts in (gradients, goal)])
    # The root of zero has no gradient, and a quotient by it has no finite gradient.
    flat = (squares < torch.finfo(squares.dtype).tiny).any()
    lengths = torch.where(flat, 1.0, squares).sqrt()
    return 1 - torch.where(flat, 0.0, product / (lengths[0] * lengths[1]))
