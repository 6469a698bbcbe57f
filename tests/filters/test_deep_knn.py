"""Deep k-NN against row-by-row loops and scikit-learn, on exact ties, offsets and any cut of the work."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch import Tensor

from poisonlab.config.filters.deep_knn import DeepKnn
from poisonlab.errors import DataError, SettingsError
from poisonlab.filters.deep_knn import deep_knn, judge, released_k
from poisonlab.filters.neighbours import Neighbours
from poisonlab.filters.verdict import Verdict

Rule = Literal["released", "paper", "smallest-label"]
RULES: tuple[Rule, ...] = ("released", "paper", "smallest-label")


def gaussian(count: int, width: int, seed: int = 0, classes: int = 4) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=stream)
    centres = torch.randn(classes, width, generator=stream)
    return centres[labels] + torch.randn(count, width, generator=stream), labels


def slow_neighbours(features: Tensor, row: int, k: int) -> list[int]:
    """By differences in float64, one row at a time; ties to the lower row."""
    wide = features.double().numpy()
    distances = [float(np.sum((wide[row] - other) ** 2)) for other in wide]
    others = [place for place in range(len(wide)) if place != row]
    return sorted(others, key=lambda place: (distances[place], place))[:k]


def slow_keep(features: Tensor, labels: Tensor, k: int, rule: Rule, self_counts: bool) -> list[bool]:
    keep = []
    for row, label in enumerate(labels.tolist()):
        voters = slow_neighbours(features, row, k - self_counts) + [row] * self_counts
        votes = [int(labels[voter]) for voter in voters]
        same = votes.count(label)
        if rule == "released":
            keep.append(same - (len(votes) - same) >= 0)
        elif rule == "smallest-label":
            keep.append(label == min(other for other in votes if votes.count(other) == max(map(votes.count, votes))))
        else:
            keep.append(same == max(votes.count(other) for other in set(votes) | {label}))
    return keep


def chosen_sets(found: tuple[Tensor, Tensor]) -> list[set[int]]:
    candidates, chosen = found
    return [set(row[mask].tolist()) for row, mask in zip(candidates, chosen, strict=True)]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("self_counts", [False, True])
@pytest.mark.parametrize("k", [1, 2, 5, 40])
def test_every_rule_is_the_row_by_row_one(rule: Rule, self_counts: bool, k: int) -> None:
    features, labels = gaussian(60, 5)
    ours = deep_knn(features, labels, k=k, rule=rule, self_counts=self_counts)
    assert ours.keep.tolist() == slow_keep(features, labels, k, rule, self_counts)
    assert ours.score is not None
    assert torch.equal(ours.keep, ours.score <= 0)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_ties_and_chunks(data: st.DataObject) -> None:
    """Points of a small integer grid: most distances are tied exactly, and many points coincide."""
    count = data.draw(st.integers(3, 24))
    width = data.draw(st.integers(1, 3))
    cells = st.lists(st.integers(0, 2), min_size=count * width, max_size=count * width)
    features = torch.tensor(data.draw(cells), dtype=torch.float32).view(count, width)
    labels = torch.tensor(data.draw(st.lists(st.integers(-1, 1), min_size=count, max_size=count)))
    k = data.draw(st.integers(1, count - 1))
    rule: Rule = data.draw(st.sampled_from(RULES))
    self_counts = data.draw(st.booleans())
    rows, columns = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    ours = deep_knn(features, labels, k=k, rule=rule, self_counts=self_counts, rows=rows, columns=columns)
    assert ours.keep.tolist() == slow_keep(features, labels, k, rule, self_counts)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(2, 40),
    columns=st.integers(1, 50),
    margin=st.integers(0, 5),
    distinct=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_more_ties_than_the_margin_take_the_slow_path(
    count: int, columns: int, margin: int, distinct: int, seed: int
) -> None:
    stream = torch.Generator().manual_seed(seed)
    features = torch.randn(distinct, 4, generator=stream)[torch.randint(distinct, (count,), generator=stream)]
    k = count // 2
    found = chosen_sets(Neighbours(features, columns=columns, margin=margin).of(torch.arange(count), k))
    assert found == [set(slow_neighbours(features, row, k)) for row in range(count)]


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_neighbours_are_scikit_learn_s_whatever_the_scale_and_offset(scale: float, offset: float) -> None:
    """An offset of a thousand standard deviations would drown float32 distances by products if it stayed in."""
    features = (gaussian(400, 64, seed=5)[0] + offset) * scale
    found = chosen_sets(Neighbours(features, columns=150).of(torch.arange(400), 25))
    wide = features.double().numpy() / scale
    reference = NearestNeighbors(n_neighbors=25, algorithm="brute", metric="minkowski", p=2).fit(wide)
    # Without a query the points are their own, and none is its own neighbour.
    assert found == [set(row) for row in reference.kneighbors(return_distance=False).tolist()]


def test_near_ties_that_float32_products_confuse_are_told_apart() -> None:
    """On a sphere around the query, radii differ by parts in a hundred million: below the rounding of the products.
    Others far away move the centre, from which the products count, away from the query."""
    stream = torch.Generator().manual_seed(2)
    directions = torch.randn(150, 128, generator=stream, dtype=torch.float64)
    radii = 1 + torch.randperm(150, generator=stream).double() * 1e-8
    sphere = directions / directions.norm(dim=1, keepdim=True) * radii[:, None]
    far = torch.full((20, 128), 2.0, dtype=torch.float64)
    features = torch.cat([torch.zeros(1, 128, dtype=torch.float64), sphere, far]) + 3
    (found,) = chosen_sets(Neighbours(features).of(torch.tensor([0]), 100))
    assert found == set((radii.argsort()[:100] + 1).tolist())
    # Products in float32 alone get it wrong, or this test would show nothing.
    rounded = (features - features.mean(0)).float()
    squared = rounded.square().sum(1) - 2 * rounded @ rounded[0]
    assert set(squared[1:].argsort()[:100].tolist()) != set(radii.argsort()[:100].tolist())


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_and_a_lower_matmul_precision(precision: torch.dtype) -> None:
    features, labels = gaussian(80, 6, seed=3)
    features = features.to(precision)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            ours = deep_knn(features, labels, k=7)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert ours.keep.tolist() == slow_keep(features, labels, 7, "released", False)


def test_ties_of_votes_keep() -> None:
    # Neighbours of the first: one of each label.
    features, labels = torch.tensor([[0.0], [1.0], [-1.0], [9.0]]), torch.tensor([0, 0, 1, 1])
    for rule in ("released", "paper"):
        assert bool(deep_knn(features, labels, k=2, rule=rule).keep[0])
    # Three labels, one vote each: half of the votes are missed, but no label has more.
    features, labels = torch.tensor([[0.0], [1.0], [-1.0], [1.5], [50.0]]), torch.tensor([0, 0, 1, 2, 0])
    assert not bool(deep_knn(features, labels, k=3).keep[0])
    assert bool(deep_knn(features, labels, k=3, rule="paper").keep[0])


def test_an_example_is_outvoted_unless_it_counts_itself() -> None:
    features, labels = torch.tensor([[0.0], [1.0], [8.0]]), torch.tensor([0, 1, 1])
    assert not bool(deep_knn(features, labels, k=1, rule="paper").keep[0])
    assert bool(deep_knn(features, labels, k=1, rule="paper", self_counts=True).keep[0])
    assert bool(deep_knn(features, labels, k=2, rule="paper", self_counts=True).keep[0])


@pytest.mark.parametrize("k", [2, 4, 10])
def test_the_smallest_label_is_scikit_learn_s_classifier(k: int) -> None:
    """Fitted and asked on the same points, as in the code released with the paper: each is its own nearest."""
    features, labels = gaussian(300, 3, seed=8)
    classifier = KNeighborsClassifier(n_neighbors=k, algorithm="brute").fit(features.double().numpy(), labels.numpy())
    expected = classifier.predict(features.double().numpy()) == labels.numpy()
    ours = deep_knn(features, labels, k=k, rule="smallest-label", self_counts=True)
    assert ours.keep.tolist() == expected.tolist()
    ties = deep_knn(features, labels, k=k, rule="paper", self_counts=True).keep & ~ours.keep
    assert 0 < ties.sum() < 100, "no tie makes a difference"


def test_the_released_k() -> None:
    assert released_k(0.01, 50_000) == 1000


@pytest.mark.parametrize("k", [0, -1, 10, 11])
def test_an_impossible_k_is_one_line(k: int) -> None:
    features, labels = gaussian(10, 2)
    with pytest.raises(
        SettingsError,
        match=f"k={k} neighbours .* among 10 examples: choose k from 1 to 9",
    ):
        deep_knn(features, labels, k=k)


def test_neighbours_that_nobody_named_are_explained() -> None:
    """A hundredth of 42 examples, twice."""
    features, labels = gaussian(42, 2)
    with pytest.raises(
        SettingsError, match=r"42 examples times expected \(0.01\) .* make k=0 neighbours: give k, from 1"
    ):
        judge(DeepKnn(expected=0.01), features, labels)


def test_a_misspelt_rule_and_arrays_that_are_no_tensors_are_one_line() -> None:
    features, labels = gaussian(10, 2)
    with pytest.raises(SettingsError, match="there is no rule 'papr': choose from released, paper, smallest-label"):
        deep_knn(features, labels, k=3, rule="papr")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"features are a ndarray: give a torch\.Tensor"):
        deep_knn(features.numpy(), labels, k=3)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="labels are a list"):
        deep_knn(features, labels.tolist(), k=3)  # type: ignore[arg-type]


@pytest.mark.elsewhere
def test_the_device_does_not_matter(device: torch.device) -> None:
    features, labels = gaussian(3000, 64, seed=13)

    def scores(verdict: Verdict) -> Tensor:
        assert verdict.score is not None
        return verdict.score

    for k in (1, 50, 1500):
        there = deep_knn(features.to(device), labels.to(device), k=k, columns=1000)
        assert there.keep.device.type == device.type
        assert torch.equal(scores(there).cpu(), scores(deep_knn(features, labels, k=k)))
