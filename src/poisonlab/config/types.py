"""Field types shared by the settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """A frozen group of settings; unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True, allow_inf_nan=False
    )


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=60)]
"""A name that becomes part of a file name: lower-case letters, digits, dots and dashes."""

Levels = Annotated[float, Field(ge=0, le=255)]
"""An intensity in units of 1/255 (pixel levels)."""

PositiveLevels = Annotated[float, Field(gt=0, le=255)]
"""A positive intensity in units of 1/255 (pixel levels)."""

PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]

FilePath = Annotated[str, Field(min_length=1, max_length=500)]
"""A path, absolute or from the repository's root."""
