"""Settings of low-frequency noise."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from poisonlab.config.attacks.attack import AvailabilityAttack
from poisonlab.config.types import PositiveInt, from_text


class LowFrequency(AvailabilityAttack):
    """Class-wise noise of few low frequencies, which is learned before the images are: an attack on the accuracy as a
    whole. LF2 to LF8 of Sandoval-Segura et al. 2022."""

    method: Literal["low-frequency"] = "low-frequency"
    frequencies: PositiveInt = 4
    """Frequencies along each axis, from the constant up: 2 in LF2, 8 in LF8."""
    eps: Annotated[int, Field(ge=1, le=255), BeforeValidator(from_text)] = 8
    """The largest change, in whole levels of 1/255."""
    scaling: Literal["image", "channel"] = "image"
    """Whether each class's noise reaches that change once, or in each of its channels; the paper does not say."""
