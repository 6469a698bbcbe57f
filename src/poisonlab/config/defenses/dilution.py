"""Settings of dilution with clean data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.types import Settings


class Dilution(Settings):
    """Get a share of the poisoned images back clean: the defender has a trusted source of so many."""

    method: Literal["dilution"] = "dilution"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Part of the poisons whose images and labels are as they were before; an appended poison is taken away."""
