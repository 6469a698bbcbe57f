"""Settings of a dataset whose images to fine-tune on come last in each class."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from poisonlab.config.data.source import Source
from poisonlab.config.types import PositiveInt


class SetApart(Source):
    """Settings that the dataset's job has of its own; those of the source that it reads come on top."""

    source: Literal["set-apart"]
    last_per_class: PositiveInt = 200
    """How many images of each class no network is pretrained on."""
    first: PositiveInt = 50
    """How many of these, from the first one on, go to the end of their class."""

    @model_validator(mode="after")
    def _check_first(self) -> SetApart:
        if self.first > self.last_per_class:
            raise ValueError(f"first {self.first} of the last {self.last_per_class} images: lower first")
        return self
