"""Settings of the validation split: apart from the sources, because every training reads it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from poisonlab.config.types import PositiveInt, Settings


class Validation(Settings):
    """Training images that no victim is trained on, for watching the training."""

    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of every class, rounded, and at least one image."""
    per_class: PositiveInt | None = None
    """Number of images of every class."""
    poisoned: bool = False
    """False: it is taken from the clean images, before poisoning, so an attack cannot poison it. True: it is taken from
    each poisoned training set, by the labels there, and may hold poisons."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the draw."""

    @model_validator(mode="after")
    def _one_size(self) -> Validation:
        if (self.share is None) == (self.per_class is None):
            raise ValueError("validation: give either share or per_class")
        return self
