"""The classes of an attack whose threat is drawn apart from ``poisonlab.attacks.threat``."""

from __future__ import annotations

import numpy as np

from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import SettingsError


def draw_classes(
    dataset: ImageDataset, rng: np.random.Generator, target_label: int | str | None, adversarial_label: int | str | None
) -> tuple[int, int]:
    """The target's class and the one that the attacker wants: those given, or drawn where one is missing.

    In the order of ``draw_threat``: without given classes, a seed has those that it has in other attacks.

    Raises:
        SettingsError: a class is unknown, or both are the same.
    """
    true = int(rng.integers(dataset.num_classes))
    wanted = int((true + 1 + rng.integers(dataset.num_classes - 1)) % dataset.num_classes)
    if target_label is not None and adversarial_label is not None:
        true = dataset.class_number(target_label, "target_label")
        wanted = dataset.class_number(adversarial_label, "adversarial_label")
    if true == wanted:
        raise SettingsError(f"target_label and adversarial_label are both class {dataset.class_names[true]!r}")
    return true, wanted
