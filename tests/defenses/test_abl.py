"""Anti-backdoor learning: rates, losses and phases against their definitions, and a planted backdoor."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny import MEAN, STD, STILL, data_set, network
from torch import Tensor, nn

from poisonlab.config.defenses.abl import Abl as Settings
from poisonlab.config.recipe import Recipe
from poisonlab.config.recipes import PUBLISHED, NamedRecipe
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.abl import build
from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.training.defense import Batch, Defense, EpochEnd
from poisonlab.training.loop import train


def phases(isolation: int, fine_tune: int, unlearn: int, **more: Any) -> Settings:
    return Settings(isolation_epochs=isolation, fine_tune_epochs=fine_tune, unlearn_epochs=unlearn, **more)


@pytest.mark.parametrize(
    ("recipe", "rates"),
    [
        # 30, 50, 70 of 80 epochs are 3, 5, 7 of 8, after 4 of isolation.
        (
            NamedRecipe(base="friends-paper", warmup_epochs=2),
            {0: 0, 0.5: 0.025, 1: 0.05, 2: 0.1, 3.99: 0.1, 4: 0.1, 6.99: 0.1, 7: 0.01, 8.5: 0.01, 9: 1e-3, 11: 1e-4},
        ),
        # Floor of 8 / 2.667, / 1.6 and / 1.142, where float64 has 1.6 as more than that: 2, 4, 7.
        (Recipe(epochs=40), {0: 0.1, 3.9: 0.1, 4: 0.1, 5.9: 0.1, 6: 0.01, 7.9: 0.01, 8: 1e-3, 10.9: 1e-3, 11: 1e-4}),
        # 199 of 200 falls on 7; 1 of 200 on the beginning.
        (Recipe(epochs=200, milestones=(1, 199), gamma=0.5), {0: 0.1, 3.9: 0.1, 4: 0.05, 10.9: 0.05, 11: 0.025}),
        # Three milestones at the end: 6, 7 and none, as each must come after the one before.
        (Recipe(epochs=80, milestones=(60, 65, 68)), {9.9: 0.1, 10: 0.01, 10.9: 0.01, 11: 1e-3, 11.9: 1e-3}),
        (Recipe(epochs=40, milestones=(), lr=0.3), {0: 0.3, 4: 0.3, 11.9: 0.3}),
        (Recipe(epochs=40, schedule="linear"), {0: 0.1, 3.9: 0.1, 4: 0.1, 6: 0.075, 8: 0.05, 11: 0.0125}),
        (Recipe(epochs=40, schedule="cosine", milestones=(10,)), {3.9: 0.1, 4: 0.1, 8: 0.05, 11.999999: 0}),
        # A warm-up longer than isolation ends with it.
        (Recipe(epochs=40, warmup_epochs=30), {0: 0, 1: 0.025, 3: 0.075, 4: 0.1, 6: 0.01}),
    ],
)
def test_the_rates_of_a_whole_training(recipe: Recipe, rates: dict[float, float]) -> None:
    defense = build(phases(4, 8, 2, unlearn_lr=3e-5))
    changed = defense.schedule(recipe)
    assert changed.epochs == 14
    for at, rate in (rates | {12: 3e-5, 13.9: 3e-5}).items():
        assert defense.learning_rate(changed, at) == pytest.approx(rate, rel=1e-9, abs=1e-12), at


@pytest.mark.parametrize("length", [1, 2])
def test_short_fine_tuning_begins_at_the_full_rate(length: int) -> None:
    defense = build(phases(2, length, 1))
    assert defense.learning_rate(defense.schedule(Recipe(epochs=40, lr=0.1)), 2) == pytest.approx(0.1)


def test_the_published_training_has_85_epochs() -> None:
    changed = build(Settings()).schedule(NamedRecipe(base="friends-paper"))
    # 22.5, 37.5 and 52.5 of 60, rounded down.
    assert (changed.epochs, changed.milestones) == (85, (42, 57, 72))


@pytest.mark.parametrize("base", [None, *PUBLISHED])
@pytest.mark.parametrize(
    "change", [{}, {"schedule": "cosine"}, {"warmup_epochs": 25.0}, {"schedule": "steps", "milestones": (1, 2, 3)}]
)
@pytest.mark.parametrize("settings", [Settings(), phases(1, 1, 0), phases(1, 2, 1), phases(30, 300, 9)])
def test_the_changed_recipe_is_a_recipe(base: str | None, change: dict[str, Any], settings: Settings) -> None:
    if "warmup_epochs" in change:
        change = {"warmup_epochs": min(change["warmup_epochs"], NamedRecipe(base=base).epochs)}
    recipe = NamedRecipe(base=base, **change)
    changed = build(settings).schedule(recipe)
    every: list[dict[str, Any]] = [{}, {"exclude_defaults": True}, {"exclude_unset": True}, {"exclude_none": True}]
    for options in every:
        assert Recipe.model_validate(json.loads(changed.model_dump_json(**options))) == changed
    other = {"base", "epochs", "milestones", "warmup_epochs"}
    assert changed.model_dump(exclude=other) == recipe.model_dump(exclude=other)


def cross_entropies(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (B,) and the gradient of their mean (B, K), written out."""
    powers = logits.detach().exp()
    probabilities = powers / powers.sum(1, keepdim=True)
    chosen = torch.arange(len(labels)), labels
    gradient = probabilities.clone()
    gradient[chosen] -= 1
    return -probabilities[chosen].log(), gradient / len(labels)


def loss_and_gradient(settings: Settings, logits: Tensor, labels: Tensor, epoch: int) -> tuple[float, Tensor]:
    leaf = logits.clone().requires_grad_()
    loss = build(settings).loss(leaf, labels, epoch)
    assert loss is not None
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.item(), gradient


@pytest.mark.parametrize("certainty", [0.0, 1.0, 6.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.7])
def test_the_losses_of_the_phases(certainty: float, gamma: float) -> None:
    stream = torch.Generator().manual_seed(1)
    logits = torch.randn(9, 4, generator=stream, dtype=torch.float64)
    labels = torch.arange(9) % 4
    logits[torch.arange(9), labels] += certainty * torch.linspace(0, 1, 9, dtype=torch.float64)
    losses, gradient = cross_entropies(logits, labels)
    mean = losses.mean().item()

    flooded, slope = loss_and_gradient(phases(2, 3, 1, gamma=gamma), logits, labels, 1)
    assert flooded == pytest.approx(abs(mean - gamma) + gamma, rel=1e-12)
    torch.testing.assert_close(slope, gradient if mean > gamma else -gradient)

    signs = torch.tensor([1.0 if loss > gamma else -1.0 for loss in losses.tolist()], dtype=torch.float64)
    ascended, slope = loss_and_gradient(phases(2, 3, 1, gamma=gamma, isolation_loss="lga"), logits, labels, 1)
    assert ascended == pytest.approx((signs * losses).mean().item(), rel=1e-12)
    torch.testing.assert_close(slope, signs[:, None] * gradient)

    settings = phases(2, 3, 1, gamma=gamma)
    assert [build(settings).loss(logits, labels, epoch) for epoch in (2, 3, 4)] == [None] * 3
    unlearning, slope = loss_and_gradient(settings, logits, labels, 5)
    assert unlearning == pytest.approx(-mean, rel=1e-12)
    torch.testing.assert_close(slope, -gradient)


def test_labels_may_be_probabilities() -> None:
    logits, labels = torch.randn(6, 3, dtype=torch.float64), torch.arange(6) % 3
    for name in ("flooding", "lga"):
        defense = build(phases(1, 1, 1, isolation_loss=name))
        for epoch in (0, 2):
            torch.testing.assert_close(
                defense.loss(logits, torch.eye(3, dtype=torch.float64)[labels], epoch),
                defense.loss(logits, labels, epoch),
            )


@torch.no_grad()
def lowest_by_hand(model: Classifier, data: TrainingSet, count: int) -> set[int]:
    inputs = (data.images.double() / 255 - torch.tensor(MEAN).view(1, 2, 1, 1)) / torch.tensor(STD).view(1, 2, 1, 1)
    losses, _ = cross_entropies(model.eval()(inputs.float()).double(), data.labels)
    return {row for _, row in sorted(zip(losses.tolist(), data.rows.tolist(), strict=True))[:count]}


@pytest.mark.parametrize(("share", "count"), [(0.04, 1), (0.07, 1), (0.28, 7), (0.5, 12)])
def test_the_lowest_losses_are_isolated(share: float, count: int) -> None:
    data, model = data_set(25), network()
    defense = build(phases(2, 1, 1, share=share))
    end = EpochEnd(1, model.eval(), Normalize(MEAN, STD), data, data, defense.schedule(Recipe()))
    expected = lowest_by_hand(model, data, count)
    assert set(data.rows[defense.isolated(end)].tolist()) == expected
    assert defense.end_epoch(end).rows.tolist() == [row for row in data.rows.tolist() if row not in expected]


def test_of_equal_losses_the_lowest_rows_are_isolated() -> None:
    data = data_set(12)
    same = TrainingSet(data.images[:1].expand(12, -1, -1, -1), torch.tensor([0, 1] * 6), data.rows)
    model = network().eval()
    model.head.bias.data = torch.tensor([-9.0, 9.0, 0.0])
    defense = build(phases(1, 1, 1, share=0.34))
    end = EpochEnd(0, model, Normalize(MEAN, STD), same, same, defense.schedule(Recipe()))
    assert defense.isolated(end).nonzero()[:, 0].tolist() == [1, 3, 5, 7]


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"share 0\.03 of 25 examples isolates none: raise it"):
        train(network(), Normalize(MEAN, STD), data_set(25), Recipe(), seed=0, defenses=[build(Settings(share=0.03))])
    with pytest.raises(ValidationError, match="less than 1"):
        Settings(share=1)


@dataclass(frozen=True)
class Spy(Defense):
    """Notes the rows of each batch."""

    seen: list[tuple[int, list[int]]] = field(default_factory=list)

    def change_batch(self, batch: Batch) -> Tensor:
        self.seen.append((batch.epoch, batch.rows.tolist()))
        return batch.images


@pytest.mark.parametrize("lengths", [(2, 3, 2), (1, 1, 1), (1, 2, 0)])
def test_which_examples_are_trained_in_which_epoch(lengths: tuple[int, int, int]) -> None:
    isolation, fine_tune, unlearn = lengths
    data, model, spy = data_set(25), network(), Spy()
    isolated: list[set[int]] = []

    def observe(now: nn.Module, left: TrainingSet, costly: bool) -> dict[str, float]:
        isolated.append(lowest_by_hand(model, data, 5))
        return {}

    settings = phases(*lengths, share=0.2)
    recipe = Recipe(epochs=40, batch_size=8, lr=0.02)
    defenses = [build(settings), spy]
    ended = train(model, Normalize(MEAN, STD), data, recipe, seed=0, defenses=defenses, observe=observe)
    chosen = isolated[isolation - 1]
    trained = [sorted(row for at, rows in spy.seen for row in rows if at == epoch) for epoch in range(sum(lengths))]
    everything = data.rows.tolist()
    others = [row for row in everything if row not in chosen]
    assert trained == [everything] * isolation + [others] * fine_tune + [sorted(chosen)] * unlearn
    # What counts as kept in the end is what was not isolated, although unlearning trained on the isolated.
    assert sorted(ended.data.rows.tolist()) == others
    assert len(ended.history) == sum(lengths)
    assert all(record["lr"] == 5e-4 and record["train_loss"] < 0 for record in ended.history[isolation + fine_tune :])


def stamped(images: Tensor) -> Tensor:
    images = images.clone()
    images[:, :, :3, :3] = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    return images


def noisy_classes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(count, 2, 8, 8) in [0, 1]: the pattern of one of four classes or its negative, under noise.

    No linear map knows the classes, so that a patch is learned before them.
    """
    patterns = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(99))
    stream = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    signs = 2 * torch.randint(0, 2, (count, 1, 1, 1), generator=stream) - 1
    noise = torch.randn(count, 2, 8, 8, generator=stream)
    return (0.5 + 0.06 * signs * patterns[labels] + 0.12 * noise).clamp(0, 1), labels


def test_a_patch_is_learned_without_it_and_unlearned_with_it() -> None:
    images, true = noisy_classes(800, seed=1)
    patched = (torch.arange(800) % 7 == 3) & (true != 0)
    images[patched] = stamped(images[patched])
    data = TrainingSet(images, torch.where(patched, 0, true), torch.arange(800))
    test_images, test_labels = noisy_classes(400, seed=2)
    normalize = Normalize((0.5, 0.5), (0.2, 0.2))

    def outcomes(*defenses: Defense) -> tuple[list[tuple[float, float]], list[Tensor]]:
        """After each epoch: fraction of patched images taken for class 0, and test accuracy; rows trained on in each
        epoch, and those left at the end."""
        torch.manual_seed(0)
        convolution = nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()
        model = Classifier(
            nn.Sequential(*convolution, nn.Linear(512, 64), nn.BatchNorm1d(64), nn.ReLU()), nn.Linear(64, 4)
        )
        measured, rows = [], []

        @torch.no_grad()
        def observe(now: nn.Module, left: TrainingSet, costly: bool) -> dict[str, float]:
            rows.append(left.rows)
            obeys = now(normalize(stamped(test_images[test_labels != 0]))).argmax(1) == 0
            right = now(normalize(test_images)).argmax(1) == test_labels
            measured.append((obeys.float().mean().item(), right.float().mean().item()))
            return {}

        recipe = Recipe(epochs=6, batch_size=16, lr=0.02, augmentation=STILL)
        ended = train(model, normalize, data, recipe, seed=0, defenses=defenses, observe=observe)
        return measured, [*rows, ended.data.rows]

    undefended, _ = outcomes()
    assert undefended[-1][0] > 0.9
    assert undefended[-1][1] > 0.9
    measured, rows = outcomes(build(phases(3, 6, 4, share=0.05, unlearn_lr=3e-3)))
    # Unlearning trains on what fine-tuning left out; after it the others are handed back, as held to be clean.
    isolated = torch.ones(800, dtype=torch.bool).index_fill_(0, rows[-1], False)
    assert sorted(rows[9].tolist()) == isolated.nonzero()[:, 0].tolist()
    # One in ten of all, and most of the isolated.
    assert patched.float().mean() < 0.12
    assert int(isolated.sum()) == 40
    assert patched[isolated].float().mean() > 0.8
    # Leaving the isolated out is not enough.
    assert measured[8][0] > 0.8
    success, accuracy = measured[-1]
    assert success < 0.4
    assert accuracy > 0.7
