"""Settings of dilution with clean data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.types import Settings


class Dilution(Settings):
    """Replace a share of the poisons by their clean images, which the defender has from a trusted source."""

    method: Literal["dilution"] = "dilution"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the poisons that get their original image and label back; an appended poison is removed."""
