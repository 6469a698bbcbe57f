"""The work of training a network, with or without defenses; a new defense joins ``DEFENSES``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from poisonlab.config.defenses.abl import Abl
from poisonlab.config.defenses.adversarial_poisoning import AdversarialPoisoning
from poisonlab.config.defenses.adversarial_training import AdversarialTraining
from poisonlab.config.defenses.dp_sgd import DpSgd
from poisonlab.config.defenses.epic import Epic
from poisonlab.config.defenses.friendly_noise import FriendlyNoise
from poisonlab.config.defenses.gradient_shaping import GradientShaping
from poisonlab.config.defenses.random_noise import RandomNoise
from poisonlab.config.defenses.strong_augmentation import StrongAugmentation
from poisonlab.config.recipe import Recipe
from poisonlab.config.start import Start
from poisonlab.cost.amount import Work, passes
from poisonlab.cost.networks import BY_INPUTS, FORWARD, Network, Passes, training_passes
from poisonlab.defenses import abl, epic
from poisonlab.errors import SettingsError


class Method(Protocol):
    """Settings with ``method``."""

    @property
    def method(self) -> str: ...


@dataclass(frozen=True)
class Load:
    """What a defense makes of a training.

    Attributes:
        extra: forward passes per example of a batch, beyond those of the step itself.
        seen: share of the training set that the step is taken on in an epoch (0-based); above 1 for copies.
        looks: forward passes over the training set at the end of an epoch.
        changes_images: from epoch to epoch, so that frozen features cannot be kept.
    """

    extra: float = 0.0
    seen: Callable[[int], float] = lambda epoch: 1.0
    looks: Callable[[int], float] = lambda epoch: 0.0
    changes_images: bool = True


def _abl(settings: Abl, recipe: Recipe, each: Passes) -> Load:
    isolating, unlearning = settings.isolation_epochs, settings.isolation_epochs + settings.fine_tune_epochs

    def seen(epoch: int) -> float:
        if epoch < isolating:
            return 1.0
        return 1 - settings.share if epoch < unlearning else settings.share

    return Load(seen=seen, looks=lambda epoch: float(epoch + 1 == isolating), changes_images=False)


def _adversarial_poisoning(settings: AdversarialPoisoning, recipe: Recipe, each: Passes) -> Load:
    # The targets' gradient once, the poisons' in every step.
    return Load((1 - settings.share) * each.by_weights + settings.share * settings.steps * each.matching)


def _adversarial_training(settings: AdversarialTraining, recipe: Recipe, each: Passes) -> Load:
    return Load(settings.steps * each.by_inputs)


def _dp_sgd(settings: DpSgd, recipe: Recipe, each: Passes) -> Load:
    # Every layer's gradient by its weights a second time, now example by example.
    return Load((each.by_weights - FORWARD) / 2, changes_images=False)


def _epic(settings: Epic, recipe: Recipe, each: Passes) -> Load:
    selects = epic.Epic(settings).selects_before
    return Load(looks=lambda epoch: float(selects(epoch + 1, recipe)), changes_images=False)


def _friendly_noise(settings: FriendlyNoise, recipe: Recipe, each: Passes) -> Load:
    # Made before, by a job of its own. That it begins at once in transfer is the usual case.
    return Load(changes_images=settings.def_epoch_pretrained > 0)


def _gradient_shaping(settings: GradientShaping, recipe: Recipe, each: Passes) -> Load:
    return Load(changes_images=False)


def _random_noise(settings: RandomNoise, recipe: Recipe, each: Passes) -> Load:
    return Load()


def _strong_augmentation(settings: StrongAugmentation, recipe: Recipe, each: Passes) -> Load:
    return Load(seen=lambda epoch: settings.copies if epoch >= settings.warmup_epochs else 1.0)


DEFENSES: Mapping[str, Callable[[Any, Recipe, Passes], Load]] = {
    "abl": _abl,
    "adversarial-poisoning": _adversarial_poisoning,
    "adversarial-training": _adversarial_training,
    "dp-sgd": _dp_sgd,
    "epic": _epic,
    "friendly-noise": _friendly_noise,
    "gradient-shaping": _gradient_shaping,
    "random-noise": _random_noise,
    "strong-augmentation": _strong_augmentation,
}
"""By method: the load of a defense with these settings in a training by this recipe."""


def known(table: Mapping[str, Any], settings: Method, where: str) -> Any:
    """The entry of a method.

    Raises:
        SettingsError: the table has none.
    """
    if settings.method not in table:
        raise SettingsError(f"nobody has said how much {settings.method} computes: add it to poisonlab.cost.{where}")
    return table[settings.method]


def training(
    network: Network,
    recipe: Recipe,
    examples: float,
    defenses: Sequence[Method] = (),
    *,
    start: Start | None = None,
    until: int | None = None,
) -> Work:
    """Training a network, as ``poisonlab.training.loop.train`` does, without ``observe``.

    Args:
        examples: of the training set.
        defenses: that act on the training.
        start: how the network begins; from scratch if not given.
        until: epochs after which it stops.

    Raises:
        SettingsError: a defense's work is not known.
    """
    recipe = scheduled(recipe, defenses)
    start = start or Start()
    each = training_passes(network, start.scenario == "transfer")
    loads = [known(DEFENSES, defense, "training")(defense, recipe, each) for defense in defenses]
    epochs = range(recipe.epochs if until is None else until)
    seen = float(sum(_product(load.seen(epoch) for load in loads) for epoch in epochs))
    looks = sum(load.looks(epoch) for load in loads for epoch in epochs)
    step, computed_once = each.by_weights + sum(load.extra for load in loads), 0.0
    if _keeps_features(start, recipe, loads):
        step, computed_once = 3 * network.head / network.forward, FORWARD
    return passes("train", network, seen * step + computed_once, examples) + passes("forward", network, looks, examples)


def scheduled(recipe: Recipe, defenses: Sequence[Method]) -> Recipe:
    """The recipe that is trained by: ABL makes its own of it."""
    for defense in defenses:
        if isinstance(defense, Abl):
            recipe = abl.Abl(defense).schedule(recipe)
    return recipe


def _keeps_features(start: Start, recipe: Recipe, loads: Sequence[Load]) -> bool:
    fixed = start.scenario == "transfer" and start.batch_norm == "eval" and recipe.augmentation.kind == "none"
    return fixed and not any(load.changes_images for load in loads)


def _product(factors: Any) -> float:
    result = 1.0
    for factor in factors:
        result *= factor
    return result


def observing(network: Network, recipe: Recipe, targets: float, test: float) -> Work:
    """What is measured of a victim: the attack's targets after every epoch, test accuracy now and then.

    Args:
        recipe: as ``scheduled``.
        targets, test: images of either.
    """
    accuracies = -(-recipe.epochs // recipe.evaluate_every)
    return passes("forward", network, FORWARD, recipe.epochs * targets + accuracies * test)


def making_noise(network: Network, settings: FriendlyNoise, examples: float) -> Work:
    """Friendly noise for ``examples``, once its network is trained."""
    return passes("noise", network, FORWARD + settings.steps * BY_INPUTS, examples)
