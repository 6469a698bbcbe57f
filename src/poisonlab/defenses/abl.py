"""Anti-backdoor learning (ABL): backdoored examples are learned first and so can be recognised.

Li et al. 2021, "Anti-Backdoor Learning: Training Clean Models on Poisoned Data", section 3, in the order of its
released code, which fine-tunes between the paper's two stages. One training has three phases:

    isolation    all examples; the loss gradient changes sign at gamma, so that only very easy examples fall below. At
                 its end the share with the lowest losses (eval mode, no augmentation, float32) is isolated.
    fine-tuning  the other examples; cross-entropy, the recipe's schedule without its warm-up
    unlearning   the isolated examples; gradient ascent on the cross-entropy

Isolation loss: with batch-mean loss L, the release's |L - gamma| + gamma (flooding) and its sign(L - gamma) L have the
same gradient. ``lga`` takes the sign for each example, following the paper's expectation over examples. It pushes back
the examples learned first before all others, so a long isolation can hide them.

Unlike in the release, one recipe serves all phases: augmentation, weight decay and batch size do not change, and the
momentum is kept (the release makes a new optimiser for fine-tuning). A momentum b left at the start of unlearning moves
the weights by unlearn_lr * b * m / (1 - m) in total: for m = 0.9, as much as 9 fine-tuning steps at unlearn_lr. At the
defaults this equals 45 of the last fine-tuning steps (rate 1e-4), or a ninth of an epoch of CIFAR-10.

The epoch determines the phase, and the remaining examples determine which ones are isolated. If another defense dropped
examples during fine-tuning, ABL would count them as isolated: ABL cannot be combined with such a defense.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from poisonlab.config.defenses.abl import Abl as Settings
from poisonlab.config.recipe import Recipe, step_milestones
from poisonlab.data.training_set import TrainingSet
from poisonlab.errors import SettingsError
from poisonlab.filters.per_class import share
from poisonlab.models.outputs import outputs_of
from poisonlab.training.defense import Defense, EpochEnd
from poisonlab.training.schedule import learning_rate


@dataclass(frozen=True)
class Abl(Defense):
    """Isolate, fine-tune, unlearn."""

    settings: Settings

    @property
    def fine_tuning_from(self) -> int:
        """The first epoch (0-based) of fine-tuning."""
        return self.settings.isolation_epochs

    @property
    def unlearning_from(self) -> int:
        """The first epoch (0-based) of unlearning."""
        return self.fine_tuning_from + self.settings.fine_tune_epochs

    @property
    def captured(self) -> bool:
        return True

    def phase(self, at: float) -> Literal["isolation", "fine-tuning", "unlearning"]:
        """The phase at ``at`` epochs since the start of the training."""
        if at < self.fine_tuning_from:
            return "isolation"
        return "fine-tuning" if at < self.unlearning_from else "unlearning"

    def schedule(self, recipe: Recipe) -> Recipe:
        """The recipe with the epochs of all phases, and with milestones within fine-tuning.

        Given milestones keep their share of the epochs, rounded down, within fine-tuning. Without given ones, the
        released formula is applied to its length. Each milestone is at least one epoch after the previous one; those
        beyond fine-tuning are left out. A warm-up longer than isolation is shortened to it.
        """
        length = self.settings.fine_tune_epochs
        if recipe.milestones is None:
            # As in other short trainings, a drop at epoch 0 would only lower the rate of every epoch.
            wanted = tuple(place for place in step_milestones(length) if place)
        else:
            wanted = tuple(place * length // recipe.epochs for place in recipe.milestones)
        placed: list[int] = []
        for place in wanted:
            placed.append(max(place, placed[-1] + 1) if placed else place)
        within = tuple(self.fine_tuning_from + place for place in placed if place < length)
        changed = {
            "epochs": self.unlearning_from + self.settings.unlearn_epochs,
            "milestones": within if recipe.schedule == "steps" else None,
            "warmup_epochs": min(recipe.warmup_epochs, self.settings.isolation_epochs),
        }
        return Recipe.model_validate(recipe.model_dump(include=set(Recipe.model_fields)) | changed)

    def learning_rate(self, recipe: Recipe, at: float) -> float:
        """The rate at ``at`` epochs; ``recipe`` is the one that ``schedule`` returned."""
        phase = self.phase(at)
        if phase == "unlearning":
            return self.settings.unlearn_lr
        if phase == "isolation":
            return learning_rate(recipe.model_copy(update={"schedule": "steps", "milestones": ()}), at)
        begin = self.fine_tuning_from
        own = {
            "epochs": self.settings.fine_tune_epochs,
            "milestones": tuple(place - begin for place in recipe.milestones or ()),
            "warmup_epochs": 0.0,
        }
        return learning_rate(recipe.model_copy(update=own), at - begin)

    def prepare(self, data: TrainingSet) -> TrainingSet:
        """``data`` unchanged.

        Raises:
            SettingsError: the share to isolate is less than one example.
        """
        if share(self.settings.share, len(data)) == 0:
            raise SettingsError(f"share {self.settings.share:g} of {len(data)} examples isolates none: raise it")
        return data

    def loss(self, logits: Tensor, labels: Tensor, epoch: int) -> Tensor | None:
        """The phase's loss; None, for cross-entropy, while fine-tuning."""
        phase = self.phase(epoch)
        if phase == "fine-tuning":
            return None
        if phase == "unlearning":
            return -F.cross_entropy(logits, labels)
        if self.settings.isolation_loss == "lga":
            losses = F.cross_entropy(logits, labels, reduction="none")
            return (torch.sign(losses - self.settings.gamma) * losses).mean()
        return (F.cross_entropy(logits, labels) - self.settings.gamma).abs() + self.settings.gamma

    def end_epoch(self, end: EpochEnd) -> TrainingSet:
        """The examples of the next epoch's phase. After the last epoch: all that were not isolated, the examples that
        ABL considers clean."""
        if end.epoch + 1 == self.fine_tuning_from:
            return end.data.keep(~self.isolated(end))
        # Unlearning takes the complement of the current examples; at its end the complement is taken again.
        if self.settings.unlearn_epochs > 0 and end.epoch + 1 in (self.unlearning_from, end.recipe.epochs):
            return end.full.keep(~torch.isin(end.full.rows, end.data.rows))
        return end.data

    @torch.no_grad()
    def isolated(self, end: EpochEnd) -> Tensor:
        """(N,) bool: the floor(share * N) examples of ``end.data`` with the lowest losses, the first among equals."""
        logits = outputs_of(end.model, end.normalize, end.data.images)
        losses = F.cross_entropy(logits, end.data.labels, reduction="none")
        lowest = torch.sort(losses, stable=True).indices[: share(self.settings.share, len(losses))]
        return torch.zeros_like(losses, dtype=torch.bool).index_fill_(0, lowest, True)


def build(settings: Settings, noise: Tensor | None = None) -> Abl:
    """The defense that ``settings`` describes."""
    return Abl(settings)
