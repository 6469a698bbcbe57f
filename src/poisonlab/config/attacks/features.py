"""Settings shared by the attacks that move poisons in feature space."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from poisonlab.config.attacks.attack import TargetedAttack
from poisonlab.config.attacks.unseen_target import UnseenTarget
from poisonlab.config.types import LATER, NonNegativeFloat, PositiveFloat, PositiveInt


class FeatureAttack(TargetedAttack):
    """Adam on the distance between features of poisons and target."""

    steps: PositiveInt = 1200
    """Steps of Adam."""
    lr: PositiveFloat = 0.04
    """Step of Adam, in the units of ``space``."""
    space: Annotated[Literal["pixels", "normalised"], LATER] = "pixels"
    """Where Adam steps. ``normalised``: ``lr`` is in standard deviations of each channel, as in the code of Bullseye
    Polytope, of convex polytope, of the public benchmark and of the toolbox, whose signed Adam has 0.1. ``pixels``: it
    is in units of the [0, 1] pixel range, about four or five times as far."""
    optimizer: Literal["adam", "signed-adam"] = "adam"
    """``adam``: the public benchmark's; ``signed-adam``: Adam on the gradient's sign, tenfold drops of the step at
    floor(steps / 2.667), / 1.6 and / 1.142, as in the toolbox of Witches' Brew."""
    start: Literal["base", "random"] = "base"
    """Start at the base image, or within the bound around it."""
    augment: bool = False
    """Augment the poisons while crafting, as the surrogates were."""
    dropout: bool = False
    """Keep the surrogates' dropout active while crafting (convex polytope); batch norm never is."""
    blocks: Annotated[Annotated[int, Field(ge=0)] | Literal["all"], LATER] = 0
    """Number of blocks before the last one whose outputs are matched, too; the mean of their distances and that of the
    penultimate features is minimised. This attacks victims that are fine-tuned end to end. The code of convex polytope
    and of Bullseye Polytope takes 1 block in residual networks, and all in DenseNet."""
    watermark: NonNegativeFloat = 0.0
    """Opacity of a faint copy of the target in every base before crafting (Poison Frogs); the bound still holds."""
    unseen_target: Annotated[UnseenTarget | None, LATER] = None
    """Attack a training image that no network was trained on, in place of a test image."""

    @model_validator(mode="after")
    def _check_target(self) -> FeatureAttack:
        if self.unseen_target is not None and (self.setup is not None or self.target == "recognised"):
            other = "target: recognised" if self.setup is None else "setup"
            raise ValueError(f"attack {self.name!r}: unseen_target says which image is attacked: leave out {other}")
        return self
