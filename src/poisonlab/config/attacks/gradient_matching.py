"""Settings of gradient matching."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.types import Fraction, Name, PositiveFloat, PositiveInt, PositiveLevels, Settings


class GradientMatching(Settings):
    """Gradient matching, from scratch (Witches' Brew, Geiping et al. 2021)."""

    name: Name
    method: Literal["gradient-matching"] = "gradient-matching"
    surrogate: Name
    """Name of an entry of ``surrogates``."""
    ensemble: PositiveInt = 1
    """Surrogates per seed; their matching losses are averaged."""
    budget: Fraction = 0.01
    """Poisons as a fraction of the training set."""
    target: Literal["random", "recognised"] = "random"
    """``random``: any test image of the target class (Witches' Brew); ``recognised``: one that all surrogates classify
    correctly, so that a success is not just an ambiguous image (as in the deep k-NN paper)."""
    eps: PositiveLevels = 16.0
    """Bound on every pixel's change, in levels of 1/255 (xi in FRIENDS)."""
    steps: PositiveInt = 250
    restarts: PositiveInt = 8
    restarts_at_once: PositiveInt = 1
    """Restarts computed in one batched pass; does not change the result beyond rounding."""
    tau: PositiveFloat = 0.1
    """First step of signed Adam, in normalised units, for a batch of 512 poisons and one surrogate."""
    batch_size: PositiveInt = 512
    target_criterion: Literal["cross-entropy", "carlini-wagner"] = "cross-entropy"
    """Loss of the target whose gradient is matched."""
    precision: Literal["uint8", "float32"] = "uint8"
    """Whether poisons are shipped as 8-bit images."""
    crafting_precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the network's forward and backward passes while crafting."""
    published: PositiveInt | None = None
    """Table of the FRIENDS paper that the results are set beside."""
