"""Settings of the random filter."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.filters.filter import Filter


class RandomFilter(Filter):
    """Drop a share of all examples by chance, the baseline of every filter (Peri et al. 2020)."""

    method: Literal["random-filter"] = "random-filter"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of all examples that is dropped; the paper's text says 0.01, its tables show 0.1."""
