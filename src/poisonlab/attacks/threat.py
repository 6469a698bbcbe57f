"""Who is attacked with what: target, adversarial label and base images, drawn by seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import SettingsError


@dataclass(frozen=True)
class Threat:
    """A triggerless targeted attack's setup (Witches' Brew, section 3.1).

    Attributes:
        target_index: row of the test split.
        target_label: the target's true class.
        adversarial_label: the class the attacker wants; also the class of the bases (clean label).
        base_indices: (P,) int64, sorted rows of the training split.
    """

    target_index: int
    target_label: int
    adversarial_label: int
    base_indices: Tensor


def poison_count(budget: float, size: int) -> int:
    """Poisons that ``budget`` buys in a training set of ``size``: rounded up, at least one."""
    return max(1, math.ceil(round(budget * size, 6)))


def draw_threat(dataset: ImageDataset, budget: float, seed: int, eligible: Tensor | None = None) -> Threat:
    """Draw target class, adversarial class, bases and target, all uniformly.

    Args:
        dataset: clean data.
        budget: poisons as a fraction of the training set, in (0, 1].
        seed: of all draws.
        eligible: (M,) bool, the test images that may become the target; all if not given.

    Raises:
        SettingsError: the budget exceeds the adversarial class, or no test image of the target class is eligible.
    """
    rng = np.random.default_rng([seed, 2])
    target_label = int(rng.integers(dataset.num_classes))
    adversarial_label = int((target_label + 1 + rng.integers(dataset.num_classes - 1)) % dataset.num_classes)
    count = poison_count(budget, len(dataset.train_labels))
    pool = np.flatnonzero(dataset.train_labels.numpy() == adversarial_label)
    if count > len(pool):
        most = math.floor(1e4 * len(pool) / len(dataset.train_labels)) / 1e4
        raise SettingsError(
            f"budget {budget:g} asks for {count} poisons, but class {dataset.class_names[adversarial_label]!r} has "
            f"only {len(pool)} training images: lower the budget to at most {most:g}"
        )
    bases = np.sort(rng.choice(pool, size=count, replace=False))
    candidates = np.flatnonzero(dataset.test_labels.numpy() == target_label)
    if eligible is not None:
        candidates = candidates[eligible.numpy()[candidates]]
    if len(candidates) == 0:
        raise SettingsError(
            f"no test image of class {dataset.class_names[target_label]!r} can be the target: use more test images, "
            "train the surrogates better, or set target: random"
        )
    return Threat(
        target_index=int(rng.choice(candidates)),
        target_label=target_label,
        adversarial_label=adversarial_label,
        base_indices=torch.from_numpy(bases.astype(np.int64)),
    )
