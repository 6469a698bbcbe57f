"""Settings of the claims about attacks without a goal, which findings test against the results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from poisonlab.config.types import Name, PositiveFloat, Settings, distinct

SeriesName = Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*$")]
Series = Annotated[tuple[Name, ...], Field(min_length=2), AfterValidator(distinct)]


class PoisonClaims(Settings):
    """Claims about poisons of whole training sets, from "Poisons that are learned faster are more effective"
    (Sandoval-Segura et al. 2022). Each is confirmed, contradicted or undecided.

    Poisons that are learned faster leave a lower peak accuracy. Confirmed where the bootstrap interval of Spearman's
    correlation over the attacks lies above 0, contradicted where it lies below 0. Either also needs p below 0.05 in a
    permutation test. Attacks whose loss is not low with every seed are tied as the slowest. The correlation without
    them is reported, too.

    The final accuracy does not tell the peak. Confirmed where that interval lies between -``close`` and ``close``,
    contradicted where it lies beyond one of them with p below 0.05. Fewer than five attacks leave both claims
    undecided.

    Stronger attacks are no stronger poisons. The change of peak accuracy between neighbours in a series is paired by
    seed. Its intervals hold for all pairs at once. Confirmed where one interval lies above 0, contradicted where all
    pairs have one and all lie below 0. Two seeds cannot settle six pairs: their intervals reach 54 standard deviations
    of the differences to each side. Those of five seeds reach 2.2.

    A further finding tests no claim of the paper. It is the test accuracy that early stopping loses if its validation
    images are poisoned like the training set.
    """

    close: Annotated[PositiveFloat, Field(lt=1)] = 0.8
    """Size of a rank correlation from which one measure is said to tell the other."""
    stronger: Mapping[SeriesName, Series] = {}
    """Series of attacks by any name, each from the weakest to the strongest: ``{pgd: [p10, p100, p250]}``."""
