"""What every filter's settings have in common."""

from __future__ import annotations

from pydantic import model_validator

from poisonlab.config.inspection import Inspection
from poisonlab.config.types import Name


class Filter(Inspection):
    """Drops training examples by what a trained network makes of them; the victim is trained on those that are left."""

    surrogate: Name | None = None
    """Look at this surrogate, trained on clean data, instead of a victim; its first network of the same seed."""

    @model_validator(mode="after")
    def _one_network(self) -> Filter:
        if self.network is not None and self.surrogate is not None:
            raise ValueError(f"{self.method} looks at one network: give either network or surrogate")
        return self
