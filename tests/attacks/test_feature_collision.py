"""Feature collision against its algorithm written out image by image, in float64 with torch's own Adam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from test_features import attacker, dataset, doubled, network
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.feature_collision import craft, unsquared
from poisonlab.attacks.features import feature_distance
from poisonlab.config.attacks.feature_collision import FeatureCollision
from poisonlab.models.classifier import Classifier


def settings(**options: Any) -> FeatureCollision:
    given = {"name": "f", "surrogate": "s", "budget": 0.05, "steps": 30, "target": "random", **options}
    return FeatureCollision.model_validate(given)


def collided(*models: Classifier, seed: int = 0, **options: Any) -> PoisonSet:
    return craft(dataset(), attacker(*models), settings(precision="float32", **options), seed=seed)


def distance(models: Sequence[Classifier], image: Tensor, target: Tensor) -> Tensor:
    each = [(model.extract(doubled(image)) - model.extract(doubled(target)).detach()).norm() for model in models]
    return torch.stack(each).mean()


def slow(models: Sequence[Classifier], base: Tensor, target: Tensor, s: FeatureCollision) -> tuple[Tensor, int, int]:
    """One poison (1, C, H, W), the steps that were taken back, and all steps."""
    for model in models:
        model.double().eval()
    rate, taken_back, mark = s.lr, 0, s.watermark * target + (1 - s.watermark) * base
    x = mark.clone().requires_grad_()
    adam = torch.optim.Adam([x], lr=rate)
    for step in range(s.steps):
        old, before = distance(models, x, target), x.detach().clone()
        (x.grad,) = torch.autograd.grad(old, x)
        adam.param_groups[0]["lr"] = rate
        adam.step()
        with torch.no_grad():
            x.copy_((x + rate * s.beta * mark) / (1 + rate * s.beta))
            moved, length = float((x - before).norm()), float(x.norm())
            if not distance(models, x, target) < old:
                x.copy_(before)
                rate *= s.decay
                taken_back += 1
        if moved < s.tolerance * length:
            return x.detach(), taken_back, step + 1
    return x.detach(), taken_back, s.steps


@pytest.mark.parametrize(
    ("options", "count"),
    [({}, 1), ({"lr": 0.1, "beta": 2.0, "decay": 0.5}, 2), ({"lr": 0.3, "tolerance": 2e-3, "steps": 80}, 1)],
)
def test_poisons_are_those_of_the_algorithm_written_out(options: dict[str, Any], count: int) -> None:
    models = [network(seed) for seed in range(count)]
    poisons, s = collided(*models, **options), settings(**options)
    assert poisons.goal is not None
    target, back, steps = poisons.goal.targets.double() / 255, 0, []
    for image, base in zip(poisons.images, poisons.base_images, strict=True):
        expected, taken_back, taken = slow(models, base[None].double() / 255, target, s)
        back, steps = back + taken_back, [*steps, taken]
        torch.testing.assert_close(image[None].double(), expected.clamp(0, 1), rtol=0, atol=2e-3)
    assert poisons.facts["steps"] == max(steps)
    if options:
        assert back > 0, "no step was taken back, so the falling rate is not tested"
    if "tolerance" in options:
        assert max(steps) < s.steps


def test_the_distance_is_not_squared_and_never_rises() -> None:
    model = network()
    poisons = collided(model, lr=0.2, steps=40)
    losses = poisons.diagnostics["feature_loss"]
    assert poisons.goal is not None
    assert (losses.diff() <= 0).all()
    assert losses[-1] < losses[0] / 2
    model.double()
    target = poisons.goal.targets.double() / 255
    bases = poisons.base_images.double() / 255
    start = [distance([model], 0.3 * target + 0.7 * base, target).item() for base in bases]
    assert losses[0].item() == pytest.approx(sum(start) / len(start), rel=1e-5)
    model.float()
    measured = feature_distance(attacker(model), poisons.images, poisons.goal.targets, unsquared)
    assert poisons.facts["final_distance"] == pytest.approx(measured, rel=1e-5)


def test_test_images_are_appended_and_training_images_replaced() -> None:
    data = dataset()
    labels = {"target_label": "c", "adversarial_label": 0}
    poisons = collided(**labels, steps=1)
    assert poisons.goal is not None
    assert poisons.indices.tolist() == [-1] * 3
    pool = data.test_images[data.test_labels == 0]
    assert all(any(torch.equal(base, image) for image in pool) for base in poisons.base_images)
    assert set(poisons.labels.tolist()) == {0}
    assert poisons.goal.target_labels.tolist() == [2]
    assert poisons.goal.adversarial_labels.tolist() == [0]
    placed = collided(**labels, steps=1, bases="train")
    assert torch.equal(placed.base_images, data.train_images[placed.indices])
    assert set(data.train_labels[placed.indices].tolist()) == {0}


def test_a_bound_cuts_what_is_shipped() -> None:
    free, held = collided(lr=0.1), collided(lr=0.1, eps=8)
    change = free.images * 255 - free.base_images
    assert change.abs().max() > 20
    torch.testing.assert_close(held.images * 255, (held.base_images + change.clamp(-8, 8)).clamp(0, 255))
    assert free.facts["largest_change"] == held.facts["largest_change"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target_label": 1}, "give both target_label and adversarial_label"),
        ({"target_label": 1, "adversarial_label": 1}, "are both 1"),
        ({"setup": "some.pickle"}, "set bases: train"),
        ({"setup": "some.pickle", "bases": "train", "target_label": 1, "adversarial_label": 2}, "leave out the labels"),
    ],
)
def test_contradictions_are_one_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        settings(**options)
