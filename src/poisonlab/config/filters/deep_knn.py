"""Settings of deep k-NN."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from poisonlab.config.filters.filter import Filter
from poisonlab.config.types import Fraction, PositiveFloat, PositiveInt


class DeepKnn(Filter):
    """Drop an example whose nearest neighbours in feature space mostly carry other labels (Peri et al. 2020)."""

    method: Literal["deep-knn"] = "deep-knn"
    k: PositiveInt | None = None
    """Neighbours that vote; ``factor`` times the poisons expected if not given (released). The paper takes the size of
    a class."""
    expected: Fraction = 0.01
    """Poisons expected, as a fraction of the training set."""
    factor: PositiveFloat = 2.0
    """Neighbours per expected poison."""
    rule: Literal["released", "paper", "smallest-label"] = "released"
    """``released``: at least half of the neighbours must share the label; ``paper``: no other label may be more
    frequent among them; ``smallest-label``: the example must have the most frequent label among them, in a tie the
    smallest, as in the code released with the paper (with ``self_counts``)."""
    self_counts: bool = False
    """Whether an example is the nearest of its own neighbours, as in code released with the paper."""

    @model_validator(mode="after")
    def _one_number(self) -> DeepKnn:
        fields = type(self).model_fields
        unused = [name for name in ("expected", "factor") if getattr(self, name) != fields[name].default]
        if self.k is not None and unused:
            raise ValueError(f"k: {self.k} is the number of neighbours: leave {' and '.join(unused)} out, or k")
        return self
