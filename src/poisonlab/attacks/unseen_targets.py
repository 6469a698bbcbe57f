"""Targets from the training split that no network is trained on, as in convex polytope.

Victims are fine-tuned on some of the last training images of each class. The rest of these images are in no training
set. Seed t takes the t-th of them in its class as target (Zhu et al. 2019, section 5; their released code).
"""

from __future__ import annotations

import numpy as np
import torch

from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.threat import Threat, affordable, class_rows, draw_classes
from poisonlab.config.attacks.unseen_target import UnseenTarget
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import clean_rows
from poisonlab.errors import SettingsError


def unseen_row(dataset: ImageDataset, attacker: Attacker, label: int, among_last: int, seed: int) -> int:
    """The training row of the target of ``seed``.

    Args:
        dataset: clean data.
        attacker: its ``rows`` are those that the victim is fine-tuned on.
        label: class of the target.
        among_last: number of images at the end of each class that surrogates and pretrained victims do not see.
        seed: number of the target, from 0, among those of them that the victim is not fine-tuned on.

    Raises:
        SettingsError: there are at most ``seed`` such images.
    """
    # Images set apart to monitor trainings cannot be targets.
    own = class_rows(dataset, label, clean_rows(dataset))[-among_last:]
    left = own[~np.isin(own, attacker.pool(dataset).numpy())]
    if seed >= len(left):
        raise SettingsError(
            f"seed {seed} has no target: of the last {among_last} training images of class "
            f"{dataset.class_names[label]!r}, victims leave {len(left)}: use smaller seeds, raise among_last, or "
            "fine-tune on fewer images"
        )
    return int(left[seed])


def unseen_threat(
    dataset: ImageDataset, attacker: Attacker, settings: UnseenTarget, budget: float, seed: int
) -> Threat:
    """Target, classes and bases of a seed.

    Args:
        dataset: clean data.
        attacker: its ``rows`` are those that the victim is fine-tuned on and bases are taken from.
        settings: which images can be targets, and which become bases.
        budget: poisons as a fraction of the images that the victim is fine-tuned on.
        seed: of the target, and of the draws that the settings leave open.

    Raises:
        SettingsError: a class is unknown, both classes are the same, or too few images are left for target or bases.
    """
    rng = np.random.default_rng([seed, 2])
    true, wanted = draw_classes(dataset, rng, settings.target_label, settings.adversarial_label)
    rows = attacker.pool(dataset)
    pool = class_rows(dataset, wanted, rows)
    count = affordable(dataset, budget, len(rows), wanted, pool)
    bases = pool[:count] if settings.bases == "first" else np.sort(rng.choice(pool, size=count, replace=False))
    target = unseen_row(dataset, attacker, true, settings.among_last, seed)
    return Threat(target, true, wanted, torch.from_numpy(bases.astype(np.int64)), unseen=True)
