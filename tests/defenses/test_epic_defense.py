"""EPIC: when it selects, what it drops against the filter applied by hand, and its place in the training loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import MEAN, STD, STILL, data_set, network
from torch import nn

from poisonlab.config.defenses.epic import Epic as Settings
from poisonlab.config.recipe import Recipe
from poisonlab.config.recipes import NamedRecipe
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.epic import build
from poisonlab.errors import PoisonlabError, SettingsError
from poisonlab.filters.epic import epic
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.training.defense import EpochEnd
from poisonlab.training.loop import train


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
        ({}, {"epochs": 12, "schedule": "linear"}, range(5, 12)),
        ({"until_last_milestone": False}, {"epochs": 12, "milestones": (6,)}, range(5, 12)),
    ],
)
def test_it_selects_before_these_epochs(settings: dict[str, Any], recipe: dict[str, Any], expected: Any) -> None:
    defense, model, full = build(Settings(fraction=0.4, **settings)), network().eval(), data_set(30)
    ends = (end_of(epoch, model, full, full, **recipe) for epoch in range(NamedRecipe(**recipe).epochs))
    assert [end.epoch + 1 for end in ends if len(defense.end_epoch(end)) < len(full)] == list(expected)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("pool", ["full", "remaining"])
def test_a_selection_is_the_filter_applied_by_hand(bias: bool, pool: Any) -> None:
    model, full = biased_network(), data_set(60)
    # Some are dropped already, and an earlier defense has changed the order.
    data = full.keep(torch.randperm(60, generator=torch.Generator().manual_seed(0))[:40])
    settings = Settings(fraction=0.4, bias=bias, pool=pool)
    result = build(settings).end_epoch(end_of(9, model, data, full))
    kept = kept_by_hand(model, full if pool == "full" else data, 0.4, bias=bias)
    assert result.rows.tolist() == [row for row in data.rows.tolist() if row in kept]
    assert torch.equal(result.images, full.images[(result.rows - 2) // 5])
    assert torch.equal(result.labels, full.labels[(result.rows - 2) // 5])
    # The cases differ, so that each of them says something.
    others = [
        build(settings.model_copy(update=change)).end_epoch(end_of(9, model, data, full)).rows.tolist()
        for change in ({"bias": not bias}, {"pool": "remaining" if pool == "full" else "full"}, {"alone": 2})
    ]
    assert all(0 < len(rows) < len(data) and rows != result.rows.tolist() for rows in others)


def test_what_is_dropped_stays_out() -> None:
    """The training sets of a whole training, from the weights after each epoch."""
    model, full, settings = network(), data_set(60), Settings(fraction=0.4, drop_after=2, interval=2)
    left, returned, sets = set(full.rows.tolist()), 0, []

    def observe(now: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
        nonlocal left, returned
        sets.append(data.rows.tolist())
        assert sets[-1] == [row for row in full.rows.tolist() if row in left]
        if len(sets) in (2, 4, 6):
            kept = kept_by_hand(model, full, 0.4)
            returned += len(kept - left)
            left &= kept
        return {}

    recipe = Recipe(epochs=7, batch_size=16, milestones=(6,), augmentation=STILL)
    train(model, Normalize(MEAN, STD), full, recipe, seed=0, defenses=[build(settings)], observe=observe)
    assert len(full) == len(sets[1]) > len(sets[2]) > len(sets[4]) > len(sets[6]) > 0
    # Later selections would have taken some back.
    assert returned > 0


def test_other_networks_need_the_bias() -> None:
    full, model = data_set(30), biased_network()
    plain = nn.Sequential(model.extract, model.head)
    end = end_of(9, plain, full, full)
    with pytest.raises(SettingsError, match=r"last layer of a Sequential.*set bias: true"):
        build(Settings()).end_epoch(end)
    result = build(Settings(fraction=0.4, bias=True)).end_epoch(end)
    assert set(result.rows.tolist()) == kept_by_hand(model, full, 0.4, bias=True)


def test_a_head_without_bias_is_left_as_it_is() -> None:
    full, model = data_set(30), biased_network()
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


def test_clusters_that_are_all_too_small_are_one_line() -> None:
    full = data_set(60)
    with pytest.raises(PoisonlabError, match="lower alone or fraction") as caught:
        build(Settings(fraction=0.4, alone=60)).end_epoch(end_of(9, network().eval(), full, full))
    assert "\n" not in str(caught.value)
