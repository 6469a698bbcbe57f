"""Settings of fresh random noise on every example in every epoch."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.types import Settings, WholeLevel


class RandomNoise(Settings):
    """Add noise drawn separately for every pixel, channel, example and epoch (FRIENDS, section 3.3)."""

    method: Literal["random-noise"] = "random-noise"
    distribution: Literal["bernoulli", "uniform", "gaussian"]
    """Two values, a flat interval, or a normal distribution."""
    mu: WholeLevel = 16.0
    """Magnitude in levels of 1/255: the two values +-mu, the bounds, or the standard deviation."""
    clip: bool = False
    """Clip the noisy image to [0, 1]; the released code does not."""
