"""How well a filter tells poisons from clean examples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from poisonlab.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


_MOST = 10**12


@dataclass(frozen=True)
class Detection:
    """Counts of a filter's four outcomes; dropping a poison is the success."""

    poisons_dropped: int
    poisons_kept: int
    clean_dropped: int
    clean_kept: int

    def __post_init__(self) -> None:
        """Check the counts, which come from files.

        Raises:
            TypeError: one is no whole number.
            ValueError: one is negative, or beyond any dataset.
        """
        for name, count in vars(self).items():
            if type(count) is not int:
                raise TypeError(f"{name} as a whole number")
            if not 0 <= count < _MOST:
                raise ValueError(f"{name} is no number of examples")

    @property
    def dropped(self) -> int:
        """How many were, poisons or not."""
        return self.poisons_dropped + self.clean_dropped

    @property
    def precision(self) -> float:
        """Share of poisons among what was dropped; nan if nothing was."""
        return _ratio(self.poisons_dropped, self.poisons_dropped + self.clean_dropped)

    @property
    def recall(self) -> float:
        """Share of the poisons that was dropped; nan without poisons."""
        return _ratio(self.poisons_dropped, self.poisons_dropped + self.poisons_kept)

    @property
    def clean_loss(self) -> float:
        """Share of the clean examples that was dropped; nan without clean examples."""
        return _ratio(self.clean_dropped, self.clean_dropped + self.clean_kept)

    @property
    def matthews(self) -> float:
        """Matthews correlation of dropped and poisoned, in [-1, 1]; nan where all or no examples are the one or the
        other (scikit-learn says 0 there, as if the filter had been tried and found blind)."""
        found, missed = self.poisons_dropped, self.poisons_kept
        wrong, right = self.clean_dropped, self.clean_kept
        margins = (found + wrong) * (found + missed) * (right + wrong) * (right + missed)
        return _ratio(found * right - wrong * missed, math.sqrt(margins))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def detection(keep: Tensor, poisoned: Tensor) -> Detection:
    """Compare what a filter keeps with what is poisoned; both (N,) bool, on any devices.

    Raises:
        DataError: another type, or two shapes.
    """
    # By name, because Snakemake reads trials, which hold such counts, and should not wait for torch.
    if not (str(keep.dtype) == str(poisoned.dtype) == "torch.bool" and keep.shape == poisoned.shape):
        raise DataError(
            f"keep {tuple(keep.shape)} {keep.dtype} and poisoned {tuple(poisoned.shape)} {poisoned.dtype}: give two "
            "bool masks of one length"
        )
    kept, bad = keep.cpu(), poisoned.cpu()
    counts = [int((first & second).sum()) for first in (~kept, kept) for second in (bad, ~bad)]
    return Detection(poisons_dropped=counts[0], clean_dropped=counts[1], poisons_kept=counts[2], clean_kept=counts[3])
