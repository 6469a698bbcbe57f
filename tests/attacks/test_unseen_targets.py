"""Targets that no network has seen, and the authors' published poisons against them, on data counted by hand.

Three classes of 20 images in turn: image i of class c is row 3 i + c. Of the last eight of a class, victims are
fine-tuned on the last three (numbers 17 to 19), so numbers 12 to 16 are left to be targets.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_features import attacker, common, dataset

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks import bullseye_polytope, convex_polytope, imported
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.unseen_targets import unseen_row
from poisonlab.config.attacks.bullseye_polytope import BullseyePolytope
from poisonlab.config.attacks.convex_polytope import ConvexPolytope
from poisonlab.config.attacks.imported import Imported
from poisonlab.config.recipe import Recipe
from poisonlab.config.start import Start
from poisonlab.config.validation import Validation
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.set_apart import fine_tuning_last
from poisonlab.data.training_set import clean_rows, fine_tuning_rows, training_set
from poisonlab.errors import DataError, SettingsError
from poisonlab.models.classifier import Normalize

UNSEEN = {"among_last": 8, "target_label": "b", "adversarial_label": "c"}


def fine_tuned() -> Attacker:
    return replace(attacker(), rows=fine_tuning_rows(dataset(), Start(fine_tune_per_class=3)))


def crafted(seed: int, **unseen: Any) -> PoisonSet:
    settings = ConvexPolytope(**common(budget=0.2, steps=2, unseen_target={**UNSEEN, **unseen}))
    return convex_polytope.craft(dataset(), fine_tuned(), settings, seed=seed)


@pytest.mark.parametrize("seed", [0, 4])
def test_a_seed_attacks_the_image_of_its_number(seed: int) -> None:
    found = crafted(seed)
    row = 3 * (12 + seed) + 1
    assert found.goal is not None
    assert torch.equal(found.goal.targets, dataset().train_images[[row]])
    assert (found.goal.target_labels.tolist(), found.goal.adversarial_labels.tolist()) == ([1], [2])
    assert found.facts["target_training_row"] == row
    # Two poisons of nine images, on the first ones that victims are fine-tuned on.
    assert found.indices.tolist() == [3 * 17 + 2, 3 * 18 + 2]


def test_no_target_is_an_image_that_trainings_are_watched_by() -> None:
    """Eight of the twenty images of a class are for validation: of the other twelve, the five before the last three
    are targets."""
    data = replace(dataset(), validation=Validation(per_class=8))
    clean = clean_rows(data)
    assert clean is not None
    own = [row for row in clean.tolist() if row % 3 == 1]
    means = replace(attacker(), rows=fine_tuning_rows(data, Start(fine_tune_per_class=3)))
    assert [unseen_row(data, means, 1, 8, seed) for seed in range(5)] == own[-8:-3]


def test_classes_and_bases_may_be_drawn() -> None:
    drawn = [crafted(seed, target_label=None, adversarial_label=None, bases="drawn") for seed in range(5)]
    goals = [each.goal for each in drawn if each.goal is not None]
    assert len({(int(goal.target_labels), int(goal.adversarial_labels)) for goal in goals}) > 1
    assert all(int(goal.target_labels) != int(goal.adversarial_labels) for goal in goals)
    assert len({tuple(each.indices.tolist()) for each in drawn}) > 1
    assert all(row >= 3 * 17 for each in drawn for row in each.indices.tolist())


def test_other_attacks_in_feature_space_meet_the_same_threat() -> None:
    settings = BullseyePolytope(**common(budget=0.2, steps=2, unseen_target=UNSEEN))
    found, other = bullseye_polytope.craft(dataset(), fine_tuned(), settings, seed=3), crafted(3)
    assert found.goal is not None
    assert other.goal is not None
    assert torch.equal(found.goal.targets, other.goal.targets)
    assert torch.equal(found.indices, other.indices)


def test_there_are_not_more_targets_than_images() -> None:
    with pytest.raises(SettingsError, match=r"seed 5 has no target: of the last 8 .* class 'b', victims leave 5"):
        crafted(5)
    with pytest.raises(SettingsError, match="target_label"):
        crafted(0, target_label="z")


def test_it_is_told_only_where_it_is_asked_for() -> None:
    assert "unseen_target" not in ConvexPolytope(**common()).told()
    with pytest.raises(ValueError, match="unseen_target says which image is attacked: leave out target: recognised"):
        ConvexPolytope(**common(unseen_target=UNSEEN, target="recognised"))


# --- published poisons ------------------------------------------------------------------------------------------


def in_colour() -> ImageDataset:
    """The same classes with images of three channels, as published files have them."""
    data = dataset()
    train, test = (torch.cat([images, 255 - images[:, :1]], 1) for images in (data.train_images, data.test_images))
    return replace(data, train_images=train, test_images=test, mean=(0.4, 0.5, 0.6), std=(0.25, 0.2, 0.3))


def published(path: Path) -> None:
    """A file as convex polytope's authors save it: pairs (normalised image, label), and positions among the last eight
    images of each class; images 12 and 13 of class "c" are poisoned."""
    data = in_colour()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    images = data.train_images[[3 * 12 + 2, 3 * 13 + 2]] ^ 1
    pairs = [((image.float() / 255 - mean) / std, 2) for image in images]
    torch.save({"poison": pairs, "idx": torch.tensor([2, 5])}, path)


def imported_at(path: Path, seed: int, **options: Any) -> PoisonSet:
    """The file on the split of its authors: of the last eight images of a class, the first three are fine-tuned on."""
    data, rows = fine_tuning_last(in_colour(), 8, 3), {"last_per_class": 8, "moved": 3}
    told = {"rows": rows, "mean": data.mean, "std": data.std, "target_among_last": 8, "target_label": "b", **options}
    means = Attacker((), Normalize(data.mean, data.std), Recipe(), rows=fine_tuned().rows)
    return imported.craft(data, means, Imported(name="published", path=str(path), **told), seed=seed)


def test_published_poisons_meet_the_victims_of_their_split(tmp_path: Path) -> None:
    published(tmp_path / "a.pth")
    found = imported_at(tmp_path / "a.pth", seed=1)
    # Numbers 12, 13 and 14 went to the end of their class, where victims are fine-tuned on them.
    assert found.indices.tolist() == [3 * 17 + 2, 3 * 18 + 2]
    assert torch.equal(found.base_images, in_colour().train_images[[3 * 12 + 2, 3 * 13 + 2]])
    assert torch.equal(found.images, found.base_images ^ 1)
    assert found.goal is not None
    # Seed 1 is the authors' target 1: number 12 + 3 + 1 of class "b".
    assert torch.equal(found.goal.targets, in_colour().train_images[[3 * 16 + 1]])
    assert int(found.goal.adversarial_labels) == 2
    data = training_set(fine_tuning_last(in_colour(), 8, 3), found, fine_tuned().rows)
    assert len(data) == 9
    assert torch.equal(data.images[data.labels == 2][:2], found.images)


def test_published_poisons_on_another_split_are_refused(tmp_path: Path) -> None:
    published(tmp_path / "a.pth")
    with pytest.raises(DataError, match="another order of the images"):
        imported_at(tmp_path / "a.pth", seed=0, rows={"last_per_class": 8})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target_label": None}, "give target_label"),
        ({"target_index": 3}, "leave out target_index"),
        ({"targeted": False}, "takes no target_among_last"),
        ({"rows": {"last_per_class": 8, "moved": 9}}, "exceeds last_per_class"),
    ],
)
def test_contradictions_in_the_config(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        imported_at(Path("a.pth"), seed=0, **options)
