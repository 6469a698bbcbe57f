"""EPIC against plain greedy facility location in integers, on random, tied and degenerate gradients."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from poisonlab.errors import SettingsError
from poisonlab.filters.epic import Cover, epic, facility_location, gradient_proxies, quotas


def similarities(points: Tensor) -> list[list[int]]:
    """exp(-distance / D) in units of 2^-24, entry by entry."""
    rows = points.double().tolist()
    return [
        [
            round(math.exp(-math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True))) / len(a)) * 2**24)
            for b in rows
        ]
        for a in rows
    ]


def value(similar: list[list[int]], chosen: list[int]) -> int:
    return sum(max((row[medoid] for medoid in chosen), default=0) for row in similar)


def slow_cover(points: Tensor, count: int) -> tuple[list[int], list[int]]:
    """Try every example at every step; integers, so that ties are ties. Equals: the lowest row, the first medoid."""
    similar = similarities(points)
    chosen: list[int] = []
    for _ in range(count):
        left = [row for row in range(len(points)) if row not in chosen]
        chosen.append(max(left, key=lambda row: (value(similar, [*chosen, row]), -row)))
    owner = [max(range(count), key=lambda place: (row[chosen[place]], -place)) for row in similar] if count else []
    return chosen, owner


def proxies(count: int, classes: int = 10, seed: int = 0, label: int = 0) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, classes, generator=stream) + 4 * F.one_hot(torch.tensor(label), classes)
    return gradient_proxies(logits, torch.full((count,), label))


def as_lists(cover: Cover) -> tuple[list[int], list[int]]:
    return cover.medoids.tolist(), cover.owner.tolist()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_greedy_choice_is_the_plain_one(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 30))
    points = proxies(count, data.draw(st.integers(2, 10)), data.draw(st.integers(0, 999)))
    medoids = data.draw(st.integers(1, count))
    cache = data.draw(st.sampled_from([0, 2**28]))
    assert as_lists(facility_location(points, medoids, cache=cache)) == slow_cover(points, medoids)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_ties_go_to_the_lowest_row(data: st.DataObject) -> None:
    """Points of a grid, many of them equal: gains tie, and run out before the medoids do."""
    count, width = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 2))
    cells = st.lists(st.integers(-1, 1), min_size=count * width, max_size=count * width)
    points = torch.tensor(data.draw(cells), dtype=torch.float32).view(count, width) / 2
    medoids = data.draw(st.integers(1, count))
    assert as_lists(facility_location(points, medoids)) == slow_cover(points, medoids)


def test_neither_the_cache_nor_the_type_matters() -> None:
    points = proxies(1200)
    held = facility_location(points, 120)
    assert as_lists(facility_location(points, 120, cache=0)) == as_lists(held)
    assert as_lists(facility_location(points.double(), 120)) == as_lists(held)
    # Fewer medoids are the first of more.
    assert facility_location(points, 50).medoids.tolist() == held.medoids[:50].tolist()


def test_greedy_is_within_its_bound_of_the_best_cover() -> None:
    points = proxies(12, 3, 5)
    similar = similarities(points)
    best = max(value(similar, list(chosen)) for chosen in combinations(range(12), 3))
    assert value(similar, facility_location(points, 3).medoids.tolist()) >= (1 - 1 / math.e) * best


def test_proxies_are_the_gradients_of_the_loss() -> None:
    stream = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=stream, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(4, (6,), generator=stream)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), logits)
    torch.testing.assert_close(gradient_proxies(logits, labels), gradient)
    assert gradient_proxies(logits.bfloat16(), labels).dtype == torch.float32


def test_the_medoids_of_a_twentieth_of_cifar() -> None:
    assert quotas([5000] * 10, 0.1) == [500] * 10
    points = proxies(2500)
    cover = facility_location(points, 250)
    assert len(set(cover.medoids.tolist())) == 250
    assert int(cover.sizes.sum()) == 2500
    keep = epic(points, torch.zeros(2500, dtype=torch.int64), fraction=0.1).keep
    assert torch.equal((~keep).nonzero()[:, 0], cover.medoids[cover.sizes <= 1].sort().values)
    assert 0 < int((~keep).sum()) < 250


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=12), percent=st.integers(0, 99))
def test_quotas_are_proportional_and_add_up(sizes: list[int], percent: int) -> None:
    counts = quotas(sizes, percent / 100)
    total = sum(sizes) * percent // 100
    assert sum(counts) == total
    for size, count in zip(sizes, counts, strict=True):
        assert abs(count - total * size / sum(sizes)) < 1
        assert count <= size


def test_leftover_medoids_go_to_the_largest_remainders() -> None:
    # 10 % of 39 are 3: shares 0.77, 0.77, 1.46.
    assert quotas([10, 10, 19], 0.1) == [1, 1, 1]
    assert quotas([3, 3, 3], 0.5) == [2, 1, 1]


def test_classes_do_not_mix() -> None:
    first, second = proxies(60, seed=1), proxies(40, seed=2, label=7)
    mixed = torch.arange(100) % 5 < 3
    points, labels = torch.empty(100, 10), torch.where(mixed, 3, 8)
    points[mixed], points[~mixed] = first, second
    keep = epic(points, labels, fraction=0.3).keep
    for mask, own in ((mixed, first), (~mixed, second)):
        chosen, owner = slow_cover(own, round(0.3 * len(own)))
        sizes = np.bincount(owner, minlength=len(chosen))
        alone = {row for row, size in zip(chosen, sizes, strict=True) if size <= 1}
        assert set((~keep[mask]).nonzero()[:, 0].tolist()) == alone


def released_keep(points: Tensor, count: int, alone: int) -> list[bool]:
    """The release's rule for one class: count members, empty clusters count one, drop members of small clusters."""
    _, owner = slow_cover(points, count)
    sizes = [max(1, owner.count(place)) for place in range(count)]
    return [sizes[own] > alone for own in owner]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), alone=st.integers(0, 4), repeats=st.integers(1, 3))
def test_all_members_of_small_clusters_go(seed: int, alone: int, repeats: int) -> None:
    points = proxies(20, seed=seed).repeat(repeats, 1)
    keep = epic(points, torch.zeros(len(points), dtype=torch.int64), fraction=0.3, alone=alone).keep
    assert keep.tolist() == released_keep(points, int(0.3 * len(points) + 1e-9), alone)


def test_a_medoid_whose_cluster_is_empty_is_no_outlier() -> None:
    """Every gradient twice and more medoids than gradients: each has company, so nothing is dropped."""
    points = proxies(60).repeat(2, 1)
    labels = torch.zeros(120, dtype=torch.int64)
    assert int((facility_location(points, 84).sizes == 0).sum()) == 24
    assert bool(epic(points, labels, fraction=0.7).keep.all())
    assert int(epic(points, labels, fraction=0.7, alone=2).keep.sum()) == 0


def test_few_medoids_leave_some_classes_without() -> None:
    points, labels = proxies(15), torch.arange(3).repeat(5)
    assert bool(epic(points, labels, fraction=0.0).keep.all())
    # One medoid, of the first class; with it go all of its cluster.
    assert epic(points, labels, fraction=0.07, alone=99).keep.tolist() == [False, True, True] * 5


def test_points_beyond_any_similarity_have_no_medoid() -> None:
    # exp(-18) is below half a unit of 2^-24, exp(-17) is not.
    assert facility_location(torch.tensor([[0.0], [0.1], [17.0]]), 1).owner.tolist() == [0, 0, 0]
    cover = facility_location(torch.tensor([[0.0], [0.1], [18.1]]), 1)
    assert cover.owner.tolist() == [0, 0, -1]
    assert cover.sizes.tolist() == [2]
    far = torch.tensor([[0.0], [0.1], [18.1]])
    assert epic(far, torch.zeros(3, dtype=torch.int64), fraction=0.34).keep.tolist() == [True, True, False]


def test_impossible_numbers_are_one_line() -> None:
    with pytest.raises(SettingsError, match="11 medoids of 10 examples: choose from 0 to 10"):
        facility_location(proxies(10), 11)
    with pytest.raises(SettingsError, match="from 0 to below 1"):
        epic(proxies(10), torch.zeros(10, dtype=torch.int64), fraction=1.5)
    with pytest.raises(SettingsError, match=r"^a fraction of 0\.09 drops none of 10 examples: raise it, or leave"):
        epic(proxies(10), torch.zeros(10, dtype=torch.int64), fraction=0.09)
