"""Adversarial training: every image is perturbed to raise its own loss before the step is taken on it.

Madry et al. 2018, with the few steps of signed Adam of the toolbox of Witches' Brew ("adversarial-evasion" on the whole
batch), which FRIENDS' table 1 has from Geiping et al. 2021:

    maximise over |delta| <= eps   mean CE(x_i + delta_i, y_i)

for the normalised, augmented images x_i and their labels y_i, in eval mode and in float32.
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
