"""Spectral signatures against numpy's singular value decomposition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from poisonlab.errors import SettingsError
from poisonlab.filters.spectral_signatures import Settings, judge, spectral_signatures, squared_projections


def decomposed(features: Tensor) -> np.ndarray:
    wide = features.double().numpy()
    centred = wide - wide.mean(axis=0)
    return (centred @ np.linalg.svd(centred, full_matrices=False)[2][0]) ** 2


def gaussian(count: int, width: int, seed: int) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=stream) * torch.linspace(1, 3, width) + 5


@settings(max_examples=60, deadline=None)
@given(count=st.integers(2, 40), width=st.integers(1, 40), seed=st.integers(0, 999))
def test_projections_are_those_of_the_decomposition(count: int, width: int, seed: int) -> None:
    """Both ways, more examples than features and fewer."""
    features = gaussian(count, width, seed)
    ours = squared_projections(features).numpy()
    reference = decomposed(features)
    spectrum = np.linalg.svd((features.double() - features.double().mean(0)).numpy(), compute_uv=False)
    if len(spectrum) > 1 and spectrum[0] - spectrum[1] < 1e-3 * spectrum[0]:
        return
    np.testing.assert_allclose(ours, reference, rtol=1e-7, atol=1e-9 * reference.max())


def test_each_class_loses_its_highest_scores() -> None:
    features = gaussian(90, 12, 3)
    labels = torch.arange(90) % 3
    verdict = spectral_signatures(features, labels, expected=5)
    assert verdict.score is not None
    for label in range(3):
        rows = (labels == label).nonzero()[:, 0]
        score = decomposed(features[rows])
        np.testing.assert_allclose(verdict.score[rows].numpy(), score, rtol=1e-7)
        # int(1.5 * 5) = 7
        dropped = set(rows[np.argsort(-score)[:7].copy()].tolist())
        assert set(rows[~verdict.keep[rows]].tolist()) == dropped


def test_the_release_drops_750_of_every_class_for_500_poisons() -> None:
    labels = torch.arange(10).repeat_interleave(1000)
    verdict = spectral_signatures(gaussian(10_000, 4, 0), labels, expected=500)
    assert torch.bincount(labels[~verdict.keep]).tolist() == [750] * 10


def test_equal_scores_drop_the_lowest_rows() -> None:
    features = torch.tensor([[1.0], [-1.0]]).repeat(5, 1)
    verdict = spectral_signatures(features, torch.zeros(10, dtype=torch.int64), expected=2)
    assert verdict.keep.tolist() == [False] * 3 + [True] * 7


def test_settings_expect_a_share_of_all_examples() -> None:
    """5 % of 60 are 3, of which twice as many go from each class."""
    labels = torch.arange(60) % 3
    keep = judge(Settings(expected=0.05, factor=2.0), gaussian(60, 4, 0), labels).keep
    assert torch.bincount(labels[~keep]).tolist() == [6, 6, 6]


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (14, "drop 21 of the 20 examples of class 0"),
        (13.5, "drop 20 of the 20 examples of class 0"),
        (-1, "negative"),
        (0.01, "0.01 expected .* drop none: expect 0.67 or more"),
    ],
)
def test_impossible_numbers_are_one_line(expected: float, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        spectral_signatures(gaussian(20, 4, 1), torch.zeros(20, dtype=torch.int64), expected=expected)
    assert "\n" not in str(caught.value)
