"""STRIP against closed forms and a slow loop, and on a network with a backdoor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from planted import NORMALIZE
from scipy import stats
from torch import Tensor, nn

from poisonlab.detection.strip import Convention, Fit, entropies, entropy, flagged, threshold
from poisonlab.errors import DataError, PoisonlabError, SettingsError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int, seed: int) -> Tensor:
    return torch.randint(256, (count, 3, 4, 4), generator=generator(seed), dtype=torch.uint8)


def linear(classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, classes))


def test_entropies_of_known_distributions() -> None:
    chances = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [8, 4, 2, 2]], dtype=torch.float64)
    found = entropy((chances / chances.sum(1, keepdim=True)).log())
    np.testing.assert_allclose(found.numpy(), [2, 1, 0, 1.75], atol=1e-12)


def test_the_entropy_is_over_the_classes() -> None:
    """Over the images, the second axis but one, it would be that of (1/2, 1/2) in every class."""
    sure = torch.tensor([[50.0, 0.0, 0.0]]).repeat(2, 1)
    assert float(entropy(sure).max()) < 1e-12
    assert entropy(torch.zeros(7, 3)).tolist() == pytest.approx([math.log2(3)] * 7)


def test_extreme_logits_have_finite_entropies() -> None:
    found = entropy(torch.tensor([[1e30, -1e30], [-1e30, -1e30]]))
    assert found.tolist() == [0, 1]


@pytest.mark.parametrize(("convention", "alpha"), [("superimpose", 1.0), ("superimpose", 0.4), ("blend", 0.3)])
def test_a_loop_over_images_and_overlays_agrees(convention: Convention, alpha: float) -> None:
    model, tested, overlays, count = linear(), images(6, 1), images(9, 2), 7
    found = entropies(
        model, NORMALIZE, tested, overlays, generator(3), count=count, convention=convention, alpha=alpha, chunk=10
    )
    drawn = torch.randint(9, (6 * count,), generator=generator(3)).view(6, count).tolist()
    for row, picks in enumerate(drawn):
        parts = []
        for pick in picks:
            x, o = tested[row].double() / 255, overlays[pick].double() / 255
            if convention == "blend":
                mixed = ((1 - alpha) * x + alpha * o - 0.5) / 0.25
            else:
                mixed = (x - 0.5) / 0.25 + alpha * (o - 0.5) / 0.25
            chances = model(mixed.float()[None])[0].detach().double().softmax(0).numpy()
            parts.append(stats.entropy(chances, base=2))
        assert float(found[row]) == pytest.approx(np.mean(parts), abs=1e-6)


def test_the_chunk_does_not_matter() -> None:
    model, tested, overlays = linear(), images(5, 1), images(9, 2)
    whole, pieces = (
        entropies(model, NORMALIZE, tested, overlays, generator(), count=8, chunk=chunk) for chunk in (1000, 3)
    )
    torch.testing.assert_close(whole, pieces, rtol=0, atol=1e-6)


def test_thresholds_of_known_entropies() -> None:
    values = torch.randperm(101, generator=generator()).double()
    assert threshold(values, 0.1) == pytest.approx(10)
    assert threshold(values, 0.015) == pytest.approx(1.5)
    expected = stats.norm.ppf(0.01, *stats.norm.fit(values.numpy()))
    assert threshold(values, 0.01, "gaussian") == pytest.approx(expected)
    assert threshold(values, 0.5, "gaussian") == pytest.approx(50)


def test_a_tenth_of_the_clean_images_is_flagged() -> None:
    values = torch.rand(1000, generator=generator(), dtype=torch.float64)
    assert int(flagged(values, threshold(values, 0.1)).sum()) == 100


def test_flagged_is_strictly_below() -> None:
    assert flagged(torch.tensor([0.1, 0.2, 0.3]), 0.2).tolist() == [True, False, False]


def test_equal_entropies_flag_nothing() -> None:
    values = torch.full((50,), 0.7, dtype=torch.float64)
    fits: list[Fit] = ["quantile", "gaussian"]
    assert all(not bool(flagged(values, threshold(values, 0.1, fit)).any()) for fit in fits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "0 overlays per image"),
        ({"chunk": 0}, "0 images at a time"),
        ({"convention": "paste"}, "unknown convention 'paste'"),
        ({"alpha": -1.0}, "weight of -1.0"),
        ({"convention": "blend", "alpha": 1.5}, "weight of 1.5"),
        ({"convention": "blend"}, "weight of 1.0"),
    ],
)
def test_impossible_settings_are_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        entropies(linear(), NORMALIZE, images(2, 1), images(2, 2), generator(), **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (torch.ones(3), {"far": 0.0}, "rate of false alarms of 0.0"),
        (torch.ones(3), {"fit": "beta"}, "unknown fit 'beta'"),
        (torch.ones(0), {}, "at least one clean image"),
        (torch.tensor([1.0, math.nan]), {}, "finite"),
    ],
)
def test_impossible_thresholds_are_one_line(values: Tensor, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PoisonlabError, match=message) as caught:
        threshold(values, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("overlays", [torch.zeros(3, 1, 4, 4), torch.zeros(0, 3, 4, 4)])
def test_overlays_that_do_not_fit_are_said_so(overlays: Tensor) -> None:
    with pytest.raises(DataError, match="there must be an overlay"):
        entropies(linear(), NORMALIZE, images(2, 1), overlays, generator())
