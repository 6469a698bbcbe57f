"""Settings of convex polytope."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.attacks.features import FeatureAttack
from poisonlab.config.types import PositiveFloat, PositiveInt


class ConvexPolytope(FeatureAttack):
    """Convex polytope: the target's features become a mixture of the poisons', in every surrogate (Zhu et al. 2019)."""

    method: Literal["convex-polytope"] = "convex-polytope"
    steps: PositiveInt = 4000
    """Steps of Adam."""
    inner_steps: PositiveInt = 10000
    """Most steps of projected gradient descent on the coefficients, per step of Adam."""
    tolerance: PositiveFloat = 1e-6
    """Relative change of the coefficients at which their descent ends."""
    coefficients: Literal["warm", "uniform"] = "warm"
    """``warm``: go on from the last step's (the paper); ``uniform``: begin at 1/P in every step (the toolbox of
    Witches' Brew)."""
