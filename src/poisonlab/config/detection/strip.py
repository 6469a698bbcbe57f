"""Settings of STRIP."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from poisonlab.config.detection.detector import Detector
from poisonlab.config.types import NonNegativeFloat, PositiveInt


class Strip(Detector):
    """Reject an input whose prediction survives being blended with clean images (Gao et al. 2019)."""

    method: Literal["strip"] = "strip"
    count: PositiveInt = 100
    """Clean images that each input is blended with."""
    convention: Literal["superimpose", "blend"] = "superimpose"
    """``superimpose``: the clean image is added to the normalised input (BackdoorBench as it is run); ``blend``: a
    mixture of the two."""
    alpha: NonNegativeFloat = 1.0
    """Weight of the clean image. It must be below 1 in a ``blend``, where ART has 0.5."""
    far: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Rate of false alarms that the threshold tolerates among the defender's clean images."""
    fit: Literal["quantile", "gaussian"] = "quantile"
    """How the threshold is found: a quantile of the clean images' entropies, or of a normal distribution fitted to
    them."""

    @model_validator(mode="after")
    def _blend(self) -> Strip:
        if self.convention == "blend" and self.alpha >= 1:
            raise ValueError(
                f"strip: a blend of alpha {self.alpha:g} leaves nothing of the input: give one below 1, as 0.5"
            )
        return self
