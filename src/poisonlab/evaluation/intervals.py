"""Intervals of measured numbers and tests of paired ones.

A yes or no over n runs is a proportion, a rate within each run a bounded mean, and test accuracy a mean. Two defenses
against the same poisons are paired. Rates are fractions in [0, 1] here; only tables use percent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.integrate import quad
from scipy.optimize import brentq

MAX_ENUMERATED_PAIRS = 20
RANDOM_FLIPS = 100_000
FLIP_SEED = 1935
_ROUNDING = 1e-9
"""Relative spread up to which numbers count as equal."""

Floats = Sequence[float] | npt.NDArray[np.floating]
Outcomes = Sequence[bool] | npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Interval:
    """An estimate with the confidence interval around it.

    ``low`` and ``high`` are nan where the data cannot bound the estimate; ``n`` counts the observations.
    """

    estimate: float
    low: float
    high: float
    n: int

    def contains(self, value: float) -> bool:
        """Whether ``low <= value <= high``, ends included; False where the bounds or the value are nan."""
        return self.low <= value <= self.high


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a binomial proportion, without continuity correction.

    Unlike the estimate's own standard error, it has a width at 0 of n and n of n, too.

    Args:
        successes: how many of the n runs succeeded, 0 to n.
        n: number of runs, at least 1.
        level: confidence, strictly between 0 and 1.

    Returns:
        Fractions in [0, 1].

    Raises:
        ValueError: no runs, no counts, successes outside 0 to n, or an impossible level.

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    _check_level(level)
    if n < 1:
        raise ValueError(f"a proportion needs at least one run, got n={n}")
    if successes != int(successes) or n != int(n):
        raise ValueError(f"successes {successes:g} of n={n:g} are no counts: use mean_of_shares for shares")
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie between 0 and n={n}, got {successes}")
    bounds = stats.binomtest(int(successes), int(n)).proportion_ci(confidence_level=level, method="wilson")
    return Interval(successes / n, float(bounds.low), float(bounds.high), int(n))


def mean_t(values: Floats, level: float = 0.95) -> Interval:
    """Student's t interval of a mean.

    Args:
        values: (n,) finite numbers, n at least 1, in any unit.
        level: confidence, strictly between 0 and 1.

    Returns:
        The mean and its bounds, in the unit of ``values``. A single value and equal values tell no spread: both bounds
        are nan then.

    Raises:
        ValueError: no values, more than one axis, a value that is not finite, or an impossible level.

    Source: Student (1908), The probable error of a mean.
    """
    _check_level(level)
    sample = _numbers(values, "values")
    n = len(sample)
    mean = float(sample.mean())
    # Differences that are equal on paper, such as 0.6 - 0.55 and 0.5 - 0.45, differ by rounding.
    if n == 1 or np.ptp(sample) <= _ROUNDING * np.abs(sample).max():
        return Interval(mean, math.nan, math.nan, n)
    standard_error = float(sample.std(ddof=1)) / math.sqrt(n)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * standard_error
    return Interval(mean, mean - half, mean + half, n)


def mean_of_shares(values: Floats, level: float = 0.95) -> Interval:
    """Gaffke's interval of the mean of numbers in [0, 1], whatever their distribution.

    Attacks work on some poison sets and fail on others, so rates pile up at 0 and 1. Student's t is wrong there: with
    equal rates it has no width, and the spread within each victim says nothing about poison sets with another outcome.
    This interval covers the mean of every distribution on [0, 1], also at n = 1 and at the ends. For rates that are all
    0 or 1, it is Clopper and Pearson's interval. With many seeds, it is little wider than Student's.

    The upper bound is a quantile of ``w[0] x[0] + ... + w[n-1] x[n-1] + w[n]`` with weights uniform on the simplex
    (Dirichlet); the lower bound mirrors it.

    Args:
        values: (n,) numbers in [0, 1], n at least 1.
        level: confidence, strictly between 0 and 1.

    Raises:
        ValueError: no values, more than one axis, a value outside [0, 1], or an impossible level.

    Source: Gaffke (2005), Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
    variable; Learned-Miller and Thomas (2019), A new confidence interval for the mean of a bounded random variable. Its
    coverage is proven for yes or no, and has been found in every simulation since.
    """
    _check_level(level)
    sample = _numbers(values, "values")
    if sample.min() < 0 or sample.max() > 1:
        raise ValueError("values must lie in [0, 1]")
    low, high = 1 - _upper_mean(1 - sample, level), _upper_mean(sample, level)
    return Interval(float(sample.mean()), low, high, len(sample))


def _upper_mean(sample: npt.NDArray[np.float64], level: float) -> float:
    values = np.append(sample, 1.0)
    if values.min() == 1:
        return 1.0
    return float(brentq(lambda x: _share_below(values, x) - (1 + level) / 2, values.min(), 1.0))


def _share_below(values: npt.NDArray[np.float64], x: float) -> float:
    """The probability that the mean of ``values`` with uniform weights on the simplex is at most ``x``.

    These weights are exponential variables divided by their sum. So the result is the probability that a sum of
    exponentials with the scales ``values - x`` is not positive, found by inverting its characteristic function (Imhof
    1961).
    """
    scales = (values - x) / np.abs(values - x).max()

    def integrand(t: float) -> float:
        reach = scales * t
        angle, size = float(np.arctan(reach).sum()), math.exp(-float(np.log1p(reach**2).sum()) / 2)
        return math.sin(angle) * size / t

    return 0.5 - float(quad(integrand, 0, np.inf, limit=200)[0]) / math.pi


def mcnemar_exact(first: Outcomes, second: Outcomes) -> float:
    """Exact two-sided p of McNemar's test: are the paired outcomes equally often true?

    Only pairs that disagree carry evidence; under the null hypothesis each of them falls either way like
    a fair coin.

    Args:
        first: (n,) booleans, for example poison success under one defense, run by run.
        second: (n,) booleans of the same runs under the other defense, in the same order.

    Returns:
        A p-value in (0, 1]; 1.0 where no pair disagrees.

    Raises:
        ValueError: no pairs, unequal lengths, or entries that are neither true nor false.

    Source: McNemar (1947), Note on the sampling error of the difference between correlated proportions or
    percentages.
    """
    a, b = _outcomes(first, "first"), _outcomes(second, "second")
    _check_pairs(len(a), len(b))
    only_first = int((a & ~b).sum())
    discordant = int((a ^ b).sum())
    if discordant == 0:
        return 1.0
    return float(stats.binomtest(only_first, discordant, 0.5).pvalue)


def paired_permutation(first: Floats, second: Floats) -> float:
    """Two-sided sign-flip test of paired numbers: whether the two sides are exchangeable.

    If both sides are alike, each difference could as well have the other sign. A small p says that they are not alike.
    It says that their means differ only if the differences are not skewed. All sign patterns are enumerated for up to
    20 pairs; beyond that 100,000 are drawn with a fixed seed, so the same data always give the same p.

    Args:
        first: (n,) finite numbers, for example per-run success rates under one defense.
        second: (n,) finite numbers of the same runs under the other defense, in the same order.

    Returns:
        The share of sign patterns whose mean is at least as far from zero as the observed one, the observed pattern
        counted: a p-value in (0, 1].

    Raises:
        ValueError: no pairs, unequal lengths, more than one axis, or a number that is not finite.

    Source: Fisher (1935), The Design of Experiments, section 21; drawn patterns are counted together with the observed
    one after Phipson and Smyth (2010).
    """
    a, b = _numbers(first, "first"), _numbers(second, "second")
    _check_pairs(len(a), len(b))
    differences = a - b
    # Patterns that tie with the observed one on paper differ from it by rounding errors, which grow with the inputs,
    # not with their difference.
    tolerance = 1e-12 * float(np.abs(a).sum() + np.abs(b).sum())
    threshold = abs(float(differences.sum())) - tolerance
    if len(differences) <= MAX_ENUMERATED_PAIRS:
        return float(np.mean(np.abs(_all_signed_sums(differences)) >= threshold))
    extreme = int((np.abs(_random_signed_sums(differences)) >= threshold).sum())
    return (extreme + 1) / (RANDOM_FLIPS + 1)


def holm(p_values: Floats) -> list[float]:
    """Holm's step-down correction of a family of p-values.

    Args:
        p_values: (n,) p-values in [0, 1], n at least 1; nan marks a comparison that could not be made.

    Returns:
        The adjusted p-values in the given order, in [0, 1] and never below the raw ones. A nan stays nan and
        does not count as a member of the family.

    Raises:
        ValueError: no p-values, more than one axis, or one outside [0, 1].

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    raw = _vector(p_values, "p_values")
    present = ~np.isnan(raw)
    if ((raw[present] < 0) | (raw[present] > 1)).any():
        raise ValueError("p-values must lie in [0, 1]")
    adjusted = np.full_like(raw, math.nan)
    if present.any():
        family = raw[present]
        order = np.argsort(family, kind="stable")
        stepped = np.maximum.accumulate(family[order] * np.arange(len(family), 0, -1))
        # Not statsmodels' version, which collects all garbage at every call.
        adjusted[np.flatnonzero(present)[order]] = np.minimum(stepped, 1)
    return [float(p) for p in adjusted]


def _all_signed_sums(differences: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The (2**n,) sums of ``differences`` (n,) under every choice of signs."""
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    return sums


def _random_signed_sums(differences: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The (RANDOM_FLIPS,) sums of ``differences`` (n,) under random signs."""
    rng = np.random.default_rng(FLIP_SEED)
    sums = np.zeros(RANDOM_FLIPS)
    # One pair at a time keeps memory at RANDOM_FLIPS numbers, however many pairs there are.
    for difference in differences:
        sums += np.where(rng.random(RANDOM_FLIPS) < 0.5, difference, -difference)
    return sums


def _vector(values: Floats | Outcomes, name: str) -> npt.NDArray[np.float64]:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0:
        raise ValueError(f"{name} must be one non-empty row of numbers, got shape {vector.shape}")
    return vector


def _numbers(values: Floats, name: str) -> npt.NDArray[np.float64]:
    vector = _vector(values, name)
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} must be finite")
    return vector


def _outcomes(values: Outcomes, name: str) -> npt.NDArray[np.bool_]:
    vector = _vector(values, name)
    # A plain cast would take a rate such as 0.3 for true.
    if not np.isin(vector, (0.0, 1.0)).all():
        raise ValueError(f"{name} must hold booleans; compare rates with paired_permutation")
    return vector.astype(np.bool_)


def _check_pairs(n_first: int, n_second: int) -> None:
    if n_first != n_second:
        raise ValueError(f"pairs need equal lengths, got {n_first} and {n_second}")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
