"""Settings of DenseNet-121."""

from __future__ import annotations

from typing import ClassVar, Literal

from poisonlab.config.models.model import Model


class DenseNet121(Model):
    """DenseNet-121 with the CIFAR stem."""

    name: Literal["densenet121"] = "densenet121"
    batch_normed: ClassVar[bool] = True
