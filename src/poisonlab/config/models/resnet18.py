"""Settings of ResNet-18."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.models.model import Dropout, Model, Norm


class ResNet18(Model):
    """ResNet-18 with the CIFAR stem."""

    name: Literal["resnet18"] = "resnet18"
    dropout: Dropout = 0.0
    """Dropped share of the channels' values between the two convolutions of each block (convex polytope's
    substitutes)."""
    norm: Norm = "batch"
    """Normalisation layers: batch norm, or group norm, which keeps the examples of a batch apart (for dp-sgd)."""
