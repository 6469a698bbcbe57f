"""Settings of feature collision as the authors of Poison Frogs optimise it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from poisonlab.config.attacks.attack import TargetedAttack
from poisonlab.config.types import ClassLabel, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, PositiveLevels


class FeatureCollision(TargetedAttack):
    """Poison Frogs by forward-backward splitting, in the protocol of its authors and of the deep k-NN paper."""

    method: Literal["feature-collision"] = "feature-collision"
    budget: Fraction = 0.001
    """Poisons as a fraction of the images that the victim is trained on; 50 of CIFAR-10's 50,000."""
    eps: PositiveLevels = 255.0
    """Bound on every pixel's change, in levels of 1/255. Poisons are clipped to it only when they are shipped; the
    authors have no bound."""
    target: Literal["random", "recognised"] = "recognised"
    """``random``: any test image of the target class; ``recognised``: one that all surrogates classify correctly."""
    target_label: ClassLabel | None = None
    """True class of the target, by name or number; drawn by the seed if not given."""
    adversarial_label: ClassLabel | None = None
    """Class the attacker wants, that of the bases, by name or number; drawn by the seed if not given."""
    bases: Literal["test", "train"] = "test"
    """``test``: poisons are made of test images and appended to the training set (the authors'); ``train``: they
    replace training images."""
    steps: PositiveInt = 12_000
    """Most steps; a poison that hardly changes any more stops earlier (``tolerance``)."""
    lr: PositiveFloat = 0.01
    """First step of Adam, in units of the [0, 1] pixel range; each poison has its own."""
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Factor on a poison's step when its distance did not fall; that step is undone."""
    tolerance: NonNegativeFloat = 1e-5
    """A poison stops when a step changes it by less than this share of its length."""
    beta: NonNegativeFloat = 0.1
    """Pull to the watermarked base in the backward step, (x + lr beta w) / (1 + lr beta)."""
    watermark: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Opacity of the target in the watermarked base, where the optimisation starts."""

    @model_validator(mode="after")
    def _check_threat(self) -> FeatureCollision:
        given = self.target_label, self.adversarial_label
        if (given[0] is None) != (given[1] is None):
            raise ValueError(f"attack {self.name!r}: give both target_label and adversarial_label, or neither")
        if given[0] is not None and given[0] == given[1]:
            raise ValueError(f"attack {self.name!r}: target_label and adversarial_label are both {given[0]}")
        if self.setup is not None and (self.bases == "test" or given[0] is not None):
            cure = "set bases: train" if self.bases == "test" else "leave out the labels"
            raise ValueError(f"attack {self.name!r}: a setup names classes and training images as bases: {cure}")
        return self
