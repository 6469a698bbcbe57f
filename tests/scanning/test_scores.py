"""Scores by which filters are compared: each against a way of its own to reckon it, and the planted image on top."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import rankdata
from torch import Tensor

from poisonlab.errors import DataError, SettingsError
from poisonlab.scanning.scores import Examples, modified_z, rows_at_once, score

SHARP = ("deep-knn", "spectral-signatures", "activation-clustering", "l2-centroid")
FILTERS = (*SHARP, "epic", "one-class-svm", "self-confidence")


def examples(each: int = 40) -> tuple[Examples, Tensor]:
    """Three classes around their corners; the first three images of class 0 lie where class 1 lies."""
    stream = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(each)
    centres = 6 * torch.eye(3, 8)
    wrong = torch.zeros(len(labels), dtype=torch.bool)
    wrong[:3] = True
    lies = labels.where(~wrong, torch.tensor(1))
    features = centres[lies] + 0.4 * torch.randn(len(labels), 8, generator=stream)
    return Examples(features, features[:, :3], labels, neighbours=9), wrong


@pytest.mark.parametrize("method", FILTERS)
def test_every_filter_ranks_mislabelled_images_first(method: str) -> None:
    found, wrong = examples()
    scores = score(method, found)
    assert scores.shape == found.labels.shape
    assert scores.dtype == torch.float64
    assert bool(torch.isfinite(scores).all())
    # A cluster of three is small, and a boundary lies around it as around others: these two share places with some.
    places = 121 - rankdata(scores.numpy())
    assert places[wrong.numpy()].mean() <= (2 if method in SHARP else 30)
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(1))
    moved = Examples(found.features[order], found.logits[order], found.labels[order], neighbours=9)
    # Greedy choices and starts of clusters depend on the order.
    if method not in ("epic", "activation-clustering"):
        assert torch.allclose(score(method, moved), scores[order], atol=1e-3)


@pytest.mark.parametrize("method", FILTERS)
def test_small_and_odd_data_are_ranked_too(method: str) -> None:
    """A class of one image, classes without any, equal images, fewer images than neighbours."""
    features = torch.cat([torch.ones(4, 3), torch.eye(3)])
    labels = torch.tensor([0, 0, 0, 0, 5, 5, 2])
    scores = score(method, Examples(features, torch.zeros(7, 6), labels, neighbours=50))
    assert bool(torch.isfinite(scores).all())
    assert len(set(scores[:4].tolist())) == 1


def test_the_modified_z_score_is_that_of_the_book() -> None:
    stream = np.random.default_rng(3)
    values, labels = stream.normal(5, 2, 31) ** 3, stream.integers(0, 2, 31)
    expected = np.empty(31)
    for label in (0, 1):
        own = values[labels == label]
        away = own - np.median(own)
        expected[labels == label] = away / (1.4826 * np.median(np.abs(away)))
    found = modified_z(torch.from_numpy(values), torch.from_numpy(labels))
    assert np.allclose(found.numpy(), expected)
    # More than half equal: the mean deviation, and with all equal nothing stands out.
    assert modified_z(torch.tensor([1.0, 1, 1, 5]).double(), torch.zeros(4).long()).tolist() == pytest.approx(
        [0, 0, 0, 4 / 1.2533]
    )
    # Equal images that rounding tells apart set no scale.
    almost = torch.tensor([1.0, 1 + 1e-16, 1 - 1e-16, 1 + 2e-16, 5]).double()
    assert modified_z(almost, torch.zeros(5).long())[-1] == pytest.approx(5 / 1.2533)
    assert modified_z(torch.ones(3).double(), torch.zeros(3).long()).tolist() == [0, 0, 0]


def test_neighbours_score_by_the_votes_of_the_most_frequent_label() -> None:
    """All three others vote: for a row of label 0, once for each label; for the others, twice for label 0."""
    features = torch.tensor([[0.0, 0], [0, 1], [1, 0], [3, 3]])
    assert score("deep-knn", Examples(features, features, torch.tensor([0, 0, 1, 2]))).tolist() == [0, 0, 2, 2]


def test_clusters_score_by_their_size() -> None:
    features = torch.tensor([[0.0, 0], [0, 0.1], [0.1, 0], [9, 9], [5, 5]])
    labels = torch.tensor([0, 0, 0, 0, 1])
    assert score("activation-clustering", Examples(features, features, labels)).tolist() == [0, 0, 0, 0.75, 0]
    # 50 images, 5 medoids: of each class's groups the medoids' clusters have these sizes.
    logits = torch.cat([torch.tensor([[8.0, -8]]).expand(46, 2), torch.tensor([[-8.0, 8]]).expand(4, 2)])
    found = score("epic", Examples(logits, logits, torch.zeros(50, dtype=torch.int64)))
    assert found.tolist() == [-46] * 46 + [-4] * 4
    # A class of four images has no medoid, and is not suspicious for being small.
    logits = torch.cat([logits, torch.zeros(4, 2)])
    found = score("epic", Examples(logits, logits, torch.tensor([0] * 50 + [1] * 4)))
    assert found[50:].tolist() == [-54] * 4


def test_self_confidence_is_one_less_the_softmax_of_the_label() -> None:
    logits = torch.tensor([[2.0, -1, 0.5], [0, 0, 0], [-60, 5, 60]])
    labels = torch.tensor([0, 2, 2])
    found = score("self-confidence", Examples(logits, logits, labels))
    expected = 1 - softmax(logits.double().numpy(), axis=1)[np.arange(3), labels.numpy()]
    assert found[:2].tolist() == pytest.approx(expected[:2].tolist())
    # 1 - softmax is rounded to 0 there, and images that the network is sure of would tie.
    assert found[2].item() == pytest.approx(np.exp(-55.0))


def test_memory_bounds_the_rows_and_changes_nothing() -> None:
    assert rows_at_once(2**29, 50_000) * 50_000 * 12 <= 2**29
    assert rows_at_once(1, 10**6) == 1
    found, _ = examples()
    narrow = Examples(found.features, found.logits, found.labels, neighbours=9, memory=5000)
    for method in ("deep-knn", "epic"):
        assert torch.equal(score(method, narrow), score(method, found))


def test_logits_that_are_not_finite_are_one_line() -> None:
    found, _ = examples()
    logits = found.logits.clone()
    logits[2] = torch.inf
    with pytest.raises(DataError, match="example 2 are not finite"):
        score("epic", Examples(found.features, logits, found.labels))


def test_an_unknown_filter_is_one_line() -> None:
    with pytest.raises(SettingsError, match="there is no 'knn': choose from deep-knn"):
        score("knn", examples()[0])
