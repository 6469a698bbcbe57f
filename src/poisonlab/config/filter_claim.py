"""Settings of a claim on filters, which findings hold results against."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from poisonlab.config.types import Fraction, Settings


class FilterClaim(Settings):
    """A filter finds almost all poisons and costs hardly any accuracy.

    Only rows that do nothing but filter are held against it. It is confirmed where the intervals of both lie within it,
    contradicted where one lies beyond it, and otherwise undecided. Seeds are the units, as poisons of one seed are
    found or missed together. Even without a single miss it takes 368 seeds to confirm 99 %, or 36 to confirm 90. A few
    may be enough to contradict it.
    """

    found: Fraction = 0.99
    """Share of the poisons that it finds; 0.99 in the deep k-NN paper."""
    cost: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The most test accuracy that it may cost, as a share; the paper says no compromise, without a number."""
