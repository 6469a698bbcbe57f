"""Settings of gradient matching."""

from __future__ import annotations

from typing import ClassVar, Literal

from poisonlab.config.attacks.attack import TargetedAttack
from poisonlab.config.attacks.matching import MatchingAttack


class GradientMatching(TargetedAttack, MatchingAttack):
    """Gradient matching (Witches' Brew, Geiping et al. 2021); an ensemble's losses are averaged."""

    around_poison: ClassVar[bool] = True

    method: Literal["gradient-matching"] = "gradient-matching"
