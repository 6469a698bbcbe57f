"""Settings of strong augmentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from poisonlab.config.types import PositiveFloat, PositiveInt, Settings

CUTOUT = 0.66
"""Share of the image's area that cutout's box leaves at ``alpha`` 1."""


class StrongAugmentation(Settings):
    """Train on mixtures of images, or on images with a hole (Borgnia et al. 2021)."""

    method: Literal["strong-augmentation"] = "strong-augmentation"
    kind: Literal["mixup", "cutmix", "cutout"]
    """``mixup``: weighted sums of images and of their labels; ``cutmix``: a box of another image, in half of the
    batches; ``cutout``: a box of the mean colour, the same for the whole batch."""
    alpha: PositiveFloat = 1.0
    """Strength. Of ``mixup`` and ``cutmix``: the parameter of the symmetric Dirichlet or beta distribution that weights
    and areas come from; 1 is uniform. ``cutout``: the box's sides are sqrt(1 - 0.66 alpha) of the image's, so that a
    larger alpha cuts out less."""
    ways: Annotated[int, Field(ge=2)] = 2
    """How many images ``mixup`` mixes."""
    copies: PositiveInt = 1
    """Copies of each image, each mixed or cut independently, of which the worst is trained on (maxup; 4 as published).
    1: off."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 5
    """First epochs, with one copy of each image even if ``copies`` is larger; in that case fewer than the victim's
    epochs."""

    @model_validator(mode="after")
    def _check_kind(self) -> StrongAugmentation:
        if self.ways != 2 and self.kind != "mixup":
            raise ValueError(f"ways: {self.ways} is for mixup only: leave it out for {self.kind}")
        if self.kind == "cutout" and CUTOUT * self.alpha > 1:
            raise ValueError(f"alpha {self.alpha:g} leaves cutout no box: choose at most 1.5")
        return self
