"""Bullseye Polytope (Aghakhani et al. 2021, equation 3): the mean of the poisons' features meets the target's.

The target then lies in the middle of the poisons in feature space. A linear head that learns the poisons' label around
the target gives it that label, too. The optimisation is ``poisonlab.attacks.features``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.features import Distance, craft_in_features, length, mean_square
from poisonlab.config.attacks.bullseye_polytope import BullseyePolytope as Settings
from poisonlab.data.dataset import ImageDataset


def relative(goal: Tensor) -> Distance:
    """Length of the difference between the poisons' mean and ``goal`` (D,), over the length of ``goal``.

    For a block's features (C, H, W) this is computed at each position and averaged, as in the released code. Positions
    at which ``goal`` is zero are left out; the released code divides by zero there.

    Raises:
        PoisonlabError: ``goal`` is zero.
    """
    norm = length(goal)
    if goal.ndim != 3:
        return lambda features: torch.linalg.vector_norm(features.mean(0) - goal) / norm
    norms = torch.linalg.vector_norm(goal, dim=0)
    seen = norms > 0
    return lambda features: (torch.linalg.vector_norm(features.mean(0) - goal, dim=0)[seen] / norms[seen]).mean()


def craft(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, *, seed: int, progress: bool = False
) -> PoisonSet:
    """Craft poisons for the target and bases that ``seed`` draws.

    Args:
        dataset: clean data.
        attacker: surrogates and how they were trained.
        settings: budget, bound, steps, distance.
        seed: of the threat, the random start, the augmentation and the dropout.
        progress: show a progress bar.

    Returns:
        The poisons; see ``craft_in_features`` for diagnostics and facts.

    Raises:
        SettingsError: the budget exceeds the adversarial class, or no test image can be the target.
        PoisonlabError: features or loss are not finite, or the target's features are zero and the distance is relative.
    """
    measure = relative if settings.distance == "relative" else mean_square
    return craft_in_features(dataset, attacker, settings, measure, seed=seed, progress=progress)
