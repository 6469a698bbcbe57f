"""Early stopping: end the training once the classification of held-out images no longer improves.

A network that poisons spoil in the end may still have learned useful features in its first epochs. Sandoval-Segura et
al. (2022, section 4) therefore ask which poisons withstand a victim that stops at its best epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from poisonlab.config.defenses.early_stopping import EarlyStopping as Settings
from poisonlab.config.recipe import Recipe
from poisonlab.training.defense import Defense, EpochRecord


@dataclass(frozen=True)
class EarlyStopping(Defense):
    """Stop the training, and go back to the best weights if the settings ask for them."""

    settings: Settings

    @property
    def needs_validation(self) -> bool:
        return True

    def best_so_far(self, history: Sequence[EpochRecord]) -> int:
        """The 0-based epoch that did best in ``history``, the first among equals."""
        numbers = self._monitored(history)
        best = 0
        for epoch, number in enumerate(numbers):
            if number > numbers[best] + self.settings.min_change:
                best = epoch
        return best

    def stops(self, history: Sequence[EpochRecord]) -> bool:
        """Whether ``patience`` epochs have passed since the best one, and at least ``min_epochs`` in total."""
        waited = len(history) - 1 - self.best_so_far(history)
        return len(history) >= self.settings.min_epochs and waited >= self.settings.patience

    def best_epoch(self, history: Sequence[EpochRecord]) -> int | None:
        return self.best_so_far(history) if self.settings.keep == "best" else None

    def report(self, recipe: Recipe, examples: int, history: Sequence[EpochRecord]) -> dict[str, float]:
        """``stopped_epoch``: number of trained epochs; ``best_epoch``: the best epoch, counted from 1."""
        return {"stopped_epoch": len(history), "best_epoch": self.best_so_far(history) + 1}

    def _monitored(self, history: Sequence[EpochRecord]) -> list[float]:
        """The monitored number of every epoch, so that higher is better."""
        if self.settings.monitor == "validation-loss":
            return [-record["validation_loss"] for record in history]
        return [record["validation_accuracy"] for record in history]


def build(settings: Settings, noise: Tensor | None = None) -> EarlyStopping:
    """The defense that ``settings`` describes."""
    return EarlyStopping(settings)
