"""Adversarial training: before each step, every image of the batch is perturbed to raise its own loss.

Madry et al. 2018, with a few steps of signed Adam as in the toolbox of Witches' Brew ("adversarial-evasion" on the
whole batch). FRIENDS' table 1 takes this defense from Geiping et al. 2021. With x_i the normalised, augmented images
and y_i their labels, in eval mode and in float32:

    maximise over |delta| <= eps   mean CE(x_i + delta_i, y_i)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from poisonlab.config.defenses.adversarial_training import AdversarialTraining as Settings
from poisonlab.defenses.signed_adam import perturb, uncompiled
from poisonlab.models.evaluating import evaluating
from poisonlab.training.defense import Batch, Defense


@dataclass(frozen=True)
class AdversarialTraining(Defense):
    """Perturb the whole batch against its true labels."""

    settings: Settings

    def change_inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        model = uncompiled(batch.model)
        with evaluating(model):

            def objective(inputs: Tensor) -> Tensor:
                return -F.cross_entropy(model(inputs), batch.labels)

            perturbed = perturb(batch.images, batch.normalize, objective, self.settings, batch.generator)
        return perturbed, batch.labels


def build(settings: Settings, noise: Tensor | None = None) -> AdversarialTraining:
    """The defense that ``settings`` describes."""
    return AdversarialTraining(settings)
