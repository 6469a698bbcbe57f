"""Settings of MobileNet."""

from __future__ import annotations

from typing import ClassVar, Literal

from poisonlab.config.models.model import Model


class MobileNetV1(Model):
    """MobileNet with a stride-1 stem."""

    name: Literal["mobilenet-v1"] = "mobilenet-v1"
    batch_normed: ClassVar[bool] = True
