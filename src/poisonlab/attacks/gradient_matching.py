"""Gradient matching (Witches' Brew, Geiping et al. 2021; algorithm 1).

Perturb base images of the adversarial class so that their gradient in a trained surrogate aligns with the target's. The
target's gradient is that for the adversarial label. The optimisation is ``poisonlab.attacks.matching``.
"""

from __future__ import annotations

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.matching import Crafting, match
from poisonlab.attacks.shipping import ship
from poisonlab.attacks.threat import choose_threat
from poisonlab.config.attacks.gradient_matching import GradientMatching as Settings
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import pixels


def craft(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, *, seed: int, progress: bool = False
) -> PoisonSet:
    """Craft poisons for the target and bases that ``seed`` draws.

    Args:
        dataset: clean data.
        attacker: surrogates and how they were trained.
        settings: budget, bound, steps, restarts.
        seed: of the threat, the random starts and the augmentation.
        progress: show a progress bar.

    Returns:
        The poisons; ``diagnostics["matching_loss"]`` is (restarts, steps) float32.

    Raises:
        SettingsError: the budget exceeds the adversarial class, or no test image can be the target.
        PoisonlabError: the matching loss is not finite.
    """
    threat = choose_threat(dataset, attacker, settings, seed)
    bases = dataset.train_images[threat.base_indices]
    labels = dataset.train_labels[threat.base_indices]
    target = dataset.test_images[threat.target_index][None]
    inputs = attacker.normalize(pixels(target.to(attacker.device)))
    matchers = [match(surrogate, inputs, threat.adversarial_label, settings) for surrogate in attacker.surrogates]
    friendly = attacker.friendly_on(threat.base_indices)
    crafting = Crafting(attacker, settings, bases, labels, friendly, seed, "gradient-matching", settings.restarts)
    change, losses = crafting.run(matchers, progress=progress)
    return PoisonSet(
        indices=threat.base_indices,
        images=ship(bases, change, settings.eps, settings.precision),
        labels=labels,
        base_images=bases,
        goal=threat.goal(dataset),
        diagnostics={"matching_loss": losses},
        facts={"target_index": threat.target_index, "best_restart": int(losses[:, -1].argmin())},
    )
