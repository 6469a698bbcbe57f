"""MetaPoison against finite differences and against unrolled training written out layer by layer in float64."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks import metapoison
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.color import Palette
from poisonlab.attacks.metapoison import craft, schedule
from poisonlab.attacks.threat import choose_threat
from poisonlab.attacks.unrolling import Unrolling, margin
from poisonlab.config.attacks.metapoison import MetaPoison, Recolor
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import PoisonlabError, SettingsError
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.randomness import generator, stream_seed

STILL = Augmentation(kind="none")
Weights = dict[str, Tensor]
Batches = list[tuple[Tensor, Tensor]]


def network(seed: int = 0, batch_norm: bool = False) -> Classifier:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(3, 4, 3, padding=1)]
    layers += [nn.BatchNorm2d(4)] if batch_norm else []
    made = Classifier(nn.Sequential(*layers, nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()), nn.Linear(16, 3)).double()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            module.running_mean = torch.randn(4).double() * 0.3
            module.running_var = torch.rand(4).double() + 0.5
    return made


def dataset(count: int = 60, sizes: tuple[int, int, int] | None = None, channels: int = 3) -> ImageDataset:
    """Every image holds its row in its first pixel, so that it can be told from what a network is shown."""
    stream = torch.Generator().manual_seed(1)

    def split(labels: Tensor) -> tuple[Tensor, Tensor]:
        images = torch.randint(0, 256, (len(labels), channels, 4, 4), generator=stream, dtype=torch.uint8)
        images[:, 0, 0, 0] = torch.arange(len(labels))
        return images, labels

    labels = torch.arange(count) % 3
    if sizes is not None:
        labels = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    mean, std = (0.4, 0.5, 0.45)[:channels], (0.25, 0.2, 0.3)[:channels]
    return ImageDataset(*split(labels), *split(torch.arange(12) % 3), ("a", "b", "c"), mean, std)


def row_of(inputs: Tensor) -> list[int]:
    return (inputs[:, 0, 0, 0] * 0.25 + 0.4).mul(255).round().int().tolist()


def options(**changes: Any) -> MetaPoison:
    given: dict[str, Any] = {
        "name": "mp", "surrogate": "s", "budget": 0.1, "ensemble": 2, "steps": 3, "batch_size": 10, "clean_batches": 2,
    }  # fmt: skip
    return MetaPoison(**{**given, **changes})


@dataclass
class World:
    """An attack's means; counts the networks it builds, whose weights are drawn from the seed it asks with."""

    data: ImageDataset = field(default_factory=dataset)
    batch_norm: bool = False
    epochs: int = 4
    warmup: float = 0.0
    label_smoothing: float = 0.0
    rows: Tensor | None = None
    augmentation: Augmentation = STILL
    asked: list[int] = field(default_factory=list)

    def fresh(self, seed: int) -> Classifier:
        self.asked.append(seed)
        return network(seed % 1000, self.batch_norm)

    @property
    def normalize(self) -> Normalize:
        return Normalize(self.data.mean, self.data.std).double()

    @property
    def attacker(self) -> Attacker:
        recipe = Recipe(
            epochs=self.epochs, batch_size=10, lr=0.05, weight_decay=0.01, augmentation=self.augmentation,
            milestones=(2,) if self.epochs > 2 else (), warmup_epochs=self.warmup,
            label_smoothing=self.label_smoothing,
        )  # fmt: skip
        return Attacker((), self.normalize, recipe, self.fresh, self.rows)

    def craft(self, seed: int = 0, **changes: Any) -> PoisonSet:
        return craft(self.data, self.attacker, options(**changes), seed=seed)


@dataclass
class Call:
    """What one unrolled training was given."""

    weights: Weights
    batches: Batches
    target: Tensor
    label: int
    lr: float


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    made: list[Call] = []

    class Recorded(Unrolling):
        def loss(self, weights: Weights) -> Tensor:
            shown = [(images.detach().clone(), labels) for images, labels in self.batches]
            kept = {k: w.clone() for k, w in weights.items()}
            made.append(Call(kept, shown, self.target, self.label, self.lr))
            return super().loss(weights)

    monkeypatch.setattr(metapoison, "Unrolling", Recorded)
    return made


# --- unrolled training, written out -----------------------------------------------------------------------------------


Statistics = tuple[Tensor, Tensor]


def layers(weights: Weights, x: Tensor, statistics: Statistics | None) -> tuple[Tensor, Statistics | None]:
    """Logits of ``network``, normalised by ``statistics`` if given, else by the batch's; and the latter."""
    x = F.conv2d(x, weights["extract.0.weight"], weights["extract.0.bias"], padding=1)
    own = None
    if "extract.1.weight" in weights:
        count = x.numel() / x.shape[1]
        mean = x.mean((0, 2, 3))
        variance = (x - mean.view(1, -1, 1, 1)).square().mean((0, 2, 3))
        own = mean.detach(), variance.detach() * count / (count - 1)
        mean, variance = (mean, variance) if statistics is None else statistics
        x = (x - mean.view(1, -1, 1, 1)) / (variance.view(1, -1, 1, 1) + 1e-5).sqrt()
        x = x * weights["extract.1.weight"].view(1, -1, 1, 1) + weights["extract.1.bias"].view(1, -1, 1, 1)
    x = x.tanh().unflatten(3, (2, 2)).unflatten(2, (2, 2)).mean((3, 5)).flatten(1)
    return x @ weights["head.weight"].T + weights["head.bias"], own


def entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.exp().sum(1).log() - logits[torch.arange(len(labels)), labels]).mean()


def written_out(
    model: nn.Module,
    batches: Batches,
    target: Tensor,
    label: int,
    lr: float,
    fixed: list[Statistics] | None = None,
    evaluating: bool = False,
) -> tuple[Tensor, list[Statistics]]:
    """Algorithm 1's inner loop and outer loss; and batch norm's running statistics after each step.

    Those are numbers, not functions of the images: ``fixed`` takes them from another call. ``evaluating``: the steps,
    too, are normalised by them, and they stay.
    """
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in model.named_parameters()}
    buffers = dict(model.named_buffers())
    running = buffers.get("extract.1.running_mean"), buffers.get("extract.1.running_var")
    total, kept = torch.zeros((), dtype=torch.float64), []
    for number, (images, labels) in enumerate(batches):
        given = running if evaluating and running[0] is not None else None
        logits, own = layers(weights, images, given)  # type: ignore[arg-type]
        names = list(weights)
        gradients = torch.autograd.grad(entropy(logits, labels), [weights[n] for n in names], create_graph=True)
        weights = {name: weights[name] - lr * gradient for name, gradient in zip(names, gradients, strict=True)}
        statistics = None
        if own is not None:
            moved = tuple(0.9 * old + 0.1 * new for old, new in zip(running, own, strict=True))
            running = running if evaluating else moved  # type: ignore[assignment]
            statistics = running if fixed is None else fixed[number]
            kept.append(statistics)
        judged, _ = layers(weights, target, statistics)  # type: ignore[arg-type]
        for row in judged:
            others = torch.stack([z for place, z in enumerate(row) if place != label])
            total = total + torch.maximum(others.max() - row[label], torch.tensor(-100.0)) / len(judged)
    return total / len(batches), kept  # type: ignore[return-value]


def problem(batches: int, batch_norm: bool, targets: int = 1) -> tuple[Classifier, Tensor, Batches, Tensor]:
    """A network, three poisons, batches whose first holds the poisons, and the target."""
    stream = torch.Generator().manual_seed(batches)

    def normal(count: int) -> Tensor:
        return torch.randn(count, 3, 4, 4, generator=stream, dtype=torch.float64)

    poisons = normal(3).requires_grad_()
    made = [(torch.cat([poisons, normal(4)]), torch.tensor([2, 2, 2, 0, 1, 2, 1]))]
    made += [(normal(7), torch.tensor([0, 1, 2, 0, 1, 2, 1])) for _ in range(batches - 1)]
    return network(3, batch_norm), poisons, made, normal(targets)


def weights_of(model: nn.Module) -> Weights:
    return {name: weight.detach() for name, weight in model.named_parameters()}


def unrolling(model: Classifier, batches: Batches, target: Tensor, lr: float = 0.3, **options: Any) -> Unrolling:
    return Unrolling(model, dict(model.named_buffers()), batches, target, 2, lr, **options)


def loss_of(model: Classifier, batches: Batches, target: Tensor, lr: float = 0.3) -> Tensor:
    return unrolling(model, batches, target, lr).loss(weights_of(model))


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_value_and_gradient_are_those_of_training_written_out(steps: int, batch_norm: bool) -> None:
    model, poisons, batches, target = problem(steps, batch_norm, targets=2)
    ours = loss_of(model, batches, target)
    slow, _ = written_out(model, batches, target, 2, 0.3)
    assert ours.item() == pytest.approx(slow.item(), abs=1e-12)
    (gradient,) = torch.autograd.grad(ours, poisons, retain_graph=True)
    (expected,) = torch.autograd.grad(slow, poisons)
    assert gradient.abs().max() > 1e-4
    assert torch.allclose(gradient, expected, atol=1e-12)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_steps_in_eval_mode_are_normalised_by_the_running_statistics(batch_norm: bool) -> None:
    model, poisons, batches, target = problem(2, batch_norm)
    ours = unrolling(model, batches, target, batch_norm="eval").loss(weights_of(model))
    slow, _ = written_out(model, batches, target, 2, 0.3, evaluating=True)
    assert ours.item() == pytest.approx(slow.item(), abs=1e-12)
    (gradient,) = torch.autograd.grad(ours, poisons)
    (expected,) = torch.autograd.grad(slow, poisons)
    assert gradient.abs().max() > 1e-4
    assert torch.allclose(gradient, expected, atol=1e-12)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("steps", [1, 2])
def test_gradient_is_that_of_finite_differences(steps: int, batch_norm: bool) -> None:
    """Second order: the poisons act through the gradient they give. Batch norm's running statistics, which only the
    target's evaluation uses, count as constants."""
    model, poisons, batches, target = problem(steps, batch_norm)
    (gradient,) = torch.autograd.grad(loss_of(model, batches, target), poisons)
    _, statistics = written_out(model, batches, target, 2, 0.3)
    rest = [(images.detach(), labels) for images, labels in batches]
    for place in itertools.product((0, 2), (0, 2), (0, 3), (1, 2)):
        values = []
        for step in (1e-5, -1e-5):
            moved = rest[0][0].clone()
            moved[place] += step
            there = [(moved, rest[0][1]), *rest[1:]]
            fixed = written_out(model, there, target, 2, 0.3, statistics)[0]
            values.append((fixed if batch_norm else loss_of(model, there, target)).item())
        assert float(gradient[place]) == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-8)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_network_is_left_as_it_was(batch_norm: bool) -> None:
    model, poisons, batches, target = problem(2, batch_norm)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss_of(model, batches, target).backward()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert poisons.grad is not None
    assert all(not images.requires_grad for images, _ in batches[1:])


def test_only_the_first_batch_leads_back_to_the_poisons() -> None:
    """Later batches matter for the value through theta_1: a first step of no length leads nowhere."""
    model, poisons, batches, target = problem(2, False)
    (far,) = torch.autograd.grad(loss_of(model, batches, target, lr=1e-9), poisons)
    assert far.abs().max() < 1e-8
    alone = loss_of(model, batches[:1], target)
    both = loss_of(model, batches, target)
    swapped = [batches[0], (batches[1][0].flip(0), batches[1][1])]
    assert loss_of(model, swapped, target).item() != pytest.approx(both.item(), abs=1e-6)
    # The mean over both states, so twice it less the first is the second alone: a judgement after two steps.
    second = 2 * both - alone
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in model.named_parameters()}
    for images, labels in batches:
        gradients = torch.autograd.grad(entropy(layers(weights, images, None)[0], labels), list(weights.values()))
        weights = {
            name: (weight - 0.3 * gradient).detach().requires_grad_()
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }
    z = layers(weights, target, None)[0][0]
    assert second.item() == pytest.approx((max(z[0], z[1]) - z[2]).item(), abs=1e-10)


# --- without a second derivative --------------------------------------------------------------------------------------


def both(unrolling: Unrolling, poisons: Tensor, relative: float) -> tuple[Tensor, Tensor]:
    """The gradient of the poisons, exact and by differences; the loss is the same."""
    weights = weights_of(unrolling.model)
    loss = unrolling.loss(weights)
    (exact,) = torch.autograd.grad(loss, poisons)
    value, slope = unrolling.slope(weights, relative, len(poisons))
    assert value.item() == pytest.approx(loss.item(), abs=1e-12)
    assert not value.requires_grad
    (differences,) = torch.autograd.grad(unrolling.batches[0][0][: len(poisons)], poisons, slope)
    return exact, differences


@pytest.mark.parametrize("convention", ["ours", "released"])
@pytest.mark.parametrize(("batch_norm", "mode"), [(False, "train"), (True, "train"), (True, "eval")])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_differences_come_to_the_exact_gradient_as_the_square_of_their_step(
    steps: int, batch_norm: bool, mode: str, convention: str
) -> None:
    model, poisons, batches, target = problem(steps + (convention == "released"), batch_norm, targets=2)
    unrolled = unrolling(model, batches, target, batch_norm=mode, convention=convention)
    errors = []
    for relative in (4e-3, 2e-3, 1e-3):
        exact, differences = both(unrolled, poisons, relative)
        assert exact.abs().max() > 1e-4
        errors.append(((differences - exact).norm() / exact.norm()).item())
    assert errors[0] / errors[1] == pytest.approx(4, abs=0.3)
    assert errors[1] / errors[2] == pytest.approx(4, abs=0.1)
    assert errors[2] < 1e-3


def test_differences_meet_the_dropout_of_the_step_they_are_about() -> None:
    """Other masks on the two sides would give differences that grow as their step falls."""
    model, _, batches, target = problem(2, False)
    model.extract.append(nn.Dropout(0.5))
    unrolled, found = unrolling(model, batches, target), []
    for relative in (2e-3, 1e-3, 5e-4):
        torch.manual_seed(5)
        found.append(unrolled.slope(weights_of(model), relative, 3)[1])
    assert found[0].abs().max() > 1e-4
    assert (found[0] - found[1]).norm() / (found[1] - found[2]).norm() == pytest.approx(4, abs=0.3)
    torch.manual_seed(6)
    assert not torch.allclose(unrolled.slope(weights_of(model), 5e-4, 3)[1], found[2], rtol=0.1)


class Bent(torch.autograd.Function):
    """x + x^2 / 8, whose derivative has none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x + x.square() / 8

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * (1 + x / 4)


class Bending(nn.Module):
    def __init__(self, once: bool) -> None:
        super().__init__()
        self.once = once

    def forward(self, x: Tensor) -> Tensor:
        bent: Tensor = Bent.apply(x) if self.once else x + x.square() / 8
        return bent


def test_differences_need_no_second_derivative() -> None:
    found = []
    for once in (False, True):
        model, _, batches, target = problem(2, True)
        model.extract.append(Bending(once))
        found.append(unrolling(model, batches, target).slope(weights_of(model), 0.01, 3)[1])
    assert found[0].abs().max() > 1e-4
    assert torch.allclose(found[0], found[1], atol=1e-12)


def test_a_margin_at_its_floor_has_no_slope() -> None:
    model, _, batches, target = problem(2, False)
    with torch.no_grad():
        model.head.bias[2] += 1e4
    value, slope = unrolling(model, batches, target).slope(weights_of(model), 0.01, 3)
    assert value.item() == -100
    assert torch.equal(slope, torch.zeros_like(slope))


def test_the_network_is_left_as_it_was_by_differences() -> None:
    model, _, batches, target = problem(2, True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    unrolling(model, batches, target).slope(weights_of(model), 0.01, 3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_poisons_by_differences_are_nearly_those_of_the_exact_gradient() -> None:
    """Through augmentation, the cut to valid pixels and Adam: a step that starts at the same point."""
    still: dict[str, Any] = {"steps": 1, "eps": 255, "precision": "float32", "unroll_lr": 0.5}
    world = World(batch_norm=True, augmentation=Augmentation(kind="shift", pixels=1))
    exact, differences = (world.craft(derivative=kind, difference=1e-4, **still) for kind in ("exact", "differences"))
    assert differences.diagnostics["adversarial_loss"] == pytest.approx(exact.diagnostics["adversarial_loss"], abs=1e-6)
    moved = (exact.images - exact.base_images / 255).abs().max()
    assert moved > 0.03
    # Where a gradient is nearly zero Adam divides rounding by rounding.
    assert ((differences.images - exact.images).abs() > 1e-4).float().mean() < 0.01


# --- the release ------------------------------------------------------------------------------------------------------


def written_as_released(
    model: nn.Module, batches: Batches, target: Tensor, label: int, lr: float, evaluating: bool = False
) -> Tensor:
    """The released graph: the target is the last image of every batch, and judged in all but the first."""
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in model.named_parameters()}
    buffers = dict(model.named_buffers())
    given = (buffers["extract.1.running_mean"], buffers["extract.1.running_var"]) if evaluating else None
    judged = []
    for number, (images, labels) in enumerate(batches):
        logits, _ = layers(weights, torch.cat([images, target]), given)
        for row in logits[len(images) :]:
            onehot = torch.eye(len(row), dtype=row.dtype)[label]
            second = (row - row * onehot).max()
            judged.append((number, torch.maximum(second - row[label], torch.tensor(-100.0))))
        entropies = entropy(logits[: len(images)], labels)
        gradients = torch.autograd.grad(entropies, list(weights.values()), create_graph=True)
        weights = {name: w - lr * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
    later = [value for number, value in judged if number > 0]
    return torch.stack(later).mean()


@pytest.mark.parametrize(("batch_norm", "mode"), [(False, "train"), (True, "train"), (True, "eval")])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_value_and_gradient_are_those_of_the_released_graph(steps: int, batch_norm: bool, mode: str) -> None:
    model, poisons, batches, target = problem(steps + 1, batch_norm, targets=2)
    # Later batches hold the poisons as well, as constants.
    batches[1:] = [(torch.cat([poisons.detach(), images[3:]]), labels) for images, labels in batches[1:]]
    ours = unrolling(model, batches, target, batch_norm=mode, convention="released").loss(weights_of(model))
    slow = written_as_released(model, batches, target, 2, 0.3, evaluating=mode == "eval")
    assert ours.item() == pytest.approx(slow.item(), abs=1e-12)
    (gradient,) = torch.autograd.grad(ours, poisons)
    (expected,) = torch.autograd.grad(slow, poisons)
    assert gradient.abs().max() > 1e-4
    assert torch.allclose(gradient, expected, atol=1e-12)


def test_the_released_margin_compares_with_zero() -> None:
    assert margin(torch.tensor([[-1.0, -4.0, -2.5]]), 1, "released").item() == 4
    assert margin(torch.tensor([[-1.0, -4.0, -2.5]]), 1).item() == 3
    assert margin(torch.tensor([[1.0, 4.0, 2.5]]), 1, "released").item() == -1.5


# --- margin and schedule ----------------------------------------------------------------------------------------------


def test_margin_in_closed_form() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.5]], requires_grad=True)
    assert margin(logits, 2).item() == 1.5
    assert margin(logits, 1).item() == -1.5
    assert margin(logits, 0).item() == 3
    assert torch.equal(torch.autograd.grad(margin(logits, 2), logits)[0], torch.tensor([[0.0, 1.0, -1.0]]))


def test_margin_has_a_floor() -> None:
    logits = torch.tensor([[0.0, 150.0, -3.0]], requires_grad=True)
    assert margin(logits, 1).item() == -100
    assert torch.equal(torch.autograd.grad(margin(logits, 1), logits)[0], torch.zeros(1, 3))
    assert margin(torch.tensor([[0.0, 99.0]]), 1).item() == -99
    # Each image by itself, then the mean.
    assert margin(torch.tensor([[0.0, 150.0], [50.0, 0.0]]), 1).item() == -25


@given(
    st.lists(st.lists(st.floats(-200, 200, width=32), min_size=4, max_size=4), min_size=1, max_size=4),
    st.integers(0, 3),
)
@effort(max_examples=100, deadline=None)
def test_margin_is_that_of_a_loop(rows: list[list[float]], label: int) -> None:
    each = [max(-100.0, max(z for j, z in enumerate(row) if j != label) - row[label]) for row in rows]
    assert margin(torch.tensor(rows), label).item() == pytest.approx(sum(each) / len(each), rel=1e-5, abs=1e-4)


def test_the_published_schedule() -> None:
    """61 steps: a quadratic warm-up over five, tenfold drops at 20 and 40."""
    factors = [schedule(step, 61) for step in range(61)]
    assert factors[:5] == pytest.approx([0.04, 0.16, 0.36, 0.64, 1.0])
    assert factors[5:20] == [1.0] * 15
    assert factors[20:40] == pytest.approx([0.1] * 20)
    assert factors[40:] == pytest.approx([0.01] * 21)


@pytest.mark.parametrize("steps", [20, 100, 122])
def test_other_lengths_keep_the_shares(steps: int) -> None:
    factors = [schedule(step, steps) for step in range(steps)]
    drops = [step for step in range(1, steps) if factors[step] < factors[step - 1]]
    assert drops == [round(steps * 20 / 61), round(steps * 40 / 61)]


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(20, 20, 20), (10, 14, 36), (30, 16, 14)])
@pytest.mark.parametrize("poisons_per_batch", [None, 1, 4, 6])
def test_the_adversarial_class_has_its_share_of_every_batch(
    calls: list[Call], sizes: tuple[int, int, int], poisons_per_batch: int | None
) -> None:
    world = World(dataset(sizes=sizes))
    labels = world.data.train_labels
    poisons = world.craft(poisons_per_batch=poisons_per_batch, unroll=2, batch_size=12)
    aim, bases = int(poisons.goal.adversarial_labels[0]), set(poisons.indices.tolist())
    share = round(12 * sizes[aim] / 60)
    # Without a number an epoch deals the six poisons to five batches of 12.
    most = poisons_per_batch or 6
    for call in calls:
        (images, given), (clean, own) = call.batches
        assert len(images) == len(clean) == len(given) == len(own) == 12
        assert torch.equal(own, labels[row_of(clean)])
        assert own.eq(aim).sum() == share
        assert call.label == aim
        assert given[0] == aim
        # Poisons come first, then clean images of their class, then the others.
        count = int(given.eq(aim).sum())
        assert (given[:count] == aim).all()
        held = [size for size in range(1, most + 1) if max(size, share) == count]
        assert held
        rows = row_of(images[max(held) :])
        assert torch.equal(given[max(held) :], labels[rows])
        assert not bases & set(rows)
        assert not bases & set(row_of(clean))
    # A surrogate meets different clean images each time.
    assert len({tuple(row_of(call.batches[1][0])) for call in calls}) == len(calls)


@pytest.mark.parametrize(("poisons_per_batch", "batches"), [(1, 6), (4, 2), (6, 1), (10, 1)])
def test_every_poison_is_in_one_batch_of_each_sweep(
    calls: list[Call], poisons_per_batch: int | None, batches: int
) -> None:
    world = World()
    poisons = world.craft(poisons_per_batch=poisons_per_batch, init=1, lr=1e-6, steps=2)
    assert len(calls) == 2 * 2 * batches
    shown = world.normalize(world.data.train_images[poisons.indices] / 255)
    for number in range(4):
        places = []
        for call in calls[number * batches : (number + 1) * batches]:
            for image in call.batches[0][0]:
                distance = (shown - image).abs().flatten(1).amax(1)
                if distance.min() < 0.05:  # a level is up to 0.03 of these normalised values
                    places.append(int(distance.argmin()))
        assert sorted(places) == list(range(6))


def test_without_a_number_batches_hold_what_an_epoch_deals_them() -> None:
    """Of 40 batches of 125 that hold 50 poisons among 5,000 images, 28.7 hold one: hypergeometric."""
    world = World(dataset(5000))
    settings = options(budget=0.01, batch_size=125)
    threat = choose_threat(world.data, world.attacker, settings, 0)
    crafting = metapoison._Crafting(world.data, world.attacker, settings, threat, 0)
    counts = []
    for step in range(200):
        batches = list(crafting._poison_batches(step, 0))
        assert torch.cat(batches).sort().values.tolist() == list(range(50))
        assert all(len(batch) for batch in batches)
        counts.append(len(batches))
    empty = math.comb(4950, 125) / math.comb(5000, 125)
    assert sum(counts) / 200 == pytest.approx(40 * (1 - empty), abs=0.4)
    # Clean images come from the whole pool, and make the batch full.
    (images, _), _ = crafting._batches(batches[0], None, generator("cpu", 0))
    assert len(images) == 125


def test_a_sweep_of_one_batch_is_one_batch(calls: list[Call]) -> None:
    World().craft(poisons_per_batch=2, sweep="batch", steps=3)
    assert len(calls) == 2 * 3


def test_only_the_victims_rows_are_used(calls: list[Call]) -> None:
    rows = torch.arange(15, 60)
    world = World(rows=rows)
    poisons = world.craft(seed=3, batch_size=30, poisons_per_batch=1)
    assert torch.isin(poisons.indices, rows).all()
    # A tenth of the 45, rounded up.
    assert len(poisons.indices) == 5
    for call in calls:
        drawn = row_of(call.batches[0][0][1:]) + row_of(call.batches[1][0])
        assert set(drawn) <= set(rows.tolist()) - set(poisons.indices.tolist())


@pytest.mark.parametrize("kind", ["shift", "crop"])
def test_poisons_are_augmented_as_the_victims_batches_are(calls: list[Call], kind: str) -> None:
    still, moved = World(), World(augmentation=Augmentation(kind=kind, pixels=2))
    still.craft(steps=1)
    moved.craft(steps=1)
    half = len(calls) // 2
    assert not torch.allclose(calls[0].batches[0][0], calls[half].batches[0][0])
    assert torch.equal(calls[0].batches[0][1], calls[half].batches[0][1])
    assert torch.equal(calls[0].target, calls[half].target)


def test_the_target_is_the_test_image(calls: list[Call]) -> None:
    world = World()
    poisons = world.craft()
    target = world.data.test_images[poisons.facts["target_index"]]
    assert torch.equal(poisons.goal.targets[0], target)
    assert torch.allclose(calls[0].target, world.normalize(target[None] / 255))
    assert int(poisons.goal.target_labels[0]) == int(world.data.test_labels[poisons.facts["target_index"]])
    assert int(poisons.goal.target_labels[0]) != int(poisons.goal.adversarial_labels[0])
    assert all(call.lr == 0.1 for call in calls)


# --- surrogates -------------------------------------------------------------------------------------------------------


def clean_network(world: World, number: int, seed: int, batches: int, first: int = 0) -> Classifier:
    """Surrogate ``number`` after so many batches: the recipe's SGD with Nesterov momentum by hand, epoch by epoch of
    its own streams; whenever the recipe is at its end, from new weights that are brought to epoch ``first``."""
    run, length = 0, world.epochs * 6
    while batches > length:
        run, batches = run + 1, batches - length + first * 6
    return clean_run(world, number, seed, run, batches)


def clean_run(world: World, number: int, seed: int, run: int, done: int) -> Classifier:
    """The same after so many batches of its start ``run``."""
    model = network(stream_seed(seed, "metapoison", "surrogate", number, run) % 1000, world.batch_norm).train()
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for batch in range(done):
        epoch, place = divmod(batch, 6)
        order = torch.randperm(60, generator=generator("cpu", seed, "metapoison", "clean", number, run, epoch))
        rows = order[place * 10 : (place + 1) * 10]
        inputs = world.normalize(world.data.train_images[rows] / 255)
        wanted = F.one_hot(world.data.train_labels[rows], 3) * (1 - world.label_smoothing) + world.label_smoothing / 3
        loss = -(wanted * F.log_softmax(model(inputs), 1)).sum(1).mean()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        rate = 0.05 * 0.1 ** (epoch >= 2) * (min(1.0, batch / 6 / world.warmup) if world.warmup else 1.0)
        with torch.no_grad():
            for speed, parameter, gradient in zip(velocity, model.parameters(), gradients, strict=True):
                decayed = gradient + 0.01 * parameter
                speed.mul_(0.9).add_(decayed)
                parameter -= rate * (decayed + 0.9 * speed)
    return model


@pytest.mark.parametrize(("batch_norm", "smoothing"), [(False, 0.0), (True, 0.0), (False, 0.2)])
@pytest.mark.parametrize(("first", "stagger", "clean_batches"), [(0, 1, None), (0, 2, 5), (1, 1, 3), (1, 2, 3)])
def test_surrogates_are_staggered_and_go_on_along_their_clean_trajectory(
    calls: list[Call], first: int, stagger: int, clean_batches: int | None, batch_norm: bool, smoothing: float
) -> None:
    """60 images in batches of 10: an epoch is six batches. Four epochs long, a surrogate starts anew at the end, at
    the first stage: of the stages 1, 3 and 5 the last is 2 of another network."""
    world = World(epochs=4, batch_norm=batch_norm, label_smoothing=smoothing)
    world.craft(
        seed=1, ensemble=3, first_epoch=first, stagger=stagger, clean_batches=clean_batches, steps=4,
        poisons_per_batch=6, lr=255,
    )  # fmt: skip
    assert len(calls) == 12
    for place, call in enumerate(calls):
        step, number = divmod(place, 3)
        done = (first + number * stagger) * 6 + step * (clean_batches or 6)
        expected = dict(clean_network(world, number, 1, done, first).named_parameters())
        for name, weight in call.weights.items():
            # The attack takes the loss in single precision.
            assert torch.allclose(weight, expected[name], atol=1e-5), (step, number, name)


def test_a_new_start_has_new_weights() -> None:
    world = World(epochs=1)
    world.craft(ensemble=2, stagger=1, clean_batches=None, steps=5, sweep="batch")
    # One epoch long: the first starts anew after every step but the first, the second also before it.
    assert len(world.asked) == len(set(world.asked)) == (1 + 4) + (1 + 5)


def test_the_poisons_do_not_touch_the_surrogates(calls: list[Call]) -> None:
    World().craft(eps=1, lr=1)
    World().craft(eps=255, lr=255)
    half = len(calls) // 2
    for small, large in zip(calls[:half], calls[half:], strict=True):
        assert all(torch.equal(weight, large.weights[name]) for name, weight in small.weights.items())


# --- crafting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("eps", "lr"), [(255, 20), (4, 200)])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("weighting", ["sum", "equal"])
def test_every_step_is_that_of_the_algorithm_written_out(
    calls: list[Call], eps: float, lr: float, batch_norm: bool, weighting: str
) -> None:
    """Adam on the summed gradients of all surrogates and batches, or on the sum of their directions, by hand. The
    latter with steps in eval mode."""
    world, steps, evaluating = World(batch_norm=batch_norm), 8, weighting == "equal"
    poisons = world.craft(
        eps=eps, lr=lr, steps=steps, ensemble=2, poisons_per_batch=4, precision="float32", clean_batches=1,
        weighting=weighting, batch_norm="eval" if evaluating else "train",
    )  # fmt: skip
    bases = poisons.base_images / 255
    bound = eps / 255
    start = torch.rand(bases.shape, generator=generator("cpu", 0, "metapoison", "start")) * 2 - 1
    delta = (start * min(8, eps) / 255).double()
    first = second = torch.zeros_like(delta)
    shown, losses = iter(calls), []
    drops = [round(steps * 20 / 61), round(steps * 40 / 61)]
    for step in range(steps):
        x = delta.clone().requires_grad_()
        values = []
        for number in range(2):
            # Of which only batch norm's statistics are used: the weights are those that the attack has.
            model = clean_network(world, number, 0, number * 6 + step)
            order = torch.randperm(6, generator=generator("cpu", 0, "metapoison", "poisons", step, number))
            for part in (order[:4], order[4:]):
                call = next(shown)
                images = torch.cat([world.normalize((bases + x).clamp(0, 1)[part]), call.batches[0][0][len(part) :]])
                model.load_state_dict(call.weights, strict=False)
                batches = [(images, call.batches[0][1]), *call.batches[1:]]
                given = model, batches, call.target, call.label, call.lr
                values.append(written_out(*given, evaluating=evaluating)[0])
        losses.append(float(sum(value.item() for value in values)) / 4)
        parts = [torch.autograd.grad(value, x, retain_graph=True)[0] for value in values]
        gradient = torch.stack([part / part.norm() if weighting == "equal" else part for part in parts]).sum(0)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        rate = lr / 255 * min(1, ((step + 1) / 5) ** 2) * 0.1 ** sum(step >= drop for drop in drops)
        corrected = (first / (1 - 0.9 ** (step + 1))) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        delta = (bases + (delta - rate * corrected).clamp(-bound, bound)).clamp(0, 1) - bases
    assert poisons.diagnostics["adversarial_loss"].tolist() == pytest.approx(losses, abs=1e-4)
    difference = (poisons.images - (bases + delta)).abs() * 255
    # Where a gradient is nearly zero Adam divides rounding by rounding.
    assert difference.median() < 1e-3
    assert (difference > 0.5).float().mean() < 0.01


@pytest.mark.parametrize("derivative", ["exact", "differences"])
@pytest.mark.parametrize("recolor", [False, True])
def test_every_step_is_that_of_the_release_written_out(recolor: bool, derivative: str) -> None:
    """Two surrogates, an epoch apart, that start anew after two epochs of six batches; each crafting step goes along an
    epoch, unrolls from every state whose batch holds a poison, and takes one step of Adam."""
    world, steps, eps = World(batch_norm=True, warmup=2.0), 3, 40
    colours = Recolor(grid=3, lr=0.02, smoothness=0.5) if recolor else None
    poisons = world.craft(
        convention="released", eps=eps, lr=20, steps=steps, ensemble=2, clean_batches=None, recolor=colours,
        precision="float32", unroll_lr=0.3, derivative=derivative, difference=1e-4,
    )  # fmt: skip
    data, bases, bound = world.data, poisons.base_images / 255, eps / 255
    target = world.normalize(poisons.goal.targets / 255)
    label, place_of = int(poisons.goal.adversarial_labels[0]), {int(row): n for n, row in enumerate(poisons.indices)}
    palette = Palette(colours or Recolor(grid=3), len(bases), torch.device("cpu"), "released")
    start = torch.rand(bases.shape, generator=generator("cpu", 0, "metapoison", "start")) * 2 - 1
    leaves = [((bases + start * bound).clamp(0, 1) - bases).double(), palette.grid.detach().double()]
    first, second = ([torch.zeros_like(leaf) for leaf in leaves] for _ in range(2))
    losses, unrolled, shown_first = [], 0, []
    for step in range(steps):
        x, grid = (leaf.clone().requires_grad_() for leaf in leaves)
        palette.grid = grid
        total, values = torch.zeros((), dtype=torch.float64), []
        made = ((palette(bases.double()) if recolor else bases) + x).clamp(0, 1)
        for number in range(2):
            run, epoch = divmod(number + step, 2)
            stream = generator("cpu", 0, "metapoison", "clean", number, run, epoch)
            batches = torch.randperm(60, generator=stream).view(6, 10)
            shown_first.append(epoch)
            for batch, rows in enumerate(batches.tolist()):
                held = [row for row in rows if row in place_of]
                if not held:
                    continue
                given = []
                for ahead in range(3):
                    others = [
                        b for a, b in zip(rows, batches[(batch + ahead) % 6].tolist(), strict=True) if a not in held
                    ]
                    front = world.normalize(made[[place_of[row] for row in held]])
                    clean = world.normalize(data.train_images[others] / 255)
                    labels = torch.cat([torch.full((len(held),), label), data.train_labels[others]])
                    given.append((torch.cat([front if ahead == 0 else front.detach(), clean]), labels))
                model = clean_run(world, number, 0, run, epoch * 6 + batch)
                rate = 0.3 * (epoch + batch / 6) / 2
                value = written_as_released(model, given, target, label, rate)
                values.append(value.item())
                differences = torch.cat([grid.diff(dim=axis).flatten() * 3 for axis in (2, 3, 4)])
                total = total + value + (0.5 * differences.square().mean() if recolor else 0)
                unrolled += 1
        losses.append(sum(values) / len(values))
        gradients = torch.autograd.grad(total, [x, grid], materialize_grads=True)
        for place, (gradient, lr) in enumerate(zip(gradients, (20 / 255, 0.02), strict=True)):
            first[place] = 0.9 * first[place] + 0.1 * gradient
            second[place] = 0.999 * second[place] + 0.001 * gradient**2
            corrected = (second[place] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            factor = ((step + 1) / 5) ** 2 * 0.1 ** sum(step >= round(steps * share) for share in (20 / 61, 40 / 61))
            leaves[place] = leaves[place] - lr * factor * first[place] / (1 - 0.9 ** (step + 1)) / corrected
        leaves[0] = leaves[0].clamp(-bound, bound)
        if recolor:
            palette.grid = leaves[1]
            palette.project()
            leaves[1] = palette.grid
        else:
            leaves[0] = (bases + leaves[0]).clamp(0, 1) - bases
    # Stages 0 and 1, then 1 and 0 of a new start, and so on; some batches held no poison.
    assert shown_first == [0, 1, 1, 0, 0, 1]
    assert unrolled < 6 * 6
    assert poisons.diagnostics["adversarial_loss"].tolist() == pytest.approx(losses, abs=1e-3)
    expected = (((palette(bases.double()) if recolor else bases) + leaves[0]).clamp(0, 1)).detach()
    difference = (poisons.images - expected).abs() * 255
    assert difference.median() < 5e-3
    assert (difference > 0.5).float().mean() < 0.02


def test_with_poisons_of_a_number_the_release_fills_later_batches_with_them_too(calls: list[Call]) -> None:
    world = World()
    world.craft(convention="released", poisons_per_batch=3, clean_batches=1, steps=1, ensemble=1)
    assert len(calls) == 2
    for call in calls:
        assert len(call.batches) == 3
        for images, labels in call.batches:
            assert len(images) == 10
            assert torch.equal(images[:3], call.batches[0][0][:3])
            assert labels[:3].eq(call.label).all()
        assert not torch.equal(call.batches[1][0][3:], call.batches[2][0][3:])


def test_a_released_surrogate_begins_anew_at_the_first_stage(calls: list[Call]) -> None:
    """Stages 1 and 2 of a recipe of four epochs; at three epochs the new network is brought to stage 1."""
    world = World()
    world.craft(convention="released", ensemble=2, first_epoch=1, clean_batches=None, steps=4, sweep="batch")
    # The first starts anew once, the second twice: before the second step and before the fourth.
    assert len(world.asked) == len(set(world.asked)) == 2 + 1 + 2


@pytest.mark.parametrize("convention", ["ours", "released"])
@pytest.mark.parametrize(("ensemble", "budget"), [(1, 0.05), (3, 0.05), (1, 0.2)])
def test_the_weight_of_smoothness(convention: str, ensemble: int, budget: float) -> None:
    """Without a step that leads anywhere, the colours' gradient is the penalty's: once per unrolling of the poison; in
    the release, once per unrolling of any, as a mean over all poisons."""
    world = World()
    settings = options(
        recolor=Recolor(grid=3, smoothness=0.7), ensemble=ensemble, budget=budget, unroll_lr=1e-12,
        convention=convention,
    )  # fmt: skip
    threat = choose_threat(world.data, world.attacker, settings, 0)
    crafting = metapoison._Crafting(world.data, world.attacker, settings, threat, 0)
    assert crafting.palette is not None
    grid = torch.randn(len(threat.base_indices), 3, 3, 3, 3, generator=torch.Generator().manual_seed(0)) * 0.02
    crafting.palette.grid = grid.clone().requires_grad_()
    crafting.surrogates = [crafting._surrogate(number) for number in range(ensemble)]
    unrollings = sum(len(list(crafting._poison_batches(0, number))) for number in range(ensemble))
    crafting._step(0)
    leaf = grid.double().requires_grad_()
    if convention == "ours":
        pairs = torch.cat([leaf.diff(dim=axis).square().sum(1).sqrt().flatten(1) for axis in (2, 3, 4)], 1)
        penalty = 0.7 * ensemble * pairs.mean(1).sum()
    else:
        slopes = torch.cat([leaf.diff(dim=axis).flatten() for axis in (2, 3, 4)]) * 3
        penalty = 0.7 * unrollings * slopes.square().mean()
    (expected,) = torch.autograd.grad(penalty, leaf)
    assert crafting.palette.grid.grad is not None
    assert torch.allclose(crafting.palette.grid.grad.double(), expected, rtol=1e-3, atol=1e-6)


def test_the_attack_lowers_the_adversarial_loss() -> None:
    """On surrogates that all start from the same stage, so that steps can be compared."""
    world = World(epochs=1000)
    still: dict[str, Any] = {
        "ensemble": 1,
        "steps": 30,
        "unroll_lr": 0.5,
        "poisons_per_batch": 6,
        "clean_batches": 1,
        "eps": 255,
    }
    attacked = world.craft(lr=100, **still).diagnostics["adversarial_loss"]
    idle = world.craft(lr=1e-9, **still).diagnostics["adversarial_loss"]
    # The surrogate changes under it, so a step may be worse; their mean must not.
    assert (idle - attacked)[10:].mean() > 0.5
    assert (idle - attacked)[10:].min() > -0.5


def test_with_recolor_the_additive_part_keeps_eps_and_the_colours_theirs() -> None:
    world = World()
    settings = options(recolor=Recolor(bound=0.03, grid=3, lr=0.2, smoothness=0.01), eps=6, steps=6)
    threat = choose_threat(world.data, world.attacker, settings, 0)
    crafting = metapoison._Crafting(world.data, world.attacker, settings, threat, 0)
    crafting.run(progress=False)
    assert crafting.palette is not None
    assert crafting.delta.abs().max().item() * 255 == pytest.approx(6)
    assert crafting.palette.grid.abs().max().item() == pytest.approx(0.03)
    bases = world.data.train_images[threat.base_indices] / 255
    colored = crafting.palette(bases)
    assert ((crafting.poisons() - colored).abs().max() * 255).item() <= 6 + 1e-3
    shipped = craft(world.data, world.attacker, settings, seed=0)
    assert shipped.images.dtype == torch.uint8
    assert ((shipped.images - colored * 255).abs().max()).item() <= 6 + 0.5 + 1e-3
    # Colours add to the change, so that eps alone is no bound.
    assert shipped.largest_change() > 6
    assert settings.bound is None
    assert options(eps=6).bound == 6


def test_smoother_colours_cost_less() -> None:
    world = World()
    spread = []
    for smoothness in (0.0, 1000.0):
        settings = options(recolor=Recolor(grid=3, smoothness=smoothness), steps=6)
        threat = choose_threat(world.data, world.attacker, settings, 0)
        crafting = metapoison._Crafting(world.data, world.attacker, settings, threat, 0)
        crafting.run(progress=False)
        assert crafting.palette is not None
        spread.append(crafting.palette.grid.detach().flatten(2).std(2).mean().item())
    assert spread[1] < spread[0] / 2


# --- what goes wrong --------------------------------------------------------------------------------------------------


def refused(world: World, kind: type[Exception], words: str, **changes: Any) -> None:
    with pytest.raises(kind, match=words) as caught:
        world.craft(**changes)
    assert "\n" not in str(caught.value)


def test_an_attacker_without_networks_is_one_line() -> None:
    data = dataset()
    with pytest.raises(SettingsError, match="fresh") as caught:
        craft(data, Attacker((), Normalize(data.mean, data.std), Recipe()), options(), seed=0)
    assert "\n" not in str(caught.value)


def test_a_diverged_surrogate_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Diverged(Unrolling):
        def loss(self, weights: Weights) -> Tensor:
            return super().loss(weights) * (torch.nan if next(counted) == 9 else 1)

    counted = itertools.count()
    monkeypatch.setattr(metapoison, "Unrolling", Diverged)
    # Two surrogates and two batches of poisons make four a step.
    refused(World(), PoisonlabError, "not finite at crafting step 2", poisons_per_batch=3)


def test_grey_images_have_no_colours_to_change() -> None:
    refused(World(dataset(channels=1)), SettingsError, "recolor", recolor=Recolor())


def test_more_poisons_than_a_batch_holds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="poisons_per_batch exceeds batch_size 10"):
        options(poisons_per_batch=11)


def test_poisoning_the_whole_class_leaves_no_clean_images_of_it(calls: list[Call]) -> None:
    world = World()
    poisons = world.craft(budget=1 / 3, poisons_per_batch=5)
    assert len(poisons.indices) == 20
    for call in calls:
        assert call.batches[0][1].eq(int(poisons.goal.adversarial_labels[0])).sum() == 5
        assert call.batches[1][1].eq(int(poisons.goal.adversarial_labels[0])).sum() == 0
