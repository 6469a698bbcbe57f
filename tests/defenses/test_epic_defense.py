"""EPIC: when it selects, what it drops against the filter applied by hand, and its place in the training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny import MEAN, RANDOM_NOISE, STD, network, trained
from torch import Tensor, nn

from poisonlab.config.defenses.epic import Epic as Settings
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.config.recipes import NamedRecipe
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.defense import Defense, EpochEnd
from poisonlab.defenses.epic import build
from poisonlab.errors import SettingsError
from poisonlab.filters.epic import epic
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.training.loop import train

EPIC = {"method": "epic", "drop_after": 1, "fraction": 0.4}
STILL = Augmentation(kind="none")


def images_and_labels(count: int = 30) -> TrainingSet:
    """For ``tiny.network``; a row is not a position."""
    images = torch.randint(0, 256, (count, 2, 6, 6), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    return TrainingSet(images, torch.arange(count) % 3, 7 * torch.arange(count) + 3)


def biased_network() -> Classifier:
    model = network().eval()
    model.head.bias.data = torch.tensor([2.0, -1.0, 0.5])
    return model


def end_of(epoch: int, model: nn.Module, data: TrainingSet, full: TrainingSet, **recipe: Any) -> EpochEnd:
    return EpochEnd(epoch, model, Normalize(MEAN, STD), data, full, NamedRecipe(**recipe))


@torch.no_grad()
def kept_by_hand(model: Classifier, data: TrainingSet, fraction: float, *, bias: bool = False) -> set[int]:
    """Rows that one selection among ``data`` keeps."""
    pixels = data.images.double() / 255
    inputs = (pixels - torch.tensor(MEAN).view(1, 2, 1, 1)) / torch.tensor(STD).view(1, 2, 1, 1)
    features = model.extract.eval()(inputs.float()).double()
    logits = features @ model.head.weight.double().T + (model.head.bias.double() if bias else 0)
    exponentials = logits.exp()
    gradients = exponentials / exponentials.sum(1, keepdim=True)
    gradients[torch.arange(len(gradients)), data.labels] -= 1
    return set(data.rows[epic(gradients, data.labels, fraction=fraction).keep].tolist())


@pytest.mark.parametrize(
    ("settings", "recipe", "expected"),
    [
        # The released formula: 40 epochs have milestones 14, 24, 35.
        ({}, {"epochs": 40}, range(5, 36)),
        ({"interval": 2}, {"base": "friends-paper"}, range(6, 71, 2)),
        ({"interval": 5, "drop_after": 1}, {"base": "friends-transfer"}, [5, 10, 15, 20, 25, 30, 35]),
        ({"interval": 2, "drop_after": 10}, {"epochs": 40}, range(10, 35, 2)),
        ({"drop_after": 1, "stop_after": 10}, {"epochs": 40}, range(1, 10)),
        ({"stop_after": 200}, {"epochs": 250, "milestones": (100, 240)}, range(5, 200)),
        ({}, {"epochs": 12, "milestones": (3, 6)}, [5, 6]),
        ({}, {"epochs": 12, "milestones": (4,)}, []),
        # No milestone, no limit but the end: no epoch 12 follows.
        ({}, {"epochs": 12, "milestones": ()}, range(5, 12)),
        ({}, {"epochs": 12, "schedule": "cosine"}, range(5, 12)),
        ({}, {"epochs": 12, "schedule": "linear", "milestones": (6,)}, range(5, 12)),
        ({"until_last_milestone": False}, {"epochs": 12, "milestones": (6,)}, range(5, 12)),
    ],
)
def test_it_selects_before_these_epochs(settings: dict[str, Any], recipe: dict[str, Any], expected: Any) -> None:
    defense, model, full = build(Settings(fraction=0.4, **settings)), network().eval(), images_and_labels()
    ends = (end_of(epoch, model, full, full, **recipe) for epoch in range(NamedRecipe(**recipe).epochs))
    assert [end.epoch + 1 for end in ends if len(defense.end_epoch(end)) < len(full)] == list(expected)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("pool", ["full", "remaining"])
def test_a_selection_is_the_filter_applied_by_hand(bias: bool, pool: Any) -> None:
    model, full = biased_network(), images_and_labels(60)
    # Some are dropped already, and an earlier defense has changed the order.
    data = full.keep(torch.randperm(60, generator=torch.Generator().manual_seed(0))[:40])
    settings = Settings(fraction=0.4, bias=bias, pool=pool)
    result = build(settings).end_epoch(end_of(9, model, data, full))
    kept = kept_by_hand(model, full if pool == "full" else data, 0.4, bias=bias)
    assert result.rows.tolist() == [row for row in data.rows.tolist() if row in kept]
    assert torch.equal(result.images, full.images[(result.rows - 3) // 7])
    assert torch.equal(result.labels, full.labels[(result.rows - 3) // 7])
    # The cases differ, so that each of them says something.
    others = [
        build(settings.model_copy(update=change)).end_epoch(end_of(9, model, data, full)).rows.tolist()
        for change in ({"bias": not bias}, {"pool": "remaining" if pool == "full" else "full"}, {"alone": 2})
    ]
    assert all(0 < len(rows) < len(data) and rows != result.rows.tolist() for rows in others)


def test_what_is_dropped_stays_out() -> None:
    """The training sets of a whole training, from the weights after each epoch."""
    model, full, settings = network(), images_and_labels(60), Settings(fraction=0.4, drop_after=2, interval=2)
    left, returned, sets = set(full.rows.tolist()), 0, []

    def observe(now: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
        nonlocal left, returned
        sets.append(data.rows.tolist())
        if len(sets) in (2, 4, 6):
            kept = kept_by_hand(model, full, 0.4)
            returned += len(kept - left)
            left &= kept
        assert sets[-1] == [row for row in full.rows.tolist() if row in left]
        return {}

    recipe = Recipe(epochs=7, batch_size=16, milestones=(6,), augmentation=STILL)
    train(model, Normalize(MEAN, STD), full, recipe, seed=0, defenses=[build(settings)], observe=observe)
    assert len(full) > len(sets[1]) > len(sets[3]) > len(sets[5]) == len(sets[6]) > 0
    # Later selections would have taken some back.
    assert returned > 0


def test_other_networks_need_the_bias() -> None:
    full, model = images_and_labels(), biased_network()
    plain = nn.Sequential(model.extract, model.head)
    end = end_of(9, plain, full, full)
    with pytest.raises(SettingsError, match=r"last layer of a Sequential.*set bias: true"):
        build(Settings()).end_epoch(end)
    result = build(Settings(fraction=0.4, bias=True)).end_epoch(end)
    assert set(result.rows.tolist()) == kept_by_hand(model, full, 0.4, bias=True)


def test_a_head_without_bias_is_left_as_it_is() -> None:
    full, model = images_and_labels(), biased_network()
    head = nn.Linear(144, 3, bias=False)
    head.weight = model.head.weight
    results = [
        build(Settings(fraction=0.4, bias=bias)).end_epoch(
            end_of(9, Classifier(model.extract, head).eval(), full, full)
        )
        for bias in (False, True)
    ]
    expected = kept_by_hand(model, full, 0.4)
    assert all(set(result.rows.tolist()) == expected for result in results)


def planted(per_class: int = 60) -> tuple[TrainingSet, Tensor]:
    """Four classes of noisy colours and, at last, one example of each class under each other label."""
    stream = torch.Generator().manual_seed(0)
    true = torch.cat([torch.arange(4).repeat(per_class), torch.arange(4).repeat_interleave(3)])
    wrong = [label for kind in range(4) for label in range(4) if label != kind]
    labels = torch.cat([torch.arange(4).repeat(per_class), torch.tensor(wrong)])
    pure = torch.tensor([[0.8, 0.2], [0.2, 0.8], [0.8, 0.8], [0.2, 0.2]])[true]
    images = (pure.view(-1, 2, 1, 1) + 0.2 * torch.randn(len(true), 2, 4, 4, generator=stream)).clamp(0, 1)
    isolated = torch.arange(len(true)) >= 4 * per_class
    return TrainingSet(images, labels, torch.arange(len(true))), isolated


def test_isolated_examples_are_dropped_and_ordinary_ones_stay() -> None:
    data, isolated = planted()
    torch.manual_seed(0)
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(32, 32), nn.ReLU()), nn.Linear(32, 4))
    left = []
    train(
        model,
        Normalize((0.5, 0.5), (0.3, 0.3)),
        data,
        Recipe(epochs=9, batch_size=32, lr=0.05, augmentation=STILL),
        seed=0,
        defenses=[build(Settings(fraction=0.06, drop_after=3))],
        observe=lambda model, data, costly: left.append(data.rows) or {},  # type: ignore[func-returns-value]
    )
    stays = torch.isin(data.rows, left[-1])
    assert stays[isolated].float().mean() < 0.2
    assert stays[~isolated].float().mean() > 0.9


def test_it_trains_with_noise_and_resumes_to_the_bit(tmp_path: Path) -> None:
    idle = {"method": "epic", "drop_after": 3}
    runs = [trained(rows) for rows in ([], [EPIC], [EPIC, RANDOM_NOISE])]
    assert len({tuple(weights.tolist()) for weights in runs}) == 3
    assert torch.equal(trained([idle]), runs[0])
    assert torch.equal(trained([EPIC, RANDOM_NOISE], saved=tmp_path / "state"), runs[2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"drop_after": 0}, "greater than 0"),
        ({"alone": 0}, "greater than 0"),
        ({"fraction": 1.0}, "less than 1"),
        ({"drop_after": 5, "stop_after": 5}, r"stop_after \(5\) leaves no epoch from drop_after \(5\) on: raise it"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(**settings)


def test_it_repeats_its_inputs() -> None:
    """Frozen features may be kept from epoch to epoch."""
    defense: Defense = build(Settings())
    assert defense.repeats
