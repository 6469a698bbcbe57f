"""Settings of Poison Frogs."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.attacks.features import FeatureAttack
from poisonlab.config.types import NonNegativeFloat


class PoisonFrogs(FeatureAttack):
    """Poison Frogs, feature collision: every poison's features meet the target's (Shafahi et al. 2018)."""

    method: Literal["poison-frogs"] = "poison-frogs"
    objective: Literal["per-image", "mean"] = "per-image"
    """``per-image``: the distance of every poison (the paper); ``mean``: of the poisons' mean, as the toolbox of
    Witches' Brew has it; with one target that is Bullseye Polytope with ``distance: mean-square``."""
    beta: NonNegativeFloat = 0.0
    """Weight of the squared distance to the (watermarked) base, in units of the [0, 1] pixel range, as in equation 1.
    The backward step of the paper and of the public benchmark, (x + lr beta b) / (1 + lr beta), is the one for half of
    it: their 0.1 is 0.05 here."""
