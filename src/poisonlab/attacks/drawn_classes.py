"""The classes of an attack that does not draw its threat with ``poisonlab.attacks.threat``."""

from __future__ import annotations

import numpy as np

from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import SettingsError


def draw_classes(
    dataset: ImageDataset, rng: np.random.Generator, target_label: int | str | None, adversarial_label: int | str | None
) -> tuple[int, int]:
    """The target's class and the adversarial class: as given, or both drawn if one of them is not given.

    They are drawn in the order of ``draw_threat``, so that a seed draws the same classes as in other attacks.

    Raises:
        SettingsError: a class is unknown, or both classes are the same.
    """
    true = int(rng.integers(dataset.num_classes))
    wanted = int((true + 1 + rng.integers(dataset.num_classes - 1)) % dataset.num_classes)
    if target_label is not None and adversarial_label is not None:
        true = dataset.class_number(target_label, "target_label")
        wanted = dataset.class_number(adversarial_label, "adversarial_label")
    if true == wanted:
        raise SettingsError(f"target_label and adversarial_label are both class {dataset.class_names[true]!r}")
    return true, wanted
