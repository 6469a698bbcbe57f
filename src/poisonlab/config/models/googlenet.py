"""Settings of GoogLeNet."""

from __future__ import annotations

from typing import ClassVar, Literal

from poisonlab.config.models.model import Dropout, Model


class GoogLeNet(Model):
    """GoogLeNet with batch norm, for small images."""

    name: Literal["googlenet"] = "googlenet"
    batch_normed: ClassVar[bool] = True
    dropout: Dropout = 0.0
    """Dropped share of the values of each inception block's output (convex polytope's substitutes)."""
