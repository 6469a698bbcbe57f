"""Settings of gradient shaping."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.types import NonNegativeFloat, PositiveFloat, Settings


class GradientShaping(Settings):
    """Clip the batch's mean gradient and add noise to it ("DP-SGD" in FRIENDS' table 1; gives no privacy guarantee)."""

    method: Literal["gradient-shaping"] = "gradient-shaping"
    clip: PositiveFloat = 1.0
    """Largest l2 norm of the whole gradient."""
    noise: NonNegativeFloat = 0.01
    """Scale of the noise on every element, in units of ``clip``."""
    distribution: Literal["gaussian", "laplacian"] = "gaussian"
    """Distribution of the noise; the scale is a Gaussian's standard deviation, and 1/sqrt(2) of a Laplacian's."""
