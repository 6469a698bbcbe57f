"""Settings of the figures that compare attacks without a goal."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from poisonlab.config.types import Name, Settings, distinct

MOST_CURVES = 14
"""Lines that a reader tells apart in one panel."""


class CurveGroup(Settings):
    """Attacks that share a column of learning curves, each a line beside that of clean data."""

    title: Annotated[str, Field(min_length=1, max_length=40)]
    """Title above the column."""
    attacks: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MOST_CURVES), AfterValidator(distinct)]
    """Attacks without a goal; one may be in several groups."""
