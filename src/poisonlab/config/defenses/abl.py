"""Settings of anti-backdoor learning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.types import NonNegativeFloat, PositiveFloat, PositiveInt, Settings


class Abl(Settings):
    """Isolate the examples that are learned first, train on the others, then unlearn the isolated ones.

    The three phases replace the recipe's epochs: 85 by default, as in FRIENDS' table 2.
    """

    method: Literal["abl"] = "abl"
    isolation_epochs: PositiveInt = 20
    """Epochs at the recipe's highest rate, after its warm-up, with losses kept from falling below ``gamma``."""
    fine_tune_epochs: PositiveInt = 60
    """Epochs on the examples that were not isolated, with the recipe's schedule stretched over them."""
    unlearn_epochs: Annotated[int, Field(ge=0)] = 5
    """Epochs of gradient ascent on the isolated examples."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Share of the examples that is isolated: those with the lowest loss."""
    gamma: NonNegativeFloat = 0.5
    """Loss below which the isolation phase reverses the gradient; 0 trains as usual."""
    isolation_loss: Literal["flooding", "lga"] = "flooding"
    """``flooding``: |L - gamma| + gamma of the batch's mean loss L (released); ``lga``: the mean of
    sign(l - gamma) l over the examples' losses l (the paper's local gradient ascent)."""
    unlearn_lr: PositiveFloat = 5e-4
    """Learning rate of the ascent."""
