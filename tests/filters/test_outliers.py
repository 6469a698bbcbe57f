"""The filters for outliers of a class, and the random one, against plain loops."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from sklearn.svm import OneClassSVM
from torch import Tensor

from poisonlab.errors import SettingsError
from poisonlab.filters.l2_centroid import l2_centroid
from poisonlab.filters.one_class_svm import one_class_svm
from poisonlab.filters.per_class import share
from poisonlab.filters.random_filter import random_filter


def planted_outliers() -> tuple[Tensor, Tensor, Tensor]:
    """Two classes of 100 with 5 outliers each: features, labels, which are outliers."""
    features = torch.randn(200, 8, generator=torch.Generator().manual_seed(6))
    labels = torch.arange(2).repeat_interleave(100)
    outliers = torch.arange(200) % 20 == 0
    features[outliers] *= 6 / features[outliers].norm(dim=1, keepdim=True) * 2
    features[labels == 1] += 50
    return features, labels, outliers


@settings(max_examples=60, deadline=None)
@given(percent=st.integers(0, 99), count=st.integers(0, 5000))
@example(percent=29, count=100)  # as floats, 28.999999999999996
def test_shares_are_those_of_exact_fractions(percent: int, count: int) -> None:
    assert share(percent / 100, count) == math.floor(Fraction(percent, 100) * count)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 40), fraction=st.sampled_from([0.0, 0.01, 0.1, 0.29, 0.5]), seed=st.integers(0, 99))
def test_l2_drops_the_farthest_of_each_class(count: int, fraction: float, seed: int) -> None:
    stream = torch.Generator().manual_seed(seed)
    features, labels = torch.randn(count, 3, generator=stream), torch.randint(-2, 3, (count,), generator=stream)
    largest = max(labels.tolist().count(label) for label in labels.tolist())
    if 0 < Fraction(str(fraction)) * largest < 1:
        with pytest.raises(SettingsError, match="drops none of"):
            l2_centroid(features, labels, fraction=fraction)
        return
    verdict = l2_centroid(features, labels, fraction=fraction)
    assert verdict.score is not None
    for label in set(labels.tolist()):
        rows = [row for row in range(count) if labels[row] == label]
        centre = np.mean([features[row].double().numpy() for row in rows], axis=0)
        distance = {row: math.dist(features[row].tolist(), centre) for row in rows}
        assert [float(verdict.score[row]) for row in rows] == pytest.approx(list(distance.values()))
        kept = [distance[row] for row in rows if verdict.keep[row]]
        dropped = [distance[row] for row in rows if not verdict.keep[row]]
        assert len(kept) == math.ceil(len(rows) * (1 - Fraction(str(fraction))))
        # The two examples of a class of two are equally far, but for rounding.
        assert min(dropped, default=math.inf) >= max(kept) - 1e-9


def test_l2_drops_the_lowest_rows_of_equals() -> None:
    features = torch.tensor([[1.0], [-1.0]]).repeat(5, 1)
    keep = l2_centroid(features, torch.zeros(10, dtype=torch.int64), fraction=0.3).keep
    assert keep.tolist() == [False] * 3 + [True] * 7


@pytest.mark.parametrize("gamma", ["auto", "scale", 0.3])
def test_the_svm_is_one_machine_per_class(gamma: str | float) -> None:
    features, labels, _ = planted_outliers()
    verdict = one_class_svm(features, labels, nu=0.1, gamma=gamma)  # type: ignore[arg-type]
    assert verdict.score is not None
    for label in (0, 1):
        own = features[labels == label].numpy().astype(np.float64)
        number = {"auto": 1 / 8, "scale": 1 / (8 * own.var())}.get(str(gamma), gamma)
        machine = OneClassSVM(nu=0.1, gamma=number, tol=1e-6).fit(own)
        # The decision by its definition: the support vectors' kernels against the offset.
        gaps = ((own[:, None] - machine.support_vectors_[None]) ** 2).sum(-1)
        depth = np.exp(-number * gaps) @ machine.dual_coef_[0] + machine.intercept_[0]
        np.testing.assert_allclose(verdict.score[labels == label].numpy(), -depth, atol=1e-4)
        clear = np.abs(depth) > 1e-4
        assert (verdict.keep[labels == label].numpy() == (depth > 0))[clear].all()


def plain_depths(points: np.ndarray[Any, Any], nu: float, gamma: float) -> np.ndarray[Any, Any]:
    """Depths inside the boundary (n,), by a general solver of the dual problem (Schoelkopf et al. 2001, section 3)."""
    kernel = np.exp(-gamma * ((points[:, None] - points[None]) ** 2).sum(-1))
    most, total = 1.0, nu * len(points)
    found = optimize.minimize(
        lambda a: a @ kernel @ a / 2,
        np.full(len(points), nu),
        jac=lambda a: kernel @ a,
        bounds=[(0, most)] * len(points),
        constraints={"type": "eq", "fun": lambda a: a.sum() - total, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    ).x
    values = kernel @ found
    inside = (found > 1e-6) & (found < most - 1e-6)
    # Without a support vector inside its bound the boundary lies half way between the two sides.
    offset = values[inside].mean() if inside.any() else (values[found > 0.5].max() + values[found < 0.5].min()) / 2
    depths: np.ndarray[Any, Any] = values - offset
    return depths


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 25), nu=st.sampled_from([0.05, 0.13, 0.3, 0.61]), seed=st.integers(0, 999))
def test_outliers_lie_beyond_the_boundary_of_the_plain_solution(count: int, nu: float, seed: int) -> None:
    features = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    verdict = one_class_svm(features, torch.zeros(count, dtype=torch.int64), nu=nu, gamma=0.2)
    depths = plain_depths(features.numpy(), nu, 0.2)
    assert verdict.score is not None
    np.testing.assert_allclose(verdict.score.numpy(), -depths, atol=1e-4 * max(1, nu * count))
    # On the boundary lies who is a support vector inside its bound: kept, whatever rounding says.
    assert bool(verdict.keep[torch.from_numpy(depths > -1e-7)].all())
    assert not bool(verdict.keep[torch.from_numpy(depths < -1e-3)].any())


@pytest.mark.parametrize("nu", [0.01, 0.1])
def test_nu_bounds_the_outliers_and_their_order_does_not_matter(nu: float) -> None:
    stream = torch.Generator().manual_seed(3)
    features = torch.randn(2000, 64, generator=stream).relu()
    features[::7] = features[0]
    labels = torch.zeros(2000, dtype=torch.int64)
    first = one_class_svm(features, labels, nu=nu)
    order = torch.randperm(2000, generator=stream)
    other = one_class_svm(features[order], labels, nu=nu)
    assert int((~first.keep).sum()) <= nu * 2000
    assert torch.equal(first.keep[order], other.keep)
    assert first.score is not None
    assert other.score is not None
    assert torch.equal(first.score[order], other.score)


def test_the_sign_is_what_scikit_learn_predicts() -> None:
    """In classes of 50 and with nu 0.01 nothing lies outside; ``predict`` calls some images outliers all the same."""
    stream = torch.Generator().manual_seed(1)
    spread = torch.rand(100, 1, generator=stream) + 0.2
    features, labels = (torch.randn(100, 192, generator=stream) * spread).relu(), torch.arange(100) % 2
    sign, optimum = (one_class_svm(features, labels, boundary=each) for each in ("sign", "optimum"))  # type: ignore[arg-type]
    assert bool(optimum.keep.all())
    for label in (0, 1):
        own = features[labels == label].double().numpy()
        predicted = OneClassSVM(nu=0.01, gamma="auto").fit_predict(own)
        assert sign.keep[labels == label].tolist() == (predicted == 1).tolist()
        assert 0 < (predicted == -1).mean() < 0.5


def test_a_class_of_one_image_or_of_equal_ones_is_kept() -> None:
    for features in (torch.randn(1, 5), torch.ones(7, 5), torch.zeros(7, 5)):
        for gamma in ("auto", "scale"):
            labels = torch.zeros(len(features), dtype=torch.int64)
            assert bool(one_class_svm(features, labels, nu=0.5, gamma=gamma).keep.all())  # type: ignore[arg-type]


def test_random_drops_every_example_equally_often() -> None:
    labels = torch.zeros(20, dtype=torch.int64)
    drops = sum((~random_filter(labels, fraction=0.25, seed=seed).keep).long() for seed in range(800))
    assert isinstance(drops, Tensor)
    # Drops without replacement vary less than a multinomial would: their chi-square is scaled by 19 / (20 - 5).
    assert stats.chi2.sf(float(((drops - 200) ** 2 / 200).sum()) * 19 / 15, 19) > 1e-3


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_impossible_fractions_are_one_line(fraction: float) -> None:
    labels = torch.zeros(10, dtype=torch.int64)
    with pytest.raises(SettingsError, match="from 0 to below 1") as caught:
        random_filter(labels, fraction=fraction)
    assert "\n" not in str(caught.value)
    with pytest.raises(SettingsError):
        l2_centroid(torch.zeros(10, 2), labels, fraction=fraction)


@pytest.mark.parametrize(
    ("fraction", "size", "dropped"), [(0.01, 50, 0), (0.02, 50, 1), (0.001, 99, 0), (0.005, 100, 0), (0.01, 100, 1)]
)
def test_fractions_that_drop_nothing_are_one_line(fraction: float, size: int, dropped: int) -> None:
    """The second class is half as large. Of the first alone the random filter drops as many."""
    labels = torch.cat([torch.zeros(size), torch.ones(size // 2)]).long()
    features = torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(0))
    if dropped:
        assert int((~l2_centroid(features, labels, fraction=fraction).keep).sum()) == dropped
        assert int((~random_filter(labels[:size], fraction=fraction).keep).sum()) == dropped
        return
    line = f"a fraction of {fraction:g} drops none of {size} examples{{}}: raise it, or leave the filter out"
    with pytest.raises(SettingsError) as caught:
        l2_centroid(features, labels, fraction=fraction)
    assert str(caught.value) == line.format(" of the largest class")
    with pytest.raises(SettingsError) as caught:
        random_filter(labels[:size], fraction=fraction)
    assert str(caught.value) == line.format("")


@pytest.mark.parametrize("nu", [0.0, 1.1])
def test_impossible_nu_is_one_line(nu: float) -> None:
    with pytest.raises(SettingsError, match="nu="):
        one_class_svm(torch.zeros(10, 2), torch.zeros(10, dtype=torch.int64), nu=nu)
