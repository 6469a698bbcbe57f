"""Settings of a claim about filters, which findings test against the results."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from poisonlab.config.types import Fraction, Settings


class FilterClaim(Settings):
    """A filter finds almost all poisons and costs hardly any accuracy.

    Only rows that do nothing but filter are tested. The claim is confirmed if the intervals of both numbers keep to its
    limits, contradicted if one lies beyond them, and otherwise undecided. Seeds are the units, because poisons of one
    seed are found or missed together. Even without a miss, confirming 99 % takes 368 seeds, and 90 % takes 36. A few
    seeds may contradict the claim.
    """

    found: Fraction = 0.99
    """Share of the poisons that a filter finds; 0.99 in the deep k-NN paper."""
    cost: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The most test accuracy that a filter may cost, as a share; the paper claims no compromise, without a number."""
