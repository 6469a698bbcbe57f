"""Settings of the transfer of poisons to networks that were trained on clean data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from poisonlab.config.types import Name, PositiveInt, Settings

Score = Literal["misclassified", "agreement"]


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("names one twice")
    return names


Several = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_distinct)]


class Transfer(Settings):
    """A table of how many poisons clean networks misclassify ("Poisons that are learned faster", table 2)."""

    networks: Several
    """The surrogates that judge, one network of each per seed; a published number of ``resnet18`` is the measure
    ``transfer_resnet18``."""
    attacks: Several
    """Whose poisons they judge."""
    score: Score = "misclassified"
    """``misclassified``: share of the poisons that do not get their label. ``agreement``, as the paper's code counts:
    poisons of which just this holds if the clean image gets its label, and does not if not; over the clean images that
    do."""
    table: PositiveInt | None = None
    """The paper's table with the published numbers, in which rows are called as where ``published`` first says so."""
