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
            TypeError: a count is no whole number.
            ValueError: a count is negative, or larger than any dataset.
        """
        for name, count in vars(self).items():
            if type(count) is not int:
                raise TypeError(f"{name} as a whole number")
            if not 0 <= count < _MOST:
                raise ValueError(f"{name} is no number of examples")

    @property
    def dropped(self) -> int:
        """How many examples were dropped, poisons or not."""
        return self.poisons_dropped + self.clean_dropped

    @property
    def precision(self) -> float:
        """Share of poisons among the dropped examples; nan if none was dropped."""
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
        """Matthews correlation of dropped and poisoned, in [-1, 1]; nan if all or no examples are dropped, or poisoned.
        There, scikit-learn gives 0, the result of a blind filter."""
        found, missed = self.poisons_dropped, self.poisons_kept
        wrong, right = self.clean_dropped, self.clean_kept
        margins = (found + wrong) * (found + missed) * (right + wrong) * (right + missed)
        return _ratio(found * right - wrong * missed, math.sqrt(margins))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def detection(keep: Tensor, poisoned: Tensor) -> Detection:
    """Compare what a filter keeps with what is poisoned; both (N,) bool, on any devices.

    Raises:
        DataError: the masks are not bool, or have different shapes.
    """
    # The dtype is compared by its name: Snakemake reads trials, which hold these counts, and should not wait for torch.
    if not (str(keep.dtype) == str(poisoned.dtype) == "torch.bool" and keep.shape == poisoned.shape):
        raise DataError(
            f"keep {tuple(keep.shape)} {keep.dtype} and poisoned {tuple(poisoned.shape)} {poisoned.dtype}: give two "
            "bool masks of one length"
        )
    kept, bad = keep.cpu(), poisoned.cpu()
    counts = [int((first & second).sum()) for first in (~kept, kept) for second in (bad, ~bad)]
    return Detection(poisons_dropped=counts[0], clean_dropped=counts[1], poisons_kept=counts[2], clean_kept=counts[3])
