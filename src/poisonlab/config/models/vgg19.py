"""Settings of VGG-19."""

from __future__ import annotations

from typing import ClassVar, Literal

from poisonlab.config.models.model import Model


class VGG19(Model):
    """VGG-19 with batch norm and one linear layer."""

    name: Literal["vgg19"] = "vgg19"
    batch_normed: ClassVar[bool] = True
