"""Settings of the gray training set."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.types import Settings


class Grayscale(Settings):
    """Train on gray images, against poisons of colour (Image Shortcut Squeezing, Liu et al. 2023); test images keep
    their colours, as in its release."""

    method: Literal["grayscale"] = "grayscale"
