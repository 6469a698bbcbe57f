"""Settings of adversarial training."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.types import PositiveFloat, PositiveInt, Settings, WholeLevel


class AdversarialTraining(Settings):
    """Train on images that are perturbed to raise their own loss."""

    method: Literal["adversarial-training"] = "adversarial-training"
    eps: WholeLevel = 16.0
    """Bound on every pixel's change, in levels of 1/255; 8 is the strength that the released code lists for this
    defense, 16 the one that it then takes unless told otherwise."""
    steps: PositiveInt = 5
    """Steps of signed Adam on the perturbation."""
    lr: PositiveFloat = 0.1
    """Its learning rate, in standard deviations of the channel (normalised pixels)."""
