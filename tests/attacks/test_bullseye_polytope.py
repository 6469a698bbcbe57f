"""Bullseye Polytope against its equation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from test_features import attacker, common, dataset, deep, doubled, network, plain
from torch import nn

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.bullseye_polytope import craft, relative
from poisonlab.attacks.features import Distance
from poisonlab.config.attacks.bullseye_polytope import BullseyePolytope
from poisonlab.errors import PoisonlabError
from poisonlab.models.classifier import Classifier


def crafted(*surrogates: Classifier, seed: int = 0, **options: Any) -> PoisonSet:
    return craft(dataset(), attacker(*surrogates), BullseyePolytope(**common(**options)), seed=seed)


def dead() -> Classifier:
    model = network()
    with torch.no_grad():
        model.extract[-2].bias.fill_(-100)
    return Classifier(nn.Sequential(*model.extract[:-1], nn.ReLU()), model.head)


def test_relative_is_equation_3() -> None:
    torch.manual_seed(1)
    points, goal = torch.randn(5, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    mean = [sum(point[d].item() for point in points) / 5 for d in range(3)]
    truth = math.dist(mean, goal.tolist()) / math.hypot(*goal.tolist())
    assert relative(goal)(points).item() == pytest.approx(truth, rel=1e-12)
    assert relative(7 * goal)(7 * points).item() == pytest.approx(truth, rel=1e-12)
    assert torch.autograd.gradcheck(relative(goal), points.requires_grad_())


def test_a_hit_has_no_gradient_but_no_nan() -> None:
    points = torch.ones(2, 3, requires_grad=True)
    relative(torch.ones(3))(points).backward()
    assert points.grad is not None
    assert torch.equal(points.grad, torch.zeros(2, 3))


@pytest.mark.parametrize("distance", ["relative", "mean-square"])
def test_the_first_loss_and_the_final_distance(distance: str) -> None:
    models = network(), network(1, width=5)
    poisons = crafted(*models, distance=distance)

    def truth(images: torch.Tensor) -> float:
        each = []
        for model in models:
            model.double().eval()
            mean = model.extract(doubled(images / 255.0)).mean(0)
            goal = model.extract(doubled(poisons.goal.targets / 255.0))[0]
            gap = mean - goal
            each.append((gap.norm() / goal.norm() if distance == "relative" else (gap**2).mean()).item())
            model.float()
        return sum(each) / len(each)

    assert poisons.diagnostics["feature_loss"][0].item() == pytest.approx(truth(poisons.base_images), rel=1e-3)
    assert poisons.facts["final_distance"] == pytest.approx(truth(poisons.images), rel=1e-3)


@pytest.mark.parametrize("distance", ["relative", "mean-square"])
def test_the_mean_meets_the_target(distance: str) -> None:
    models = network(), network(1)
    poisons = crafted(*models, distance=distance, steps=150, lr=0.004, eps=64)
    losses = poisons.diagnostics["feature_loss"]
    assert losses[-1] < losses[0] / 20
    assert poisons.facts["final_distance"] < losses[0] / 20
    poisons.check_bound(64)


def released(goal: torch.Tensor) -> Distance:
    """Bullseye's distance as released: by position over the channels, then the mean over the positions."""

    def distance(features: torch.Tensor) -> torch.Tensor:
        gap = features.mean(0) - goal
        if goal.ndim == 1:
            return gap.square().sum().sqrt() / goal.square().sum().sqrt()
        height, width = goal.shape[1:]
        each = []
        for i in range(height):
            for j in range(width):
                ours, theirs = gap[:, i, j].square().sum(), goal[:, i, j].square().sum()
                each.append((ours / theirs).sqrt())
        return torch.stack(each).mean()

    return distance


@pytest.mark.parametrize("blocks", [1, "all"])
def test_end_to_end_is_the_released_objective(blocks: int | str) -> None:
    models = deep(), deep(1, width=6)
    options: dict[str, Any] = {"blocks": blocks, "eps": 60, "space": "normalised", "lr": 0.04}
    poisons = crafted(*models, precision="float32", **options)
    losses, change = plain(models, released, poisons, 0.0, **options)
    assert torch.allclose(poisons.diagnostics["feature_loss"].double(), losses, rtol=1e-4)
    made = poisons.images.double() * 255 - poisons.base_images
    assert (made - change).abs().quantile(0.97) < 0.01


def test_positions_without_target_features_are_left_out() -> None:
    torch.manual_seed(1)
    points, goal = torch.randn(5, 3, 2, 2, dtype=torch.float64), torch.randn(3, 2, 2, dtype=torch.float64)
    goal[:, 0, 1] = 0
    kept = [(0, 0), (1, 0), (1, 1)]
    truth = [relative(goal[:, i, j])(points[:, :, i, j]).item() for i, j in kept]
    assert relative(goal)(points).item() == pytest.approx(sum(truth) / 3, rel=1e-12)
    assert torch.autograd.gradcheck(relative(goal), points.requires_grad_())


def test_dead_target_features_are_one_line() -> None:
    with pytest.raises(PoisonlabError, match="all zero") as caught:
        crafted(network(), dead())
    assert "\n" not in str(caught.value)
    # Without a length to divide by, there is nothing to refuse.
    assert crafted(dead(), distance="mean-square", steps=2).facts["final_distance"] == 0
