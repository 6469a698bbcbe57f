"""Correlations between two numbers of each attack, with bootstrap intervals and a permutation test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test, rankdata

from poisonlab.evaluation.intervals import Floats, Interval

RESAMPLES = 10_000
_SEED = 2022
_LEVEL = 0.95
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """Both coefficients of the same pairs.

    Attributes:
        p: two-sided p of Spearman's correlation under random pairing, exact up to seven pairs. The bootstrap's interval
            alone is too short for few pairs or many ties: with five unrelated pairs it excludes 0 in 13 % of the cases.
    """

    pearson: Interval
    spearman: Interval
    p: float


def correlation(x: Floats, y: Floats) -> Correlation:
    """Pearson's and Spearman's correlation of pairs.

    Args:
        x: (n,) numbers. Infinite ones stand for events that did not happen in time (censored): Spearman's correlation
            ties them beyond all others, Pearson's leaves them out.
        y: (n,) finite numbers, the partners.

    Returns:
        Estimates in [-1, 1]; nan, like the bounds and p, for fewer than three pairs or a constant side. Intervals are
        the percentiles (95 %) over resampled pairs, always the same draws. A constant resample has the correlation 0.
        Each ``n`` counts the pairs.

    Raises:
        ValueError: the lengths differ.
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (x, y))
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"pairs need two lists of one length, not {first.shape} and {second.shape}")
    seen = np.isfinite(first)
    pairs, (x_drawn, y_drawn) = _resampled(first[seen], second[seen]), _resampled(first, second)
    ranks = rankdata(x_drawn, axis=1), rankdata(y_drawn, axis=1)
    spearman = _interval(*ranks)
    p = float("nan") if np.isnan(spearman.estimate) else _by_chance(ranks[0][0], ranks[1][0])
    return Correlation(_interval(*pairs), spearman, p)


def _by_chance(x: _Array, y: _Array) -> float:
    """Share of random pairings that correlate as strongly as ``x`` (n,) and ``y`` (n,); neither is constant."""

    def strength(dealt: _Array, axis: int) -> _Array:
        assert axis == -1
        return _pearson(dealt, np.broadcast_to(y, dealt.shape)).round(12)

    tested = permutation_test(
        (x,),
        strength,
        permutation_type="pairings",
        n_resamples=RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(_SEED),
    )
    return float(tested.pvalue)


def _resampled(x: _Array, y: _Array) -> tuple[_Array, _Array]:
    """Both sides (n,) of pairs as (1 + RESAMPLES, n): first the pairs themselves, then pairs drawn with replacement."""
    count = len(x)
    drawn = np.random.default_rng(_SEED).integers(max(count, 1), size=(RESAMPLES, count))
    every = np.concatenate([np.arange(count)[None], drawn])
    return x[every], y[every]


def _pearson(x: _Array, y: _Array) -> _Array:
    """Pearson's correlation over the last axis; nan where a side is constant."""
    constant = (np.ptp(x, axis=-1) == 0) | (np.ptp(y, axis=-1) == 0)
    x, y = (each - each.mean(-1, keepdims=True) for each in (x, y))
    size = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    found: _Array = np.where(constant, np.nan, (x * y).sum(-1) / np.where(size > 0, size, 1))
    return found


def _interval(x: _Array, y: _Array) -> Interval:
    """The interval from (R, n) pairs; the first row is the sample, the others are resamples."""
    count = x.shape[1]
    found = _pearson(x, y) if count > 2 else np.array([np.nan])
    if np.isnan(found[0]):
        return Interval(float("nan"), float("nan"), float("nan"), count)
    low, high = np.quantile(np.nan_to_num(found[1:]), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(float(found[0]), float(low), float(high), count)
