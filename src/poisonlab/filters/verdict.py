"""The verdict that every filter returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Verdict:
    """The examples that a filter keeps, on the device of the filter's input.

    Attributes:
        keep: (N,) bool; False drops the example.
        score: (N,), higher is more suspicious; None for methods without a ranking. Scores are comparable within a
            class, and between classes only if the filter's docstring says so.
    """

    keep: Tensor
    score: Tensor | None = None
