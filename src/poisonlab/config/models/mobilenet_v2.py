"""Settings of MobileNetV2."""

from __future__ import annotations

from typing import ClassVar, Literal

from poisonlab.config.models.model import Dropout, Model


class MobileNetV2(Model):
    """MobileNetV2 with ReLU and a stride-1 stem."""

    name: Literal["mobilenet-v2"] = "mobilenet-v2"
    batch_normed: ClassVar[bool] = True
    dropout: Dropout = 0.0
    """Dropped share of the values before the projection of each block (convex polytope's substitutes)."""
