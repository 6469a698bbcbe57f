"""Settings of the one-class SVM."""

from __future__ import annotations

from typing import Annotated, Literal

from poisonlab.config.filters.filter import Filter
from poisonlab.config.types import LATER, Fraction, PositiveFloat


class OneClassSvm(Filter):
    """Drop what a support vector machine of each class takes for outliers (Peri et al. 2020, baseline)."""

    method: Literal["one-class-svm"] = "one-class-svm"
    nu: Fraction = 0.01
    """Bound on the share of outliers of each class."""
    gamma: Literal["auto", "scale"] | PositiveFloat = "auto"
    """Gamma of the RBF kernel, as scikit-learn names it; ``auto`` was the default when the paper was written."""
    boundary: Annotated[Literal["optimum", "sign"], LATER] = "optimum"
    """``optimum``: drop examples outside the boundary at the optimum, which are none in classes smaller than 1 /
    ``nu``. ``sign``: drop the outliers of scikit-learn's ``predict``, including those by rounding, as the paper most
    likely did."""
