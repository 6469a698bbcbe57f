"""Poison Frogs against its equation, and where it is Bullseye Polytope by another name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_features import attacker, common, crafted, dataset, doubled, network, plain

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks import bullseye_polytope
from poisonlab.attacks.poison_frogs import craft, per_image
from poisonlab.config.attacks.bullseye_polytope import BullseyePolytope
from poisonlab.config.attacks.poison_frogs import PoisonFrogs
from poisonlab.models.classifier import Classifier


def frogs(*surrogates: Classifier, seed: int = 0, **options: Any) -> PoisonSet:
    return craft(dataset(), attacker(*surrogates), PoisonFrogs(**common(**options)), seed=seed)


def test_per_image_is_equation_1() -> None:
    torch.manual_seed(2)
    points, goal = torch.randn(4, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    loop = sum(sum((points[i, d] - goal[d]).item() ** 2 for d in range(3)) for i in range(4)) / 4
    assert per_image(goal)(points).item() == pytest.approx(loop, rel=1e-12)
    assert torch.autograd.gradcheck(per_image(goal), points.requires_grad_())


@pytest.mark.parametrize("beta", [0.0, 0.2])
def test_steps_are_those_of_the_algorithm_written_out(beta: float) -> None:
    options = {"watermark": 0.3, "eps": 50}
    models = network(), network(1)
    poisons = frogs(*models, beta=beta, **options)
    losses, change = plain(models, per_image, poisons, beta, **options)
    assert torch.allclose(poisons.diagnostics["feature_loss"].double(), losses, rtol=1e-3)
    made = poisons.images.double() - poisons.base_images
    assert (made - change).abs().quantile(0.97) < 0.55


@pytest.mark.parametrize(
    "options", [{}, {"augment": True, "dropout": True, "start": "random"}, {"optimizer": "signed-adam"}]
)
def test_the_mean_of_one_target_is_bullseye(options: dict[str, Any]) -> None:
    """As in the toolbox of Witches' Brew: two names for one objective."""
    ours = frogs(network(dropout=0.2), network(1), objective="mean", seed=3, **options)
    settings = BullseyePolytope(**common(distance="mean-square", **options))
    models = attacker(network(dropout=0.2), network(1))
    theirs = bullseye_polytope.craft(dataset(), models, settings, seed=3)
    assert torch.equal(ours.images, theirs.images)
    assert torch.equal(ours.diagnostics["feature_loss"], theirs.diagnostics["feature_loss"])
    assert ours.facts == theirs.facts
    assert not torch.equal(ours.images, frogs(network(dropout=0.2), network(1), seed=3, **options).images)


def test_every_poison_meets_the_target() -> None:
    models = network(), network(1)
    poisons = frogs(*models, steps=300, eps=100)
    for model in models:
        model.double().eval()
        goal = model.extract(doubled(poisons.goal.targets / 255.0))
        before = (model.extract(doubled(poisons.base_images / 255.0)) - goal).norm(dim=1)
        after = (model.extract(doubled(poisons.images / 255.0)) - goal).norm(dim=1)
        assert (after < before / 10).all()


def test_beta_pulls_to_the_watermarked_base() -> None:
    options = {"watermark": 0.3, "eps": 255, "steps": 60, "precision": "float32"}
    free, held = frogs(**options), frogs(beta=100.0, **options)
    marked = held.base_images / 255 + 0.3 * (held.goal.targets / 255.0 - held.base_images / 255)
    far, near = ((poisons.images - marked).abs().mean() for poisons in (free, held))
    assert near < far / 5
    assert (held.images - held.base_images / 255).abs().mean() > 3 * near
    # The recorded loss leaves the pull out: at the origin it is the same.
    assert free.diagnostics["feature_loss"][0] == held.diagnostics["feature_loss"][0]


def test_beta_is_half_of_the_benchmarks() -> None:
    """Where its forward and backward steps rest, the objective with half of its beta is flat."""
    model, theirs, lr = network().double().eval(), 4.0, 0.002
    poisons = frogs(model.float(), steps=1, lr=1e-9, budget=1e-9)
    model.double()
    base, target = (images.double() / 255 for images in (poisons.base_images, poisons.goal.targets))
    goal = model.extract(doubled(target))[0].detach()
    x = base.clone()
    for _ in range(4000):
        y = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((model.extract(doubled(y)) - goal).square().sum(), y)
        x = (x - lr * gradient + lr * theirs * base) / (1 + lr * theirs)
    y = x.clone().requires_grad_()

    def steepness(beta: float) -> float:
        whole = per_image(goal)(model.extract(doubled(y))) + beta * (y - base).square().sum()
        return float(torch.autograd.grad(whole, y)[0].norm())

    assert steepness(theirs / 2) < 1e-3 * steepness(theirs)


def test_beta_acts_on_the_mean_objective_as_well() -> None:
    held = frogs(objective="mean", beta=0.3, precision="float32")
    assert torch.equal(held.images, crafted(beta=0.3, precision="float32").images)
    assert not torch.equal(held.images, frogs(objective="mean", precision="float32").images)
