"""What gradient matching and Sleeper Agent share beyond the plain attack: new matchers on the way, and the noise of a
defense that the attacker expects."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.matching import Crafting, Matcher, _Optimisation, target_gradient
from poisonlab.config.attacks.matching import Adaptation, MatchingAttack
from poisonlab.config.defenses.random_noise import RandomNoise as RandomNoiseSettings
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.augmentation import augment
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.friendly_noise import FriendlyNoise
from poisonlab.defenses.random_noise import RandomNoise
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.randomness import generator
from poisonlab.training.defense import Batch, Defense
from poisonlab.training.loop import train

STILL = Augmentation(kind="none")
SHIFT = Augmentation(kind="shift", pixels=1)
BLACK = Augmentation(kind="shift", pixels=1, padding="black")
MEAN, STD = (0.4, 0.5), (0.25, 0.2)
POISONS = 5


def normalize() -> Normalize:
    return Normalize(MEAN, STD).double()


def bases() -> Tensor:
    """With black and white pixels, where the box cuts."""
    images = torch.randint(0, 256, (POISONS, 2, 6, 6), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    images[:, :, 0], images[:, :, 1] = 0, 255
    return images


LABELS = torch.tensor([0, 1, 2, 1, 0])


def friendly_noise() -> Tensor:
    """Up to 30 levels, so that it leads out of the box in places."""
    return (torch.rand(POISONS, 2, 6, 6, generator=torch.Generator().manual_seed(2)) * 2 - 1) * 30 / 255


def network(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    layers = nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()
    return Classifier(nn.Sequential(*layers), nn.Linear(36, 3)).double().eval()


def noise(distribution: str = "gaussian", mu: float = 20, clip: bool = False) -> RandomNoiseSettings:
    return RandomNoiseSettings(distribution=distribution, mu=mu, clip=clip)


def crafting(
    augmentation: Augmentation = STILL,
    friendly: Tensor | None = None,
    seed: int = 0,
    restarts: int = 1,
    **options: Any,
) -> Crafting:
    given = {"name": "a", "method": "m", "surrogate": "s", "steps": 6}
    attacker = Attacker((), normalize(), Recipe(augmentation=augmentation))
    return Crafting(
        attacker,
        MatchingAttack(**{**given, **options}),
        bases(),
        LABELS,
        friendly,
        seed,
        "test",
        restarts,
    )


def adapted(random: RandomNoiseSettings | None) -> Adaptation | None:
    return None if random is None else Adaptation(random_noise=random)


@dataclass
class Spy:
    """Stands in for a matcher: keeps what it is shown, pulls every pixel one way and reports a loss."""

    pull: float = 0.0
    loss: float = 1.0
    shown: list[Tensor] = field(default_factory=list)

    def loss_and_gradient(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self.shown.append(inputs.clone())
        return torch.tensor(self.loss), torch.full_like(inputs, self.pull)


def matchers(*spies: Spy) -> list[Matcher]:
    return cast(list[Matcher], list(spies))


def levels(inputs: Tensor) -> Tensor:
    """Pixel levels of normalised inputs."""
    std, mean = (torch.tensor(v).double().view(2, 1, 1) for v in (STD, MEAN))
    return (inputs * std + mean) * 255


# --- refresh ----------------------------------------------------------------------------------------------------------


def test_refresh_is_asked_before_every_step_but_the_first_with_the_change_so_far() -> None:
    spy, asked = Spy(pull=1.0), []

    def refresh(step: int, change: Tensor) -> list[Matcher] | None:
        asked.append((step, change.clone(), len(spy.shown)))
        return None

    change, losses = crafting(steps=5).run(matchers(spy), refresh)
    assert [(step, seen) for step, _, seen in asked] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert len(spy.shown) == 5
    for step, so_far, _ in asked:
        assert so_far.shape == bases().shape
        assert so_far.device.type == "cpu"
        # What the next step is to be computed on.
        assert torch.allclose(bases() + so_far, levels(spy.shown[step]), atol=1e-3)
    assert not torch.allclose(asked[0][1], asked[1][1])
    assert not torch.allclose(asked[-1][1], change)
    assert losses.tolist() == [[1.0] * 5]


def test_new_matchers_replace_the_old_ones_for_good() -> None:
    first, second, third = Spy(loss=1.0), Spy(loss=2.0), Spy(loss=4.0)
    plan = {2: matchers(second), 4: matchers(second, third)}
    _, losses = crafting().run(matchers(first), lambda step, _: plan.get(step))
    assert losses.tolist() == [[1, 1, 2, 2, 3, 3]]
    assert [len(spy.shown) for spy in (first, second, third)] == [2, 4, 2]


def test_the_step_follows_the_new_matchers_gradient() -> None:
    """Far from bound and box: pixels go up under the one and down under the other, by the rate of signed Adam."""
    grey = Crafting(
        crafting().attacker,
        MatchingAttack(name="a", method="m", surrogate="s", steps=20, tau=0.1, eps=255),
        torch.full((2, 2, 6, 6), 128, dtype=torch.uint8), torch.tensor([0, 1]), None, 0, "test",
    )  # fmt: skip
    down, up, changes = Spy(pull=3.0), Spy(pull=-0.1), []

    def refresh(step: int, change: Tensor) -> list[Matcher] | None:
        changes.append(change)
        return matchers(up) if step == 3 else None

    grey.run(matchers(down), refresh)
    free = (changes[0].abs() < 60) & (changes[6].abs() < 60)
    assert free.float().mean() > 0.1
    std = torch.tensor(STD).view(2, 1, 1).expand_as(free)
    moved = ((changes[1] - changes[0]) / std / 255)[free]
    # Two equal signs in a row: Adam's first and second moment agree, so a step is the rate: 0.1 standard deviations.
    assert torch.allclose(moved, torch.tensor(-0.1).double(), atol=1e-4)
    rise = (changes[6] - changes[5])[free]
    assert (rise > 0).all()


# --- noise that the attacker expects ----------------------------------------------------------------------------------


def defended(delta_levels: Tensor, friendly: Tensor | None, random: RandomNoiseSettings | None, stream: int) -> Tensor:
    """The poisons as the victim's defenses make them, in order: normalised."""
    images = (bases() + delta_levels).double() / 255
    defenses: list[Defense] = [] if friendly is None else [FriendlyNoise(friendly)]
    defenses += [] if random is None else [RandomNoise(random)]
    draws = generator("cpu", 0, "test", "noise", stream)
    for defense in defenses:
        images = defense.change_batch(Batch(images, LABELS, torch.arange(POISONS), 0, draws, network(), normalize()))
    return normalize()(images)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("distribution", [None, "bernoulli", "uniform", "gaussian"])
@pytest.mark.parametrize("friendly", [False, True])
def test_the_network_sees_poisons_as_the_defense_changes_them(
    friendly: bool, distribution: str | None, clip: bool
) -> None:
    random = None if distribution is None else noise(distribution, clip=clip)
    spy, held = Spy(), friendly_noise() if friendly else None
    change, _ = crafting(friendly=held, adaptation=adapted(random), steps=1).run(matchers(spy))
    # No pull, so the start is what was shown.
    assert torch.allclose(spy.shown[0], defended(change, held, random, 0), atol=1e-6)


def test_that_is_what_the_training_loop_feeds_its_network() -> None:
    """With two-valued noise, whose draws differ between the two: each pixel is mu above or below the same value."""
    spy, held, random = Spy(), friendly_noise(), noise("bernoulli", mu=24)
    change, _ = crafting(friendly=held, adaptation=adapted(random), steps=1).run(matchers(spy))
    fed: list[Tensor] = []

    class Watching(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            fed.append(x.detach().clone())
            return super().forward(x)

    model = Watching(network().float().extract, network().float().head)
    data = TrainingSet(((bases() + change) / 255).float(), LABELS, torch.arange(POISONS))
    recipe = Recipe(epochs=1, batch_size=POISONS, lr=1e-9, augmentation=STILL, milestones=(), channels_last=False)
    defenses = [FriendlyNoise(held), RandomNoise(random)]
    train(model, Normalize(MEAN, STD), data, recipe, seed=0, defenses=defenses)
    order = torch.randperm(POISONS, generator=generator("cpu", 0, "order", 0))
    apart = (levels(spy.shown[0])[order] - levels(fed[0])).abs()
    assert torch.minimum(apart, (apart - 48).abs()).max() < 1e-2
    assert (apart > 24).float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_friendly_noise_is_cut_at_the_box_before_augmentation_and_random_noise_is_moved_with_the_image() -> None:
    spy, held, random = Spy(), friendly_noise(), noise()
    change, _ = crafting(SHIFT, held, adaptation=adapted(random), steps=1).run(matchers(spy))
    moved = augment(defended(change, held, random, 0), SHIFT, generator("cpu", 0, "test", "augment", 0))
    assert torch.allclose(spy.shown[0], moved, atol=1e-6)


def test_random_noise_is_drawn_anew_in_every_step_and_restart_and_friendly_noise_is_not() -> None:
    spy = Spy()
    crafting(adaptation=adapted(noise()), steps=3).run(matchers(spy))
    assert all(not torch.allclose(a, b, atol=0.01) for a, b in itertools.combinations(spy.shown, 2))
    still = Spy()
    crafting(friendly=friendly_noise(), steps=3).run(matchers(still))
    assert all(torch.equal(a, still.shown[0]) for a in still.shown)
    noisy, clean = Spy(), Spy()
    crafting(adaptation=adapted(noise()), steps=1, restarts=2).run(matchers(noisy))
    crafting(steps=1, restarts=2).run(matchers(clean))
    drawn = [a - b for a, b in zip(noisy.shown, clean.shown, strict=True)]
    assert not torch.allclose(drawn[0], drawn[1], atol=0.01)


def test_every_batch_gets_the_friendly_noise_of_its_own_poisons() -> None:
    whole, parts = Spy(), Spy()
    crafting(friendly=friendly_noise(), steps=1).run(matchers(whole))
    crafting(friendly=friendly_noise(), steps=1, batch_size=2).run(matchers(parts))
    assert [len(part) for part in parts.shown] == [2, 2, 1]
    assert torch.allclose(torch.cat(parts.shown), whole.shown[0], atol=1e-12)


def test_the_loss_of_batches_is_their_mean_by_size() -> None:
    losses = iter([1.0, 2.0, 6.0])

    class Counting(Spy):
        def loss_and_gradient(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            return torch.tensor(next(losses)), torch.zeros_like(inputs)

    _, found = crafting(steps=1, batch_size=2).run(matchers(Counting()))
    assert found.item() == pytest.approx((1 * 2 + 2 * 2 + 6 * 1) / 5)


def test_friendly_noise_is_looked_up_as_the_victims_training_set_is_numbered() -> None:
    table = torch.arange(4 * 2).view(4, 2, 1, 1).half() / 255
    rows = torch.tensor([10, 20, 30, 40])
    some = Attacker((), normalize(), Recipe(), rows=rows, friendly_noise=table)
    assert torch.equal(some.friendly_on(torch.tensor([20, 40])), table[[1, 3]].float())  # type: ignore[arg-type]
    every = Attacker((), normalize(), Recipe(), friendly_noise=table)
    assert torch.equal(every.friendly_on(torch.tensor([1, 2])), table[[1, 2]].float())  # type: ignore[arg-type]
    assert Attacker((), normalize(), Recipe()).friendly_on(torch.tensor([0])) is None


# --- the gradient through the noise -----------------------------------------------------------------------------------


def plain_loss(model: nn.Module, inputs: Tensor, goal: tuple[Tensor, ...]) -> Tensor:
    loss = F.cross_entropy(model(inputs), LABELS)
    ours = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()), create_graph=True)])
    theirs = torch.cat([part.flatten() for part in goal])
    return 1 - ours @ theirs / (ours.norm() * theirs.norm())


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("augmentation", [STILL, SHIFT, BLACK])
def test_the_gradient_is_that_through_both_noises(augmentation: Augmentation, clip: bool) -> None:
    """Finite differences of the loss as the defended poisons give it; where the box cuts, nothing moves."""
    model, held, random = network(), friendly_noise(), noise(clip=clip)
    made = crafting(augmentation, held, adaptation=adapted(random), eps=255)
    target = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    goal = target_gradient(model, target, torch.tensor([2]), "cross-entropy")
    std, mean = (torch.tensor(v).view(1, 2, 1, 1) for v in (STD, MEAN))
    images = (bases().double() / 255 - mean) / std
    delta = torch.randn(images.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64) * 0.05
    delta = ((images + delta) * std + mean).clamp(0, 1).sub(mean).div(std) - images
    _, gradient = _Optimisation(made, [Matcher(model, goal)], 0)._loss_and_gradient(delta)

    def loss(change: Tensor) -> float:
        # Pixels, not yet cut: they may lie a hair beyond the box, as the probe moves them.
        defended_pixels = ((images + change) * std + mean + held).clamp(0, 1)
        drawn = torch.randn(images.shape, generator=generator("cpu", 0, "test", "noise", 0)) * (20 / 255)
        noisy = (defended_pixels + drawn).clamp(0, 1) if clip else defended_pixels + drawn
        stream = generator("cpu", 0, "test", "augment", 0)
        if augmentation is BLACK:
            # Zeros around pixels are black.
            moved = (augment(noisy, SHIFT, stream) - mean) / std
        else:
            moved = augment((noisy - mean) / std, augmentation, stream)
        return plain_loss(model, moved, goal).item()

    flat, cut = 0, 0
    for place in itertools.product((0, 3), (0, 1), (0, 1, 3, 4), (0, 2, 5)):
        values = []
        for step in (1e-5, -1e-5):
            moved = delta.clone()
            moved[place] += step
            values.append(loss(moved))
        slope = (values[0] - values[1]) / 2e-5
        assert gradient[place].item() == pytest.approx(slope, abs=1e-7), place
        pixel = ((images + delta) * std + mean + held)[place]
        cut += bool(pixel < 0) or bool(pixel > 1)
        flat += slope == 0
    assert flat >= cut > 0


@pytest.mark.parametrize("random", [None, noise(), noise("bernoulli", clip=True)])
def test_the_loss_is_that_of_the_defended_poisons(random: RandomNoiseSettings | None) -> None:
    model, held = network(), friendly_noise()
    goal = target_gradient(model, normalize()(torch.rand(1, 2, 6, 6).double()), torch.tensor([2]), "cross-entropy")
    spy = Spy()
    start, _ = crafting(steps=1).run(matchers(spy))
    _, losses = crafting(friendly=held, adaptation=adapted(random), steps=1).run([Matcher(model, goal)])
    assert losses.item() == pytest.approx(plain_loss(model, defended(start, held, random, 0), goal).item(), abs=1e-6)
    assert losses.item() != pytest.approx(plain_loss(model, spy.shown[0], goal).item(), abs=1e-3)
