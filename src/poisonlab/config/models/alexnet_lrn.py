"""Settings of the modified AlexNet."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.models.model import Model


class AlexNetLrn(Model):
    """AlexNet with local response normalisation (Poison Frogs, deep k-NN)."""

    name: Literal["alexnet-lrn"] = "alexnet-lrn"


SETTINGS = AlexNetLrn
