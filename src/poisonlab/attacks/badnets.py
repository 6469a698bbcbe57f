"""BadNets: a visible patch on images of other classes, which get the target class's label.

Gu, Dolan-Gavitt, Garg 2017, "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain", sections
3 and 4, all-to-one. Nothing is optimised, so the attack needs no surrogate. The patch is the lab's own, of saturated
blocks.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.threat import poison_count
from poisonlab.attacks.trigger import own_pattern, patched
from poisonlab.config.attacks.badnets import BadNets as Settings
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import SettingsError
from poisonlab.randomness import generator


def craft(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, *, seed: int, progress: bool = False
) -> PoisonSet:
    """Put the patch on training images that ``seed`` draws from all classes but the target's, and relabel them.

    Args:
        dataset: clean data.
        attacker: only the rows that the victim is trained on are used.
        settings: budget, target class, patch.
        seed: of the target class, the images and the places of the patch.
        progress: ignored; crafting takes too little time for a progress bar.

    Returns:
        The poisons; targets are patched test images of the other classes.

    Raises:
        SettingsError: the budget exceeds the images of the other classes, the target class does not exist, no test
            image is of another class, or the patch is larger than the image.
    """
    rng = np.random.default_rng([seed, 5])
    drawn = int(rng.integers(dataset.num_classes))
    given = settings.target_class
    target = drawn if given is None else dataset.class_number(given, "target_class")
    rows = _bases(dataset, attacker, settings, target, rng)
    tests = torch.nonzero(dataset.test_labels != target).flatten()
    if len(tests) == 0:
        raise SettingsError(f"every test image is of the target class {dataset.class_names[target]!r}: name another")
    shown = torch.from_numpy(rng.permutation(len(tests))[: settings.targets].astype(np.int64)).sort().values
    tests = tests[shown]
    bases, untriggered = dataset.train_images[rows], dataset.test_images[tests]
    return PoisonSet(
        indices=rows,
        images=_patched(bases, settings, seed, "train"),
        labels=torch.full_like(rows, target),
        base_images=bases,
        goal=Goal(
            targets=_patched(untriggered, settings, seed, "test"),
            target_labels=dataset.test_labels[tests],
            adversarial_labels=torch.full_like(tests, target),
            untriggered=untriggered,
        ),
        facts={"target_class": target, "patch_size": settings.patch_size},
    )


def _bases(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, target: int, rng: np.random.Generator
) -> Tensor:
    """(P,) int64 sorted training rows of other classes than the target class.

    Raises:
        SettingsError: the budget asks for more rows than there are.
    """
    pool = attacker.pool(dataset)
    others = pool[dataset.train_labels[pool] != target]
    count = poison_count(settings.budget, len(pool))
    if count > len(others):
        raise SettingsError(
            f"budget {settings.budget:g} asks for {count} poisons, but only {len(others)} training images are of other "
            f"classes than {dataset.class_names[target]!r}: lower the budget"
        )
    chosen = rng.choice(len(others), size=count, replace=False)
    return others[torch.from_numpy(np.sort(chosen))]


def _patched(images: Tensor, settings: Settings, seed: int, split: str) -> Tensor:
    pattern = own_pattern(settings.patch_size, channels=images.shape[1])
    return patched(images, pattern, settings.place, generator("cpu", seed, "badnets", "patch", split))
