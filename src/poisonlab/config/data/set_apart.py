"""Settings of a dataset in which the images for fine-tuning come last in each class."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from poisonlab.config.data.source import Source
from poisonlab.config.types import PositiveInt


class SetApart(Source):
    """Settings of the dataset's own job, besides those of the source that it reads."""

    source: Literal["set-apart"]
    last_per_class: PositiveInt = 200
    """How many images of each class no network is pretrained on."""
    first: PositiveInt = 50
    """How many of these images, counted from the first, move to the end of their class."""

    @model_validator(mode="after")
    def _check_first(self) -> SetApart:
        if self.first > self.last_per_class:
            raise ValueError(f"first ({self.first}) exceeds last_per_class ({self.last_per_class}): lower first")
        return self
