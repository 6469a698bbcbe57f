"""The verdict that every filter returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Verdict:
    """Which examples a filter keeps, on the device of the tensors it was given.

    Attributes:
        keep: (N,) bool; False drops the example.
        score: (N,), higher is more suspicious; None for methods that rank nothing. Scores of one class are comparable,
            those of different classes only where the filter says so.
    """

    keep: Tensor
    score: Tensor | None = None
