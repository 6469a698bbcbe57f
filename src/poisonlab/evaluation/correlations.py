"""How two numbers of each attack go together: correlations with bootstrap intervals over the attacks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from poisonlab.evaluation.intervals import Floats, Interval

RESAMPLES = 10_000
_SEED = 2022


@dataclass(frozen=True)
class Correlation:
    """Both coefficients of the same pairs."""

    pearson: Interval
    spearman: Interval


def correlation(x: Floats, y: Floats, level: float = 0.95) -> Correlation:
    """Pearson's and Spearman's correlation of pairs.

    Args:
        x: (n,) finite numbers.
        y: (n,) finite numbers, the partners.
        level: confidence of the percentile intervals, over resampled pairs; always the same draws.

    Returns:
        Estimates in [-1, 1]; nan for fewer than three pairs and where one side is constant. Bounds come from the
        resamples that are not constant, and are nan where the estimate is.

    Raises:
        ValueError: the lengths differ.
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (x, y))
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"pairs need two lists of one length, not {first.shape} and {second.shape}")
    count = len(first)
    if count < 3:
        nothing = Interval(float("nan"), float("nan"), float("nan"), count)
        return Correlation(nothing, nothing)
    drawn = np.random.default_rng(_SEED).integers(count, size=(RESAMPLES, count))
    every = np.concatenate([np.arange(count)[None], drawn])
    values = first[every], second[every]
    ranks = tuple(rankdata(each, axis=1) for each in values)
    return Correlation(_interval(_pearson(*values), count, level), _interval(_pearson(*ranks), count, level))


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,) of (R, n) pairs in rows; nan where a side is constant."""
    constant = (np.ptp(x, axis=1) == 0) | (np.ptp(y, axis=1) == 0)
    x, y = (each - each.mean(1, keepdims=True) for each in (x, y))
    size = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    found: NDArray[np.float64] = np.where(constant, np.nan, (x * y).sum(1) / np.where(size > 0, size, 1))
    return found


def _interval(found: NDArray[np.float64], count: int, level: float) -> Interval:
    """The first is the estimate, the others are resamples."""
    if np.isnan(found[0]):
        return Interval(float("nan"), float("nan"), float("nan"), count)
    low, high = np.nanquantile(found[1:], [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(found[0]), float(low), float(high), count)
