"""Settings of activation clustering."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from poisonlab.config.filters.filter import Filter
from poisonlab.config.types import Fraction, PositiveInt


class ActivationClustering(Filter):
    """Split every class in two by k-means and drop the smaller part (Chen et al. 2018)."""

    method: Literal["activation-clustering"] = "activation-clustering"
    reduce: Literal["none", "pca", "ica"] = "none"
    """Project each class on ``dims`` components first: ``none`` as released, ``ica`` as in the paper."""
    dims: PositiveInt = 10
    """Components."""
    threshold: Fraction | None = None
    """Drop the smaller cluster only if it holds less than this share of its class; always if not given (released)."""

    @model_validator(mode="after")
    def _components(self) -> ActivationClustering:
        if self.reduce == "none" and self.dims != type(self).model_fields["dims"].default:
            raise ValueError(f"dims: {self.dims} does nothing without a projection: set reduce to pca or ica")
        return self
