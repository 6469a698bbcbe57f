"""Feature collision by forward-backward splitting, as the authors of Poison Frogs and the deep k-NN paper ran it.

For every base b, starting from the watermarked base w = gamma t + (1 - gamma) b (Shafahi et al. 2018, algorithm 1):

    forward    y = x - Adam's step of rate r on ||phi(x) - phi(t)||        (not squared)
    backward   x' = (y + r beta w) / (1 + r beta)

If x' is not nearer to the target than x, x stays and its rate r is multiplied by ``decay``; Adam's moments are updated
all the same. A poison stops when ||x' - x|| < ``tolerance`` ||x'||. Pixels are cut to valid values only on shipping.
The papers square the distances; the authors' code does not. Its pixel scale is unclear: here it is [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker, recognised
from poisonlab.attacks.features import Distance, feature_distance, features_of, frozen
from poisonlab.attacks.shipping import ship
from poisonlab.attacks.threat import (
    Threat,
    affordable,
    choose_threat,
    class_rows,
    draw_classes,
    draw_target,
    poison_count,
)
from poisonlab.config.attacks.feature_collision import FeatureCollision as Settings
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import pixels
from poisonlab.errors import PoisonlabError, SettingsError
from poisonlab.models.chunks import memory_for

_BETAS, _TINY = (0.9, 0.999), 1e-8


def unsquared(goal: Tensor) -> Distance:
    """Mean over the poisons of the Euclidean distance of their features (P, D) to ``goal`` (D,)."""
    return lambda features: torch.linalg.vector_norm(features - goal, dim=1).mean()


def craft(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, *, seed: int, progress: bool = False
) -> PoisonSet:
    """Craft poisons for the target and bases that ``seed`` draws.

    Args:
        dataset: clean data.
        attacker: surrogates and how they were trained; distances are averaged over the surrogates.
        settings: budget, classes, bases, steps.
        seed: of the draws.
        progress: show a progress bar.

    Returns:
        The poisons, appended (index -1) if their bases are test images. ``diagnostics["feature_loss"]`` is (S,)
        float32, the mean distance before each of the S steps that were taken. ``facts``: ``target_index``, ``steps``
        taken, ``final_distance`` of the images as shipped, and ``largest_change`` in levels before the bound is
        applied.

    Raises:
        SettingsError: the budget exceeds the adversarial class, no test image can be the target, or a class is unknown.
        PoisonlabError: features are not finite.
    """
    threat = _choose(dataset, attacker, settings, seed)
    appended = settings.bases == "test"
    images, labels = (
        (dataset.test_images, dataset.test_labels) if appended else (dataset.train_images, dataset.train_labels)
    )
    bases, target = images[threat.base_indices], dataset.test_images[threat.target_index][None]
    change, losses = _Splitting(attacker, settings, bases, target).run(progress)
    shipped = ship(bases, change.clamp(-settings.eps, settings.eps), settings.eps, settings.precision)
    return PoisonSet(
        indices=torch.full_like(threat.base_indices, -1) if appended else threat.base_indices,
        images=shipped,
        labels=labels[threat.base_indices],
        base_images=bases,
        goal=threat.goal(dataset),
        diagnostics={"feature_loss": losses},
        facts={
            "target_index": threat.target_index,
            "steps": len(losses),
            "final_distance": float(f"{feature_distance(attacker, shipped, target, unsquared):.6g}"),
            "largest_change": float(f"{float(change.abs().max()):.6g}"),
        },
    )


def _choose(dataset: ImageDataset, attacker: Attacker, settings: Settings, seed: int) -> Threat:
    """Target, classes and bases; ``base_indices`` are rows of the split that ``settings.bases`` names."""
    if settings.bases == "train" and settings.target_label is None:
        return choose_threat(dataset, attacker, settings, seed)
    rng = np.random.default_rng([seed, 2])
    true, wanted = draw_classes(dataset, rng, settings.target_label, settings.adversarial_label)
    size = len(attacker.pool(dataset))
    if settings.bases == "train":
        pool = class_rows(dataset, wanted, attacker.rows)
        count = affordable(dataset, settings.budget, size, wanted, pool)
    else:
        pool = np.flatnonzero(dataset.test_labels.numpy() == wanted)
        count = poison_count(settings.budget, size)
        if count > len(pool):
            raise SettingsError(
                f"budget {settings.budget:g} asks for {count} poisons, but class {dataset.class_names[wanted]!r} has "
                f"only {len(pool)} test images as bases: lower the budget, or set bases: train"
            )
    bases = np.sort(rng.choice(pool, size=count, replace=False))
    eligible = recognised(dataset, attacker) if settings.target == "recognised" else None
    index = draw_target(dataset, rng, true, eligible)
    return Threat(index, true, wanted, torch.from_numpy(bases.astype(np.int64)))


@dataclass(frozen=True)
class _Splitting:
    """The optimisation; ``bases`` (P, C, H, W) and ``target`` (1, C, H, W) are uint8."""

    attacker: Attacker
    settings: Settings
    bases: Tensor
    target: Tensor

    def run(self, progress: bool) -> tuple[Tensor, Tensor]:
        """The change (P, C, H, W) in levels of 1/255 and the mean distances (S,) before each step, on the CPU."""
        settings, device = self.settings, self.attacker.device
        bases, target = pixels(self.bases.to(device)), pixels(self.target.to(device))
        origin = bases + settings.watermark * (target - bases)
        checkpoint = self.attacker.checkpoint
        with frozen(self.attacker.surrogates):
            with torch.no_grad():
                inputs = self.attacker.normalize(target)
                goals = [features_of(network, inputs)[0] for network in self.attacker.surrogates]
            saved = None if checkpoint is None else checkpoint.load()
            if saved is None:
                state, losses, begun = self._begin(origin, goals), torch.full((settings.steps,), torch.nan), 0
            else:
                tensors, facts = saved
                losses, begun = tensors.pop("losses"), int(facts["steps"])
                state = {name: tensor.to(device) for name, tensor in tensors.items()}
            done = begun
            for number in tqdm(
                range(begun, settings.steps), initial=begun, total=settings.steps, unit="step", disable=not progress
            ):
                if not bool(state["moving"].any()):
                    break
                losses[number] = state["distances"].mean()
                self._step(state, origin, goals, number + 1)
                done = number + 1
                if checkpoint is not None and checkpoint.due():
                    checkpoint.save({**state, "losses": losses}, {"steps": done})
        return ((state["poisons"] - bases) * 255).cpu(), losses[:done].clone()

    def _begin(self, origin: Tensor, goals: Sequence[Tensor]) -> dict[str, Tensor]:
        distances, gradients = self._measure(origin, goals)
        return {
            "poisons": origin.clone(),
            "distances": distances,
            "gradients": gradients,
            "first": torch.zeros_like(origin),
            "second": torch.zeros_like(origin),
            "rates": torch.full_like(distances, self.settings.lr),
            "moving": torch.ones(len(origin), dtype=torch.bool, device=origin.device),
        }

    def _step(self, state: dict[str, Tensor], origin: Tensor, goals: Sequence[Tensor], number: int) -> None:
        """Take step ``number``, counted from 1, of the poisons that still move."""
        rows = state["moving"].nonzero()[:, 0]
        before, gradients = state["poisons"][rows], state["gradients"][rows]
        rates = state["rates"][rows][:, None, None, None]
        first = torch.lerp(state["first"][rows], gradients, 1 - _BETAS[0])
        second = torch.lerp(state["second"][rows], gradients.square(), 1 - _BETAS[1])
        scale = (second / (1 - _BETAS[1] ** number)).sqrt() + _TINY
        after = before - rates * (first / (1 - _BETAS[0] ** number)) / scale
        pull = rates * self.settings.beta
        after = (after + pull * origin[rows]) / (1 + pull)
        distances, gradients = self._measure(after, goals)
        nearer = distances < state["distances"][rows]
        taken = rows[nearer]
        state["poisons"][taken], state["gradients"][taken] = after[nearer], gradients[nearer]
        state["distances"][taken] = distances[nearer]
        state["first"][rows], state["second"][rows] = first, second
        state["rates"][rows[~nearer]] *= self.settings.decay
        moved = (after - before).flatten(1).norm(dim=1)
        state["moving"][rows] = moved >= self.settings.tolerance * after.flatten(1).norm(dim=1)

    def _measure(self, images: Tensor, goals: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean distance (P,) over the surrogates of each image (P, C, H, W), and its gradient."""
        images = images.detach().requires_grad_(True)
        with memory_for(f"features of all {len(images)} poisons at once", "lower the attack's budget"):
            inputs, total = self.attacker.normalize(images), torch.zeros(len(images), device=images.device)
            for network, goal in zip(self.attacker.surrogates, goals, strict=True):
                total = total + torch.linalg.vector_norm(features_of(network, inputs)[0] - goal, dim=1)
            total = total / len(goals)
            (gradients,) = torch.autograd.grad(total.sum(), images)
        if not bool(torch.isfinite(total).all() & torch.isfinite(gradients).all()):
            raise PoisonlabError("the feature distance is not finite: has a surrogate's training diverged?")
        return total.detach(), gradients
