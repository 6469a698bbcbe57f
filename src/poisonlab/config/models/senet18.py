"""Settings of SENet-18."""

from __future__ import annotations

from typing import ClassVar, Literal

from poisonlab.config.models.model import Dropout, Model


class SENet18(Model):
    """SENet-18 with the CIFAR stem."""

    name: Literal["senet18"] = "senet18"
    batch_normed: ClassVar[bool] = True
    dropout: Dropout = 0.0
    """Dropped share of the values between the two convolutions of each block (convex polytope's substitutes)."""
