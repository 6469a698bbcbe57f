"""Settings of the transfer of poisons to networks that were trained on clean data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from poisonlab.config.types import Name, PositiveInt, Settings, distinct

Score = Literal["misclassified", "agreement"]


Several = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(distinct)]


class Transfer(Settings):
    """A table of how many poisons clean networks misclassify ("Poisons that are learned faster", table 2)."""

    networks: Several
    """The surrogates that classify the poisons, one network of each per seed. Published numbers of ``resnet18`` have
    the measure ``transfer_resnet18``."""
    attacks: Several
    """The attacks whose poisons they classify."""
    score: Score = "misclassified"
    """``misclassified``: share of the poisons that do not get their label. ``agreement``, as the paper's code counts:
    misclassified poisons with a correct clean image, plus correct poisons with a misclassified clean image, over the
    number of correct clean images."""
    table: PositiveInt | None = None
    """Number of the paper's table with the published numbers. Its rows have the name in each attack's first
    ``published`` place."""
