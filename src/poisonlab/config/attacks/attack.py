"""What every attack's settings have in common."""

from __future__ import annotations

from pydantic import Field

from poisonlab.config.types import Fraction, Name, PositiveInt, PositiveLevels, Settings


class Attack(Settings):
    """Settings that the workflow asks of every attack; its own come on top."""

    name: Name
    """Names the attack's folder and its rows in the tables."""
    method: str
    """Names the module of ``poisonlab.attacks`` that crafts the poisons."""
    surrogate: Name
    """Name of an entry of ``surrogates``: the network the attacker crafts on."""
    ensemble: PositiveInt = 1
    """Surrogates per seed."""
    budget: Fraction = 0.01
    """Poisons as a fraction of the training set."""
    eps: PositiveLevels = 16.0
    """Bound on every pixel's change, in levels of 1/255 (xi in FRIENDS)."""
    published: PositiveInt | None = Field(default=None, le=6)
    """Table of the FRIENDS paper that the results are set beside."""
