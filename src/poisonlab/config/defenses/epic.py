"""Settings of EPIC."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from poisonlab.config.recipe import Recipe
from poisonlab.config.types import PositiveInt, Settings


class Epic(Settings):
    """Repeatedly drop examples that are isolated in gradient space during the training.

    The defaults are EPIC-0.1 of FRIENDS' table 1; EPIC-0.2 has ``fraction`` 0.2.
    """

    method: Literal["epic"] = "epic"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Medoids per example; each class has its share of them."""
    interval: PositiveInt = 1
    """Select before every epoch (0-based) that is a multiple of this."""
    drop_after: PositiveInt = 5
    """Epochs of training before the first possible selection."""
    stop_after: PositiveInt | None = None
    """Do not select before this epoch or later ones; None: no such limit. The release has 200, and 10 for transfer."""
    until_last_milestone: bool = True
    """Do not select after the epoch of the recipe's last milestone; without milestones there is no such limit."""
    alone: PositiveInt = 1
    """Size up to which a cluster counts as isolated: all its members are dropped, medoids included."""
    bias: bool = False
    """Count the last layer's bias in the logits. The release does for backdoors only."""
    pool: Literal["full", "remaining"] = "full"
    """Examples among which medoids are found: all, dropped ones included (released), or only the remaining ones."""

    @model_validator(mode="after")
    def _check_window(self) -> Epic:
        if self.stop_after is not None and self.stop_after <= self.drop_after:
            raise ValueError(
                f"stop_after ({self.stop_after}) leaves no epoch from drop_after ({self.drop_after}) on: raise it"
            )
        return self

    def selections(self, recipe: Recipe) -> range:
        """The epochs (0-based) that begin with a selection."""
        limits = [recipe.epochs - 1]
        if self.until_last_milestone and recipe.schedule == "steps":
            limits.extend(recipe.drops[-1:])
        if self.stop_after is not None:
            limits.append(self.stop_after - 1)
        return range(math.ceil(self.drop_after / self.interval) * self.interval, min(limits) + 1, self.interval)
