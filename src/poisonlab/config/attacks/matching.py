"""Common settings of the attacks that match gradients."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from poisonlab.config.attacks.attack import CraftedAttack
from poisonlab.config.defenses.random_noise import RandomNoise
from poisonlab.config.types import LATER, Name, NonNegativeFloat, PositiveFloat, PositiveInt, Settings


class Adaptation(Settings):
    """What the attacker knows of the defense and uses in crafting (FRIENDS, section 4.2.2 and table 5)."""

    random_noise: RandomNoise | None = None
    """Random noise in the attacker's augmentation: fresh in every step of crafting, and while surrogates are
    retrained."""
    friendly_attack: Name | None = None
    """Friendly noise of an earlier run, fixed: the attack it was made under, ..."""
    friendly_defense: Name | None = None
    """... and the defense that made it; the same seed's is taken."""

    @model_validator(mode="after")
    def _both(self) -> Adaptation:
        if (self.friendly_attack is None) != (self.friendly_defense is None):
            raise ValueError("give both friendly_attack and friendly_defense, or neither")
        if self.friendly_attack is None and self.random_noise is None:
            raise ValueError("adaptation needs random_noise, or friendly_attack and friendly_defense")
        return self


class MatchingAttack(CraftedAttack):
    """Signed Adam on the angle between the poisons' gradient and the attacker's."""

    steps: PositiveInt = 250
    """Steps of signed Adam."""
    tau: PositiveFloat = 0.1
    """First step of signed Adam, in normalised units, for a batch of 512 poisons and one surrogate."""
    batch_size: PositiveInt = 512
    """Poisons per gradient that is matched."""
    target_criterion: Literal["cross-entropy", "carlini-wagner"] = "cross-entropy"
    """Loss of the attacker's images whose gradient is matched."""
    poison_criterion: Annotated[Literal["cross-entropy", "carlini-wagner"], LATER] = "cross-entropy"
    """The poisons' own loss, whose gradient is matched; the releases of Witches' Brew and Sleeper Agent take
    ``target_criterion`` for both. With ``carlini-wagner``, poisons that a surrogate gives their label have no margin
    and do not move."""
    crafting_precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the network's forward and backward passes while crafting."""
    derivative: Annotated[Literal["exact", "differences"], LATER] = "exact"
    """How the matching loss is differentiated: ``exact``, by differentiating twice, as published; or by central
    ``differences`` of ordinary gradients at moved weights, which is faster, takes a fraction of the memory and needs no
    second derivative of any layer."""
    difference: Annotated[PositiveFloat, LATER] = 0.03
    """With ``differences``, the step to each side as a share of the weights' norm."""
    sharpness: Annotated[NonNegativeFloat, LATER] = 0.0
    """Match the gradient at the worst weights within this distance, where the attacker's loss is largest to first order
    (Sharpness-Aware Data Poisoning Attack, He et al. 2024, which takes 0.05); 0: at the surrogate's own weights."""
    adaptation: Adaptation | None = None
    """Knowledge of the defense; none if not given."""
