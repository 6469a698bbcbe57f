"""Settings of Bullseye Polytope."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.attacks.features import FeatureAttack


class BullseyePolytope(FeatureAttack):
    """Bullseye Polytope: the mean of the poisons' features meets the target's (Aghakhani et al. 2021)."""

    method: Literal["bullseye-polytope"] = "bullseye-polytope"
    distance: Literal["relative", "mean-square"] = "relative"
    """``relative``: distance over the target's length (the authors', the public benchmark); ``mean-square``: mean over
    features of the squared difference (the toolbox of Witches' Brew)."""
