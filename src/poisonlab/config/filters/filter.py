"""Common settings of filters."""

from __future__ import annotations

from pydantic import model_validator

from poisonlab.config.inspection import Inspection
from poisonlab.config.types import Name


class Filter(Inspection):
    """Drops training examples by their features in a trained network; the victim is trained on the rest."""

    surrogate: Name | None = None
    """Look at this surrogate, trained on clean data, instead of a victim; its first network of the same seed."""

    @model_validator(mode="after")
    def _one_network(self) -> Filter:
        if self.network is not None and self.surrogate is not None:
            raise ValueError(f"{self.method} looks at one network: give either network or surrogate")
        return self
