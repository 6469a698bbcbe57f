"""Settings of LeNet-5."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.models.model import Model


class LeNet(Model):
    """LeNet-5 with ReLU, no batch norm."""

    name: Literal["lenet"] = "lenet"
