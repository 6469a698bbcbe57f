"""Settings of ResNet-50."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.models.model import Dropout, Model, Norm


class ResNet50(Model):
    """ResNet-50 with the CIFAR stem."""

    name: Literal["resnet50"] = "resnet50"
    dropout: Dropout = 0.0
    """Dropped share of the channels' values before the last convolution of each block (convex polytope's
    substitutes)."""
    norm: Norm = "batch"
    """Normalisation layers: batch norm, or group norm, which keeps the examples of a batch apart (for dp-sgd)."""
