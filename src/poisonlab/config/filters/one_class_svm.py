"""Settings of the one-class SVM."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.filters.filter import Filter
from poisonlab.config.types import Fraction, PositiveFloat


class OneClassSvm(Filter):
    """Drop what a support vector machine of each class takes for outliers (Peri et al. 2020, baseline)."""

    method: Literal["one-class-svm"] = "one-class-svm"
    nu: Fraction = 0.01
    """Bound on the share of outliers of each class."""
    gamma: Literal["auto", "scale"] | PositiveFloat = "auto"
    """Of the RBF kernel, as scikit-learn names it; ``auto`` was the default when the paper was written."""
