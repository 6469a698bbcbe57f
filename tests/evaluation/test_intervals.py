from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from poisonlab.evaluation import intervals
from poisonlab.evaluation.intervals import (
    Interval,
    holm,
    mcnemar_exact,
    mean_of_shares,
    mean_t,
    paired_permutation,
    wilson,
)

ROOT = Path(__file__).resolve().parents[2]
probabilities = st.floats(0, 1)


def wilson_by_hand(successes: int, n: int, level: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate = float(Fraction(successes, n))
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return centre - half, centre + half


class TestInterval:
    def test_ends_belong_to_it(self) -> None:
        interval = Interval(0.5, 0.25, 0.75, 8)
        assert [interval.contains(value) for value in (0.24, 0.25, 0.5, 0.75, 0.76)] == [
            False,
            True,
            True,
            True,
            False,
        ]

    def test_unbounded_contains_nothing(self) -> None:
        assert not Interval(0.5, math.nan, math.nan, 1).contains(0.5)
        assert not Interval(0.5, 0.0, 1.0, 3).contains(math.nan)

    def test_is_frozen(self) -> None:
        with pytest.raises(AttributeError):
            Interval(0.5, 0.0, 1.0, 3).low = 0.1  # type: ignore[misc]


class TestWilson:
    @pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
    @pytest.mark.parametrize(
        ("successes", "n"), [(0, 1), (1, 1), (0, 20), (1, 20), (15, 20), (20, 20), (81, 263), (500, 1000)]
    )
    def test_closed_form(self, successes: int, n: int, level: float) -> None:
        interval = wilson(successes, n, level)
        assert (interval.low, interval.high) == pytest.approx(wilson_by_hand(successes, n, level), rel=1e-9, abs=1e-12)
        assert interval.estimate == successes / n
        assert interval.n == n

    def test_known_value(self) -> None:
        # Newcombe (1998), Two-sided confidence intervals for the single proportion, table I, method 3.
        interval = wilson(81, 263)
        assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)

    def test_extremes_reach_the_edge_exactly(self) -> None:
        assert wilson(0, 20).low == 0.0
        assert wilson(20, 20).high == 1.0
        assert wilson(0, 20).contains(0.0)
        assert wilson(20, 20).contains(1.0)

    @settings(deadline=None)
    @given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
    def test_ordered_symmetric_and_inside_the_unit_interval(self, case: tuple[int, int]) -> None:
        successes, n = case
        interval, mirrored = wilson(successes, n), wilson(n - successes, n)
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
        assert interval.low == pytest.approx(1 - mirrored.high, abs=1e-12)

    @pytest.mark.parametrize("n", [10, 20, 24, 50])
    def test_coverage_by_enumeration(self, n: int) -> None:
        every = [wilson(successes, n) for successes in range(n + 1)]
        rates = [k / 200 for k in range(10, 191)]
        coverage = [
            sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k, interval in enumerate(every) if interval.contains(p))
            for p in rates
        ]
        assert min(coverage) >= 0.89
        assert 0.94 <= sum(coverage) / len(coverage) <= 0.97

    @pytest.mark.parametrize(("successes", "n"), [(0.85, 20), (8.5, 20), (3, 4.5)])
    def test_shares_are_no_counts(self, successes: float, n: float) -> None:
        with pytest.raises(ValueError, match="are no counts: use mean_of_shares for shares"):
            wilson(successes, n)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("successes", "n", "level"),
        [(0, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 0.0), (1, 5, 1.0), (1, 5, 95.0)],
    )
    def test_refuses(self, successes: int, n: int, level: float) -> None:
        with pytest.raises(ValueError):
            wilson(successes, n, level)


class TestMeanT:
    @pytest.mark.parametrize(
        ("n", "quantile"), [(2, 12.706205), (3, 4.302653), (5, 2.776445), (10, 2.262157), (20, 2.093024)]
    )
    def test_against_the_t_table(self, n: int, quantile: float) -> None:
        values = [float(k) for k in range(1, n + 1)]
        # The integers 1..n have the sample variance n(n + 1)/12.
        half = quantile * math.sqrt(n * (n + 1) / 12) / math.sqrt(n)
        interval = mean_t(values)
        assert interval.estimate == pytest.approx((n + 1) / 2)
        assert interval.high - interval.estimate == pytest.approx(half, rel=1e-6)
        assert interval.estimate - interval.low == pytest.approx(half, rel=1e-6)
        assert interval.n == n

    @pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
    @pytest.mark.parametrize("n", [4, 9])
    def test_holds_the_stated_share_of_the_t_density(self, n: int, level: float) -> None:
        values = [float(k) for k in range(1, n + 1)]
        half_widths = (mean_t(values, level).high - (n + 1) / 2) / math.sqrt((n + 1) / 12)
        assert t_mass(half_widths, n - 1) == pytest.approx(level, abs=1e-9)

    def test_one_value_bounds_nothing(self) -> None:
        interval = mean_t([91.5])
        assert (interval.estimate, interval.n) == (91.5, 1)
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)

    # As arithmetic on decimals is not exact, the last two are not equal, but for readers.
    @pytest.mark.parametrize("values", [[0.5, 0.5, 0.5], [0.0, 0.0], [-0.2, -0.2], [0.6 - 0.57, 0.5 - 0.47]])
    def test_equal_values_bound_nothing(self, values: list[float]) -> None:
        interval = mean_t(values)
        assert (interval.estimate, interval.n) == (pytest.approx(values[0]), len(values))
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)

    def test_takes_arrays(self) -> None:
        assert mean_t(np.array([1.0, 2.0, 4.0])) == mean_t([1.0, 2.0, 4.0])

    @pytest.mark.parametrize("values", [[], [1.0, math.nan], [1.0, math.inf], np.ones((2, 2))])
    def test_refuses(self, values: list[float]) -> None:
        with pytest.raises(ValueError):
            mean_t(values)

    @pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
    def test_refuses_an_impossible_level(self, level: float) -> None:
        with pytest.raises(ValueError):
            mean_t([1.0, 2.0], level)


class TestMeanOfShares:
    @pytest.mark.parametrize("values", [[0.0], [0.0, 0.0], [1.0, 1.0, 1.0], [0, 1, 0, 0, 1], [1.0] * 7 + [0.0] * 13])
    def test_yes_or_no_gets_clopper_and_pearson_s(self, values: list[float]) -> None:
        interval = mean_of_shares(values)
        expected = stats.binomtest(int(sum(values)), len(values)).proportion_ci(method="exact")
        assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=1e-6)
        assert interval.n == len(values)

    @pytest.mark.parametrize("values", [[0.5], [0.998, 1, 1], [0.3, 0.35, 0.42], [0.0, 0.1, 0.4, 0.4, 0.9, 1.0]])
    def test_bounds_are_quantiles_of_randomly_weighted_means(self, values: list[float]) -> None:
        weights = np.random.default_rng(0).dirichlet(np.ones(len(values) + 1), 200_000)
        interval = mean_of_shares(values, 0.9)
        assert interval.high == pytest.approx(np.quantile(weights @ [*values, 1.0], 0.95), abs=0.004)
        assert interval.low == pytest.approx(np.quantile(weights @ [*values, 0.0], 0.05), abs=0.004)

    @pytest.mark.parametrize("n", [2, 3, 5])
    @pytest.mark.parametrize(
        "distribution",
        [
            # Never, seldom, sometimes and mostly on the whole; works or fails; two kinds of poison sets.
            {0.0: 1.0},
            {0.0: 0.8, 0.1: 0.2},
            {0.0: 0.7, 0.9: 0.3},
            {0.98: 0.2, 1.0: 0.8},
            {0.0: 0.5, 1.0: 0.5},
            {0.02: 0.4, 0.5: 0.3, 0.95: 0.3},
            {0.45: 0.3, 0.5: 0.4, 0.55: 0.3},
        ],
    )
    def test_covers_the_mean_of_any_distribution(self, distribution: dict[float, float], n: int) -> None:
        """By enumeration of all samples; Student's t covers as little as a third of the time."""
        mean = sum(value * chance for value, chance in distribution.items())
        covered = 0.0
        for sample in itertools.combinations_with_replacement(distribution, n):
            counts = [sample.count(value) for value in distribution]
            orders = math.factorial(n) // math.prod(map(math.factorial, counts))
            chance = orders * math.prod(distribution[value] for value in sample)
            interval = mean_of_shares(sample)
            covered += chance * (interval.low - 1e-6 <= mean <= interval.high + 1e-6)
        assert covered >= 0.95

    def test_covers_the_mean_of_rates_that_pile_up_at_an_end(self) -> None:
        """Rates of 100 targets, two poison sets each, most of which hardly work: a simulation."""
        rng = np.random.default_rng(7)
        rates = rng.binomial(100, rng.beta(0.2, 3.8, (150, 2))) / 100
        ours = [mean_of_shares(pair) for pair in rates]
        assert sum(interval.low <= 0.05 <= interval.high for interval in ours) >= 0.95 * len(rates)
        students = [mean_t(pair) for pair in rates]
        assert sum(interval.contains(0.05) for interval in students) < 0.8 * len(rates)

    @pytest.mark.parametrize("n", [4, 8])
    def test_covers_the_mean_of_confidences_where_student_s_does_not(self, n: int) -> None:
        """Samples of the committed confidences under FRIENDS-B: two of 18 victims fall, and most are near 0."""
        trials = pd.read_csv(ROOT / "results" / "reference" / "digits-float32-cpu" / "digits-trials.csv")
        found = trials.loc[trials["defense"] == "friends-bernoulli", "adversarial_confidence"].to_numpy()
        samples = np.random.default_rng(n).choice(found, (400, n))
        assert np.mean([mean_t(sample).contains(found.mean()) for sample in samples]) < 0.85
        ours = [mean_of_shares(sample) for sample in samples[:100]]
        assert np.mean([interval.contains(found.mean()) for interval in ours]) >= 0.95

    def test_is_little_wider_than_student_s_for_many_seeds(self) -> None:
        values = np.random.default_rng(1).uniform(0, 1, 24)
        ours, students = mean_of_shares(values), mean_t(values)
        assert ours.high - ours.low < 1.3 * (students.high - students.low)

    def test_the_ends_mirror_each_other(self) -> None:
        interval, mirrored = mean_of_shares([0.0, 0.25, 0.5]), mean_of_shares([1.0, 0.75, 0.5])
        assert (interval.low, interval.high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low), abs=1e-9)

    @pytest.mark.parametrize("values", [[], [1.1], [-0.1, 0.5], [math.nan], np.ones((2, 2))])
    def test_refuses(self, values: list[float]) -> None:
        with pytest.raises(ValueError):
            mean_of_shares(values)


def t_mass(bound: float, degrees: int) -> float:
    """Mass of Student's density in [-bound, bound], by Simpson's rule."""
    constant = math.gamma((degrees + 1) / 2) / (math.sqrt(degrees * math.pi) * math.gamma(degrees / 2))
    steps = 4000
    grid = [bound * k / steps for k in range(steps + 1)]
    density = [constant * math.pow(1 + x * x / degrees, -(degrees + 1) / 2) for x in grid]
    inner = 4 * sum(density[1:-1:2]) + 2 * sum(density[2:-1:2])
    return 2 * (density[0] + inner + density[-1]) * bound / steps / 3


def pairs(both: int, only_first: int, only_second: int, neither: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return first, second


class TestMcNemar:
    @pytest.mark.parametrize(("only_first", "only_second"), [*itertools.product([0, 1, 4, 5, 15], repeat=2), (40, 60)])
    def test_binomial_sum(self, only_first: int, only_second: int) -> None:
        n = only_first + only_second
        tail = sum(math.comb(n, k) for k in range(min(only_first, only_second) + 1))
        expected = min(Fraction(1), 2 * Fraction(tail, 2**n))
        p = mcnemar_exact(*pairs(3, only_first, only_second, 2))
        assert p == pytest.approx(float(expected), rel=1e-9)

    def test_fifteen_against_none(self) -> None:
        # The comparison table 1 of the FRIENDS paper implies: 15 of 20 undefended, 0 of 20 defended.
        assert mcnemar_exact([True] * 15 + [False] * 5, [False] * 20) == pytest.approx(2 / 2**15)

    def test_agreement_is_no_evidence(self) -> None:
        assert mcnemar_exact([True, False, True], [True, False, True]) == 1.0

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
    def test_sides_are_exchangeable_and_p_is_a_probability(self, outcomes: list[tuple[bool, bool]]) -> None:
        first, second = [a for a, _ in outcomes], [b for _, b in outcomes]
        p = mcnemar_exact(first, second)
        assert 0 < p <= 1
        assert p == pytest.approx(mcnemar_exact(second, first))

    def test_takes_arrays(self) -> None:
        first, second = pairs(2, 5, 1, 2)
        assert mcnemar_exact(np.array(first), np.array(second)) == mcnemar_exact(first, second)

    @pytest.mark.parametrize(("first", "second"), [([], []), ([True], [True, False]), ([0.3], [True])])
    def test_refuses(self, first: list[bool], second: list[bool]) -> None:
        with pytest.raises(ValueError):
            mcnemar_exact(first, second)


def sign_flip_by_hand(first: list[int], second: list[int]) -> Fraction:
    differences = [a - b for a, b in zip(first, second, strict=True)]
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return Fraction(sum(total >= abs(sum(differences)) for total in sums), len(sums))


class TestPairedPermutation:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=9))
    def test_brute_force_on_rates(self, counts: list[tuple[int, int]]) -> None:
        first, second = [a for a, _ in counts], [b for _, b in counts]
        # Integers settle ties exactly; the rates handed over carry rounding, which must not break them.
        p = paired_permutation([a / 1000 for a in first], [b / 1000 for b in second])
        assert p == pytest.approx(float(sign_flip_by_hand(first, second)), abs=1e-12)

    def test_all_one_way(self) -> None:
        assert paired_permutation([0.9, 0.8, 0.7, 0.95], [0.1, 0.2, 0.3, 0.15]) == 2 / 2**4

    def test_equal_sides(self) -> None:
        assert paired_permutation([0.3, 0.7], [0.3, 0.7]) == 1.0

    def test_twenty_pairs_are_enumerated(self) -> None:
        assert paired_permutation([1.0] * 20, [0.0] * 20) == 2 / 2**20

    def test_more_pairs_are_sampled_near_the_exact_value(self) -> None:
        # Differences of one size make the signed sum a binomial count, which is an exact reference.
        n, positive = 24, 17
        first = [1.0] * positive + [0.0] * (n - positive)
        second = [0.0] * positive + [1.0] * (n - positive)
        exact = 2 * sum(math.comb(n, k) for k in range(positive, n + 1)) / 2**n
        p = paired_permutation(first, second)
        spread = math.sqrt(exact * (1 - exact) / intervals.RANDOM_FLIPS)
        assert p == pytest.approx(exact, abs=5 * spread)
        assert p == paired_permutation(first, second)

    def test_sampled_p_is_never_zero(self) -> None:
        assert paired_permutation([1.0] * 40, [0.0] * 40) == 1 / (intervals.RANDOM_FLIPS + 1)

    @pytest.mark.parametrize(
        ("first", "second"),
        [([], []), ([0.1], [0.1, 0.2]), ([math.nan], [0.1]), (np.ones((2, 2)), np.ones((2, 2)))],
    )
    def test_refuses(self, first: list[float], second: list[float]) -> None:
        with pytest.raises(ValueError):
            paired_permutation(first, second)


def holm_by_hand(p_values: list[float]) -> list[float]:
    family = [p for p in p_values if not math.isnan(p)]

    def adjust(p: float) -> float:
        if math.isnan(p):
            return p
        smaller_or_equal = [q for q in family if q <= p]
        # Counting members strictly below gives ties their first one's factor, the largest, which prevails.
        return min(1.0, max(q * (len(family) - sum(r < q for r in family)) for q in smaller_or_equal))

    return [adjust(p) for p in p_values]


class TestHolm:
    def test_known_family(self) -> None:
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    @settings(max_examples=30, deadline=None)
    @given(st.lists(probabilities | st.just(math.nan), min_size=1, max_size=12))
    def test_against_the_slow_way(self, p_values: list[float]) -> None:
        assert holm(p_values) == pytest.approx(holm_by_hand(p_values), nan_ok=True)

    @settings(max_examples=30, deadline=None)
    @given(st.lists(probabilities, min_size=1, max_size=12))
    def test_between_raw_and_one_and_keeps_the_order(self, p_values: list[float]) -> None:
        adjusted = holm(p_values)
        assert all(raw <= p <= 1 for raw, p in zip(p_values, adjusted, strict=True))
        ranked = [p for _, p in sorted(zip(p_values, adjusted, strict=True))]
        assert ranked == sorted(ranked)

    def test_single_member_is_left_alone(self) -> None:
        assert holm([0.03]) == [0.03]

    def test_nan_passes_through_and_does_not_count(self) -> None:
        adjusted = holm([0.02, math.nan, 0.01])
        assert adjusted[::2] == pytest.approx([0.02, 0.02])
        assert math.isnan(adjusted[1])
        assert math.isnan(holm([math.nan])[0])

    @pytest.mark.parametrize("p_values", [[], [1.2], [-0.1, 0.5], [math.inf]])
    def test_refuses(self, p_values: list[float]) -> None:
        with pytest.raises(ValueError):
            holm(p_values)


@pytest.mark.parametrize("function", [wilson, mean_t, mean_of_shares, mcnemar_exact, paired_permutation, holm])
def test_documents_its_source_and_errors(function: Callable[..., object]) -> None:
    assert function.__doc__ is not None
    assert "Source:" in function.__doc__
    assert "Raises:" in function.__doc__
