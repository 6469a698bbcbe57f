"""Settings of the L2 filter."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.filters.filter import Filter


class L2Centroid(Filter):
    """Drop from every class the share that lies farthest from the class's centroid (Peri et al. 2020, baseline)."""

    method: Literal["l2-centroid"] = "l2-centroid"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of each class that is dropped; the published tables fit 0.01 and 0.1."""
