"""Chains of filters against the filters applied by hand, and each filter's settings against its arguments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from poisonlab import modules
from poisonlab.errors import DataError, SettingsError
from poisonlab.filters.chain import judge_all
from poisonlab.filters.verdict import Verdict


def examples(count: int = 60, width: int = 4, classes: int = 3) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(1)
    labels = torch.randint(classes, (count,), generator=stream)
    return torch.randn(count, width, generator=stream) + 1.5 * labels[:, None], labels


def distances(features: Tensor, labels: Tensor, rows: list[int]) -> dict[int, float]:
    """Of each of ``rows`` from the centre of its class among them."""
    wide = features.double().numpy()
    return {
        row: math.dist(wide[row], np.mean([wide[other] for other in rows if labels[other] == labels[row]], axis=0))
        for row in rows
    }


def without_farthest(distance: dict[int, float], labels: Tensor, percent: int) -> list[int]:
    """The rows left when ``percent`` of each class, rounded down, are dropped."""
    dropped: set[int] = set()
    for label in set(labels.tolist()):
        own = sorted((row for row in distance if labels[row] == label), key=lambda row: -distance[row])
        dropped |= set(own[: len(own) * percent // 100])
    return [row for row in distance if row not in dropped]


def test_each_filter_judges_what_the_ones_before_it_left() -> None:
    """Centroids are those of the examples that are left, and so are the neighbours."""
    features, labels = examples()
    chain = [{"method": "l2-centroid", "fraction": 0.2}, {"method": "l2-centroid", "fraction": 0.3}]
    kept = judge_all([*chain, {"method": "deep-knn", "k": 3}], features, labels, seed=0)

    first = distances(features, labels, list(range(60)))
    left = without_farthest(first, labels, 20)
    second = distances(features, labels, left)
    at_last = without_farthest(second, labels, 30)
    votes = {}
    for row in at_last:
        far = {other: math.dist(features[row].tolist(), features[other].tolist()) for other in at_last if other != row}
        nearest = sorted(far, key=lambda other: far[other])[:3]
        votes[row] = sum(1 if labels[other] != labels[row] else -1 for other in nearest)
    final = [row for row in at_last if votes[row] <= 0]

    assert 60 > len(left) > len(at_last) > len(final) > 0
    assert kept.keep.nonzero()[:, 0].tolist() == final
    assert kept.dropped == (60 - len(left), len(left) - len(at_last), len(at_last) - len(final))
    for score, truth in zip(kept.scores, (first, second, votes), strict=True):
        assert score.dtype == torch.float64
        assert score.tolist() == pytest.approx([truth.get(row, math.nan) for row in range(60)], nan_ok=True)
    # Judged all at once, the second would drop others.
    alone = judge_all(chain[1:], features, labels, seed=0)
    assert not torch.equal(alone.scores[0][left], kept.scores[1][left])


def test_filters_that_rank_nothing_have_no_scores() -> None:
    features, labels = examples()
    rows = [{"method": "random-filter", "fraction": 0.25}, {"method": "l2-centroid", "fraction": 0.5}]
    kept = judge_all([*rows, {"method": "activation-clustering"}], features, labels, seed=0)
    assert kept.dropped[0] == 15
    assert [int(score.isnan().sum()) for score in kept.scores] == [60, 15, 60]
    assert int(kept.keep.sum()) == 60 - sum(kept.dropped)


def test_no_filters_keep_everything() -> None:
    kept = judge_all([], *examples(), seed=0)
    assert bool(kept.keep.all())
    assert (kept.scores, kept.dropped) == ((), ())


def test_every_place_in_the_chain_draws_for_itself() -> None:
    features, labels = examples()
    # Features of one point lie inside any surface, so that the next one has the same examples before it.
    nothing, third = {"method": "one-class-svm"}, {"method": "random-filter", "fraction": 0.3}
    features = torch.zeros_like(features)
    first = judge_all([third], features, labels, seed=5)
    second = judge_all([nothing, third], features, labels, seed=5)
    assert second.dropped == (0, 18)
    assert not torch.equal(first.keep, second.keep)
    assert torch.equal(second.keep, judge_all([nothing, third], features, labels, seed=5).keep)
    assert not torch.equal(second.keep, judge_all([nothing, third], features, labels, seed=6).keep)
    # In a row, they drop 18 of 60, then 12 of the other 42.
    both = judge_all([third, third], features, labels, seed=5)
    assert both.dropped == (18, 12)
    assert not bool((both.keep & ~first.keep).any())
    assert int(both.keep.sum()) == 30


def test_a_chain_that_leaves_nothing_is_said_so() -> None:
    """The nearest neighbour of each of two examples has the other label."""
    features, labels = torch.tensor([[0.0], [1.0], [40.0]]), torch.tensor([0, 1, 1])
    rows = [{"method": "l2-centroid", "fraction": 0.5}, {"method": "deep-knn", "k": 1}]
    # Of class 1 one of two equally far goes, the lower row.
    assert judge_all(rows[:1], features, labels, seed=0).keep.tolist() == [True, False, True]
    with pytest.raises(DataError, match="deep-knn drops every example with k=1: lower k"):
        judge_all(rows, features, labels, seed=0)


def test_any_filter_that_leaves_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    none = Verdict(torch.zeros(3, dtype=torch.bool))
    monkeypatch.setattr("poisonlab.filters.l2_centroid.judge", lambda *_, **__: none)
    with pytest.raises(DataError, match="the filter l2-centroid drops every example: its settings are too strict"):
        judge_all([{"method": "l2-centroid", "fraction": 0.5}], torch.eye(3), torch.arange(3), seed=0)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"method": "deep-nn"}, ["deep-nn", "filters"]),
        ({}, ["filters"]),
        ({"method": "l2-centroid", "share": 0.1}, ["share"]),
        ({"method": "l2-centroid", "fraction": 1.0}, ["fraction"]),
        # 60 are left 42 by the first.
        ({"method": "deep-knn", "k": 42}, ["k=42", "42 examples"]),
        ({"method": "spectral-signatures", "expected": 0.9}, ["spectral signatures", "class"]),
    ],
    ids=["unknown", "no method", "unknown key", "out of range", "too few left for k", "too few left in a class"],
)
def test_impossible_settings_are_one_line(row: dict[str, Any], words: list[str]) -> None:
    features, labels = examples()
    with pytest.raises(SettingsError) as caught:
        judge_all([{"method": "random-filter", "fraction": 0.3}, row], features, labels, seed=0)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def judged(row: dict[str, Any], seed: int = 3) -> Verdict:
    """The verdict of a filter's ``judge`` on ``examples()``."""
    module = modules.load("filters", row["method"])
    verdict: Verdict = module.judge(module.Settings.model_validate(row), *examples(), seed=seed)
    return verdict


@pytest.mark.parametrize(
    ("settings", "k"),
    [
        # Of 60 examples: twice 5 % and once 10 %, three times 5 %, twice 9 % rounded down.
        ({"expected": 0.05}, 6),
        ({"expected": 0.1, "factor": 1.0}, 6),
        ({"expected": 0.05, "factor": 3.0}, 9),
        ({"expected": 0.09}, 10),
        ({"k": 4}, 4),
    ],
)
def test_the_neighbours_follow_from_the_poisons_expected(settings: dict[str, Any], k: int) -> None:
    """The score is the votes of others less those of the own: k - 2 * own."""
    features, labels = examples()
    truth = []
    for row in range(60):
        far = {other: math.dist(features[row].tolist(), features[other].tolist()) for other in range(60)}
        nearest = sorted((other for other in far if other != row), key=lambda other: far[other])[:k]
        truth.append(sum(-1 if labels[other] == labels[row] else 1 for other in nearest))
    score = judged({"method": "deep-knn", **settings}).score
    assert score is not None
    assert score.tolist() == truth
