"""The work of crafting one set of poisons; a new attack joins ``ATTACKS``.

Not counted: convex polytope's coefficients (small matrices, on the CPU) and the colours of MetaPoison.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from poisonlab.attacks.threat import poison_count
from poisonlab.config.attacks.attack import Attack, CraftedAttack, TargetedAttack
from poisonlab.config.attacks.features import FeatureAttack
from poisonlab.config.attacks.gradient_matching import GradientMatching
from poisonlab.config.attacks.imported import Imported
from poisonlab.config.attacks.matching import MatchingAttack
from poisonlab.config.attacks.metapoison import MetaPoison
from poisonlab.config.attacks.sleeper_agent import SleeperAgent
from poisonlab.config.recipe import Recipe
from poisonlab.cost.amount import Work, passes, total
from poisonlab.cost.networks import (
    BY_INPUTS,
    BY_WEIGHTS,
    FORWARD,
    MATCHING,
    UNROLLED,
    Network,
)
from poisonlab.cost.sizes import Sizes
from poisonlab.cost.training import known, training


@dataclass(frozen=True)
class Means:
    """What an attacker works with.

    Attributes:
        networks: one per surrogate that is named; none for poisons made elsewhere.
        recipe: of the first surrogate.
        pool: images that the victim is trained on, and bases are drawn from.
    """

    networks: tuple[Network, ...]
    recipe: Recipe
    sizes: Sizes
    pool: int

    def poisons(self, settings: CraftedAttack) -> int:
        """How many the budget buys; a setup file's are taken to be as many."""
        return poison_count(settings.budget, self.pool)


def crafting(settings: Attack, means: Means) -> Work:
    """The work of one seed's poisons.

    Raises:
        SettingsError: the attack's work is not known.
    """
    work: Work = known(ATTACKS, settings, "crafting")(settings, means)
    return work


def targets(settings: Attack, sizes: Sizes) -> int:
    """Images that an attack is judged on: one, or a backdoor's with and without the trigger."""
    if not isinstance(settings, SleeperAgent):
        return 1
    return 2 * min(sizes.of_class(sizes.test), settings.sources_test or sizes.test)


def _trained(settings: CraftedAttack, means: Means) -> list[Network]:
    """Every trained network that the attack is handed."""
    return [network for network in means.networks for _ in range(settings.pretrained_networks)]


def _choosing(settings: TargetedAttack, means: Means) -> Work:
    if settings.target == "random" or settings.setup is not None:
        return Work()
    return total(passes("forward", network, FORWARD, means.sizes.test) for network in _trained(settings, means))


def _matching(settings: MatchingAttack, means: Means, restarts: int = 1) -> Work:
    images = restarts * settings.steps * means.poisons(settings)
    return total(passes("craft", network, MATCHING, images) for network in _trained(settings, means))


def _goals(settings: MatchingAttack, means: Means, images: int) -> Work:
    """The gradient of ``images`` to match, in every network."""
    return total(passes("craft", network, BY_WEIGHTS, images) for network in _trained(settings, means))


def _gradient_matching(settings: GradientMatching, means: Means) -> Work:
    return _choosing(settings, means) + _goals(settings, means, 1) + _matching(settings, means, settings.restarts)


def _sleeper_agent(settings: SleeperAgent, means: Means) -> Work:
    own = means.sizes.of_class(means.pool)
    sources = min(own, settings.sources_train or own)
    candidates = min(own, settings.candidates or own) if settings.selection == "gradient-norm" else 0
    every = settings.retrain_every
    times = sum(step % every == 0 for step in range(1, settings.steps - 1)) if every else 0
    recipe = means.recipe.model_copy(update={"epochs": settings.retrain_epochs or means.recipe.epochs})
    # Norms take no weight gradients, but products as large in their place.
    selecting = _goals(settings, means, candidates)
    retraining = training(means.networks[0], recipe, means.pool).times(times * settings.ensemble)
    goals = _goals(settings, means, (1 + times) * sources)
    return selecting + retraining + goals + _matching(settings, means)


def _in_features(settings: FeatureAttack, means: Means) -> Work:
    poisons = means.poisons(settings)
    steps = total(
        passes("craft", network, BY_INPUTS, settings.steps * poisons) + passes("forward", network, FORWARD, poisons)
        for network in _trained(settings, means)
    )
    return _choosing(settings, means) + steps


def _metapoison(settings: MetaPoison, means: Means) -> Work:
    network, recipe, poisons = means.networks[0], means.recipe, means.poisons(settings)
    share = max(1, round(settings.batch_size * poisons / means.pool))
    batches = ceil(poisons / (settings.poisons_per_batch or share)) if settings.sweep == "epoch" else 1
    unrollings = settings.steps * settings.ensemble * batches
    # The first step's gradient goes to its images, a later one's to the weights; after each the target is asked.
    images = settings.batch_size * (MATCHING + (settings.unroll - 1) * UNROLLED) + settings.unroll * BY_WEIGHTS
    before = sum(settings.first_epoch + number * settings.stagger for number in range(settings.ensemble)) * means.pool
    between = means.pool if settings.clean_batches is None else settings.clean_batches * recipe.batch_size
    trained = before + settings.steps * settings.ensemble * between
    return (
        _choosing(settings, means)
        + passes("craft", network, images, unrollings)
        + passes("train", network, BY_WEIGHTS, trained)
    )


def _imported(settings: Imported, means: Means) -> Work:
    return Work()


ATTACKS: Mapping[str, Callable[[Any, Means], Work]] = {
    "bullseye-polytope": _in_features,
    "convex-polytope": _in_features,
    "gradient-matching": _gradient_matching,
    "imported": _imported,
    "metapoison": _metapoison,
    "poison-frogs": _in_features,
    "sleeper-agent": _sleeper_agent,
}
"""By method: the work of one seed's poisons."""
