"""Settings of spectral signatures."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.filters.filter import Filter
from poisonlab.config.types import Fraction, PositiveFloat


class SpectralSignatures(Filter):
    """Drop from every class what lies farthest along its direction of largest variance (Tran et al. 2018)."""

    method: Literal["spectral-signatures"] = "spectral-signatures"
    expected: Fraction = 0.01
    """Poisons expected, as a fraction of the training set; all of them might lie in any one class."""
    factor: PositiveFloat = 1.5
    """Examples dropped from every class per expected poison. With 1 % expected in ten classes, this drops 15 % of
    all."""
