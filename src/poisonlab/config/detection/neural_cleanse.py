"""Settings of Neural Cleanse."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.detection.detector import Detector
from poisonlab.config.types import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt


class NeuralCleanse(Detector):
    """Reverse a trigger for every class, flag classes where it is unusually small, unlearn it (Wang et al. 2019)."""

    method: Literal["neural-cleanse"] = "neural-cleanse"
    epochs: PositiveInt = 80
    """Most passes over the clean images in the search for a class's trigger."""
    batch_size: PositiveInt = 128
    """Images per step, of the search and the repair."""
    lr: PositiveFloat = 0.1
    """Adam's learning rate in the search."""
    success: Fraction = 0.98
    """Share of the images that must reach the class for a trigger to count."""
    initial_cost: PositiveFloat = 1e-3
    """Weight of the mask's size at the beginning; it doubles after five good epochs and falls after five bad ones."""
    limit: PositiveFloat = 2.0
    """Outlier index (median absolute deviations below the median) above which a class is flagged."""
    repair_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the clean images that are stamped with the reversed triggers for the repair, under their true labels."""
    repair_epochs: PositiveInt = 1
    """Passes of the repair over the clean images."""
    repair_lr: PositiveFloat = 0.01
    """Constant learning rate of the repair."""
    repair_momentum: NonNegativeFloat = 0.0
    """Momentum of the repair."""
