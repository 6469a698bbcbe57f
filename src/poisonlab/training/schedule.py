"""Learning rates in closed form, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from poisonlab.config.recipe import Recipe, step_milestones


def crafting_rate(rate: float, step: int, steps: int) -> float:
    """An attack's rate at a step: each of ``step_milestones`` divides it by ten."""
    return rate * 0.1 ** sum(step >= milestone for milestone in step_milestones(steps))


def learning_rate(recipe: Recipe, progress: float) -> float:
    """The rate at ``progress`` epochs (0 at the start, fractional within an epoch)."""
    factor = 1.0
    if recipe.schedule == "steps":
        factor = recipe.gamma ** sum(progress >= milestone for milestone in recipe.drops)
    else:
        remaining = max(0.0, 1 - progress / recipe.epochs)
        factor = remaining if recipe.schedule == "linear" else (1 - math.cos(math.pi * remaining)) / 2
    if progress < recipe.warmup_epochs:
        factor *= progress / recipe.warmup_epochs
    return recipe.lr * factor
