"""Settings of ResNeXt-29 2x64d."""

from __future__ import annotations

from typing import ClassVar, Literal

from poisonlab.config.models.model import Dropout, Model


class ResNeXt29(Model):
    """ResNeXt-29 2x64d with a 1x1 stem."""

    name: Literal["resnext29"] = "resnext29"
    batch_normed: ClassVar[bool] = True
    dropout: Dropout = 0.0
    """Dropped share of the values before the last convolution of each block (convex polytope's substitutes)."""
