"""Poison Frogs (Shafahi et al. 2018, equation 1), feature collision: every poison's features meet the target's.

    minimise over x   ||phi(x) - phi(t)||^2 + beta ||x - b||^2

for every base b, by Adam within the bound instead of the paper's forward-backward splitting. With ``objective: mean``
only the mean of the poisons' features must meet the target's. The optimisation is ``poisonlab.attacks.features``.
"""

from __future__ import annotations

from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.features import Distance, craft_in_features, mean_square
from poisonlab.config.attacks.poison_frogs import PoisonFrogs as Settings
from poisonlab.data.dataset import ImageDataset


def per_image(goal: Tensor) -> Distance:
    """Mean over the poisons of the squared distance of their features to ``goal``, (D,) or (C, H, W)."""
    return lambda features: (features - goal).square().flatten(1).sum(1).mean()


def craft(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, *, seed: int, progress: bool = False
) -> PoisonSet:
    """Craft poisons for the target and bases that ``seed`` draws.

    Args:
        dataset: clean data.
        attacker: surrogates and how they were trained.
        settings: budget, bound, steps, objective, beta.
        seed: of the threat, the random start, the augmentation and the dropout.
        progress: show a progress bar.

    Returns:
        The poisons; see ``craft_in_features`` for diagnostics and facts.

    Raises:
        SettingsError: the budget exceeds the adversarial class, or no test image can be the target.
        PoisonlabError: features or loss are not finite.
    """
    measure = per_image if settings.objective == "per-image" else mean_square
    return craft_in_features(dataset, attacker, settings, measure, seed=seed, beta=settings.beta, progress=progress)
