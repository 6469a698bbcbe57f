"""Settings of AlexNet."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.models.model import Model


class AlexNet(Model):
    """AlexNet resized for 32 x 32 images, no batch norm."""

    name: Literal["alexnet"] = "alexnet"
