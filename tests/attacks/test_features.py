"""What the feature-space attacks share, against the algorithm written out with its own Adam in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from torch import Tensor, nn

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.features import (
    Distance,
    Measure,
    craft_in_features,
    feature_distance,
    frozen,
    length,
    mean_square,
    watermarked,
    within,
)
from poisonlab.config.attacks.features import FeatureAttack
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.augmentation import augment
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import PoisonlabError
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.randomness import generator

SHIFT = Augmentation(kind="shift", pixels=1)


def network(seed: int = 0, batch_norm: bool = False, dropout: float = 0.0, width: int = 8) -> Classifier:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(2, 4, 3, padding=1)]
    layers += [nn.BatchNorm2d(4)] if batch_norm else []
    layers += [nn.Tanh(), nn.Dropout2d(dropout), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(dropout)]
    return Classifier(nn.Sequential(*layers, nn.Linear(36, width), nn.Softplus()), nn.Linear(width, 3))


def dataset() -> ImageDataset:
    stream = torch.Generator().manual_seed(1)

    def split(size: int) -> tuple[Tensor, Tensor]:
        return torch.randint(0, 256, (size, 2, 6, 6), generator=stream).to(torch.uint8), torch.arange(size) % 3

    return ImageDataset(*split(60), *split(12), ("a", "b", "c"), (0.4, 0.5), (0.25, 0.2))


def attacker(*surrogates: Classifier, augmentation: Augmentation = SHIFT) -> Attacker:
    data = dataset()
    return Attacker(surrogates or (network(),), Normalize(data.mean, data.std), Recipe(augmentation=augmentation))


def common(**options: Any) -> dict[str, Any]:
    return {"name": "f", "surrogate": "s", "budget": 0.1, "steps": 20, "lr": 0.02, **options}


def crafted(
    *surrogates: Classifier, measure: Measure = mean_square, seed: int = 0, beta: float = 0.0, **options: Any
) -> PoisonSet:
    settings = FeatureAttack(**common(method="m", **options))
    return craft_in_features(dataset(), attacker(*surrogates), settings, measure, seed=seed, beta=beta)


def doubled(images: Tensor) -> Tensor:
    """Images in float64 and normalised, as plain arithmetic has it."""
    data = dataset()
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (data.mean, data.std))
    return (images - mean) / std


def plain(
    surrogates: Sequence[Classifier], measure: Measure, poisons: PoisonSet, beta: float, **options: Any
) -> tuple[Tensor, Tensor]:
    """The attack written out for the bases of ``poisons``, seed 0: losses and the last perturbation in levels."""
    s = FeatureAttack(**common(method="m", **options))
    eps = s.eps / 255
    bases, target = poisons.base_images.double() / 255, poisons.goal.targets.double() / 255

    def project(change: Tensor) -> Tensor:
        return (bases + change.clamp(-eps, eps)).clamp(0, 1) - bases

    change = project(s.watermark * (target - bases))
    origin = bases + change
    if s.start == "random":
        change = project(change + eps * torch.randn(bases.shape, generator=generator("cpu", 0, "features", "start")))
    stream = generator("cpu", 0, "features", "augment")
    models = [model.eval() for model in surrogates]
    for model in models:
        model.double()
    first = second = torch.zeros_like(change)
    losses = []
    for step in range(s.steps):
        x = change.clone().requires_grad_()
        inputs = augment(doubled(bases + x), SHIFT, stream) if s.augment else doubled(bases + x)
        each = [measure(m.extract(doubled(target))[0].detach())(m.extract(inputs)) for m in models]
        loss = torch.stack(each).mean()
        pull = beta * (bases + x - origin).square().flatten(1).sum(1).mean()
        (gradient,) = torch.autograd.grad(loss + pull, x)
        losses.append(loss.item())
        rate = s.lr
        if s.optimizer == "signed-adam":
            gradient = gradient.sign()
            rate *= 0.1 ** sum(step >= int(s.steps / d) for d in (2.667, 1.6, 1.142))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        correction = (1 - 0.9 ** (step + 1)), (1 - 0.999 ** (step + 1))
        change = project(change - rate * (first / correction[0]) / ((second / correction[1]).sqrt() + 1e-8))
    for model in models:
        model.float()
    return torch.tensor(losses, dtype=torch.float64), change * 255


# --- the optimisation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beta", "options"),
    [
        (0.0, {}),
        (0.0, {"start": "random", "eps": 4}),
        (0.0, {"augment": True, "eps": 60}),
        (0.0, {"watermark": 0.3, "eps": 30}),
        (0.5, {"watermark": 0.2, "eps": 100}),
        (0.3, {"start": "random", "augment": True}),
        (0.0, {"optimizer": "signed-adam", "eps": 100}),
    ],
)
def test_every_step_is_that_of_the_algorithm_written_out(beta: float, options: dict[str, Any]) -> None:
    models = network(), network(1, width=5)
    poisons = crafted(*models, beta=beta, precision="float32", **options)
    losses, change = plain(models, mean_square, poisons, beta, **options)
    assert poisons.diagnostics["feature_loss"].dtype == torch.float32
    assert torch.allclose(poisons.diagnostics["feature_loss"].double(), losses, rtol=1e-4)
    made = poisons.images.double() * 255 - poisons.base_images
    # Rounding may turn the sign of a gradient that is nearly zero, so a few pixels may part.
    assert (made - change).abs().quantile(0.97) < 0.01


def test_poisons_replace_the_bases_that_the_seed_draws() -> None:
    data, poisons = dataset(), crafted(seed=2, steps=2)
    assert torch.equal(poisons.base_images, data.train_images[poisons.indices])
    assert torch.equal(poisons.labels, data.train_labels[poisons.indices])
    assert set(poisons.labels.tolist()) == {int(poisons.goal.adversarial_labels[0])}
    assert len(poisons.indices) == 6
    place = poisons.facts["target_index"]
    assert torch.equal(poisons.goal.targets[0], data.test_images[place])
    assert poisons.goal.target_labels.tolist() == [int(data.test_labels[place])]
    assert poisons.images.dtype == torch.uint8


@pytest.mark.parametrize("eps", [1.4, 25.5, 255])
@pytest.mark.parametrize("options", [{}, {"start": "random", "watermark": 0.5, "augment": True}])
def test_shipped_images_keep_the_bound(eps: float, options: dict[str, Any]) -> None:
    for precision in ("uint8", "float32"):
        poisons = crafted(eps=eps, steps=6, lr=1.0, precision=precision, **options)
        poisons.check_bound(eps)
        # A step of the whole range reaches the bound at once.
        reached = int(eps) if precision == "uint8" else eps
        assert poisons.largest_change() >= min(0.99 * reached, 200)
    assert float(poisons.images.min()) >= 0
    assert float(poisons.images.max()) <= 1


def test_the_random_start_is_normal_and_cut_at_the_bound() -> None:
    poisons = crafted(start="random", steps=1, lr=1e-9, eps=10, precision="float32")
    change = poisons.images * 255 - poisons.base_images
    inside = (poisons.base_images > 10) & (poisons.base_images < 245)
    # A normal value lies within one standard deviation with probability 0.683.
    share = (change[inside].abs() < 9.99).float().mean().item()
    assert share == pytest.approx(0.683, abs=0.1)
    assert torch.equal(crafted(steps=1, lr=1e-9).images, poisons.base_images)


def test_features_collide() -> None:
    """With room to move, six poisons bring their mean to the target in both networks."""
    models = network(), network(1)
    start = crafted(*models, steps=1, lr=1e-9)
    poisons = crafted(*models, steps=150, eps=64)
    losses = poisons.diagnostics["feature_loss"]
    assert losses[-1] < losses[0] / 1000
    assert losses[-10:].mean() < losses[:10].mean() / 100
    assert poisons.facts["final_distance"] < start.facts["final_distance"] / 100


# --- surrogates -----------------------------------------------------------------------------------------------


def test_the_final_distance_is_that_of_the_shipped_images() -> None:
    models = network(dropout=0.4), network(1, batch_norm=True), network(2, width=3)
    poisons = crafted(*models, dropout=True, augment=True, steps=5)
    each = []
    for model in models:
        model.double().eval()
        ours, theirs = (model.extract(doubled(images / 255.0)) for images in (poisons.images, poisons.goal.targets))
        each.append((ours.mean(0) - theirs[0]).square().mean().item())
        model.float()
    assert poisons.facts["final_distance"] == pytest.approx(sum(each) / 3, rel=1e-4)
    assert len(f"{poisons.facts['final_distance']:.12g}".strip("0.")) <= 12
    assert float(f"{poisons.facts['final_distance']:.6g}") == poisons.facts["final_distance"]


def test_modes_and_gradient_flags_are_restored() -> None:
    model = network(batch_norm=True, dropout=0.5)
    model.train()
    model.extract[1].eval()
    model.head.weight.requires_grad_(False)
    before = [module.training for module in model.modules()], [p.requires_grad for p in model.parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    crafted(model, dropout=True, steps=3)
    with pytest.raises(PoisonlabError):
        crafted(model, measure=lambda goal: lambda x: x.sum() * torch.inf, dropout=True)
    assert ([module.training for module in model.modules()], [p.requires_grad for p in model.parameters()]) == before
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("dropout", [False, True])
def test_only_dropout_layers_are_ever_active(dropout: bool) -> None:
    layers = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Dropout2d(0.5), nn.AlphaDropout(0.5), nn.Tanh())
    with frozen([layers], dropout):
        assert [layer.training for layer in layers] == [False, dropout, dropout, dropout, False]
        assert not layers.training
        assert not any(p.requires_grad for p in layers.parameters())
    assert all(layer.training for layer in layers)
    assert all(p.requires_grad for p in layers.parameters())


def test_dropout_draws_the_poisons_anew_and_the_target_once() -> None:
    model, goals = network(dropout=0.4), []

    def measure(goal: Tensor) -> Distance:
        goals.append(goal)
        return mean_square(goal)

    # The poisons stand still, so that only dropout changes the loss.
    still = {"steps": 6, "lr": 1e-12}
    active = crafted(model, measure=measure, dropout=True, **still).diagnostics["feature_loss"]
    # Once to craft, once for the final distance, which is without dropout.
    assert len(goals) == 2
    assert not torch.allclose(goals[0], goals[1])
    assert len(active.unique()) == 6
    quiet = crafted(model, **still).diagnostics["feature_loss"]
    assert torch.allclose(quiet, quiet[0], rtol=1e-5)
    assert crafted(model, dropout=True, **still).facts == crafted(model, **still).facts


def test_distances_take_no_part_of_the_network_with_them() -> None:
    goals = []
    crafted(measure=lambda goal: goals.append(goal) or mean_square(goal), steps=1)  # type: ignore[func-returns-value]
    assert all(goal.shape == (8,) and not goal.requires_grad for goal in goals)


# --- pieces ---------------------------------------------------------------------------------------------------


@given(st.floats(0, 1.5), st.floats(0.001, 1), st.integers(0, 50))
@effort(max_examples=60, deadline=None)
def test_a_watermark_keeps_the_bound(opacity: float, bound: float, seed: int) -> None:
    stream = torch.Generator().manual_seed(seed)
    bases = torch.rand(3, 1, 2, 2, generator=stream, dtype=torch.float64)
    target = torch.rand(1, 1, 2, 2, generator=stream, dtype=torch.float64)
    marked = watermarked(bases, target, opacity, bound)
    for one, base in zip(marked, bases, strict=True):
        for x, b, t in zip(one.flatten().tolist(), base.flatten().tolist(), target.flatten().tolist(), strict=True):
            wanted = opacity * t + (1 - opacity) * b
            assert x == pytest.approx(min(max(wanted, b - bound, 0), b + bound, 1), abs=1e-12)


def test_within_is_the_nearest_point() -> None:
    bases = torch.tensor([0.0, 0.1, 0.5, 0.95])
    assert torch.allclose(within(bases + 1, bases, 0.1), torch.tensor([0.1, 0.2, 0.6, 1.0]))
    assert torch.allclose(within(bases - 1, bases, 0.1), torch.tensor([0.0, 0.0, 0.4, 0.85]))
    assert torch.equal(within(bases, bases, 0.1), bases)


def test_mean_square_and_its_gradient() -> None:
    torch.manual_seed(0)
    points, goal = torch.randn(4, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    loop = sum((sum(points[i, d] for i in range(4)) / 4 - goal[d]) ** 2 for d in range(3)) / 3
    assert mean_square(goal)(points).item() == pytest.approx(float(loop), rel=1e-12)
    assert torch.autograd.gradcheck(mean_square(goal), points.requires_grad_())


def test_feature_distance_of_the_target_to_itself_is_zero() -> None:
    image = dataset().test_images[:1]
    assert feature_distance(attacker(), image, image, mean_square) == 0
    assert feature_distance(attacker(), image.repeat(3, 1, 1, 1), image, mean_square) < 1e-12


# --- what goes wrong ------------------------------------------------------------------------------------------


def test_a_diverged_surrogate_is_one_line() -> None:
    model = network()
    with torch.no_grad():
        model.extract[0].weight.fill_(float("nan"))
    with pytest.raises(PoisonlabError, match="features are not finite") as caught:
        crafted(model)
    assert "\n" not in str(caught.value)


def test_an_infinite_loss_is_one_line() -> None:
    def measure(goal: Tensor) -> Distance:
        calls = iter([1.0, 1.0, 1.0])
        return lambda points: points.sum() * next(calls, torch.inf)

    with pytest.raises(PoisonlabError, match="not finite at step 3") as caught:
        crafted(measure=measure)
    assert "\n" not in str(caught.value)


def test_dead_features_have_no_length() -> None:
    with pytest.raises(PoisonlabError, match="all zero") as caught:
        length(F.relu(torch.tensor([-1.0, -2.0])))
    assert "\n" not in str(caught.value)
    assert length(torch.tensor([3.0, 4.0])).item() == 5
