"""BadNets: the patch and nothing else changes, labels are the target's, and bases are of other classes."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from poisonlab.attacks import badnets
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.trigger import own_pattern
from poisonlab.config.attacks.badnets import BadNets
from poisonlab.config.recipe import Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.models.classifier import Normalize


def found(patched: Tensor, plain: Tensor) -> list[tuple[int, int]]:
    """The places at which the patch of 3 x 3 turns the plain images into the patched ones."""
    places = []
    for after, before in zip(patched, plain, strict=True):
        for row, column in itertools.product(range(6), repeat=2):
            expected = before.clone()
            expected[:, row : row + 3, column : column + 3] = own_pattern(3)
            if torch.equal(expected, after):
                places.append((row, column))
    return places


def test_the_patch_and_the_label_are_all_that_changes() -> None:
    stream = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (52, 3, 8, 8), generator=stream, dtype=torch.uint8)
    labels = torch.arange(52) % 4
    data = ImageDataset(images[:40], labels[:40], images[40:], labels[40:], tuple("abcd"), (0.5,) * 3, (0.2,) * 3)
    attacker = Attacker([], Normalize(data.mean, data.std), Recipe())
    settings = BadNets(name="patch", budget=0.2, target_class="c", patch_size=3, targets=4)
    poisons = badnets.craft(data, attacker, settings, seed=1)
    assert len(poisons.indices) == 8
    assert poisons.goal is not None
    assert poisons.goal.untriggered is not None
    assert poisons.labels.tolist() == [2] * 8
    assert 2 not in data.train_labels[poisons.indices].tolist()
    for made, base in ((poisons.images, images[poisons.indices]), (poisons.goal.targets, poisons.goal.untriggered)):
        assert torch.equal(made[:, :, 5:, 5:], own_pattern(3).expand(len(made), 3, 3, 3))
        outside = torch.ones(8, 8, dtype=torch.bool)
        outside[5:, 5:] = False
        assert torch.equal(made[:, :, outside], base[:, :, outside])
    assert len(poisons.goal) == 4
    assert 2 not in poisons.goal.target_labels.tolist()
    assert poisons.goal.adversarial_labels.tolist() == [2] * 4
    every = badnets.craft(data, attacker, settings.model_copy(update={"targets": 100}), seed=1).goal
    others = data.test_labels != 2
    assert every is not None
    assert every.untriggered is not None
    assert torch.equal(every.untriggered, data.test_images[others])
    assert torch.equal(every.target_labels, data.test_labels[others])
    # Anywhere: each image has the patch at one place and nothing else, and targets have places of their own.
    wild = badnets.craft(data, attacker, settings.model_copy(update={"place": "random"}), seed=1)
    assert wild.goal is not None
    assert wild.goal.untriggered is not None
    places = [found(wild.images, wild.base_images), found(wild.goal.targets, wild.goal.untriggered)]
    assert [len(each) for each in places] == [8, 4]
    assert len(set(places[0])) > 1
    assert places[0][:4] != places[1]
