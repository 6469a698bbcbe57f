"""How the matching loss is differentiated, and at which weights its goal is taken: against the exact double backward in
float64, and against the formula written out."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.attacks import gradient_matching, matching, sleeper_agent
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.matching import Matcher, match, target_gradient
from poisonlab.config.attacks.gradient_matching import GradientMatching
from poisonlab.config.attacks.matching import MatchingAttack
from poisonlab.config.attacks.sleeper_agent import SleeperAgent
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.models.classifier import Classifier, Normalize

POISONS = 7
LABELS = torch.tensor([0, 1, 2, 1, 0, 2, 2])


def network(seed: int = 0, batch_norm: bool = True) -> Classifier:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(3, 4, 3, padding=1), *([nn.BatchNorm2d(4)] if batch_norm else [])]
    return Classifier(nn.Sequential(*layers, nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()), nn.Linear(36, 3)).eval()


def images(count: int = POISONS, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def matcher(model: nn.Module, dtype: torch.dtype = torch.float64, **options: Any) -> Matcher:
    model = model.to(dtype)
    return Matcher(model, target_gradient(model, images(1, 9).to(dtype), torch.tensor([0]), "cross-entropy"), **options)


def dataset() -> ImageDataset:
    stream = torch.Generator().manual_seed(1)
    labels = torch.arange(30) % 3
    pictures = (torch.randint(0, 120, (30, 3, 6, 6), generator=stream) + (labels * 60)[:, None, None, None]).byte()
    return ImageDataset(
        pictures, labels, pictures[:12], labels[:12], ("a", "b", "c"), (0.4, 0.5, 0.4), (0.25, 0.2, 0.25)
    )


def attacker(data: ImageDataset, *models: Classifier, kind: str = "shift") -> Attacker:
    recipe = Recipe(epochs=1, batch_size=10, lr=0.05, augmentation=Augmentation(kind=kind, pixels=1), milestones=())
    return Attacker(models, Normalize(data.mean, data.std), recipe, fresh=network)


# --- differences ------------------------------------------------------------------------------------------------------


def test_differences_come_to_the_exact_gradient_with_the_square_of_their_step() -> None:
    inputs = images().double()
    loss, gradient = matcher(network(seed=3)).loss_and_gradient(inputs, LABELS)
    errors = []
    for difference in (0.02, 0.01, 0.005):
        ours = matcher(network(seed=3), derivative="differences", difference=difference)
        value, found = ours.loss_and_gradient(inputs, LABELS)
        assert value.item() == pytest.approx(loss.item(), abs=1e-12)
        assert found.shape == inputs.shape
        errors.append(float((found - gradient).norm() / gradient.norm()))
    assert errors[-1] < 2e-3
    assert [first / second for first, second in pairwise(errors)] == pytest.approx([4, 4], rel=0.1)


def test_so_they_do_between_the_kinks_of_margins() -> None:
    inputs = images().double()
    loss, gradient = matcher(network(seed=3), criterion="carlini-wagner").loss_and_gradient(inputs, LABELS)
    ours = matcher(network(seed=3), criterion="carlini-wagner", derivative="differences", difference=1e-6)
    value, found = ours.loss_and_gradient(inputs, LABELS)
    assert value.item() == pytest.approx(loss.item(), abs=1e-12)
    assert torch.allclose(found, gradient, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("derivative", ["exact", "differences"])
def test_poisons_that_have_their_labels_by_a_margin_are_left_where_they_are(derivative: str) -> None:
    model, inputs = network(seed=3).double(), images().double()
    sure = model(inputs).argmax(1)
    ours = matcher(model, criterion="carlini-wagner", derivative=derivative)
    loss, gradient = ours.loss_and_gradient(inputs, sure)
    assert loss.item() == 1
    assert not bool(gradient.any())


@pytest.mark.parametrize("at_once", [1, 2, 3, 6])
def test_the_result_does_not_depend_on_the_chunk_that_bounds_the_memory(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    model, inputs = network(), images().double()
    model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    ours = matcher(model, derivative="differences")
    loss, gradient = ours.loss_and_gradient(inputs, LABELS)
    assert max(seen) == POISONS
    seen.clear()
    monkeypatch.setattr(matching, "images_at_once", lambda *_: at_once)
    value, found = ours.loss_and_gradient(inputs, LABELS)
    assert max(seen) <= at_once
    assert value.item() == pytest.approx(loss.item(), rel=1e-9)
    assert torch.allclose(found, gradient, rtol=1e-7, atol=1e-12)
    assert ours.loss(inputs, LABELS).item() == pytest.approx(loss.item(), rel=1e-9)


class Tokens(nn.Module):
    """A class token before four patches of 3 x 3 pixels, a vector added for each place, and the mean, as in ViT."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 4, 3, stride=3), nn.Linear(4, 3)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 4)), nn.Parameter(torch.randn(1, 5, 4))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        placed = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.places
        return cast(Tensor, self.head(torch.tanh(placed).square().mean(1)))


def test_gradients_that_share_memory_are_summed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one image, autograd returns the token's gradient as a part of that of the places."""
    torch.manual_seed(0)
    ours = matcher(Tokens(), derivative="differences")
    inputs = images().double()
    loss, gradient = ours.loss_and_gradient(inputs, LABELS)
    monkeypatch.setattr(matching, "images_at_once", lambda *_: 1)
    assert ours.loss(inputs, LABELS).item() == pytest.approx(loss.item(), rel=1e-9)
    value, found = ours.loss_and_gradient(inputs, LABELS)
    assert value.item() == pytest.approx(loss.item(), rel=1e-9)
    assert torch.allclose(found, gradient, rtol=1e-7, atol=1e-12)


def test_where_memory_runs_out_chunks_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = network(), images().double()
    ours = matcher(model, derivative="differences")
    expected = ours.loss_and_gradient(inputs, LABELS)

    def greedy(_: nn.Module, given: tuple[Tensor]) -> None:
        if len(given[0]) > 2:
            raise torch.OutOfMemoryError

    model.register_forward_pre_hook(greedy)
    loss, gradient = ours.loss_and_gradient(inputs, LABELS)
    assert loss.item() == pytest.approx(expected[0].item(), rel=1e-9)
    assert torch.allclose(gradient, expected[1], rtol=1e-7, atol=1e-12)


def test_mixed_precision_is_near_float32() -> None:
    wide = matcher(network(), torch.float32, derivative="differences").loss_and_gradient(images(), LABELS)
    ours = matcher(network(), torch.float32, precision="bfloat16", derivative="differences")
    loss, gradient = ours.loss_and_gradient(images(), LABELS)
    assert gradient.dtype == torch.float32
    assert loss.item() == pytest.approx(wide[0].item(), abs=0.01)
    assert float(F.cosine_similarity(gradient.flatten(), wide[1].flatten(), dim=0)) > 0.95


def test_frozen_weights_are_neither_matched_nor_moved() -> None:
    model = network().double()
    model.extract.requires_grad_(False)
    exact = matcher(model).loss_and_gradient(images().double(), LABELS)
    found = matcher(model, derivative="differences", difference=1e-4).loss_and_gradient(images().double(), LABELS)
    assert torch.allclose(found[1], exact[1], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("augmentation", ["none", "shift"])
def test_crafting_by_small_differences_follows_the_exact_path(augmentation: str) -> None:
    """Before the signs of tiny gradients part the two; the augmentation is drawn once for the whole batch in both."""
    data = dataset()
    losses = []
    for change in ({}, {"derivative": "differences", "difference": 1e-3}):
        settings = GradientMatching(name="a", surrogate="s", budget=0.2, steps=8, restarts=2, **change)
        models = network(3, batch_norm=False), network(4)
        poisons = gradient_matching.craft(data, attacker(data, *models, kind=augmentation), settings, seed=0)
        losses.append(poisons.diagnostics["matching_loss"])
    assert torch.allclose(losses[0][:, :4], losses[1][:, :4], atol=2e-3)
    assert torch.allclose(losses[0], losses[1], atol=0.03)


# --- crafting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{}, {"crafting_precision": "bfloat16"}])
def test_crafting_by_differences_lowers_the_loss(change: dict[str, Any]) -> None:
    data = dataset()
    options = {"budget": 0.3, "steps": 20, "restarts": 2, "eps": 40, "derivative": "differences", **change}
    settings = GradientMatching(name="a", surrogate="s", **options)
    losses = gradient_matching.craft(data, attacker(data, network(3)), settings, seed=0).diagnostics["matching_loss"]
    assert bool((losses[:, -3:].mean(1) < losses[:, :3].mean(1) - 0.02).all())


# --- the worst weights nearby -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["cross-entropy", "carlini-wagner"])
def test_the_goal_is_the_gradient_after_a_step_that_raises_the_attackers_loss(criterion: str) -> None:
    model, targets, radius = network(seed=3).double(), images(2, 9).double(), 0.2
    settings = MatchingAttack(
        name="a", method="m", surrogate="s", target_criterion=criterion, sharpness=radius, derivative="differences"
    )
    before = copy.deepcopy(model.state_dict())
    goal = match(model, targets, 1, settings).goal
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def loss(network: nn.Module) -> Tensor:
        logits = network(targets)
        if criterion == "cross-entropy":
            return -logits.log_softmax(1)[:, 1].mean()
        return torch.stack([(torch.cat([z[:1], z[2:]]).max() - z[1]).clamp(min=0) for z in logits]).mean()

    loss(model).backward()
    length = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    worst = copy.deepcopy(model)
    with torch.no_grad():
        for there, here in zip(worst.parameters(), model.parameters(), strict=True):
            there += radius * here.grad / length
    moved = torch.cat([(a - b).flatten() for a, b in zip(worst.parameters(), model.parameters(), strict=True)])
    assert moved.norm().item() == pytest.approx(radius)
    assert loss(worst).item() > loss(model).item()
    expected = torch.autograd.grad(loss(worst), list(worst.parameters()))
    for ours, theirs in zip(goal, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_weights_come_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = network().double(), []
    real = target_gradient

    def failing(*arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(matching, "target_gradient", failing)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(KeyboardInterrupt):
        match(model, images(1).double(), 1, MatchingAttack(name="a", method="m", surrogate="s", sharpness=1.0))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("derivative", ["exact", "differences"])
def test_both_attacks_take_sharpness_with_either_derivative(derivative: str) -> None:
    data, losses = dataset(), {}
    for sharpness in (0.0, 1.0):
        options = {"surrogate": "s", "budget": 0.2, "steps": 3, "derivative": derivative, "sharpness": sharpness}
        matched = GradientMatching(name="a", restarts=1, **options)
        agent = SleeperAgent(name="b", retrain_every=1, patch={"size": 2}, **options)
        for module, settings in ((gradient_matching, matched), (sleeper_agent, agent)):
            poisons = module.craft(data, attacker(data, network(3)), settings, seed=0)  # type: ignore[arg-type]
            losses[settings.name, sharpness] = poisons.diagnostics["matching_loss"]
    for name in ("a", "b"):
        assert not torch.allclose(losses[name, 0.0], losses[name, 1.0], atol=1e-3)
