"""Activation clustering by what defines its clusters, and on groups that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import Tensor

from poisonlab.errors import SettingsError
from poisonlab.filters.activation_clustering import Reduction, activation_clustering


def two_groups(sizes: tuple[int, int], width: int = 6, gap: float = 8.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features, and which of them belong to the second group."""
    stream = torch.Generator().manual_seed(seed)
    second = torch.arange(sum(sizes)) >= sizes[0]
    features = torch.randn(sum(sizes), width, generator=stream)
    features[:, 0] += gap * second
    return features, second


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), count=st.integers(3, 40))
def test_what_goes_is_the_smaller_of_two_clusters(seed: int, count: int) -> None:
    """Lloyd's algorithm ends where every example is nearer to its own cluster's mean than to the other's."""
    features = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
    keep = activation_clustering(features, torch.zeros(count, dtype=torch.int64)).keep
    assert 0 < int((~keep).sum()) <= count // 2
    means = {
        kept: np.mean([x.tolist() for x, k in zip(features, keep, strict=True) if k == kept], 0) for kept in (0, 1)
    }
    for x, kept in zip(features.tolist(), keep.tolist(), strict=True):
        assert math.dist(x, means[kept]) <= math.dist(x, means[1 - kept]) + 1e-6


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("reduce", ["none", "pca", "ica"])
def test_the_smaller_cluster_of_every_class_goes(reduce: Reduction) -> None:
    (first, planted), (second, spare) = two_groups((90, 10)), two_groups((20, 60), seed=1)
    features, labels = torch.cat([first, second]), torch.tensor([5] * 100 + [2] * 80)
    keep = activation_clustering(features, labels, reduce=reduce, dims=3).keep
    if reduce == "ica":
        # Components are scaled to one variance, so that a group is no longer the widest split; it only has to split.
        assert all(0 < int((~keep[labels == label]).sum()) <= int((labels == label).sum()) // 2 for label in (2, 5))
    else:
        assert torch.equal(keep, torch.cat([~planted, spare]))


def test_ica_finds_a_group_along_its_own_component() -> None:
    features, planted = two_groups((300, 60), width=2, gap=20)
    keep = activation_clustering(features, torch.zeros(360, dtype=torch.int64), reduce="ica", dims=1).keep
    assert torch.equal(keep, ~planted)


def test_the_threshold_spares_classes_whose_parts_are_alike() -> None:
    (first, planted), (second, _) = two_groups((90, 10)), two_groups((50, 30), seed=1)
    features, labels = torch.cat([first, second]), torch.tensor([0] * 100 + [1] * 80)
    keep = activation_clustering(features, labels, threshold=0.35).keep
    assert torch.equal(keep, torch.cat([~planted, torch.ones(80, dtype=torch.bool)]))
    # Exactly the threshold is not below it.
    assert bool(activation_clustering(features[:100], labels[:100], threshold=0.1).keep.all())


def test_halves_lose_the_one_without_the_first_example() -> None:
    features = torch.tensor([[0.0], [10.0], [0.1], [10.1]])
    assert activation_clustering(features, torch.zeros(4, dtype=torch.int64)).keep.tolist() == [True, False] * 2


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("reduce", ["none", "pca", "ica"])
def test_classes_that_cannot_be_split_are_kept(reduce: Reduction) -> None:
    features = torch.cat([torch.zeros(6, 3), torch.tensor([[0.1, 3.3, 0.7]]).repeat(43, 1), torch.ones(1, 3)])
    labels = torch.tensor([0] * 6 + [2] * 43 + [1])
    assert bool(activation_clustering(features, labels, reduce=reduce).keep.all())


@pytest.mark.parametrize("reduce", ["pca", "ica"])
def test_components_beyond_the_rank_are_left_out(reduce: Reduction) -> None:
    """Two places, one with fewer examples, in many dimensions: one component, whichever the number asked for."""
    features = torch.randn(2, 20, generator=torch.Generator().manual_seed(0))[[0, 1, 0, 0, 1, 0, 0]]
    keep = activation_clustering(features, torch.zeros(7, dtype=torch.int64), reduce=reduce, dims=5).keep
    assert keep.tolist() == [True, False, True, True, False, True, True]


def test_pca_is_scikit_learn_s_and_the_seed_repeats() -> None:
    features = torch.randn(120, 30, generator=torch.Generator().manual_seed(4))
    labels = torch.zeros(120, dtype=torch.int64)
    projected = torch.from_numpy(PCA(10, svd_solver="full").fit_transform(features.numpy()))
    first = activation_clustering(features, labels, reduce="pca", seed=9).keep
    assert torch.equal(first, activation_clustering(projected, labels, seed=9).keep)
    assert torch.equal(first, activation_clustering(features, labels, reduce="pca", seed=9).keep)
    # More components than there are features or examples.
    activation_clustering(features[:5, :3], labels[:5], reduce="pca")


def test_a_misspelt_reduction_is_one_line() -> None:
    with pytest.raises(SettingsError, match="there is no reduce='umap': choose from none, pca, ica"):
        activation_clustering(torch.eye(4), torch.zeros(4, dtype=torch.int64), reduce="umap")  # type: ignore[arg-type]
