"""Settings of the digits on photographs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.data.source import Source


class DigitsOnPhotos(Source):
    """Handwritten digits blended onto photographs; ships with scikit-learn, needs no download."""

    source: Literal["digits-on-photos"] = "digits-on-photos"
    version: Literal[2] = 2
    """Version of the drawing, so that results on differently drawn images are kept apart. In version 1, the splits had
    different halves of the photographs. In version 2, both have tiles of both halves."""
    train_size: Annotated[int, Field(ge=10, le=10_000_000)] = 3000
    """Training images; the ten classes are balanced."""
    test_size: Annotated[int, Field(ge=10, le=10_000_000)] = 1000
    """Test images; the ten classes are balanced."""
    size: Annotated[int, Field(ge=16, le=128)] = 32
    """Height and width in pixels."""
    contrast: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Strength of the digit's stroke over the photograph; smaller is harder."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the whole dataset."""
