"""The attacker's knowledge and means: surrogates, normalisation, recipe, training rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.models.outputs import outputs_of
from poisonlab.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Attacker:
    """The attacker's knowledge and means.

    Attributes:
        surrogates: trained networks (normalised images to logits), on the device to compute on; empty for an attack
            that trains its own surrogates.
        normalize: the dataset's normalisation, on the same device.
        recipe: how the first surrogate is trained; its augmentation is also applied to poisons while crafting.
        fresh: builds a network of the (first) surrogate's architecture, with weights drawn from a seed; needed by
            attacks that train surrogates.
        rows: (F,) int64 sorted rows of the training split that the victim is trained on and bases are drawn from; all
            if None.
        friendly_noise: (N, C, H, W) float, in units of the [0, 1] pixel range: noise of an earlier run, for an
            adaptive attack.
        checkpoint: where a long crafting saves its state and resumes from.
        capture: as in ``train``, for surrogates that are trained while crafting.
    """

    surrogates: Sequence[Classifier]
    normalize: Normalize
    recipe: Recipe
    fresh: Callable[[int], Classifier] | None = None
    rows: Tensor | None = None
    friendly_noise: Tensor | None = None
    checkpoint: Checkpoint | None = None
    capture: bool = False

    @property
    def device(self) -> torch.device:
        return self.normalize.mean.device

    @property
    def augmentation(self) -> Augmentation:
        return self.recipe.augmentation

    def network(self, seed: int) -> Classifier:
        """A new surrogate with weights drawn from ``seed``.

        Raises:
            SettingsError: the attacker has no means to build one.
        """
        if self.fresh is None:
            raise SettingsError("this attack trains surrogates of its own: give the attacker `fresh`")
        return self.fresh(seed)

    def pool(self, dataset: ImageDataset) -> Tensor:
        """(F,) int64: the training rows from which bases are drawn."""
        return torch.arange(len(dataset.train_labels)) if self.rows is None else self.rows

    def friendly_on(self, bases: Tensor) -> Tensor | None:
        """The earlier run's friendly noise on the training rows ``bases`` (P,): (P, C, H, W) float32, or None."""
        if self.friendly_noise is None:
            return None
        # Row i of the noise belongs to image i of the victim's training set.
        places = bases if self.rows is None else torch.searchsorted(self.rows, bases)
        return self.friendly_noise[places].float()


def recognised(dataset: ImageDataset, attacker: Attacker) -> Tensor:
    """(M,) bool: the test images that every surrogate classifies correctly."""
    correct = torch.ones(len(dataset.test_labels), dtype=torch.bool)
    for network in attacker.surrogates:
        predicted = outputs_of(network, attacker.normalize, dataset.test_images).argmax(1).cpu()
        correct &= predicted == dataset.test_labels
    return correct
