"""Settings of gradient matching."""

from __future__ import annotations

from typing import ClassVar, Literal

from poisonlab.config.attacks.attack import TargetedAttack
from poisonlab.config.attacks.matching import MatchingAttack
from poisonlab.config.types import PositiveInt


class GradientMatching(TargetedAttack, MatchingAttack):
    """Gradient matching (Witches' Brew, Geiping et al. 2021); an ensemble's losses are averaged."""

    around_poison: ClassVar[bool] = True

    method: Literal["gradient-matching"] = "gradient-matching"
    restarts: PositiveInt = 8
    """Random starts; the one with the lowest loss at the last step is kept."""
    restarts_at_once: Literal[1] = 1
    """Only 1: restarts are computed one after another. The key remains because settings identify trials."""
