"""Settings of early stopping."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.types import NonNegativeFloat, PositiveInt, Settings


class EarlyStopping(Settings):
    """Stop once the images of the validation set are classified no better; needs ``dataset.validation``."""

    method: Literal["early-stopping"] = "early-stopping"
    monitor: Literal["validation-accuracy", "validation-loss"] = "validation-accuracy"
    """The monitored number: accuracy, which should rise, or cross-entropy, which should fall."""
    patience: PositiveInt = 10
    """Stop after so many epochs in a row without a better one."""
    min_change: NonNegativeFloat = 0.0
    """An epoch is better than the best so far only if the number changes by more than this."""
    min_epochs: Annotated[int, Field(ge=0)] = 0
    """Train for at least so many epochs."""
    keep: Literal["best", "last"] = "best"
    """The weights that the training ends with: those after the best epoch, or after the last."""
