"""Settings of the compressed training set."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.types import Settings


class Jpeg(Settings):
    """Train on images that went through JPEG (Image Shortcut Squeezing, Liu et al. 2023); test images do not, as in its
    release."""

    method: Literal["jpeg"] = "jpeg"
    quality: Annotated[int, Field(ge=1, le=100)] = 10
    """Quality on libjpeg's scale, with chroma at half the resolution."""
