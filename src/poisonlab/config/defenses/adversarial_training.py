"""Settings of adversarial training."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.types import PositiveFloat, PositiveInt, Settings, WholeLevel


class AdversarialTraining(Settings):
    """Train on images that are perturbed to raise their own loss."""

    method: Literal["adversarial-training"] = "adversarial-training"
    eps: WholeLevel = 16.0
    """Bound on every pixel's change, in levels of 1/255. The released code lists 8 for this defense, but uses 16 by
    default."""
    steps: PositiveInt = 5
    """Steps of signed Adam on the perturbation."""
    lr: PositiveFloat = 0.1
    """Its learning rate, in standard deviations of the channel (normalised pixels)."""
