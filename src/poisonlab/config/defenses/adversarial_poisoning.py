"""Settings of adversarial poisoning: training on poisons that are made for each batch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.types import PositiveFloat, PositiveInt, Settings, WholeLevel


class AdversarialPoisoning(Settings):
    """Poison a part of each batch by gradient matching and train on it with its true labels (Geiping et al. 2021)."""

    method: Literal["adversarial-poisoning"] = "adversarial-poisoning"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Part of the batch that is poisoned; the rest are its targets. FRIENDS: AP-0.25, AP-0.5, AP-0.75."""
    eps: WholeLevel = 16.0
    """Bound on every pixel's change, in levels of 1/255."""
    steps: PositiveInt = 5
    """Steps of signed Adam on the perturbation."""
    lr: PositiveFloat = 0.1
    """Its learning rate, in standard deviations of the channel (normalised pixels)."""
