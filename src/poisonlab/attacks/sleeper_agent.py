"""Sleeper Agent (Souri et al. 2022; algorithm 1): a hidden trigger for victims trained from scratch, with clean labels.

Bases of the target class are perturbed so that their gradient matches that of patched source images labelled with the
target class. The trigger appears on no training image. There are three differences from gradient matching. Bases are
the candidates with the largest gradients. The gradient to match is the mean over many patched training images of the
source class. At fixed steps the surrogate is retrained from scratch on the current poisons, as the victim will be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.matching import Crafting, Matcher, Refresh, match
from poisonlab.attacks.shipping import ship
from poisonlab.attacks.threat import affordable, class_rows
from poisonlab.attacks.trigger import own_pattern, patched, read_pattern
from poisonlab.config.attacks.sleeper_agent import Patch
from poisonlab.config.attacks.sleeper_agent import SleeperAgent as Settings
from poisonlab.config.recipe import Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import TrainingSet, pixels, training_set
from poisonlab.defenses.friendly_noise import FriendlyNoise
from poisonlab.defenses.random_noise import RandomNoise
from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Classifier
from poisonlab.models.double_backward import twice_differentiable
from poisonlab.models.gradient_norms import per_sample_gradient_norms
from poisonlab.randomness import generator, stream_seed
from poisonlab.training.defense import Defense
from poisonlab.training.loop import train


@dataclass(frozen=True)
class Scene:
    """The attack's classes and images: patched images of the source class shall be classified as the target class.

    Attributes:
        source_class: the class whose images get the trigger.
        target_class: the class that the attacker wants for them; also the class of the bases.
        base_indices: (P,) int64 sorted training rows.
        sources: (S, C, H, W) uint8 training images of the source class, patched.
        tests: (T, C, H, W) uint8 test images of the source class, patched.
        untriggered: (T, C, H, W) uint8, the same test images without the patch.
    """

    source_class: int
    target_class: int
    base_indices: Tensor
    sources: Tensor
    tests: Tensor
    untriggered: Tensor


def craft(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, *, seed: int, progress: bool = False
) -> PoisonSet:
    """Craft poisons for the pair of classes that ``seed`` draws.

    Args:
        dataset: clean data.
        attacker: surrogates, how they were trained, and ``fresh`` if they are retrained.
        settings: trigger, budget, bound, steps, retraining.
        seed: of the classes, the trigger's places, the random start, the augmentation and the retrained weights.
        progress: show a progress bar.

    Returns:
        The poisons; targets are the patched test images of the source class. ``diagnostics["matching_loss"]`` is
        (1, steps) float32.

    Raises:
        SettingsError: the budget exceeds the target class, a class does not exist or has no images, or the patch is
            larger than the image.
        PoisonlabError: the matching loss is not finite.
    """
    scene = draw_scene(dataset, attacker, settings, seed)
    bases, labels = dataset.train_images[scene.base_indices], dataset.train_labels[scene.base_indices]
    matchers = [_match(surrogate, scene, attacker, settings) for surrogate in attacker.surrogates]
    friendly = attacker.friendly_on(scene.base_indices)
    crafting = Crafting(attacker, settings, bases, labels, friendly, seed, "sleeper-agent")
    change, losses = crafting.run(matchers, _retraining(dataset, attacker, settings, scene, seed), progress)
    return PoisonSet(
        indices=scene.base_indices,
        images=ship(bases, change, settings.eps, settings.precision),
        labels=labels,
        base_images=bases,
        goal=Goal(
            targets=scene.tests,
            target_labels=torch.full((len(scene.tests),), scene.source_class),
            adversarial_labels=torch.full((len(scene.tests),), scene.target_class),
            untriggered=scene.untriggered,
        ),
        diagnostics={"matching_loss": losses},
        facts={"source_class": scene.source_class, "patch_size": settings.patch.size},
    )


def draw_scene(dataset: ImageDataset, attacker: Attacker, settings: Settings, seed: int) -> Scene:
    """Draw the two classes and the trigger's places, and select the bases.

    Raises:
        SettingsError: see ``craft``.
    """
    source_class, target_class = draw_classes(dataset, settings, seed)
    pattern = _pattern(settings.patch, dataset.image_shape[0])
    train_rows = class_rows(dataset, source_class, attacker.rows)[: settings.sources_train]
    test_rows = torch.nonzero(dataset.test_labels == source_class).flatten()[: settings.sources_test]
    for rows, split in ((train_rows, "training"), (test_rows, "test")):
        if len(rows) == 0:
            raise SettingsError(f"source class {dataset.class_names[source_class]!r} has no {split} image to patch")
    untriggered = dataset.test_images[test_rows]
    return Scene(
        source_class=source_class,
        target_class=target_class,
        base_indices=select_bases(dataset, attacker, settings, target_class, seed),
        sources=patched(dataset.train_images[train_rows], pattern, settings.patch.place, _stream(seed, "train")),
        tests=patched(untriggered, pattern, settings.patch.place, _stream(seed, "test")),
        untriggered=untriggered,
    )


def draw_classes(dataset: ImageDataset, settings: Settings, seed: int) -> tuple[int, int]:
    """Source and target class: as the settings fix them, otherwise drawn uniformly among pairs that differ.

    Raises:
        SettingsError: a class that the settings name does not exist, or both are the same.
    """
    classes = dataset.num_classes
    fixed = {
        name: dataset.class_number(given, name)
        for name in ("source_class", "target_class")
        if (given := getattr(settings, name)) is not None
    }
    if len(fixed) == 2 and len(set(fixed.values())) == 1:
        same = dataset.class_names[fixed["source_class"]]
        raise SettingsError(f"source_class and target_class are both {same!r}: name two different classes")
    rng = np.random.default_rng([seed, 3])
    source, target = (int(label) for label in rng.choice(classes, size=2, replace=False))
    source, target = fixed.get("source_class", source), fixed.get("target_class", target)
    if source == target:
        # Only one class is fixed: redraw the other one among the rest.
        other = int((source + 1 + rng.integers(classes - 1)) % classes)
        source, target = (source, other) if "source_class" in fixed else (other, target)
    return source, target


def select_bases(dataset: ImageDataset, attacker: Attacker, settings: Settings, target_class: int, seed: int) -> Tensor:
    """(P,) int64 sorted training rows of the target class, chosen by the largest gradients (section 3.3) or at random.

    Raises:
        SettingsError: the budget exceeds the candidates.
    """
    pool = class_rows(dataset, target_class, attacker.rows)
    candidates = pool[: settings.candidates]
    count = affordable(dataset, settings.budget, len(attacker.pool(dataset)), target_class, pool)
    if count > len(candidates):
        raise SettingsError(
            f"budget {settings.budget:g} asks for {count} poisons, but there are only {len(candidates)} candidates: "
            "raise candidates or lower the budget"
        )
    if settings.selection == "random":
        chosen = np.random.default_rng([seed, 4]).choice(candidates, size=count, replace=False)
        return torch.from_numpy(np.sort(chosen).astype(np.int64))
    rows = torch.from_numpy(candidates)
    inputs = attacker.normalize(pixels(dataset.train_images[rows].to(attacker.device)))
    labels = dataset.train_labels[rows].to(attacker.device)
    norms = []
    for surrogate in attacker.surrogates:
        with twice_differentiable(surrogate.eval().requires_grad_(True), inputs):
            norms.append(per_sample_gradient_norms(surrogate, inputs, labels, precision=settings.crafting_precision))
    return rows[torch.stack(norms).mean(0).cpu().argsort(descending=True, stable=True)[:count]].sort().values


def _pattern(patch: Patch, channels: int) -> Tensor:
    if patch.image is None:
        return own_pattern(patch.size, channels=channels)
    return read_pattern(Path(patch.image), patch.size, channels=channels)


def _stream(seed: int, split: str) -> torch.Generator:
    """Draws the trigger's places."""
    return generator("cpu", seed, "sleeper-agent", "patch", split)


def _match(surrogate: Classifier, scene: Scene, attacker: Attacker, settings: Settings) -> Matcher:
    """The surrogate with the mean gradient of the patched sources, labelled with the target class."""
    return match(surrogate, attacker.normalize(pixels(scene.sources.to(attacker.device))), scene.target_class, settings)


def _retraining(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, scene: Scene, seed: int
) -> Refresh | None:
    """Retrains the surrogates from scratch on the current poisons every ``retrain_every`` steps, except before the
    last step; None if ``retrain_every`` is 0."""
    every = settings.retrain_every
    if not every:
        return None
    defenses = _expected(attacker, settings)
    recipe = _recipe(attacker.recipe, settings)

    def refresh(step: int, change: Tensor) -> list[Matcher] | None:
        if step % every or step == settings.steps - 1:
            return None
        data = _poisoned(dataset, attacker, scene.base_indices, change)
        return [
            _match(_retrained(attacker, data, recipe, defenses, seed, step, member), scene, attacker, settings)
            for member in range(len(attacker.surrogates))
        ]

    return refresh


def _retrained(
    attacker: Attacker,
    data: TrainingSet,
    recipe: Recipe,
    defenses: Sequence[Defense],
    seed: int,
    step: int,
    member: int,
) -> Classifier:
    stream = stream_seed(seed, "sleeper-agent", "retrain", step, member)
    network = attacker.network(stream)
    checkpoint = None if attacker.checkpoint is None else attacker.checkpoint.part(f"{step}-{member}")
    train(
        network,
        attacker.normalize,
        data,
        recipe,
        seed=stream,
        defenses=defenses,
        checkpoint=checkpoint,
        capture=attacker.capture,
    )
    return network


def _poisoned(dataset: ImageDataset, attacker: Attacker, bases: Tensor, change: Tensor) -> TrainingSet:
    """The victim's training set with the current poisons, unrounded."""
    clean = training_set(dataset, rows=attacker.rows)
    images = pixels(clean.images)
    places = bases if attacker.rows is None else torch.searchsorted(attacker.rows, bases)
    images[places] = (images[places] + change / 255).clamp(0, 1)
    return TrainingSet(images, clean.labels, clean.rows)


def _expected(attacker: Attacker, settings: Settings) -> list[Defense]:
    """The defenses with which an adaptive attacker trains surrogates."""
    defenses: list[Defense] = []
    if attacker.friendly_noise is not None:
        defenses.append(FriendlyNoise(attacker.friendly_noise.to(attacker.device)))
    if settings.adaptation is not None and settings.adaptation.random_noise is not None:
        defenses.append(RandomNoise(settings.adaptation.random_noise))
    return defenses


def _recipe(recipe: Recipe, settings: Settings) -> Recipe:
    """The surrogate's recipe with ``retrain_epochs`` epochs; milestones and warm-up keep their share of the epochs."""
    epochs = settings.retrain_epochs
    if epochs is None or epochs == recipe.epochs:
        return recipe
    shares = {
        "milestones": None
        if recipe.milestones is None
        else tuple(sorted({max(1, place * epochs // recipe.epochs) for place in recipe.milestones} - {epochs})),
        "warmup_epochs": recipe.warmup_epochs * epochs / recipe.epochs,
    }
    return Recipe.model_validate({**recipe.model_dump(), "epochs": epochs, **shares})
