"""Settings of gradient matching."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.attacks.attack import Attack
from poisonlab.config.types import PositiveFloat, PositiveInt


class GradientMatching(Attack):
    """Gradient matching, from scratch (Witches' Brew, Geiping et al. 2021); an ensemble's losses are averaged."""

    method: Literal["gradient-matching"] = "gradient-matching"
    target: Literal["random", "recognised"] = "random"
    """``random``: any test image of the target class (Witches' Brew); ``recognised``: one that all surrogates classify
    correctly, so that a success is not just an ambiguous image (as in the deep k-NN paper)."""
    steps: PositiveInt = 250
    """Steps of signed Adam."""
    restarts: PositiveInt = 8
    """Random starts; the one with the lowest loss at the last step is kept."""
    restarts_at_once: PositiveInt = 1
    """Restarts computed in one batched pass; does not change the result beyond rounding."""
    tau: PositiveFloat = 0.1
    """First step of signed Adam, in normalised units, for a batch of 512 poisons and one surrogate."""
    batch_size: PositiveInt = 512
    """Poisons per gradient that is matched."""
    target_criterion: Literal["cross-entropy", "carlini-wagner"] = "cross-entropy"
    """Loss of the target whose gradient is matched."""
    precision: Literal["uint8", "float32"] = "uint8"
    """Whether poisons are shipped as 8-bit images."""
    crafting_precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the network's forward and backward passes while crafting."""
