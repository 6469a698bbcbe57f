"""Settings of early stopping."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from poisonlab.config.measures import Measure
from poisonlab.config.types import NonNegativeFloat, PositiveInt, Settings

STOPPED_EPOCH = Measure(name="stopped_epoch", label="Epochs trained", kind="value", better="lower", unit="epochs")
"""Epochs that a training took until it was stopped, or all of them."""
BEST_EPOCH = Measure(name="best_epoch", label="Best epoch", kind="value", better="lower", unit="epochs")
"""The epoch, counted from 1, that did best on the validation set."""


class EarlyStopping(Settings):
    """Stop once the images of the validation set are classified no better; needs ``dataset.validation``."""

    measures: ClassVar[tuple[Measure, ...]] = (STOPPED_EPOCH, BEST_EPOCH)
    """Reported beside the attack's own measures."""

    method: Literal["early-stopping"] = "early-stopping"
    monitor: Literal["validation-accuracy", "validation-loss"] = "validation-accuracy"
    """The number that is to get better: accuracy higher or cross-entropy lower."""
    patience: PositiveInt = 10
    """Stop after so many epochs in a row without a better one."""
    min_change: NonNegativeFloat = 0.0
    """An epoch is better than the best so far only if the number changes by more than this."""
    min_epochs: Annotated[int, Field(ge=0)] = 0
    """Train for at least so many epochs."""
    keep: Literal["best", "last"] = "best"
    """The weights that the training ends with: those after the best epoch, or after the last."""
