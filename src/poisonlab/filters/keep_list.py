"""What a chain of filters leaves of a training set."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class KeepList:
    """What a chain of filters leaves.

    Attributes:
        keep: (N,) bool.
        scores: per filter (N,) float64, higher is more suspicious; nan for examples that were gone before, or if the
            filter ranks nothing.
        dropped: per filter, how many it dropped.
    """

    keep: Tensor
    scores: tuple[Tensor, ...]
    dropped: tuple[int, ...]
