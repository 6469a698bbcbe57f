"""AdamW (Loshchilov & Hutter 2019): Adam with weight decay apart from the gradient."""

from __future__ import annotations

from torch import nn

from poisonlab.config.recipe import Recipe
from poisonlab.training.adam import Adam
from poisonlab.training.optimizer import groups_of


def optimizer_of(model: nn.Module, recipe: Recipe) -> Adam:
    """The recipe's AdamW over the trainable parameters; the rate is set before each step."""
    return Adam(recipe, groups_of(model, recipe), decoupled=True)
