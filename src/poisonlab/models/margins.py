"""The margin by which a network prefers a class to all others."""

from __future__ import annotations

import torch
from torch import Tensor


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,): z_y - max_{j != y} z_j of logits (B, K) and labels (B,) int64; negative if another class is preferred.

    The negative margin, cut off below 0, is Carlini and Wagner's loss (2017).
    """
    own = logits.gather(1, labels[:, None])[:, 0]
    return own - logits.scatter(1, labels[:, None], -torch.inf).amax(1)
