"""Bullseye Polytope against its equation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from test_features import attacker, common, dataset, doubled, network
from torch import nn

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.bullseye_polytope import craft, relative
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


def test_dead_target_features_are_one_line() -> None:
    with pytest.raises(PoisonlabError, match="all zero") as caught:
        crafted(network(), dead())
    assert "\n" not in str(caught.value)
    # Without a length to divide by, there is nothing to refuse.
    assert crafted(dead(), distance="mean-square", steps=2).facts["final_distance"] == 0
